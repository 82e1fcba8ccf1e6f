//! A runtime as its user holds it.

mod handle;

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wirepath_driver::clock;
use wirepath_stack::Stack;

use crate::metrics::pairs;
use crate::net::Network;
use crate::netpoll::Netpoll;
use crate::sched::simulated::Simulation;
use crate::sched::{self, Shared, Sizes};
use crate::see::{MOST_SCHEDTRACE_MS, SCHEDTRACE_VAR, Wishes};
use crate::simulation::Deadlock;
use crate::spawn;

pub use handle::Handle;

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
    /// Virtual time has one P, and another number was asked for.
    #[error("virtual time runs on one P, not on {0}: leave max_procs away")]
    VirtualProcs(usize),
    /// The number given to [`Builder::max_threads`] is less than two.
    #[error("{0} threads are too few: one runs goroutines, and another waits for the network")]
    MaxThreads(usize),
    /// The stack size given is not from 16 KiB to 1 GiB.
    #[error("a goroutine stack of {0} bytes is not possible: from 16 KiB to 1 GiB is")]
    StackSize(usize),
    /// `WIREPATH_SCHEDTRACE` is not a number of milliseconds from 1 to a day's.
    #[error(
        "{SCHEDTRACE_VAR}={0:?} is not a number of milliseconds from 1 to {MOST_SCHEDTRACE_MS}; \
         unset it or mend it"
    )]
    BadSchedtrace(String),
    /// A variable that is a switch is neither 0 nor 1: its name and value.
    #[error("{0}={1:?} is neither 0 nor 1; unset it or mend it")]
    BadSwitch(&'static str, String),
    /// The stack was chosen as the network, and there is none.
    #[error("a runtime without a stack cannot use one: give it with `Builder::stack`")]
    NoStack,
    /// A descriptor or a thread could not be had.
    #[error("the system refused a descriptor or a thread")]
    Io(#[from] io::Error),
}

/// [`Handle::set_max_procs`] was asked for a number that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this runtime can have from 1 to {limit} P's, not {asked}; build it with a higher procs_limit"
)]
pub struct ProcsError {
    asked: usize,
    limit: usize,
}

/// Threads at most, unless set.
const MOST_THREADS: usize = 10_000;

/// What a runtime is made of.
#[derive(Default)]
pub struct Builder {
    max_procs: Option<usize>,
    procs_limit: Option<usize>,
    max_threads: Option<usize>,
    stack: Option<Stack>,
    network: Option<Network>,
    stack_size: Option<usize>,
    max_goroutines: Option<usize>,
    schedtrace: Option<Duration>,
    leak_report: bool,
    virtual_time: Option<u64>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("max_procs", &self.max_procs)
            .field("stack", &self.stack.is_some())
            .field("network", &self.network)
            .field("stack_size", &self.stack_size)
            .field("max_goroutines", &self.max_goroutines)
            .field("schedtrace", &self.schedtrace)
            .field("leak_report", &self.leak_report)
            .field("virtual_time", &self.virtual_time)
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

    /// Up to how many [`Handle::set_max_procs`] may go later. Default: the
    /// cores of the machine, eight at least. Each costs about 5 KiB.
    #[must_use]
    pub fn procs_limit(mut self, n: usize) -> Builder {
        self.procs_limit = Some(n);
        self
    }

    /// Threads that run goroutines or are in [`crate::blocking`], at most; 10,000
    /// unless set, as in Go. With fewer than are wanted, goroutines wait for a
    /// thread (Go's program ends).
    #[must_use]
    pub fn max_threads(mut self, n: usize) -> Builder {
        self.max_threads = Some(n);
        self
    }

    /// The network stack that its P's poll.
    #[must_use]
    pub fn stack(mut self, stack: Stack) -> Builder {
        self.stack = Some(stack);
        self
    }

    /// The network of calls that name none, as
    /// [`TcpListener::bind`](crate::net::TcpListener::bind). Default: the stack
    /// if there is one, else the kernel's. The other stays at hand by its name.
    #[must_use]
    pub fn network(mut self, network: Network) -> Builder {
        self.network = Some(network);
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

    /// Prints a line about the scheduler to stderr every so often, as
    /// `WIREPATH_SCHEDTRACE` does, which goes before this; see
    /// [`SCHEDTRACE_VAR`].
    #[must_use]
    pub fn schedtrace(mut self, period: Duration) -> Builder {
        self.schedtrace = Some(period.max(Duration::from_millis(1)));
        self
    }

    /// Prints what goroutines are left when the runtime ends, before their
    /// waits are ended, to stderr; as `WIREPATH_LEAKS=1` does.
    #[must_use]
    pub fn leak_report(mut self, wanted: bool) -> Builder {
        self.leak_report = wanted;
        self
    }

    /// What is to be printed.
    fn wishes(&self) -> Result<Wishes, BuildError> {
        let env = Wishes::from_env()?;
        Ok(Wishes {
            schedtrace: env.schedtrace.or(self.schedtrace),
            leaks: env.leaks || self.leak_report,
            ..env
        })
    }

    /// Runs in virtual time, in an order that `seed` alone decides: see
    /// [`crate::simulation`]. There is one P then.
    #[must_use]
    pub fn virtual_time(mut self, seed: u64) -> Builder {
        self.virtual_time = Some(seed);
        self
    }

    /// Starts the runtime's first threads.
    ///
    /// # Errors
    /// A value out of range, or no descriptor or thread to be had.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let procs = match self.max_procs {
            None | Some(1) if self.virtual_time.is_some() => 1,
            Some(n) if self.virtual_time.is_some() => return Err(BuildError::VirtualProcs(n)),
            Some(n) if (1..=MOST_PROCS).contains(&n) => n,
            Some(n) => return Err(BuildError::MaxProcs(n)),
            None => default_procs(std::env::var_os(MAX_PROCS_VAR))?,
        };
        let sizes = self.sizes(procs)?;
        let wishes = self.wishes()?;
        crate::coro::install();
        let simulation = self.virtual_time.map(Simulation::new);
        let shared = Shared::new(sizes, self.netpoll()?, simulation)?;
        shared.see.set(wishes);
        let runtime = Runtime(Handle { shared });
        runtime.shared.start_first()?;
        if runtime.shared.simulation.is_none() {
            runtime.shared.start_sysmon()?;
        }
        Ok(runtime)
    }

    fn sizes(&self, procs: usize) -> Result<Sizes, BuildError> {
        let stack = self.stack_size.unwrap_or(DEFAULT_STACK);
        if !STACK_SIZES.contains(&stack) {
            return Err(BuildError::StackSize(stack));
        }
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let limit = self.procs_limit.unwrap_or_else(|| cores().max(8));
        if limit > MOST_PROCS {
            return Err(BuildError::MaxProcs(limit));
        }
        let threads = self.max_threads.unwrap_or(MOST_THREADS);
        if threads < 2 {
            return Err(BuildError::MaxThreads(threads));
        }
        Ok(Sizes {
            procs,
            most_procs: limit.max(procs),
            threads,
            stack,
            goroutines: self.max_goroutines,
        })
    }
}

impl Builder {
    fn netpoll(self) -> Result<Netpoll, BuildError> {
        if self.network == Some(Network::Stack) && self.stack.is_none() {
            return Err(BuildError::NoStack);
        }
        let netpoll = Netpoll::new(self.stack)?;
        let network = self.network.unwrap_or(netpoll.network());
        Ok(netpoll.with_network(network))
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
///
/// What can be done with a [`Handle`] can be done with it.
pub struct Runtime(Handle);

impl Deref for Runtime {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("procs", &self.shared.procs())
            .finish_non_exhaustive()
    }
}

/// Goroutines that a report of a shutdown lists.
pub(crate) const SHUTDOWN_DUMP: usize = 100;

/// What [`Runtime::shutdown`] left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Goroutines that did not end by the deadline. What is on their stacks is
    /// never dropped.
    pub leaked: usize,
    /// The first hundred of them, as [`Handle::dump`] lists them.
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
    /// The payload of its panic; in virtual time a
    /// [`Deadlock`](crate::simulation::Deadlock) when that ended its wait.
    #[track_caller]
    pub fn run<T: Send + 'static>(
        &self,
        main: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::Result<T> {
        let name = Some("main".into());
        // Counted before it can end: see `check_deadlock`.
        self.shared.in_run.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::downgrade(&self.shared);
        let attended = move || {
            let _attendance = shared.upgrade().and_then(|shared| shared.attend());
            main()
        };
        let result = spawn::go_in(&self.shared, name, Location::caller(), attended).outcome();
        self.shared.in_run.fetch_sub(1, Ordering::SeqCst);
        match self.simulation().and_then(Simulation::deadlock) {
            Some(list) => Err(Box::new(Deadlock(list))),
            None => result,
        }
    }

    pub(crate) fn simulation(&self) -> Option<&Simulation> {
        self.shared.simulation.as_ref()
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        self.0.clone()
    }

    /// Ends the waits of all goroutines with `Cancelled`, waits until they and
    /// the threads have ended, `deadline` at most, and tells what did not.
    pub fn shutdown(self, deadline: Duration) -> ShutdownReport {
        self.stop(deadline)
    }

    fn report_leaks(&self) {
        if self.shared.see.wishes().leaks
            && let Some(report) = crate::dump::left(&self.shared)
        {
            eprint!("{report}");
        }
    }

    fn stop(&self, deadline: Duration) -> ShutdownReport {
        let until = clock::now() + deadline;
        self.report_leaks();
        self.shared.cancel();
        self.shared.wait_ended(until);
        let leaked_goroutines = crate::dump::dump(&self.shared, SHUTDOWN_DUMP);
        let leaked = self.shared.registry.len();
        self.shared.exit();
        let stuck_threads = self.shared.join_threads(until);
        self.shared.give_up();
        ShutdownReport {
            leaked,
            leaked_goroutines,
            stuck_threads,
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
    sched::current_runtime().map_or_else(Vec::new, |shared| pairs(&shared))
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
