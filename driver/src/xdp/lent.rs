//! The frames whose slots the kernel has (see [`super::queue`] for who has a slot
//! when). Nobody reaches a frame in here, so the kernel alone touches its bytes.

use crate::frame::Frame;

/// Frames of slots that the kernel has, by slot.
pub(super) struct Lent(Box<[Option<Frame>]>);

impl Lent {
    /// None lent yet, of `slots`.
    pub(super) fn new(slots: u32) -> Lent {
        Lent((0..slots).map(|_| None).collect())
    }

    /// Keeps a frame whose slot the kernel gets.
    pub(super) fn put(&mut self, frame: Frame) {
        let slot = frame.slot() as usize;
        let before = self.0[slot].replace(frame);
        assert!(before.is_none(), "a slot has one frame");
    }

    /// The frame of a slot that the kernel gave back; none if it had no such.
    pub(super) fn take(&mut self, slot: usize) -> Option<Frame> {
        self.0.get_mut(slot)?.take()
    }
}

impl Drop for Lent {
    /// The socket is closed, but the kernel may still be about to write to or
    /// read from what was lent.
    fn drop(&mut self) {
        for frame in self.0.iter_mut().filter_map(Option::take) {
            frame.abandon();
        }
    }
}
