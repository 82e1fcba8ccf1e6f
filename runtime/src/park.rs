//! Parking: how anything that waits stops, and how a waker starts it again.
//!
//! A [`Parker`] names one waiter: a goroutine, a thread outside of any, or a
//! future that is being polled. It holds one token. [`Parker::unpark`] sets the token and wakes the waiter;
//! [`park`] takes the token or waits for it. A waiter publishes its `Parker`
//! first and parks afterwards, so a wake in between is not lost. A park may
//! return without cause: callers look again at what they wait for.
//!
//! A goroutine that unwinds from a panic, or that is inside of
//! [`crate::blocking`], counts as its thread: it blocks that, since the
//! thread's panic count and the blocking section must stay with it. Others get
//! its P meanwhile. Those that are bound to the thread wait; if one of them is
//! to end the wait, it never ends.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;

use wirepath_driver::{Nanos, clock};

use crate::g::G;
use crate::m;
use crate::sched;

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
#[repr(align(8))]
pub(crate) struct Thread {
    token: Mutex<bool>,
    woken: Condvar,
    #[cfg(not(loom))]
    claim: crate::claim::Claim,
}

/// A waiter.
#[derive(Clone)]
pub(crate) enum Parker {
    /// A goroutine.
    G(Arc<G>),
    /// A thread.
    Thread(Arc<Thread>),
    /// A future that is polled: whoever polls it is woken.
    Task(Arc<Task>),
}

/// What wakes a future that waits for a descriptor. Its poller changes from
/// poll to poll; the descriptor keeps this.
#[derive(Default)]
#[repr(align(8))]
pub(crate) struct Task {
    state: Mutex<TaskState>,
    #[cfg(not(loom))]
    claim: crate::claim::Claim,
}

#[derive(Default)]
struct TaskState {
    waker: Option<Waker>,
    /// It was published where wakers find it, and nobody has taken it out.
    armed: bool,
}

impl Task {
    fn lock(&self) -> MutexGuard<'_, TaskState> {
        self.state.lock().expect("nothing panics under this lock")
    }

    fn wake(&self) {
        let waker = {
            let mut state = self.lock();
            state.armed = false;
            state.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What the asynchronous traits of a connection need.
#[cfg_attr(
    not(any(feature = "futures-io", feature = "hyper")),
    allow(dead_code, reason = "there are none")
)]
impl Task {
    /// From now on `waker` is the one to be woken.
    pub(crate) fn watch(&self, waker: &Waker) {
        let mut state = self.lock();
        let same = state.waker.as_ref().is_some_and(|w| w.will_wake(waker));
        if !same {
            let before = state.waker.replace(waker.clone());
            drop(state);
            // It is another's code.
            drop(before);
        }
    }

    /// Whether it is to be published: it is not yet. It counts as published
    /// then.
    pub(crate) fn arm(&self) -> bool {
        !std::mem::replace(&mut self.lock().armed, true)
    }

    /// It was not published after all.
    pub(crate) fn disarm(&self) {
        self.lock().armed = false;
    }
}

impl PartialEq for Parker {
    fn eq(&self, other: &Parker) -> bool {
        match (self, other) {
            (Parker::G(a), Parker::G(b)) => Arc::ptr_eq(a, b),
            (Parker::Thread(a), Parker::Thread(b)) => Arc::ptr_eq(a, b),
            (Parker::Task(a), Parker::Task(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

fn this_thread() -> Arc<Thread> {
    thread_local!(static ME: Arc<Thread> = Arc::default());
    ME.with(Arc::clone)
}

impl Parker {
    /// The goroutine or thread that calls.
    pub(crate) fn current() -> Parker {
        match m::current_g() {
            Some(g) => Parker::G(g),
            None => Parker::Thread(this_thread()),
        }
    }

    /// Sets the token and wakes the waiter.
    pub(crate) fn unpark(&self) {
        match self {
            Parker::G(g) => G::unpark(g),
            Parker::Thread(thread) => thread.unpark(),
            Parker::Task(task) => task.wake(),
        }
    }

    /// As [`Parker::unpark`], of a waiter that is woken once: costs no count.
    pub(crate) fn into_unparked(self) {
        match self {
            Parker::G(g) => G::into_unparked(g),
            Parker::Thread(thread) => thread.unpark(),
            Parker::Task(task) => task.wake(),
        }
    }

    /// The word of the select that the waiter is in.
    #[cfg(not(loom))]
    pub(crate) fn claim(&self) -> &crate::claim::Claim {
        match self {
            Parker::G(g) => &g.claim,
            Parker::Thread(thread) => &thread.claim,
            Parker::Task(task) => &task.claim,
        }
    }

    /// The goroutine's number; 0 for a thread or a future.
    pub(crate) fn goroutine_id(&self) -> u64 {
        match self {
            Parker::G(g) => g.id,
            Parker::Thread(_) | Parker::Task(_) => 0,
        }
    }
}

impl Thread {
    pub(crate) fn unpark(&self) {
        *self.token.lock().expect("no panic under this lock") = true;
        self.woken.notify_one();
    }

    fn park(&self, deadline: Option<Nanos>) -> Wake {
        let Some(at) = deadline else {
            return self.park_until(None);
        };
        // In virtual time the wait takes as long really, and time goes on after.
        let wake = self.park_until(Some(clock::now() + at.since(crate::time::now())));
        if wake == Wake::Deadline {
            crate::time::reached(at);
        }
        wake
    }

    fn park_until(&self, deadline: Option<Nanos>) -> Wake {
        let mut token = self.token.lock().expect("no panic under this lock");
        while !*token {
            token = match deadline {
                None => self.woken.wait(token).expect("no panic under this lock"),
                Some(at) if clock::now() >= at => return Wake::Deadline,
                Some(at) => {
                    let left = at.since(clock::now());
                    let waited = self.woken.wait_timeout(token, left);
                    waited.expect("no panic under this lock").0
                }
            };
        }
        *token = false;
        Wake::Notified
    }
}

/// What a goroutine waits for, in the words of Go's `waitReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WaitReason {
    ChanReceive,
    ChanSend,
    IoWait,
    Sleep,
    WaitGroup,
    Join,
    SynctestWait,
    Select,
    SelectNoCases,
    ChanReceiveNil,
    MutexLock,
    RwLockRead,
    RwLockWrite,
    CondWait,
    Semaphore,
    Future,
}

impl WaitReason {
    pub(crate) const ALL: &[WaitReason] = &[
        WaitReason::ChanReceive,
        WaitReason::ChanSend,
        WaitReason::IoWait,
        WaitReason::Sleep,
        WaitReason::WaitGroup,
        WaitReason::Join,
        WaitReason::SynctestWait,
        WaitReason::Select,
        WaitReason::SelectNoCases,
        WaitReason::ChanReceiveNil,
        WaitReason::MutexLock,
        WaitReason::RwLockRead,
        WaitReason::RwLockWrite,
        WaitReason::CondWait,
        WaitReason::Semaphore,
        WaitReason::Future,
    ];

    pub(crate) fn from_number(n: u8) -> Option<WaitReason> {
        Self::ALL.get(usize::from(n)).copied()
    }

    /// As Go prints it in a goroutine dump.
    pub(crate) fn name(self) -> &'static str {
        match self {
            WaitReason::ChanReceive => "chan receive",
            WaitReason::ChanSend => "chan send",
            WaitReason::IoWait => "IO wait",
            WaitReason::Sleep => "sleep",
            WaitReason::WaitGroup => "sync.WaitGroup.Wait",
            WaitReason::Join => "join",
            WaitReason::SynctestWait => "synctest.Wait",
            WaitReason::Select => "select",
            WaitReason::SelectNoCases => "select (no cases)",
            WaitReason::ChanReceiveNil => "chan receive (nil chan)",
            WaitReason::MutexLock => "sync.Mutex.Lock",
            WaitReason::RwLockRead => "sync.RWMutex.RLock",
            WaitReason::RwLockWrite => "sync.RWMutex.Lock",
            WaitReason::CondWait => "sync.Cond.Wait",
            WaitReason::Semaphore => "semacquire",
            WaitReason::Future => "future",
        }
    }
}

/// A goroutine whose runtime is gone, outside of its drops while it unwinds.
fn is_orphaned() -> bool {
    m::with_local(|local| local.is_some_and(|local| local.orphaned.get()))
        && !std::thread::panicking()
}

/// Waits for the caller's token, until `deadline` at most.
#[inline(always)]
pub(crate) fn park(reason: WaitReason, deadline: Option<Nanos>) -> Wake {
    match m::park_current(reason, deadline) {
        Some(wake) => wake,
        None if is_orphaned() => Wake::Cancelled,
        None => sched::without_p(|| this_thread().park(deadline)),
    }
}
