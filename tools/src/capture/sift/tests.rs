use wirepath_driver::SegmentTag;

use super::super::told::testing::{request, told};
use super::*;

const PEER: [u8; 4] = [10, 0, 0, 1];
const OURS: [u8; 4] = [10, 0, 0, 2];

/// A segment of `peer_port`, either way, with `len` bytes of data.
fn segment(direction: Direction, at: u64, peer_port: u16, seq: u32, len: usize) -> Captured {
    let is_in = direction == Direction::In;
    let (from, to) = if is_in { (PEER, OURS) } else { (OURS, PEER) };
    let (from_port, to_port) = if is_in {
        (peer_port, 80)
    } else {
        (80, peer_port)
    };
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from, to, 64)
        .tcp(from_port, to_port, seq, 1000);
    let builder = if len == 0 && is_in {
        builder.syn()
    } else {
        builder
    };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![b'x'; len]).unwrap();
    Captured {
        interface: 0,
        direction,
        at: Nanos(at),
        original_len: bytes.len(),
        bytes,
        tag: SegmentTag::default(),
        comment: String::new(),
    }
}

/// What a test sees of what became of frames.
#[derive(Default)]
struct Fates(Sifted);

impl Fates {
    fn kept(&mut self) -> Vec<Captured> {
        self.0.take_kept()
    }
    fn counts(&self) -> (usize, usize) {
        (self.0.refused(), self.0.lost().len())
    }
}

fn sift(filter: &str, has_comments: bool) -> TraceSift {
    let filter = (!filter.is_empty()).then(|| filter.parse().unwrap());
    TraceSift::new(filter, has_comments).unwrap().0
}

/// The frames of the connection of `testing::request`: handshake, request,
/// response.
fn frames() -> Vec<Captured> {
    let mut response = segment(Direction::Out, 8_500, 50_000, 500, 120);
    response.tag = SegmentTag {
        flow: 0x1_0000_0003,
        offset: 0,
        len: 120,
    };
    vec![
        segment(Direction::In, 900, 50_000, 99, 0),
        segment(Direction::In, 1_900, 50_000, 100, 40),
        response,
    ]
}

fn feed(sift: &mut TraceSift, frames: Vec<Captured>, out: &mut Fates) {
    // Only `tick` and `end` read the trace, which tests have made themselves.
    sift.read_at = Nanos::MAX;
    for frame in frames {
        sift.frame(frame, &mut out.0);
    }
}

#[test]
fn what_the_frame_itself_answers_is_answered_at_once() {
    let mut out = Fates::default();
    let mut sift = sift("port 50000", false);
    let other = segment(Direction::In, 1, 50_001, 0, 10);
    feed(&mut sift, [frames(), vec![other]].concat(), &mut out);
    assert_eq!(out.kept(), frames());
    assert_eq!(out.counts(), (1, 0));
}

#[test]
fn frames_get_comments_once_what_explains_them_is_told() {
    let mut out = Fates::default();
    let mut sift = sift("", true);
    feed(&mut sift, frames(), &mut out);
    assert_eq!(out.kept(), []);
    sift.told = told(request(200));
    sift.advance(Nanos(8_500) + SETTLE, &mut out.0);
    let said: Vec<String> = out.kept().into_iter().map(|f| f.comment).collect();
    let [syn, asked, answered] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(syn, "fd 3");
    assert!(
        asked.contains("GET /users/17 → 200 by /users/{id} · queued 0.5 µs"),
        "{asked}"
    );
    assert!(answered.ends_with("written 1.5 µs before"), "{answered}");
}

#[test]
fn a_connection_waits_for_its_status_and_is_kept_whole() {
    for (status, kept, refused) in [(503, 3, 0), (200, 0, 3)] {
        let mut out = Fates::default();
        let mut sift = sift("status 5xx", false);
        let events = request(status);
        sift.told = told(events[..6].to_vec());
        feed(&mut sift, frames(), &mut out);
        sift.advance(Nanos(8_500) + SETTLE, &mut out.0);
        assert_eq!(out.kept(), [], "not known yet");
        assert_eq!(sift.held.len(), 1);
        sift.told = told(events);
        sift.look_again(&mut out.0);
        assert_eq!(
            (out.kept().len(), out.counts()),
            (kept, (refused, 0)),
            "{status}"
        );
        assert_eq!((sift.held_bytes, sift.held.len()), (0, 0));
    }
}

#[test]
fn what_is_not_known_at_the_end_did_not_happen() {
    for (filter, kept) in [("status 5xx", 0), ("not status 5xx", 3)] {
        let mut out = Fates::default();
        let mut sift = sift(filter, false);
        sift.told = told(request(200)[..6].to_vec());
        feed(&mut sift, frames(), &mut out);
        sift.end(&mut out.0);
        assert_eq!(out.kept().len(), kept, "{filter}");
        assert_eq!(out.counts(), (3 - kept, 0), "{filter}");
    }
}

#[test]
fn what_waits_is_bounded_and_what_does_not_fit_is_counted() {
    let mut out = Fates::default();
    let mut sift = sift("status 5xx", false);
    sift.told = told(request(503)[..6].to_vec());
    let data = |n: u32| {
        let at = 2_000 + u64::from(n);
        segment(Direction::In, at, 50_000, 100 + n * 1400, 1400)
    };
    let many = 2 * HOLD_BYTES_FLOW as u32 / 1400;
    for n in 0..many {
        feed(&mut sift, vec![data(n)], &mut out);
        sift.advance(Nanos(10_000_000) + SETTLE, &mut out.0);
        assert!(sift.held_bytes <= HOLD_BYTES_FLOW);
    }
    let lost = out.0.lost().len();
    assert!(lost as u32 > many / 3, "{lost} of {many}");
    assert!(out.0.lost().iter().all(|cause| *cause == FLOW_FULL));
    let held = sift.held.values().map(|h| h.frames.len()).sum::<usize>();
    assert_eq!(lost + held, many as usize);
    // Those that are left are too old in the end.
    sift.let_go_of_old(Nanos(10_000_000_000) + HOLD, &mut out.0);
    assert_eq!(out.0.lost().len(), many as usize);
    assert_eq!(out.0.lost().last(), Some(&TOO_LATE));
    assert_eq!((sift.held_bytes, sift.held_order.len()), (0, 0));
}

#[test]
fn a_connection_from_before_the_trace_is_known_by_what_it_sends() {
    let mut out = Fates::default();
    let mut sift = sift("", true);
    feed(&mut sift, frames()[1..].to_vec(), &mut out);
    sift.advance(Nanos(8_500) + SETTLE, &mut out.0);
    let said: Vec<String> = out.kept().into_iter().map(|f| f.comment).collect();
    assert_eq!(said, ["fd 3", "fd 3"]);
}
