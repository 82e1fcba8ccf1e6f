//! Parking: how anything that waits stops, and how a waker starts it again.
//!
//! A [`Parker`] names one waiter: a goroutine, or a thread outside of any. It
//! holds one token. [`Parker::unpark`] sets the token and wakes the waiter;
//! [`park`] takes the token or waits for it. A waiter publishes its `Parker`
//! first and parks afterwards, so a wake in between is not lost. A park may
//! return without cause: callers look again at what they wait for.

use std::sync::{Arc, Condvar, Mutex};

use wirepath_driver::{Nanos, clock};

/// Why a park ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The token was there.
    Notified,
    /// The deadline passed.
    Deadline,
    /// The runtime shuts down.
    Cancelled,
}

#[derive(Default)]
struct Thread {
    token: Mutex<bool>,
    woken: Condvar,
}

/// A waiter.
#[derive(Clone)]
pub(crate) struct Parker(Arc<Thread>);

impl Parker {
    /// The goroutine or thread that calls.
    pub(crate) fn current() -> Parker {
        thread_local!(static ME: Parker = Parker(Arc::default()));
        ME.with(Parker::clone)
    }

    /// The goroutine's number; 0 for a thread.
    pub(crate) fn goroutine_id(&self) -> u64 {
        0
    }

    /// Sets the token and wakes the waiter.
    pub(crate) fn unpark(&self) {
        *self.0.token.lock().expect("no panic under this lock") = true;
        self.0.woken.notify_one();
    }
}

impl PartialEq for Parker {
    fn eq(&self, other: &Parker) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a goroutine waits for, in the words of Go's `waitReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    ChanReceive,
    ChanSend,
    IoWait,
    Sleep,
    WaitGroup,
    Join,
}

/// Waits for the caller's token, until `deadline` at most.
pub(crate) fn park(_reason: WaitReason, deadline: Option<Nanos>) -> Wake {
    let me = Parker::current();
    let mut token = me.0.token.lock().expect("no panic under this lock");
    while !*token {
        token = match deadline {
            None => me.0.woken.wait(token).expect("no panic under this lock"),
            Some(at) if clock::now() >= at => return Wake::Deadline,
            Some(at) => {
                let left = at.since(clock::now());
                me.0.woken
                    .wait_timeout(token, left)
                    .expect("no panic under this lock")
                    .0
            }
        };
    }
    *token = false;
    Wake::Notified
}
