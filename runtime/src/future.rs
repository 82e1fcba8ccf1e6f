//! Awaiting futures inside of a goroutine.
//!
//! The waker is the goroutine itself: a [`Parker`] is a `Waker` whose wake sets
//! its token. So nothing is allocated for a wait, and a waker that is kept and
//! used too late does no more than make a later wait look again. No executor
//! is entered: a future that asks for the context of one (tokio's timers and
//! sockets do) does not find it here, and needs that runtime in a thread of its
//! own; all that only needs a waker works.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake as TaskWake, Waker};

use crate::g::G;
use crate::park::{Parker, Task, Thread, WaitReason, Wake, park};

impl TaskWake for G {
    fn wake(self: Arc<G>) {
        G::into_unparked(self);
    }

    fn wake_by_ref(self: &Arc<G>) {
        G::unpark(self);
    }
}

impl TaskWake for Thread {
    fn wake(self: Arc<Thread>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Thread>) {
        self.unpark();
    }
}

impl TaskWake for Task {
    fn wake(self: Arc<Task>) {
        Parker::Task(self).unpark();
    }
}

impl From<Parker> for Waker {
    fn from(parker: Parker) -> Waker {
        match parker {
            Parker::G(g) => g.into(),
            Parker::Thread(thread) => thread.into(),
            Parker::Task(task) => task.into(),
        }
    }
}

/// Waits for a future: parks the goroutine whenever it is not ready, or blocks
/// the thread outside of one.
///
/// It may be called anywhere, also in a future that is being polled. A future
/// that wakes itself lets other goroutines run before it is polled again.
///
/// A goroutine whose runtime shuts down meanwhile ends here, by unwinding; the
/// future is dropped.
///
/// ```
/// # let runtime = wirepath_runtime::Runtime::builder().build().unwrap();
/// let sum = runtime.run(|| wirepath_runtime::block_on(async { 1 + 2 }));
/// assert_eq!(sum.unwrap(), 3);
/// ```
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let waker = Waker::from(Parker::current());
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => wait(),
        }
    }
}

fn wait() {
    if crate::m::is_told() {
        // It may be its own waker, time after time.
        crate::yield_now();
    }
    if park(WaitReason::Future, None) == Wake::Cancelled {
        crate::spawn::unwind_cancelled();
    }
}
