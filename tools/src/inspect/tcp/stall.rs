//! Where a connection stood still, and what it waited for.
//!
//! A stall is a pause between two segments of a connection. What ended it tells
//! what it was: a segment that was sent again, an acknowledgment, a window that
//! opened, or data of one side after data of the other.

use serde::Serialize;

use super::half::Half;
use crate::inspect::seen::Side;

/// Of the stalls of a connection the longest are kept whole.
pub const KEPT: usize = 3;

/// What a connection waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An answer to a SYN.
    Connect,
    /// A retransmission timeout: something was lost.
    Retransmission,
    /// The receiver to have room.
    ZeroWindow,
    /// An acknowledgment that came late.
    LateAck,
    /// The server, whose turn it was.
    Server,
    /// The client, whose turn it was.
    Client,
    /// The sender, in the middle of what it sends.
    Sender,
    /// Nothing: it was idle, and then closed or kept alive.
    Idle,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 8] = [
        Cause::Connect,
        Cause::Retransmission,
        Cause::ZeroWindow,
        Cause::LateAck,
        Cause::Server,
        Cause::Client,
        Cause::Sender,
        Cause::Idle,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Connect => "no answer to the SYN",
            Cause::Retransmission => "lost, until the retransmission timeout",
            Cause::ZeroWindow => "the receiver had no room",
            Cause::LateAck => "the acknowledgment came late",
            Cause::Server => "the server took its time",
            Cause::Client => "the client took its time",
            Cause::Sender => "the sender paused",
            Cause::Idle => "idle",
        }
    }

    /// Whether somebody waited for data: neither a client that had nothing to
    /// ask nor an idle connection is trouble.
    pub fn is_trouble(self) -> bool {
        !matches!(self, Cause::Client | Cause::Idle)
    }
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// What it waited for.
    pub cause: Cause,
    /// Whose segment ended it.
    pub ended_by: Side,
    /// The number of that packet.
    pub packet: u64,
    /// When it began: nanoseconds since 1970.
    pub since_ns: i64,
    /// How long, in nanoseconds.
    pub ns: i64,
}

/// The pauses of a connection.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    /// The longest, longest first.
    pub longest: Vec<Stall>,
    /// Of each cause: how many, and nanoseconds.
    sums: [(u32, i64); Cause::ALL.len()],
}

impl Stalls {
    pub(super) fn add(&mut self, stall: Stall) {
        let (count, ns) = &mut self.sums[stall.cause as usize];
        *count = count.saturating_add(1);
        *ns = ns.saturating_add(stall.ns);
        keep(&mut self.longest, stall, KEPT);
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &Stalls) {
        for ((count, ns), (more, more_ns)) in self.sums.iter_mut().zip(other.sums) {
            *count = count.saturating_add(more);
            *ns = ns.saturating_add(more_ns);
        }
    }

    /// Causes that there were: how many pauses, and nanoseconds in all.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u32, i64)> + '_ {
        let all = Cause::ALL.into_iter();
        all.map(|cause| {
            let (count, ns) = self.sums[cause as usize];
            (cause, count, ns)
        })
        .filter(|&(_, count, _)| count > 0)
    }
}

/// Puts a pause among the longest: trouble before what is none.
pub fn keep(longest: &mut Vec<Stall>, stall: Stall, most: usize) {
    let rank = |stall: &Stall| (!stall.cause.is_trouble(), -stall.ns);
    let place = longest.partition_point(|kept| rank(kept) <= rank(&stall));
    if place < most {
        longest.insert(place, stall);
        longest.truncate(most);
    }
}

/// A segment, as far as a pause is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub packet: u64,
    pub at_ns: i64,
    pub from: Side,
    /// Who sent data last.
    pub data_from: Option<Side>,
    pub is_old: bool,
    pub is_ack_of_new: bool,
    pub is_control: bool,
    pub is_syn: bool,
    pub is_keep_alive: bool,
}

/// What the pause before a segment was. `mine` is its sender's half, `its` the
/// other, both as they were during the pause.
pub(super) fn between(last: &Turn, now: &Turn, mine: &Half, its: &Half) -> Stall {
    Stall {
        cause: cause(last, now, mine, its),
        ended_by: now.from,
        packet: now.packet,
        since_ns: last.at_ns,
        ns: now.at_ns.saturating_sub(last.at_ns),
    }
}

fn cause(last: &Turn, now: &Turn, mine: &Half, its: &Half) -> Cause {
    let somebody_is_shut = mine.is_shut() || its.is_shut();
    if now.is_syn || (last.is_syn && !now.is_control) {
        return Cause::Connect;
    }
    if somebody_is_shut {
        return Cause::ZeroWindow;
    }
    if now.is_keep_alive {
        return Cause::Idle;
    }
    if now.is_old {
        return Cause::Retransmission;
    }
    match (now.data_from, last.data_from) {
        (Some(from), Some(before)) if from == before => Cause::Sender,
        (Some(Side::Server), _) => Cause::Server,
        (Some(Side::Client), _) => Cause::Client,
        (None, _) if now.is_ack_of_new && !now.is_control && !its.is_acked() => Cause::LateAck,
        (None, _) => Cause::Idle,
    }
}
