//! Timers: one heap for each P.
//!
//! Nobody takes an entry out of the middle. Whoever sets a timer keeps a
//! sequence number, and an entry whose number is not the current one does
//! nothing when it fires; callers keep at most one entry that counts each.
//! Entries that nobody waits for any more are swept out when a heap has doubled
//! since it was last swept, so it holds at most twice what counts, and a sweep
//! costs each entry that was added a constant.
//!
//! The heap's lock is held by adders and by whoever fires what is due, which
//! is the P itself, a P that found nothing else to do, or sysmon. Targets are
//! called after it is released.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wirepath_driver::Nanos;

use crate::park::Parker;

/// Something that waits for a time.
pub(crate) trait TimerTarget: Send + Sync {
    /// The time of entry `seq` has come. Whom it wakes goes into `woken`.
    fn fire(self: Arc<Self>, now: Nanos, seq: u64, woken: &mut Vec<Parker>);

    /// Whether nobody waits for entry `seq` any more: then it never fires, and
    /// the target counts on it no longer. Called under the heap's lock.
    fn is_stale(&self, _seq: u64) -> bool {
        false
    }
}

/// Adds an entry to the heap of the current P, or of another when a plain
/// thread calls.
pub(crate) fn add_timer(when: Nanos, seq: u64, target: Arc<dyn TimerTarget>) {
    if let Some(shared) = crate::sched::runtime_or_last() {
        shared.add_timer(when, seq, target);
    }
}

struct Entry {
    when: Nanos,
    seq: u64,
    target: Arc<dyn TimerTarget>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.when == other.when
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.when.cmp(&other.when)
    }
}

struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    /// Swept when it has so many entries.
    sweep_at: usize,
}

impl Heap {
    /// Takes the stale entries out once there may be many; to be dropped after
    /// the lock is released, since their targets are a user's.
    fn sweep(&mut self) -> Vec<Reverse<Entry>> {
        if self.entries.len() < self.sweep_at {
            return Vec::new();
        }
        let entries = std::mem::take(&mut self.entries).into_vec();
        let (stale, live): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| entry.0.target.is_stale(entry.0.seq));
        self.sweep_at = (2 * live.len()).max(SWEEP_AT);
        self.entries = live.into();
        stale
    }
}

/// Entries from which on it is worth to look for stale ones.
const SWEEP_AT: usize = 256;

/// A P's timers.
pub(crate) struct Timers {
    heap: Mutex<Heap>,
    /// When the first is due, nanoseconds; `u64::MAX` without any.
    next: AtomicU64,
}

/// Entries fired in one go, so that a heap full of due timers does not keep a
/// P from its goroutines.
const BATCH: usize = 64;

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            heap: Mutex::new(Heap {
                entries: BinaryHeap::new(),
                sweep_at: SWEEP_AT,
            }),
            next: AtomicU64::new(u64::MAX),
        }
    }

    /// When the first is due; [`Nanos::MAX`] without any.
    pub(crate) fn next(&self) -> Nanos {
        Nanos(self.next.load(Ordering::SeqCst))
    }

    /// Entries, those that count no more among them.
    pub(crate) fn len(&self) -> usize {
        let heap = self.heap.lock().expect("nothing panics under this lock");
        heap.entries.len()
    }

    pub(crate) fn add(&self, when: Nanos, seq: u64, target: Arc<dyn TimerTarget>) {
        let mut heap = self.heap.lock().expect("nothing panics under this lock");
        let stale = heap.sweep();
        heap.entries.push(Reverse(Entry { when, seq, target }));
        self.note_next(&heap.entries);
        drop(heap);
        drop(stale);
    }

    fn note_next(&self, heap: &BinaryHeap<Reverse<Entry>>) {
        let next = heap.peek().map_or(u64::MAX, |first| first.0.when.0);
        self.next.store(next, Ordering::SeqCst);
    }

    /// Moves all entries to another heap.
    pub(crate) fn move_to(&self, other: &Timers) {
        let mut heap = self.heap.lock().expect("nothing panics under this lock");
        let mut moved = std::mem::take(&mut heap.entries);
        self.note_next(&heap.entries);
        drop(heap);
        if moved.is_empty() {
            return;
        }
        let mut heap = other.heap.lock().expect("nothing panics under this lock");
        heap.entries.append(&mut moved);
        other.note_next(&heap.entries);
    }

    /// Fires what is due at `now`. True: something was.
    pub(crate) fn fire(&self, now: Nanos, woken: &mut Vec<Parker>) -> bool {
        let mut any = false;
        while self.next() <= now {
            let mut due = Vec::new();
            let mut heap = self.heap.lock().expect("nothing panics under this lock");
            let entries = &mut heap.entries;
            while due.len() < BATCH && entries.peek().is_some_and(|first| first.0.when <= now) {
                due.extend(entries.pop());
            }
            self.note_next(entries);
            drop(heap);
            for Reverse(entry) in due {
                entry.target.fire(now, entry.seq, woken);
                any = true;
            }
        }
        any
    }
}
