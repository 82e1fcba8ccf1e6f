//! How often each pattern's handler answered.
//!
//! The counts are the pattern's own, so that a request costs no lookup; who
//! shows them finds the patterns of all muxes of the process in one list, which
//! is touched at registration only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::StatusCode;

use super::Pattern;

/// Answers of one pattern's handler.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// It answered.
    pub fn count(&self, status: StatusCode) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if status.is_server_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers, and those with 5xx.
    #[cfg(feature = "see")]
    pub fn get(&self) -> (u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.answered), get(&self.failed))
    }
}

/// The patterns of all muxes that there are.
static PATTERNS: Mutex<Patterns> = Mutex::new(Patterns {
    all: Vec::new(),
    tidy_at: 64,
});

struct Patterns {
    all: Vec<Weak<Pattern>>,
    /// How many there are when those that are gone are next taken out.
    tidy_at: usize,
}

fn patterns() -> MutexGuard<'static, Patterns> {
    PATTERNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a pattern into the list.
pub(super) fn list(pattern: &Arc<Pattern>) {
    let mut patterns = patterns();
    if patterns.all.len() >= patterns.tidy_at {
        patterns.all.retain(|pattern| pattern.strong_count() > 0);
        patterns.tidy_at = (patterns.all.len() * 2).max(64);
    }
    patterns.all.push(Arc::downgrade(pattern));
}

/// Those of them that answered something.
#[cfg(feature = "see")]
pub(crate) fn answered() -> Vec<Arc<Pattern>> {
    let all = patterns();
    let alive = all.all.iter().filter_map(Weak::upgrade);
    alive.filter(|pattern| pattern.counts.get().0 > 0).collect()
}
