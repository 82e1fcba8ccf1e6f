//! What stands between the captured frames and the file.

use super::Direction;
use crate::clock::Nanos;
use crate::frame::SegmentTag;

/// A captured frame, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The queue's number in the capture.
    pub interface: u32,
    /// Which way it went.
    pub direction: Direction,
    /// When.
    pub at: Nanos,
    /// Bytes of the whole frame, of which `bytes` may have fewer.
    pub original_len: usize,
    /// The bytes kept.
    pub bytes: Vec<u8>,
    /// What the stack noted of a frame that it sent: its flow and the bytes of
    /// the stream in it. Empty for a received one.
    pub tag: SegmentTag,
    /// What a reader of the file is to be told of it (`opt_comment`); empty for
    /// nothing.
    pub comment: String,
}

/// Sees each frame on the writer's thread before it is written, and says what
/// becomes of it: now, or later, as long as it bounds what it holds.
pub trait Sift: Send {
    /// A frame was captured.
    fn frame(&mut self, frame: Captured, out: &mut Sifted);

    /// It is `now`: called several times a second. What was held back for long
    /// enough can go.
    fn tick(&mut self, now: Nanos, out: &mut Sifted);

    /// The capture ends: whatever is held must go.
    fn end(&mut self, out: &mut Sifted);
}

/// What becomes of frames.
#[derive(Default)]
pub struct Sifted {
    pub(super) kept: Vec<Captured>,
    /// Interfaces of frames that nobody asked for.
    pub(super) refused: Vec<u32>,
    /// Interfaces and causes of frames that were given up.
    pub(super) lost: Vec<(u32, &'static str)>,
}

impl Sifted {
    /// It goes into the file, after those before it.
    pub fn keep(&mut self, frame: Captured) {
        self.kept.push(frame);
    }

    /// Nobody asked for it.
    pub fn refuse(&mut self, frame: &Captured) {
        self.refused.push(frame.interface);
    }

    /// Frames that go into the file, in their order, for whoever tests a sift.
    pub fn take_kept(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.kept)
    }

    /// How many frames nobody asked for.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Why frames were given up.
    pub fn lost(&self) -> Vec<&'static str> {
        self.lost.iter().map(|(_, cause)| *cause).collect()
    }

    /// It may be wanted and cannot be held any longer. Counted by `cause`, and
    /// as left out.
    pub fn lose(&mut self, frame: &Captured, cause: &'static str) {
        self.lost.push((frame.interface, cause));
    }
}
