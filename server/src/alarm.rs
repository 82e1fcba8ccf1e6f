//! Who is told when something happens that a flight recorder is kept for: a
//! handler that took too long, or that panicked.
//!
//! One for the process, as the trace's rings are. Nobody is told unless somebody
//! asked, and then a request costs two more looks at the clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use wirepath_runtime::Nanos;
use wirepath_runtime::clock;

type Told = Arc<dyn Fn(&'static str) + Send + Sync>;

/// Nobody wants to know.
const NEVER: u64 = u64::MAX;

static SLOW_NS: AtomicU64 = AtomicU64::new(NEVER);
static TOLD: RwLock<Option<Told>> = RwLock::new(None);

/// From now on `told` is called with what happened: `latency` when a handler
/// took longer than `slow`, `panic` when one panicked. On the thread of the
/// request: it is to be quick.
#[cfg(feature = "see")]
pub(crate) fn set(
    slow: Option<std::time::Duration>,
    told: impl Fn(&'static str) + Send + Sync + 'static,
) {
    let slow = slow.map_or(NEVER, |slow| {
        u64::try_from(slow.as_nanos()).unwrap_or(NEVER)
    });
    *TOLD.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(told));
    SLOW_NS.store(slow, Ordering::Relaxed);
}

/// Tells who wants to know.
pub(crate) fn raise(why: &'static str) {
    let told = TOLD.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(told) = told {
        told(why);
    }
}

/// When a handler begins, if it matters how long it takes.
pub(crate) fn start() -> Option<Nanos> {
    (SLOW_NS.load(Ordering::Relaxed) != NEVER).then(clock::now)
}

/// It ended.
pub(crate) fn end(started: Nanos) {
    let took = clock::now().since(started).as_nanos();
    if took > u128::from(SLOW_NS.load(Ordering::Relaxed)) {
        raise("latency");
    }
}
