//! The "kernel" in userspace: from frames to byte streams and readiness.
//!
//! A [`Stack`] has one shard for each queue. A shard owns its queue, a
//! smoltcp interface, a flow table, listeners and connections, all behind one
//! lock; nothing in it is shared with another shard. [`syscall`] is the
//! boundary: what a runtime may ask, non-blocking, with POSIX names and error
//! kinds.

mod addr;
mod errno;
#[allow(dead_code)]
mod ether;
mod fd;
#[allow(dead_code)]
mod icmp;
#[allow(dead_code)]
mod ip;
#[allow(dead_code)]
mod neighbor;
pub mod syscall;

pub use addr::{Cidr, MacAddr, ParseAddrError};
pub use errno::Errno;
pub use fd::Fd;
pub use syscall::Stack;
