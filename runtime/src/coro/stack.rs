//! Stack memory: slots of large reserved ranges, each with a guard below it.
//!
//! A slot is a guard of [`GUARD`] bytes and the stack above it. Nothing of a
//! stack exists until it is touched. Ranges are reserved in chunks, smaller
//! ones where the process's address space is limited, and are never given back
//! while the arena lives. Free slots are used again, the last freed first.
//!
//! # Claims
//!
//! A goroutine gets its stack when it first runs, and then it is too late to
//! say that there is none. So who starts it claims one first: there are always
//! at least as many slots, guards included, as there are claims. Claims cost no
//! memory but that of the guards' page tables.
//!
//! Rejected: populating the first page of many slots by one call, which was not
//! faster than the page faults.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corosensei::stack::{Stack, StackPointer};
use wirepath_driver::region::{self, PAGE, Region};

/// Bytes below each stack that fault when touched.
pub(crate) const GUARD: usize = 64 * 1024;

/// Bytes of one reservation, and how many slots it has at most.
const CHUNK: usize = 320 << 20;
const CHUNK_SLOTS: usize = 1024;

/// Stacks of one size.
pub(crate) struct Arena {
    /// Bytes of one stack, whole pages.
    stack_size: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    chunks: Vec<Region>,
    /// Slots of the last chunk that were never made start here.
    fresh: usize,
    /// Slots that exist, in use or free.
    made: usize,
    /// Goroutines that were promised one.
    claimed: usize,
    /// Bases of free slots.
    free: Vec<usize>,
}

/// One stack, given back on drop.
pub(crate) struct Slot {
    arena: Arc<Arena>,
    base: usize,
}

impl Arena {
    /// An arena of stacks of `stack_size` bytes, rounded up to pages.
    pub(crate) fn new(stack_size: usize) -> Arc<Arena> {
        Arc::new(Arena {
            stack_size: stack_size.next_multiple_of(PAGE).max(4 * PAGE),
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pitch(&self) -> usize {
        self.stack_size + GUARD
    }

    /// Sees to it that there is a slot for `n` more goroutines, and `spare`
    /// slots that are nobody's.
    ///
    /// # Errors
    /// As for [`Arena::slot`]; then nothing was claimed.
    pub(crate) fn claim(&self, n: usize, spare: usize) -> io::Result<()> {
        let mut inner = self.lock();
        while inner.made < inner.claimed + n + spare {
            let base = self.make(&mut inner)?;
            inner.free.push(base);
        }
        inner.claimed += n;
        Ok(())
    }

    /// Gives back what was claimed.
    pub(crate) fn unclaim(&self, n: usize) {
        self.lock().claimed -= n;
    }

    /// A stack: a freed one, or a new one.
    ///
    /// # Errors
    /// What mmap(2), madvise(2) or mprotect(2) gives, when address space or
    /// mappings are used up.
    pub(crate) fn slot(self: &Arc<Arena>) -> io::Result<Slot> {
        let mut inner = self.lock();
        let base = match inner.free.pop() {
            Some(base) => base,
            None => self.make(&mut inner)?,
        };
        Ok(Slot {
            arena: self.clone(),
            base,
        })
    }

    /// Makes the next slot of the last chunk.
    fn make(&self, inner: &mut Inner) -> io::Result<usize> {
        let pitch = self.pitch();
        let full = |chunk: &Region| (inner.fresh + 1) * pitch > chunk.len();
        if inner.chunks.last().is_none_or(full) {
            inner.chunks.push(self.reserve()?);
            inner.fresh = 0;
        }
        let chunk = inner.chunks.last().expect("pushed when empty");
        let start = inner.fresh * pitch;
        // SAFETY: the slot was never handed out, so nothing refers to it.
        unsafe { chunk.guard(start..start + GUARD)? };
        inner.fresh += 1;
        inner.made += 1;
        Ok(chunk.base().as_ptr().addr() + start + pitch)
    }

    /// A chunk of as many slots as can be had.
    fn reserve(&self) -> io::Result<Region> {
        let mut slots = (CHUNK / self.pitch()).clamp(1, CHUNK_SLOTS);
        loop {
            match Region::reserve(self.pitch() * slots) {
                Err(_) if slots > 1 => slots /= 2,
                result => return result,
            }
        }
    }

    /// Takes slots back and gives their memory to the system, many with one
    /// call.
    ///
    /// # Safety
    /// Nothing on those stacks is in use.
    pub(super) unsafe fn give_back(&self, slots: Vec<Slot>) {
        let ranges: Vec<Range<usize>> = slots
            .iter()
            .map(Slot::bounds)
            .map(|(low, high)| low..high)
            .collect();
        // SAFETY: the ranges are slots of ours that nobody uses, and still
        // ours alone: they are free only after this.
        unsafe { region::discard_many(&ranges) };
        drop(slots);
    }

    /// Bytes of one stack.
    pub(crate) fn stack_size(&self) -> usize {
        self.stack_size
    }
}

impl Slot {
    /// The lowest usable address and the one above the highest.
    pub(crate) fn bounds(&self) -> (usize, usize) {
        (self.base - self.arena.stack_size, self.base)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.arena.lock().free.push(self.base);
    }
}

// SAFETY: base and limit are of a slot of the arena's mapping, which the Arc
// keeps alive; the slot is this value's alone until it is dropped; below its
// `stack_size` usable bytes (four pages at least) lies a guard that faults. The
// limit includes the guard, as the trait asks.
unsafe impl Stack for Slot {
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(self.base).expect("a mapping is not at 0")
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.base - self.arena.stack_size - GUARD).expect("not at 0")
    }
}

/// How deep a stack has grown since its memory was last given back, in bytes:
/// whole pages, as mincore(2) tells them.
pub(crate) fn high_water((low, high): (usize, usize)) -> usize {
    const STEP: usize = 256;
    let mut resident = [0u8; STEP];
    for start in (low..high).step_by(STEP * PAGE) {
        let pages = (high - start).div_ceil(PAGE).min(STEP);
        let at = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: mincore writes a byte for each page into `resident`, and
        // reads nothing of the range.
        if unsafe { libc::mincore(at, pages * PAGE, resident.as_mut_ptr()) } != 0 {
            return 0;
        }
        if let Some(first) = resident[..pages].iter().position(|r| r & 1 != 0) {
            return high - start - first * PAGE;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_slots_are_used_again_and_slots_do_not_overlap() {
        let arena = Arena::new(1);
        let a = arena.slot().unwrap();
        let b = arena.slot().unwrap();
        let (low, high) = a.bounds();
        assert_eq!(high - low, 4 * PAGE);
        assert_eq!(b.bounds().0 - high, GUARD);
        drop(a);
        assert_eq!(arena.slot().unwrap().bounds(), (low, high));
    }

    #[test]
    fn what_is_touched_is_seen_and_given_back() {
        let arena = Arena::new(1 << 20);
        let slot = arena.slot().unwrap();
        let (low, high) = slot.bounds();
        assert_eq!(high_water((low, high)), 0);
        for (at, want) in [
            (high - 1, PAGE),
            (high - 2 * PAGE, 2 * PAGE),
            (low, 1 << 20),
        ] {
            // SAFETY: inside the slot, which nobody else uses.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(at).write(1) };
            assert_eq!(high_water((low, high)), want);
        }
        // SAFETY: nothing is on the stack.
        unsafe { arena.give_back(vec![slot]) };
        assert_eq!(high_water((low, high)), 0);
    }

    #[test]
    fn claims_are_met_without_asking_the_system_again() {
        let arena = Arena::new(1);
        arena.claim(10, 3).unwrap();
        assert_eq!(arena.lock().made, 13);
        assert_eq!(arena.lock().free.len(), 13);
        let slots: Vec<Slot> = (0..10).map(|_| arena.slot().unwrap()).collect();
        arena.claim(1, 0).unwrap();
        assert_eq!(arena.lock().made, 13);
        drop(slots);
        arena.unclaim(11);
        arena.claim(13, 0).unwrap();
        assert_eq!(arena.lock().made, 13);
    }
}
