//! Starting goroutines, and waiting for their end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use wirepath_driver::Nanos;

use crate::g::{Body, G};
use crate::m;
use crate::netpoll::Wait;
use crate::park::{Parker, WaitReason, Wake, park};
use crate::sched::{self, Shared};
use crate::word::Arm;

/// What a step of [`steps`] wants next.
pub enum Next {
    /// The goroutine is done.
    Done,
    /// Run again after others.
    Yield,
    /// Run again when a descriptor is ready.
    Wait(Wait),
    /// Run again at this time.
    Sleep(Nanos),
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Next::Done => f.write_str("Done"),
            Next::Yield => f.write_str("Yield"),
            Next::Wait(_) => f.write_str("Wait"),
            Next::Sleep(until) => write!(f, "Sleep({until:?})"),
        }
    }
}

impl Wait {
    pub(crate) fn arm(&self, parker: Parker) -> Arm {
        self.0.desc.arm(self.0.dir, parker)
    }
}

/// The runtime ended a goroutine's wait: the payload of its unwinding, and
/// what [`JoinHandle::join`] reports of a goroutine that was ended so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the runtime was shut down")]
pub struct Cancelled;

/// Ends the calling goroutine, whose runtime shuts down.
pub(crate) fn unwind_cancelled() -> ! {
    resume_unwind(Box::new(Cancelled))
}

/// How a goroutine ended, and who waits for that.
struct End<T> {
    finished: AtomicBool,
    inner: Mutex<EndInner<T>>,
}

struct EndInner<T> {
    result: Option<std::thread::Result<T>>,
    waiter: Option<Parker>,
}

impl<T> End<T> {
    fn lock(&self) -> MutexGuard<'_, EndInner<T>> {
        self.inner.lock().expect("nothing panics under this lock")
    }

    fn set(&self, result: std::thread::Result<T>) {
        let mut inner = self.lock();
        inner.result = Some(result);
        let waiter = inner.waiter.take();
        drop(inner);
        self.finished.store(true, Ordering::Release);
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    }
}

/// A goroutine's handle. Dropping it lets the goroutine go on by itself.
pub struct JoinHandle<T> {
    g: Arc<G>,
    end: Arc<End<T>>,
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.g.id)
            .finish()
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the goroutine's end: the value that it returned, or the
    /// payload of its panic ([`Cancelled`] when its runtime ended it).
    ///
    /// # Errors
    /// The payload, as from [`std::thread::JoinHandle::join`].
    pub fn join(self) -> std::thread::Result<T> {
        loop {
            {
                let mut inner = self.end.lock();
                if let Some(result) = inner.result.take() {
                    return result;
                }
                inner.waiter = Some(Parker::current());
            }
            if park(WaitReason::Join, None) == Wake::Cancelled && !self.is_finished() {
                return Err(Box::new(Cancelled));
            }
        }
    }

    /// Whether the goroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.end.finished.load(Ordering::Acquire)
    }

    /// The goroutine's number, as dumps and traces show it.
    pub fn id(&self) -> u64 {
        self.g.id
    }
}

/// Runs something of a user's: a panic comes back as its payload.
fn guarded<T>(f: impl FnOnce() -> T) -> std::thread::Result<T> {
    // What the panic may have left half done is dropped unseen.
    catch_unwind(AssertUnwindSafe(f))
}

struct Once<F, T> {
    f: Option<F>,
    end: Arc<End<T>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Body for Once<F, T> {
    fn run(&mut self) -> Next {
        if let Some(f) = self.f.take() {
            self.end.set(guarded(f));
        }
        Next::Done
    }

    fn abandon(&mut self, why: Box<dyn Any + Send>) {
        let f = self.f.take();
        let _ = guarded(|| drop(f));
        self.end.set(Err(why));
    }
}

struct Steps<S, F> {
    parts: Option<(S, F)>,
    end: Arc<End<()>>,
}

impl<S, F> Steps<S, F> {
    fn finish(&mut self, result: std::thread::Result<()>) {
        let parts = self.parts.take();
        let dropped = guarded(|| drop(parts));
        self.end.set(result.and(dropped));
    }
}

impl<S: Send, F: FnMut(&mut S) -> Next + Send> Body for Steps<S, F> {
    fn run(&mut self) -> Next {
        let Some((state, step)) = &mut self.parts else {
            return Next::Done;
        };
        match guarded(|| step(state)) {
            Ok(Next::Done) => self.finish(Ok(())),
            Ok(next) => return next,
            Err(panic) => self.finish(Err(panic)),
        }
        Next::Done
    }

    fn abandon(&mut self, why: Box<dyn Any + Send>) {
        self.finish(Err(why));
    }
}

/// Starts a goroutine; `body` is given where to leave the result.
fn start<T>(
    shared: &Arc<Shared>,
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    body: impl FnOnce(Arc<End<T>>) -> Box<dyn Body>,
) -> JoinHandle<T> {
    let end = Arc::new(End {
        finished: AtomicBool::new(false),
        inner: Mutex::new(EndInner {
            result: None,
            waiter: None,
        }),
    });
    let body = body(end.clone());
    let g = G::new(shared.new_id(), name, site, shared.clone(), body);
    JoinHandle {
        g: shared.start(g),
        end,
    }
}

#[track_caller]
fn here() -> Arc<Shared> {
    sched::current_runtime()
        .expect("goroutines are started inside of a runtime (or with Runtime::go)")
}

pub(crate) fn go_in<T: Send + 'static>(
    shared: &Arc<Shared>,
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    start(shared, name, site, |end| Box::new(Once { f: Some(f), end }))
}

pub(crate) fn steps_in<S: Send + 'static>(
    shared: &Arc<Shared>,
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    state: S,
    step: impl FnMut(&mut S) -> Next + Send + 'static,
) -> JoinHandle<()> {
    start(shared, name, site, |end| {
        Box::new(Steps {
            parts: Some((state, step)),
            end,
        })
    })
}

/// Starts a goroutine that runs `f`.
///
/// Once it runs it stays on one thread, so `f` may use what is not `Send`. A
/// panic ends the goroutine alone and is reported by its handle.
///
/// # Panics
/// Outside of a runtime; use [`crate::Runtime::go`] there.
#[track_caller]
pub fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    go_in(&here(), None, Location::caller(), f)
}

/// As [`go`], with a name for dumps and messages.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn go_named<T: Send + 'static>(
    name: impl Into<Arc<str>>,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    go_in(&here(), Some(name.into()), Location::caller(), f)
}

/// Starts a goroutine that runs `step` until it returns [`Next::Done`].
///
/// Between two steps it needs no stack and may move to another thread; all
/// that it keeps is `state`, and what `step` captured.
///
/// # Panics
/// Outside of a runtime; use [`crate::Runtime::steps`] there.
#[track_caller]
pub fn steps<S: Send + 'static>(
    state: S,
    step: impl FnMut(&mut S) -> Next + Send + 'static,
) -> JoinHandle<()> {
    steps_in(&here(), None, Location::caller(), state, step)
}

/// Lets other goroutines run; on a plain thread, other threads.
pub fn yield_now() {
    match m::current_g() {
        Some(g) => g.yield_now(),
        None => std::thread::yield_now(),
    }
}

/// The number of the calling goroutine.
pub fn current_id() -> Option<u64> {
    m::current_g().map(|g| g.id)
}

/// How many goroutines can run at once in the calling goroutine's runtime; 0
/// outside of one.
pub fn num_procs() -> usize {
    m::with_local(|local| local.map_or(0, |l| l.shared.procs()))
}
