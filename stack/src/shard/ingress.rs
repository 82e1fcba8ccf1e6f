//! Ingress: what a received frame does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use smoltcp::iface::Interface;
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};
use wirepath_driver::trace::{self, Kind};
use wirepath_driver::{Frame, Nanos, Offload};

use super::fate::Fate;
use super::{Shard, instant, no_line, timeouts};
use crate::addr::MacAddr;
use crate::conn::{Conn, Marks, Phase};
use crate::flow::{Entry, FlowKey};
use crate::icmp::Unreachable;
use crate::ip::{self, Datagram, DropCause, IcmpPacket, Packet, Segment, TcpFlags};
use crate::phy::{Line, Phy};
use crate::segment::{self, Ack, Sent};
use crate::time_wait::Verdict;
use crate::{icmp, isn};

/// A SYN on a live connection is answered this often at most (RFC 5961 §7).
const CHALLENGE_INTERVAL: Duration = Duration::from_secs(1);

/// Once for each queue: with such a sender nothing works, and the reason is not
/// to be seen from either end.
#[cold]
fn warn_of_partial_checksums(queue: &str) {
    tracing::warn!(
        "frames come in on {queue} with checksums that their sender left for its card to finish \
         (checksum offload towards a veth or TAP, where there is no card); they are dropped and \
         counted as checksum_partial. On the sending side: ethtool -K INTERFACE tx off; \
         `wirepath doctor` explains"
    );
}

impl Segment {
    pub(super) fn key(&self) -> FlowKey {
        FlowKey {
            local: (self.dst, self.dst_port),
            remote: (self.src, self.src_port),
        }
    }

    /// Whether it asks for a connection.
    fn is_syn(&self) -> bool {
        let controls = TcpFlags::SYN | TcpFlags::ACK | TcpFlags::RST;
        self.flags & controls == TcpFlags::SYN
    }
}

impl Shard {
    /// Takes one burst off the ring and in; returns how many frames it had.
    pub(super) fn take_burst(&mut self, now: Nanos) -> usize {
        let mut burst = std::mem::take(&mut self.burst);
        if self.queue.rx_burst(now, &mut burst).is_err() {
            self.go_down();
        }
        let taken = burst.len();
        for frame in burst.drain(..) {
            self.take_frame(now, &frame);
            self.outbox.spares.put(frame);
        }
        self.burst = burst;
        taken
    }

    pub(super) fn take_frame(&mut self, now: Nanos, frame: &Frame) {
        let vouched = frame.meta.offload.contains(Offload::CHECKSUM_VALID);
        let packet = ip::classify(&self.local, frame, vouched);
        if let Ok(packet @ (Packet::Arp(_) | Packet::Ndp(_))) = &packet {
            self.tell_others(frame, packet);
        }
        match packet {
            Ok(Packet::Tcp(segment)) => self.take_segment(now, frame, &segment),
            Ok(Packet::Udp(datagram)) => {
                self.fates.count(Fate::Datagram);
                self.take_datagram(now, frame, &datagram);
            }
            Ok(Packet::Icmp(packet)) => {
                self.fates.count(Fate::Icmp);
                self.take_icmp(now, frame, &packet);
            }
            Ok(Packet::Arp(packet)) => {
                self.fates.count(Fate::Arp);
                let (outbox, counters) = (&mut self.outbox, &mut self.counters);
                self.neighbors.on_arp(now, &packet, &mut |frame| {
                    counters.tx_no_frame += u64::from(!outbox.push(frame));
                });
            }
            Ok(Packet::Ndp(packet)) => {
                self.fates.count(Fate::Ndp);
                let (outbox, counters) = (&mut self.outbox, &mut self.counters);
                self.neighbors.on_ndp(now, &packet, &mut |frame| {
                    counters.tx_no_frame += u64::from(!outbox.push(frame));
                });
            }
            Err(cause) => self.drop_frame(cause),
        }
    }

    fn drop_frame(&mut self, cause: DropCause) {
        self.drops[cause.index()] += 1;
        if trace::enabled() {
            trace_drop(cause);
        }
        if cause == DropCause::PartialChecksum && self.drops[cause.index()] == 1 {
            warn_of_partial_checksums(&self.queue.info().name);
        }
    }

    fn take_segment(&mut self, now: Nanos, frame: &Frame, segment: &Segment) {
        let key = segment.key();
        match self.flows.get(&key) {
            Some(&slot) => {
                self.fates.count(Fate::Connection);
                let found = trace::stamp_if_enabled();
                self.segment_of_flow(now, frame, segment, slot, found);
            }
            None => self.segment_of_none(now, frame, segment, key),
        }
    }

    /// A segment made a connection.
    #[inline(never)]
    fn trace_first(&mut self, frame: &Frame, segment: &Segment, slot: u32) {
        if let Some(conn) = self.slots.conn(slot) {
            conn.trace_ingress(segment, frame, trace::stamp(), &Before::default());
        }
    }

    /// A connection came to be.
    #[inline(never)]
    pub(crate) fn trace_open(&mut self, slot: u32) {
        if let Some(conn) = self.slots.conn(slot) {
            let event = trace::Event::new(trace::stamp(), Kind::FlowOpen, conn.fd.raw());
            trace::emit(event.with_addrs(conn.key.local_addr(), conn.key.remote_addr()));
        }
    }

    /// A segment of a connection that we have.
    fn segment_of_flow(
        &mut self,
        now: Nanos,
        frame: &Frame,
        segment: &Segment,
        slot: u32,
        found: Nanos,
    ) {
        if self.is_final_ack_without_room(segment, slot) {
            self.counters.accept_queue_full += 1;
            return;
        }
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        if conn.must_challenge(segment) {
            return self.challenge(now, slot);
        }
        self.counters.tcp_segments_received += 1;
        conn.count_segment(segment);
        let window = conn.peer_window();
        let reopens = conn.take_notice(now, segment);
        let received = conn.received();
        let is_repeat = conn.repeats_before_fin(segment);
        if !is_repeat && !self.feed(now, slot, &frame[segment.ip.clone()]) {
            return;
        }
        if trace::enabled()
            && let Some(conn) = self.slots.conn(slot)
        {
            conn.trace_ingress(segment, frame, found, &Before { received, window });
        }
        if reopens
            && self
                .slots
                .conn(slot)
                .is_some_and(|conn| conn.in_flight() > 0)
        {
            self.send_again(now, slot);
        }
        self.after_ingress(now, frame, segment, slot);
    }

    /// Has smoltcp process an IP packet of a connection. False: that ended it.
    fn feed(&mut self, now: Nanos, slot: u32, packet: &[u8]) -> bool {
        let Some(conn) = self.slots.conn(slot) else {
            return false;
        };
        let mut phy = Phy {
            rx: Some(packet),
            outbox: &mut self.outbox,
            line: Line {
                mac: conn.mac,
                flow: conn.fd.raw(),
                written: conn.written_end(),
                window_shift: conn.window_shift,
                sent: &mut conn.sent,
            },
            counters: &mut self.counters,
        };
        let (iface, set) = (&mut self.iface, conn.socket.set_mut());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            iface.poll_ingress_single(instant(now), &mut phy, set);
        }));
        if polled.is_err() {
            self.tcp_panicked(slot);
        }
        polled.is_ok()
    }

    /// Has smoltcp send the first unacknowledged segment again.
    ///
    /// When a window shuts over data in flight, smoltcp trades its
    /// retransmission timer for zero-window probes, and when it opens again it
    /// has neither: what the peer dropped meanwhile would never be sent again
    /// (RFC 9293 §3.8.6.1 asks for both). Three duplicates of the peer's last ACK
    /// start its fast retransmission (RFC 5681 §3.2), and with it the timer; a
    /// change of the window before them has it count from zero.
    #[cold]
    fn send_again(&mut self, now: Nanos, slot: u32) {
        let Some(conn) = self.slots.conn(slot).filter(|c| !c.is_detached()) else {
            return;
        };
        if conn.awaits_ack_of_fin() {
            // Its own timer alone makes smoltcp send a FIN again.
            if let Some(at) = self.tcp_deadline(now, slot) {
                self.send_segments(at, slot, &mut 1);
            }
            return;
        }
        let window = conn.peer_window();
        let [other, same] = [window ^ 1, window].map(|window| conn.last_ack_again(window));
        for packet in [&other, &same, &same, &same, &same] {
            if !self.feed(now, slot, packet) {
                return;
            }
        }
    }

    /// Gives smoltcp a timer, which it may be without although the peer has not
    /// acknowledged everything: its retransmission timer ended while the window
    /// was shut, or the window opened with no room beyond what is in flight.
    /// Were what the peer says next lost, the connection would stand still for
    /// ever.
    #[cold]
    pub(super) fn revive(&mut self, now: Nanos, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        if conn.peer_window() > 0 {
            return self.send_again(now, slot);
        }
        let packet = conn.last_ack_again(0);
        self.feed(now, slot, &packet);
    }

    fn after_ingress(&mut self, now: Nanos, frame: &Frame, segment: &Segment, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        conn.measure(now);
        if conn.phase == Phase::Connecting && segment.flags.contains(TcpFlags::SYN) {
            conn.irs = segment.seq;
            conn.furthest = segment.seq.wrapping_add(1);
            conn.set_mss(segment.max_segment_size(frame), self.outbox.mtu());
        }
        if conn.marks.contains(Marks::READ_SHUT) {
            conn.discard_received();
        }
        // Data for nobody: the peer is told (RFC 1122 §4.2.2.13).
        let is_unwanted = conn.is_orphan() && conn.socket.get().recv_queue() > 0;
        // The common case needs no look at the state.
        if conn.phase != Phase::Open || conn.state() != State::Established {
            let was_reset = segment.flags.contains(TcpFlags::RST);
            self.settle(now, slot, was_reset);
        }
        if is_unwanted {
            self.reset(slot, now);
        }
        self.touch(slot);
        self.mark_dirty(slot);
    }

    /// Whether this ends a handshake whose connection the accept queue has no
    /// room for. It is then dropped, as Linux does; smoltcp sends its SYN-ACK
    /// again, and the peer its ACK.
    fn is_final_ack_without_room(&mut self, segment: &Segment, slot: u32) -> bool {
        let Some(Phase::HalfOpen { listener }) = self.slots.conn(slot).map(|c| c.phase) else {
            return false;
        };
        let is_ack = !segment.flags.intersects(TcpFlags::SYN | TcpFlags::RST);
        is_ack && self.slots.listener(listener).is_some_and(|l| l.is_full())
    }

    /// Answers with what we expect next, so that a peer that means it sends a
    /// reset that fits (RFC 5961 §3.2, §4.2).
    fn challenge(&mut self, now: Nanos, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        if now.since(conn.challenged_at) < CHALLENGE_INTERVAL {
            return;
        }
        conn.challenged_at = now;
        let (mac, ack) = (conn.mac, conn.ack_from(conn.sent.furthest));
        self.counters.challenge_acks += 1;
        self.push_ack(mac, &ack);
    }

    pub(super) fn push_ack(&mut self, mac: MacAddr, ack: &Ack) {
        let lost = !self.outbox.push_ack(mac, ack);
        self.counters.tx_no_frame += u64::from(lost);
    }

    /// A segment for which we have no connection.
    fn segment_of_none(&mut self, now: Nanos, frame: &Frame, segment: &Segment, key: FlowKey) {
        let timestamp = segment.timestamp(frame).map(|(value, _)| value);
        let mut least_isn = None;
        match self.time_wait.segment(now, &key, segment, timestamp) {
            Some(Verdict::Answer(mac, ack)) => {
                self.fates.count(Fate::TimeWait);
                self.counters.time_wait_acks += 1;
                return self.push_ack(mac, &ack);
            }
            Some(Verdict::Ignore) => return self.fates.count(Fate::TimeWait),
            Some(Verdict::Reuse(isn)) => {
                self.counters.time_wait_reused += 1;
                least_isn = Some(isn);
            }
            None => {}
        }
        // RFC 4862 §5.4: a tentative address is silent. Another shard may have
        // told the peer where we are before this one knows that the address is
        // ours, and nobody else may have the flow then: the peer tries again.
        if segment.is_syn() && !self.neighbors.usable(key.local.0) {
            self.counters.no_flow += 1;
            return self.fates.count(Fate::NoConnection);
        }
        if segment.is_syn()
            && let Some(listener) = self.find_listener(key.local.0, key.local.1)
        {
            self.fates.count(Fate::Listener);
            return self.open_passive(now, frame, segment, listener, least_isn);
        }
        if self.ask_others(frame) {
            return self.fates.count(Fate::Offered);
        }
        self.fates.count(Fate::NoConnection);
        self.counters.no_flow += 1;
        if !segment.flags.contains(TcpFlags::RST) {
            self.refuse(now, frame, segment);
        }
    }

    /// Lets smoltcp answer with a reset (RFC 9293 §3.10.7.1): it finds no socket.
    fn refuse(&mut self, now: Nanos, frame: &Frame, segment: &Segment) {
        if !self.answers.allow(now) {
            return;
        }
        self.counters.no_flow_resets += 1;
        let mut sent = Sent::default();
        let mut phy = Phy {
            rx: Some(&frame[segment.ip.clone()]),
            outbox: &mut self.outbox,
            line: Line {
                mac: segment.src_mac,
                ..no_line(&mut sent)
            },
            counters: &mut self.counters,
        };
        self.iface
            .poll_ingress_single(instant(now), &mut phy, &mut self.empty);
    }

    /// The listener for a local address and port; one for the very address
    /// goes before one for all.
    fn find_listener(&mut self, addr: std::net::IpAddr, port: u16) -> Option<u32> {
        let mut found = None;
        for &slot in &self.listeners {
            let Some(listener) = self.slots.listener(slot) else {
                continue;
            };
            if listener.addr.port() == port && listener.covers(addr) {
                let is_exact = !listener.addr.ip().is_unspecified();
                if is_exact || found.is_none() {
                    found = Some(slot);
                }
            }
        }
        found
    }

    /// The initial sequence number of a connection that a peer opens: of the
    /// capture in a replay; else the keyed hash, or, where that is not beyond it,
    /// the least that an earlier connection of the same 4-tuple allows.
    fn passive_isn(&self, now: Nanos, segment: &Segment, least: Option<u32>) -> u32 {
        let key = segment.key();
        let given = self
            .given
            .as_ref()
            .and_then(|given| (given.isn)(key.local.into(), key.remote.into(), segment.seq));
        if let Some(isn) = given {
            return isn;
        }
        let isn = self.secret.isn(key, now);
        least.filter(|l| segment::after(*l, isn)).unwrap_or(isn)
    }

    /// Makes a half-open connection of a SYN.
    fn open_passive(
        &mut self,
        now: Nanos,
        frame: &Frame,
        segment: &Segment,
        listener_slot: u32,
        least_isn: Option<u32>,
    ) {
        let Some(listener) = self.slots.listener(listener_slot) else {
            return;
        };
        if listener.is_full() {
            self.counters.accept_queue_full += 1;
            return;
        }
        if listener.half_open >= listener.options.syn_backlog.max(1) {
            self.counters.syn_backlog_full += 1;
            return;
        }
        let (recv, send) = (listener.options.recv_buffer, listener.options.send_buffer);
        let key = segment.key();
        let Ok(socket) = self.arena.socket(recv, send) else {
            self.counters.syn_no_buffers += 1;
            return;
        };
        let phase = Phase::HalfOpen {
            listener: listener_slot,
        };
        let inserted = self
            .slots
            .insert(|fd| Entry::Conn(Box::new(Conn::new(fd, key, phase, socket, now))));
        let Some(slot) = inserted else {
            self.counters.syn_no_buffers += 1;
            return;
        };
        self.half_open += 1;
        if let Some(listener) = self.slots.listener(listener_slot) {
            listener.half_open += 1;
        }
        let isn = self.passive_isn(now, segment, least_isn);
        if !self.feed_syn(now, frame, segment, slot, isn) {
            self.counters.syn_malformed += 1;
            return self.free(slot);
        }
        self.counters.passive_opens += 1;
        self.flows.insert(key, slot);
        self.timers.arm(slot, now + timeouts::SOON);
        if trace::enabled() {
            self.trace_open(slot);
            self.trace_first(frame, segment, slot);
        }
        self.mark_dirty(slot);
    }

    /// Gives a SYN to a new connection's socket, with the initial sequence
    /// number that smoltcp is to draw. False when smoltcp would not have it.
    fn feed_syn(
        &mut self,
        now: Nanos,
        frame: &Frame,
        segment: &Segment,
        slot: u32,
        isn: u32,
    ) -> bool {
        let Some(conn) = self.slots.conn(slot) else {
            return false;
        };
        conn.iss = isn;
        conn.irs = segment.seq;
        conn.furthest = segment.seq.wrapping_add(1);
        conn.mac = segment.src_mac;
        conn.deadline = Some(now + timeouts::HALF_OPEN);
        conn.set_mss(segment.max_segment_size(frame), self.outbox.mtu());
        let endpoint = IpListenEndpoint {
            addr: Some(segment.dst.into()),
            port: segment.dst_port,
        };
        if conn.socket.get_mut().listen(endpoint).is_err() {
            return false;
        }
        let mut phy = Phy {
            rx: Some(&frame[segment.ip.clone()]),
            outbox: &mut self.outbox,
            line: Line {
                mac: conn.mac,
                flow: conn.fd.raw(),
                written: (isn, 0),
                window_shift: conn.window_shift,
                sent: &mut conn.sent,
            },
            counters: &mut self.counters,
        };
        let mut iface: Interface = isn::interface(&mut phy, isn, instant(now));
        let set = conn.socket.set_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            iface.poll_ingress_single(instant(now), &mut phy, set);
        }));
        if polled.is_err() {
            self.counters.tcp_panics += 1;
            return false;
        }
        let remote: Option<IpEndpoint> = conn.socket.get().remote_endpoint();
        remote.is_some() && conn.state() == State::SynReceived
    }

    /// A datagram for no socket: the sender is told (RFC 1122 §4.1.3.1).
    pub(super) fn refuse_datagram(&mut self, now: Nanos, frame: &Frame, datagram: &Datagram) {
        if self.ask_others(frame) {
            return;
        }
        self.counters.udp_no_port += 1;
        if !self.answers.allow(now) {
            return;
        }
        if icmp::port_unreachable(&self.local, datagram, frame, &mut self.reply) {
            self.push_reply();
        }
    }

    fn take_icmp(&mut self, now: Nanos, frame: &Frame, packet: &IcmpPacket) {
        if let Some(said) = icmp::unreachable(packet, frame) {
            return self.take_unreachable(now, &said, frame);
        }
        if !self.answers.allow(now) {
            return;
        }
        if icmp::echo_reply(&self.local, packet, frame, &mut self.reply) {
            self.counters.echo_replies += 1;
            self.push_reply();
        } else {
            self.counters.icmp_ignored += 1;
        }
    }

    /// A packet of ours did not arrive, if what says so knows the packet.
    ///
    /// It ends a connection that is being opened, whose SYN it must quote, and
    /// nothing else of TCP: what was established may recover (RFC 1122 §4.2.3.9,
    /// RFC 5461 §2), and anybody can send such a message (RFC 5927).
    fn take_unreachable(&mut self, now: Nanos, said: &Unreachable, frame: &Frame) {
        let is_taken = match said.seq {
            Some(seq) => self.connect_unreachable(said, seq),
            None => self.datagram_unreachable(now, said),
        };
        if is_taken {
            self.counters.icmp_errors += 1;
        } else if !self.ask_others(frame) {
            self.counters.icmp_ignored += 1;
        }
    }

    fn connect_unreachable(&mut self, said: &Unreachable, seq: u32) -> bool {
        let Some(&slot) = self.flows.get(&said.flow) else {
            return false;
        };
        let conn = self.slots.conn(slot);
        // Until it is answered, only the SYN is out.
        let is_of_syn = conn.is_some_and(|c| c.phase == Phase::Connecting && c.iss == seq);
        if is_of_syn {
            self.fail(slot, said.error);
            self.finish(slot);
        }
        is_of_syn
    }

    fn push_reply(&mut self) {
        let lost = !self.outbox.push(&self.reply);
        self.counters.tx_no_frame += u64::from(lost);
    }
}

impl Conn {
    /// Learns from a segment, before smoltcp does, what does not take smoltcp.
    /// One that fits neither in sequence nor in acknowledgment says nothing of
    /// the peer: anybody may have sent it. True: the peer's window has reopened.
    fn take_notice(&mut self, now: Nanos, segment: &Segment) -> bool {
        let is_in_window = self.phase != Phase::Connecting && self.in_window(segment.seq);
        if is_in_window || self.acknowledges(segment) {
            self.heard(now);
        }
        if !is_in_window {
            return false;
        }
        let len = u32::try_from(segment.payload_len).expect("a frame is at most 64 KiB");
        self.note_data(segment.seq.wrapping_add(len));
        // `classify` let no group or zero address through.
        if self.mac != segment.src_mac && self.acknowledges(segment) {
            self.mac = segment.src_mac;
        }
        // What was overtaken by a later acknowledgment tells an old window, which
        // smoltcp does not take either.
        !segment::after(self.snd_una(), segment.ack) && self.window_reopens(segment.window)
    }

    /// Whether a segment says nothing new while only our FIN is on its way: after
    /// three of those smoltcp gives up the timer that would send the FIN again,
    /// for a fast retransmission that sends data only.
    fn repeats_before_fin(&self, segment: &Segment) -> bool {
        let is_bare_ack = segment.flags == TcpFlags::ACK && segment.payload_len == 0;
        is_bare_ack
            && self.awaits_ack_of_fin()
            && segment.ack == self.snd_una()
            && segment.seq == self.rcv_nxt()
    }

    /// The packet in which the peer would say again what it acknowledged last,
    /// with this window.
    fn last_ack_again(&self, window: u16) -> Vec<u8> {
        let ack = Ack {
            key: self.key.reversed(),
            seq: self.rcv_nxt(),
            ack: self.snd_una(),
            window,
            echo: None,
        };
        let mut packet = vec![0; ack.len()];
        ack.emit(&mut packet);
        packet
    }

    /// What we acknowledged last, once more, from a sequence number.
    pub(super) fn ack_from(&self, seq: u32) -> Ack {
        Ack {
            key: self.key,
            seq,
            ack: self.sent.ack,
            window: self.sent.window,
            echo: self.sent.timestamp.map(|(_, echo)| echo),
        }
    }

    /// Whether a segment would end the connection, and whoever sent it has not
    /// shown to know it: a SYN, which smoltcp drops, or a reset inside the
    /// window that is not at its very start, which smoltcp takes.
    fn must_challenge(&self, segment: &Segment) -> bool {
        let is_live = !matches!(
            self.state(),
            State::Listen | State::SynSent | State::SynReceived | State::Closed
        );
        let is_reset = segment.flags.contains(TcpFlags::RST);
        let is_inexact = is_reset && segment.seq != self.rcv_nxt() && self.in_window(segment.seq);
        is_live && (segment.is_syn() || is_inexact)
    }

    /// Throws away what came for a reader that wants no more.
    pub(super) fn discard_received(&mut self) {
        let socket = self.socket.get_mut();
        while let Ok(n @ 1..) = socket.recv(|bytes| (bytes.len(), bytes.len())) {
            self.read += n as u64;
        }
    }

    /// The offset in the stream of a segment's first byte, when `received`
    /// bytes had come in order before it.
    fn offset_of(&self, segment: &Segment, received: u64) -> u64 {
        let first = self.irs.wrapping_add(1).wrapping_add(received as u32);
        let ahead = segment.seq.wrapping_sub(first).cast_signed();
        received.saturating_add_signed(ahead.into())
    }

    /// A segment was taken in, whose flow had been found at `found`.
    #[inline(never)]
    fn trace_ingress(&self, segment: &Segment, frame: &Frame, found: Nanos, before: &Before) {
        let (at, flow) = (trace::stamp(), self.fd.raw());
        let received = before.received;
        let offset = self.offset_of(segment, received);
        if let Some(at) = frame.meta.rx_at {
            let event = trace::Event::new(at, Kind::NicRx, flow).frame(frame.len());
            trace::emit(event.bytes(offset, segment.payload_len));
        }
        trace::arrived(&trace::Arrival {
            flow,
            polled: frame.meta.stamp,
            found,
            processed: at,
            offset,
            len: segment.payload_len,
            frame_len: frame.len(),
            acked: self.written - self.socket.get().send_queue() as u64,
        });
        let event = |kind| {
            let event = trace::Event::new(at, kind, flow).frame(frame.len());
            event.bytes(offset, segment.payload_len)
        };
        if segment.payload_len > 0 && offset > received {
            trace::emit(event(Kind::TcpGap));
        } else if segment.payload_len > 0 && self.received() == received {
            trace::emit(event(Kind::TcpRepeat));
        }
        let window = self.peer_window();
        if (window == 0) != (before.window == 0) {
            let event = trace::Event::new(at, Kind::TcpWindow, flow);
            trace::emit(event.bytes(0, window.into()));
        }
        if segment.flags.contains(TcpFlags::RST) {
            trace::emit(trace::Event::new(at, Kind::TcpReset, flow));
        }
    }
}

/// A connection before a segment was taken in.
#[derive(Default)]
struct Before {
    /// Bytes that had come in order.
    received: u64,
    /// The peer's window, unscaled.
    window: u16,
}

/// A frame was dropped.
#[inline(never)]
fn trace_drop(cause: DropCause) {
    static LABELS: OnceLock<Vec<trace::Label>> = OnceLock::new();
    let all = || {
        DropCause::ALL
            .iter()
            .map(|cause| trace::label(cause.name()))
    };
    let labels = LABELS.get_or_init(|| all().collect());
    let event = trace::Event::new(trace::stamp(), Kind::Drop, 0);
    trace::emit(event.labelled(labels[cause.index()]));
}
