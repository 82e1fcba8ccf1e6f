//! Stack memory: slots of a large reserved range, each with a guard below it.
//!
//! A slot is a guard of [`GUARD`] bytes and the stack above it. Nothing of a
//! stack exists until it is touched. The range is reserved in chunks of
//! [`CHUNK_SLOTS`] slots, so that a process under an address-space limit can
//! still start; a chunk is never given back while the arena lives, its free
//! slots are used again, the last freed first.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use corosensei::stack::{Stack, StackPointer};
use wirepath_driver::region::{PAGE, Region};

/// Bytes below each stack that fault when touched.
pub(crate) const GUARD: usize = 64 * 1024;

/// Slots of one reservation.
const CHUNK_SLOTS: usize = 1024;

/// Bytes at the top of an idle stack that are kept when it is trimmed.
const KEEP: usize = 2 * PAGE;

/// The stacks of a runtime.
pub(crate) struct Arena {
    /// Bytes of one stack, whole pages.
    stack_size: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    chunks: Vec<Region>,
    /// Slots of the last chunk that were never used start here.
    fresh: usize,
    /// Bases of freed slots.
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
            None => self.carve(&mut inner)?,
        };
        Ok(Slot {
            arena: self.clone(),
            base,
        })
    }

    fn carve(&self, inner: &mut Inner) -> io::Result<usize> {
        let pitch = self.stack_size + GUARD;
        if inner.chunks.is_empty() || inner.fresh == CHUNK_SLOTS {
            inner.chunks.push(Region::reserve(pitch * CHUNK_SLOTS)?);
            inner.fresh = 0;
        }
        let chunk = inner.chunks.last().expect("pushed when empty");
        let start = inner.fresh * pitch;
        // SAFETY: the slot was never handed out, so nothing refers to it.
        unsafe { chunk.guard(start..start + GUARD)? };
        inner.fresh += 1;
        Ok(chunk.base().as_ptr().addr() + start + pitch)
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

/// Gives the pages of a stack back, but for the topmost.
///
/// # Safety
/// Nothing but the topmost [`KEEP`] bytes of the stack is in use.
pub(super) unsafe fn discard_below_root((low, high): (usize, usize)) {
    let at = std::ptr::with_exposed_provenance_mut(low);
    // SAFETY: the range is the lower part of one slot; the caller promises
    // that nothing there is used.
    unsafe { libc::madvise(at, high - KEEP - low, libc::MADV_DONTNEED) };
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
}
