//! Capture: what crosses a queue, as pcapng (draft-ietf-opsawg-pcapng).
//!
//! [`CaptureFile::wrap`] puts a [`Capture`] around a queue. The path only
//! copies a frame into a buffer that was taken from a bounded stock and hands
//! it to the writer's thread; when the stock is empty, because the disk or the
//! pipe is slow, the frame is left out of the file and counted. The path never
//! waits for the file.
//!
//! Times are nanoseconds and the file says so (`if_tsresol`). Direction is in
//! each packet's flags. The statistics block at the end says how many frames
//! crossed and how many of them are not in the file.

mod writer;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

use crossbeam_queue::ArrayQueue;

use crate::clock::{self, Nanos};
use crate::frame::{Frame, FramePool};
use crate::ring::{BURST_FRAMES, Queue, QueueInfo, RingStats};

/// How to capture.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// Bytes of a frame that are kept at most.
    pub snap_len: usize,
    /// Frames of one queue that wait for the file at most; each takes a buffer of
    /// the frame's length, up to the snap length.
    pub waiting_frames: usize,
}

impl Default for CaptureOptions {
    fn default() -> CaptureOptions {
        CaptureOptions {
            snap_len: 65_536,
            waiting_frames: 8_192,
        }
    }
}

/// Why a capture could not start, or is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The writer's thread could not start.
    #[error("cannot start the capture's writer")]
    Thread(#[source] io::Error),
    /// Writing failed; what came before is in the file.
    #[error("writing stopped after {} frames, {} were left out: {reason}", summary.written, summary.left_out)]
    Write {
        /// What the file holds.
        summary: CaptureSummary,
        /// What the system said.
        reason: String,
    },
}

/// How much of the traffic a capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Frames in the file.
    pub written: u64,
    /// Frames that crossed and are not in the file.
    pub left_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Received,
    Sent,
}

/// A copy of a frame on its way to the file.
struct Packet {
    at: Nanos,
    direction: Direction,
    original_len: usize,
    bytes: Vec<u8>,
}

/// What one queue and the writer share.
struct Lane {
    name: String,
    snap_len: usize,
    /// Buffers for the path to fill.
    stock: ArrayQueue<Packet>,
    /// Copies for the writer, in order. As long as the stock, so never full.
    copies: ArrayQueue<Packet>,
    crossed: AtomicU64,
    left_out: AtomicU64,
}

impl Lane {
    fn new(name: String, options: &CaptureOptions) -> Lane {
        let len = options.waiting_frames.max(1);
        let stock = ArrayQueue::new(len);
        for _ in 0..len {
            let empty = Packet {
                at: Nanos::ZERO,
                direction: Direction::Received,
                original_len: 0,
                bytes: Vec::new(),
            };
            assert!(
                stock.push(empty).is_ok(),
                "the stock has room for what it is made of"
            );
        }
        Lane {
            name,
            snap_len: options.snap_len,
            stock,
            copies: ArrayQueue::new(len),
            crossed: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// A copy of `frame`, when there is a buffer for it.
    fn copy(&self, at: Nanos, direction: Direction, frame: &[u8]) -> Option<Packet> {
        let mut packet = self.stock.pop()?;
        packet.at = at;
        packet.direction = direction;
        packet.original_len = frame.len();
        packet.bytes.clear();
        packet
            .bytes
            .extend_from_slice(&frame[..frame.len().min(self.snap_len)]);
        Some(packet)
    }

    /// Counts a frame that crossed, and gives its copy to the writer.
    fn crossed(&self, copy: Option<Packet>) {
        self.crossed.fetch_add(1, Ordering::Relaxed);
        let kept = copy.is_some_and(|packet| self.copies.push(packet).is_ok());
        if !kept {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes back the buffer of a copy that is not needed.
    fn restock(&self, packet: Packet) {
        // Lost only if there were more buffers than the stock holds.
        let _ = self.stock.push(packet);
    }
}

/// What the path, the handle and the writer share.
#[derive(Default)]
struct Shared {
    lanes: Mutex<Vec<Arc<Lane>>>,
    stop: AtomicBool,
}

impl Shared {
    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pcapng file that is being written by a thread of its own.
pub struct CaptureFile {
    options: CaptureOptions,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<(u64, io::Result<()>)>>,
}

impl CaptureFile {
    /// Starts writing to `sink`, which need not be buffered. What is written
    /// is flushed whenever no frame waits, and at least every 200 ms.
    ///
    /// # Errors
    /// [`CaptureError::Thread`]. That `sink` cannot be written shows at
    /// [`CaptureFile::finish`].
    pub fn start(
        sink: impl Write + Send + 'static,
        options: CaptureOptions,
    ) -> Result<CaptureFile, CaptureError> {
        let shared = Arc::new(Shared::default());
        let writer = std::thread::Builder::new()
            .name("capture".into())
            .spawn({
                let shared = shared.clone();
                let wall_offset_ns = clock::wall_offset_ns();
                move || writer::run(Box::new(sink), &shared, wall_offset_ns)
            })
            .map_err(CaptureError::Thread)?;
        Ok(CaptureFile {
            options,
            shared,
            writer: Some(writer),
        })
    }

    /// Captures what crosses `queue` from now on, as an interface of its own.
    pub fn wrap(&self, queue: Box<dyn Queue>) -> Capture {
        let lane = Arc::new(Lane::new(queue.info().name.clone(), &self.options));
        self.shared.lanes().push(lane.clone());
        let writer = self
            .writer
            .as_ref()
            .expect("taken only at the end")
            .thread()
            .clone();
        Capture {
            queue,
            lane,
            writer,
            staged: Vec::with_capacity(BURST_FRAMES),
        }
    }

    /// Writes what waits and the statistics, and ends the file. Queues still
    /// wrapped go on uncaptured, and count.
    ///
    /// # Errors
    /// [`CaptureError::Write`] when the file is not whole.
    pub fn finish(mut self) -> Result<CaptureSummary, CaptureError> {
        let (written, outcome) = self.stop();
        let crossed: u64 = self
            .shared
            .lanes()
            .iter()
            .map(|l| l.crossed.load(Ordering::Relaxed))
            .sum();
        let summary = CaptureSummary {
            written,
            left_out: crossed.saturating_sub(written),
        };
        match outcome {
            Ok(()) => Ok(summary),
            Err(e) => Err(CaptureError::Write {
                summary,
                reason: e.to_string(),
            }),
        }
    }

    fn stop(&mut self) -> (u64, io::Result<()>) {
        let Some(writer) = self.writer.take() else {
            return (0, Ok(()));
        };
        self.shared.stop.store(true, Ordering::Release);
        writer.thread().unpark();
        writer
            .join()
            .unwrap_or_else(|_| (0, Err(io::Error::other("the writer panicked"))))
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `finish`.
        let _ = self.stop();
    }
}

/// A queue whose frames are captured.
pub struct Capture {
    queue: Box<dyn Queue>,
    lane: Arc<Lane>,
    writer: Thread,
    staged: Vec<Option<Packet>>,
}

impl Queue for Capture {
    fn info(&self) -> &QueueInfo {
        self.queue.info()
    }

    fn pool(&self) -> &FramePool {
        self.queue.pool()
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        let before = frames.len();
        let taken = self.queue.rx_burst(now, frames)?;
        for frame in &frames[before..] {
            let at = frame.meta.rx_at.unwrap_or(frame.meta.polled_at);
            self.lane
                .crossed(self.lane.copy(at, Direction::Received, frame));
        }
        if taken > 0 {
            self.writer.unpark();
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        // The device takes frames away, so they are copied before; the copies of
        // those that it leaves are not needed.
        let copies = frames.iter().take(BURST_FRAMES);
        self.staged
            .extend(copies.map(|f| self.lane.copy(now, Direction::Sent, f)));
        let taken = self.queue.tx_burst(now, frames);
        let count = *taken.as_ref().unwrap_or(&0);
        for (i, copy) in self.staged.drain(..).enumerate() {
            if i < count {
                self.lane.crossed(copy);
            } else if let Some(packet) = copy {
                self.lane.restock(packet);
            }
        }
        if count > 0 {
            self.writer.unpark();
        }
        taken
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
}

#[cfg(test)]
mod tests;
