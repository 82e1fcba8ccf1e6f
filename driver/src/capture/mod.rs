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
//! Several queues can share a file, an interface of it each, all of Ethernet: a
//! file has one link type. Times are nanoseconds: of a received frame when it
//! came into the ring, or when it was polled where the device cannot tell; of a
//! sent frame when it entered the TX ring. The wall clock is read once, when the
//! capture starts, so that times do not run backwards with it. Frames of several
//! queues are in the file in the order in which they were queued, which may
//! differ a little from that of their times.
//!
//! * [`Files`] says where the bytes go, one file after another
//!   ([`CaptureOptions::file_bytes`], [`CaptureOptions::file_age`]): each is a
//!   whole capture by itself.
//! * [`Sift`] sees each frame on the writer's thread before it is written: it may
//!   hold it back, leave it out or comment on it.
//! * [`FrameRing`] keeps the last frames in memory instead of writing them.
//! * [`CaptureSwitch`] starts and ends captures of queues that are in use.
//! * [`Secrets`] puts TLS keys into the file.
//!
//! A capture that follows a device with segmentation of its own shows the long
//! segments as the device gets them, with the checksum that it would complete. A
//! capture that is there from the start has the stack make none
//! ([`Queue::long_segments`]).
//!
//! Format: draft-ietf-opsawg-pcapng.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::clock::{self, Nanos};
use crate::frame::SegmentTag;
use crate::ring::Queue;

mod checksum;
mod pcapng;
mod probe;
mod ring;
mod secrets;
mod sift;
mod switch;
#[cfg(test)]
mod tests;
mod writer;

pub use probe::Capture;
pub use ring::FrameRing;
pub use secrets::Secrets;
pub use sift::{Captured, Sift, Sifted};
pub use switch::CaptureSwitch;

use probe::Probe;

/// Bytes that a buffer holds without growing: any frame of an MTU of 1500.
const BUFFER_BYTES: usize = 2048;

/// How long a capture's end waits for a sink that takes no bytes, before it goes
/// on without it.
const FINISH_PATIENCE: Duration = Duration::from_secs(3);

/// What a capture keeps, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// Bytes of a frame to keep; what is longer is cut, with its length noted.
    pub snap_len: usize,
    /// Frames that may wait for the writer.
    pub waiting_frames: usize,
    /// Bytes that may wait for the writer.
    pub waiting_bytes: usize,
    /// Bytes of a file after which the next is begun: it is longer by less than
    /// a frame and the statistics at its end. None for no limit.
    pub file_bytes: Option<u64>,
    /// How long a file with frames is written before the next is begun. None for
    /// no limit.
    pub file_age: Option<Duration>,
}

impl Default for CaptureOptions {
    fn default() -> CaptureOptions {
        CaptureOptions {
            snap_len: 65_535,
            waiting_frames: 32_768,
            waiting_bytes: 32 << 20,
            file_bytes: None,
            file_age: None,
        }
    }
}

/// Where a capture is written. Called on the writer's thread only, which may
/// block there.
pub trait Files: Send {
    /// Begins the next file: the first one when the capture starts, others as
    /// [`CaptureOptions`] says. It need not be buffered. The file before is
    /// complete and has been dropped.
    ///
    /// # Errors
    /// What the system says; the capture ends there.
    fn next(&mut self) -> io::Result<Box<dyn Write + Send>>;
}

/// One sink, and no file after it.
struct Single(Option<Box<dyn Write + Send>>);

impl Files for Single {
    fn next(&mut self) -> io::Result<Box<dyn Write + Send>> {
        let none = || io::Error::new(io::ErrorKind::Unsupported, "there is one sink only");
        self.0.take().ok_or_else(none)
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
    /// The sink took no bytes for seconds after the capture's end, which went on
    /// without it.
    #[error("whoever reads it stopped reading; {} frames were written, and {} were left out", summary.written, summary.left_out)]
    Stuck {
        /// What is in the file for certain and what is not.
        summary: CaptureSummary,
    },
}

/// What a capture has done so far. Each frame seen is written, filtered or left
/// out, or still waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Frames that crossed the wrapped queues.
    pub seen: u64,
    /// Frames in the file for certain: those since the last flush are not.
    pub written: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// Frames that nobody asked for ([`Sifted::refuse`]).
    pub filtered: u64,
    /// Frames left out: no room for them to wait, or writing had failed.
    pub left_out: u64,
    /// Files begun.
    pub files: u64,
    /// Whether writing failed, so that the capture ends early.
    pub failed: bool,
}

/// What a finished capture holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    /// Frames in the files.
    pub written: u64,
    /// Bytes of frames in the files.
    pub written_bytes: u64,
    /// Frames that nobody asked for.
    pub filtered: u64,
    /// Frames that crossed and are not in a file, though they should be.
    pub left_out: u64,
    /// Of these, those that the sift gave up ([`Sifted::lose`]), by cause.
    pub causes: BTreeMap<&'static str, u64>,
    /// Files begun.
    pub files: u64,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    In,
    /// It was sent.
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
    tag: SegmentTag,
    /// The device was to complete its checksum.
    is_partial: bool,
    bytes: Vec<u8>,
}

/// One captured queue.
struct Interface {
    name: String,
    since: Nanos,
    seen: AtomicU64,
    written: AtomicU64,
    written_bytes: AtomicU64,
    filtered: AtomicU64,
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
            filtered: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }
}

/// What the path, the writer and the handle share.
struct Shared {
    options: CaptureOptions,
    wall_offset_ns: u64,
    records: ArrayQueue<Record>,
    buffers: ArrayQueue<Vec<u8>>,
    /// Bytes in `records`.
    waiting_bytes: AtomicUsize,
    /// Never locked on the path, but when a capture is switched on there.
    interfaces: Mutex<Vec<Arc<Interface>>>,
    secrets: Secrets,
    /// Frames that the sift gave up, by cause.
    causes: Mutex<BTreeMap<&'static str, u64>>,
    files: AtomicU64,
    /// The writer is between taking records and being done with them.
    busy: AtomicBool,
    /// The path is to copy nothing any more.
    closed: AtomicBool,
    failed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(options: CaptureOptions) -> Shared {
        let waiting_frames = options.waiting_frames.max(1);
        let options = CaptureOptions {
            snap_len: options.snap_len.max(1),
            ..options
        };
        let buffer_bytes = BUFFER_BYTES.min(options.snap_len);
        let buffers = ArrayQueue::new(waiting_frames);
        for _ in 0..waiting_frames {
            let _ = buffers.push(Vec::with_capacity(buffer_bytes));
        }
        Shared {
            options,
            wall_offset_ns: clock::wall_offset_ns(),
            records: ArrayQueue::new(waiting_frames),
            buffers,
            waiting_bytes: AtomicUsize::new(0),
            interfaces: Mutex::default(),
            secrets: Secrets::default(),
            causes: Mutex::default(),
            files: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    fn interfaces(&self) -> MutexGuard<'_, Vec<Arc<Interface>>> {
        lock(&self.interfaces)
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
            files: self.files.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            ..CaptureStats::default()
        };
        for interface in self.interfaces().iter() {
            stats.seen += interface.seen.load(Ordering::Relaxed);
            stats.written += interface.written.load(Ordering::Relaxed);
            stats.written_bytes += interface.written_bytes.load(Ordering::Relaxed);
            stats.filtered += interface.filtered.load(Ordering::Relaxed);
            stats.left_out += interface.left_out.load(Ordering::Relaxed);
        }
        stats
    }

    fn summary(&self) -> CaptureSummary {
        let stats = self.stats();
        CaptureSummary {
            written: stats.written,
            written_bytes: stats.written_bytes,
            filtered: stats.filtered,
            left_out: stats.left_out,
            causes: lock(&self.causes).clone(),
            files: stats.files,
        }
    }
}

/// What a queue's wrapper needs of a capture.
#[derive(Clone)]
struct Plug {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Plug {
    /// Makes `name` an interface of the capture.
    fn probe(&self, name: &str) -> Probe {
        let interface = Arc::new(Interface::new(name.to_owned()));
        let mut interfaces = self.shared.interfaces();
        let number = u32::try_from(interfaces.len()).expect("fewer queues than 2^32");
        interfaces.push(interface.clone());
        drop(interfaces);
        Probe::new(self.clone(), number, interface)
    }
}

/// A pcapng file being written. Dropping it finishes the file as
/// [`CaptureFile::finish`] does, without telling how that went; the wrapped
/// queues go on without it.
pub struct CaptureFile {
    plug: Plug,
    /// How writing went, once it is over.
    writer: Option<Receiver<io::Result<()>>>,
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
        let options = CaptureOptions {
            file_bytes: None,
            file_age: None,
            ..options
        };
        CaptureFile::start_in(Box::new(Single(Some(Box::new(sink)))), options, None)
    }

    /// Starts a capture that goes to files, through a sift if there is one.
    ///
    /// # Errors
    /// [`CaptureError::Thread`].
    pub fn start_in(
        files: Box<dyn Files>,
        options: CaptureOptions,
        sift: Option<Box<dyn Sift>>,
    ) -> Result<CaptureFile, CaptureError> {
        let shared = Arc::new(Shared::new(options));
        let (done, writer) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("wirepath-capture".to_owned())
            .spawn({
                let shared = shared.clone();
                move || {
                    let outcome = writer::run(&shared, files, sift);
                    // Nobody waits any more when it took too long.
                    let _ = done.send(outcome);
                }
            })
            .map_err(CaptureError::Thread)?;
        Ok(CaptureFile {
            plug: Plug {
                thread: thread.thread().clone(),
                shared,
            },
            writer: Some(writer),
        })
    }

    /// What the capture has done so far.
    pub fn stats(&self) -> CaptureStats {
        self.plug.shared.stats()
    }

    /// Where to leave TLS keys for the file.
    pub fn secrets(&self) -> Secrets {
        self.plug.shared.secrets.clone()
    }

    /// Captures what crosses `queue` from now on, as an interface of its own.
    pub fn wrap<Q: Queue>(&self, queue: Q) -> Capture<Q> {
        let probe = self.plug.probe(&queue.info().name);
        Capture::with_probe(queue, probe)
    }

    /// Writes what waits and the statistics, and closes the file. What crosses
    /// the queues from now on is not part of the capture.
    ///
    /// # Errors
    /// [`CaptureError::Write`] when writing failed at any time;
    /// [`CaptureError::Stuck`] when the sink takes nothing.
    pub fn finish(mut self) -> Result<CaptureSummary, CaptureError> {
        let result = self.close();
        let mut summary = self.plug.shared.summary();
        match result {
            Some(Ok(())) => Ok(summary),
            Some(Err(source)) => Err(CaptureError::Write { summary, source }),
            None => {
                let seen = self.stats().seen;
                summary.left_out = seen - summary.written - summary.filtered;
                Err(CaptureError::Stuck { summary })
            }
        }
    }

    /// How writing went; None when it is not over in time.
    fn close(&mut self) -> Option<io::Result<()>> {
        self.plug.shared.closed.store(true, Ordering::Release);
        let Some(writer) = self.writer.take() else {
            return Some(Ok(()));
        };
        self.plug.thread.unpark();
        match writer.recv_timeout(FINISH_PATIENCE) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(io::Error::other("the writer thread panicked")))
            }
        }
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        let _ = self.close();
    }
}
