//! Sockets as a goroutine sees them: calls that block the goroutine, over a
//! network whose calls never block.
//!
//! A call tries, and when that would block, waits for readiness and tries
//! again. Between two steps of a goroutine nothing may block, so each call has
//! a `try_` form and each kind of readiness a [`Wait`](crate::Wait) to end the
//! step with.
//!
//! # Which network
//!
//! There are two, and both may be in use in one process: the runtime's own
//! [stack](Network::Stack), and the [kernel's](Network::Kernel). A call that
//! names none takes the runtime's: its stack's if it has one, else the
//! kernel's, unless [`Builder::network`](crate::Builder::network) said
//! otherwise. `bind_on`, `connect_on` and their like name one. What they return
//! is the same type with the same behaviour, so that one goroutine may copy
//! from a socket of one to a socket of the other. [`PollFd`] waits for anything
//! else that the kernel has, as a pipe.
//!
//! What a write to the stack leaves to be sent goes out when the goroutine next
//! waits, or shortly after: several writes share a segment where they fit.
//! [`std::io::Write::flush`] sends at once. The kernel sends by itself.
//!
//! A runtime that shuts down ends every wait here with an error of kind
//! `Other`, «the runtime is shutting down».
//!
//! # Inside
//!
//! A kind of socket is a struct around [`socket::Socket`], which has what all
//! share: the poll descriptor with its deadlines, the retry loop, the close.
//! Another kind is added so: get descriptors that do not block, of the stack
//! ([`socket::Socket::of_stack`]) or of the kernel
//! ([`socket::Socket::of_kernel`]; the calls are in `kernel.rs`); give it for
//! each operation a `poll_` method that matches on
//! [`socket::Socket::source`], makes the network's one call that does not
//! block, and marks the shard dirty where the stack has something to send; and
//! hand that to [`socket::Socket::retry`] for the blocking form and to
//! [`socket::Socket::attempt`] for the `try_` form. Close it in `Drop`.

#[cfg(any(feature = "futures-io", feature = "hyper"))]
mod async_io;
mod dial;
mod fd;
mod kernel;
mod listener;
mod lookup;
mod socket;
mod stream;
mod udp;

use std::io;
use std::sync::Arc;

pub use crate::netpoll::HangUpWatch;
pub use fd::PollFd;

pub use listener::TcpListener;
pub use lookup::{lookup_host, lookup_host_on};
pub use socket::Network;
pub use stream::TcpStream;
pub use udp::UdpSocket;
pub use wirepath_stack::syscall::{ListenOptions, UdpOptions};

use crate::sched::{Shared, current_runtime};

#[derive(Debug, thiserror::Error)]
#[error("no runtime here: the network is for goroutines and for threads that entered a runtime")]
struct NoRuntime;

fn runtime() -> io::Result<Arc<Shared>> {
    current_runtime().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, NoRuntime))
}
