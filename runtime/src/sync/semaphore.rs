//! A weighted semaphore.

use std::fmt;
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::model::{Latch, LatchGuard, Parker, WaitReason, Wake, park};
use crate::waiters::{Settled, Waiters};

/// Room for so much at a time, as `golang.org/x/sync/semaphore`.
///
/// Waiters are served in the order in which they came: one that wants much is
/// not passed by those that want less.
pub struct Semaphore {
    size: usize,
    state: Latch<State>,
}

/// Invariant: the first waiter wants more than is free.
struct State {
    free: usize,
    /// Each with what it wants; taken away when it was given that.
    waiting: Waiters<usize>,
}

impl State {
    fn take(&mut self, weight: usize) -> bool {
        let fits = self.waiting.is_empty() && weight <= self.free;
        if fits {
            self.free -= weight;
        }
        fits
    }

    /// Gives what is free to the first waiters, who are to be woken.
    fn serve(&mut self) -> Vec<Parker> {
        let mut woken = Vec::new();
        while let Some(&weight) = self.waiting.first()
            && weight <= self.free
        {
            self.free -= weight;
            woken.extend(self.waiting.pop().map(|(parker, _)| parker));
        }
        woken
    }
}

fn serve(mut state: LatchGuard<'_, State>) {
    let woken = state.serve();
    drop(state);
    woken.into_iter().for_each(Parker::into_unparked);
}

impl Semaphore {
    /// Room for `size`.
    pub fn new(size: usize) -> Semaphore {
        Semaphore {
            size,
            state: Latch::new(State {
                free: size,
                waiting: Waiters::new(),
            }),
        }
    }

    /// Takes `weight`; waits until there is so much room.
    ///
    /// A goroutine whose runtime shuts down meanwhile ends, by unwinding.
    ///
    /// # Panics
    /// When `weight` is more than the semaphore's size: it would wait for ever.
    pub fn acquire(&self, weight: usize) -> Permit<'_> {
        self.acquire_raw(weight, None);
        self.permit(weight)
    }

    /// Takes `weight` if there is room and nobody waits.
    pub fn try_acquire(&self, weight: usize) -> Option<Permit<'_>> {
        self.try_acquire_raw(weight).then(|| self.permit(weight))
    }

    /// Takes `weight`; gives up after `timeout`.
    ///
    /// # Panics
    /// As [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, weight: usize, timeout: Duration) -> Option<Permit<'_>> {
        let deadline = crate::time::now() + timeout;
        self.acquire_raw(weight, Some(deadline))
            .then(|| self.permit(weight))
    }

    /// What is free now.
    pub fn available(&self) -> usize {
        self.state.lock().free
    }

    fn permit(&self, weight: usize) -> Permit<'_> {
        Permit {
            semaphore: self,
            weight,
        }
    }

    pub(crate) fn try_acquire_raw(&self, weight: usize) -> bool {
        self.state.lock().take(weight)
    }

    /// False: the deadline passed.
    pub(crate) fn acquire_raw(&self, weight: usize, deadline: Option<Nanos>) -> bool {
        let size = self.size;
        assert!(
            weight <= size,
            "{weight} of a semaphore of size {size} can never be acquired"
        );
        let ticket = {
            let mut state = self.state.lock();
            if state.take(weight) {
                return true;
            }
            state.waiting.push(Parker::current(), Some(weight))
        };
        loop {
            let woken = park(WaitReason::Semaphore, deadline);
            let mut state = self.state.lock();
            let served = match state.waiting.settle(ticket, woken != Wake::Notified) {
                Settled::Waits => continue,
                Settled::Completed(_) => true,
                Settled::Withdrawn(_) => false,
            };
            if served && woken == Wake::Cancelled {
                state.free += weight;
            }
            // Without this one, those behind it may fit.
            serve(state);
            if woken == Wake::Cancelled {
                crate::spawn::unwind_cancelled();
            }
            return served;
        }
    }

    pub(crate) fn release_raw(&self, weight: usize) {
        let mut state = self.state.lock();
        state.free += weight;
        serve(state);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("size", &self.size)
            .field("available", &self.available())
            .finish()
    }
}

/// Room that was taken. Dropping it gives it back.
#[must_use = "it is given back at once otherwise"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    weight: usize,
}

impl Permit<'_> {
    /// How much.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release_raw(self.weight);
    }
}
