//! Starting a goroutine that is to have a name, a stack of another size, or an
//! answer instead of a panic where there is no room for it.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::{JoinHandle, Next, Once, SpawnError, Steps};
use crate::g::{Birth, Body};
use crate::runtime::STACK_SIZES;
use crate::sched::{self, Shared};

/// How a goroutine is started, beside its name and site.
#[derive(Clone, Copy, Default)]
pub(super) struct How {
    stack_size: Option<usize>,
    own_thread: bool,
}

/// Starts a goroutine, whose body leaves a `T`.
pub(super) fn start<T>(
    shared: &Arc<Shared>,
    name: Option<Arc<str>>,
    site: &'static Location<'static>,
    how: How,
    claimed: bool,
    body: impl Body + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    let stacks = match how.stack_size {
        None => None,
        Some(size) if STACK_SIZES.contains(&size) => shared.stacks_of(size),
        Some(size) => return Err(SpawnError::StackSize(size)),
    };
    shared.admit(stacks.as_ref(), claimed)?;
    let birth = Birth {
        name,
        site,
        stacks: stacks.clone(),
        claimed,
    };
    let g = if how.own_thread {
        let started = shared.start_on_own_thread(birth, Box::new(body));
        started.map_err(|error| {
            shared.dismiss(stacks.as_ref(), claimed);
            SpawnError::Thread(error)
        })?
    } else {
        shared.start(birth, Box::new(body))
    };
    Ok(JoinHandle {
        g,
        value: PhantomData,
    })
}

/// What was started, for those who did not ask for the error.
#[track_caller]
pub(super) fn started<T>(result: Result<JoinHandle<T>, SpawnError>) -> JoinHandle<T> {
    use std::error::Error;
    match result {
        Ok(handle) => handle,
        Err(error) => match error.source() {
            Some(cause) => panic!("{error}: {cause}"),
            None => panic!("{error}"),
        },
    }
}

/// A goroutine that is to be started; see [`goroutine`].
#[must_use = "nothing is started before `go` or `steps`"]
#[derive(Clone, Default)]
pub struct Goroutine {
    shared: Option<Arc<Shared>>,
    name: Option<Arc<str>>,
    how: How,
}

impl std::fmt::Debug for Goroutine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Goroutine")
            .field("name", &self.name)
            .field("stack_size", &self.how.stack_size)
            .field("own_thread", &self.how.own_thread)
            .finish_non_exhaustive()
    }
}

/// Describes a goroutine of the caller's runtime, to be started by
/// [`Goroutine::go`] or [`Goroutine::steps`], as [`std::thread::Builder`] does
/// threads.
///
/// ```
/// # let runtime = wirepath_runtime::Runtime::builder().build().unwrap();
/// # runtime.run(|| {
/// let parse = wirepath_runtime::goroutine()
///     .name("parser")
///     .stack_size(4 << 20)
///     .go(|| "a deep recursion".len());
/// assert_eq!(parse.join().unwrap(), 16);
/// # }).unwrap();
/// ```
pub fn goroutine() -> Goroutine {
    Goroutine::default()
}

impl Goroutine {
    pub(crate) fn new(shared: Option<Arc<Shared>>) -> Goroutine {
        Goroutine {
            shared,
            ..Goroutine::default()
        }
    }

    /// A name, for dumps and messages.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Goroutine {
        self.name = Some(name.into());
        self
    }

    /// The limit to which its stack may grow, in bytes, rounded up to a power
    /// of two; from 16 KiB to 1 GiB. Only what is touched costs memory, but
    /// address space is taken for all.
    pub fn stack_size(mut self, bytes: usize) -> Goroutine {
        self.how.stack_size = Some(bytes);
        self
    }

    /// Gives it a thread to itself, which ends with it: for code that changes
    /// its thread (namespaces, credentials, signal masks), or relies on the
    /// thread's state, where Go has `runtime.LockOSThread`. What the goroutine
    /// starts runs elsewhere.
    pub fn own_thread(mut self) -> Goroutine {
        self.how.own_thread = true;
        self
    }

    fn start<T>(
        mut self,
        site: &'static Location<'static>,
        claimed: bool,
        body: impl Body + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        self.how.own_thread &= claimed;
        let start = |shared: &_| start(shared, self.name, site, self.how, claimed, body);
        match &self.shared {
            Some(shared) => start(shared),
            None => sched::with_runtime(|shared| shared.map(start))
                .unwrap_or(Err(SpawnError::NoRuntime)),
        }
    }

    fn try_start<T>(
        self,
        site: &'static Location<'static>,
        claimed: bool,
        body: impl Body + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        let ended = |shared: &Arc<Shared>| shared.has_exited();
        let has_ended = match &self.shared {
            Some(shared) => ended(shared),
            None => sched::with_runtime(|shared| shared.is_some_and(ended)),
        };
        if has_ended {
            return Err(SpawnError::ShutDown);
        }
        self.start(site, claimed, body)
    }

    /// Starts it to run `f`, as [`crate::go`] does. After the runtime's end it
    /// does not run, and its handle gives [`crate::Cancelled`].
    ///
    /// # Panics
    /// Where [`Goroutine::try_go`] gives another error than `ShutDown`.
    #[track_caller]
    pub fn go<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        started(self.start(Location::caller(), true, Once(Some(f))))
    }

    /// Starts it to run `f`. There is a stack for it from now until it ends.
    ///
    /// # Errors
    /// All that [`SpawnError`] lists; nothing was started, and `f` is dropped.
    #[track_caller]
    pub fn try_go<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, SpawnError> {
        self.try_start(Location::caller(), true, Once(Some(f)))
    }

    /// Starts it to run `step` until that is done, as [`crate::steps`] does. It
    /// may move between steps: [`own_thread`](Goroutine::own_thread) is for
    /// [`go`](Goroutine::go) alone.
    ///
    /// # Panics
    /// Where [`Goroutine::try_steps`] gives another error than `ShutDown`.
    #[track_caller]
    pub fn steps<S: Send + 'static>(
        self,
        state: S,
        step: impl FnMut(&mut S) -> Next + Send + 'static,
    ) -> JoinHandle<()> {
        started(self.start(Location::caller(), false, Steps(Some((state, step)))))
    }

    /// Starts it to run `step` until that is done. It has a stack only during a
    /// step: if there is none for one, it ends, and its handle's `join` gives
    /// [`SpawnError::Stack`] as the payload.
    ///
    /// # Errors
    /// All that [`SpawnError`] lists but `Stack`.
    #[track_caller]
    pub fn try_steps<S: Send + 'static>(
        self,
        state: S,
        step: impl FnMut(&mut S) -> Next + Send + 'static,
    ) -> Result<JoinHandle<()>, SpawnError> {
        self.try_start(Location::caller(), false, Steps(Some((state, step))))
    }
}
