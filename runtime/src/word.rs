//! netpoll's word: one direction of one descriptor.
//!
//! One word is empty, ready, or the pointer of the one waiter, and moves only
//! by compare-and-swap: whoever swaps a waiter out owns it. Nobody looks
//! through the pointer while it is in the word, so a waiter that is gone and
//! another at the same address cannot be confused.

use std::sync::Arc;

use crate::g::G;
use crate::park::{Parker, Task, Thread};
use crate::sync_shim::{AtomicUsize, Ordering};

const EMPTY: usize = 0;
const READY: usize = 1;

/// Empty, ready, or the one waiter.
pub(crate) struct WaitWord(AtomicUsize);

/// What became of [`WaitWord::arm`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// Published: park now.
    Armed,
    /// It was ready already, and that is used up: try again instead.
    Ready,
    /// Somebody else waits in this direction.
    Busy,
}

/// Set in the word of a waiter that is a thread, or a task. All kinds are
/// aligned to eight bytes, so three bits are free.
const THREAD: usize = 2;
const TASK: usize = 4;

const _: () = assert!(
    align_of::<G>() >= 8 && align_of::<Thread>() >= 8 && align_of::<Task>() >= 8,
    "the bits are part of an address"
);

/// A waiter in one word, above [`READY`].
fn into_raw(waiter: Parker) -> usize {
    match waiter {
        Parker::G(g) => Arc::into_raw(g).expose_provenance(),
        Parker::Thread(t) => Arc::into_raw(t).expose_provenance() | THREAD,
        Parker::Task(t) => Arc::into_raw(t).expose_provenance() | TASK,
    }
}

/// Takes a waiter back out of the word.
fn take(raw: usize) -> Parker {
    let address = raw & !(THREAD | TASK);
    // SAFETY: the word holds nothing above READY but what `arm` made with
    // `into_raw` of an Arc of the kind that the bits tell, and each caller has
    // just swapped `raw` out, so its count is taken back once.
    unsafe {
        match raw & (THREAD | TASK) {
            0 => Parker::G(Arc::from_raw(std::ptr::with_exposed_provenance(address))),
            THREAD => Parker::Thread(Arc::from_raw(std::ptr::with_exposed_provenance(address))),
            _ => Parker::Task(Arc::from_raw(std::ptr::with_exposed_provenance(address))),
        }
    }
}

impl WaitWord {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> WaitWord {
        WaitWord(AtomicUsize::new(EMPTY))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> WaitWord {
        WaitWord(AtomicUsize::new(EMPTY))
    }

    /// Where the waiter that is announced lies in memory; for comparing only.
    pub(crate) fn waiter_address(&self) -> Option<usize> {
        let raw = self.0.load(Ordering::Relaxed);
        (raw > READY).then_some(raw & !THREAD)
    }

    fn swap_if(&self, from: usize, to: usize) -> Result<usize, usize> {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Publishes a waiter.
    pub(crate) fn arm(&self, waiter: Parker) -> Arm {
        let raw = into_raw(waiter);
        loop {
            let undone = match self.swap_if(EMPTY, raw) {
                Ok(_) => return Arm::Armed,
                Err(READY) => match self.swap_if(READY, EMPTY) {
                    Ok(_) => Arm::Ready,
                    Err(_) => continue,
                },
                Err(EMPTY) => continue,
                Err(_) => Arm::Busy,
            };
            drop(take(raw));
            return undone;
        }
    }

    /// An edge: takes the waiter, who is to be unparked, or leaves a mark.
    pub(crate) fn notify(&self) -> Option<Parker> {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let to = if seen <= READY { READY } else { EMPTY };
            match self.swap_if(seen, to) {
                Ok(old) if old > READY => return Some(take(old)),
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the waiter out without a mark (deadline, close); None when it was
    /// notified already or nobody waits.
    pub(crate) fn disarm(&self) -> Option<Parker> {
        let mut seen = self.0.load(Ordering::Acquire);
        while seen > READY {
            match self.swap_if(seen, EMPTY) {
                Ok(old) => return Some(take(old)),
                Err(now) => seen = now,
            }
        }
        None
    }
}

impl Drop for WaitWord {
    fn drop(&mut self) {
        drop(self.disarm());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_waiter_and_one_mark() {
        let word = WaitWord::new();
        assert!(word.notify().is_none());
        assert!(word.notify().is_none());
        assert_eq!(word.arm(Parker::current()), Arm::Ready);
        assert_eq!(word.arm(Parker::current()), Arm::Armed);
        assert_eq!(word.arm(Parker::current()), Arm::Busy);
        assert!(word.notify().is_some());
        assert!(word.disarm().is_none());
        assert_eq!(word.arm(Parker::current()), Arm::Armed);
        assert!(word.disarm().is_some());
        assert!(word.disarm().is_none());
        assert_eq!(word.arm(Parker::Task(Arc::default())), Arm::Armed);
        assert!(matches!(word.notify(), Some(Parker::Task(_))));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn loom_word_an_edge_is_never_lost() {
        loom::model(|| {
            let word = Arc::new(WaitWord::new());
            let other = word.clone();
            let edge = loom::thread::spawn(move || other.notify().is_some());
            let armed = word.arm(Parker::current());
            let woken = edge.join().unwrap();
            match armed {
                // The edge came later, and took us.
                Arm::Armed => assert!(woken),
                Arm::Ready => assert!(!woken),
                Arm::Busy => panic!("nobody else waits"),
            }
            assert!(word.disarm().is_none());
        });
    }

    #[test]
    fn loom_word_a_waiter_is_taken_once() {
        loom::model(|| {
            let word = Arc::new(WaitWord::new());
            assert_eq!(word.arm(Parker::current()), Arm::Armed);
            let (a, b) = (word.clone(), word.clone());
            let close = loom::thread::spawn(move || a.disarm().is_some());
            let edge = loom::thread::spawn(move || b.notify().is_some());
            let taken = usize::from(close.join().unwrap()) + usize::from(edge.join().unwrap());
            assert_eq!(taken, 1);
        });
    }
}
