//! The path's end of a capture: copies frames as they cross a queue.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::switch::Socket;
use super::{Direction, Interface, Plug, Record};
use crate::clock::Nanos;
use crate::frame::{Frame, FramePool, Offload};
use crate::ring::{BURST_FRAMES, Queue, QueueInfo, RingFill, RingStats, moment};

/// One queue's end of one capture.
pub(super) struct Probe {
    plug: Plug,
    number: u32,
    interface: Arc<Interface>,
    /// Frames left out since the last one that was not.
    left_out: u64,
    /// Copies of frames offered to the TX ring, until it is known which it took.
    offered: Vec<Option<Record>>,
    /// The latest time noted, see [`Probe::not_before`].
    latest: Nanos,
}

impl Probe {
    pub(super) fn new(plug: Plug, number: u32, interface: Arc<Interface>) -> Probe {
        Probe {
            plug,
            number,
            interface,
            left_out: 0,
            offered: Vec::with_capacity(BURST_FRAMES),
            latest: Nanos::ZERO,
        }
    }

    /// A copy of the frame, or none when there is no room for it.
    fn copy(&self, direction: Direction, at: Nanos, frame: &Frame) -> Option<Record> {
        let shared = &*self.plug.shared;
        let kept = frame.len().min(shared.options.snap_len);
        if shared.failed.load(Ordering::Relaxed) {
            return None;
        }
        let mut bytes = shared.buffers.pop()?;
        let waiting = shared.waiting_bytes.fetch_add(kept, Ordering::Relaxed);
        if waiting + kept > shared.options.waiting_bytes {
            self.discard(kept, bytes);
            return None;
        }
        bytes.extend_from_slice(&frame[..kept]);
        let is_sent = direction == Direction::Out;
        Some(Record {
            interface: self.number,
            direction,
            at,
            original_len: frame.len(),
            left_out_before: 0,
            tag: frame.meta.tag,
            is_partial: is_sent && frame.meta.offload.contains(Offload::CHECKSUM_PARTIAL),
            bytes,
        })
    }

    fn discard(&self, kept: usize, buffer: Vec<u8>) {
        let shared = &*self.plug.shared;
        shared.waiting_bytes.fetch_sub(kept, Ordering::Relaxed);
        shared.give_back(buffer);
    }

    /// Gives a frame's copy to the writer, or counts that there is none.
    fn submit(&mut self, record: Option<Record>) {
        self.interface.seen.fetch_add(1, Ordering::Relaxed);
        let Some(mut record) = record else {
            self.interface.left_out.fetch_add(1, Ordering::Relaxed);
            self.left_out += 1;
            return;
        };
        record.left_out_before = std::mem::take(&mut self.left_out);
        // Never full: it holds as many records as there are buffers.
        let _ = self.plug.shared.records.push(record);
    }

    fn is_open(&self) -> bool {
        !self.plug.shared.closed.load(Ordering::Acquire)
    }

    /// The time to note for what happens now in a turn that began at `at`. Turns
    /// of two threads follow each other here, and may have begun the other way
    /// round: frames are in the order in which they crossed, and so are their
    /// times. The time that a frame came into the ring is another matter.
    fn not_before(&mut self, at: Nanos) -> Nanos {
        self.latest = self.latest.max(at);
        self.latest
    }

    /// Wakes the writer before its time when much waits.
    fn nudge(&self) {
        let shared = &*self.plug.shared;
        let bytes = shared.waiting_bytes.load(Ordering::Relaxed);
        let records = &shared.records;
        if records.len() > records.capacity() / 4 || bytes > shared.options.waiting_bytes / 4 {
            self.plug.thread.unpark();
        }
    }

    fn received(&mut self, polled_at: Nanos, frames: &[Frame]) {
        if !self.is_open() {
            return;
        }
        for frame in frames {
            let at = match frame.meta.rx_at {
                Some(at) => at,
                None => self.not_before(polled_at),
            };
            let record = self.copy(Direction::In, at, frame);
            self.submit(record);
        }
        self.nudge();
    }

    /// Copies what is offered to the TX ring, whose frames are gone once it took
    /// them.
    fn offer(&mut self, at: Nanos, frames: &VecDeque<Frame>) {
        if !self.is_open() {
            return;
        }
        let at = self.not_before(at);
        for frame in frames.iter().take(BURST_FRAMES) {
            let record = self.copy(Direction::Out, at, frame);
            self.offered.push(record);
        }
    }

    /// The ring took the first `taken` of those offered.
    fn took(&mut self, taken: usize) {
        let mut offered = std::mem::take(&mut self.offered);
        if offered.is_empty() {
            return;
        }
        for (i, record) in offered.drain(..).enumerate() {
            if i < taken {
                self.submit(record);
            } else if let Some(record) = record {
                self.discard(record.bytes.len(), record.bytes);
            }
        }
        self.offered = offered;
        self.nudge();
    }
}

/// A queue whose frames are captured.
pub struct Capture<Q = Box<dyn Queue>> {
    queue: Q,
    probes: Vec<Probe>,
    /// Where captures are switched on and off.
    socket: Option<Socket>,
}

impl<Q: Queue> Capture<Q> {
    pub(super) fn with_probe(queue: Q, probe: Probe) -> Capture<Q> {
        Capture {
            queue,
            probes: vec![probe],
            socket: None,
        }
    }

    pub(super) fn with_socket(queue: Q, socket: Socket) -> Capture<Q> {
        Capture {
            queue,
            probes: Vec::new(),
            socket: Some(socket),
        }
    }

    /// Takes up what was switched on or off since the last burst.
    #[inline]
    fn look(&mut self) {
        if let Some(socket) = &mut self.socket
            && socket.has_changed()
        {
            self.probes = socket.probes(std::mem::take(&mut self.probes), self.queue.info());
        }
    }
}

impl Probe {
    /// Whether it is that capture's.
    pub(super) fn is_of(&self, plug: &Plug) -> bool {
        Arc::ptr_eq(&self.plug.shared, &plug.shared)
    }
}

impl<Q: Queue> Queue for Capture<Q> {
    fn info(&self) -> &QueueInfo {
        self.queue.info()
    }

    fn pool(&self) -> &FramePool {
        self.queue.pool()
    }

    /// None where a capture is there from the start, so that its frames are as on
    /// a wire. Where one may be switched on, the server is not to be slower until
    /// then.
    fn long_segments(&self) -> Option<&FramePool> {
        self.socket
            .as_ref()
            .and_then(|_| self.queue.long_segments())
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        self.look();
        let before = frames.len();
        let result = self.queue.rx_burst(now, frames);
        if frames.len() > before && !self.probes.is_empty() {
            let polled_at = moment(now);
            for probe in &mut self.probes {
                probe.received(polled_at, &frames[before..]);
            }
        }
        result
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        self.look();
        if self.probes.is_empty() {
            return self.queue.tx_burst(now, frames);
        }
        let before = frames.len();
        let at = moment(now);
        for probe in &mut self.probes {
            probe.offer(at, frames);
        }
        let result = self.queue.tx_burst(now, frames);
        let taken = before - frames.len();
        for probe in &mut self.probes {
            probe.took(taken);
        }
        result
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
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
        self.queue.next_event()
    }

    fn stats(&self) -> RingStats {
        self.queue.stats()
    }

    fn rings(&self) -> Vec<RingFill> {
        self.queue.rings()
    }
}
