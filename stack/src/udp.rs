//! UDP sockets (RFC 768, RFC 1122 §4.1): who has which port, and what waits to
//! be received.
//!
//! smoltcp finds a datagram's socket by asking each in turn, so these are ours:
//! [`Bound`] maps address and port to a slot, and smoltcp's `wire` writes the
//! packets. One socket has an address and port at a time, and one bound to the
//! unspecified address, of either family, has the port on all addresses of both,
//! as with listeners. A connected socket hears its peer alone; to others the
//! port is closed.
//!
//! Only what was sent to an address of ours alone gets in: no socket takes
//! broadcasts or joins a group, and none sends to them. What waits is bounded in
//! datagrams and in bytes, and the newest is dropped, as Linux does.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, UdpPacket, UdpRepr};

use crate::ether::{self, HEADER_LEN};
use crate::icmp::HOP_LIMIT;
use crate::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN};
use crate::syscall::{Ready, UdpOptions};
use crate::{Errno, Fd, MacAddr};

/// Bytes of a UDP header.
const UDP_HEADER_LEN: usize = 8;
/// What an empty receive queue keeps of its memory, in bytes.
const KEPT: usize = 4_096;

/// Which slot has which address and port.
#[derive(Default)]
pub(crate) struct Bound(HashMap<(IpAddr, u16), u32>);

/// The unspecified addresses of both families are one.
fn normal(addr: IpAddr) -> IpAddr {
    if addr.is_unspecified() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        addr
    }
}

impl Bound {
    const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    /// Who gets a datagram to `addr` and `port`.
    pub(crate) fn find(&self, addr: IpAddr, port: u16) -> Option<u32> {
        let exact = self.0.get(&(addr, port));
        exact.or_else(|| self.0.get(&(Bound::ALL, port))).copied()
    }

    /// Whether someone has `addr` and `port`, or a part of it. `own` are the
    /// addresses that the unspecified one stands for.
    pub(crate) fn collides(
        &self,
        addr: IpAddr,
        port: u16,
        mut own: impl Iterator<Item = IpAddr>,
    ) -> bool {
        self.find(normal(addr), port).is_some()
            || (addr.is_unspecified() && own.any(|own| self.0.contains_key(&(own, port))))
    }

    pub(crate) fn insert(&mut self, addr: SocketAddr, slot: u32) {
        let before = self.0.insert((normal(addr.ip()), addr.port()), slot);
        debug_assert!(before.is_none(), "the caller looked for collisions");
    }

    pub(crate) fn remove(&mut self, addr: SocketAddr) {
        self.0.remove(&(normal(addr.ip()), addr.port()));
    }
}

/// Why a datagram was not taken into a receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Datagrams,
    Bytes,
}

/// A datagram that waits; its data is in the socket's `bytes`.
struct Waiting {
    from: SocketAddr,
    len: usize,
}

/// One shard's part of a UDP socket.
pub(crate) struct UdpSocket {
    pub(crate) fd: Fd,
    /// As it was bound; unspecified for all addresses.
    pub(crate) bound: SocketAddr,
    /// Once connected: our address toward the peer, and the peer.
    pub(crate) connected: Option<(IpAddr, SocketAddr)>,
    options: UdpOptions,
    /// The word that its events carry.
    pub(crate) token: Option<u64>,
    queue: VecDeque<Waiting>,
    bytes: VecDeque<u8>,
    /// What the next call fails with.
    error: Option<Errno>,
    /// What has become true since it was last told.
    edges: Ready,
    /// In the shard's list of those whose readiness may have changed.
    pub(crate) is_touched: bool,
    /// In the shard's list of those that met a full ring.
    pub(crate) waits_to_send: bool,
}

impl UdpSocket {
    pub(crate) fn new(fd: Fd, bound: SocketAddr, options: UdpOptions) -> UdpSocket {
        UdpSocket {
            fd,
            bound,
            connected: None,
            options,
            token: None,
            queue: VecDeque::new(),
            bytes: VecDeque::new(),
            error: None,
            edges: Ready::empty(),
            is_touched: false,
            waits_to_send: false,
        }
    }

    /// Our address as the user sees it.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match self.connected {
            Some((source, _)) => SocketAddr::new(source, self.bound.port()),
            None => self.bound,
        }
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.connected.map(|(_, peer)| peer)
    }

    /// Whether it hears `from`.
    pub(crate) fn hears(&self, from: SocketAddr) -> bool {
        self.peer().is_none_or(|peer| peer == from)
    }

    /// Takes a datagram in.
    pub(crate) fn push(&mut self, from: SocketAddr, data: &[u8]) -> Result<(), Full> {
        if self.queue.len() >= self.options.recv_datagrams {
            return Err(Full::Datagrams);
        }
        if self.bytes.len() + data.len() > self.options.recv_bytes {
            return Err(Full::Bytes);
        }
        let len = data.len();
        self.queue.push_back(Waiting { from, len });
        self.bytes.extend(data);
        self.edges |= Ready::READ;
        Ok(())
    }

    /// Copies the oldest datagram out, as much of it as fits; the rest of it is
    /// lost. Bytes copied, its length, its sender.
    pub(crate) fn pop(&mut self, buf: &mut [u8]) -> Result<(usize, usize, SocketAddr), Errno> {
        self.take_error()?;
        let Waiting { from, len } = self.queue.pop_front().ok_or(Errno::WouldBlock)?;
        let room = len.min(buf.len());
        let copied = Read::read(&mut self.bytes, &mut buf[..room]).unwrap_or(0);
        let copied = copied + Read::read(&mut self.bytes, &mut buf[copied..room]).unwrap_or(0);
        debug_assert_eq!(copied, room, "the bytes of what waits are there");
        self.bytes.drain(..len - copied);
        if self.queue.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
        Ok((copied, len, from))
    }

    /// Bytes that wait to be received.
    pub(crate) fn queued(&self) -> usize {
        self.bytes.len()
    }

    /// Has the next call fail.
    pub(crate) fn fail(&mut self, error: Errno) {
        self.error.get_or_insert(error);
        self.edges |= Ready::READ | Ready::WRITE;
    }

    /// The error that waits, once.
    pub(crate) fn take_error(&mut self) -> Result<(), Errno> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// There is room to send again.
    pub(crate) fn may_send(&mut self) {
        self.waits_to_send = false;
        self.edges |= Ready::WRITE;
    }

    /// What a call would find now, which has been told with this.
    pub(crate) fn readiness(&mut self) -> Ready {
        self.edges = Ready::empty();
        let mut ready = Ready::empty();
        let failed = self.error.is_some();
        ready.set(Ready::READ, !self.queue.is_empty() || failed);
        ready.set(Ready::WRITE, !self.waits_to_send || failed);
        ready
    }

    /// What has become true since it was last told.
    pub(crate) fn take_edges(&mut self) -> Ready {
        std::mem::take(&mut self.edges)
    }
}

/// A datagram of ours.
pub(crate) struct Outgoing<'a> {
    pub(crate) src: SocketAddr,
    /// Of the same family.
    pub(crate) dst: SocketAddr,
    pub(crate) data: &'a [u8],
}

impl Outgoing<'_> {
    /// Bytes of its IP packet.
    pub(crate) fn packet_len(&self) -> usize {
        let header = if self.src.is_ipv4() {
            IPV4_HEADER_LEN
        } else {
            IPV6_HEADER_LEN
        };
        header + UDP_HEADER_LEN + self.data.len()
    }

    pub(crate) fn frame_len(&self) -> usize {
        HEADER_LEN + self.packet_len()
    }

    /// Writes the frame, with checksums, into a buffer of its length.
    pub(crate) fn emit(&self, frame: &mut [u8], from: MacAddr, to: MacAddr) {
        let is_v4 = self.src.is_ipv4();
        let ethertype = if is_v4 { ether::IPV4 } else { ether::IPV6 };
        ether::write_header(frame, to, from, ethertype);
        let (src, dst) = (self.src.ip().into(), self.dst.ip().into());
        let len = UDP_HEADER_LEN + self.data.len();
        let ip = IpRepr::new(src, dst, IpProtocol::Udp, len, HOP_LIMIT);
        let checksums = ChecksumCapabilities::default();
        ip.emit(&mut frame[HEADER_LEN..], &checksums);
        let header = UdpRepr {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
        };
        header.emit(
            &mut UdpPacket::new_unchecked(&mut frame[HEADER_LEN + ip.header_len()..]),
            &src,
            &dst,
            self.data.len(),
            |payload| payload.copy_from_slice(self.data),
            &checksums,
        );
    }
}
