//! Starting goroutines, and waiting for their end.

mod goroutine;

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::g::{Body, G};
use crate::m;
use crate::netpoll::Wait;
use crate::park::{Parker, WaitReason, Wake, park};
use crate::sched::{self, Shared};
use crate::word::Arm;

pub use goroutine::{Goroutine, goroutine};
use goroutine::{How, start, started};

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

/// Why a goroutine could not be started. It is also the payload of one of
/// [`steps`] that found no stack for a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No memory for another stack: the process's address space or its
    /// mappings (`vm.max_map_count`) are used up.
    #[error(
        "no memory for another goroutine stack; start fewer goroutines, give them smaller \
         stacks, or raise the limit on address space (RLIMIT_AS) or vm.max_map_count"
    )]
    Stack(#[source] std::io::Error),
    /// As many goroutines live as [`crate::Builder::max_goroutines`] allows.
    #[error("{0} goroutines live, as many as the runtime was made for; end some, or allow more")]
    Limit(usize),
    /// The stack size asked for is not from 16 KiB to 1 GiB.
    #[error("a goroutine stack of {0} bytes is not possible: from 16 KiB to 1 GiB is")]
    StackSize(usize),
    /// The system gave no thread for one that is to have its own.
    #[error("no thread for a goroutine of its own; see RLIMIT_NPROC and Builder::max_threads")]
    Thread(#[source] std::io::Error),
    /// The caller is no goroutine, so it is not known in which runtime.
    #[error("not called from a goroutine; use the runtime's or a handle's `goroutine()`")]
    NoRuntime,
    /// The runtime was shut down.
    #[error("the runtime was shut down; start goroutines before that")]
    ShutDown,
}

/// Ends the calling goroutine, whose runtime shuts down.
pub(crate) fn unwind_cancelled() -> ! {
    resume_unwind(Box::new(Cancelled))
}

/// What a goroutine returned, or the payload of its panic.
type Outcome = std::thread::Result<Box<dyn Any + Send>>;

/// How a goroutine ended, and who waits for that.
#[derive(Default)]
pub(crate) struct End {
    finished: AtomicBool,
    inner: Mutex<EndInner>,
}

#[derive(Default)]
struct EndInner {
    outcome: Option<Outcome>,
    waiter: Option<Parker>,
    /// The handle is gone: nobody will ask.
    detached: bool,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, EndInner> {
        self.inner.lock().expect("nothing panics under this lock")
    }

    fn set<T: Send + 'static>(&self, result: std::thread::Result<T>) {
        let mut inner = self.lock();
        if inner.detached {
            drop(inner);
            let _ = guarded(|| drop(result));
            self.finished.store(true, Ordering::Release);
            return;
        }
        inner.outcome = Some(result.map(|value| Box::new(value) as Box<dyn Any + Send>));
        let waiter = inner.waiter.take();
        drop(inner);
        self.finished.store(true, Ordering::Release);
        if let Some(waiter) = waiter {
            waiter.into_unparked();
        }
    }

    /// The goroutine will never run again: tells whoever joins it.
    pub(crate) fn give_up(&self) {
        let mut inner = self.lock();
        let open = !inner.detached && inner.outcome.is_none();
        if !open || self.finished.load(Ordering::Acquire) {
            return;
        }
        inner.outcome = Some(Err(Box::new(Cancelled)));
        let waiter = inner.waiter.take();
        drop(inner);
        if let Some(waiter) = waiter {
            waiter.into_unparked();
        }
    }

    /// Lets go of the outcome, also of one that is still to come.
    fn detach(&self) {
        let mut inner = self.lock();
        inner.detached = true;
        let outcome = inner.outcome.take();
        drop(inner);
        drop(outcome);
    }
}

/// A goroutine's handle. Dropping it lets the goroutine go on by itself.
pub struct JoinHandle<T> {
    g: Arc<G>,
    value: PhantomData<fn() -> T>,
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        self.g.end.detach();
    }
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.g.id)
            .finish()
    }
}

impl<T: 'static> JoinHandle<T> {
    /// Waits for the goroutine's end: the value that it returned, or the
    /// payload of its panic ([`Cancelled`] when its runtime ended it, or had
    /// been shut down when it was started).
    ///
    /// # Errors
    /// The payload, as from [`std::thread::JoinHandle::join`].
    pub fn join(self) -> std::thread::Result<T> {
        let outside = m::with_local(|local| local.is_none());
        let _attendance = outside.then(|| self.g.shared.attend_from_outside());
        self.outcome()
    }

    /// As [`JoinHandle::join`]; does not keep a virtual clock going.
    pub(crate) fn outcome(self) -> std::thread::Result<T> {
        loop {
            if let Some(result) = self.result_or_wait() {
                return result;
            }
            if park(WaitReason::Join, None) == Wake::Cancelled && !self.is_finished() {
                return Err(Box::new(Cancelled));
            }
        }
    }

    /// As [`JoinHandle::join`], for `timeout` at most.
    ///
    /// # Errors
    /// The handle, when the goroutine has not ended by then.
    pub fn join_timeout(self, timeout: Duration) -> Result<std::thread::Result<T>, JoinHandle<T>> {
        let deadline = crate::time::now() + timeout;
        loop {
            if let Some(result) = self.result_or_wait() {
                return Ok(result);
            }
            match park(WaitReason::Join, Some(deadline)) {
                Wake::Notified => {}
                Wake::Cancelled if !self.is_finished() => return Ok(Err(Box::new(Cancelled))),
                Wake::Cancelled => {}
                Wake::Deadline => return self.result_or_wait().ok_or(self),
            }
        }
    }

    /// What it left, or else the caller is woken when there is something.
    fn result_or_wait(&self) -> Option<std::thread::Result<T>> {
        let mut inner = self.g.end.lock();
        if let Some(outcome) = inner.outcome.take() {
            return Some(outcome.map(|value| *value.downcast().expect("it returns a T")));
        }
        inner.waiter = Some(Parker::current());
        None
    }

    /// Whether the goroutine has ended.
    pub fn is_finished(&self) -> bool {
        self.g.end.finished.load(Ordering::Acquire)
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

/// Drops the goroutine-local values of a goroutine that ends with `result`. If
/// one of their drops panics, so did the goroutine.
fn without_locals<T>(result: std::thread::Result<T>) -> std::thread::Result<T> {
    match (result, guarded(crate::local::clear)) {
        (Ok(value), Err(panic)) => {
            let _ = guarded(|| drop(value));
            Err(panic)
        }
        (result, _) => result,
    }
}

struct Once<F>(Option<F>);

impl<T: Send + 'static, F: FnOnce() -> T + Send> Body for Once<F> {
    fn run(&mut self, end: &End) -> Next {
        if let Some(f) = self.0.take() {
            end.set(without_locals(guarded(f)));
        }
        Next::Done
    }

    fn abandon(&mut self, why: Box<dyn Any + Send>, end: &End) {
        let f = self.0.take();
        let _ = guarded(|| drop(f));
        end.set::<T>(Err(why));
    }
}

struct Steps<S, F>(Option<(S, F)>);

impl<S, F> Steps<S, F> {
    fn finish(&mut self, result: std::thread::Result<()>, end: &End) {
        let parts = self.0.take();
        let dropped = guarded(|| drop(parts));
        end.set(without_locals(result.and(dropped)));
    }
}

impl<S: Send, F: FnMut(&mut S) -> Next + Send> Body for Steps<S, F> {
    fn run(&mut self, end: &End) -> Next {
        let Some((state, step)) = &mut self.0 else {
            return Next::Done;
        };
        match guarded(|| step(state)) {
            Ok(Next::Done) => self.finish(Ok(()), end),
            Ok(next) => return next,
            Err(panic) => self.finish(Err(panic), end),
        }
        Next::Done
    }

    fn abandon(&mut self, why: Box<dyn Any + Send>, end: &End) {
        self.finish(Err(why), end);
    }
}

/// Calls `f` with the runtime of the goroutine that calls.
#[track_caller]
fn here<T>(f: impl FnOnce(&Arc<Shared>) -> T) -> T {
    sched::with_runtime(|shared| shared.map(f))
        .expect("goroutines are started inside of a runtime (or with Runtime::go)")
}

#[track_caller]
pub(crate) fn go_in<T: Send + 'static>(
    shared: &Arc<Shared>,
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    started(start(
        shared,
        name,
        site,
        How::default(),
        true,
        Once(Some(f)),
    ))
}

#[track_caller]
pub(crate) fn steps_in<S: Send + 'static>(
    shared: &Arc<Shared>,
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    state: S,
    step: impl FnMut(&mut S) -> Next + Send + 'static,
) -> JoinHandle<()> {
    let body = Steps(Some((state, step)));
    started(start(shared, name, site, How::default(), false, body))
}

/// Starts a goroutine that runs `f`.
///
/// Once it runs it stays on one thread, so `f` may use what is not `Send`. A
/// panic ends the goroutine alone and is reported by its handle.
///
/// # Panics
/// Outside of a runtime (use [`crate::Handle::go`] there), and where
/// [`Goroutine::try_go`] gives an error: the caller panics, nothing else ends.
#[track_caller]
pub fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let site = Location::caller();
    here(|shared| go_in(shared, None, site, f))
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
    let (name, site) = (Some(name.into()), Location::caller());
    here(|shared| go_in(shared, name, site, f))
}

/// Starts a goroutine that runs `step` until it returns [`Next::Done`].
///
/// Between two steps it needs no stack and may move to another thread; all
/// that it keeps is `state`, and what `step` captured.
///
/// # Panics
/// Outside of a runtime (use [`crate::Handle::steps`] there), and where
/// [`Goroutine::try_steps`] gives an error.
#[track_caller]
pub fn steps<S: Send + 'static>(
    state: S,
    step: impl FnMut(&mut S) -> Next + Send + 'static,
) -> JoinHandle<()> {
    let site = Location::caller();
    here(|shared| steps_in(shared, None, site, state, step))
}

/// Lets other goroutines run; on a plain thread, other threads.
pub fn yield_now() {
    if !m::yield_current() {
        std::thread::yield_now();
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

/// How deep the calling goroutine's stack has grown, in bytes and whole pages;
/// None outside of one.
///
/// A stack that was used before by another goroutine shows the depth of
/// whichever went deeper, unless its memory was given back between.
pub fn stack_high_water() -> Option<usize> {
    m::running().map(|running| crate::coro::high_water(running.stack))
}
