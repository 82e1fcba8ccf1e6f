//! A pcapng capture of what crosses a queue, both ways, that never blocks it.
//!
//! [`Capture`] wraps a queue, copies each frame into a pooled buffer and pushes
//! it on a bounded lock-free queue; the thread of a [`CaptureFile`] writes
//! them to the file. Where there is no buffer, or the queue holds too many
//! bytes, the frame is left out of the capture and counted: in the next frame's
//! `epb_dropcount`, in the interface's `isb_ifdrop`, and in [`CaptureStats`].
//! The path itself is never slowed by more than a copy: it takes no lock, makes
//! no system call but to wake the writer when a quarter of the queue is full,
//! and allocates only for a frame longer than a buffer.
//!
//! Several queues can share a file, an interface of it each. Times are
//! nanoseconds: of a received frame when it came into the ring, or when it was
//! polled where the device cannot tell; of a sent frame when it entered the TX
//! ring. The wall clock is read once, when the capture starts, so that times do
//! not run backwards with it. Frames of several queues are in the file in the
//! order in which they were queued, which may differ a little from that of their
//! times.
//!
//! Format: draft-ietf-opsawg-pcapng.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

use crossbeam_queue::ArrayQueue;

use crate::clock::{self, Nanos};
use crate::frame::{Frame, FramePool};
use crate::ring::{BURST_FRAMES, Queue, QueueInfo, RingFill, RingStats, moment};

#[cfg(test)]
mod tests;
mod writer;

/// Bytes that a buffer holds without growing: any frame of an MTU of 1500.
const BUFFER_BYTES: usize = 2048;

/// What a capture keeps, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// Bytes of a frame to keep; what is longer is cut, with its length noted.
    pub snap_len: usize,
    /// Frames that may wait for the writer.
    pub waiting_frames: usize,
    /// Bytes that may wait for the writer.
    pub waiting_bytes: usize,
}

impl Default for CaptureOptions {
    fn default() -> CaptureOptions {
        CaptureOptions {
            snap_len: 65_535,
            waiting_frames: 8192,
            waiting_bytes: 32 << 20,
        }
    }
}

/// Why there is no capture, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The writer thread could not be started.
    #[error("cannot start the capture's writer thread")]
    Thread(#[source] io::Error),
    /// Writing failed, and the capture ends there.
    #[error("writing stopped after {} frames, and {} were left out", summary.written, summary.left_out)]
    Write {
        /// What is in the file and what is not.
        summary: CaptureSummary,
        /// What the system said.
        source: io::Error,
    },
}

/// What a capture has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Frames that crossed the wrapped queues.
    pub seen: u64,
    /// Frames in the file for certain: those since the last flush are not.
    pub written: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// Frames left out: no room for them to wait, or writing had failed.
    pub left_out: u64,
    /// Whether writing failed, so that the capture ends early.
    pub failed: bool,
}

/// What a finished capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Frames in the file.
    pub written: u64,
    /// Bytes of frames in the file.
    pub written_bytes: u64,
    /// Frames that crossed and are not in the file.
    pub left_out: u64,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// A frame on its way to the writer.
struct Record {
    interface: u32,
    direction: Direction,
    at: Nanos,
    /// Bytes of the whole frame.
    original_len: usize,
    /// Frames left out between the last one of this interface and this.
    left_out_before: u64,
    bytes: Vec<u8>,
}

/// One captured queue.
struct Interface {
    name: String,
    since: Nanos,
    seen: AtomicU64,
    written: AtomicU64,
    written_bytes: AtomicU64,
    left_out: AtomicU64,
}

impl Interface {
    fn new(name: String) -> Interface {
        Interface {
            name,
            since: clock::now(),
            seen: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }
}

/// What the path, the writer and the handle share.
struct Shared {
    snap_len: usize,
    waiting_bytes_max: usize,
    wall_offset_ns: u64,
    records: ArrayQueue<Record>,
    buffers: ArrayQueue<Vec<u8>>,
    /// Bytes in `records`.
    waiting_bytes: AtomicUsize,
    /// Never locked on the path.
    interfaces: Mutex<Vec<Arc<Interface>>>,
    /// The path is to copy nothing any more.
    closed: AtomicBool,
    failed: AtomicBool,
}

impl Shared {
    fn new(options: &CaptureOptions) -> Shared {
        let waiting_frames = options.waiting_frames.max(1);
        let snap_len = options.snap_len.max(1);
        let buffer_bytes = BUFFER_BYTES.min(snap_len);
        let buffers = ArrayQueue::new(waiting_frames);
        for _ in 0..waiting_frames {
            let _ = buffers.push(Vec::with_capacity(buffer_bytes));
        }
        Shared {
            snap_len,
            waiting_bytes_max: options.waiting_bytes,
            wall_offset_ns: clock::wall_offset_ns(),
            records: ArrayQueue::new(waiting_frames),
            buffers,
            waiting_bytes: AtomicUsize::new(0),
            interfaces: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    fn interfaces(&self) -> MutexGuard<'_, Vec<Arc<Interface>>> {
        self.interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer back for the next frame. One that grew for a long frame is
    /// replaced, so that the pool's memory stays bounded.
    fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() > BUFFER_BYTES {
            buffer = Vec::with_capacity(BUFFER_BYTES);
        }
        buffer.clear();
        let _ = self.buffers.push(buffer);
    }

    fn stats(&self) -> CaptureStats {
        let mut stats = CaptureStats {
            failed: self.failed.load(Ordering::Relaxed),
            ..CaptureStats::default()
        };
        for interface in self.interfaces().iter() {
            stats.seen += interface.seen.load(Ordering::Relaxed);
            stats.written += interface.written.load(Ordering::Relaxed);
            stats.written_bytes += interface.written_bytes.load(Ordering::Relaxed);
            stats.left_out += interface.left_out.load(Ordering::Relaxed);
        }
        stats
    }
}

/// A pcapng file being written. Dropping it finishes the file as
/// [`CaptureFile::finish`] does, without telling how that went; the wrapped
/// queues go on without it.
pub struct CaptureFile {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<io::Result<()>>>,
    thread: Thread,
}

impl CaptureFile {
    /// Starts a capture that goes to `sink`. It is written to by the writer
    /// thread only, which may block in it, and buffered.
    ///
    /// # Errors
    /// [`CaptureError::Thread`].
    pub fn start(
        sink: impl Write + Send + 'static,
        options: CaptureOptions,
    ) -> Result<CaptureFile, CaptureError> {
        let shared = Arc::new(Shared::new(&options));
        let writer = std::thread::Builder::new()
            .name("wirepath-capture".to_owned())
            .spawn({
                let shared = shared.clone();
                move || writer::run(&shared, Box::new(sink))
            })
            .map_err(CaptureError::Thread)?;
        Ok(CaptureFile {
            thread: writer.thread().clone(),
            shared,
            writer: Some(writer),
        })
    }

    /// What the capture has done so far.
    pub fn stats(&self) -> CaptureStats {
        self.shared.stats()
    }

    /// Captures what crosses `queue` from now on, as an interface of its own.
    pub fn wrap<Q: Queue>(&self, queue: Q) -> Capture<Q> {
        let interface = Arc::new(Interface::new(queue.info().name.clone()));
        let mut interfaces = self.shared.interfaces();
        let number = u32::try_from(interfaces.len()).expect("fewer queues than 2^32");
        interfaces.push(interface.clone());
        drop(interfaces);
        Capture {
            queue,
            shared: self.shared.clone(),
            thread: self.thread.clone(),
            number,
            interface,
            left_out: 0,
            offered: Vec::with_capacity(BURST_FRAMES),
            latest: Nanos::ZERO,
        }
    }

    /// Writes what waits and the statistics, and closes the file. What crosses
    /// the queues from now on is not part of the capture.
    ///
    /// # Errors
    /// [`CaptureError::Write`] when writing failed at any time.
    pub fn finish(mut self) -> Result<CaptureSummary, CaptureError> {
        let result = self.close();
        let stats = self.stats();
        let summary = CaptureSummary {
            written: stats.written,
            written_bytes: stats.written_bytes,
            left_out: stats.left_out,
        };
        match result {
            Ok(()) => Ok(summary),
            Err(source) => Err(CaptureError::Write { summary, source }),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.shared.closed.store(true, Ordering::Release);
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        self.thread.unpark();
        writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writer thread panicked")))
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// A queue whose frames are captured.
pub struct Capture<Q = Box<dyn Queue>> {
    queue: Q,
    shared: Arc<Shared>,
    thread: Thread,
    number: u32,
    interface: Arc<Interface>,
    /// Frames left out since the last one that was not.
    left_out: u64,
    /// Copies of frames offered to the TX ring, until it is known which it took.
    offered: Vec<Option<Record>>,
    /// The latest time noted, see [`Capture::not_before`].
    latest: Nanos,
}

impl<Q: Queue> Capture<Q> {
    /// A copy of the frame, or none when there is no room for it.
    fn copy(&self, direction: Direction, at: Nanos, frame: &[u8]) -> Option<Record> {
        let shared = &*self.shared;
        let kept = frame.len().min(shared.snap_len);
        if shared.failed.load(Ordering::Relaxed) {
            return None;
        }
        let mut bytes = shared.buffers.pop()?;
        let waiting = shared.waiting_bytes.fetch_add(kept, Ordering::Relaxed);
        if waiting + kept > shared.waiting_bytes_max {
            self.discard(kept, bytes);
            return None;
        }
        bytes.extend_from_slice(&frame[..kept]);
        Some(Record {
            interface: self.number,
            direction,
            at,
            original_len: frame.len(),
            left_out_before: 0,
            bytes,
        })
    }

    fn discard(&self, kept: usize, buffer: Vec<u8>) {
        self.shared.waiting_bytes.fetch_sub(kept, Ordering::Relaxed);
        self.shared.give_back(buffer);
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
        let _ = self.shared.records.push(record);
    }

    fn is_open(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire)
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
        let records = &self.shared.records;
        let bytes = self.shared.waiting_bytes.load(Ordering::Relaxed);
        if records.len() > records.capacity() / 4 || bytes > self.shared.waiting_bytes_max / 4 {
            self.thread.unpark();
        }
    }
}

impl<Q: Queue> Queue for Capture<Q> {
    fn info(&self) -> &QueueInfo {
        self.queue.info()
    }

    fn pool(&self) -> &FramePool {
        self.queue.pool()
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        let before = frames.len();
        let result = self.queue.rx_burst(now, frames);
        if frames.len() > before && self.is_open() {
            let polled_at = moment(now);
            for frame in &frames[before..] {
                let at = match frame.meta.rx_at {
                    Some(at) => at,
                    None => self.not_before(polled_at),
                };
                let record = self.copy(Direction::In, at, frame);
                self.submit(record);
            }
            self.nudge();
        }
        result
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        if !self.is_open() {
            return self.queue.tx_burst(now, frames);
        }
        let mut offered = std::mem::take(&mut self.offered);
        let before = frames.len();
        let at = self.not_before(moment(now));
        for frame in frames.iter().take(BURST_FRAMES) {
            offered.push(self.copy(Direction::Out, at, frame));
        }
        let result = self.queue.tx_burst(now, frames);
        let taken = before - frames.len();
        for (i, record) in offered.drain(..).enumerate() {
            if i < taken {
                self.submit(record);
            } else if let Some(record) = record {
                self.discard(record.bytes.len(), record.bytes);
            }
        }
        self.offered = offered;
        self.nudge();
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
