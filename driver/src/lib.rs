//! Frames and the devices that carry them: the lowest layer of Wirepath.
//!
//! A device gives one or more [`Queue`]s. A queue is a pair of rings, one of
//! received frames and one of frames to send, that its owner polls in bursts.
//! Frames are owned values cut from a [`FramePool`]; whoever holds one is the
//! only one who can touch its bytes, and dropping it gives it back.
//!
//! This crate knows of a frame that it is bytes with an Ethernet header. It
//! starts no threads but the writer of [`capture`].
//!
//! [`trace`], [`region`] and [`clock`] are the foundation that every crate
//! above shares.

pub mod cable;
pub mod capture;
pub mod clock;
mod frame;
pub mod impair;
pub mod region;
mod ring;
pub mod tap;
pub mod trace;
#[cfg(feature = "xdp")]
pub mod xdp;

pub use cable::{CableEnd, CableError, CableOptions, cable};
pub use capture::{
    Capture, CaptureError, CaptureFile, CaptureOptions, CaptureStats, CaptureSummary,
    CaptureSwitch, FrameRing,
};
pub use clock::Nanos;
pub use frame::{Frame, FrameMeta, FramePool, Offload, PoolError, SegmentTag, Spares};
pub use impair::{Impair, ImpairOptions, ImpairStats, Impairment};
pub use ring::{BURST_FRAMES, Queue, QueueInfo, RingFill, RingStats};
pub use tap::{Tap, TapError, TapOptions};
