//! A request's way through the path, told from trace events: the hops that its
//! time went to.
//!
//! A request owns the range of its bytes in the stream in, and its response
//! those of the stream out. The hops follow each other without a gap from the
//! first of [`Journey::start`] to [`Journey::end`], so their lengths sum to the
//! whole. What a device cannot show is said so in the hop before it
//! ([`Hop::note`]) and never invented.

mod index;
mod tell;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use wirepath_runtime::trace::Event;

use super::recording::Names;
use index::Index;
use tell::Teller;

/// What a request's time went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HopKind {
    /// In the RX ring, until a P polled it (`nic.rx` to `driver.poll`).
    RxRing,
    /// From the ring through the stack to the socket buffer (`driver.poll` to
    /// `tcp.ingress`).
    Stack,
    /// The rest of the head was still to come from the peer.
    Receiving,
    /// As that, and a segment before had been lost.
    LostInbound,
    /// The bytes were there, and an earlier request of the connection was in
    /// hand.
    Pipelined,
    /// From the socket buffer to the goroutine being runnable (`tcp.ingress` to
    /// `g.ready`).
    Readiness,
    /// Runnable, until a P picked it (`g.ready` to `g.run`).
    RunQueue,
    /// From running to the head being parsed.
    Parse,
    /// The handler computed.
    Handler,
    /// The handler waited for something that is not the network.
    HandlerWait,
    /// The handler waited for the body.
    BodyWait,
    /// The handler was in `blocking`: a file, a lookup.
    Blocking,
    /// The send buffer was full: the peer's window or ACKs were awaited.
    WindowWait,
    /// Written, until it was cut into segments for the last time.
    Egress,
    /// A segment of the response was lost and sent again.
    Retransmission,
    /// In the TX ring, until the device had it (`nic.tx` to `driver.kick`).
    TxRing,
}

/// A part of a request's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// What it went to.
    pub kind: HopKind,
    /// When it began, on the clock of the recording, nanoseconds.
    pub from_ns: u64,
    /// When it ended, and the next began.
    pub to_ns: u64,
    /// What is to be said of it: whom it was queued behind, what was waited for,
    /// what the device cannot show.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journey {
    /// The flow's identity.
    pub flow: u64,
    /// Its descriptor's number.
    pub fd: u32,
    /// The request's place on its connection, from 1, where the trace has its
    /// beginning.
    pub nth: Option<u64>,
    /// The first byte of its head in the stream in: with the flow, its identity.
    pub offset: u64,
    /// Its method and target, as far as the trace has them.
    pub request: String,
    /// The pattern that chose the handler.
    pub route: String,
    /// The status, 0 if it was not answered.
    pub status: u16,
    /// Bytes in, and out.
    pub bytes_in: u64,
    /// Bytes out.
    pub bytes_out: u64,
    /// The peer, where known.
    pub peer: String,
    /// The goroutine that ran the handler.
    pub goroutine: u64,
    /// When its first byte was first seen, nanoseconds.
    pub start: u64,
    /// When its last byte was the device's, or the last that the trace has.
    pub end: u64,
    /// What the time went to.
    pub hops: Vec<Hop>,
    /// The times of the fourteen stages, by their number less one; None for one
    /// that the device cannot show or the trace does not have.
    pub stages: [Option<u64>; 14],
}

impl Journey {
    /// The requests of a trace, by the time that they ended. `events` are by
    /// time, as a snapshot has them. Those that are still in hand are told as far
    /// as they have come, with status 0; of those whose beginning the trace has
    /// lost, what is there.
    pub fn all(events: &[Event], names: &Names) -> Vec<Journey> {
        let index = Index::new(events);
        let mut all: Vec<Journey> = Vec::new();
        for (flow, of_flow) in index.flows() {
            let told = Teller::new(&index, names, flow, of_flow, events);
            all.extend(told.requests());
        }
        all.sort_by_key(|journey| (journey.end, journey.flow, journey.offset));
        all
    }

    /// Its whole time, nanoseconds: the sum of its hops.
    pub fn total_ns(&self) -> u64 {
        self.end - self.start
    }

    /// How long it spent in hops of a kind, nanoseconds.
    pub fn spent_ns(&self, kind: HopKind) -> u64 {
        let mine = self.hops.iter().filter(|hop| hop.kind == kind);
        mine.map(Hop::len_ns).sum()
    }
}

impl Hop {
    /// Its length, nanoseconds.
    pub fn len_ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }
}

impl HopKind {
    /// Every kind, in the order of the path.
    pub const ALL: [HopKind; 16] = [
        HopKind::RxRing,
        HopKind::Stack,
        HopKind::Receiving,
        HopKind::LostInbound,
        HopKind::Pipelined,
        HopKind::Readiness,
        HopKind::RunQueue,
        HopKind::Parse,
        HopKind::Handler,
        HopKind::HandlerWait,
        HopKind::BodyWait,
        HopKind::Blocking,
        HopKind::WindowWait,
        HopKind::Egress,
        HopKind::Retransmission,
        HopKind::TxRing,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            HopKind::RxRing => "in the RX ring",
            HopKind::Stack => "through the stack",
            HopKind::Receiving => "waiting for the rest of the head",
            HopKind::LostInbound => "waiting for a lost segment of the request",
            HopKind::Pipelined => "behind an earlier request of its connection",
            HopKind::Readiness => "until its goroutine was runnable",
            HopKind::RunQueue => "in the run queue",
            HopKind::Parse => "reading and parsing the head",
            HopKind::Handler => "computing in the handler",
            HopKind::HandlerWait => "waiting in the handler",
            HopKind::BodyWait => "waiting for the body",
            HopKind::Blocking => "in a blocking call",
            HopKind::WindowWait => "waiting for the peer's window or ACKs",
            HopKind::Egress => "until it was cut into segments",
            HopKind::Retransmission => "sending again what was lost",
            HopKind::TxRing => "in the TX ring",
        }
    }
}
