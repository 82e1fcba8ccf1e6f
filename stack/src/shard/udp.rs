//! UDP in a shard: binding, sending, receiving, and datagrams that wait for their
//! next hop.

use std::net::{IpAddr, SocketAddr};

use wirepath_driver::{Frame, Nanos};

use super::{RING_FULL_RETRY, Shard};
use crate::flow::Entry;
use crate::icmp::Unreachable;
use crate::ip::Datagram;
use crate::neighbor::Resolution;
use crate::port::Ports;
use crate::route::Route;
use crate::syscall::UdpOptions;
use crate::udp::{Full, Outgoing, UdpSocket};
use crate::{Errno, Fd, MacAddr};

/// Datagrams that wait for one next hop, at most (RFC 1122 §2.3.2.2 asks for one
/// at least).
const UNRESOLVED_PER_HOP: usize = 64;
/// Datagrams that wait for all of them, at most.
const UNRESOLVED: usize = 256;

/// A datagram that waits for its next hop's station.
pub(super) struct Unresolved {
    next_hop: IpAddr,
    /// Whole but for the station that it goes to.
    frame: Vec<u8>,
    /// Who sent it, and from where to whom.
    fd: Fd,
    ends: (SocketAddr, SocketAddr),
}

impl Shard {
    fn open_udp(&mut self, fd: Fd) -> Result<&mut UdpSocket, Errno> {
        match self.slots.open(fd) {
            Some(Entry::Udp(socket)) => Ok(socket),
            Some(_) => Err(Errno::Invalid),
            None => Err(Errno::BadFd),
        }
    }

    fn is_udp_port_taken(&self, addr: IpAddr, port: u16) -> bool {
        let link_local = self.local.link_local().map(IpAddr::from);
        let own = self.local.cidrs.iter().map(|cidr| cidr.addr);
        self.bound.collides(addr, port, own.chain(link_local))
    }

    /// A random port that is free on `addr`.
    pub(crate) fn free_udp_port(&mut self, addr: IpAddr) -> Option<u16> {
        let draw = self.draw();
        Ports::random(draw, |port| !self.is_udp_port_taken(addr, port))
    }

    pub(crate) fn udp_bind(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<Fd, Errno> {
        if self.is_down {
            return Err(Errno::NetworkDown);
        }
        if self.local.is_shared {
            return Err(Errno::NotSupported);
        }
        if !addr.ip().is_unspecified() && !self.owns(addr.ip()) {
            return Err(Errno::AddrNotAvailable);
        }
        if self.is_udp_port_taken(addr.ip(), addr.port()) {
            return Err(Errno::AddrInUse);
        }
        let slot = self
            .slots
            .insert(|fd| Entry::Udp(Box::new(UdpSocket::new(fd, addr, *options))))
            .ok_or(Errno::NoBuffers)?;
        self.bound.insert(addr, slot);
        self.udp_sockets += 1;
        let socket = self.slots.udp(slot).expect("it was just put there");
        Ok(socket.fd)
    }

    /// The way from a socket bound to `bound` to `remote`.
    fn udp_route(&self, bound: IpAddr, remote: SocketAddr) -> Result<Route, Errno> {
        if self.local.is_group(remote.ip()) {
            return Err(Errno::AccessDenied);
        }
        if remote.port() == 0 {
            return Err(Errno::AddrNotAvailable);
        }
        let bound = (!bound.is_unspecified()).then_some(bound);
        self.route(remote.ip(), bound)
    }

    pub(crate) fn udp_connect(&mut self, fd: Fd, remote: SocketAddr) -> Result<(), Errno> {
        let bound = self.open_udp(fd)?.bound.ip();
        let route = self.udp_route(bound, remote)?;
        self.open_udp(fd)?.connected = Some((route.source, remote));
        Ok(())
    }

    pub(crate) fn udp_send_to(
        &mut self,
        fd: Fd,
        data: &[u8],
        to: Option<SocketAddr>,
        now: Nanos,
    ) -> Result<usize, Errno> {
        let is_down = self.is_down;
        let socket = self.open_udp(fd)?;
        socket.take_error()?;
        if is_down {
            return Err(Errno::NetworkDown);
        }
        let (bound, peer) = (socket.bound, socket.peer());
        let dst = to.or(peer).ok_or(Errno::NotConnected)?;
        let route = self.udp_route(bound.ip(), dst)?;
        let src = SocketAddr::new(route.source, bound.port());
        let sent = self.send_datagram(now, fd, route.next_hop, &Outgoing { src, dst, data });
        if sent == Err(Errno::WouldBlock) {
            self.wait_to_send(now, fd.slot());
        }
        sent.map(|()| data.len())
    }

    /// Sends a datagram for `fd`, or keeps it until its next hop answers.
    pub(super) fn send_datagram(
        &mut self,
        now: Nanos,
        fd: Fd,
        next_hop: IpAddr,
        datagram: &Outgoing<'_>,
    ) -> Result<(), Errno> {
        if datagram.packet_len() > self.outbox.mtu() {
            return Err(Errno::MessageSize);
        }
        let own = self.local.mac;
        match self.ask_neighbor(now, next_hop) {
            Resolution::Known(mac) => {
                let len = datagram.frame_len();
                if !self.outbox.has_room() {
                    self.transmit(now);
                }
                if !(self.outbox).push_with(len, |frame| datagram.emit(frame, own, mac)) {
                    return Err(Errno::WouldBlock);
                }
            }
            Resolution::Pending => {
                let mut frame = vec![0; datagram.frame_len()];
                datagram.emit(&mut frame, own, MacAddr([0; 6]));
                self.keep_unresolved(Unresolved {
                    next_hop,
                    frame,
                    fd,
                    ends: (datagram.src, datagram.dst),
                });
            }
            Resolution::Failed => {
                self.counters.neighbor_unreachable += 1;
                return Err(Errno::HostUnreachable);
            }
        }
        self.counters.udp_sent += 1;
        Ok(())
    }

    pub(crate) fn ask_neighbor(&mut self, now: Nanos, next_hop: IpAddr) -> Resolution {
        let (outbox, counters) = (&mut self.outbox, &mut self.counters);
        self.neighbors.resolve(now, next_hop, &mut |frame| {
            counters.tx_no_frame += u64::from(!outbox.push(frame));
        })
    }

    /// Keeps a datagram; the oldest for the same next hop, or of all, goes when
    /// there are too many.
    fn keep_unresolved(&mut self, datagram: Unresolved) {
        let is_same = |kept: &Unresolved| kept.next_hop == datagram.next_hop;
        let of_hop = self.unresolved.iter().filter(|kept| is_same(kept)).count();
        let victim = if of_hop >= UNRESOLVED_PER_HOP {
            self.unresolved.iter().position(is_same)
        } else {
            (self.unresolved.len() >= UNRESOLVED).then_some(0)
        };
        if let Some(at) = victim {
            self.unresolved.remove(at);
            self.counters.udp_unresolved_full += 1;
        }
        self.unresolved.push_back(datagram);
    }

    /// Looks again at datagrams that wait for their next hop.
    pub(super) fn retry_unresolved(&mut self, now: Nanos) {
        let waiting = std::mem::take(&mut self.unresolved);
        for mut datagram in waiting {
            match self.ask_neighbor(now, datagram.next_hop) {
                Resolution::Pending => self.unresolved.push_back(datagram),
                Resolution::Known(mac) => {
                    datagram.frame[..6].copy_from_slice(&mac.0);
                    let lost = !self.outbox.push(&datagram.frame);
                    self.counters.tx_no_frame += u64::from(lost);
                }
                Resolution::Failed => {
                    self.counters.neighbor_unreachable += 1;
                    self.hop_failed(now, &datagram);
                }
            }
        }
    }

    /// Tells the sender of a datagram, when it has but one peer to think of.
    fn hop_failed(&mut self, now: Nanos, datagram: &Unresolved) {
        let (slot, error) = (datagram.fd.slot(), Errno::HostUnreachable);
        match self.slots.open(datagram.fd) {
            Some(Entry::Udp(socket)) if socket.connected.is_some() => {
                socket.fail(error);
                self.touch_datagrams(slot);
            }
            Some(Entry::Lookup(_)) => self.server_unreachable(now, slot, datagram.ends, error),
            _ => {}
        }
    }

    /// Notes a sender that met a full ring.
    fn wait_to_send(&mut self, now: Nanos, slot: u32) {
        self.blocked_until = Some(now + RING_FULL_RETRY);
        if let Some(socket) = self.slots.udp(slot)
            && !std::mem::replace(&mut socket.waits_to_send, true)
        {
            self.senders.push(slot);
        }
    }

    /// Tells senders that met a full ring when it has room again.
    pub(super) fn let_senders_go_on(&mut self, now: Nanos) {
        let is_blocked = self.blocked_until.is_some_and(|until| now < until);
        if self.senders.is_empty() || is_blocked {
            return;
        }
        self.transmit(now);
        if !self.outbox.has_room() {
            return;
        }
        for slot in std::mem::take(&mut self.senders) {
            if let Some(socket) = self.slots.udp(slot).filter(|s| s.waits_to_send) {
                socket.may_send();
                self.touch_datagrams(slot);
            }
        }
    }

    pub(crate) fn udp_recv_from(
        &mut self,
        fd: Fd,
        buf: &mut [u8],
    ) -> Result<(usize, usize, SocketAddr), Errno> {
        let is_down = self.is_down;
        match self.open_udp(fd)?.pop(buf) {
            Err(Errno::WouldBlock) if is_down => Err(Errno::NetworkDown),
            received => received,
        }
    }

    /// Takes in a datagram that [`crate::ip::classify`] let pass.
    pub(super) fn take_datagram(&mut self, now: Nanos, frame: &Frame, datagram: &Datagram) {
        if !self.local.owns(datagram.dst) {
            self.counters.udp_to_group += 1;
            return;
        }
        // RFC 4862 §5.4: a tentative address receives nothing.
        if !self.neighbors.usable(datagram.dst) {
            self.counters.udp_no_port += 1;
            return;
        }
        let from = SocketAddr::new(datagram.src, datagram.src_port);
        let data = &frame[datagram.payload.clone()];
        let Some(slot) = self.bound.find(datagram.dst, datagram.dst_port) else {
            return self.refuse_datagram(now, frame, datagram);
        };
        if let Some(socket) = self.slots.udp(slot) {
            if !socket.hears(from) {
                return self.refuse_datagram(now, frame, datagram);
            }
            match socket.push(from, data) {
                Ok(()) => self.counters.udp_received += 1,
                Err(Full::Datagrams) => self.counters.udp_queue_full += 1,
                Err(Full::Bytes) => self.counters.udp_bytes_full += 1,
            }
            self.touch_datagrams(slot);
        } else {
            let to = SocketAddr::new(datagram.dst, datagram.dst_port);
            self.take_answer(now, slot, (to, from), data);
        }
    }

    /// An ICMP error about a datagram of ours; false when it is none's, or one
    /// that a socket need not know of. Only what ends a hope is told: a port or
    /// protocol that is not there (as Linux without `IP_RECVERR`).
    pub(super) fn datagram_unreachable(&mut self, now: Nanos, said: &Unreachable) -> bool {
        let (local, remote) = (said.flow.local_addr(), said.flow.remote_addr());
        let Some(slot) = self.bound.find(local.ip(), local.port()) else {
            return false;
        };
        if self.slots.lookup(slot).is_some() {
            self.server_unreachable(now, slot, (local, remote), said.error);
            return true;
        }
        let socket = self.slots.udp(slot);
        let is_hard = said.error == Errno::ConnectionRefused;
        match socket.filter(|socket| is_hard && socket.peer() == Some(remote)) {
            Some(socket) => {
                socket.fail(said.error);
                self.touch_datagrams(slot);
                true
            }
            None => false,
        }
    }

    /// Puts a UDP socket or a lookup on the list of those whose readiness may
    /// have changed.
    pub(super) fn touch_datagrams(&mut self, slot: u32) {
        let mark = match self.slots.udp(slot) {
            Some(socket) => Some(&mut socket.is_touched),
            None => self.slots.lookup(slot).map(|l| &mut l.is_touched),
        };
        if mark.is_some_and(|mark| !std::mem::replace(mark, true)) {
            self.touched.push(slot);
        }
    }

    /// Gives a UDP socket or a lookup up.
    pub(super) fn close_datagrams(&mut self, slot: u32) {
        match self.slots.remove(slot) {
            Entry::Udp(socket) => {
                self.bound.remove(socket.bound);
                self.udp_sockets -= 1;
            }
            Entry::Lookup(lookup) => {
                for (local, _) in lookup.questions.iter().filter_map(|q| q.out) {
                    self.bound.remove(local);
                }
                self.timers.disarm(slot);
                self.lookups -= 1;
            }
            _ => unreachable!("only these are closed here"),
        }
    }

    /// The device is gone: calls fail, lookups end.
    pub(super) fn datagrams_go_down(&mut self) {
        self.unresolved.clear();
        for slot in self.slots.datagram_users() {
            if let Some(socket) = self.slots.udp(slot) {
                socket.fail(Errno::NetworkDown);
                self.touch_datagrams(slot);
            } else {
                self.end_lookup(slot, Errno::NetworkDown);
            }
        }
    }
}
