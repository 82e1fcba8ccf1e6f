//! Two queues joined in memory: for tests, simulation, and a demonstration
//! without privileges.
//!
//! Each [`CableEnd`] has a pool of its own. [`Queue::kick`] puts frames on the
//! wire, a bounded queue; the other end copies each into a frame of its pool
//! and sends the original back on a completion ring, from which the sender
//! reclaims it. So each pool depends only on its own end, and `nic.rx` (put on
//! the wire) and `nic.done` (taken by the peer) are real times.
//!
//! A frame counts against the sender's ring from `tx_burst` until it is
//! reclaimed. That bounds wire and completion ring by the same number, so that
//! neither can be found full.
//!
//! # Waking without syscalls
//!
//! The wake-up is an eventfd that a sender writes only when the receiver armed
//! it. The race is that of any sleeper:
//!
//! ```text
//! receiver (arm)              sender (kick)
//!   armed = true                push frames
//!   fence                       fence
//!   wire empty? sleep           armed? clear it, write the eventfd
//! ```
//!
//! With both fences sequentially consistent, at least one side sees the other's
//! store: either the receiver finds the frame and does not sleep, or the
//! sender finds `armed` and writes. A sender that met a full ring waits for
//! completions in the same way with `wants_room`.
//!
//! An eventfd holds the number of writes since the last read. The owner knows
//! how many it is owed (each flag that it set and finds cleared is one) and
//! reads until it has them all. Otherwise a write that comes late, after its
//! flag was seen cleared, would leave the fd readable for ever.
//!
//! # When an end is dropped
//!
//! It is a cable pulled out: the other end goes on, receives what was already
//! on the wire, and what it sends is dropped and counted as `tx_down`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::clock::Nanos;
use crate::frame::{Frame, FramePool, PoolError};
use crate::ring::{
    BURST_FRAMES, ETHERNET_HEADER, Queue, QueueInfo, RingStats, VLAN_TAG, moment, move_to_ring,
    trace_frame,
};
use crate::trace::{self, Kind, stamp_if_enabled};

#[cfg(test)]
mod tests;

/// How to make a cable.
#[derive(Clone, Debug)]
pub struct CableOptions {
    /// The name of the cable; its ends are called `NAME a` and `NAME b`.
    pub name: String,
    /// The largest IP packet that a frame may carry, in bytes.
    pub mtu: usize,
    /// Frames that an end may have sent and not reclaimed.
    pub ring_frames: usize,
    /// Slots of each end's pool.
    pub slots: u32,
}

impl Default for CableOptions {
    fn default() -> CableOptions {
        CableOptions {
            name: "cable".to_owned(),
            mtu: 1500,
            ring_frames: 256,
            slots: 2048,
        }
    }
}

/// Why a cable could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CableError {
    /// A ring of no frames, or frames longer than a slot can be.
    #[error(
        "a cable with rings of {ring_frames} frames and an MTU of {mtu} makes no sense: rings hold at least one frame, and frames at most 64 KiB with their header"
    )]
    Shape {
        /// Ring length asked for.
        ring_frames: usize,
        /// MTU asked for, in bytes.
        mtu: usize,
    },
    /// A pool could not be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The wake-up could not be made.
    #[error("cannot make an eventfd for a cable")]
    Wakeup(#[source] io::Error),
}

/// A frame on the wire, and when it was put there.
struct OnWire {
    frame: Frame,
    at: Nanos,
}

/// What an end shares with its peer: the wire towards it, the completions of
/// what it sent, and its wake-up.
struct Port {
    /// Frames towards this end.
    wire: ArrayQueue<OnWire>,
    /// Frames that this end sent and the peer took, with the time of that.
    done: ArrayQueue<OnWire>,
    /// This end sleeps, or is about to.
    armed: AtomicBool,
    /// This end met a full ring.
    wants_room: AtomicBool,
    wakeup: OwnedFd,
    /// This end exists.
    alive: AtomicBool,
}

impl Port {
    fn new(ring_frames: usize) -> Result<Port, CableError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wakeup = eventfd(0, flags).map_err(|e| CableError::Wakeup(e.into()))?;
        Ok(Port {
            wire: ArrayQueue::new(ring_frames),
            done: ArrayQueue::new(ring_frames),
            armed: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            wakeup,
            alive: AtomicBool::new(true),
        })
    }

    /// Wakes this end if `flag` is set, and clears the flag. Called by the peer
    /// after it changed what this end waits for.
    fn wake_if(&self, flag: &AtomicBool) {
        // Pairs with the fence in `arm`: see the module.
        fence(Ordering::SeqCst);
        if flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::AcqRel) {
            // Only a counter near u64::MAX refuses a write, and there is one
            // write for each flag set.
            let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
        }
    }
}

/// Two queues joined in memory: what one sends the other receives.
///
/// # Errors
/// See [`CableError`].
pub fn cable(options: CableOptions) -> Result<(CableEnd, CableEnd), CableError> {
    let CableOptions {
        name,
        mtu,
        ring_frames,
        slots,
    } = options;
    let longest = mtu.saturating_add(ETHERNET_HEADER + VLAN_TAG);
    if ring_frames == 0 || longest > 65536 {
        return Err(CableError::Shape { ring_frames, mtu });
    }
    let slot_len = longest.next_power_of_two().max(2048);
    let (a, b) = (
        Arc::new(Port::new(ring_frames)?),
        Arc::new(Port::new(ring_frames)?),
    );
    let end = |side: char, own: &Arc<Port>, peer: &Arc<Port>| -> Result<CableEnd, CableError> {
        Ok(CableEnd {
            info: QueueInfo {
                name: format!("{name} {side}"),
                mtu,
                sees_nic_rx: true,
                sees_nic_done: true,
            },
            pool: FramePool::new(slots, slot_len, slots / 4)?,
            own: own.clone(),
            peer: peer.clone(),
            ring_frames,
            tx: VecDeque::with_capacity(ring_frames),
            in_flight: 0,
            stats: RingStats::default(),
            met_full_ring: false,
            armed: false,
            wants_room: false,
            owed: 0,
        })
    };
    Ok((end('a', &a, &b)?, end('b', &b, &a)?))
}

/// One end of a [`cable`].
pub struct CableEnd {
    info: QueueInfo,
    pool: FramePool,
    own: Arc<Port>,
    peer: Arc<Port>,
    ring_frames: usize,
    /// Frames in the TX ring that were not kicked.
    tx: VecDeque<Frame>,
    /// Frames on the wire and in the completion ring.
    in_flight: usize,
    stats: RingStats,
    /// The last `tx_burst` left frames for want of room.
    met_full_ring: bool,
    /// Which of the port's flags this end set and did not take back.
    armed: bool,
    wants_room: bool,
    /// Writes to the eventfd that were made, or are about to be, and not read.
    owed: u64,
}

impl CableEnd {
    /// Copies a frame off the wire into one of this end's; none when it is no
    /// Ethernet frame or does not fit.
    fn receive(now: Nanos, sent: &OnWire, mut into: Frame) -> Option<Frame> {
        if sent.frame.len() < ETHERNET_HEADER || !into.fill(&sent.frame) {
            return None;
        }
        into.meta.rx_at = Some(sent.at);
        into.meta.polled_at = now;
        into.meta.stamp = stamp_if_enabled();
        into.meta.offload = sent.frame.meta.offload;
        Some(into)
    }

    /// Takes back the flags that this end set and the peer left, and reads off
    /// the eventfd what the peer wrote for the others.
    fn settle(&mut self) {
        let port = &*self.own;
        for (set, flag) in [
            (&mut self.armed, &port.armed),
            (&mut self.wants_room, &port.wants_room),
        ] {
            if std::mem::take(set) && !flag.swap(false, Ordering::AcqRel) {
                self.owed += 1;
            }
        }
        if self.owed > 0 {
            let mut count = [0; 8];
            if rustix::io::read(&port.wakeup, &mut count) == Ok(8) {
                self.owed -= u64::from_ne_bytes(count);
            }
        }
    }

    fn peer_is_gone(&self) -> bool {
        !self.peer.alive.load(Ordering::Acquire)
    }
}

impl Queue for CableEnd {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        let (mut seen, mut taken) = (0, 0);
        while seen < BURST_FRAMES {
            let Some(into) = self.pool.take_rx() else {
                self.stats.rx_no_frame += 1;
                break;
            };
            let Some(sent) = self.own.wire.pop() else {
                self.settle();
                break;
            };
            seen += 1;
            if let Some(frame) = CableEnd::receive(now, &sent, into) {
                self.stats.rx_frames += 1;
                self.stats.rx_bytes += frame.len() as u64;
                frames.push(frame);
                taken += 1;
            } else {
                self.stats.rx_bad_len += 1;
            }
            let frame = sent.frame;
            // Never full: it holds as many frames as may be in flight.
            let at = moment(now);
            let _ = self.peer.done.push(OnWire { frame, at });
        }
        if seen > 0 {
            self.peer.wake_if(&self.peer.wants_room);
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        self.reclaim(now);
        let room = self.ring_frames - self.tx.len() - self.in_flight;
        let taken = move_to_ring(&mut self.tx, room, frames, &mut self.stats);
        self.met_full_ring = taken == room && !frames.is_empty();
        Ok(taken)
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        if self.tx.is_empty() {
            return Ok(());
        }
        self.stats.kicks += 1;
        if self.peer_is_gone() {
            self.stats.tx_down += self.tx.len() as u64;
            self.tx.clear();
            return Ok(());
        }
        while let Some(frame) = self.tx.pop_front() {
            let at = moment(now);
            trace::departed(&frame.meta, frame.len(), stamp_if_enabled());
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += frame.len() as u64;
            self.in_flight += 1;
            let pushed = self.peer.wire.push(OnWire { frame, at });
            assert!(
                pushed.is_ok(),
                "the wire holds as many frames as may be in flight"
            );
        }
        self.peer.wake_if(&self.peer.armed);
        Ok(())
    }

    fn reclaim(&mut self, _now: Nanos) -> usize {
        let mut taken = 0;
        while let Some(done) = self.own.done.pop() {
            trace_frame(done.at, Kind::NicDone, &done.frame);
            taken += 1;
        }
        // What lies on the wire to an end that is gone will not be taken.
        while self.peer_is_gone() && self.peer.wire.pop().is_some() {
            taken += 1;
        }
        self.in_flight -= taken;
        taken
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.own.wakeup.as_fd())
    }

    fn arm(&mut self) -> bool {
        self.settle();
        let port = &*self.own;
        self.armed = true;
        port.armed.store(true, Ordering::Relaxed);
        if self.met_full_ring {
            self.wants_room = true;
            port.wants_room.store(true, Ordering::Relaxed);
        }
        // Pairs with the fence in `wake_if`: see the module.
        fence(Ordering::SeqCst);
        !port.wire.is_empty() || (self.met_full_ring && !port.done.is_empty())
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

impl Drop for CableEnd {
    fn drop(&mut self) {
        self.own.alive.store(false, Ordering::Release);
    }
}
