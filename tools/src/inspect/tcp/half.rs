//! One direction of a connection: what its sender sent, and what it said of the
//! other direction.

use std::collections::VecDeque;

use super::sequence::{distance, is_before};
use super::{Finding, Findings};
use crate::inspect::packet::{Tcp, TcpOption, TcpOptions};

/// Segments whose acknowledgment is waited for to time a round trip.
const MAX_TIMED: usize = 64;
/// Ranges that were not seen yet; with more, the oldest is forgotten.
const MAX_HOLES: usize = 32;
/// A segment that comes this late into a hole was sent again, not reordered,
/// where no round trip is known (Wireshark's 3 ms).
const REORDERED_NS: i64 = 3_000_000;
/// A retransmission this soon after the last duplicate acknowledgment is its
/// answer (Wireshark's 20 ms).
const FAST_NS: i64 = 20_000_000;
/// The largest shift of a window (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;

/// Round trips, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many were timed.
    pub count: u32,
    /// The shortest.
    pub min_ns: i64,
    /// The longest.
    pub max_ns: i64,
    sum_ns: i64,
}

impl RoundTrips {
    fn add(&mut self, ns: i64) {
        self.min_ns = if self.count == 0 {
            ns
        } else {
            self.min_ns.min(ns)
        };
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.count = self.count.saturating_add(1);
    }

    /// Their mean.
    pub fn mean_ns(&self) -> Option<i64> {
        (self.count > 0).then(|| self.sum_ns / i64::from(self.count))
    }
}

/// Sequence numbers from one up to another that were not seen.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from: u32,
    to: u32,
    since_ns: i64,
}

/// A direction.
#[derive(Debug, Default)]
pub struct Half {
    isn: Option<u32>,
    /// Behind the highest number that was sent.
    next: Option<u32>,
    /// The highest acknowledgment number of the other side.
    acked: Option<u32>,
    /// What this side acknowledges.
    ack: Option<u32>,
    /// What it has room for, scaled; None before it said so.
    window: Option<u32>,
    scale: Option<u8>,
    mss: Option<u16>,
    has_fin: bool,
    /// Bytes of data, each time that they were sent.
    pub data_bytes: u64,
    /// Of them those that were sent again.
    pub again_bytes: u64,
    /// Data that the receiver has and the capture does not.
    pub missed_bytes: u64,
    /// Round trips of its data.
    pub round_trips: RoundTrips,
    duplicate_acks: u32,
    last_duplicate_ns: i64,
    timed: VecDeque<(u32, i64)>,
    holes: VecDeque<Hole>,
}

/// What an acknowledgment did.
pub(super) enum Acked {
    /// Nothing new, or what was sent.
    Seen,
    /// It acknowledges what was not captured.
    Unseen,
}

impl Half {
    /// Its initial sequence number.
    pub fn isn(&self) -> Option<u32> {
        self.isn
    }

    /// The largest segment that it takes, as its SYN said (RFC 9293 §3.7.1).
    pub fn mss(&self) -> Option<u16> {
        self.mss
    }

    /// The shift of its windows, if it announced one.
    pub fn scale(&self) -> Option<u8> {
        self.scale
    }

    #[cfg(test)]
    pub(super) fn is_small(&self) -> bool {
        self.timed.len() <= MAX_TIMED && self.holes.len() <= MAX_HOLES
    }

    pub(super) fn has_fin(&self) -> bool {
        self.has_fin
    }

    pub(super) fn has_data(&self) -> bool {
        self.data_bytes > 0
    }

    pub(super) fn has_acked(&self) -> bool {
        self.ack.is_some()
    }

    /// Whether all it sent is acknowledged.
    pub(super) fn is_acked(&self) -> bool {
        self.acked == self.next
    }

    /// Whether it told the other side to send nothing.
    pub(super) fn is_shut(&self) -> bool {
        self.window == Some(0)
    }

    /// Whether that number was passed.
    pub(super) fn has_passed(&self, seq: u32) -> bool {
        self.next.is_some_and(|next| is_before(seq, next))
    }

    /// Whether such an acknowledgment would be news.
    pub(super) fn awaits(&self, ack: u32) -> bool {
        self.next.is_some_and(|next| !is_before(next, ack))
            && self.acked.is_none_or(|acked| is_before(acked, ack))
    }

    pub(super) fn is_keep_alive(&self, tcp: &Tcp<'_>) -> bool {
        tcp.len <= 1
            && !tcp.flags.is_control()
            && self
                .next
                .is_some_and(|next| tcp.seq == next.wrapping_sub(1))
            && self.isn.is_none_or(|isn| tcp.seq != isn)
    }

    /// It sent a segment; `its` is the other direction.
    pub(super) fn sent(&mut self, at_ns: i64, tcp: &Tcp<'_>, its: &Half, findings: &mut Findings) {
        if tcp.flags.syn() {
            self.note_syn(tcp);
        }
        self.has_fin |= tcp.flags.fin();
        self.data_bytes += u64::from(tcp.len);
        let Some(next) = self.next else {
            self.next = Some(tcp.seq.wrapping_add(tcp.takes()));
            self.time(at_ns, tcp);
            return;
        };
        if self.is_keep_alive(tcp) {
            let is_probe = its.is_shut();
            findings.add(if is_probe {
                Finding::ZeroWindowProbe
            } else {
                Finding::KeepAlive
            });
        } else if tcp.takes() > 0 {
            self.sent_numbers(at_ns, tcp, next, its, findings);
        }
    }

    fn sent_numbers(
        &mut self,
        at_ns: i64,
        tcp: &Tcp<'_>,
        next: u32,
        its: &Half,
        findings: &mut Findings,
    ) {
        let end = tcp.seq.wrapping_add(tcp.takes());
        match distance(next, tcp.seq) {
            0 if tcp.len == 1 && its.is_shut() => findings.add(Finding::ZeroWindowProbe),
            0 => self.time(at_ns, tcp),
            1.. => {
                findings.add(Finding::PreviousMissing);
                self.dig(next, tcp.seq, at_ns);
                self.time(at_ns, tcp);
            }
            _ => self.sent_late(at_ns, tcp, end, its, findings),
        }
        if is_before(next, end) {
            self.next = Some(end);
        }
        if tcp.len > 0 && !tcp.flags.is_control() && its.is_filled_by(end) {
            findings.add(Finding::WindowFull);
        }
    }

    /// A segment that begins before the highest number.
    fn sent_late(
        &mut self,
        at_ns: i64,
        tcp: &Tcp<'_>,
        end: u32,
        its: &Half,
        findings: &mut Findings,
    ) {
        let is_acked = self.acked.is_some_and(|acked| !is_before(acked, end));
        let hole = self.fill(tcp.seq, end);
        let is_fast = its.duplicate_acks >= 2
            && self.acked == Some(tcp.seq)
            && at_ns - its.last_duplicate_ns <= FAST_NS;
        let finding = match hole {
            _ if is_acked => Finding::SpuriousRetransmission,
            _ if is_fast => Finding::FastRetransmission,
            Some(hole) if at_ns - hole.since_ns < self.reordered_ns() => Finding::OutOfOrder,
            _ => Finding::Retransmission,
        };
        findings.add(finding);
        if finding.is_sent_again() {
            self.again_bytes += u64::from(tcp.len);
            // Which of the copies is acknowledged is not known (Karn's algorithm,
            // RFC 6298 §3).
            self.timed.retain(|&(last, _)| !is_before(tcp.seq, last));
        }
    }

    fn reordered_ns(&self) -> i64 {
        match self.round_trips.count {
            0 => REORDERED_NS,
            _ => self.round_trips.min_ns.max(REORDERED_NS),
        }
    }

    fn note_syn(&mut self, tcp: &Tcp<'_>) {
        self.isn = Some(tcp.seq);
        for option in TcpOptions(tcp.options) {
            match option {
                TcpOption::Mss(mss) => self.mss = Some(mss),
                TcpOption::WindowScale(scale) => self.scale = Some(scale.min(MAX_SCALE)),
                _ => {}
            }
        }
    }

    fn time(&mut self, at_ns: i64, tcp: &Tcp<'_>) {
        if tcp.takes() == 0 {
            return;
        }
        if self.timed.len() == MAX_TIMED {
            self.timed.pop_front();
        }
        self.timed
            .push_back((tcp.seq.wrapping_add(tcp.takes()), at_ns));
    }

    fn dig(&mut self, from: u32, to: u32, since_ns: i64) {
        if self.holes.len() == MAX_HOLES {
            self.holes.pop_front();
        }
        self.holes.push_back(Hole { from, to, since_ns });
    }

    /// Numbers that were seen now. The hole that they are in, if in one.
    fn fill(&mut self, from: u32, to: u32) -> Option<Hole> {
        let place = self
            .holes
            .iter()
            .position(|hole| is_before(from, hole.to) && is_before(hole.from, to))?;
        let hole = self.holes.remove(place).expect("its position");
        for (from, to) in [(hole.from, from), (to, hole.to)] {
            if is_before(from, to) && self.holes.len() < MAX_HOLES {
                self.holes.push_back(Hole { from, to, ..hole });
            }
        }
        Some(hole)
    }

    /// The other side acknowledges up to a number.
    pub(super) fn acked_by(&mut self, at_ns: i64, ack: u32) -> Acked {
        if self.acked.is_some_and(|acked| !is_before(acked, ack)) {
            return Acked::Seen;
        }
        self.acked = Some(ack);
        let mut sample = None;
        while let Some(&(end, sent_ns)) = self.timed.front()
            && !is_before(ack, end)
        {
            sample = Some(at_ns - sent_ns);
            self.timed.pop_front();
        }
        if let Some(ns) = sample {
            self.round_trips.add(ns.max(0));
        }
        while let Some(place) = self.holes.iter().position(|hole| !is_before(ack, hole.to)) {
            let hole = self.holes.remove(place).expect("its position");
            self.missed_bytes += u64::from(hole.to.wrapping_sub(hole.from));
        }
        match self.next {
            Some(next) if is_before(next, ack) => {
                self.missed_bytes += u64::from(ack.wrapping_sub(next));
                self.next = Some(ack);
                Acked::Unseen
            }
            Some(_) => Acked::Seen,
            None => {
                self.next = Some(ack);
                Acked::Seen
            }
        }
    }

    /// What its segment says of the other direction, `its`.
    pub(super) fn announced(
        &mut self,
        tcp: &Tcp<'_>,
        its: &Half,
        at_ns: i64,
        findings: &mut Findings,
    ) {
        let window = self.scaled(tcp, its);
        let is_plain = !tcp.flags.is_control() && !findings.has(Finding::KeepAlive);
        if is_plain && tcp.window == 0 {
            findings.add(Finding::ZeroWindow);
        }
        if is_plain && tcp.len == 0 && tcp.flags.ack() && self.ack == Some(tcp.ack) {
            if self.window != Some(window) {
                findings.add(Finding::WindowUpdate);
            } else if window > 0 && !its.is_acked() {
                findings.add(Finding::DuplicateAck);
                self.duplicate_acks += 1;
                self.last_duplicate_ns = at_ns;
            }
        }
        if tcp.flags.ack() && self.ack.is_none_or(|ack| is_before(ack, tcp.ack)) {
            self.ack = Some(tcp.ack);
            self.duplicate_acks = 0;
        }
        self.window = Some(window);
    }

    /// The window of a SYN is never scaled, and others only if both sides
    /// announced a scale (RFC 7323 §2.2).
    fn scaled(&self, tcp: &Tcp<'_>, its: &Half) -> u32 {
        let scale = match (self.scale, its.scale) {
            (Some(scale), Some(_)) if !tcp.flags.syn() => scale,
            _ => 0,
        };
        u32::from(tcp.window) << scale
    }

    /// Whether data up to that number is all that it has room for.
    fn is_filled_by(&self, end: u32) -> bool {
        match (self.ack, self.window) {
            (Some(ack), Some(window)) if window > 0 => ack.wrapping_add(window) == end,
            _ => false,
        }
    }
}
