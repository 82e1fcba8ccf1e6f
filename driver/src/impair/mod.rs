//! A queue as bad as wanted: loss, duplication, reordering, delay, corruption
//! and a rate limit, each way by itself, from a seed.
//!
//! Every frame passes the same steps: it may be lost, corrupted in one bit,
//! and doubled; it waits for the frames before it at the rate; then it is
//! held back by delay and jitter. Jitter alone never reorders; a frame chosen
//! for reordering is held longer, and those behind it overtake.
//!
//! Held frames stay frames of the pool, at most [`Impairment::hold_frames`]
//! each way. A received frame beyond that is dropped and counted, as by a
//! router whose queue is full; a frame to send stays with the caller, as with
//! any full TX ring. [`Queue::next_event`] tells when the next one is due. What
//! is due goes on with any call that is given the time.
//!
//! The same seed and the same sequence of frames and times give the same
//! impairments.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::Nanos;
use crate::frame::{Frame, FramePool, SegmentTag};
use crate::ring::{BURST_FRAMES, Queue, QueueInfo, RingFill, RingStats};
use crate::trace::stamp_if_enabled;

pub(crate) mod rng;
#[cfg(test)]
mod tests;

use rng::Rng;

/// What happens to frames that go one way. The default does nothing to them.
///
/// Chances are from 0 (never) to 1 (always).
#[derive(Clone, Debug)]
pub struct Impairment {
    /// Chance that a frame is lost.
    pub loss: f64,
    /// Chance that a frame comes twice.
    pub duplication: f64,
    /// Chance that a frame is held for `reorder_by` more.
    pub reordering: f64,
    /// How much longer a frame chosen for reordering is held.
    pub reorder_by: Duration,
    /// Chance that one bit of a frame is flipped.
    pub corruption: f64,
    /// How long each frame is held.
    pub delay: Duration,
    /// Up to how much longer, evenly spread.
    pub jitter: Duration,
    /// Bits a second that pass, counting the bytes of frames. None: no limit.
    pub rate_bits_per_s: Option<u64>,
    /// Frames held at most.
    pub hold_frames: usize,
}

impl Default for Impairment {
    fn default() -> Impairment {
        Impairment {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reorder_by: Duration::from_millis(2),
            corruption: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bits_per_s: None,
            hold_frames: 256,
        }
    }
}

/// What happens to frames each way.
#[derive(Clone, Debug, Default)]
pub struct ImpairOptions {
    /// Frames received.
    pub rx: Impairment,
    /// Frames to send.
    pub tx: Impairment,
}

impl ImpairOptions {
    /// The same both ways.
    pub fn both(impairment: Impairment) -> ImpairOptions {
        ImpairOptions {
            rx: impairment.clone(),
            tx: impairment,
        }
    }
}

/// What was done to frames that went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImpairStats {
    /// Lost by chance.
    pub lost: u64,
    /// Lost because too many were held.
    pub overflowed: u64,
    /// Doubled.
    pub duplicated: u64,
    /// Held longer so that others overtake.
    pub reordered: u64,
    /// Changed in one bit.
    pub corrupted: u64,
}

/// A frame held back. Ordered by when it is due, then by when it came.
struct Held {
    due: Nanos,
    number: u64,
    frame: Frame,
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

/// One way through the impairment.
struct Path {
    options: Impairment,
    rng: Rng,
    held: BinaryHeap<Reverse<Held>>,
    /// The number of the next frame.
    next: u64,
    /// When the link is free for the next frame, at the rate.
    link_free_at: Nanos,
    /// The latest that a frame that was not reordered is due.
    last_due: Nanos,
    stats: ImpairStats,
}

impl Path {
    fn new(mut options: Impairment, seed: u64) -> Path {
        options.hold_frames = options.hold_frames.max(1);
        Path {
            options,
            rng: Rng::new(seed),
            held: BinaryHeap::new(),
            next: 0,
            link_free_at: Nanos::ZERO,
            last_due: Nanos::ZERO,
            stats: ImpairStats::default(),
        }
    }

    fn room(&self) -> usize {
        self.options.hold_frames.saturating_sub(self.held.len())
    }

    /// Takes a frame in. `spare` gives a frame for a copy.
    fn admit(&mut self, now: Nanos, mut frame: Frame, spare: impl FnOnce() -> Option<Frame>) {
        if self.rng.chance(self.options.loss) {
            self.stats.lost += 1;
            return;
        }
        if self.room() == 0 {
            self.stats.overflowed += 1;
            return;
        }
        if !frame.is_empty() && self.rng.chance(self.options.corruption) {
            let bit = self.rng.below(frame.len() as u64 * 8) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
            self.stats.corrupted += 1;
        }
        let copy = self
            .rng
            .chance(self.options.duplication)
            .then(|| double(&frame, spare()?))
            .flatten();
        self.hold(now, frame);
        if let Some(copy) = copy
            && self.room() > 0
        {
            self.stats.duplicated += 1;
            self.hold(now, copy);
        }
    }

    fn hold(&mut self, now: Nanos, frame: Frame) {
        let options = &self.options;
        if let Some(rate) = options.rate_bits_per_s {
            let nanos = frame.len() as u64 * 8 * 1_000_000_000 / rate.max(1);
            self.link_free_at = self.link_free_at.max(now) + Duration::from_nanos(nanos);
        }
        let sent = self.link_free_at.max(now);
        let jitter = u64::try_from(options.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.rng.below(jitter.saturating_add(1)));
        let mut due = (sent + options.delay + jitter).max(self.last_due);
        if self.rng.chance(options.reordering) {
            self.stats.reordered += 1;
            due = due + options.reorder_by;
        } else {
            self.last_due = due;
        }
        let number = self.next;
        self.next += 1;
        self.held.push(Reverse(Held { due, number, frame }));
    }

    /// The next frame that is due.
    fn release(&mut self, now: Nanos) -> Option<Frame> {
        if self.next_due()? > now {
            return None;
        }
        self.held.pop().map(|Reverse(held)| held.frame)
    }

    fn next_due(&self) -> Option<Nanos> {
        self.held.peek().map(|Reverse(held)| held.due)
    }
}

/// A copy of `frame` in `copy`, without the tag: the trace tells of the first.
fn double(frame: &Frame, mut copy: Frame) -> Option<Frame> {
    if !copy.fill(frame) {
        return None;
    }
    copy.meta = frame.meta;
    copy.meta.tag = SegmentTag::default();
    Some(copy)
}

/// A queue whose frames are impaired.
pub struct Impair<Q = Box<dyn Queue>> {
    queue: Q,
    rx: Path,
    tx: Path,
    /// Frames on their way from one side to the other.
    received: Vec<Frame>,
    due: VecDeque<Frame>,
    rx_frames: u64,
    rx_bytes: u64,
    tx_ring_full: u64,
}

impl<Q: Queue> Impair<Q> {
    /// Impairs what crosses `queue`.
    pub fn wrap(queue: Q, options: ImpairOptions, seed: u64) -> Impair<Q> {
        let mut seeds = Rng::new(seed);
        Impair {
            queue,
            rx: Path::new(options.rx, seeds.next()),
            tx: Path::new(options.tx, seeds.next()),
            received: Vec::with_capacity(BURST_FRAMES),
            due: VecDeque::new(),
            rx_frames: 0,
            rx_bytes: 0,
            tx_ring_full: 0,
        }
    }

    /// What was done to received frames.
    pub fn rx_impairments(&self) -> ImpairStats {
        self.rx.stats
    }

    /// What was done to frames to send.
    pub fn tx_impairments(&self) -> ImpairStats {
        self.tx.stats
    }

    /// Gives frames that are due to the queue's TX ring, as far as it has room,
    /// and says whether it took any.
    fn send_due(&mut self, now: Nanos) -> io::Result<bool> {
        let mut any = false;
        loop {
            while self.due.len() < BURST_FRAMES
                && let Some(frame) = self.tx.release(now)
            {
                self.due.push_back(frame);
            }
            if self.due.is_empty() || self.queue.tx_burst(now, &mut self.due)? == 0 {
                return Ok(any);
            }
            any = true;
        }
    }
}

impl<Q: Queue> Queue for Impair<Q> {
    fn info(&self) -> &QueueInfo {
        self.queue.info()
    }

    fn pool(&self) -> &FramePool {
        self.queue.pool()
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        if self.send_due(now)? {
            self.queue.kick(now)?;
        }
        self.queue.rx_burst(now, &mut self.received)?;
        for frame in self.received.drain(..) {
            let pool = self.queue.pool();
            self.rx.admit(now, frame, || pool.take_rx());
        }
        let mut taken = 0;
        while taken < BURST_FRAMES
            && let Some(mut frame) = self.rx.release(now)
        {
            frame.meta.polled_at = now;
            frame.meta.stamp = stamp_if_enabled();
            self.rx_frames += 1;
            self.rx_bytes += frame.len() as u64;
            frames.push(frame);
            taken += 1;
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        self.send_due(now)?;
        let mut taken = 0;
        while taken < BURST_FRAMES && !frames.is_empty() {
            if self.tx.room() == 0 {
                self.tx_ring_full += 1;
                break;
            }
            let Some(frame) = frames.pop_front() else {
                break;
            };
            let pool = self.queue.pool();
            self.tx.admit(now, frame, || pool.take_tx());
            taken += 1;
        }
        self.send_due(now)?;
        Ok(taken)
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        self.send_due(now)?;
        self.queue.kick(now)
    }

    fn reclaim(&mut self, now: Nanos) -> usize {
        self.queue.reclaim(now)
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        self.queue.wakeup()
    }

    fn arm(&mut self) -> bool {
        self.queue.arm()
    }

    fn next_event(&self) -> Option<Nanos> {
        // While the queue has no room, its wake-up or its own next event says
        // when to come again, and what is due here waits for that.
        let tx = self.tx.next_due().filter(|_| self.due.is_empty());
        [self.rx.next_due(), tx, self.queue.next_event()]
            .into_iter()
            .flatten()
            .min()
    }

    fn stats(&self) -> RingStats {
        RingStats {
            rx_frames: self.rx_frames,
            rx_bytes: self.rx_bytes,
            rx_impaired: self.rx.stats.lost + self.rx.stats.overflowed,
            tx_impaired: self.tx.stats.lost,
            tx_ring_full: self.tx_ring_full,
            ..self.queue.stats()
        }
    }

    fn rings(&self) -> Vec<RingFill> {
        self.queue.rings()
    }
}
