//! The UMEM: memory that the kernel and we share, and the frame pool over it.
//!
//! A slot of the UMEM begins with the room that the kernel leaves before a
//! received packet (`XDP_PACKET_HEADROOM`). A frame of the pool begins behind
//! it, so that offset 0 of a frame is where the kernel puts a packet, and a frame
//! that was received can be sent again from where it is.

use std::num::NonZeroU32;
use std::ptr::NonNull;

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use super::options::Shape;
use super::{XdpError, error};
use crate::frame::{Cut, FramePool};

/// Lengths of a slot that the kernel takes in aligned mode: from
/// `XDP_UMEM_MIN_CHUNK_SIZE` to a page.
pub(super) const FRAME_LENS: [u32; 2] = [2048, 4096];

/// `XDP_PACKET_HEADROOM` of linux/bpf.h.
pub(super) const HEADROOM: u32 = 256;

/// Bytes of the huge pages that are asked for (`MAP_HUGETLB` without a size:
/// the machine's default, which is this on x86-64 and most of arm64).
pub(super) const HUGE_PAGE: u32 = 2 << 20;

/// Bytes of a slot of `frame_len` that a packet can have.
pub(super) fn usable(frame_len: u32) -> usize {
    (frame_len - HEADROOM) as usize
}

/// A UMEM, its pool, and the descriptor of each slot.
pub(super) struct Memory {
    pub(super) umem: Umem,
    pub(super) pool: FramePool,
    /// By slot; each names offset 0 of the slot's frame.
    pub(super) descs: Box<[FrameDesc]>,
}

impl Memory {
    /// Maps the memory and tells the kernel of it. A quarter of the slots is
    /// kept for sending.
    pub(super) fn create(shape: Shape, huge_pages: bool) -> Result<Memory, XdpError> {
        let ring = ring_len(shape.ring_len_frames)?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(shape.frame_len).map_err(error::invalid)?)
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .map_err(error::invalid)?;
        let frames = NonZeroU32::new(shape.frames).ok_or(XdpError::Frames(0))?;
        let (umem, descs) = Umem::new(config, frames, huge_pages)
            .map_err(|e| error::of_umem(&e, shape, huge_pages))?;
        let cut = Cut {
            base: base(&umem, &descs[0]),
            stride: shape.frame_len as usize,
            slot_len: usable(shape.frame_len),
            slots: shape.frames,
        };
        let keeper = Box::new(umem.clone());
        // SAFETY: the UMEM is mapped as long as a handle to it lives, zeroed by
        // the kernel at first, and its slots are reached through frames: by us
        // through those that we hold, by the kernel through those that the
        // queue keeps for it.
        let pool = unsafe { FramePool::over(cut, shape.frames / 4, keeper) };
        Ok(Memory {
            umem,
            pool,
            descs: descs.into_boxed_slice(),
        })
    }
}

pub(super) fn ring_len(len: u32) -> Result<QueueSize, XdpError> {
    QueueSize::new(len).map_err(|_| XdpError::RingLen(len))
}

/// Where the frame of the first slot begins.
fn base(umem: &Umem, first: &FrameDesc) -> NonNull<u8> {
    // SAFETY: the descriptor is of this UMEM, and nobody else refers to any of
    // its memory yet.
    let data = unsafe { umem.data(first) };
    NonNull::from(data.contents()).cast()
}
