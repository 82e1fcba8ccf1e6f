//! TCP as a goroutine sees it: calls that block the goroutine, over a stack
//! whose calls never block.
//!
//! A call tries the stack, and when that would block, waits for readiness and
//! tries again. Between two steps of a goroutine nothing may block, so each
//! call has a `try_` form and each kind of readiness a [`Wait`] to end the
//! step with.
//!
//! What a write leaves to be sent goes out when the goroutine next waits, or
//! shortly after: several writes share a segment where they fit.
//! [`std::io::Write::flush`] sends at once.
//!
//! A runtime that shuts down ends every wait here with an error of kind
//! `Other`, «the runtime is shutting down».

#[cfg(any(feature = "futures-io", feature = "hyper"))]
mod async_io;
mod listener;
mod stream;

use std::io;
use std::sync::Arc;

pub use listener::TcpListener;
pub use stream::TcpStream;
pub use wirepath_stack::syscall::ListenOptions;

use crate::sched::{Shared, current_runtime};

#[derive(Debug, thiserror::Error)]
#[error("no runtime here: the network is for goroutines and for threads that entered a runtime")]
struct NoRuntime;

fn runtime() -> io::Result<Arc<Shared>> {
    current_runtime().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, NoRuntime))
}
