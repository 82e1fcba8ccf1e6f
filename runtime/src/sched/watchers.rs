//! Who watches a runtime: threads that wake no goroutine, and what is to be done
//! when all goroutines wait for ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::Shared;
use crate::Handle;

type LastWords = dyn Fn(&Handle) + Send + Sync;

/// What a runtime knows of those that watch it.
#[derive(Default)]
pub(crate) struct Watchers {
    threads: AtomicUsize,
    on_deadlock: OnceLock<Box<LastWords>>,
}

impl Watchers {
    /// Threads of the process that do not count as ones that may wake somebody.
    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::SeqCst)
    }

    /// The process ends now, because all goroutines wait for ever.
    pub(super) fn deadlocked(&self, shared: Option<Arc<Shared>>) {
        if let (Some(shared), Some(last_words)) = (shared, self.on_deadlock.get()) {
            last_words(&Handle::of(shared));
        }
    }
}

/// A thread that watches, until it is dropped ([`Handle::watching`]).
pub struct Watching(Arc<Shared>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.threads.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handle {
    /// Says that the calling thread only watches: it wakes no goroutine, so it is
    /// no reason to think that one that waits may be woken. Without this a
    /// deadlock is not told while such a thread lives.
    #[must_use]
    pub fn watching(&self) -> Watching {
        let shared = self.shared().clone();
        shared.watchers.threads.fetch_add(1, Ordering::SeqCst);
        Watching(shared)
    }

    /// Has `f` called when all goroutines wait and nothing can wake one: after
    /// they were listed, and before the process ends. Only the first such `f` of
    /// a runtime counts; false if there was one.
    pub fn on_deadlock(&self, f: impl Fn(&Handle) + Send + Sync + 'static) -> bool {
        self.shared().watchers.on_deadlock.set(Box::new(f)).is_ok()
    }
}
