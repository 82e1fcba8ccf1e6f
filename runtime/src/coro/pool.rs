//! Idle fibers, and how their memory returns to the system.
//!
//! A fiber whose goroutine's step ended is kept as it is, warm, for the next.
//! What a second goes by without is given back: a [`Stacks`] remembers the
//! least number of idle fibers since it last looked, and a timer gives so many
//! back, the coldest first, some at a time. The few that each M keeps for
//! itself are not counted.
//!
//! Rejected: giving memory back at once above a fixed number. A load that
//! swings past that number pays a system call and a page fault for each swing.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use wirepath_driver::Nanos;

use super::Fiber;
use super::stack::Arena;
use crate::park::Parker;
use crate::sched::Shared;
use crate::timer::TimerTarget;

/// How long a fiber is idle before it is given back, at least.
const IDLE: Duration = Duration::from_secs(1);

/// Fibers given back at once: about a millisecond of work.
const BATCH: usize = 1024;

/// The time between two batches.
const PAUSE: Duration = Duration::from_millis(10);

/// Stacks of one size, and idle fibers on them.
pub(crate) struct Stacks {
    arena: Arc<Arena>,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    fibers: Vec<Fiber>,
    /// The least that there were since `due` was set.
    least: usize,
    /// Of `least`, those still to be given back.
    surplus: usize,
    /// A timer is set.
    watched: bool,
}

/// An idle fiber was put where none were: [`Warm::watch`] must follow.
#[must_use]
pub(crate) struct Warm(bool);

impl Stacks {
    /// Of stacks of `stack_size` bytes, rounded up to pages.
    pub(crate) fn new(stack_size: usize) -> Arc<Stacks> {
        Arc::new(Stacks {
            arena: Arena::new(stack_size),
            pool: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Arena::claim`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn claim(&self, n: usize, spare: usize) -> io::Result<()> {
        self.arena.claim(n, spare)
    }

    /// Gives back what was claimed.
    pub(crate) fn unclaim(&self, n: usize) {
        self.arena.unclaim(n);
    }

    /// Bytes of one stack.
    pub(crate) fn stack_size(&self) -> usize {
        self.arena.stack_size()
    }

    /// An idle fiber, the one put last, or a new one.
    ///
    /// # Errors
    /// As for [`Arena::slot`].
    pub(crate) fn take(&self) -> io::Result<Fiber> {
        let idle = {
            let mut pool = self.lock();
            let idle = pool.fibers.pop();
            pool.least = pool.least.min(pool.fibers.len());
            idle
        };
        match idle {
            Some(fiber) => Ok(fiber),
            None => self.arena.slot().map(Fiber::new),
        }
    }

    /// Keeps an idle fiber.
    pub(crate) fn put(&self, fiber: Fiber) -> Warm {
        let mut pool = self.lock();
        pool.fibers.push(fiber);
        Warm(!std::mem::replace(&mut pool.watched, true))
    }

    /// Gives back what was not needed, and says after which time to look again.
    fn shrink(&self) -> Option<Duration> {
        let (slots, again) = {
            let mut pool = self.lock();
            let number = pool.give_up();
            let slots: Vec<_> = pool.fibers.drain(..number).map(Fiber::into_slot).collect();
            (slots, pool.next_look())
        };
        // SAFETY: the slots are of idle fibers, which gave them up.
        unsafe { self.arena.give_back(slots) };
        again
    }
}

impl Pool {
    /// How many, from the coldest, go now.
    fn give_up(&mut self) -> usize {
        if self.surplus == 0 {
            self.surplus = self.least;
        }
        self.surplus = self.surplus.min(self.fibers.len());
        let now = self.surplus.min(BATCH);
        self.surplus -= now;
        now
    }

    fn next_look(&mut self) -> Option<Duration> {
        self.least = self.fibers.len();
        if self.fibers.capacity() > 4 * self.least + BATCH {
            self.fibers.shrink_to(2 * self.least);
        }
        self.watched = self.least > 0;
        match (self.watched, self.surplus) {
            (false, _) => None,
            (true, 0) => Some(IDLE),
            (true, _) => Some(PAUSE),
        }
    }
}

impl Warm {
    /// Has `shared` look after the idle fibers of `stacks`.
    pub(crate) fn watch(self, stacks: &Arc<Stacks>, shared: &Shared) {
        // In virtual time the clock would jump for it.
        if self.0 && shared.simulation.is_none() {
            set_timer(stacks, shared, crate::time::now() + IDLE);
        }
    }
}

/// What the timer fires.
struct Shrink {
    stacks: Arc<Stacks>,
    shared: Weak<Shared>,
}

fn set_timer(stacks: &Arc<Stacks>, shared: &Shared, when: Nanos) {
    let target = Shrink {
        stacks: stacks.clone(),
        shared: shared.weak(),
    };
    shared.add_timer(when, 0, Arc::new(target));
}

impl TimerTarget for Shrink {
    fn fire(self: Arc<Self>, now: Nanos, _seq: u64, _woken: &mut Vec<Parker>) {
        let again = self.stacks.shrink();
        if let (Some(after), Some(shared)) = (again, self.shared.upgrade()) {
            shared.add_timer(now + after, 0, self);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::coro::high_water;

    fn touched(stacks: &Stacks) -> Fiber {
        let fiber = stacks.take().unwrap();
        assert!(high_water(fiber.bounds()) > 0, "its first frame is there");
        fiber
    }

    #[test]
    fn the_last_is_used_first_and_the_surplus_goes() {
        let stacks = Stacks::new(1);
        let fibers: Vec<_> = (0..3).map(|_| touched(&stacks)).collect();
        let bounds: Vec<_> = fibers.iter().map(Fiber::bounds).collect();
        let watch: Vec<bool> = fibers.into_iter().map(|f| stacks.put(f).0).collect();
        assert_eq!(watch, [true, false, false]);

        assert_eq!(stacks.shrink(), Some(IDLE), "all were needed a while ago");
        let last = stacks.take().unwrap();
        assert_eq!(last.bounds(), bounds[2]);
        assert!(!stacks.put(last).0);

        assert_eq!(stacks.shrink(), Some(IDLE));
        let resident = || bounds.iter().filter(|b| high_water(**b) > 0).count();
        assert_eq!(resident(), 1, "two were not used between");
        assert_eq!(stacks.shrink(), None);
        assert_eq!(resident(), 0);
        let again = stacks.take().unwrap();
        assert!(bounds.contains(&again.bounds()));
        assert!(stacks.put(again).0, "watched anew");
    }

    #[test]
    fn a_large_surplus_goes_in_batches() {
        let stacks = Stacks::new(1);
        let number = BATCH + BATCH / 2;
        let fibers: Vec<_> = (0..number).map(|_| touched(&stacks)).collect();
        fibers.into_iter().for_each(|f| drop(stacks.put(f)));
        assert_eq!(stacks.shrink(), Some(IDLE));
        assert_eq!(stacks.shrink(), Some(PAUSE));
        assert_eq!(stacks.lock().fibers.len(), BATCH / 2);
        assert_eq!(stacks.shrink(), None);
    }
}
