use super::*;
use crate::inspect::seen::Flags;

const MS: i64 = 1_000_000;
const STALL: i64 = 200 * MS;

/// A connection on virtual time: the client's numbers wrap after a hundred.
struct Wire {
    track: Track,
    now_ns: i64,
    packet: u64,
}

/// What a segment is made of, relative to the initial numbers.
#[derive(Clone, Copy)]
struct Segment {
    from: Side,
    seq: u32,
    ack: u32,
    len: u32,
    flags: u8,
    window: u16,
}

fn c(seq: u32, ack: u32, len: u32) -> Segment {
    Segment {
        from: Side::Client,
        seq,
        ack,
        len,
        flags: 0x10,
        window: 1000,
    }
}

fn s(seq: u32, ack: u32, len: u32) -> Segment {
    Segment {
        from: Side::Server,
        seq,
        ack,
        len,
        flags: 0x10,
        window: 2000,
    }
}

impl Segment {
    fn flags(self, flags: u8) -> Segment {
        Segment { flags, ..self }
    }

    fn window(self, window: u16) -> Segment {
        Segment { window, ..self }
    }
}

impl Wire {
    fn new() -> Wire {
        Wire {
            track: Track::default(),
            now_ns: 0,
            packet: 0,
        }
    }

    /// After the handshake, a millisecond a segment.
    fn open() -> Wire {
        let mut wire = Wire::new();
        wire.send(1, c(0, 0, 0).flags(0x02));
        wire.send(1, s(0, 1, 0).flags(0x12));
        wire.send(1, c(1, 1, 0));
        wire
    }

    fn send(&mut self, after_ms: i64, segment: Segment) -> Vec<Finding> {
        self.now_ns += after_ms * MS;
        self.packet += 1;
        let (mine, its) = match segment.from {
            Side::Client => (u32::MAX - 100, 5_000),
            Side::Server => (5_000, u32::MAX - 100),
        };
        let payload = vec![0; segment.len as usize];
        let tcp = Tcp {
            from: 0,
            to: 0,
            seq: segment.seq.wrapping_add(mine),
            ack: segment.ack.wrapping_add(its),
            flags: Flags(segment.flags),
            window: segment.window,
            urgent: 0,
            options: &[],
            payload: &payload,
            len: segment.len,
        };
        let findings = self
            .track
            .take(self.packet, self.now_ns, segment.from, &tcp, STALL);
        findings.iter().collect()
    }

    #[track_caller]
    fn stalls(&self, wanted: &[(stall::Cause, i64)]) {
        let found: Vec<_> = self
            .track
            .stalls
            .iter()
            .map(|(cause, _, ns)| (cause, ns / MS))
            .collect();
        assert_eq!(found, wanted);
    }
}

use Finding::*;

#[test]
fn a_plain_exchange_has_no_findings_and_is_timed() {
    let mut wire = Wire::open();
    assert_eq!(wire.track.handshake.round_trip_ns(), Some(2 * MS));
    // The client's numbers wrap within these.
    for segment in [
        c(1, 1, 100),
        s(1, 101, 500),
        c(101, 501, 0),
        c(101, 501, 0).flags(0x11),
        s(501, 102, 0).flags(0x11),
        c(102, 502, 0),
    ] {
        assert_eq!(wire.send(3, segment), []);
    }
    assert!(wire.track.has_ended() && !wire.track.was_reset());
    let trips = wire.track.half(Side::Client).round_trips;
    // Its SYN, its data, its FIN.
    assert_eq!((trips.count, trips.min_ns, trips.max_ns), (3, MS, 3 * MS));
    wire.stalls(&[]);
}

#[test]
fn what_is_sent_again_is_told_by_why() {
    let mut wire = Wire::open();
    wire.send(1, s(1, 1, 100));
    // No answer, the timeout.
    assert_eq!(wire.send(300, s(1, 1, 100)), [Retransmission]);
    wire.stalls(&[(stall::Cause::Retransmission, 300)]);
    wire.send(1, c(1, 101, 0));
    // What was acknowledged comes once more.
    assert_eq!(wire.send(1, s(1, 1, 100)), [SpuriousRetransmission]);
    // The first of four is lost behind the capture; three duplicates say so.
    for at in [101, 201, 301, 401] {
        assert_eq!(wire.send(1, s(at, 1, 100)), []);
    }
    for _ in 0..3 {
        assert_eq!(wire.send(1, c(1, 101, 0)), [DuplicateAck]);
    }
    assert_eq!(wire.send(1, s(101, 1, 100)), [FastRetransmission]);
    assert_eq!(wire.send(1, c(1, 501, 0)), []);
    assert_eq!(wire.track.half(Side::Server).again_bytes, 300);
}

#[test]
fn a_hole_is_filled_early_by_another_order_and_late_by_a_retransmission() {
    let mut wire = Wire::open();
    assert_eq!(wire.send(1, s(101, 1, 100)), [PreviousMissing]);
    assert_eq!(wire.send(1, s(1, 1, 100)), [OutOfOrder]);
    assert_eq!(wire.send(1, s(301, 1, 100)), [PreviousMissing]);
    assert_eq!(wire.send(50, s(201, 1, 100)), [Retransmission]);
    assert_eq!(wire.send(1, c(1, 401, 0)), []);
    assert_eq!(wire.track.half(Side::Server).missed_bytes, 0);
}

#[test]
fn what_the_capture_lacks_is_counted() {
    let mut wire = Wire::open();
    wire.send(1, s(101, 1, 100));
    assert_eq!(wire.send(1, c(1, 201, 0)), []);
    assert_eq!(wire.track.half(Side::Server).missed_bytes, 100);
    assert_eq!(wire.send(1, c(1, 701, 0)), [AckedUnseen]);
    assert_eq!(wire.track.half(Side::Server).missed_bytes, 600);
    assert_eq!(wire.send(1, s(701, 1, 100)), []);
}

#[test]
fn windows() {
    let mut wire = Wire::open();
    assert_eq!(wire.send(1, s(1, 1, 600)), []);
    assert_eq!(wire.send(1, s(601, 1, 400)), [WindowFull]);
    assert_eq!(wire.send(1, c(1, 1001, 0).window(0)), [ZeroWindow]);
    assert_eq!(wire.send(250, s(1000, 1, 0)), [ZeroWindowProbe]);
    assert_eq!(wire.send(1, c(1, 1001, 0).window(0)), [ZeroWindow]);
    assert_eq!(wire.send(1, s(1001, 1, 1)), [ZeroWindowProbe]);
    assert_eq!(wire.send(300, c(1, 1001, 0).window(900)), [WindowUpdate]);
    wire.stalls(&[(stall::Cause::ZeroWindow, 550)]);
}

#[test]
fn pauses_are_told_by_whose_turn_it_was() {
    let mut wire = Wire::open();
    wire.send(1, c(1, 1, 100));
    wire.send(1, s(1, 101, 0));
    wire.send(400, s(1, 101, 100));
    wire.send(1, c(101, 101, 0));
    wire.send(300, s(101, 101, 100));
    wire.send(250, c(101, 201, 0));
    wire.send(5_000, c(101, 201, 100));
    wire.send(1, s(201, 201, 100));
    wire.send(1, c(201, 301, 0));
    assert_eq!(wire.send(9_000, s(300, 201, 0)), [KeepAlive]);
    use stall::Cause::*;
    wire.stalls(&[
        (LateAck, 250),
        (Server, 400),
        (Client, 5_000),
        (Sender, 300),
        (Idle, 9_000),
    ]);
    let longest: Vec<_> = wire
        .track
        .stalls
        .longest
        .iter()
        .map(|stall| stall.cause)
        .collect();
    assert_eq!(longest, [Server, Sender, LateAck], "trouble comes first");
}

#[test]
fn a_syn_without_an_answer() {
    let mut wire = Wire::new();
    wire.send(1, c(0, 0, 0).flags(0x02));
    assert_eq!(wire.send(1_000, c(0, 0, 0).flags(0x02)), [Retransmission]);
    wire.stalls(&[(stall::Cause::Connect, 1_000)]);
    assert_eq!(wire.send(1, s(0, 1, 0).flags(0x14)), [Reset]);
    assert!(wire.track.was_reset());
}

#[test]
fn a_connection_that_began_before_the_file_is_followed_from_there() {
    let mut wire = Wire::new();
    assert_eq!(wire.send(1, s(9_000, 700, 100)), []);
    assert_eq!(wire.send(1, c(700, 9_100, 50)), []);
    assert_eq!(wire.send(1, s(9_100, 750, 100)), []);
    assert_eq!(wire.send(1, s(8_000, 750, 100)), [SpuriousRetransmission]);
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut wire = Wire::open();
    for step in 0..10_000_u32 {
        wire.send(0, s(step.wrapping_mul(977) % 60_000 * 3, 1, 1));
        wire.send(300, c(step.wrapping_mul(31) % 4_000, step % 90_000, 7));
    }
    assert!(wire.track.half(Side::Server).is_small() && wire.track.half(Side::Client).is_small());
    assert!(wire.track.stalls.longest.len() <= stall::KEPT);
}
