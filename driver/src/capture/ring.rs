//! The last frames, in memory.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::pcapng::Blocks;
use super::{
    Capture, CaptureError, CaptureFile, CaptureOptions, Captured, Plug, Sift, Sifted, Single, lock,
};
use crate::clock::Nanos;
use crate::ring::Queue;

/// How long [`FrameRing::take`] waits for frames that are on their way, and how
/// often it looks.
const TAKE_PATIENCE: Duration = Duration::from_millis(100);
const TAKE_LOOK: Duration = Duration::from_millis(1);

/// The last frames that crossed some queues, for a flight recorder: as many as
/// fit a number of bytes. Costs the path what a [`Capture`] does.
pub struct FrameRing {
    /// A capture that writes nothing: its sift keeps the frames.
    capture: CaptureFile,
    kept: Arc<Mutex<Kept>>,
}

impl FrameRing {
    /// A ring of `capacity` bytes, of which each frame takes its own and some for
    /// what is noted of it. Frames longer than `snap_len` are cut.
    ///
    /// # Errors
    /// [`CaptureError::Thread`].
    pub fn new(capacity: usize, snap_len: usize) -> Result<FrameRing, CaptureError> {
        let kept = Arc::new(Mutex::new(Kept {
            frames: VecDeque::new(),
            bytes: 0,
            capacity,
        }));
        let options = CaptureOptions {
            snap_len,
            ..CaptureOptions::default()
        };
        let nowhere = Single(Some(Box::new(io::sink())));
        let sift = Keep(kept.clone());
        let capture = CaptureFile::start_in(Box::new(nowhere), options, Some(Box::new(sift)))?;
        Ok(FrameRing { capture, kept })
    }

    /// Keeps what crosses `queue` from now on.
    pub fn wrap<Q: Queue>(&self, queue: Q) -> Capture<Q> {
        self.capture.wrap(queue)
    }

    /// The frames, as a whole pcapng file. They stay. Waits a moment for those
    /// that crossed just before.
    pub fn take(&self) -> Vec<u8> {
        let plug = &self.capture.plug;
        wait_for_writer(plug);
        let names: Vec<String> = {
            let interfaces = plug.shared.interfaces();
            interfaces.iter().map(|i| i.name.clone()).collect()
        };
        let kept = lock(&self.kept);
        write(plug, &names, &kept).expect("memory takes all that is written")
    }

    /// What makes wall-clock times of its times.
    #[cfg(test)]
    pub(super) fn capture_offset(&self) -> u64 {
        self.capture.plug.shared.wall_offset_ns
    }

    /// Frames in it now.
    pub fn frames(&self) -> usize {
        lock(&self.kept).frames.len()
    }
}

fn wait_for_writer(plug: &Plug) {
    let shared = &plug.shared;
    let is_behind = || !shared.records.is_empty() || shared.busy.load(Ordering::Acquire);
    for _ in 0..TAKE_PATIENCE.as_millis() / TAKE_LOOK.as_millis() {
        if !is_behind() {
            break;
        }
        plug.thread.unpark();
        std::thread::sleep(TAKE_LOOK);
    }
}

fn write(plug: &Plug, names: &[String], kept: &Kept) -> io::Result<Vec<u8>> {
    let shared = &plug.shared;
    let mut blocks = Blocks::begin(Vec::with_capacity(kept.bytes), shared.wall_offset_ns)?;
    for name in names {
        blocks.interface(name, shared.options.snap_len)?;
    }
    for frame in &kept.frames {
        // One of a queue that was wrapped just now.
        if (frame.interface as usize) < names.len() {
            blocks.frame(frame, 0)?;
        }
    }
    Ok(blocks.into_inner())
}

struct Kept {
    frames: VecDeque<Captured>,
    bytes: usize,
    capacity: usize,
}

fn weight(frame: &Captured) -> usize {
    frame.bytes.capacity() + size_of::<Captured>()
}

/// Keeps the frames, and has none written.
struct Keep(Arc<Mutex<Kept>>);

impl Sift for Keep {
    fn frame(&mut self, frame: Captured, out: &mut Sifted) {
        let kept = &mut *lock(&self.0);
        out.refuse(&frame);
        kept.bytes += weight(&frame);
        kept.frames.push_back(frame);
        while kept.bytes > kept.capacity
            && let Some(oldest) = kept.frames.pop_front()
        {
            kept.bytes -= weight(&oldest);
        }
    }

    fn tick(&mut self, _: Nanos, _: &mut Sifted) {}

    fn end(&mut self, _: &mut Sifted) {}
}
