//! Virtual time: a runtime whose clock jumps, and whose order a seed decides.
//!
//! [`simulate`] runs a function as the main goroutine of a runtime of its own,
//! as Go's `testing/synctest` does in a bubble. Its clock stands while any
//! goroutine can run; once all wait, and no frame is on its way in the
//! runtime's network stack, it jumps to the next timer of a goroutine or event
//! of the stack. A test of a time-out of an hour takes no time, and nothing in
//! it depends on how busy the machine is.
//!
//! One goroutine runs at a time, up to where it waits or yields, and which of
//! those that can run is next is drawn from the seed. So a seed gives one
//! interleaving, each time the same ([`Simulated::fingerprint`] tells), and
//! many seeds go through many.
//!
//! ```
//! use std::time::Duration;
//! use wirepath_runtime::{chan, go, simulation, sleep};
//!
//! let hour = Duration::from_secs(3_600);
//! let run = simulation::simulate(1, move || {
//!     let (send, recv) = chan::channel(0);
//!     go(move || {
//!         sleep(hour);
//!         let _ = send.send("late");
//!     });
//!     recv.recv().unwrap()
//! })
//! .unwrap();
//! assert_eq!((run.value, run.elapsed), ("late", hour));
//! ```
//!
//! # What it takes to be the same each time
//!
//! Nothing from outside: no plain thread that sends into a channel, closes a
//! stream or sets a deadline (it works, at a moment that no seed decides), no
//! real clock, no `HashMap` with random keys whose order matters. A peer of the
//! network stack is a goroutine too, with the other end of a
//! [`cable`](wirepath_driver::cable) in its hands. The stack's own secrets
//! (initial sequence numbers, hash keys) are random unless they are given
//! (`wirepath_stack::Config::given`): they show in frames, not in times.
//!
//! # Differences from a runtime in real time
//!
//! [`crate::blocking`] keeps the only P: the clock stands meanwhile. A
//! goroutine that yields in a loop until a time has come never sees it come, as
//! in Go. A goroutine that waits while it unwinds from a panic blocks the only
//! thread. When all wait and there is no timer, that is a deadlock, whether
//! they wait for each other or for the network.
//!
//! # Differences from Go
//!
//! Every wait counts as durable, also one for a lock or the network.

use std::any::Any;
use std::time::Duration;

use crate::park::{Parker, WaitReason, Wake, park};
use crate::sched::simulated::START;
use crate::{BuildError, Builder, Runtime, sched, spawn};

/// All goroutines of a runtime in virtual time waited, and there was no timer
/// nor event of the network that could end it. Has the list of them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("all goroutines are asleep - deadlock!\n{0}")]
pub struct Deadlock(pub String);

/// Why a simulation gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The runtime could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The main goroutine panicked, with this payload.
    #[error("the main goroutine panicked: {}", text(.0.as_ref()))]
    Panicked(Box<dyn Any + Send>),
    /// All goroutines waited for ever.
    #[error(transparent)]
    Deadlock(#[from] Deadlock),
    /// The main goroutine returned, and others, in this list, wait for ever, or
    /// for a time that does not come since the clock stands then. Go's
    /// `synctest.Test` panics here.
    #[error("main goroutine has exited but blocked goroutines remain:\n{0}")]
    Remain(String),
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let text = owned.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("(no text)")
}

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Simulated<T> {
    /// What the main goroutine returned.
    pub value: T,
    /// How much virtual time passed.
    pub elapsed: Duration,
    /// How often a goroutine was picked to run.
    pub runs: u64,
    /// Depends on which goroutine ran when, each time: the same for the same
    /// seed and program.
    pub fingerprint: u64,
}

/// Runs `main` as the main goroutine of a new runtime in virtual time, and
/// waits for the end of all goroutines.
///
/// # Errors
/// See [`Failure`].
#[track_caller]
pub fn simulate<T: Send + 'static>(
    seed: u64,
    main: impl FnOnce() -> T + Send + 'static,
) -> Result<Simulated<T>, Failure> {
    Runtime::builder().simulate(seed, main)
}

impl Builder {
    /// As [`simulate`], in a runtime with a stack or otherwise not the default.
    ///
    /// # Errors
    /// See [`Failure`].
    #[track_caller]
    pub fn simulate<T: Send + 'static>(
        self,
        seed: u64,
        main: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Simulated<T>, Failure> {
        let runtime = self.virtual_time(seed).build()?;
        let value = runtime
            .run(main)
            .map_err(|payload| match payload.downcast() {
                Ok(deadlock) => Failure::Deadlock(*deadlock),
                Err(payload) => Failure::Panicked(payload),
            })?;
        runtime.settled(value)
    }
}

impl Runtime {
    /// The result of a simulation whose main goroutine has returned.
    fn settled<T>(&self, value: T) -> Result<Simulated<T>, Failure> {
        let simulation = self.simulation().expect("built in virtual time");
        simulation.wait_for_rest();
        let remain = self.dump(crate::runtime::SHUTDOWN_DUMP);
        if !remain.is_empty() {
            return Err(Failure::Remain(remain));
        }
        let (runs, fingerprint) = simulation.runs();
        Ok(Simulated {
            value,
            elapsed: simulation.now().since(START),
            runs,
            fingerprint,
        })
    }
}

/// Waits until every other goroutine waits, or has ended, and no frame is on
/// its way: Go's `synctest.Wait`. The clock does not move meanwhile.
///
/// A goroutine whose runtime shuts down meanwhile ends here, by unwinding.
///
/// # Panics
/// Outside of virtual time, and when another goroutine waits here already, as
/// in Go.
pub fn wait() {
    let shared = sched::current_runtime().expect("simulation::wait is for goroutines");
    let simulation = shared.simulation.as_ref();
    let simulation = simulation.expect("simulation::wait needs a runtime in virtual time");
    let me = Parker::current();
    assert!(
        simulation.set_waiter(me.clone()),
        "simulation::wait: another goroutine waits for the others already"
    );
    while simulation.is_waiter(&me) {
        // A token that was left by an earlier wait ends a park early.
        if park(WaitReason::SynctestWait, None) == Wake::Cancelled && simulation.is_waiter(&me) {
            simulation.clear_waiter();
            drop(me);
            spawn::unwind_cancelled();
        }
    }
}
