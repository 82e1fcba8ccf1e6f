//! What the server's side of each connection was: of the capture, and of its
//! replay, and where the two part.

use std::fmt;

use serde::Serialize;

use super::frames::ETHERNET;
use crate::inspect::flow::{Flows, When};
use crate::inspect::packet::Net;
use crate::inspect::seen::Side;
use crate::inspect::stream::{Assembler, How, Listener, Place};

/// Bytes that are shown around a place where streams part.
const SHOWN_BYTES: usize = 40;
/// A line of a head is looked for this far back.
const LINE_BYTES: usize = 1024;

/// The server's sides of connections, in the order of their SYNs.
pub struct Tape {
    flows: Flows,
    assembler: Assembler,
    sides: Sides,
}

#[derive(Default)]
struct Sides(Vec<ServerSide>);

/// What a server sent on a connection.
#[derive(Default)]
struct ServerSide {
    bytes: Vec<u8>,
    /// Ranges of `bytes` that are not in the capture.
    gaps: Vec<(usize, usize)>,
    /// From which packet on which byte came.
    marks: Vec<(usize, u64)>,
    segments: Vec<Segment>,
    end: Option<&'static str>,
}

/// A segment that takes sequence numbers, or a reset, when it was sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    packet: u64,
    seq: u32,
    len: u32,
    flags: u8,
}

impl Segment {
    /// Without what a capture's place makes of it.
    fn shape(&self) -> (u32, u32, u8) {
        (self.seq, self.len, self.flags)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(1, "FIN "), (2, "SYN "), (4, "RST ")];
        for (bit, name) in names {
            f.write_str(if self.flags & bit != 0 { name } else { "" })?;
        }
        write!(
            f,
            "bytes {} to {}",
            self.seq,
            self.seq.wrapping_add(self.len)
        )
    }
}

impl Sides {
    fn of(&mut self, stream: u32) -> &mut ServerSide {
        let index = stream as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, ServerSide::default);
        }
        &mut self.0[index]
    }
}

impl Listener for Sides {
    fn data(&mut self, place: Place, bytes: &[u8]) {
        if place.from == Side::Server {
            let side = self.of(place.stream);
            side.marks.push((side.bytes.len(), place.packet));
            side.bytes.extend_from_slice(bytes);
        }
    }

    fn gap(&mut self, place: Place, missing: u64) {
        if place.from == Side::Server {
            let side = self.of(place.stream);
            let from = side.bytes.len();
            // A gap is at most a window.
            side.bytes.resize(from + missing as usize, 0);
            side.gaps.push((from, side.bytes.len()));
        }
    }

    fn end(&mut self, stream: u32, from: Side, _at_ns: i64, how: How) {
        if from == Side::Server {
            self.of(stream).end = Some(match how {
                How::Fin => "FIN",
                How::Reset => "reset",
                How::Unseen => "no end",
            });
        }
    }
}

impl Tape {
    pub fn new() -> Tape {
        Tape {
            flows: Flows::new(i64::MAX),
            assembler: Assembler::default(),
            sides: Sides::default(),
        }
    }

    /// Takes the next frame, of Ethernet, of either side.
    pub fn take(&mut self, packet: u64, at_ns: i64, frame: &[u8], is_cut: bool) {
        self.take_of(ETHERNET, packet, at_ns, frame, is_cut);
    }

    /// As above, of another link type.
    pub fn take_of(&mut self, link: u32, packet: u64, at_ns: i64, data: &[u8], is_cut: bool) {
        let original = data.len() as u32 + if is_cut { u32::from(u16::MAX) } else { 0 };
        let net = Net::of(link, data, original);
        let when = When {
            packet,
            at_ns,
            bytes: original,
        };
        let (Some(belongs), Some((_, _, tcp))) = (self.flows.take(&net, when), net.tcp()) else {
            return;
        };
        if belongs.from == Side::Server
            && (tcp.takes() > 0 || tcp.flags.rst())
            && !belongs.findings.is_sent_again()
        {
            self.sides.of(belongs.stream).segments.push(Segment {
                packet,
                seq: tcp
                    .seq
                    .wrapping_sub(belongs.bases.map_or(tcp.seq, |bases| bases.0)),
                len: tcp.len,
                flags: tcp.flags.0 & 0x07,
            });
        }
        let seen = belongs.seen(tcp, packet, at_ns);
        self.assembler.take(&seen, &mut self.sides);
    }

    /// Nothing more comes.
    pub fn finish(&mut self) {
        self.assembler.finish(&mut self.sides);
    }

    /// Where the replay of each connection parts from its capture.
    pub fn compare(mut self, mut replayed: Tape) -> Vec<Compared> {
        let count = self.sides.0.len().max(replayed.sides.0.len());
        let one = |index: u32| Compared::of(self.sides.of(index), replayed.sides.of(index));
        (0..count as u32).map(one).collect()
    }
}

/// A connection, compared.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// Bytes that the server sent in the capture, and now.
    pub captured_bytes: usize,
    /// As above.
    pub replayed_bytes: usize,
    /// Where the bytes part first.
    pub bytes: Option<Parting>,
    /// Where the segments do.
    pub segments: Option<SegmentParting>,
}

/// Where two streams part.
#[derive(Debug, Serialize)]
pub struct Parting {
    /// After so many equal bytes.
    pub offset: usize,
    /// The number of the captured packet with that byte, or of the last one.
    pub packet: Option<u64>,
    /// What the capture has there, made printable; or how it ends.
    pub captured: String,
    /// What was sent now.
    pub replayed: String,
}

/// Where two sequences of segments part.
#[derive(Debug, Serialize)]
pub struct SegmentParting {
    /// After so many equal segments.
    pub after: usize,
    /// The number of the captured packet.
    pub packet: Option<u64>,
    /// Its segment, or that there is none.
    pub captured: String,
    /// What was sent now.
    pub replayed: String,
}

impl Compared {
    fn of(captured: &ServerSide, replayed: &ServerSide) -> Compared {
        Compared {
            captured_bytes: captured.bytes.len(),
            replayed_bytes: replayed.bytes.len(),
            bytes: captured.parting(replayed),
            segments: captured.segment_parting(replayed),
        }
    }
}

impl ServerSide {
    fn parting(&self, replayed: &ServerSide) -> Option<Parting> {
        let shorter = self.bytes.len().min(replayed.bytes.len());
        let mut at = 0;
        while at < shorter {
            if self.bytes[at] == replayed.bytes[at] {
                at += 1;
            } else if let Some(&(_, end)) = self
                .gaps
                .iter()
                .find(|&&(from, to)| (from..to).contains(&at))
            {
                at = end;
            } else if let Some(end) = end_of_date(&self.bytes, &replayed.bytes, at) {
                at = end;
            } else {
                return Some(self.parting_at(at, replayed));
            }
        }
        let ends_alike = self.end == replayed.end || self.end == Some("no end");
        let is_same = self.bytes.len() == replayed.bytes.len() && ends_alike;
        (!is_same).then(|| self.parting_at(shorter, replayed))
    }

    fn parting_at(&self, at: usize, replayed: &ServerSide) -> Parting {
        let behind = self.marks.partition_point(|&(offset, _)| offset <= at);
        Parting {
            offset: at,
            packet: self.marks[..behind].last().map(|&(_, packet)| packet),
            captured: self.shown(at),
            replayed: replayed.shown(at),
        }
    }

    fn shown(&self, at: usize) -> String {
        match self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            Some(rest) => rest[..rest.len().min(SHOWN_BYTES)]
                .escape_ascii()
                .to_string(),
            None => format!("({})", self.end.unwrap_or("no end")),
        }
    }

    fn segment_parting(&self, replayed: &ServerSide) -> Option<SegmentParting> {
        let pairs = self.segments.iter().zip(&replayed.segments);
        let after = pairs.take_while(|(a, b)| a.shape() == b.shape()).count();
        let told = |side: &ServerSide| {
            side.segments
                .get(after)
                .map_or("nothing more".into(), Segment::to_string)
        };
        let is_same = after == self.segments.len() && after == replayed.segments.len();
        (!is_same).then(|| SegmentParting {
            after,
            packet: self.segments.get(after).map(|segment| segment.packet),
            captured: told(self),
            replayed: told(replayed),
        })
    }
}

/// Behind the value of a `Date` field, if both are in one: it is the time of the
/// answer, and a replay has its own.
fn end_of_date(captured: &[u8], replayed: &[u8], at: usize) -> Option<usize> {
    let is_date = |bytes: &[u8]| {
        let from = at.saturating_sub(LINE_BYTES);
        let line = bytes[from..at]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map(|place| from + place + 1)?;
        let name = bytes.get(line..line + 5)?;
        let end = bytes[at..]
            .iter()
            .take(LINE_BYTES)
            .position(|&byte| byte == b'\r')?
            + at;
        name.eq_ignore_ascii_case(b"date:").then_some(end)
    };
    let ends = (is_date(captured)?, is_date(replayed)?);
    (ends.0 == ends.1).then_some(ends.0)
}
