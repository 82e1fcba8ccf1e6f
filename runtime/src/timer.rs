//! Timers: one heap for each P.
//!
//! An entry is never taken out before its time. Whoever sets a timer keeps a
//! sequence number, and an entry whose number is not the current one does
//! nothing when it fires; callers keep at most one entry that counts each.
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

/// A P's timers.
pub(crate) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<Entry>>>,
    /// When the first is due, nanoseconds; `u64::MAX` without any.
    next: AtomicU64,
}

/// Entries fired in one go, so that a heap full of due timers does not keep a
/// P from its goroutines.
const BATCH: usize = 64;

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers {
            heap: Mutex::default(),
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
        heap.len()
    }

    pub(crate) fn add(&self, when: Nanos, seq: u64, target: Arc<dyn TimerTarget>) {
        let mut heap = self.heap.lock().expect("nothing panics under this lock");
        heap.push(Reverse(Entry { when, seq, target }));
        self.note_next(&heap);
    }

    fn note_next(&self, heap: &BinaryHeap<Reverse<Entry>>) {
        let next = heap.peek().map_or(u64::MAX, |first| first.0.when.0);
        self.next.store(next, Ordering::SeqCst);
    }

    /// Moves all entries to another heap.
    pub(crate) fn move_to(&self, other: &Timers) {
        let mut heap = self.heap.lock().expect("nothing panics under this lock");
        let mut moved = std::mem::take(&mut *heap);
        self.note_next(&heap);
        drop(heap);
        if moved.is_empty() {
            return;
        }
        let mut heap = other.heap.lock().expect("nothing panics under this lock");
        heap.append(&mut moved);
        other.note_next(&heap);
    }

    /// Fires what is due at `now`. True: something was.
    pub(crate) fn fire(&self, now: Nanos, woken: &mut Vec<Parker>) -> bool {
        let mut any = false;
        while self.next() <= now {
            let mut due = Vec::new();
            let mut heap = self.heap.lock().expect("nothing panics under this lock");
            while due.len() < BATCH && heap.peek().is_some_and(|first| first.0.when <= now) {
                due.extend(heap.pop());
            }
            self.note_next(&heap);
            drop(heap);
            for Reverse(entry) in due {
                entry.target.fire(now, entry.seq, woken);
                any = true;
            }
        }
        any
    }
}
