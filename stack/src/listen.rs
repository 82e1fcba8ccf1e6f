//! Listeners: who may connect, and the two queues of those who do.
//!
//! A SYN makes a connection at once (there are no SYN cookies): *half-open*
//! until the final ACK, at most `syn_backlog` of them, then in the *accept
//! queue*, at most `backlog`. Either full, a SYN is dropped and counted, as
//! Linux drops it: the peer tries again. A final ACK that finds the accept
//! queue full is dropped too, and the SYN-ACK is sent again later.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::Fd;
use crate::syscall::ListenOptions;

/// One shard's part of a listener.
pub(crate) struct Listener {
    pub(crate) fd: Fd,
    pub(crate) addr: SocketAddr,
    pub(crate) options: ListenOptions,
    /// The word that its events carry.
    pub(crate) token: Option<u64>,
    /// Connections whose handshake is under way.
    pub(crate) half_open: usize,
    /// Slots of established connections, oldest first.
    pub(crate) accept_queue: VecDeque<u32>,
    /// A connection came since the last event.
    pub(crate) has_news: bool,
}

impl Listener {
    pub(crate) fn new(fd: Fd, addr: SocketAddr, options: ListenOptions) -> Listener {
        Listener {
            fd,
            addr,
            options,
            token: None,
            half_open: 0,
            accept_queue: VecDeque::new(),
            has_news: false,
        }
    }

    /// Whether it listens on `addr`. An unspecified address, of either family,
    /// listens on all addresses of both, as Go's `:80` does.
    pub(crate) fn covers(&self, addr: IpAddr) -> bool {
        self.addr.ip().is_unspecified() || self.addr.ip() == addr
    }

    /// Whether two listeners on a port exclude each other.
    pub(crate) fn collides(&self, addr: IpAddr) -> bool {
        addr.is_unspecified() || self.covers(addr)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.accept_queue.len() >= self.options.backlog.max(1)
    }
}
