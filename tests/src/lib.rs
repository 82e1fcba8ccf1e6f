//! The lab: what Wirepath's end-to-end tests run in.
//!
//! A test sets up a [`Lab`], starts a [`Server`](server::Server) in it, and
//! talks to it with the kernel's own TCP: through `curl`, or through a
//! [`Client`](http::Client) whose every byte the test decides, or with frames
//! that no kernel would send ([`inject`]). Traffic stays in the network
//! namespaces of the lab. See [`lab`] for the picture, and [`device`] for what
//! the server is put on.

pub mod bin;
pub mod bpf;
pub mod browser;
pub mod device;
pub mod echo;
pub mod frames;
pub mod http;
pub mod inject;
pub mod lab;
pub mod load;
pub mod netns;
pub mod nobody;
pub mod oracle;
pub mod pattern;
pub mod process;
pub mod server;
pub mod terminal;
pub mod wait;

pub use device::Device;
pub use lab::Lab;
pub use server::{Serve, Server};
