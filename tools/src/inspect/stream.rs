//! Puts the segments of connections in order: what each side sent, byte by byte,
//! as its receiver read it.
//!
//! A [`Listener`] hears of each piece as soon as all before it is there, so no
//! stream is held whole. What is in order is handed on where it lies in the
//! file; only what came early is copied and kept, within bounds. Bytes that were
//! handed on are taken once. Of two early segments with the same beginning the
//! first one's bytes count, and that the other's differ is counted: somebody sent
//! different bytes under the same numbers.
//!
//! What never comes is a gap: bytes that the snap length cut off, and bytes that
//! the receiver acknowledged or that too much waits behind.

use std::collections::{BTreeMap, HashMap};

use super::seen::{Seen, Side};

#[cfg(test)]
mod tests;

/// Bytes that are kept of a direction while some before them are missing.
const MAX_HELD_BYTES: usize = 1 << 20;
/// What a kept segment costs besides its bytes.
const HELD_OVERHEAD_BYTES: usize = 128;
/// A reset whose number is further than this from what is expected is not the
/// peer's (RFC 5961 §3.2 wants the very number, which a capture may not know).
const RESET_REACH: i64 = 1 << 20;
/// The same of all directions.
const MAX_HELD_BYTES_IN_ALL: usize = 64 << 20;
/// Connections that are followed at a time.
const MAX_STREAMS: usize = 65_536;

/// Where a piece of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The conversation's number.
    pub stream: u32,
    /// Who sent it.
    pub from: Side,
    /// Bytes that this side sent before, since its SYN or the file's beginning.
    pub offset: u64,
    /// When its packet was captured, in nanoseconds since 1970.
    pub at_ns: i64,
    /// That packet's number.
    pub packet: u64,
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With a FIN.
    Fin,
    /// With a reset, of either side.
    Reset,
    /// It did not: the file ends, or there was no room to follow it on.
    Unseen,
}

/// Hears what connections carried.
pub trait Listener {
    /// The next bytes of a direction; never empty.
    fn data(&mut self, place: Place, bytes: &[u8]);
    /// Bytes that the file lacks.
    fn gap(&mut self, place: Place, missing: u64);
    /// Nothing more comes from that side.
    fn end(&mut self, stream: u32, from: Side, at_ns: i64, how: How);
    /// Whether it wants to hear no more.
    fn is_over(&self) -> bool {
        false
    }
}

/// Follows connections.
#[derive(Default)]
pub struct Assembler {
    streams: HashMap<u32, Stream, foldhash::fast::RandomState>,
    held_bytes: usize,
    /// Bytes that came again and were others than before.
    pub conflicting_bytes: u64,
}

#[derive(Default)]
struct Stream {
    directions: [Direction; 2],
    last_ns: i64,
}

#[derive(Default)]
struct Direction {
    /// The number of the next byte; None before the first segment.
    next: Option<u32>,
    /// How many bytes there were before it.
    offset: u64,
    /// What came early, by its offset.
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    /// Where its FIN is.
    end: Option<u64>,
    has_ended: bool,
}

struct Held {
    bytes: Vec<u8>,
    cut: u64,
    at_ns: i64,
    packet: u64,
}

impl Held {
    fn cost(&self) -> usize {
        self.bytes.len() + HELD_OVERHEAD_BYTES
    }
}

impl Assembler {
    /// Takes the next segment of any connection.
    pub fn take(&mut self, seen: &Seen<'_>, listener: &mut dyn Listener) {
        if !self.streams.contains_key(&seen.stream) {
            self.make_room(listener);
        }
        let stream = self.streams.entry(seen.stream).or_default();
        stream.last_ns = seen.at_ns;
        let before = stream.held_bytes();
        let sender = &stream.directions[seen.from.index()];
        if seen.flags.rst() && !sender.may_reset(seen.seq) {
            return;
        }
        if seen.flags.rst() {
            stream.finish(seen.stream, seen.at_ns, How::Reset, listener);
        } else {
            let [client, server] = &mut stream.directions;
            let (mine, its) = match seen.from {
                Side::Client => (client, server),
                Side::Server => (server, client),
            };
            self.conflicting_bytes += mine.take(seen, listener);
            if seen.flags.ack() {
                its.acknowledged(seen, listener);
            }
            let room = MAX_HELD_BYTES_IN_ALL.saturating_sub(self.held_bytes);
            if mine.held_bytes > MAX_HELD_BYTES.min(room) {
                mine.give_up_gap(seen.stream, seen.from, listener);
            }
        }
        // One that has ended stays until there is need for its room: what is sent
        // again later must not begin it anew.
        self.held_bytes = self.held_bytes + stream.held_bytes() - before;
    }

    /// The file is over: hands on what still waits.
    pub fn finish(&mut self, listener: &mut dyn Listener) {
        let mut rest: Vec<(u32, Stream)> = self.streams.drain().collect();
        rest.sort_unstable_by_key(|&(number, _)| number);
        for (number, mut stream) in rest {
            stream.finish(number, stream.last_ns, How::Unseen, listener);
        }
        self.held_bytes = 0;
    }

    fn make_room(&mut self, listener: &mut dyn Listener) {
        if self.streams.len() < MAX_STREAMS {
            return;
        }
        let mut ages: Vec<(i64, u32)> = self
            .streams
            .iter()
            .map(|(&number, stream)| (stream.last_ns, number))
            .collect();
        ages.sort_unstable();
        for (at_ns, number) in ages.into_iter().take(MAX_STREAMS / 2) {
            let mut stream = self.streams.remove(&number).expect("it was there");
            self.held_bytes -= stream.held_bytes();
            stream.finish(number, at_ns, How::Unseen, listener);
        }
    }
}

impl Stream {
    fn held_bytes(&self) -> usize {
        self.directions
            .iter()
            .map(|direction| direction.held_bytes)
            .sum()
    }

    fn finish(&mut self, number: u32, at_ns: i64, how: How, listener: &mut dyn Listener) {
        for (from, direction) in [Side::Client, Side::Server]
            .into_iter()
            .zip(&mut self.directions)
        {
            while !direction.held.is_empty() {
                direction.give_up_gap(number, from, listener);
            }
            if !std::mem::replace(&mut direction.has_ended, true) {
                listener.end(number, from, at_ns, how);
            }
        }
    }
}

impl Direction {
    /// Whether a reset with that number may be the sender's; one that answers a
    /// SYN has 0 (RFC 9293 §3.10.7.1).
    fn may_reset(&self, seq: u32) -> bool {
        let is_near = |next| distance(next, seq).abs() <= RESET_REACH;
        seq == 0 || self.next.is_none_or(is_near)
    }

    /// Takes a segment of its sender. How many of its bytes contradict what came
    /// before.
    fn take(&mut self, seen: &Seen<'_>, listener: &mut dyn Listener) -> u64 {
        let seq = seen.seq.wrapping_add(seen.flags.syn().into());
        if self.has_ended {
            return 0;
        }
        let next = *self.next.get_or_insert(seq);
        let from = self.offset.checked_add_signed(distance(next, seq));
        // Before all that was ever sent: an old keep-alive.
        let Some(from) = from else {
            return 0;
        };
        let len = seen.payload.len() as u64 + u64::from(seen.cut);
        if seen.flags.fin() {
            self.end.get_or_insert(from + len);
        }
        let mut conflicts = 0;
        if len > 0 && from <= self.offset {
            let place = Place {
                stream: seen.stream,
                from: seen.from,
                offset: from,
                at_ns: seen.at_ns,
                packet: seen.packet,
            };
            self.pass(place, seen.payload, seen.cut.into(), listener);
        } else if len > 0 {
            conflicts = self.hold(from, seen);
        }
        self.release(seen.stream, seen.from, listener);
        self.end_if_due(seen.stream, seen.from, seen.at_ns, listener);
        conflicts
    }

    /// Hands on what is new of bytes that begin at or before the next one.
    fn pass(&mut self, place: Place, bytes: &[u8], cut: u64, listener: &mut dyn Listener) {
        let known = self.offset - place.offset;
        let len = bytes.len() as u64;
        if known < len {
            let fresh = &bytes[known as usize..];
            let at = Place {
                offset: self.offset,
                ..place
            };
            self.advance(fresh.len() as u64);
            listener.data(at, fresh);
        }
        let end = place.offset + len + cut;
        if self.offset < end {
            let missing = end - self.offset;
            let at = Place {
                offset: self.offset,
                ..place
            };
            self.advance(missing);
            listener.gap(at, missing);
        }
    }

    fn advance(&mut self, count: u64) {
        self.offset += count;
        self.next = self.next.map(|next| next.wrapping_add(count as u32));
    }

    /// Keeps what came early. How many bytes contradict what is kept there.
    fn hold(&mut self, from: u64, seen: &Seen<'_>) -> u64 {
        if let Some(kept) = self.held.get(&from)
            && kept.bytes.len() >= seen.payload.len()
        {
            let pairs = kept.bytes.iter().zip(seen.payload);
            return pairs.filter(|(a, b)| a != b).count() as u64;
        }
        let fresh = Held {
            bytes: seen.payload.to_vec(),
            cut: seen.cut.into(),
            at_ns: seen.at_ns,
            packet: seen.packet,
        };
        // What begins there and is shorter gives way: its bytes come first.
        let mut conflicts = 0;
        self.held_bytes += fresh.cost();
        if let Some(mut shorter) = self.held.insert(from, fresh) {
            let fresh = self.held.get_mut(&from).expect("just put there");
            conflicts = shorter
                .bytes
                .iter()
                .zip(&fresh.bytes)
                .filter(|(a, b)| a != b)
                .count() as u64;
            fresh.bytes[..shorter.bytes.len()].swap_with_slice(&mut shorter.bytes);
            self.held_bytes -= shorter.cost();
        }
        conflicts
    }

    /// Hands on what waits and is next.
    fn release(&mut self, stream: u32, from: Side, listener: &mut dyn Listener) {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > self.offset {
                return;
            }
            let (offset, held) = entry.remove_entry();
            self.held_bytes -= held.cost();
            let place = Place {
                stream,
                from,
                offset,
                at_ns: held.at_ns,
                packet: held.packet,
            };
            if offset + held.bytes.len() as u64 + held.cut > self.offset {
                self.pass(place, &held.bytes, held.cut, listener);
            }
        }
    }

    /// What is missing before the first that waits does not come any more.
    fn give_up_gap(&mut self, stream: u32, from: Side, listener: &mut dyn Listener) {
        let Some((&offset, held)) = self.held.first_key_value() else {
            return;
        };
        if offset > self.offset {
            let place = Place {
                stream,
                from,
                offset: self.offset,
                at_ns: held.at_ns,
                packet: held.packet,
            };
            let missing = offset - self.offset;
            self.advance(missing);
            listener.gap(place, missing);
        }
        self.release(stream, from, listener);
    }

    /// The receiver, who sent `seen`, has all before a number.
    fn acknowledged(&mut self, seen: &Seen<'_>, listener: &mut dyn Listener) {
        let Some(next) = self.next else {
            return;
        };
        let has_up_to = self.offset.saturating_add_signed(distance(next, seen.ack));
        while let Some((&offset, _)) = self.held.first_key_value()
            && offset <= has_up_to
        {
            self.give_up_gap(seen.stream, seen.from.other(), listener);
        }
        if let Some(end) = self.end
            && self.held.is_empty()
            && self.offset < end
            && end <= has_up_to
        {
            self.lack(seen, end - self.offset, listener);
        }
        self.end_if_due(seen.stream, seen.from.other(), seen.at_ns, listener);
    }

    /// The last bytes before a FIN are not in the file, and `seen` acknowledges
    /// them.
    fn lack(&mut self, seen: &Seen<'_>, missing: u64, listener: &mut dyn Listener) {
        let place = Place {
            stream: seen.stream,
            from: seen.from.other(),
            offset: self.offset,
            at_ns: seen.at_ns,
            packet: seen.packet,
        };
        self.advance(missing);
        listener.gap(place, missing);
    }

    fn end_if_due(&mut self, stream: u32, from: Side, at_ns: i64, listener: &mut dyn Listener) {
        if !self.has_ended && self.end.is_some_and(|end| end <= self.offset) {
            self.has_ended = true;
            listener.end(stream, from, at_ns, How::Fin);
        }
    }
}

/// How far a number is past another (RFC 9293 §3.4).
fn distance(from: u32, to: u32) -> i64 {
    to.wrapping_sub(from).cast_signed().into()
}
