//! Seeing the path: what a running server is doing, what it did in the last
//! seconds, and the page that shows both.
//!
//! * [`state`]: everything there is now, as one document: rings, flows, P's,
//!   goroutines, requests. The page, the control socket, `top`, `ss` and
//!   `goroutines` show parts of it.
//! * [`recording`]: a flight recorder's dump, written by a server and read by
//!   `wirepath trace`.
//! * [`journey`]: the requests of a recording, each with the hops that its time
//!   went to.
//! * [`page`]: the page `/debug/wirepath/`.
//! * [`stages`]: what happens at each stage, in words.

pub mod journey;
pub mod page;
mod recent;
pub mod recorder;
pub mod recording;
mod scene;
pub mod stages;
pub mod state;

pub use page::Page;
pub use recorder::Recorder;
pub use recording::Recording;
pub use scene::{Scene, Wanted};
