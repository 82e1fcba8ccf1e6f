//! The "kernel" in userspace: from frames to byte streams and readiness.
//!
//! A [`Stack`] has one shard for each queue. A shard owns its queue, a
//! smoltcp interface, a flow table, listeners and connections, all behind one
//! lock; nothing in it is shared with another shard. [`syscall`] is the
//! boundary: what a runtime may ask, non-blocking, with POSIX names and error
//! kinds.

#![deny(unsafe_code)]

mod addr;
#[allow(unsafe_code, reason = "socket buffers are cut from reserved memory")]
mod buffer;
mod conn;
mod dial;
mod dns;
mod errno;
mod ether;
mod fd;
mod flow;
mod icmp;
mod ip;
mod isn;
mod listen;
mod neighbor;
mod phy;
mod port;
mod route;
mod rtt;
mod segment;
mod shard;
mod stats;
pub mod syscall;
mod time_wait;
mod udp;
mod wheel;

#[cfg(test)]
mod tests;

pub use addr::{Cidr, MacAddr, ParseAddrError};
pub use errno::Errno;
pub use fd::Fd;
pub use isn::{Given, IsnOf};
pub use rtt::RttEstimate;
pub use stats::{Counters, Gauges, Ledger, ShardStats, Stats};
pub use syscall::{
    Config, ConfigError, Event, Family, FlowInfo, FlowView, ListenOptions, Ready, Shutdown, Stack,
    Turn, UdpOptions,
};
