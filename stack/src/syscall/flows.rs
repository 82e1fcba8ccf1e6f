//! The connections of a stack, for people.
//!
//! A shard is locked for a few hundred slots at a time, so that one with many
//! connections goes on serving while it is looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use wirepath_driver::Nanos;

use super::{FlowInfo, Stack};
use crate::Fd;
use crate::rtt::RttEstimate;
use crate::shard::Shard;

/// Slots that are looked at under one lock.
const SLOTS: u32 = 256;

/// A connection, with what its segments tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowView {
    /// Its descriptor; [`Fd::raw`] is its identity in a trace.
    pub fd: Fd,
    /// The queue's number.
    pub queue: usize,
    /// Addresses, state, buffers.
    pub info: FlowInfo,
    /// Bytes sent and not acknowledged.
    pub in_flight: usize,
    /// The window of the peer's last segment, as on the wire: not scaled.
    pub peer_window: usize,
    /// Bytes of data in a segment at most; 0 before the peer's SYN.
    pub mss: usize,
    /// The round-trip time, once there is a sample.
    pub rtt: Option<RttEstimate>,
    /// Segments received.
    pub segments_in: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Of these, those with data that had been sent before.
    pub retransmits: u64,
    /// Segments received that left a gap.
    pub out_of_order: u64,
    /// Since the peer was heard.
    pub idle: Duration,
    /// Since it came to be.
    pub age: Duration,
}

impl Stack {
    /// The `most` connections that have moved the most bytes, those first, and
    /// how many there are. Connections come and go meanwhile.
    pub fn flows(&self, most: usize, now: Nanos) -> (Vec<FlowView>, usize) {
        let mut all = 0;
        let mut busiest = BinaryHeap::new();
        for (number, cell) in self.shards.iter().enumerate() {
            let mut next = Some(0);
            while let Some(first) = next {
                next = cell.with(|shard| {
                    shard.each_flow(first..first + SLOTS, |fd, bytes| {
                        all += 1;
                        busiest.push(Reverse((bytes, fd.raw(), number, fd)));
                        if busiest.len() > most {
                            busiest.pop();
                        }
                    })
                });
            }
        }
        let sorted = busiest.into_sorted_vec();
        let views = sorted.into_iter().filter_map(|Reverse((_, _, queue, fd))| {
            let cell = &self.shards[queue];
            cell.with(|shard| shard.flow_view(fd, queue, now))
        });
        (views.collect(), all)
    }
}

impl Shard {
    /// Calls `f` for each connection in these slots with the bytes that it moved;
    /// returns the slot to go on with.
    fn each_flow(
        &mut self,
        slots: std::ops::Range<u32>,
        mut f: impl FnMut(Fd, u64),
    ) -> Option<u32> {
        let end = self.slots.len().min(slots.end);
        for slot in slots.start..end {
            if let Some(conn) = self.slots.conn(slot) {
                f(conn.fd, conn.received() + conn.written);
            }
        }
        (slots.end < self.slots.len()).then_some(slots.end)
    }

    /// A connection that may be gone.
    fn flow_view(&mut self, fd: Fd, queue: usize, now: Nanos) -> Option<FlowView> {
        let conn = self.slots.conn(fd.slot()).filter(|conn| conn.fd == fd)?;
        Some(FlowView {
            fd,
            queue,
            info: conn.info(),
            in_flight: conn.in_flight(),
            peer_window: conn.peer_window().into(),
            mss: conn.mss(),
            rtt: conn.rtt,
            segments_in: conn.segments_in,
            segments_out: conn.sent.tally.segments,
            retransmits: conn.sent.tally.again,
            out_of_order: conn.out_of_order,
            idle: now.since(conn.heard_at),
            age: now.since(conn.opened_at),
        })
    }
}
