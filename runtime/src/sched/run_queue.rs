//! A P's run queue: a ring that its owner pushes to and pops from, and from
//! which any other P may take half; and the slot for what runs next.
//!
//! This is the queue of Go's `runqput`, `runqget` and `runqgrab`. `head` is
//! moved by compare-and-swap by owner and thieves alike, `tail` by the owner
//! alone. A thief copies slots first and owns them only when its swap of
//! `head` succeeds; the owner may have overwritten a slot by then, but only
//! after somebody moved `head`, so that the swap fails.
//!
//! Items are `Arc`s turned into pointers: a queue owns one count of each.

use std::sync::Arc;

use crate::sync_shim::{AtomicPtr, AtomicU32, Ordering};

/// A ring of `N` (a power of two) and `runnext`.
pub(crate) struct RunQueue<T, const N: usize> {
    head: AtomicU32,
    tail: AtomicU32,
    slots: [AtomicPtr<T>; N],
    next: AtomicPtr<T>,
}

fn raw<T>(item: Arc<T>) -> *mut T {
    Arc::into_raw(item).cast_mut()
}

/// # Safety
/// `item` came from [`raw`], and the caller has just won it from its slot.
unsafe fn owned<T>(item: *mut T) -> Arc<T> {
    // SAFETY: as the caller promises, the count that `raw` gave away is ours.
    unsafe { Arc::from_raw(item) }
}

impl<T, const N: usize> RunQueue<T, N> {
    const SIZE: u32 = {
        assert!(N.is_power_of_two() && N <= 1 << 16);
        N as u32
    };

    pub(crate) fn new() -> Self {
        RunQueue {
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            slots: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn slot(&self, at: u32) -> &AtomicPtr<T> {
        &self.slots[at as usize & (N - 1)]
    }

    /// Items in the ring now, as far as another thread can tell.
    pub(crate) fn len(&self) -> usize {
        let head = self.head.load(Ordering::SeqCst);
        let tail = self.tail.load(Ordering::SeqCst);
        let len = tail.wrapping_sub(head) as usize;
        // A head that overtook the tail just read: it was empty.
        if len > N { 0 } else { len }
    }

    /// Something is to run next.
    pub(crate) fn has_next(&self) -> bool {
        !self.next.load(Ordering::SeqCst).is_null()
    }

    /// Nothing in the ring nor next.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.next.load(Ordering::SeqCst).is_null()
    }

    /// Appends `item`; a full ring gives half of itself and the item to
    /// `overflow`. Owner only.
    pub(crate) fn push(&self, item: Arc<T>, overflow: impl FnOnce(Vec<Arc<T>>)) {
        let item = raw(item);
        loop {
            let head = self.head.load(Ordering::Acquire);
            let tail = self.tail.load(Ordering::Relaxed);
            if tail.wrapping_sub(head) < Self::SIZE {
                self.slot(tail).store(item, Ordering::Relaxed);
                self.tail.store(tail.wrapping_add(1), Ordering::Release);
                return;
            }
            let mut half = Vec::with_capacity(N / 2 + 1);
            if self.claim(head, Self::SIZE / 2, &mut half) {
                // SAFETY: the count that `raw` took above, given to nobody yet.
                half.push(unsafe { owned(item) });
                return overflow(half);
            }
        }
    }

    /// Copies `n` items from `head` and takes them if none was taken meanwhile.
    fn claim(&self, head: u32, n: u32, into: &mut Vec<Arc<T>>) -> bool {
        let mut copied = [std::ptr::null_mut(); N];
        for i in 0..n {
            copied[i as usize] = self.slot(head.wrapping_add(i)).load(Ordering::Relaxed);
        }
        let won = self
            .head
            .compare_exchange(
                head,
                head.wrapping_add(n),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok();
        if won {
            // SAFETY: moving `head` over the slots made their items ours.
            into.extend(copied[..n as usize].iter().map(|p| unsafe { owned(*p) }));
        }
        won
    }

    /// Puts `item` next; what was next before goes to the end of the ring.
    /// Owner only.
    pub(crate) fn push_next(&self, item: Arc<T>, overflow: impl FnOnce(Vec<Arc<T>>)) {
        let old = self.next.swap(raw(item), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: swapped out just now.
            self.push(unsafe { owned(old) }, overflow);
        }
    }

    /// Takes what is next. Owner and thieves.
    pub(crate) fn pop_next(&self) -> Option<Arc<T>> {
        if self.next.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let item = self.next.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: swapped out just now.
        (!item.is_null()).then(|| unsafe { owned(item) })
    }

    /// Takes the oldest of the ring. Owner only.
    pub(crate) fn pop(&self) -> Option<Arc<T>> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            if head == self.tail.load(Ordering::Relaxed) {
                return None;
            }
            let item = self.slot(head).load(Ordering::Relaxed);
            let to = head.wrapping_add(1);
            match self
                .head
                .compare_exchange_weak(head, to, Ordering::AcqRel, Ordering::Acquire)
            {
                // SAFETY: moving `head` over the slot made its item ours.
                Ok(_) => return Some(unsafe { owned(item) }),
                Err(now) => head = now,
            }
        }
    }

    /// Takes half of the ring, or with `take_next` and an empty ring what is
    /// next. Thieves.
    pub(crate) fn steal(&self, take_next: bool, into: &mut Vec<Arc<T>>) -> bool {
        loop {
            let head = self.head.load(Ordering::Acquire);
            let tail = self.tail.load(Ordering::Acquire);
            let len = tail.wrapping_sub(head);
            let n = len - len / 2;
            if n == 0 {
                let next = if take_next { self.pop_next() } else { None };
                let got = next.is_some();
                into.extend(next);
                return got;
            }
            // Head and tail of different moments: look again.
            if len <= Self::SIZE && self.claim(head, n, into) {
                return true;
            }
        }
    }
}

impl<T, const N: usize> Drop for RunQueue<T, N> {
    fn drop(&mut self) {
        while self.pop().or_else(|| self.pop_next()).is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn drain<const N: usize>(q: &RunQueue<u32, N>) -> Vec<u32> {
        std::iter::from_fn(|| q.pop()).map(|i| *i).collect()
    }

    #[test]
    fn first_in_first_out_and_half_overflows() {
        let q = RunQueue::<u32, 4>::new();
        let mut over = Vec::new();
        for i in 0..5 {
            q.push(Arc::new(i), |half| over.extend(half.iter().map(|i| **i)));
        }
        assert_eq!(over, [0, 1, 4]);
        assert_eq!(drain(&q), [2, 3]);
    }

    #[test]
    fn next_is_kicked_out_to_the_ring_and_stolen_last() {
        let q = RunQueue::<u32, 4>::new();
        for i in 0..4 {
            q.push_next(Arc::new(i), |_| panic!("room is left"));
        }
        let mut got = Vec::new();
        assert!(q.steal(false, &mut got));
        assert!(q.steal(false, &mut got));
        assert!(!q.steal(false, &mut got));
        assert!(q.steal(true, &mut got));
        assert_eq!(got.iter().map(|i| **i).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(q.is_empty());
    }

    #[test]
    fn nothing_is_lost_or_doubled_between_threads() {
        const ITEMS: usize = 20_000;
        let q = Arc::new(RunQueue::<usize, 256>::new());
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let thieves: Vec<_> = (0..2)
            .map(|_| {
                let (q, stop) = (q.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut got = Vec::new();
                    while !stop.load(std::sync::atomic::Ordering::Acquire) {
                        q.steal(true, &mut got);
                    }
                    got
                })
            })
            .collect();
        let mut all = Vec::new();
        for i in 0..ITEMS {
            if i % 3 == 0 {
                q.push_next(Arc::new(i), |half| all.extend(half));
            } else {
                q.push(Arc::new(i), |half| all.extend(half));
            }
            if i % 5 == 0 {
                all.extend(q.pop());
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
        for thief in thieves {
            all.extend(thief.join().unwrap());
        }
        all.extend(std::iter::from_fn(|| q.pop().or_else(|| q.pop_next())));
        let mut all: Vec<usize> = all.iter().map(|i| **i).collect();
        all.sort_unstable();
        assert_eq!(all, (0..ITEMS).collect::<Vec<_>>());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_run_queue_with_a_thief() {
        loom::model(|| {
            let q = loom::sync::Arc::new(RunQueue::<u32, 4>::new());
            let mut all = Vec::new();
            for i in 0..3 {
                q.push(Arc::new(i), |half| all.extend(half));
            }
            let victim = q.clone();
            let thief = loom::thread::spawn(move || {
                let mut got = Vec::new();
                victim.steal(true, &mut got);
                got
            });
            all.extend(q.pop());
            q.push(Arc::new(3), |half| all.extend(half));
            q.push_next(Arc::new(4), |half| all.extend(half));
            q.push(Arc::new(5), |half| all.extend(half));
            all.extend(q.pop_next());
            all.extend(thief.join().unwrap());
            all.extend(std::iter::from_fn(|| q.pop().or_else(|| q.pop_next())));
            let mut all: Vec<u32> = all.iter().map(|i| **i).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        });
    }
}
