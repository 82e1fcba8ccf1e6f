//! What a runtime may ask of the stack: the kernel boundary.
//!
//! Nothing here blocks: a call that cannot go on returns
//! [`Errno::WouldBlock`] and the caller parks until [`Stack::poll`] reports
//! the descriptor ready. Names and error kinds are those of POSIX. Readiness
//! is edge-triggered (`EPOLLET`): spurious events are allowed, lost ones are
//! not.
//!
//! Egress is deferred. A call that gives TCP something to send marks its
//! connection dirty in its shard; the caller remembers the shard and calls
//! [`Stack::flush`] before it sleeps.

use std::net::SocketAddr;
use std::time::Duration;

use wirepath_driver::{Nanos, Queue};

use crate::{Cidr, Errno, Fd, MacAddr};

/// What a stack is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Its addresses, at most 8, each with the prefix of its network.
    pub addrs: Vec<Cidr>,
    /// Its Ethernet address; the same on every queue.
    pub mac: MacAddr,
    /// Next hop for what no prefix covers, at most one for each family.
    pub gateways: Vec<std::net::IpAddr>,
}

impl Config {
    /// A stack with these addresses and this Ethernet address.
    pub fn new(mac: MacAddr, addrs: Vec<Cidr>) -> Config {
        Config {
            addrs,
            mac,
            gateways: Vec::new(),
        }
    }
}

/// Why a stack could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An address that a host cannot have (multicast, unspecified, broadcast).
    #[error("{0} is not an address that a host can have")]
    BadAddr(Cidr),
}

/// Options of a listener; every connection that it accepts has them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections whose handshake is under way, at most.
    pub syn_backlog: usize,
    /// Established connections that wait to be accepted, at most (`listen(2)`).
    pub backlog: usize,
    /// Receive buffer, bytes.
    pub recv_buffer: usize,
    /// Send buffer, bytes.
    pub send_buffer: usize,
}

impl Default for ListenOptions {
    /// A backlog of 4096 both ways, as Linux has it; buffers of 64 KiB, which
    /// exist only as far as they are used.
    fn default() -> ListenOptions {
        ListenOptions {
            syn_backlog: 4096,
            backlog: 4096,
            recv_buffer: 64 << 10,
            send_buffer: 64 << 10,
        }
    }
}

bitflags::bitflags! {
    /// What became of a descriptor.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Ready: u8 {
        /// Bytes, an end of stream, an error, or (listener) a connection to
        /// accept.
        const READ = 1;
        /// Room in the send buffer again, established (after `connect`), or
        /// an error.
        const WRITE = 2;
        /// The peer is gone (reset, timed out): both directions.
        const HANGUP = 4;
    }
}

/// One readiness edge.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The descriptor, which tells a stale event by its generation.
    pub fd: Fd,
    /// The word given to [`Stack::register`].
    pub token: u64,
    /// What became of it.
    pub ready: Ready,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Frames taken in.
    pub frames: usize,
    /// Frames that left (handed to the ring).
    pub sent: usize,
    /// The budget ended before the ring was empty: turn again soon.
    pub more: bool,
}

/// Which side of a connection to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more reading: what still arrives is discarded.
    Read,
    /// No more writing: a FIN follows what is buffered.
    Write,
    /// Both.
    Both,
}

/// A userspace network stack. Clones share it.
#[derive(Clone)]
pub struct Stack {}

#[allow(missing_docs, unused_variables, clippy::unimplemented)]
impl Stack {
    /// A stack over these queues, one shard each (255 at most).
    pub fn new(config: Config, queues: Vec<Box<dyn Queue>>) -> Result<Stack, ConfigError> {
        unimplemented!()
    }
    pub fn shards(&self) -> usize {
        unimplemented!()
    }

    // The turn: called by the runtime's P's.
    /// One turn of a shard: takes frames off the ring (at most `budget`), runs timers,
    /// and appends readiness edges to `events` after the last ingress. Sends
    /// nothing that the goroutines about to be woken may still add to: call `flush` after
    /// they ran.
    pub fn poll(&self, shard: usize, now: Nanos, budget: usize, events: &mut Vec<Event>) -> Turn {
        unimplemented!()
    }
    /// Sends what the shard's dirty connections have to send, kicks the ring once.
    /// When another thread holds the shard's lock a mark is left that the holder serves.
    pub fn flush(&self, shard: usize, now: Nanos) -> usize {
        unimplemented!()
    }
    /// The shard's earliest timer or queue event.
    pub fn next_event(&self, shard: usize) -> Option<Nanos> {
        unimplemented!()
    }
    /// `Queue::arm`: called before sleeping; true: do not sleep.
    pub fn arm(&self, shard: usize) -> bool {
        unimplemented!()
    }
    /// A duplicate of the fd to sleep on (`Queue::wakeup`), owned, made once at set-up.
    pub fn wakeup(&self, shard: usize) -> Option<std::os::fd::OwnedFd> {
        unimplemented!()
    }

    // Descriptors.
    /// Listens on every shard (one Fd for each shard: `SO_REUSEPORT`'s shape). Port 0: a free port.
    /// Unspecified address: all.
    pub fn listen(&self, addr: SocketAddr, options: &ListenOptions) -> Result<Vec<Fd>, Errno> {
        unimplemented!()
    }
    pub fn accept(&self, listener: Fd, now: Nanos) -> Result<(Fd, SocketAddr), Errno> {
        unimplemented!()
    }
    /// Starts to connect; WRITE readiness tells of its end, `connect_result` how.
    pub fn connect(&self, shard: usize, remote: SocketAddr, now: Nanos) -> Result<Fd, Errno> {
        unimplemented!()
    }
    /// Ok when established; WouldBlock while under way; else why it failed.
    pub fn connect_result(&self, fd: Fd) -> Result<(), Errno> {
        unimplemented!()
    }
    /// Registers the word that events of `fd` carry; an fd that is ready already gives an edge
    /// at the next `poll` (which must not be slept through: returns what is ready now).
    pub fn register(&self, fd: Fd, token: u64) -> Result<Ready, Errno> {
        unimplemented!()
    }
    /// 0 is the end of the stream.
    pub fn read(&self, fd: Fd, buf: &mut [u8], now: Nanos) -> Result<usize, Errno> {
        unimplemented!()
    }
    pub fn write(&self, fd: Fd, buf: &[u8], now: Nanos) -> Result<usize, Errno> {
        unimplemented!()
    }
    pub fn shutdown(&self, fd: Fd, how: Shutdown, now: Nanos) -> Result<(), Errno> {
        unimplemented!()
    }
    /// Orderly close: the fd is gone at once, what is buffered is still sent, then FIN.
    /// With unread received data: RST, as Linux does (RFC 1122 4.2.2.13).
    pub fn close(&self, fd: Fd, now: Nanos) -> Result<(), Errno> {
        unimplemented!()
    }
    /// RST (SO_LINGER 0 and close).
    pub fn abort(&self, fd: Fd, now: Nanos) -> Result<(), Errno> {
        unimplemented!()
    }
    pub fn set_keepalive(&self, fd: Fd, interval: Option<Duration>) -> Result<(), Errno> {
        unimplemented!()
    }
    pub fn local_addr(&self, fd: Fd) -> Result<SocketAddr, Errno> {
        unimplemented!()
    }
    pub fn peer_addr(&self, fd: Fd) -> Result<SocketAddr, Errno> {
        unimplemented!()
    }
    /// Bytes in the socket buffers now: (receive, send).
    pub fn queued(&self, fd: Fd) -> Result<(usize, usize), Errno> {
        unimplemented!()
    }
}
