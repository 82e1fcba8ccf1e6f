//! A runtime as all may hold it.

use std::panic::Location;
use std::sync::Arc;

use super::ProcsError;
use crate::long_runs::LongRun;
use crate::metrics::{self, Metric};
use crate::sched::{self, Shared};
use crate::{Goroutine, JoinHandle, Next, spawn};

/// Starts goroutines in a runtime from anywhere; clones share it.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
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

    pub(crate) fn of(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
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

    /// Changes how many goroutines run at once, as Go's `runtime.GOMAXPROCS`,
    /// without stopping anything: a P too many goes when the goroutine on it
    /// comes back to the scheduler. Returns what it was. [`crate::num_procs`]
    /// tells what it is.
    ///
    /// # Errors
    /// A number beyond what the runtime was built for
    /// ([`Builder::procs_limit`]), or 0.
    pub fn set_max_procs(&self, n: usize) -> Result<usize, ProcsError> {
        let limit = match self.shared.simulation {
            Some(_) => 1,
            None => self.shared.ps.len() / 2,
        };
        if !(1..=limit).contains(&n) {
            return Err(ProcsError { asked: n, limit });
        }
        Ok(self.shared.set_procs(n))
    }

    /// Short names and values of what the runtime counts, for tables.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        metrics::pairs(&self.shared)
    }

    /// What the runtime counts, under the names of Go's `runtime/metrics` and
    /// with its meanings.
    pub fn read_metrics(&self) -> Vec<Metric> {
        metrics::read(&self.shared)
    }

    /// The goroutines that kept their threads for more than 10 ms at a time, by
    /// where they were started; the worst first, 64 at most.
    pub fn long_runs(&self) -> Vec<LongRun> {
        self.shared.long_runs.list()
    }

    /// The goroutines, by number, in the form of Go's dumps: `most` of them,
    /// and how many more there are. Each with its state or what it waits for,
    /// how many minutes, the thread that it is bound to, its name, the
    /// connection that it waits for, and where it was started.
    ///
    /// May be called from any thread, also when the scheduler is stuck.
    pub fn dump(&self, most: usize) -> String {
        crate::dump::dump(&self.shared, most)
    }
}
