//! The "kernel" in userspace: from frames to byte streams and readiness.
//!
//! A [`Stack`] has one shard for each queue. A shard owns its queue, a
//! smoltcp interface, a flow table, listeners and connections, all behind one
//! lock; nothing in it is shared with another shard. [`syscall`] is the
//! boundary: what a runtime may ask, non-blocking, with POSIX names and error
//! kinds.

mod addr;
mod errno;
mod fd;
pub mod syscall;

pub use addr::{Cidr, MacAddr, ParseAddrError};
pub use errno::Errno;
pub use fd::Fd;
pub use syscall::Stack;
