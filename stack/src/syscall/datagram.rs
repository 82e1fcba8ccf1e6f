//! Datagrams and names: the calls of UDP sockets and of lookups.

use std::net::{IpAddr, SocketAddr};

use wirepath_driver::Nanos;

use super::Stack;
use crate::{Errno, Fd};

/// Tries to find a port that is free on every shard.
const PORT_TRIES: usize = 64;

/// Options of a UDP socket.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UdpOptions {
    /// Datagrams that wait to be received, at most.
    pub recv_datagrams: usize,
    /// Bytes of data that wait to be received, at most.
    pub recv_bytes: usize,
}

impl Default for UdpOptions {
    /// 1,024 datagrams and 208 KiB (Linux's `net.core.rmem_default`).
    fn default() -> UdpOptions {
        UdpOptions {
            recv_datagrams: 1_024,
            recv_bytes: 212_992,
        }
    }
}

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 (A records).
    Ipv4,
    /// IPv6 (AAAA records).
    Ipv6,
    /// Both.
    Any,
}

impl Stack {
    /// A UDP socket on every shard: one descriptor for each, in their order. Port
    /// 0 takes a free one. An unspecified address, of either family, means all
    /// addresses of both. What is sent to the port comes to the descriptor of the
    /// shard on whose queue it arrives.
    ///
    /// # Errors
    /// [`Errno::AddrInUse`], [`Errno::AddrNotAvailable`] for an address that is
    /// not the stack's or when no port is free, [`Errno::NoBuffers`],
    /// [`Errno::NetworkDown`].
    pub fn udp_bind(&self, addr: SocketAddr, options: &UdpOptions) -> Result<Vec<Fd>, Errno> {
        if addr.port() != 0 {
            return self.udp_bind_all(addr, options);
        }
        for _ in 0..PORT_TRIES {
            let port = self.shards[0].with(|shard| shard.free_udp_port(addr.ip()));
            let port = port.ok_or(Errno::AddrNotAvailable)?;
            match self.udp_bind_all(SocketAddr::new(addr.ip(), port), options) {
                Err(Errno::AddrInUse) => {}
                bound => return bound,
            }
        }
        Err(Errno::AddrNotAvailable)
    }

    fn udp_bind_all(&self, addr: SocketAddr, options: &UdpOptions) -> Result<Vec<Fd>, Errno> {
        let mut fds = Vec::with_capacity(self.shards.len());
        for cell in self.shards.iter() {
            match cell.with(|shard| shard.udp_bind(addr, options)) {
                Ok(fd) => fds.push(fd),
                Err(error) => {
                    for fd in fds {
                        let _ = self.close(fd, Nanos::ZERO);
                    }
                    return Err(error);
                }
            }
        }
        Ok(fds)
    }

    /// Sets whom the socket sends to and hears, and our address toward it. What
    /// came from others before stays in the queue. May be called again.
    ///
    /// # Errors
    /// [`Errno::AddrNotAvailable`] (port 0, one of our own addresses, or ours not
    /// usable yet), [`Errno::NetworkUnreachable`], [`Errno::AccessDenied`] for a
    /// broadcast address or a group, [`Errno::BadFd`], [`Errno::Invalid`] for a
    /// descriptor of another kind.
    pub fn udp_connect(&self, fd: Fd, remote: SocketAddr) -> Result<(), Errno> {
        self.of(fd, |shard| shard.udp_connect(fd, remote))
    }

    /// Sends one datagram; it leaves with the next flush, or when its next hop
    /// has answered (a few wait for that; beyond, the oldest is dropped and
    /// counted). Without an address it goes to the peer of `udp_connect`. Returns
    /// the length of `data`. After [`Errno::WouldBlock`] a WRITE edge tells when
    /// the ring has room.
    ///
    /// # Errors
    /// [`Errno::MessageSize`], [`Errno::NotConnected`] without an address,
    /// [`Errno::HostUnreachable`] when the next hop did not answer of late,
    /// [`Errno::NetworkDown`], those of `udp_connect`, and once what an earlier
    /// datagram of a connected socket met: [`Errno::ConnectionRefused`] after
    /// «port unreachable», [`Errno::HostUnreachable`].
    pub fn udp_send_to(
        &self,
        fd: Fd,
        data: &[u8],
        to: Option<SocketAddr>,
        now: Nanos,
    ) -> Result<usize, Errno> {
        self.of(fd, |shard| shard.udp_send_to(fd, data, to, now))
    }

    /// Takes the oldest datagram: bytes copied to `buf`, its length (what did not
    /// fit is lost, as `MSG_TRUNC` tells), and its sender.
    ///
    /// # Errors
    /// [`Errno::WouldBlock`], [`Errno::BadFd`], [`Errno::Invalid`],
    /// [`Errno::NetworkDown`], and once what a datagram that we sent met, as
    /// `udp_send_to`.
    pub fn udp_recv_from(
        &self,
        fd: Fd,
        buf: &mut [u8],
    ) -> Result<(usize, usize, SocketAddr), Errno> {
        self.data_of(fd, |shard| shard.udp_recv_from(fd, buf))
    }

    /// Begins to ask the configured servers for the addresses of `name`, on one
    /// shard; READ readiness tells of the end, [`Stack::dns_result`] how. Ends by
    /// itself: each server is asked three times at most, for 1, 2 and 4 s. The
    /// first messages leave with the next flush. Close the descriptor when done.
    ///
    /// # Errors
    /// [`Errno::NoNameServer`], [`Errno::NameNotFound`] for what cannot be a name
    /// (RFC 1035 §2.3.4), [`Errno::NoBuffers`] with too many lookups under way,
    /// [`Errno::NetworkDown`].
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn dns_query(
        &self,
        shard: usize,
        name: &str,
        family: Family,
        now: Nanos,
    ) -> Result<Fd, Errno> {
        self.shards[shard].with(|shard| shard.dns_query(name, family, now))
    }

    /// The addresses, in the order in which to try them: those that we have a
    /// route to first, of these IPv6 first (RFC 6724 §6, rules 1 and 6).
    ///
    /// # Errors
    /// [`Errno::WouldBlock`] while under way; [`Errno::NameNotFound`] when the
    /// name does not exist or has no such address, [`Errno::TimedOut`],
    /// [`Errno::NameServerFailed`], [`Errno::NetworkDown`], what kept the last
    /// query from leaving; [`Errno::BadFd`], [`Errno::Invalid`] for a descriptor
    /// of another kind.
    pub fn dns_result(&self, fd: Fd) -> Result<Vec<IpAddr>, Errno> {
        self.of(fd, |shard| shard.dns_result(fd))
    }
}
