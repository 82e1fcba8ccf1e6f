//! The state of a goroutine in one word: where it is, and what it was told.
//!
//! The phase says who owns the goroutine. `Runnable`: the queue that it is in.
//! `Running`: the M that runs it. `Parked`: nobody, until a waker swaps it to
//! `Runnable` and puts it into a queue. `Done`: nobody, for ever.
//!
//! Beside it are three marks. A wake that finds the goroutine elsewhere than
//! parked leaves its mark; an M commits a park only while there is no mark. So
//! a wake between «published where wakers find me» and «parked» is not lost,
//! and a park is committed by the M after the switch, never by the goroutine
//! itself: once `Parked` is in the word, another may run it.

use crate::sync_shim::{AtomicU32, Ordering};

const RUNNABLE: u32 = 0;
const RUNNING: u32 = 1;
const PARKED: u32 = 2;
const DONE: u32 = 3;
const PHASE: u32 = 3;

/// What a goroutine was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u32);

impl Mark {
    /// Somebody unparked it.
    pub(crate) const TOKEN: Mark = Mark(4);
    /// The time that it waits for has come.
    pub(crate) const EXPIRED: Mark = Mark(8);
    /// The runtime shuts down. This one stays.
    pub(crate) const CANCELLED: Mark = Mark(16);
    /// Nothing.
    pub(crate) const NONE: Mark = Mark(0);

    /// What either says.
    pub(crate) fn and(self, other: Mark) -> Mark {
        Mark(self.0 | other.0)
    }

    /// Whether all of `other` is in this.
    pub(crate) fn has(self, other: Mark) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a goroutine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Runnable,
    Running,
    Parked,
    Done,
}

/// The word.
pub(crate) struct State(AtomicU32);

impl State {
    /// Runnable, no marks.
    pub(crate) fn new() -> State {
        State(AtomicU32::new(RUNNABLE))
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) & PHASE {
            RUNNABLE => Phase::Runnable,
            RUNNING => Phase::Running,
            PARKED => Phase::Parked,
            _ => Phase::Done,
        }
    }

    /// Leaves `mark`. True: it was parked, is runnable now, and the caller
    /// must put it into a queue.
    #[must_use]
    pub(crate) fn wake(&self, mark: Mark) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let parked = seen & PHASE == PARKED;
            if seen & PHASE == DONE {
                return false;
            }
            let to = (if parked { RUNNABLE } else { seen }) | mark.0;
            // Also when the mark is there already: what the waker wrote before
            // must be seen by whoever takes the mark.
            match self
                .0
                .compare_exchange_weak(seen, to, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return parked,
                Err(now) => seen = now,
            }
        }
    }

    /// From a queue to an M. Takes the marks, as [`State::take`] does.
    #[must_use]
    pub(crate) fn start(&self) -> Mark {
        let old = self.0.swap(RUNNING, Ordering::AcqRel);
        debug_assert_eq!(old & PHASE, RUNNABLE, "started from a queue");
        let told = Mark(old & !PHASE);
        if told.has(Mark::CANCELLED) {
            self.0.fetch_or(Mark::CANCELLED.0, Ordering::AcqRel);
        }
        told
    }

    /// Takes the marks, but for the cancellation, which stays. Called by the
    /// goroutine while it runs.
    pub(crate) fn take(&self) -> Mark {
        // Mostly there are none, and a look costs less than a change.
        if self.0.load(Ordering::Acquire) & !PHASE == 0 {
            return Mark::NONE;
        }
        let keep = PHASE | Mark::CANCELLED.0;
        Mark(self.0.fetch_and(keep, Ordering::AcqRel) & !PHASE)
    }

    /// Whether there are marks to take.
    pub(crate) fn is_told(&self) -> bool {
        self.0.load(Ordering::Acquire) & !PHASE != 0
    }

    /// Commits a park. False: there is a mark, it runs on.
    #[must_use]
    pub(crate) fn commit_park(&self) -> bool {
        self.0
            .compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// From an M to a queue.
    pub(crate) fn requeue(&self) {
        let old = self.0.fetch_sub(RUNNING - RUNNABLE, Ordering::AcqRel);
        debug_assert_eq!(old & PHASE, RUNNING, "requeued by the one who runs it");
    }

    pub(crate) fn finish(&self) {
        self.0.store(DONE, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn marks_keep_a_goroutine_from_parking() {
        for mark in [Mark::TOKEN, Mark::EXPIRED, Mark::CANCELLED] {
            let state = State::new();
            assert_eq!(state.start(), Mark::NONE);
            assert!(!state.wake(mark), "running: nothing to queue");
            assert!(!state.commit_park());
            assert!(state.take().has(mark));
            assert_eq!(state.commit_park(), mark != Mark::CANCELLED);
        }
    }

    #[test]
    fn a_start_takes_the_marks_but_for_the_cancellation() {
        let state = State::new();
        assert!(state.start() == Mark::NONE && state.commit_park());
        assert!(state.wake(Mark::TOKEN));
        assert!(!state.wake(Mark::CANCELLED));
        let both = Mark::TOKEN.and(Mark::CANCELLED);
        assert_eq!(state.start(), both);
        assert_eq!(state.take(), Mark::CANCELLED);
        assert!(!state.commit_park());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn loom_park_and_ready_queue_it_exactly_once() {
        loom::model(|| {
            let state = Arc::new(State::new());
            assert_eq!(state.start(), Mark::NONE);
            let wakers = [Mark::TOKEN, Mark::EXPIRED].map(|mark| {
                let state = state.clone();
                loom::thread::spawn(move || state.wake(mark))
            });
            let parked = state.commit_park();
            let queued: usize = wakers
                .into_iter()
                .map(|w| usize::from(w.join().unwrap()))
                .sum();
            assert_eq!(queued, usize::from(parked), "queued once if it parked");
            let told = if parked { state.start() } else { Mark::NONE };
            let told = told.and(state.take());
            assert!(told.has(Mark::TOKEN) && told.has(Mark::EXPIRED));
        });
    }
}
