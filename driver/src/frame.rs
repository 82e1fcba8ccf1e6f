//! Frames and the pool that they are cut from.
//!
//! A pool is one piece of memory cut into equal slots: a [`Region`], or the UMEM
//! of an AF_XDP socket. A [`Frame`] owns one slot: the slot's number is taken off
//! the free list when the frame is made and goes back when it is dropped, so no
//! two frames ever name the same slot. That is the whole invariant behind the
//! `unsafe` below.
//!
//! What the kernel may write to or read from (a descriptor in one of the UMEM's
//! rings) has a frame too, which the queue keeps and nobody touches until the
//! kernel gave the descriptor back. A queue that ends before that gives the
//! frame up with [`Frame::abandon`], and its slot is never used again.
//!
//! The free list is a stack: the slot given back last is warm in the cache and
//! is used next.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use crate::clock::Nanos;
use crate::region::Region;
use crate::ring::BURST_FRAMES;

bitflags::bitflags! {
    /// What a device vouches for on a received frame, or is asked to do on a
    /// sent one.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Offload: u8 {
        /// Received: the device or the sender's kernel vouches for the
        /// transport checksum.
        const CHECKSUM_VALID = 1;
        /// The transport checksum field holds only the pseudo-header's sum
        /// and is to be completed.
        const CHECKSUM_PARTIAL = 2;
    }
}

/// Which part of which stream a frame carries, for the trace. All zero on a
/// frame that carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentTag {
    /// The flow's identity, as in [`crate::trace::Event::flow`].
    pub flow: u64,
    /// Offset in the stream of the first byte that the frame carries.
    pub offset: u64,
    /// Bytes of the stream that the frame carries.
    pub len: u32,
}

/// What travels with a frame beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameMeta {
    /// When the frame came into the RX ring, where the device can tell.
    pub rx_at: Option<Nanos>,
    /// When the driver took the frame off the ring, or a little before: the
    /// time of the turn.
    pub polled_at: Nanos,
    /// As an event's time ([`crate::trace::stamp`]), zero when nobody traces: of a
    /// received frame when the driver took it off the ring, of a frame to send
    /// when it was cut from its stream.
    pub stamp: Nanos,
    /// As that, of a frame to send: when it came into the TX ring.
    pub ring_stamp: Nanos,
    /// Offload bits.
    pub offload: Offload,
    /// Sent: the bytes of TCP data that each of the segments has that the device
    /// is to cut this one into; 0 to leave it whole. Only where
    /// [`Queue::long_segments`](crate::Queue::long_segments) has frames for it.
    pub segment_len: u16,
    /// Set by the stack on frames to send.
    pub tag: SegmentTag,
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A slot length that is not a power of two from 2 KiB to 64 KiB, or no
    /// slots, or a reserve that leaves none to receive into.
    #[error(
        "a frame pool of {slots} slots of {slot_len} bytes with {reserve} kept to send makes no sense: slots are 2 KiB to 64 KiB, a power of two, and the reserve is less than their number"
    )]
    Shape {
        /// Slots asked for.
        slots: u32,
        /// Bytes a slot asked for.
        slot_len: usize,
        /// Slots kept back for sending.
        reserve: u32,
    },
    /// The memory could not be reserved.
    #[error("cannot reserve the memory of a frame pool")]
    Memory(#[from] io::Error),
}

/// Frames kept at hand by one owner, which saves the pool's lock and count for
/// each: whoever is done with one frame soon wants the next. What it keeps is
/// at most an eighth of the pool, which its reserve allows for. With more it gives
/// half of them back at once.
#[derive(Debug)]
pub struct Spares {
    pool: FramePool,
    frames: Vec<Frame>,
    most: usize,
}

impl Spares {
    /// None kept yet, of frames of `pool`, and a burst at most.
    pub fn new(pool: &FramePool) -> Spares {
        let most = (pool.slots() as usize / 8).clamp(1, BURST_FRAMES);
        Spares {
            pool: pool.clone(),
            frames: Vec::with_capacity(most),
            most,
        }
    }

    /// Keeps a frame. One of another pool goes back there.
    #[inline]
    pub fn put(&mut self, mut frame: Frame) {
        if !frame.is_of(&self.pool) {
            return;
        }
        if self.frames.len() == self.most {
            self.release(self.most.div_ceil(2));
        }
        frame.reset();
        self.frames.push(frame);
    }

    /// Gives the `count` that were kept longest back.
    #[cold]
    fn release(&mut self, count: usize) {
        let mut free = self.pool.free_list();
        for frame in self.frames.drain(..count) {
            free.push(frame.slot);
            frame.abandon();
        }
    }

    /// Takes frames to receive into off the pool until `count` are kept, as far as
    /// there are some and as many may be kept.
    #[cfg(feature = "xdp")]
    pub(crate) fn stock(&mut self, count: usize) {
        let missing = count.min(self.most).saturating_sub(self.frames.len());
        if missing == 0 {
            return;
        }
        let mut free = self.pool.free_list();
        let most = free.len().saturating_sub(self.pool.0.reserve as usize);
        let from = free.len() - missing.min(most);
        let taken = free.drain(from..).map(|slot| self.pool.frame(slot));
        self.frames.extend(taken);
    }

    /// A kept frame, of length 0.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        self.frames.pop()
    }
}

struct Inner {
    /// The first byte of slot 0; those of slot `n` are `n * stride` further on.
    base: NonNull<u8>,
    stride: usize,
    slot_len: usize,
    slots: u32,
    reserve: u32,
    free: Mutex<Vec<u32>>,
    /// What keeps the memory mapped.
    _memory: Box<dyn Send + Sync>,
}

// SAFETY: `base` is only an address. The memory behind it is touched through
// frames alone, each of which owns its slot.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

/// How a piece of memory is cut into slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// First usable byte of slot 0.
    pub(crate) base: NonNull<u8>,
    /// Bytes from one slot to the next.
    pub(crate) stride: usize,
    /// Usable bytes of a slot, at most `stride`.
    pub(crate) slot_len: usize,
    /// How many slots there are.
    pub(crate) slots: u32,
}

/// Memory cut into frames. Clones share the same slots.
#[derive(Clone)]
pub struct FramePool(Arc<Inner>);

impl FramePool {
    /// A pool of `slots` frames of `slot_len` bytes each, of which `reserve`
    /// can be taken only with [`FramePool::take_tx`], so that receiving never
    /// starves sending.
    ///
    /// # Errors
    /// [`PoolError::Shape`] or [`PoolError::Memory`].
    pub fn new(slots: u32, slot_len: usize, reserve: u32) -> Result<FramePool, PoolError> {
        let fits = slot_len.is_power_of_two() && (2048..=65536).contains(&slot_len);
        if !fits || slots == 0 || reserve >= slots {
            return Err(PoolError::Shape {
                slots,
                slot_len,
                reserve,
            });
        }
        let region = Region::reserve(slots as usize * slot_len)?;
        let cut = Cut {
            base: region.base(),
            stride: slot_len,
            slot_len,
            slots,
        };
        // SAFETY: the region is that long, zeroed, only reached through its
        // address, and lives as long as the pool.
        Ok(unsafe { FramePool::over(cut, reserve, Box::new(region)) })
    }

    /// A pool over memory that somebody else mapped. Offset 0 of a frame is the
    /// first byte of its part of `cut`.
    ///
    /// # Safety
    /// All bytes of `cut` are initialized, readable and writable while `memory`
    /// lives, and nobody else refers to the bytes of a slot while a frame of
    /// that slot can be reached by others than its keeper.
    pub(crate) unsafe fn over(cut: Cut, reserve: u32, memory: Box<dyn Send + Sync>) -> FramePool {
        FramePool(Arc::new(Inner {
            base: cut.base,
            stride: cut.stride,
            slot_len: cut.slot_len,
            slots: cut.slots,
            reserve,
            free: Mutex::new((0..cut.slots).rev().collect()),
            _memory: memory,
        }))
    }

    /// A frame to receive into, of length 0; none when only the reserve is left.
    pub fn take_rx(&self) -> Option<Frame> {
        self.take(self.0.reserve as usize)
    }

    /// A frame to send, of length 0; none when the pool is empty.
    pub fn take_tx(&self) -> Option<Frame> {
        self.take(0)
    }

    fn take(&self, keep: usize) -> Option<Frame> {
        let mut free = self.free_list();
        if free.len() <= keep {
            return None;
        }
        let slot = free.pop()?;
        drop(free);
        Some(self.frame(slot))
    }

    /// The frame of a slot that was just taken off the free list.
    fn frame(&self, slot: u32) -> Frame {
        Frame {
            pool: self.0.clone(),
            slot,
            start: 0,
            end: 0,
            meta: FrameMeta::default(),
        }
    }

    fn free_list(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0
            .free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Bytes that a frame can hold.
    pub fn slot_len(&self) -> usize {
        self.0.slot_len
    }

    /// Number of slots in all.
    pub fn slots(&self) -> u32 {
        self.0.slots
    }

    /// Number of slots that no frame holds now.
    pub fn free(&self) -> u32 {
        u32::try_from(self.free_list().len()).expect("no more free slots than slots")
    }
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramePool")
            .field("slots", &self.0.slots)
            .field("slot_len", &self.0.slot_len)
            .field("free", &self.free())
            .finish()
    }
}

/// One frame: an owned slot of a pool, and the part of it in use.
///
/// Derefs to the bytes in use, Ethernet header first.
pub struct Frame {
    pool: Arc<Inner>,
    slot: u32,
    start: u32,
    end: u32,
    /// What travels with the bytes.
    pub meta: FrameMeta,
}

impl Frame {
    /// Bytes that the frame could hold in all.
    pub fn capacity(&self) -> usize {
        self.pool.slot_len
    }

    /// Puts the part in use to `start..start + len` of the slot. Bytes that
    /// were not in use before hold what an earlier owner of the slot left.
    ///
    /// # Panics
    /// When the part does not fit the slot.
    pub fn set_bounds(&mut self, start: usize, len: usize) {
        let end = start
            .checked_add(len)
            .filter(|end| *end <= self.pool.slot_len);
        let end = end.expect("a frame's bounds lie inside its slot");
        self.start = u32::try_from(start).expect("a slot is at most 64 KiB");
        self.end = u32::try_from(end).expect("a slot is at most 64 KiB");
    }

    /// Makes the frame as one just taken from the pool: empty, without meta.
    pub fn reset(&mut self) {
        (self.start, self.end) = (0, 0);
        self.meta = FrameMeta::default();
    }

    /// Fills the frame with a copy of `bytes`; false, and nothing changed, when
    /// they do not fit.
    #[must_use]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.capacity() {
            return false;
        }
        self.set_bounds(0, bytes.len());
        self.copy_from_slice(bytes);
        true
    }

    /// Whether the slot is one of `pool`'s.
    #[inline]
    pub(crate) fn is_of(&self, pool: &FramePool) -> bool {
        Arc::ptr_eq(&self.pool, &pool.0)
    }

    /// Number of the slot.
    #[cfg(feature = "xdp")]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// Moves the bytes in use to the start of the slot.
    #[cfg(feature = "xdp")]
    pub(crate) fn move_to_start(&mut self) {
        let (start, len) = (self.start as usize, self.len());
        if start > 0 {
            self.set_bounds(0, start + len);
            self.copy_within(start.., 0);
            self.set_bounds(0, len);
        }
    }

    /// Gives the frame up without giving its slot back: somebody outside may go on
    /// writing to it, or the caller has put it on the free list.
    pub(crate) fn abandon(self) {
        let mut frame = std::mem::ManuallyDrop::new(self);
        // SAFETY: the frame is never used again, nor dropped.
        unsafe { std::ptr::drop_in_place(&mut frame.pool) };
    }

    /// The first byte in use.
    fn start(&self) -> *mut u8 {
        let at = self.slot as usize * self.pool.stride + self.start as usize;
        // SAFETY: the slot is one of the pool's and the bounds lie inside it.
        unsafe { self.pool.base.as_ptr().add(at) }
    }
}

impl Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: this frame owns the slot (see the module), the bounds lie
        // inside it, and the memory is initialized and lives as long as `pool`.
        unsafe { std::slice::from_raw_parts(self.start(), (self.end - self.start) as usize) }
    }
}

impl DerefMut for Frame {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is the only way to the slot.
        unsafe { std::slice::from_raw_parts_mut(self.start(), (self.end - self.start) as usize) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut free = self
            .pool
            .free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        free.push(self.slot);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("slot", &self.slot)
            .field("len", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_for_sending() {
        let pool = FramePool::new(4, 2048, 1).unwrap();
        let rx: Vec<Frame> = std::iter::from_fn(|| pool.take_rx()).collect();
        assert_eq!(rx.len(), 3);
        let tx = pool.take_tx().expect("the reserve");
        assert!(pool.take_tx().is_none());
        drop((rx, tx));
        assert_eq!(pool.free(), 4);
    }

    #[test]
    fn frames_never_share_bytes_and_the_last_back_is_first_out() {
        let pool = FramePool::new(2, 2048, 0).unwrap();
        let (mut a, mut b) = (pool.take_tx().unwrap(), pool.take_tx().unwrap());
        assert!(a.fill(&[1; 2048]) && b.fill(&[2; 2048]));
        assert!(a.iter().all(|x| *x == 1) && b.iter().all(|x| *x == 2));
        assert!(!a.fill(&[0; 2049]));
        let slot = a.slot;
        drop(a);
        assert_eq!(pool.take_rx().unwrap().slot, slot);
    }

    #[test]
    fn spares_are_bounded_and_as_new() {
        let pool = FramePool::new(16, 2048, 4).unwrap();
        let mut spares = Spares::new(&pool);
        let mut frames: Vec<Frame> = (0..3).map(|_| pool.take_tx().unwrap()).collect();
        for frame in &mut frames {
            assert!(frame.fill(b"used"));
            frame.meta.tag.flow = 7;
        }
        frames.into_iter().for_each(|frame| spares.put(frame));
        assert_eq!(pool.free(), 14);
        let kept: Vec<Frame> = std::iter::from_fn(|| spares.take()).collect();
        assert_eq!(kept.len(), 2);
        for frame in &kept {
            assert!(frame.is_empty() && frame.meta.tag == SegmentTag::default());
        }
    }

    #[test]
    fn spares_take_no_frames_of_another_pool() {
        let (pool, other) = (FramePool::new(16, 2048, 4), FramePool::new(16, 2048, 4));
        let (pool, other) = (pool.unwrap(), other.unwrap());
        let mut spares = Spares::new(&pool);
        spares.put(other.take_tx().unwrap());
        assert_eq!(other.free(), 16);
        assert!(spares.take().is_none());
    }

    #[cfg(feature = "xdp")]
    #[test]
    fn a_stock_leaves_the_reserve_and_has_each_slot_once() {
        let pool = FramePool::new(16, 2048, 15).unwrap();
        let mut spares = Spares::new(&pool);
        spares.stock(2);
        assert_eq!(pool.free(), 15);
        let (kept, rest) = (spares.take().unwrap(), pool.take_tx().unwrap());
        assert!(spares.take().is_none() && kept.slot != rest.slot);
        drop((kept, rest));
        assert_eq!(pool.free(), 16);
    }

    #[test]
    fn senseless_pools_are_refused() {
        for (slots, len, reserve) in [(0, 2048, 0), (4, 2000, 0), (4, 1024, 0), (4, 2048, 4)] {
            assert!(FramePool::new(slots, len, reserve).is_err());
        }
    }
}
