use super::*;
use crate::inspect::seen::Flags;

/// What a direction carried: bytes, gaps as `None` for each missing byte, ends.
#[derive(Default)]
struct Heard {
    bytes: [Vec<Option<u8>>; 2],
    ends: Vec<(Side, How)>,
}

impl Listener for Heard {
    fn data(&mut self, place: Place, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        let heard = &mut self.bytes[place.from.index()];
        assert_eq!(place.offset, heard.len() as u64);
        heard.extend(bytes.iter().copied().map(Some));
    }

    fn gap(&mut self, place: Place, missing: u64) {
        let heard = &mut self.bytes[place.from.index()];
        assert_eq!(place.offset, heard.len() as u64);
        heard.resize(heard.len() + missing as usize, None);
    }

    fn end(&mut self, _: u32, from: Side, _: i64, how: How) {
        self.ends.push((from, how));
    }
}

impl Heard {
    fn text(&self, side: Side) -> String {
        self.bytes[side.index()]
            .iter()
            .map(|byte| byte.map_or('_', char::from))
            .collect()
    }
}

const FIN: u8 = 0x11;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Numbers wrap soon.
const ISN: u32 = u32::MAX - 2;

fn segment(from: Side, seq: u32, payload: &[u8], flags: u8) -> Seen<'_> {
    Seen {
        packet: 1,
        at_ns: 0,
        stream: 7,
        from,
        seq: ISN.wrapping_add(seq),
        ack: ISN,
        flags: Flags(flags),
        payload,
        cut: 0,
    }
}

fn client(seq: u32, payload: &str) -> Seen<'_> {
    segment(Side::Client, seq, payload.as_bytes(), ACK)
}

#[track_caller]
fn hears(segments: &[Seen<'_>], wanted: &str, wanted_ends: &[(Side, How)]) -> u64 {
    let (mut assembler, mut heard) = (Assembler::default(), Heard::default());
    for segment in segments {
        assembler.take(segment, &mut heard);
    }
    assembler.finish(&mut heard);
    assert_eq!(heard.text(Side::Client), wanted);
    assert_eq!(heard.ends, wanted_ends);
    assert_eq!(assembler.held_bytes, 0);
    assembler.conflicting_bytes
}

const UNSEEN: &[(Side, How)] = &[(Side::Client, How::Unseen), (Side::Server, How::Unseen)];

#[test]
fn bytes_are_taken_once_and_in_order() {
    let syn = segment(Side::Client, 0, b"", SYN);
    hears(&[syn, client(1, "abc"), client(4, "def")], "abcdef", UNSEEN);
    hears(&[syn, client(4, "def"), client(1, "abc")], "abcdef", UNSEEN);
    hears(
        &[
            syn,
            client(1, "abc"),
            client(1, "abc"),
            client(2, "bcde"),
            client(6, "f"),
        ],
        "abcdef",
        UNSEEN,
    );
    hears(
        &[syn, client(5, "ef"), client(3, "cdef"), client(1, "ab")],
        "abcdef",
        UNSEEN,
    );
    // From the middle on.
    hears(
        &[client(700, "abc"), client(703, "d"), client(600, "old")],
        "abcd",
        UNSEEN,
    );
}

#[test]
fn what_never_comes_is_a_gap() {
    let syn = segment(Side::Client, 0, b"", SYN);
    hears(
        &[syn, client(3, "cd"), client(8, "hi")],
        "__cd___hi",
        UNSEEN,
    );
    let cut = Seen {
        cut: 3,
        ..client(1, "a")
    };
    hears(&[syn, cut, client(5, "e")], "a___e", UNSEEN);
    // The receiver has it.
    let acked = Seen {
        ack: ISN.wrapping_add(5),
        ..segment(Side::Server, 1, b"", ACK)
    };
    let (mut assembler, mut heard) = (Assembler::default(), Heard::default());
    for segment in [syn, client(3, "cd"), acked] {
        assembler.take(&segment, &mut heard);
    }
    assert_eq!(heard.text(Side::Client), "__cd");
}

#[test]
fn ends() {
    let fin = |seq| segment(Side::Client, seq, b"", FIN);
    let ends = [(Side::Client, How::Fin), (Side::Server, How::Unseen)];
    hears(&[client(1, "ab"), fin(3)], "ab", &ends);
    // A FIN that comes before the data before it.
    hears(
        &[segment(Side::Client, 0, b"", SYN), fin(3), client(1, "ab")],
        "ab",
        &ends,
    );
    // What comes behind an end is not of the stream.
    hears(
        &[client(1, "ab"), fin(3), client(3, "zz"), client(1, "ab")],
        "ab",
        &ends,
    );
    let reset = [(Side::Client, How::Reset), (Side::Server, How::Reset)];
    hears(
        &[
            client(1, "ab"),
            segment(Side::Server, 1, b"", RST),
            client(3, "c"),
        ],
        "ab",
        &reset,
    );
}

#[test]
fn a_lost_tail_is_told_once_it_is_acknowledged_and_a_forged_reset_ends_nothing() {
    let acked = Seen {
        ack: ISN.wrapping_add(6),
        ..segment(Side::Server, 1, b"", ACK)
    };
    let ends = [(Side::Client, How::Fin), (Side::Server, How::Unseen)];
    hears(
        &[client(1, "ab"), segment(Side::Client, 5, b"", FIN), acked],
        "ab__",
        &ends,
    );
    let forged = segment(Side::Client, 1 << 28, b"", RST);
    hears(&[client(1, "ab"), forged, client(3, "cd")], "abcd", UNSEEN);
}

#[test]
fn other_bytes_under_the_same_numbers_are_counted_and_the_first_count() {
    let syn = segment(Side::Client, 0, b"", SYN);
    let conflicts = hears(
        &[syn, client(4, "def"), client(4, "dXX"), client(1, "abc")],
        "abcdef",
        UNSEEN,
    );
    assert_eq!(conflicts, 2);
    let conflicts = hears(
        &[syn, client(4, "de"), client(4, "XefX"), client(1, "abc")],
        "abcdefX",
        UNSEEN,
    );
    assert_eq!(conflicts, 1);
}

#[test]
fn what_is_held_is_bounded() {
    let (mut assembler, mut heard) = (Assembler::default(), Heard::default());
    assembler.take(&segment(Side::Client, 0, b"", SYN), &mut heard);
    let big = vec![b'x'; 60_000];
    for step in 0..100 {
        assembler.take(
            &segment(Side::Client, 2 + step * 60_001, &big, ACK),
            &mut heard,
        );
        assert!(assembler.held_bytes <= MAX_HELD_BYTES + big.len());
    }
    assembler.finish(&mut heard);
    assert_eq!(heard.bytes[0].len(), 1 + 100 * 60_001 - 1);
}

#[test]
fn streams_are_bounded() {
    let (mut assembler, mut heard) = (Assembler::default(), Heard::default());
    for stream in 0..2 * MAX_STREAMS as u32 {
        let one = Seen {
            stream,
            at_ns: stream.into(),
            ..client(1, "")
        };
        assembler.take(&one, &mut heard);
        assert!(assembler.streams.len() <= MAX_STREAMS);
    }
    assembler.finish(&mut heard);
    assert_eq!(heard.ends.len(), 4 * MAX_STREAMS);
}

/// A generator of numbers (xorshift), so that a failure can be run again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn any_cut_order_and_repetition_gives_the_same_bytes() {
    for seed in 1..400 {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let text: Vec<u8> = (0..500).map(|_| b'a' + numbers.below(26) as u8).collect();
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let len = (1 + numbers.below(40)).min(text.len() - at);
            for _ in 0..1 + numbers.below(3) {
                let from = at - numbers.below(at.min(20) + 1);
                pieces.push((from, at + len));
            }
            at += len;
        }
        for place in (1..pieces.len()).rev() {
            let reach = numbers.below(place.min(12) + 1);
            pieces.swap(place, place - reach);
        }
        let mut segments = vec![segment(Side::Client, 0, b"", SYN)];
        segments.extend(
            pieces
                .iter()
                .map(|&(from, to)| segment(Side::Client, 1 + from as u32, &text[from..to], ACK)),
        );
        let conflicts = hears(&segments, std::str::from_utf8(&text).unwrap(), UNSEEN);
        assert_eq!(conflicts, 0, "seed {seed}");
    }
}
