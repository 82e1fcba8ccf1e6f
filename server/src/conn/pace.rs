//! How slow a client may be with a body or a response.
//!
//! A direction has a credit of time, which waiting for the client uses up and
//! every byte that moves gives back, up to the grace. Without a wait there is no
//! look at the clock. What a handler takes for its own work costs a client
//! nothing.
//!
//! A socket whose buffer was full is said to be writable only when a good part
//! of it is free again, which at a slow but honest client may take minutes. So
//! a wait is cut into [`PERIOD`]s, after each of which a call takes what room
//! there is.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wirepath_runtime::{Nanos, now};

use crate::service::nanos;

/// How often a wait looks for progress.
const PERIOD: Duration = Duration::from_secs(1);
/// No deadline.
const NEVER: u64 = u64::MAX;

/// The least rate at which a client must send a body, or take a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes a second; at least 1.
    pub bytes_per_second: u32,
    /// How long a client may move nothing at all, at the start and whenever it
    /// has moved enough since.
    pub grace: Duration,
}

impl MinRate {
    /// What `bytes` are worth, in nanoseconds.
    fn worth(self, bytes: usize) -> u64 {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn grace(self) -> u64 {
        nanos(self.grace)
    }
}

/// Why a call gave up on a client: within the `TimedOut` error of a read of a
/// body or a write of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client moved less than {} bytes a second, after {} s of grace; see `ServerBuilder` to allow for it",
    .0.bytes_per_second, .0.grace.as_secs_f32()
)]
pub struct TooSlow(pub MinRate);

/// One direction of a connection: what is left of a client's credit, and until
/// when calls may take anyway.
pub(super) struct Pace {
    rate: Option<MinRate>,
    credit: AtomicU64,
    deadline: AtomicU64,
}

impl Pace {
    pub fn new(rate: Option<MinRate>) -> Pace {
        let pace = Pace {
            rate,
            credit: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
        };
        pace.begin();
        pace
    }

    /// A body or a response begins.
    pub fn begin(&self) {
        if let Some(rate) = self.rate {
            self.credit.store(rate.grace(), Ordering::Relaxed);
        }
    }

    /// Notes the deadline that was set.
    pub fn note_deadline(&self, at: Option<Nanos>) {
        self.deadline
            .store(at.map_or(NEVER, |at| at.0), Ordering::Relaxed);
    }

    /// Runs `call`, which waits for the client until a deadline that `set`
    /// sets; again while the client is not too slow.
    ///
    /// # Errors
    ///
    /// [`TooSlow`] in `TimedOut`; the call's.
    pub fn run(
        &self,
        set: impl Fn(Option<Nanos>),
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(rate) = self.rate else {
            return call();
        };
        loop {
            let credit = self.credit.load(Ordering::Relaxed);
            let started = now();
            let until = started + PERIOD.min(Duration::from_nanos(credit));
            let deadline = self.deadline.load(Ordering::Relaxed);
            // Who was given up on is not so again while the connection ends.
            if deadline <= until.0 || credit == 0 {
                return call();
            }
            set(Some(until));
            let done = call();
            // Another may have set it meanwhile.
            let deadline = self.deadline.load(Ordering::Relaxed);
            set((deadline != NEVER).then_some(Nanos(deadline)));
            let gained = rate.worth(*done.as_ref().unwrap_or(&0));
            let left = credit.saturating_sub(now().0.saturating_sub(started.0));
            let left = left.saturating_add(gained).min(rate.grace());
            self.credit.store(left, Ordering::Relaxed);
            match done {
                Err(e) if e.kind() == io::ErrorKind::TimedOut && now() >= until => {}
                done => return done,
            }
            if left == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, TooSlow(rate)));
            }
        }
    }
}

/// Whether an error says that the client was too slow.
pub(super) fn is_too_slow(e: &io::Error) -> bool {
    matches!(e.get_ref(), Some(e) if e.is::<TooSlow>())
}
