//! What a user may ask of a shard: the calls behind [`crate::syscall`].

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::socket::tcp::State;
use wirepath_driver::Nanos;
use wirepath_driver::trace::{self, Kind};

use super::{Shard, timeouts};
use crate::conn::{Conn, Marks, Phase};
use crate::flow::Entry;
use crate::listen::Listener;
use crate::segment;
use crate::syscall::{FlowInfo, ListenOptions, Ready, Shutdown, SocketInfo};
use crate::{Errno, Fd};

/// Closed connections that may still send or wait, at most; beyond that a close
/// resets (`net.ipv4.tcp_max_orphans`).
const MAX_ORPHANS: u64 = 16_384;
/// The least keep-alive interval.
const MIN_KEEPALIVE: Duration = Duration::from_secs(1);

impl Shard {
    /// Whether a listener has the address, or a part of it.
    pub(crate) fn listens_on(&mut self, addr: SocketAddr) -> bool {
        self.listeners.iter().any(|slot| {
            let listener = self.slots.listener(*slot);
            listener.is_some_and(|l| l.addr.port() == addr.port() && l.collides(addr.ip()))
        })
    }

    /// Makes a listener.
    pub(crate) fn listen(
        &mut self,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> Result<Fd, Errno> {
        if self.listens_on(addr) {
            return Err(Errno::AddrInUse);
        }
        let slot = self
            .slots
            .insert(|fd| Entry::Listener(Box::new(Listener::new(fd, addr, options.clone()))))
            .ok_or(Errno::NoBuffers)?;
        self.listeners.push(slot);
        let listener = self.slots.listener(slot).expect("it was just put there");
        Ok(listener.fd)
    }

    /// Takes the oldest connection off a listener's accept queue.
    pub(crate) fn accept(&mut self, fd: Fd) -> Result<(Fd, SocketAddr), Errno> {
        let Some(Entry::Listener(listener)) = self.slots.open(fd) else {
            return Err(self.open_conn(fd).map_or_else(|e| e, |_| Errno::Invalid));
        };
        let none = if self.is_down {
            Errno::NetworkDown
        } else {
            Errno::WouldBlock
        };
        let slot = listener.accept_queue.pop_front().ok_or(none)?;
        let conn = self
            .slots
            .conn(slot)
            .expect("a connection leaves the accept queue before its slot");
        conn.phase = Phase::Open;
        self.counters.accepted += 1;
        Ok((conn.fd, conn.key.remote_addr()))
    }

    /// Sets the word that events carry; returns what is ready now.
    pub(crate) fn register(&mut self, fd: Fd, token: u64) -> Result<Ready, Errno> {
        match self.slots.open(fd).ok_or(Errno::BadFd)? {
            Entry::Conn(conn) => {
                conn.token = Some(token);
                conn.mark_told();
                Ok(conn.readiness())
            }
            Entry::Listener(listener) => {
                listener.token = Some(token);
                Ok(Ready::read_if(
                    self.is_down || !listener.accept_queue.is_empty(),
                ))
            }
            Entry::Udp(socket) => {
                socket.token = Some(token);
                Ok(socket.readiness())
            }
            Entry::Lookup(lookup) => {
                lookup.token = Some(token);
                lookup.has_news = false;
                Ok(lookup.readiness())
            }
            Entry::Free => Err(Errno::BadFd),
        }
    }

    /// Copies received bytes out; 0 is the end of the stream.
    pub(crate) fn read(&mut self, fd: Fd, buf: &mut [u8]) -> Result<usize, Errno> {
        let conn = self.open_conn(fd)?;
        if conn.marks.contains(Marks::READ_SHUT) || buf.is_empty() {
            return Ok(0);
        }
        // Both parts of a stretch that straddles the ring's end.
        let n = conn.socket.get_mut().recv_slice(buf).unwrap_or(0);
        if n == 0 {
            return conn.read_nothing();
        }
        if trace::enabled() {
            let event = trace::Event::new(trace::stamp(), Kind::ConnRead, fd.raw());
            trace::emit(event.bytes(conn.read, n));
        }
        conn.read += n as u64;
        if conn.has_window_news() {
            self.mark_dirty(fd.slot());
        }
        Ok(n)
    }

    /// Copies bytes into the send buffer; as many as fit.
    pub(crate) fn write(&mut self, fd: Fd, buf: &[u8], now: Nanos) -> Result<usize, Errno> {
        let conn = self.open_conn(fd)?;
        if let Some(error) = conn.error {
            return Err(error);
        }
        if conn.marks.contains(Marks::WRITE_SHUT) {
            return Err(Errno::BrokenPipe);
        }
        if buf.is_empty() {
            return Ok(0);
        }
        let n = match conn.socket.get_mut().send_slice(buf) {
            Ok(n) => n,
            Err(_) if matches!(conn.phase, Phase::Resolving { .. } | Phase::Connecting) => 0,
            Err(_) => return Err(Errno::BrokenPipe),
        };
        if n < buf.len() {
            conn.marks.insert(Marks::WRITER_WAITS);
        }
        if n == 0 {
            return Err(Errno::WouldBlock);
        }
        if trace::enabled() {
            let event = trace::Event::new(trace::stamp(), Kind::ConnWrite, fd.raw());
            trace::emit(event.bytes(conn.written, n));
        }
        conn.written += n as u64;
        conn.active_at = conn.active_at.max(now);
        conn.marks.insert(Marks::RESIDENT);
        self.mark_dirty(fd.slot());
        Ok(n)
    }

    /// Shuts down one side or both.
    pub(crate) fn shutdown(&mut self, fd: Fd, how: Shutdown) -> Result<(), Errno> {
        let slot = fd.slot();
        let conn = self.open_conn(fd)?;
        if matches!(conn.phase, Phase::Resolving { .. } | Phase::Connecting) {
            return Err(Errno::NotConnected);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            conn.marks.insert(Marks::READ_SHUT);
            conn.discard_received();
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            conn.marks.insert(Marks::WRITE_SHUT);
            conn.end_stream();
        }
        self.touch(slot);
        self.mark_dirty(slot);
        Ok(())
    }

    /// Gives a descriptor up.
    pub(crate) fn close(&mut self, fd: Fd, now: Nanos) -> Result<(), Errno> {
        match self.slots.open(fd).ok_or(Errno::BadFd)? {
            Entry::Listener(_) => self.close_listener(fd.slot(), now),
            Entry::Udp(_) | Entry::Lookup(_) => self.close_datagrams(fd.slot()),
            _ => self.close_conn(fd.slot(), false, now),
        }
        Ok(())
    }

    /// Gives a connection up with a reset.
    pub(crate) fn abort(&mut self, fd: Fd, now: Nanos) -> Result<(), Errno> {
        match self.slots.open(fd).ok_or(Errno::BadFd)? {
            Entry::Listener(_) => self.close_listener(fd.slot(), now),
            Entry::Udp(_) | Entry::Lookup(_) => self.close_datagrams(fd.slot()),
            _ => self.close_conn(fd.slot(), true, now),
        }
        Ok(())
    }

    fn close_conn(&mut self, slot: u32, with_reset: bool, now: Nanos) {
        let orphans = self.orphans;
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        conn.marks.insert(Marks::ORPHAN);
        conn.token = None;
        self.orphans += 1;
        // What the network never saw, or is done with, just goes.
        if conn.is_detached() || matches!(conn.phase, Phase::Resolving { .. }) {
            return self.free(slot);
        }
        if conn.state() == State::SynSent {
            return self.finish(slot);
        }
        let has_unread = conn.socket.get().recv_queue() > 0;
        let is_over_limit = orphans >= MAX_ORPHANS;
        if with_reset || has_unread || is_over_limit {
            self.counters.orphans_over_limit += u64::from(is_over_limit);
            return self.reset(slot, now);
        }
        conn.end_stream();
        // It may have sent its FIN before, and wait for the peer's.
        if conn.state() == State::FinWait2 {
            let at = now + timeouts::ORPHAN_FIN_WAIT;
            conn.deadline = Some(at);
            self.timers.arm(slot, at);
        }
        self.mark_dirty(slot);
    }

    /// Has smoltcp send a reset; the flush that does finishes the connection.
    pub(super) fn reset(&mut self, slot: u32, now: Nanos) {
        let Some(conn) = self.slots.conn(slot).filter(|c| !c.is_detached()) else {
            return;
        };
        // A peer that has not seen our handshake's final ACK would take the
        // reset for a connection that never was, and its user would not learn
        // of it.
        if conn.state() == State::Established && conn.sent.flags & segment::SYN != 0 {
            segment::set_timestamp_clock(now, self.timestamp_origin);
            self.send_segments(now, slot, &mut 1);
        }
        if let Some(conn) = self.slots.conn(slot) {
            conn.socket.get_mut().abort();
            self.counters.resets_sent += 1;
            self.mark_dirty(slot);
        }
    }

    /// Ends a listener and resets the connections that nobody accepted.
    fn close_listener(&mut self, slot: u32, now: Nanos) {
        let phase = Phase::HalfOpen { listener: slot };
        let half_open: Vec<u32> = self
            .slots
            .conns()
            .filter(|(_, conn)| conn.phase == phase)
            .map(|(slot, _)| slot)
            .collect();
        let queued = self
            .slots
            .listener(slot)
            .map(|listener| std::mem::take(&mut listener.accept_queue))
            .unwrap_or_default();
        for conn in half_open {
            self.half_open -= 1;
            if let Some(conn) = self.slots.conn(conn) {
                conn.phase = Phase::Queued;
            }
            self.close_conn(conn, true, now);
        }
        for conn in queued {
            self.close_conn(conn, true, now);
        }
        self.listeners.retain(|s| *s != slot);
        self.slots.remove(slot);
    }

    /// How a `connect` ended.
    pub(crate) fn connect_result(&mut self, fd: Fd) -> Result<(), Errno> {
        let conn = self.open_conn(fd)?;
        match (conn.error, conn.phase) {
            (Some(error), _) => Err(error),
            (None, Phase::Resolving { .. } | Phase::Connecting) => Err(Errno::WouldBlock),
            (None, _) => Ok(()),
        }
    }

    /// Turns keep-alive probes on or off.
    pub(crate) fn set_keepalive(
        &mut self,
        fd: Fd,
        interval: Option<Duration>,
    ) -> Result<(), Errno> {
        let conn = self.open_conn(fd)?;
        conn.keepalive = interval.map(|interval| interval.max(MIN_KEEPALIVE));
        conn.probes = 0;
        if conn.keepalive.is_none() {
            conn.socket.get_mut().set_keep_alive(None);
        }
        if let Some(at) = conn.keepalive.map(|interval| conn.heard_at + interval)
            && !conn.is_detached()
        {
            self.timers.arm(fd.slot(), at);
        }
        Ok(())
    }

    pub(crate) fn local_addr(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        match self.slots.open(fd).ok_or(Errno::BadFd)? {
            Entry::Conn(conn) => Ok(conn.key.local_addr()),
            Entry::Listener(listener) => Ok(listener.addr),
            Entry::Udp(socket) => Ok(socket.local_addr()),
            Entry::Lookup(_) => Err(Errno::Invalid),
            Entry::Free => Err(Errno::BadFd),
        }
    }

    pub(crate) fn peer_addr(&mut self, fd: Fd) -> Result<SocketAddr, Errno> {
        match self.slots.open(fd).ok_or(Errno::BadFd)? {
            Entry::Conn(conn) => Ok(conn.key.remote_addr()),
            Entry::Udp(socket) => socket.peer().ok_or(Errno::NotConnected),
            _ => Err(Errno::Invalid),
        }
    }

    pub(crate) fn queued(&mut self, fd: Fd) -> Result<(usize, usize), Errno> {
        if let Some(Entry::Udp(socket)) = self.slots.open(fd) {
            return Ok((socket.queued(), 0));
        }
        let socket = self.open_conn(fd)?.socket.get();
        Ok((socket.recv_queue(), socket.send_queue()))
    }

    pub(crate) fn socket_info(&mut self, fd: Fd) -> Result<SocketInfo, Errno> {
        match self.slots.open(fd) {
            Some(Entry::Listener(listener)) => Ok(SocketInfo::Listener {
                local: listener.addr,
                queued: listener.accept_queue.len(),
                backlog: listener.options.backlog,
                half_open: listener.half_open,
            }),
            Some(Entry::Udp(socket)) => Ok(SocketInfo::Udp {
                local: socket.local_addr(),
                peer: socket.peer(),
                recv_queue: socket.queued(),
            }),
            Some(Entry::Lookup(lookup)) => Ok(SocketInfo::Lookup {
                server: lookup.asked(),
            }),
            _ => self.flow_info(fd).map(SocketInfo::Flow),
        }
    }

    pub(crate) fn flow_info(&mut self, fd: Fd) -> Result<FlowInfo, Errno> {
        let conn = self.open_conn(fd)?;
        Ok(conn.info())
    }
}

impl Conn {
    /// It, for people.
    pub(crate) fn info(&self) -> FlowInfo {
        let socket = self.socket.get();
        FlowInfo {
            local: self.key.local_addr(),
            peer: self.key.remote_addr(),
            peer_mac: self.mac,
            state: state_name(socket.state()),
            recv_queue: socket.recv_queue(),
            recv_buffer: socket.recv_capacity(),
            send_queue: socket.send_queue(),
            send_buffer: socket.send_capacity(),
            bytes_read: self.read,
            bytes_written: self.written,
        }
    }

    /// What a read that found no bytes gives.
    fn read_nothing(&self) -> Result<usize, Errno> {
        match (self.error, self.phase) {
            (Some(error), _) => Err(error),
            (None, Phase::Resolving { .. } | Phase::Connecting) => Err(Errno::NotConnected),
            (None, _) if self.has_end() => Ok(0),
            (None, _) => Err(Errno::WouldBlock),
        }
    }
}

/// The state's name as RFC 9293 writes it.
fn state_name(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
    }
}
