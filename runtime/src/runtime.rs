//! A runtime as its user holds it.

use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wirepath_driver::clock;
use wirepath_stack::Stack;

use crate::netpoll::Netpoll;
use crate::sched::state::Phase;
use crate::sched::{self, Shared};
use crate::{Goroutine, JoinHandle, Next, spawn};

/// The environment variable that says how many P's there are.
pub const MAX_PROCS_VAR: &str = "WIREPATH_MAXPROCS";

/// More P's than this are refused: an M's number has 16 bits in the trace, and
/// compensation may double them.
const MOST_PROCS: usize = 4096;

/// Why a runtime could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// `WIREPATH_MAXPROCS` is not a number from 1 to 4096.
    #[error("{MAX_PROCS_VAR}={0:?} is not a number from 1 to {MOST_PROCS}; unset it or mend it")]
    BadMaxProcs(String),
    /// The number given to [`Builder::max_procs`] is not from 1 to 4096.
    #[error("{0} is no number of P's: it must be from 1 to {MOST_PROCS}")]
    MaxProcs(usize),
    /// The stack size given is not from 16 KiB to 1 GiB.
    #[error("a goroutine stack of {0} bytes is not possible: from 16 KiB to 1 GiB is")]
    StackSize(usize),
    /// A descriptor or a thread could not be had.
    #[error("the system refused a descriptor or a thread")]
    Io(#[from] io::Error),
}

/// What a runtime is made of.
#[derive(Default)]
pub struct Builder {
    max_procs: Option<usize>,
    stack: Option<Stack>,
    stack_size: Option<usize>,
    max_goroutines: Option<usize>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("max_procs", &self.max_procs)
            .field("stack", &self.stack.is_some())
            .field("stack_size", &self.stack_size)
            .field("max_goroutines", &self.max_goroutines)
            .finish()
    }
}

const DEFAULT_STACK: usize = 256 * 1024;

/// Sizes that a goroutine's stack may have.
pub(crate) const STACK_SIZES: std::ops::RangeInclusive<usize> = 16 << 10..=1 << 30;

impl Builder {
    /// How many goroutines may run at once. Default: `WIREPATH_MAXPROCS`, or
    /// as many as there are cores that the process may use (its affinity and
    /// its cgroup's quota counted).
    #[must_use]
    pub fn max_procs(mut self, n: usize) -> Builder {
        self.max_procs = Some(n);
        self
    }

    /// The network stack that its P's poll.
    #[must_use]
    pub fn stack(mut self, stack: Stack) -> Builder {
        self.stack = Some(stack);
        self
    }

    /// The limit to which a goroutine's stack may grow, in bytes; 256 KiB
    /// unless set. Only what is touched costs memory.
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// How many goroutines may live at once; as many as memory allows unless
    /// set. Starting one more is [`crate::SpawnError::Limit`].
    #[must_use]
    pub fn max_goroutines(mut self, n: usize) -> Builder {
        self.max_goroutines = Some(n);
        self
    }

    /// Starts the runtime's first threads.
    ///
    /// # Errors
    /// A value out of range, or no descriptor or thread to be had.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let procs = match self.max_procs {
            Some(n) if (1..=MOST_PROCS).contains(&n) => n,
            Some(n) => return Err(BuildError::MaxProcs(n)),
            None => default_procs(std::env::var_os(MAX_PROCS_VAR))?,
        };
        let stack_size = self.stack_size.unwrap_or(DEFAULT_STACK);
        if !STACK_SIZES.contains(&stack_size) {
            return Err(BuildError::StackSize(stack_size));
        }
        crate::coro::install();
        let shared = Shared::new(
            procs,
            stack_size,
            self.max_goroutines,
            Netpoll::new(self.stack),
        )?;
        let runtime = Runtime { shared };
        runtime.shared.start_first()?;
        runtime.shared.start_sysmon()?;
        Ok(runtime)
    }
}

fn default_procs(var: Option<std::ffi::OsString>) -> Result<usize, BuildError> {
    let Some(value) = var else {
        return Ok(std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_PROCS)));
    };
    let number = value.to_str().and_then(|v| v.trim().parse().ok());
    number
        .filter(|n| (1..=MOST_PROCS).contains(n))
        .ok_or_else(|| BuildError::BadMaxProcs(value.to_string_lossy().into_owned()))
}

/// An M:N runtime. Dropping it shuts it down without waiting.
pub struct Runtime {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("procs", &self.shared.procs())
            .finish_non_exhaustive()
    }
}

/// Starts goroutines in a runtime from anywhere; clones share it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// The runtime of the goroutine that calls; None outside of any.
    pub fn current() -> Option<Handle> {
        sched::current_runtime().map(|shared| Handle { shared })
    }

    /// As [`crate::go`].
    #[track_caller]
    pub fn go<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        spawn::go_in(&self.shared, None, Location::caller(), f)
    }

    /// As [`crate::goroutine`].
    pub fn goroutine(&self) -> Goroutine {
        Goroutine::new(Some(self.shared.clone()))
    }

    /// The runtime's metrics.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        collect(&self.shared)
    }
}

/// What [`Runtime::shutdown`] left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Goroutines that did not end by the deadline. What is on their stacks is
    /// never dropped.
    pub leaked: usize,
    /// A line for each of them, a hundred at most.
    pub leaked_goroutines: String,
    /// Threads that were still in a goroutine or in `blocking`.
    pub stuck_threads: usize,
}

impl Runtime {
    /// A builder with the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs `main` as a goroutine; the calling thread waits for its end. Other
    /// goroutines go on after that.
    ///
    /// # Errors
    /// The payload of its panic.
    #[track_caller]
    pub fn run<T: Send + 'static>(
        &self,
        main: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::Result<T> {
        let name = Some("main".into());
        // Counted before it can end: see `check_deadlock`.
        self.shared.in_run.fetch_add(1, Ordering::SeqCst);
        let result = spawn::go_in(&self.shared, name, Location::caller(), main).join();
        self.shared.in_run.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// As [`crate::go`], from any thread.
    #[track_caller]
    pub fn go<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        spawn::go_in(&self.shared, None, Location::caller(), f)
    }

    /// As [`crate::steps`], from any thread.
    #[track_caller]
    pub fn steps<S: Send + 'static>(
        &self,
        state: S,
        step: impl FnMut(&mut S) -> Next + Send + 'static,
    ) -> JoinHandle<()> {
        spawn::steps_in(&self.shared, None, Location::caller(), state, step)
    }

    /// As [`crate::goroutine`], from any thread.
    pub fn goroutine(&self) -> Goroutine {
        Goroutine::new(Some(self.shared.clone()))
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
        }
    }

    /// Name and value of each of the runtime's metrics.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        collect(&self.shared)
    }

    /// A line for each goroutine, a hundred at most.
    pub fn dump(&self) -> String {
        crate::dump::dump(&self.shared)
    }

    /// Ends the waits of all goroutines with `Cancelled`, waits until they and
    /// the threads have ended, `deadline` at most, and tells what did not.
    pub fn shutdown(self, deadline: Duration) -> ShutdownReport {
        self.stop(deadline)
    }

    fn stop(&self, deadline: Duration) -> ShutdownReport {
        let until = clock::now() + deadline;
        self.shared.cancel();
        self.shared.wait_ended(until);
        let leaked_goroutines = crate::dump::dump(&self.shared);
        let leaked = self.shared.registry.len();
        self.shared.exit();
        ShutdownReport {
            leaked,
            leaked_goroutines,
            stuck_threads: self.shared.join_threads(until),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.shared.has_exited() {
            self.stop(Duration::ZERO);
        }
    }
}

/// Metrics of the calling goroutine's runtime; none outside of one.
pub fn metrics() -> Vec<(&'static str, u64)> {
    sched::current_runtime().map_or_else(Vec::new, |shared| collect(&shared))
}

fn collect(shared: &Shared) -> Vec<(&'static str, u64)> {
    let number = |n: usize| n as u64;
    let sum = |f: fn(&crate::p::P) -> &AtomicU64| -> u64 {
        shared.ps.iter().map(|p| f(p).load(Ordering::Relaxed)).sum()
    };
    let live = shared.live();
    let in_phase = |phase| number(live.iter().filter(|g| g.state.phase() == phase).count());
    vec![
        ("goroutines_created", shared.created()),
        ("goroutines_ended", shared.created() - number(live.len())),
        ("goroutines_live", number(live.len())),
        ("goroutines_runnable", in_phase(Phase::Runnable)),
        ("goroutines_running", in_phase(Phase::Running)),
        ("goroutines_parked", in_phase(Phase::Parked)),
        ("goroutines_bound_parked", number(shared.bound())),
        ("procs", number(shared.procs())),
        ("threads", number(shared.m_count())),
        (
            "threads_blocking",
            number(shared.in_blocking.load(Ordering::Relaxed)),
        ),
        ("global_queue", number(shared.global.len())),
        ("steals", sum(|p| &p.steals)),
        ("parks", sum(|p| &p.parks)),
        ("polls", sum(|p| &p.polls)),
        ("handoffs", sum(|p| &p.handoffs)),
    ]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bad_number_of_procs_is_refused_with_words() {
        for bad in ["", "0", "-1", "many", "4097", "1e3"] {
            let error = default_procs(Some(bad.into())).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        assert_eq!(default_procs(Some(" 3 ".into())).unwrap(), 3);
        assert!(default_procs(None).unwrap() >= 1);
        assert!(Runtime::builder().max_procs(0).build().is_err());
        assert!(Runtime::builder().stack_size(1).build().is_err());
    }
}
