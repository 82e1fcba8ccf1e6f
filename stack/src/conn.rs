//! A connection: its socket, what was said on the wire, and its readiness.
//!
//! Everything here is behind its shard's lock. A connection lives in a slot
//! from its first SYN until both the network and its user are done with it:
//! *orphaned* when the user closed it first, *detached* when the network is
//! done and only unread data or an error keeps it.

use std::net::IpAddr;
use std::time::Duration;

use smoltcp::socket::tcp::{CongestionControl, State};
use wirepath_driver::Nanos;

use crate::buffer::BufferedSocket;
use crate::flow::FlowKey;
use crate::ip::{Segment, TcpFlags};
use crate::rtt::RttEstimate;
use crate::segment::{self, Sent};
use crate::{Errno, Fd, MacAddr, Ready};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A SYN came to the listener in this slot.
    HalfOpen { listener: u32 },
    /// Established, in that listener's accept queue.
    Queued,
    /// We want to connect, and do not know the next hop's station yet.
    Resolving { next_hop: IpAddr },
    /// Our SYN is out.
    Connecting,
    /// Established and the user's.
    Open,
}

bitflags::bitflags! {
    /// What else is true of a connection.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Marks: u16 {
        /// In the shard's list of connections whose readiness may have changed.
        const TOUCHED = 1;
        /// In the shard's list of connections that may have something to send.
        const DIRTY = 2;
        /// The user closed it.
        const ORPHAN = 4;
        /// The network is done with it.
        const DETACHED = 8;
        /// A writer met a full buffer.
        const WRITER_WAITS = 0x10;
        /// The user shut down reading.
        const READ_SHUT = 0x20;
        /// The user shut down writing.
        const WRITE_SHUT = 0x40;
        /// The end of the stream was told.
        const TOLD_END = 0x80;
        /// The error was told.
        const TOLD_ERROR = 0x100;
        /// The buffers' pages may be resident.
        const RESIDENT = 0x200;
        /// It was established (or failed to be) since the last event.
        const CONNECT_NEWS = 0x400;
        /// smoltcp's congestion control is on.
        const CONTROLLED = 0x800;
        /// The user is done writing, and smoltcp does not know yet.
        const FIN_DUE = 0x1000;
    }
}

/// One connection.
pub(crate) struct Conn {
    pub(crate) fd: Fd,
    pub(crate) key: FlowKey,
    pub(crate) phase: Phase,
    pub(crate) marks: Marks,
    pub(crate) socket: BufferedSocket,
    /// The peer's station: that of its SYN, renewed by segments that fit.
    pub(crate) mac: MacAddr,
    /// Our initial sequence number, and the peer's.
    pub(crate) iss: u32,
    pub(crate) irs: u32,
    /// Bytes that the user has read and written.
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// Bytes received when readiness was last told.
    pub(crate) told_received: u64,
    /// The sequence number after the furthest data that came in.
    pub(crate) furthest: u32,
    /// The shift of the windows that we announce.
    pub(crate) window_shift: u8,
    /// The window of the peer's last segment, unscaled: 0 if it is shut, else at
    /// most what it is in bytes.
    peer_window: u16,
    /// Bytes that may be in flight before congestion control is on, and the
    /// most in one segment. Zero until the peer's SYN came.
    initial_window: u32,
    mss: u32,
    /// The last segment that left.
    pub(crate) sent: Sent,
    /// The round-trip time, once there is a sample.
    pub(crate) rtt: Option<RttEstimate>,
    /// Segments received, and those of them that left a gap.
    pub(crate) segments_in: u64,
    pub(crate) out_of_order: u64,
    /// When it came to be.
    pub(crate) opened_at: Nanos,
    /// The word that its events carry.
    pub(crate) token: Option<u64>,
    /// How it failed.
    pub(crate) error: Option<Errno>,
    /// When it fails if it has not got further: handshake, or closed and
    /// waiting for the peer's FIN.
    pub(crate) deadline: Option<Nanos>,
    /// When the peer was last heard, or the user last wrote, or the buffers
    /// were last found in use.
    pub(crate) active_at: Nanos,
    /// When the peer was last heard.
    pub(crate) heard_at: Nanos,
    /// Since when what was sent goes unanswered, and how many bytes were
    /// acknowledged then.
    pub(crate) stalled: Option<(Nanos, u64)>,
    /// Keep-alive interval, and probes unanswered.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) probes: u32,
    /// When a SYN on the live connection was last answered.
    pub(crate) challenged_at: Nanos,
}

impl Conn {
    pub(crate) fn new(
        fd: Fd,
        key: FlowKey,
        phase: Phase,
        socket: BufferedSocket,
        now: Nanos,
    ) -> Conn {
        let mut conn = Conn {
            fd,
            key,
            phase,
            marks: Marks::RESIDENT,
            socket,
            mac: MacAddr::BROADCAST,
            iss: 0,
            irs: 0,
            read: 0,
            written: 0,
            told_received: 0,
            furthest: 0,
            window_shift: 0,
            peer_window: 1,
            initial_window: 0,
            mss: 0,
            sent: Sent::default(),
            rtt: None,
            segments_in: 0,
            out_of_order: 0,
            opened_at: now,
            token: None,
            error: None,
            deadline: None,
            active_at: now,
            heard_at: now,
            stalled: None,
            keepalive: None,
            probes: 0,
            challenged_at: Nanos::ZERO,
        };
        let socket = conn.socket.get_mut();
        socket.set_nagle_enabled(false);
        // ACKs wait for `flush`, which runs when the reader had its turn.
        socket.set_ack_delay(None);
        // Until `limit_flight` says otherwise.
        socket.set_congestion_control(CongestionControl::None);
        socket.set_tsval_generator(Some(segment::timestamp_clock));
        conn
    }

    pub(crate) fn is_orphan(&self) -> bool {
        self.marks.contains(Marks::ORPHAN)
    }

    /// Whether its user closed it and the peer has not acknowledged everything,
    /// the FIN included.
    pub(crate) fn is_delivering(&self) -> bool {
        let awaits_ack = || {
            let state = self.state();
            let awaits_fin = matches!(state, State::FinWait1 | State::Closing | State::LastAck);
            awaits_fin || self.marks.contains(Marks::FIN_DUE) || self.socket.get().send_queue() > 0
        };
        self.is_orphan() && !self.is_detached() && awaits_ack()
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.marks.contains(Marks::DETACHED)
    }

    pub(crate) fn state(&self) -> State {
        self.socket.get().state()
    }

    /// Bytes received in order, read or not.
    pub(crate) fn received(&self) -> u64 {
        self.read + self.socket.get().recv_queue() as u64
    }

    /// The sequence number after the data that was received in order.
    fn data_end(&self) -> u32 {
        self.irs
            .wrapping_add(1)
            .wrapping_add(self.received() as u32)
    }

    /// The sequence number that the peer sends next (RCV.NXT).
    pub(crate) fn rcv_nxt(&self) -> u32 {
        self.data_end().wrapping_add(u32::from(self.has_fin()))
    }

    /// Whether the peer's FIN came, in order.
    fn has_fin(&self) -> bool {
        matches!(
            self.state(),
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait
        )
    }

    /// The end of what the user wrote: sequence number and offset.
    pub(crate) fn written_end(&self) -> (u32, u64) {
        let seq = self.iss.wrapping_add(1).wrapping_add(self.written as u32);
        (seq, self.written)
    }

    /// Whether everything written was sent and nothing else is due: the usual
    /// case after one segment, told without asking smoltcp again.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.sent.next() == self.written_end().0
            && matches!(self.state(), State::Established | State::CloseWait)
    }

    /// Ends the sending side once what is left fits the peer's window.
    ///
    /// In LAST-ACK smoltcp does not look at the window of a segment that
    /// acknowledges nothing, and data that needs a wider one would wait for a
    /// probe each time that the window was shut.
    pub(crate) fn end_stream(&mut self) {
        self.marks.insert(Marks::FIN_DUE);
        self.end_if_sent();
    }

    /// Does what [`Conn::end_stream`] put off, if it is time.
    pub(crate) fn end_if_sent(&mut self) {
        if !self.marks.contains(Marks::FIN_DUE) {
            return;
        }
        let is_last = self.state() == State::CloseWait;
        let fits = || self.socket.get().send_queue() <= usize::from(self.peer_window);
        if !is_last || fits() || self.has_sent_all() {
            self.marks.remove(Marks::FIN_DUE);
            self.socket.get_mut().close();
        }
    }

    /// The first sequence number that the peer has not acknowledged.
    pub(crate) fn snd_una(&self) -> u32 {
        let queued = self.socket.get().send_queue() as u32;
        self.written_end().0.wrapping_sub(queued)
    }

    /// Bytes sent and not acknowledged.
    pub(crate) fn in_flight(&self) -> usize {
        let ahead = self.sent.furthest.wrapping_sub(self.snd_una());
        usize::try_from(ahead.cast_signed()).unwrap_or(0)
    }

    /// Bytes of data in a segment at most.
    pub(crate) fn mss(&self) -> usize {
        self.mss as usize
    }

    /// Counts a segment of the peer that is about to be taken in.
    pub(crate) fn count_segment(&mut self, segment: &Segment) {
        self.segments_in += 1;
        let leaves_gap = segment.payload_len > 0 && segment::after(segment.seq, self.rcv_nxt());
        self.out_of_order += u64::from(leaves_gap);
    }

    /// Takes the time of a segment that has been acknowledged by now.
    pub(crate) fn measure(&mut self, now: Nanos) {
        let una = self.snd_una();
        if let Some(sample) = self.sent.tally.acked(una, now) {
            self.rtt = Some(RttEstimate::with(self.rtt, sample));
        }
    }

    /// The window of the peer's last segment, unscaled.
    pub(crate) fn peer_window(&self) -> u16 {
        self.peer_window
    }

    /// Notes the window of a segment. True: it has reopened while data that was
    /// sent before it shut is unacknowledged.
    pub(crate) fn window_reopens(&mut self, window: u16) -> bool {
        let was_shut = std::mem::replace(&mut self.peer_window, window) == 0;
        was_shut && window > 0
    }

    /// Whether there is data that the peer has not acknowledged, sent or not.
    pub(crate) fn awaits_ack_of_data(&self) -> bool {
        self.socket.get().send_queue() > 0
            && matches!(
                self.state(),
                State::Established
                    | State::CloseWait
                    | State::FinWait1
                    | State::Closing
                    | State::LastAck
            )
    }

    /// Whether everything written has been sent, and the peer's window has shut
    /// over some of it.
    pub(crate) fn is_all_in_flight_shut_out(&self) -> bool {
        self.peer_window == 0
            && self.awaits_ack_of_data()
            && !segment::after(self.written_end().0, self.sent.furthest)
    }

    /// Whether our FIN is all that the peer has not acknowledged.
    pub(crate) fn awaits_ack_of_fin(&self) -> bool {
        self.socket.get().send_queue() == 0
            && matches!(
                self.state(),
                State::FinWait1 | State::Closing | State::LastAck
            )
    }

    /// Whether the peer owes us an ACK.
    pub(crate) fn awaits_ack(&self) -> bool {
        self.socket.get().send_queue() > 0
            || matches!(
                self.state(),
                State::SynSent
                    | State::SynReceived
                    | State::FinWait1
                    | State::Closing
                    | State::LastAck
            )
    }

    /// Notes the largest segment that both sides take: the initial window is ten
    /// of them, within the limits of RFC 6928 §2.
    pub(crate) fn set_mss(&mut self, peers: Option<u16>, mtu: usize) {
        let headers = if self.key.local.0.is_ipv4() { 40 } else { 60 };
        let ours = u32::try_from(mtu.saturating_sub(headers)).unwrap_or(u32::MAX);
        // RFC 9293 §3.7.1; a zero counts as none, as for smoltcp.
        let peers = peers.filter(|mss| *mss > 0).unwrap_or(536);
        self.mss = u32::from(peers).min(ours).max(1);
        self.initial_window = (10 * self.mss).min(14_600.max(2 * self.mss));
    }

    /// Turns smoltcp's congestion control on before it would send more than the
    /// initial window, or after it sent something again.
    ///
    /// smoltcp's control starts with 2 KiB and that cannot be set from outside.
    /// Without any it sends what the peer's window takes, one segment a poll. So
    /// there is none while no more than the initial window is in flight, and at
    /// the first sign of loss (RFC 6928 §2: a SYN sent again is one) or of more
    /// to send there is, with its own small window.
    pub(crate) fn limit_flight(&mut self) {
        if self.marks.contains(Marks::CONTROLLED) {
            return;
        }
        let queued = u32::try_from(self.socket.get().send_queue()).unwrap_or(u32::MAX);
        let in_flight = (self.in_flight() as u32).min(queued);
        let next = (queued - in_flight).min(self.mss);
        if self.sent.is_again || in_flight + next > self.initial_window {
            self.marks.insert(Marks::CONTROLLED);
            let socket = self.socket.get_mut();
            socket.set_congestion_control(CongestionControl::Cubic);
        }
    }

    /// Notes that a segment came in.
    pub(crate) fn heard(&mut self, now: Nanos) {
        self.active_at = now;
        self.heard_at = now;
        if std::mem::take(&mut self.probes) > 0 {
            self.socket.get_mut().set_keep_alive(None);
        }
        self.marks.insert(Marks::RESIDENT);
    }

    /// Notes where the data of a segment ends.
    pub(crate) fn note_data(&mut self, end: u32) {
        if segment::after(end, self.furthest) {
            self.furthest = end;
        }
    }

    /// Whether all data that came in is in order, so that no byte waits in the
    /// receive buffer beyond a gap.
    pub(crate) fn is_in_order(&self) -> bool {
        !segment::after(self.furthest, self.data_end())
    }

    /// The window last announced, in bytes. On a SYN it is not scaled
    /// (RFC 7323 §2.2).
    fn announced_window(&self) -> u32 {
        let is_syn = self.sent.flags & segment::SYN != 0;
        u32::from(self.sent.window) << if is_syn { 0 } else { self.window_shift }
    }

    /// Whether a segment lies in the receive window that we last announced
    /// (RFC 9293 §3.10.7.4), so that whoever sent it knows the connection.
    pub(crate) fn in_window(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.rcv_nxt()) < self.announced_window().max(1)
    }

    /// Whether a segment acknowledges what we may have sent of late (RFC 5961
    /// §5.2, with 64 KiB for the largest window that the peer had). Together
    /// with [`Conn::in_window`] that is more than anyone off the path can guess.
    pub(crate) fn acknowledges(&self, segment: &Segment) -> bool {
        let after_fin = self.written_end().0.wrapping_add(1);
        let unacked = self.socket.get().send_queue() as u64;
        segment.flags.contains(TcpFlags::ACK)
            && u64::from(after_fin.wrapping_sub(segment.ack)) <= unacked + 65_536
    }

    /// Whether reading has opened the window enough to tell the peer: it has
    /// at least doubled since last announced, which is smoltcp's condition.
    pub(crate) fn has_window_news(&self) -> bool {
        let edge = self.sent.ack.wrapping_add(self.announced_window());
        let announced = edge.wrapping_sub(self.rcv_nxt()).cast_signed().max(0);
        let socket = self.socket.get();
        let free = socket.recv_capacity() - socket.recv_queue();
        free >= 2 * announced.cast_unsigned() as usize
    }

    /// Whether the stream from the peer has ended: nothing will come after
    /// what is buffered.
    pub(crate) fn has_end(&self) -> bool {
        let is_opening = matches!(self.phase, Phase::Resolving { .. } | Phase::Connecting);
        self.marks.contains(Marks::READ_SHUT)
            || self.has_fin()
            || (self.state() == State::Closed && !is_opening)
    }

    /// Whether a third of the send buffer is free.
    fn has_room(&self) -> bool {
        let socket = self.socket.get();
        let capacity = socket.send_capacity();
        (capacity - socket.send_queue()) * 3 >= capacity
    }

    /// What a reader or writer would find now.
    pub(crate) fn readiness(&self) -> Ready {
        let mut ready = Ready::empty();
        let socket = self.socket.get();
        ready.set(Ready::READ, socket.recv_queue() > 0 || self.has_end());
        ready.set(Ready::WRITE, socket.can_send());
        ready.set(Ready::END, self.has_end());
        if self.error.is_some() {
            ready |= Ready::READ | Ready::WRITE | Ready::HANGUP;
        }
        ready
    }

    /// Notes that all of [`Conn::readiness`] has been told.
    pub(crate) fn mark_told(&mut self) {
        self.told_received = self.received();
        self.marks.remove(Marks::CONNECT_NEWS);
        self.marks.set(Marks::TOLD_END, self.has_end());
        self.marks.set(Marks::TOLD_ERROR, self.error.is_some());
    }

    /// What has become true since it was last told.
    pub(crate) fn take_edges(&mut self) -> Ready {
        let mut edges = Ready::empty();
        let received = self.received();
        if received > self.told_received {
            self.told_received = received;
            edges |= Ready::READ;
        }
        if self.has_end() && !self.marks.contains(Marks::TOLD_END) {
            self.marks.insert(Marks::TOLD_END);
            edges |= Ready::READ | Ready::END;
        }
        if self.marks.contains(Marks::CONNECT_NEWS) {
            self.marks.remove(Marks::CONNECT_NEWS);
            edges |= Ready::WRITE;
        }
        if self.marks.contains(Marks::WRITER_WAITS) && self.has_room() {
            self.marks.remove(Marks::WRITER_WAITS);
            edges |= Ready::WRITE;
        }
        if self.error.is_some() && !self.marks.contains(Marks::TOLD_ERROR) {
            self.marks.insert(Marks::TOLD_ERROR);
            edges |= Ready::READ | Ready::WRITE | Ready::HANGUP;
        }
        edges
    }
}
