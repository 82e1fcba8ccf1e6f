//! One word that says which case of a select goes on.
//!
//! A select waits at several channels at once. Whoever comes to one of them
//! with the other half of a case must win the select's word before it touches
//! anything, so exactly one case is completed. The word belongs to the waiter
//! (goroutine or thread), which is in one select at a time and is in no list
//! any more when that is over.
//!
//! # Two selects that meet
//!
//! When a select looks at a channel and finds another select waiting there,
//! two words must be won together: either alone could be won at the same
//! moment by somebody at another channel. Both are taken in the order of their
//! addresses: the first is held for the few instructions that the second needs.
//! Whoever finds a word held spins. A holder takes no lock and waits only for a
//! word of a higher address, so this ends.
//!
//! Go locks all channels of a select at once instead, in address order. This
//! needs one lock at a time, whatever types the channels have.

use crate::model::{AtomicUsize, Ordering, Parker, spin};

/// No case has been taken.
const OPEN: usize = usize::MAX;
/// Somebody is about to take it together with another word, or not.
const HELD: usize = usize::MAX - 1;
/// The select itself ended the wait: no case.
pub(crate) const GAVE_UP: usize = usize::MAX - 2;

/// The word.
pub(crate) struct Claim {
    word: AtomicUsize,
    /// Instead of the address, which the model must not depend on.
    #[cfg(loom)]
    order: usize,
}

/// Who takes a waiter.
#[derive(Clone, Copy)]
pub(crate) enum Me<'a> {
    /// An operation that waits in no other place.
    Plain,
    /// A case of a select whose other cases may be waiting already.
    Case(&'a Claim, usize),
}

/// What became of taking a waiter.
pub(crate) enum Both {
    /// The waiter is taken, and so is the taker's own word.
    Taken,
    /// The waiter was taken elsewhere.
    PeerGone,
    /// The taker was taken elsewhere; the waiter is untouched.
    MeGone,
    /// Both are cases of one select.
    Same,
}

impl Me<'_> {
    /// Takes the own word, for a case that needs nobody else. False: taken
    /// elsewhere.
    #[inline]
    pub(crate) fn win(self) -> bool {
        match self {
            Me::Plain => true,
            Me::Case(claim, case) => claim.win(case),
        }
    }

    #[inline]
    pub(crate) fn take(self, peer: &Parker, case: Option<usize>) -> Both {
        match (self, case) {
            (Me::Plain, None) => Both::Taken,
            (Me::Plain, Some(case)) if peer.claim().win(case) => Both::Taken,
            (Me::Plain, Some(_)) => Both::PeerGone,
            (Me::Case(claim, mine), None) if claim.win(mine) => Both::Taken,
            (Me::Case(..), None) => Both::MeGone,
            (Me::Case(claim, mine), Some(case)) => claim.win_both(mine, peer.claim(), case),
        }
    }
}

impl Default for Claim {
    fn default() -> Claim {
        Claim::new()
    }
}

impl Claim {
    pub(crate) fn new() -> Claim {
        Claim {
            word: AtomicUsize::new(GAVE_UP),
            #[cfg(loom)]
            order: {
                static NEXT: std::sync::atomic::AtomicUsize =
                    std::sync::atomic::AtomicUsize::new(0);
                NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            },
        }
    }

    #[cfg(not(loom))]
    fn order(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[cfg(loom)]
    fn order(&self) -> usize {
        self.order
    }

    /// A select of the owner begins to wait.
    pub(crate) fn open(&self) {
        self.word.store(OPEN, Ordering::Relaxed);
    }

    /// The case that was taken, [`GAVE_UP`] being none.
    pub(crate) fn won(&self) -> Option<usize> {
        let seen = self.word.load(Ordering::Acquire);
        (seen < HELD).then_some(seen)
    }

    fn swap_open(&self, to: usize) -> bool {
        loop {
            let swapped = self
                .word
                .compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire);
            match swapped {
                Ok(_) => return true,
                Err(HELD) => spin(),
                Err(_) => return false,
            }
        }
    }

    /// Takes it for `case`. False: another case was taken, or it gave up.
    pub(crate) fn win(&self, case: usize) -> bool {
        self.swap_open(case)
    }

    fn put(&self, word: usize) {
        self.word.store(word, Ordering::Release);
    }

    #[cold]
    fn win_both(&self, mine: usize, peer: &Claim, case: usize) -> Both {
        let (me, other) = (self.order(), peer.order());
        if me == other {
            return Both::Same;
        }
        if me < other {
            if !self.swap_open(HELD) {
                return Both::MeGone;
            }
            let taken = peer.win(case);
            self.put(if taken { mine } else { OPEN });
            return if taken { Both::Taken } else { Both::PeerGone };
        }
        if !peer.swap_open(HELD) {
            return Both::PeerGone;
        }
        let taken = self.win(mine);
        peer.put(if taken { case } else { OPEN });
        if taken { Both::Taken } else { Both::MeGone }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn open() -> Claim {
        let claim = Claim::new();
        claim.open();
        claim
    }

    #[test]
    fn one_case_is_taken() {
        let claim = Claim::new();
        assert!(!claim.win(0), "nothing waits");
        claim.open();
        assert_eq!(claim.won(), None);
        assert!(claim.win(3));
        assert!(!claim.win(4) && !claim.win(GAVE_UP));
        assert_eq!(claim.won(), Some(3));
    }

    #[test]
    fn two_are_taken_together_or_not_at_all() {
        for swapped in [false, true] {
            let pair = [open(), open()];
            let (a, b) = (&pair[usize::from(swapped)], &pair[usize::from(!swapped)]);
            assert!(matches!(a.win_both(0, a, 1), Both::Same));
            assert!(matches!(a.win_both(1, b, 2), Both::Taken));
            assert_eq!((a.won(), b.won()), (Some(1), Some(2)));
            a.open();
            assert!(matches!(a.win_both(1, b, 5), Both::PeerGone));
            assert_eq!((a.won(), b.won()), (None, Some(2)));
            assert!(matches!(b.win_both(1, a, 5), Both::MeGone));
            assert_eq!(a.won(), None);
        }
    }
}
