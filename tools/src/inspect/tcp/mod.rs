//! What the segments of a connection tell of it: handshake, round trips, what
//! was sent again and why, windows, resets, and where it stood still.
//!
//! The names are those of Wireshark's TCP analysis where it has one, so that a
//! person can go from one to the other. They differ where the capture allows a
//! better answer: which bytes were seen is kept ([`half::Half`]'s holes), so
//! whether a late segment was sent again or only came in another order does not
//! rest on its time alone, and a duplicate acknowledgment needs data that is not
//! acknowledged, as RFC 5681 §2 has it.
//!
//! Everything is as seen where the capture was made. A round trip is from there
//! to the receiver and back, with the receiver's delay of the ACK in it.

use serde::Serialize;

use super::packet::Tcp;
use super::seen::Side;
use half::{Acked, Half};
use stall::{Stalls, Turn};

pub mod half;
mod sequence;
pub mod stall;
#[cfg(test)]
mod tests;

/// What is worth a word about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Sent again; the receiver has not acknowledged it.
    Retransmission,
    /// Sent again after duplicate acknowledgments (RFC 5681 §3.2).
    FastRetransmission,
    /// Sent again although the receiver has it and has said so.
    SpuriousRetransmission,
    /// Came later than what follows it, for the first time.
    OutOfOrder,
    /// Something before it is not in the capture.
    PreviousMissing,
    /// Acknowledges what is not in the capture.
    AckedUnseen,
    /// Says once more that something is missing.
    DuplicateAck,
    /// The receiver has no room.
    ZeroWindow,
    /// Asks a receiver without room (RFC 9293 §3.8.6.1).
    ZeroWindowProbe,
    /// Fills the receiver's window.
    WindowFull,
    /// Opens the window.
    WindowUpdate,
    /// Asks whether the peer is there (RFC 9293 §3.8.4).
    KeepAlive,
    /// Ends the connection at once.
    Reset,
}

impl Finding {
    /// All of them.
    pub const ALL: [Finding; 13] = [
        Finding::Retransmission,
        Finding::FastRetransmission,
        Finding::SpuriousRetransmission,
        Finding::OutOfOrder,
        Finding::PreviousMissing,
        Finding::AckedUnseen,
        Finding::DuplicateAck,
        Finding::ZeroWindow,
        Finding::ZeroWindowProbe,
        Finding::WindowFull,
        Finding::WindowUpdate,
        Finding::KeepAlive,
        Finding::Reset,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Finding::Retransmission => "retransmission",
            Finding::FastRetransmission => "fast retransmission",
            Finding::SpuriousRetransmission => "spurious retransmission",
            Finding::OutOfOrder => "out of order",
            Finding::PreviousMissing => "previous segment not captured",
            Finding::AckedUnseen => "acknowledged segment not captured",
            Finding::DuplicateAck => "duplicate ACK",
            Finding::ZeroWindow => "zero window",
            Finding::ZeroWindowProbe => "zero window probe",
            Finding::WindowFull => "window full",
            Finding::WindowUpdate => "window update",
            Finding::KeepAlive => "keep-alive",
            Finding::Reset => "reset",
        }
    }

    /// Whether the segment was sent before.
    pub fn is_sent_again(self) -> bool {
        matches!(
            self,
            Finding::Retransmission | Finding::FastRetransmission | Finding::SpuriousRetransmission
        )
    }
}

/// The findings of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings(u16);

impl Findings {
    fn add(&mut self, finding: Finding) {
        self.0 |= 1 << finding as u16;
    }

    /// Whether it is among them.
    pub fn has(self, finding: Finding) -> bool {
        self.0 & 1 << finding as u16 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the segment was sent before.
    pub fn is_sent_again(self) -> bool {
        self.iter().any(Finding::is_sent_again)
    }

    /// They, in the order of [`Finding::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Finding> {
        Finding::ALL
            .into_iter()
            .filter(move |&finding| self.has(finding))
    }
}

/// How often each finding was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; Finding::ALL.len()]);

impl Counts {
    fn add(&mut self, findings: Findings) {
        if !findings.is_empty() {
            for finding in findings.iter() {
                let count = &mut self.0[finding as usize];
                *count = count.saturating_add(1);
            }
        }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Counts) {
        for (mine, its) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(its);
        }
    }

    /// Of one finding.
    pub fn of(&self, finding: Finding) -> u32 {
        self.0[finding as usize]
    }

    /// Those that were made.
    pub fn iter(&self) -> impl Iterator<Item = (Finding, u32)> + '_ {
        let all = Finding::ALL.into_iter();
        all.map(|finding| (finding, self.of(finding)))
            .filter(|&(_, count)| count > 0)
    }
}

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// How a connection was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// When the first SYN was seen; all times in nanoseconds since 1970.
    pub syn_ns: Option<i64>,
    /// The first SYN with ACK.
    pub syn_ack_ns: Option<i64>,
    /// The client's first ACK.
    pub ack_ns: Option<i64>,
}

impl Handshake {
    /// From SYN to ACK, in nanoseconds: a round trip to either side.
    pub fn round_trip_ns(&self) -> Option<i64> {
        Some(self.ack_ns? - self.syn_ns?)
    }
}

/// A connection, followed.
#[derive(Debug, Default)]
pub struct Track {
    halves: [Half; 2],
    /// Its opening.
    pub handshake: Handshake,
    /// Where it stood still.
    pub stalls: Stalls,
    /// What was found, of the client's segments and the server's.
    pub counts: [Counts; 2],
    last: Option<Turn>,
}

impl Track {
    /// Takes its next segment in.
    pub fn take(
        &mut self,
        packet: u64,
        at_ns: i64,
        from: Side,
        tcp: &Tcp<'_>,
        stall_ns: i64,
    ) -> Findings {
        let turn = self.turn(packet, at_ns, from, tcp);
        if let Some(last) = self.last
            && at_ns.saturating_sub(last.at_ns) >= stall_ns
        {
            let stall = stall::between(&last, &turn, self.half(from), self.half(from.other()));
            self.stalls.add(stall);
        }
        let findings = self.settle(at_ns, from, tcp);
        self.counts[from.index()].add(findings);
        self.last = Some(Turn {
            data_from: turn.data_from.or(self.last.and_then(|last| last.data_from)),
            ..turn
        });
        findings
    }

    /// One side of it.
    pub fn half(&self, side: Side) -> &Half {
        &self.halves[side.index()]
    }

    /// Whether both sides have ended, or one has reset.
    pub fn has_ended(&self) -> bool {
        self.halves.iter().all(Half::has_fin) || self.was_reset()
    }

    /// Whether a side reset it.
    pub fn was_reset(&self) -> bool {
        self.counts
            .iter()
            .any(|counts| counts.of(Finding::Reset) > 0)
    }

    /// Whether such a SYN opens another connection on the same ports, rather
    /// than this one again (RFC 9293 §3.6.1).
    pub fn is_reused_by(&self, from: Side, tcp: &Tcp<'_>) -> bool {
        match self.half(from).isn() {
            Some(isn) => isn != tcp.seq,
            // SYN and ACK may come before the SYN where two queues were captured.
            None => self.half(from).has_data() || self.has_ended(),
        }
    }

    /// What a segment is before anything is changed by it.
    fn turn(&self, packet: u64, at_ns: i64, from: Side, tcp: &Tcp<'_>) -> Turn {
        let half = self.half(from);
        Turn {
            packet,
            at_ns,
            from,
            data_from: (tcp.len > 0).then_some(from),
            is_old: tcp.takes() > 0 && half.has_passed(tcp.seq),
            is_ack_of_new: tcp.flags.ack() && self.half(from.other()).awaits(tcp.ack),
            is_control: tcp.flags.is_control(),
            is_syn: tcp.flags.syn(),
            is_keep_alive: half.is_keep_alive(tcp),
        }
    }

    fn settle(&mut self, at_ns: i64, from: Side, tcp: &Tcp<'_>) -> Findings {
        let mut findings = Findings::default();
        self.note_handshake(at_ns, from, tcp);
        let [client, server] = &mut self.halves;
        let (mine, its) = match from {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        if tcp.flags.rst() {
            findings.add(Finding::Reset);
            return findings;
        }
        mine.sent(at_ns, tcp, its, &mut findings);
        if tcp.flags.ack() {
            let is_first = !mine.has_acked();
            if let Acked::Unseen = its.acked_by(at_ns, tcp.ack)
                && !is_first
            {
                findings.add(Finding::AckedUnseen);
            }
        }
        mine.announced(tcp, its, at_ns, &mut findings);
        findings
    }

    fn note_handshake(&mut self, at_ns: i64, from: Side, tcp: &Tcp<'_>) {
        let shake = &mut self.handshake;
        let (flags, is_client) = (tcp.flags, from == Side::Client);
        let slot = match (flags.syn(), flags.ack()) {
            (true, false) => &mut shake.syn_ns,
            (true, true) => &mut shake.syn_ack_ns,
            (false, true) if is_client && shake.syn_ack_ns.is_some() => &mut shake.ack_ns,
            _ => return,
        };
        slot.get_or_insert(at_ns);
    }
}
