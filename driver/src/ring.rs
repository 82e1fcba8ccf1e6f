//! The queue contract: what every device is to the stack.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use crate::clock::{self, Nanos};
use crate::frame::{Frame, FramePool};
use crate::trace::{self, Event, Kind, emit, enabled, stamp_if_enabled};

/// Frames that one call moves at most. Bounds the time that a shard spends
/// between two looks at anything else.
pub const BURST_FRAMES: usize = 64;

/// Bytes of an Ethernet header without a VLAN tag (IEEE 802.3 §3.1.1): the
/// shortest thing that is a frame.
pub(crate) const ETHERNET_HEADER: usize = 14;

/// Bytes that a VLAN tag adds (IEEE 802.1Q §9.3).
pub(crate) const VLAN_TAG: usize = 4;

/// What does not change about a queue.
#[derive(Clone, Debug)]
pub struct QueueInfo {
    /// The device and queue, for people: `tap wp0 queue 0`.
    pub name: String,
    /// The largest IP packet that a frame may carry, in bytes.
    pub mtu: usize,
    /// Whether the device says when a frame came into its ring (stage
    /// `nic.rx`), as a TAP cannot.
    pub sees_nic_rx: bool,
    /// Whether the device tells the frame in its ring (stage `nic.tx`), the
    /// kick and the completion (`nic.done`) apart, as a TAP's write cannot.
    pub sees_nic_done: bool,
}

/// What a queue has done since it was made.
///
/// Every frame ends in exactly one counter of its direction: `rx_frames`,
/// `rx_bad_len` or `rx_impaired`; `tx_frames`, `tx_errors`, `tx_down` or
/// `tx_impaired`. The other counters count bytes and occasions, not frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Frames handed up.
    pub rx_frames: u64,
    /// Bytes handed up.
    pub rx_bytes: u64,
    /// Times that receiving stopped because the pool had no frame. The frames
    /// stay where they are and are received once there is one.
    pub rx_no_frame: u64,
    /// Received frames dropped because they did not fit a frame, or were too
    /// short for an Ethernet header.
    pub rx_bad_len: u64,
    /// Received frames that an [`crate::Impair`] lost, on purpose or because it
    /// held too many.
    pub rx_impaired: u64,
    /// Frames that the device took.
    pub tx_frames: u64,
    /// Bytes that the device took.
    pub tx_bytes: u64,
    /// Frames that the device refused for good.
    pub tx_errors: u64,
    /// Frames dropped because the link is down: a TAP that is not up, a cable
    /// whose other end is gone.
    pub tx_down: u64,
    /// Frames to send that an [`crate::Impair`] lost on purpose.
    pub tx_impaired: u64,
    /// Times that the TX ring took fewer frames than it was offered.
    pub tx_ring_full: u64,
    /// Times that the device was told of frames to send.
    pub kicks: u64,
}

/// How full a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFill {
    /// `rx`, `tx`, `fill` or `completion`.
    pub name: &'static str,
    /// Entries.
    pub len: u32,
    /// Entries in use.
    pub used: u32,
}

/// One RX ring and one TX ring of a device, polled by whoever owns it.
///
/// Object-safe at burst granularity: a wrapper such as a capture or an
/// impairment costs one indirect call a burst. Errors are those of a device
/// that is gone or broken; a ring that is full or empty is not an error.
pub trait Queue: Send {
    /// What does not change about the queue.
    fn info(&self) -> &QueueInfo;

    /// The pool that frames to send are taken from, and received ones come
    /// from.
    fn pool(&self) -> &FramePool;

    /// The pool of frames for TCP segments longer than the MTU allows, of a
    /// device that cuts them ([`FrameMeta::segment_len`]) and that completes the
    /// checksum of any TCP segment ([`Offload::CHECKSUM_PARTIAL`]). A wrapper that
    /// looks at frames or loses some has none, so that all are as on a wire.
    ///
    /// [`FrameMeta::segment_len`]: crate::FrameMeta::segment_len
    /// [`Offload::CHECKSUM_PARTIAL`]: crate::Offload::CHECKSUM_PARTIAL
    fn long_segments(&self) -> Option<&FramePool> {
        None
    }

    /// Appends up to [`BURST_FRAMES`] received frames to `frames` and says how
    /// many. Each has its `polled_at` set.
    ///
    /// # Errors
    /// The device is gone or broken.
    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize>;

    /// Takes frames from the front of `frames` into the TX ring, up to
    /// [`BURST_FRAMES`] and while the ring has room, and says how many. What
    /// is left in `frames` did not fit and stays the caller's.
    ///
    /// # Errors
    /// The device is gone or broken.
    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize>;

    /// Hands what is in the TX ring to the device. Call it once a burst.
    ///
    /// # Errors
    /// The device is gone or broken.
    fn kick(&mut self, now: Nanos) -> io::Result<()>;

    /// Takes frames that the device is done with back into the pool and says
    /// how many.
    fn reclaim(&mut self, now: Nanos) -> usize;

    /// The fd that becomes readable when frames have come in. None for a
    /// queue that the kernel knows nothing of and that has to be polled.
    fn wakeup(&self) -> Option<BorrowedFd<'_>>;

    /// Asks that [`Queue::wakeup`] becomes readable, or stays so, until the next
    /// `rx_burst` finds the ring empty. Called before sleeping; a queue whose fd
    /// is a device's has nothing to do. True when frames are already waiting, so
    /// that the caller must not sleep.
    fn arm(&mut self) -> bool {
        false
    }

    /// When a frame that the queue itself holds back (delay, replay, a device
    /// that was busy) is due. The owner then calls `rx_burst`, whose first act
    /// is to send what is due.
    fn next_event(&self) -> Option<Nanos> {
        None
    }

    /// What the queue has done since it was made.
    fn stats(&self) -> RingStats;

    /// The rings, as far as they can be seen: a TAP's RX ring is the kernel's.
    fn rings(&self) -> Vec<RingFill> {
        Vec::new()
    }
}

impl<Q: Queue + ?Sized> Queue for Box<Q> {
    fn info(&self) -> &QueueInfo {
        (**self).info()
    }
    fn pool(&self) -> &FramePool {
        (**self).pool()
    }
    fn long_segments(&self) -> Option<&FramePool> {
        (**self).long_segments()
    }
    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        (**self).rx_burst(now, frames)
    }
    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        (**self).tx_burst(now, frames)
    }
    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        (**self).kick(now)
    }
    fn reclaim(&mut self, now: Nanos) -> usize {
        (**self).reclaim(now)
    }
    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        (**self).wakeup()
    }
    fn arm(&mut self) -> bool {
        (**self).arm()
    }
    fn next_event(&self) -> Option<Nanos> {
        (**self).next_event()
    }
    fn stats(&self) -> RingStats {
        (**self).stats()
    }
    fn rings(&self) -> Vec<RingFill> {
        (**self).rings()
    }
}

/// Moves frames from the front of `offered` to the back of `ring`, up to
/// [`BURST_FRAMES`] and while `room` lasts, and says how many: what
/// [`Queue::tx_burst`] does for a device whose TX ring is a list in memory.
/// Notes when that was.
pub(crate) fn move_to_ring(
    ring: &mut VecDeque<Frame>,
    room: usize,
    offered: &mut VecDeque<Frame>,
    stats: &mut RingStats,
) -> usize {
    let wanted = offered.len().min(BURST_FRAMES);
    let taken = wanted.min(room);
    let at = stamp_if_enabled();
    stats.tx_ring_full += u64::from(taken < wanted);
    for mut frame in offered.drain(..taken) {
        frame.meta.ring_stamp = at;
        ring.push_back(frame);
    }
    taken
}

/// The time to note for something that happens now: `now`, the time of the
/// turn, is good enough to go by, but what a trace tells apart within a turn
/// needs a clock read each.
pub(crate) fn moment(now: Nanos) -> Nanos {
    if enabled() && !trace::is_virtual() {
        clock::now()
    } else {
        now
    }
}

/// Emits `stage` for a frame that carries part of a stream.
pub(crate) fn trace_frame(at: Nanos, stage: Kind, frame: &Frame) {
    let tag = frame.meta.tag;
    if tag.flow != 0 {
        let mut event = Event::new(at, stage, tag.flow).frame(frame.len());
        event.offset = tag.offset;
        event.len = tag.len;
        emit(event);
    }
}
