//! What channels, wait groups and netpoll's timers are built from: the real
//! thing, or under `--cfg loom` its model, so that loom can go through every
//! interleaving of them.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    };

    pub(crate) use crate::latch::{Latch, LatchGuard};
    pub(crate) use crate::park::{Parker, WaitReason, Wake, park};

    /// Somebody else is about to do something that takes a few instructions.
    pub(crate) fn spin() {
        std::hint::spin_loop();
    }
}
#[cfg(not(loom))]
pub(crate) use real::*;

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    };
    use wirepath_driver::Nanos;

    use crate::claim::Claim;

    pub(crate) use crate::park::{WaitReason, Wake};

    #[derive(Default)]
    struct Token {
        set: Mutex<bool>,
        woken: loom::sync::Condvar,
        claim: Claim,
    }

    /// [`crate::latch::Latch`], modelled as a lock that wakes.
    #[derive(Default)]
    pub(crate) struct Latch<T>(Mutex<T>);

    pub(crate) type LatchGuard<'a, T> = MutexGuard<'a, T>;

    impl<T> Latch<T> {
        pub(crate) fn new(value: T) -> Latch<T> {
            Latch(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LatchGuard<'_, T> {
            super::lock(&self.0)
        }
    }

    pub(crate) fn spin() {
        loom::thread::yield_now();
    }

    /// [`crate::park::Parker`] of a modelled thread.
    #[derive(Clone)]
    pub(crate) struct Parker(Arc<Token>);

    impl Parker {
        pub(crate) fn current() -> Parker {
            loom::thread_local!(static ME: Parker = Parker(Arc::new(Token::default())));
            ME.with(Parker::clone)
        }

        pub(crate) fn unpark(&self) {
            *super::lock(&self.0.set) = true;
            self.0.woken.notify_one();
        }

        pub(crate) fn into_unparked(self) {
            self.unpark();
        }

        pub(crate) fn claim(&self) -> &Claim {
            &self.0.claim
        }
    }

    /// With a deadline the time is up at once: loom tries every moment for it.
    pub(crate) fn park(_reason: WaitReason, deadline: Option<Nanos>) -> Wake {
        let me = Parker::current();
        let mut set = super::lock(&me.0.set);
        while !*set {
            if deadline.is_some() {
                return Wake::Deadline;
            }
            set = me.0.woken.wait(set).expect("nothing panics under it");
        }
        *set = false;
        Wake::Notified
    }
}
#[cfg(loom)]
pub(crate) use modelled::*;

/// Locks a mutex under which nothing panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}
