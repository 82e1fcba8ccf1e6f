//! What happens to a connection when time passes.
//!
//! smoltcp retransmits for ever and knows no orphans; the limits are Linux's,
//! where it has one.

use std::time::Duration;

use smoltcp::socket::tcp::State;
use wirepath_driver::Nanos;

use super::Shard;
use crate::Errno;
use crate::conn::{Conn, Marks, Phase};

/// smoltcp's least retransmission timeout.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// A handshake's final ACK comes within five retransmissions of the SYN-ACK
/// (`net.ipv4.tcp_synack_retries`): 1 + 2 + 4 + 8 + 16 + 32 s.
pub(crate) const HALF_OPEN: Duration = Duration::from_secs(63);
/// The answer to our SYN comes within six retransmissions
/// (`net.ipv4.tcp_syn_retries`).
pub(crate) const CONNECT: Duration = Duration::from_secs(127);
/// A closed connection waits this long for the peer's FIN
/// (`net.ipv4.tcp_fin_timeout`).
pub(crate) const ORPHAN_FIN_WAIT: Duration = Duration::from_secs(60);
/// What was sent is acknowledged, or anything is heard, within this time
/// (`net.ipv4.tcp_retries2`: about 15 minutes). A peer that keeps its window
/// shut answers probes, and so is kept.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(924);
/// The same for a connection whose user closed it (`tcp_orphan_retries`).
pub(crate) const ORPHAN_UNANSWERED: Duration = Duration::from_secs(100);
/// Keep-alive probes without answer (`net.ipv4.tcp_keepalive_probes`).
pub(crate) const KEEPALIVE_PROBES: u32 = 9;
/// Idle this long, a connection's empty buffers give their pages back.
pub(crate) const IDLE: Duration = Duration::from_secs(5);
/// Timers that one turn runs, at most.
const TIMERS_PER_TURN: usize = 256;

impl Conn {
    /// When one of our own limits comes up next; smoltcp's timers aside.
    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let is_resident = self.marks.contains(Marks::RESIDENT);
        let idle = is_resident.then(|| self.active_at + IDLE);
        [self.deadline, idle, self.next_probe()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the next keep-alive probe is due.
    fn next_probe(&self) -> Option<Nanos> {
        let interval = self.keepalive?;
        Some(self.heard_at + interval * (self.probes + 1))
    }

    /// Whether nothing is in the buffers, not even beyond a gap.
    fn can_discard(&self) -> bool {
        let socket = self.socket.get();
        let is_empty = socket.recv_queue() == 0 && socket.send_queue() == 0;
        is_empty && self.is_in_order() && self.state() == State::Established
    }

    /// Whether the peer has not answered for too long. A peer that answers but
    /// takes no data is kept, unless the user has closed the connection.
    fn is_unanswered(&mut self, now: Nanos) -> bool {
        if !self.awaits_ack() {
            self.stalled = None;
            return false;
        }
        let acked = self.written - self.socket.get().send_queue() as u64;
        let (since, acked_then) = *self.stalled.get_or_insert((now, acked));
        let answered = self.heard_at > since && !self.is_orphan();
        if answered || acked > acked_then {
            self.stalled = Some((now, acked));
            return false;
        }
        let limit = if self.is_orphan() {
            ORPHAN_UNANSWERED
        } else {
            UNANSWERED
        };
        now.since(since) >= limit
    }

    /// Whether keep-alive has given up; asks smoltcp for a probe when one is
    /// due.
    fn keepalive_failed(&mut self, now: Nanos) -> bool {
        let Some(interval) = self.keepalive else {
            return false;
        };
        if self.next_probe().is_some_and(|at| now < at) || self.awaits_ack() {
            return false;
        }
        self.probes += 1;
        // smoltcp probes at once when its interval is set, and from then on by
        // its own timer, which this one then follows.
        self.socket.get_mut().set_keep_alive(Some(interval.into()));
        self.probes > KEEPALIVE_PROBES
    }
}

impl Shard {
    /// Runs timers that are due.
    pub(super) fn run_timers(&mut self, now: Nanos) {
        for _ in 0..TIMERS_PER_TURN {
            match self.timers.pop_due(now) {
                Some(slot) => self.timer(now, slot),
                None => return,
            }
        }
    }

    fn timer(&mut self, now: Nanos, slot: u32) {
        if self.slots.lookup(slot).is_some() {
            return self.lookup_timer(now, slot);
        }
        let Some(conn) = self.slots.conn(slot).filter(|c| !c.is_detached()) else {
            return;
        };
        if conn.deadline.is_some_and(|at| at <= now) {
            return self.deadline_passed(slot);
        }
        if conn.is_unanswered(now) || conn.keepalive_failed(now) {
            self.counters.timed_out += 1;
            self.fail(slot, Errno::TimedOut);
            return self.reset(slot, now);
        }
        if matches!(conn.phase, Phase::Resolving { .. }) {
            if let Some(at) = conn.deadline {
                self.timers.arm(slot, at);
            }
            return;
        }
        if conn.marks.contains(Marks::RESIDENT) && conn.active_at + IDLE <= now {
            if conn.can_discard() && conn.socket.discard_pages() {
                conn.marks.remove(Marks::RESIDENT);
                self.counters.buffers_discarded += 1;
            } else {
                conn.active_at = now;
            }
        }
        let is_due = |at: Nanos| at <= now;
        if conn.is_all_in_flight_shut_out() && self.tcp_deadline(now, slot).is_some_and(is_due) {
            self.probe(slot);
        }
        // Its retransmission, if due, goes out with the flush, which also arms
        // the next timer.
        self.mark_dirty(slot);
    }

    /// Asks the peer for its window. smoltcp does so with the first byte that it
    /// has not sent, and if there is none, with a segment that nobody answers.
    fn probe(&mut self, slot: u32) {
        if let Some(conn) = self.slots.conn(slot) {
            // What is not in its window, it answers (RFC 9293 §3.10.7.4).
            let seq = conn.snd_una().wrapping_sub(1);
            let (mac, ack) = (conn.mac, conn.ack_from(seq));
            self.push_ack(mac, &ack);
        }
    }

    fn deadline_passed(&mut self, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        match conn.phase {
            Phase::HalfOpen { .. } => self.counters.half_open_expired += 1,
            Phase::Connecting | Phase::Resolving { .. } => {
                self.counters.timed_out += 1;
                self.fail(slot, Errno::TimedOut);
            }
            Phase::Queued | Phase::Open => self.counters.orphans_expired += 1,
        }
        self.finish(slot);
    }
}
