//! What a request, and all that is done for it, carries along: whether it was
//! given up, until when it may take, and values, as Go's `context`.
//!
//! A [`Context`] is cheap to clone. Contexts are made from others; ending one
//! ends those that were made from it, at once and without a goroutine. One that
//! is dropped is forgotten by its parent, whether it was cancelled or not (in
//! Go the cancel function must be called for that).
//!
//! ```
//! # use std::time::Duration;
//! # use wirepath_runtime::{Runtime, chan::channel, context::{Context, ContextError}, select};
//! # let rt = Runtime::builder().max_procs(1).build().expect("a runtime");
//! # rt.run(|| {
//! let (_results, results) = channel::<u32>(0);
//! let ctx = Context::background().with_timeout(Duration::from_millis(5));
//! let end = select! {
//!     recv(results) -> value => Ok(value),
//!     recv(ctx.done()) => Err(ctx.err()),
//! };
//! assert_eq!(end, Err(Some(ContextError::DeadlineExceeded)));
//! # }).expect("no panic");
//! ```

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::chan::{Receiver, Sender, channel};
use crate::latch::Latch;
use crate::park::Parker;
use crate::sched::{self, Shared};
use crate::timer::TimerTarget;

/// Why a context ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// It was cancelled, or one that it was made from.
    #[error("context canceled")]
    Cancelled,
    /// Its deadline passed, or that of one that it was made from.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
}

/// What ended a context, in the words of whoever did.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// See the [module](self).
#[derive(Clone)]
pub struct Context(Arc<Node>);

struct Node {
    /// Where values are looked for that this does not have.
    parent: Option<Context>,
    value: Option<(TypeId, Box<dyn Any + Send + Sync>)>,
    /// What ends it.
    signal: Option<Arc<Signal>>,
    deadline: Option<Nanos>,
}

/// That which is cancelled. Contexts that differ in their values share it.
struct Signal {
    done: Receiver<Infallible>,
    close: Sender<Infallible>,
    /// What ends this too, and as what it knows this.
    parent: OnceLock<(Arc<Signal>, u64)>,
    state: Latch<State>,
}

#[derive(Default)]
struct State {
    ended: Option<(ContextError, Option<Cause>)>,
    /// To be told when it ends.
    heirs: HashMap<u64, Heir>,
    last_heir: u64,
}

enum Heir {
    Signal(Weak<Signal>),
    Func(Func),
}

/// A function to be called in a goroutine.
struct Func {
    runtime: Weak<Shared>,
    site: &'static Location<'static>,
    f: Box<dyn FnOnce() + Send>,
}

impl Func {
    fn start(self) {
        if let Some(runtime) = self.runtime.upgrade() {
            crate::spawn::go_in(&runtime, None, self.site, self.f);
        }
    }
}

impl Signal {
    /// One that ends with `parent`.
    fn new(parent: Option<&Arc<Signal>>) -> Arc<Signal> {
        let (close, done) = channel(0);
        let signal = Arc::new(Signal {
            done,
            close,
            parent: OnceLock::new(),
            state: Latch::default(),
        });
        if let Some(parent) = parent {
            match parent.enter(Heir::Signal(Arc::downgrade(&signal))) {
                Ok(id) => {
                    let _ = signal.parent.set((parent.clone(), id));
                }
                Err((_, (error, cause))) => signal.end(error, cause.as_ref()),
            }
        }
        signal
    }

    /// Has `heir` told of the end; or gives it back, with the end.
    fn enter(&self, heir: Heir) -> Result<u64, (Heir, (ContextError, Option<Cause>))> {
        let mut state = self.state.lock();
        if let Some(ended) = &state.ended {
            return Err((heir, ended.clone()));
        }
        state.last_heir += 1;
        let id = state.last_heir;
        state.heirs.insert(id, heir);
        Ok(id)
    }

    fn leave(&self, id: u64) -> Option<Heir> {
        self.state.lock().heirs.remove(&id)
    }

    fn error(&self) -> Option<ContextError> {
        self.state.lock().ended.as_ref().map(|ended| ended.0)
    }

    /// Ends this alone. Who is to be told of that.
    fn end_one(&self, error: ContextError, cause: Option<Cause>) -> Vec<Heir> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            drop(state);
            return Vec::new();
        }
        state.ended = Some((error, cause));
        let heirs = std::mem::take(&mut state.heirs);
        drop(state);
        self.close.close();
        heirs.into_values().collect()
    }

    /// Ends this and all that was made from it; nothing the second time.
    fn end(&self, error: ContextError, cause: Option<&Cause>) {
        let mut told = self.end_one(error, cause.cloned());
        while let Some(heir) = told.pop() {
            match heir {
                Heir::Signal(signal) => {
                    if let Some(signal) = signal.upgrade() {
                        told.extend(signal.end_one(error, cause.cloned()));
                    }
                }
                Heir::Func(func) => func.start(),
            }
        }
    }
}

impl Drop for Signal {
    /// As for a node, one after another.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some((parent, id)) = next {
            drop(parent.leave(id));
            next = Arc::into_inner(parent).and_then(|mut parent| parent.parent.take());
        }
    }
}

/// The entry of a deadline in the timer heap.
struct Deadline(Weak<Signal>);

impl TimerTarget for Deadline {
    fn fire(self: Arc<Self>, _now: Nanos, _seq: u64, _woken: &mut Vec<Parker>) {
        if let Some(signal) = self.0.upgrade() {
            signal.end(ContextError::DeadlineExceeded, None);
        }
    }

    fn is_stale(&self, _seq: u64) -> bool {
        // Looked at through the weak count only: an upgrade could be the last
        // to go, under the heap's lock.
        self.0.strong_count() == 0
    }
}

impl Context {
    /// One that never ends and has no values: where all others begin.
    pub fn background() -> Context {
        Context(Arc::new(Node {
            parent: None,
            value: None,
            signal: None,
            deadline: None,
        }))
    }

    fn child(&self, signal: Option<Arc<Signal>>, deadline: Option<Nanos>) -> Context {
        Context(Arc::new(Node {
            parent: Some(self.clone()),
            value: None,
            signal,
            deadline,
        }))
    }

    /// One that ends when `Cancel` says so, or with this one. It covers Go's
    /// `WithCancelCause` too, see [`Cancel::cancel_cause`].
    pub fn with_cancel(&self) -> (Context, Cancel) {
        let signal = Signal::new(self.0.signal.as_ref());
        let child = self.child(Some(signal.clone()), self.0.deadline);
        (child, Cancel(signal))
    }

    /// One that ends at `deadline`, or with this one.
    ///
    /// The deadline is kept by the runtime of the caller, on a plain thread by
    /// that which was made last.
    ///
    /// # Panics
    /// When there is no runtime.
    pub fn with_deadline(&self, deadline: Nanos) -> Context {
        if self.0.deadline.is_some_and(|sooner| sooner <= deadline) {
            return self.clone();
        }
        let signal = Signal::new(self.0.signal.as_ref());
        if deadline <= crate::time::now() {
            signal.end(ContextError::DeadlineExceeded, None);
        } else if signal.error().is_none() {
            let runtime = sched::runtime_or_last();
            let runtime = runtime.expect("deadlines are set while there is a runtime");
            runtime.add_timer(deadline, 0, Arc::new(Deadline(Arc::downgrade(&signal))));
        }
        self.child(Some(signal), Some(deadline))
    }

    /// One that ends after `timeout`, or with this one.
    ///
    /// # Panics
    /// When there is no runtime.
    pub fn with_timeout(&self, timeout: Duration) -> Context {
        self.with_deadline(crate::time::now() + timeout)
    }

    /// One that has a value of type `T`, in place of any that this has. Where
    /// Go has keys, here the type is the key.
    pub fn with_value<T: Any + Send + Sync>(&self, value: T) -> Context {
        Context(Arc::new(Node {
            parent: Some(self.clone()),
            value: Some((TypeId::of::<T>(), Box::new(value))),
            signal: self.0.signal.clone(),
            deadline: self.0.deadline,
        }))
    }

    /// One with the values of this, that does not end with it.
    pub fn without_cancel(&self) -> Context {
        self.child(None, None)
    }

    /// Has `f` called, in a goroutine of its own, when this ends; at once if it
    /// has.
    ///
    /// # Panics
    /// When there is no runtime.
    #[track_caller]
    pub fn after_func(&self, f: impl FnOnce() + Send + 'static) -> StopFunc {
        let runtime = sched::runtime_or_last();
        let runtime = runtime.expect("functions are called while there is a runtime");
        let func = Heir::Func(Func {
            runtime: Arc::downgrade(&runtime),
            site: Location::caller(),
            f: Box::new(f),
        });
        let Some(signal) = &self.0.signal else {
            return StopFunc(None);
        };
        match signal.enter(func) {
            Ok(id) => StopFunc(Some((Arc::downgrade(signal), id))),
            Err((heir, _)) => {
                if let Heir::Func(func) = heir {
                    func.start();
                }
                StopFunc(None)
            }
        }
    }

    /// Closed when this ends: for a case of a select, `recv(ctx.done()) => ..`.
    /// `None`: it never ends; such a case is never ready.
    pub fn done(&self) -> Option<&Receiver<Infallible>> {
        self.0.signal.as_ref().map(|signal| &signal.done)
    }

    /// Why it ended; `None` while it has not.
    pub fn err(&self) -> Option<ContextError> {
        self.0.signal.as_ref()?.error()
    }

    /// What ended it: the cause that was given, or else [`err`](Context::err).
    pub fn cause(&self) -> Option<Cause> {
        let ended = self.0.signal.as_ref()?.state.lock().ended.clone();
        let (error, cause) = ended?;
        Some(cause.unwrap_or_else(|| Arc::new(error)))
    }

    /// When it ends at the latest.
    pub fn deadline(&self) -> Option<Nanos> {
        self.0.deadline
    }

    /// The value of type `T`, of this or of the nearest that it was made from.
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        let mut at = Some(self);
        while let Some(Context(node)) = at {
            match &node.value {
                Some((key, value)) if *key == TypeId::of::<T>() => return value.downcast_ref(),
                _ => at = node.parent.as_ref(),
            }
        }
        None
    }
}

impl Drop for Node {
    /// A chain of a million contexts is not dropped by a million calls.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(Context(node)) = next {
            next = Arc::into_inner(node).and_then(|mut node| node.parent.take());
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("err", &self.err())
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

/// Ends a context. Dropping it does nothing.
#[derive(Clone)]
pub struct Cancel(Arc<Signal>);

impl Cancel {
    /// Ends the context and all that were made from it. Only the first end
    /// counts.
    pub fn cancel(&self) {
        self.0.end(ContextError::Cancelled, None);
    }

    /// As [`cancel`](Cancel::cancel), with what [`Context::cause`] tells.
    pub fn cancel_cause(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) {
        let cause: Cause = Arc::from(cause.into());
        self.0.end(ContextError::Cancelled, Some(&cause));
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("err", &self.0.error())
            .finish()
    }
}

/// Of a function that is called when a context ends. Dropping it does nothing.
#[derive(Debug)]
pub struct StopFunc(Option<(Weak<Signal>, u64)>);

impl StopFunc {
    /// Keeps the function from being called. False: it was called, or stopped
    /// before, or never would have been.
    pub fn stop(&self) -> bool {
        let Some((signal, id)) = &self.0 else {
            return false;
        };
        let heir = signal.upgrade().and_then(|signal| signal.leave(*id));
        heir.is_some()
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal")
            .field("err", &self.error())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
