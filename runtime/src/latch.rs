//! The lock of the runtime's own short sections: channels, semaphores, the
//! waiters of a mutex.
//!
//! One compare-and-swap takes it and one plain store gives it back, where a
//! `std` mutex needs a locked instruction for both. It is held for some tens
//! of instructions, under it nobody waits, nothing of a user's runs and nothing
//! panics, so whoever finds it taken spins; if the holder was put off the CPU,
//! the spinner gives its time away, and then sleeps for a little. What it does
//! not do is to queue those who wait: a store cannot wake anybody.
//!
//! Rejected: a ticket lock (fair, but a preempted waiter stops all behind it)
//! and `std`'s mutex, which cost a third of a send.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Looks at a taken latch before the time is given away.
const SPINS: u32 = 64;

/// Times that it is given away before the thread sleeps between two looks.
const YIELDS: u32 = 16;

/// How long it sleeps then. That is for holders that the kernel does not run
/// while it runs us, as with real-time priorities.
const NAP: Duration = Duration::from_micros(50);

/// A value for one at a time.
pub(crate) struct Latch<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only (or through `&mut`), there
// is one guard at a time (`held` is swapped from false to true by its maker),
// and giving it back happens before the next taking. So T moves from thread to
// thread, and is never shared.
unsafe impl<T: Send> Sync for Latch<T> {}

/// The right to the value; on the thread that took it.
pub(crate) struct LatchGuard<'a, T> {
    latch: &'a Latch<T>,
    stays: PhantomData<*const ()>,
}

impl<T> Latch<T> {
    pub(crate) const fn new(value: T) -> Latch<T> {
        Latch {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    fn try_hold(&self) -> bool {
        self.held
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) -> LatchGuard<'_, T> {
        if !self.try_hold() {
            self.hold_slowly();
        }
        LatchGuard {
            latch: self,
            stays: PhantomData,
        }
    }

    #[cold]
    fn hold_slowly(&self) {
        let mut looks = 0;
        while self.held.load(Ordering::Relaxed) || !self.try_hold() {
            looks += 1;
            if looks < SPINS {
                std::hint::spin_loop();
            } else if looks < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(NAP);
            }
        }
    }
}

impl<T: Default> Default for Latch<T> {
    fn default() -> Latch<T> {
        Latch::new(T::default())
    }
}

impl<T> Deref for LatchGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this is the one guard, see the argument for Sync.
        unsafe { &*self.latch.value.get() }
    }
}

impl<T> DerefMut for LatchGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this is the one guard, and it is borrowed mutably.
        unsafe { &mut *self.latch.value.get() }
    }
}

impl<T> Drop for LatchGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.latch.held.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        const EACH: usize = 20_000;
        let latch = Latch::new(0_usize);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..EACH {
                        let mut value = latch.lock();
                        let seen = *value;
                        std::hint::black_box(&mut *value);
                        *value = seen + 1;
                    }
                });
            }
        });
        assert_eq!(*latch.lock(), 4 * EACH);
    }

    #[test]
    fn a_holder_off_the_cpu_is_waited_for() {
        let latch = Latch::new(false);
        std::thread::scope(|s| {
            let mut held = latch.lock();
            let waiter = s.spawn(|| *latch.lock());
            std::thread::sleep(Duration::from_millis(5));
            *held = true;
            drop(held);
            assert!(waiter.join().unwrap());
        });
    }
}
