use wirepath_runtime::Nanos;
use wirepath_runtime::trace::{Actor, Event, Kind, Label};

use super::*;
use crate::see::recording::{Meta, QueueName};

const FLOW: u64 = 1 << 32 | 3;
const G: u64 = 7;
const HEAD: usize = 60;
const BODY: usize = 130;

fn names() -> Names {
    let labels = ["GET /{$}", "IO wait", "sleep", "chan receive"];
    let meta = Meta {
        labels: labels.map(str::to_owned).to_vec(),
        queues: vec![QueueName {
            name: "tap wp0 queue 0".to_owned(),
            ..QueueName::default()
        }],
        ..Meta::default()
    };
    Names::new(&[], &meta)
}

fn on(at: u64, kind: Kind) -> Event {
    Event::new(Nanos(at), kind, FLOW)
}

fn by(g: u64, event: Event) -> Event {
    let actor = Actor { g, p: 1, m: 1 };
    Event { actor, ..event }
}

fn mine(at: u64, kind: Kind) -> Event {
    by(G, on(at, kind))
}

/// A segment of `len` bytes from `offset` that is in the socket buffer at `at`.
fn arrival(at: u64, offset: u64, len: usize) -> Vec<Event> {
    [Kind::DriverPoll, Kind::FlowLookup, Kind::TcpIngress]
        .into_iter()
        .zip([200, 100, 0])
        .map(|(kind, before)| on(at - before, kind).bytes(offset, len).frame(len + 54))
        .collect()
}

fn departure(at: u64, offset: u64, len: usize) -> Vec<Event> {
    [Kind::TcpSegment, Kind::NicTx, Kind::DriverKick]
        .into_iter()
        .zip([300, 200, 0])
        .map(|(kind, before)| on(at - before, kind).bytes(offset, len).frame(len + 54))
        .collect()
}

/// Until the head is parsed at `at`.
fn begin(at: u64, offset: u64) -> Vec<Event> {
    let mut events = arrival(at - 5_000, offset, HEAD);
    events.extend([
        on(at - 4_500, Kind::FdReady).bytes(offset, HEAD),
        on(at - 4_000, Kind::GReady).to(G),
        by(G, Event::new(Nanos(at - 2_000), Kind::GRun, 0)),
        mine(at - 1_000, Kind::ConnRead).bytes(offset, HEAD),
        mine(at, Kind::HttpHead)
            .bytes(offset, HEAD)
            .with_head_text(b"GET / HTTP/1.1"),
    ]);
    events
}

/// From the handler's last byte written at `at` to the device.
fn end(at: u64, offset: u64, status: u16) -> Vec<Event> {
    let mut events = vec![
        mine(at - 100, Kind::ConnWrite).bytes(offset, BODY),
        mine(at, Kind::HttpHandler)
            .bytes(offset, BODY)
            .answered(status, Label(1)),
    ];
    events.extend(departure(at + 2_000, offset, BODY));
    events
}

fn tell(mut events: Vec<Event>) -> Vec<Journey> {
    events.sort_by_key(|e| e.at);
    let told = Journey::all(&events, &names());
    told.iter().for_each(check);
    told
}

/// The hops follow each other without a gap, and are the whole.
#[track_caller]
fn check(journey: &Journey) {
    let mut at = journey.start;
    for hop in &journey.hops {
        assert_eq!(hop.from_ns, at, "{journey:?}");
        assert!(hop.to_ns > hop.from_ns, "{journey:?}");
        at = hop.to_ns;
    }
    assert_eq!(at, journey.end, "{journey:?}");
    let sum: u64 = journey.hops.iter().map(Hop::len_ns).sum();
    assert_eq!(sum, journey.total_ns());
}

fn kinds(journey: &Journey) -> Vec<(HopKind, u64)> {
    journey
        .hops
        .iter()
        .map(|hop| (hop.kind, hop.len_ns()))
        .collect()
}

#[test]
fn a_plain_request_has_its_hops() {
    let events = [begin(10_000, 0), end(14_000, 0, 200)].concat();
    let told = tell(events);
    let [journey] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(
        kinds(journey),
        [
            (HopKind::Stack, 200),
            (HopKind::Readiness, 1_000),
            (HopKind::RunQueue, 2_000),
            (HopKind::Parse, 2_000),
            (HopKind::Handler, 4_000),
            (HopKind::Egress, 1_800),
            (HopKind::TxRing, 200),
        ]
    );
    assert_eq!(
        (journey.fd, journey.nth, journey.goroutine),
        (3, Some(1), G)
    );
    assert_eq!(
        (journey.request.as_str(), journey.route.as_str()),
        ("GET /", "GET /{$}")
    );
    assert_eq!(
        (journey.status, journey.bytes_in, journey.bytes_out),
        (200, 60, 130)
    );
    assert!(journey.hops[0].note.contains("not visible on this device"));
    let seen: Vec<u8> = (1..=14)
        .filter(|n| journey.stages[usize::from(*n) - 1].is_some())
        .collect();
    assert_eq!(seen, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14]);
}

#[test]
fn a_head_over_two_segments_waits_for_the_second() {
    let mut events = begin(50_000, 0);
    events.retain(|e| {
        !matches!(
            e.kind,
            Kind::DriverPoll | Kind::FlowLookup | Kind::TcpIngress
        )
    });
    events.extend([arrival(10_000, 0, 20), arrival(45_000, 20, HEAD - 20)].concat());
    events.extend(end(54_000, 0, 200));
    let told = tell(events.clone());
    assert_eq!(kinds(&told[0])[1], (HopKind::Receiving, 35_000));
    events.push(on(30_000, Kind::TcpGap).bytes(40, 20));
    let told = tell(events);
    assert_eq!(kinds(&told[0])[1], (HopKind::LostInbound, 35_000));
}

#[test]
fn a_pipelined_request_waits_for_the_one_before() {
    let mut events = [begin(10_000, 0), end(30_000, 0, 200)].concat();
    // It came while the first was in hand, and nobody had to be woken for it.
    events.extend(arrival(12_000, HEAD as u64, HEAD));
    events.push(mine(32_000, Kind::HttpHead).bytes(HEAD as u64, HEAD));
    events.extend(end(35_000, BODY as u64, 200));
    let told = tell(events);
    assert_eq!(told.len(), 2);
    assert_eq!(
        kinds(&told[1])[1..4],
        [
            (HopKind::Pipelined, 18_000),
            (HopKind::Parse, 2_000),
            (HopKind::Handler, 3_000)
        ]
    );
    assert_eq!((told[1].nth, told[0].bytes_in), (Some(2), HEAD as u64));
}

#[test]
fn who_had_the_p_is_named() {
    let mut events = vec![
        by(12, Event::new(Nanos(1_000), Kind::GRun, 0)),
        by(12, Event::new(Nanos(2_000), Kind::HttpHead, 99)).with_head_text(b"GET /spin HT"),
    ];
    let mut own = begin(200_000_000, 0);
    for e in &mut own {
        if matches!(
            e.kind,
            Kind::DriverPoll | Kind::FlowLookup | Kind::TcpIngress
        ) {
            e.at.0 -= 180_000_000;
        }
        if matches!(e.kind, Kind::FdReady | Kind::GReady) {
            e.at.0 -= 179_000_000;
        }
    }
    events.push(by(12, Event::new(Nanos(199_000_000), Kind::GoBlock, 99)));
    events.extend(own);
    events.extend(end(200_010_000, 0, 200));
    let told = tell(events);
    let mine = told.iter().find(|j| j.flow == FLOW).unwrap();
    let queued = mine
        .hops
        .iter()
        .find(|hop| hop.kind == HopKind::RunQueue)
        .unwrap();
    assert!(queued.len_ns() > 178_000_000);
    let says = "behind goroutine 12 (GET /spin), which had the P for 178 ms";
    assert_eq!(queued.note, says);
}

#[test]
fn bytes_that_came_before_their_goroutine_wait_for_it() {
    const MS: u64 = 1_000_000;
    let spinner = |event: Event| by(12, event);
    let mut events = arrival(MS, 0, HEAD);
    events.extend([
        spinner(Event::new(Nanos(10), Kind::GRun, 0)),
        spinner(Event::new(Nanos(20), Kind::HttpHead, 99)).with_head_text(b"GET /spin"),
        by(2, Event::new(Nanos(3 * MS), Kind::GoCreate, 0)).to(G),
        Event {
            actor: Actor { g: G, p: 2, m: 1 },
            ..Event::new(Nanos(15 * MS), Kind::GRun, 0)
        },
        mine(15 * MS + 10, Kind::ConnRead).bytes(0, HEAD),
        mine(16 * MS, Kind::HttpHead)
            .bytes(0, HEAD)
            .with_head_text(b"GET / HTTP/1.1"),
    ]);
    events.extend(end(17 * MS, 0, 200));
    let told = tell(events);
    let journey = told.iter().find(|j| j.goroutine == G).unwrap();
    let notes: Vec<_> = journey.hops[1..4]
        .iter()
        .map(|hop| (hop.kind, hop.len_ns() / MS, hop.note.as_str()))
        .collect();
    let accepted = "its connection waited to be accepted, \
                    while goroutine 12 (GET /spin) had a P for 2.0 ms";
    let meanwhile = "while goroutine 12 (GET /spin) had a P for 12.0 ms";
    assert_eq!(
        notes,
        [
            (HopKind::Readiness, 2, accepted),
            (HopKind::RunQueue, 12, meanwhile),
            (HopKind::Parse, 1, ""),
        ]
    );
    assert_eq!(journey.stages[5..7], [Some(3 * MS), Some(15 * MS)]);
}

#[test]
fn a_handler_says_what_it_waited_for() {
    let mut events = begin(10_000, 0);
    events.extend([
        by(G, Event::new(Nanos(11_000), Kind::GoBlock, 0)).labelled(Label(3)),
        Event::new(Nanos(20_000), Kind::GoUnblock, 0).to(G),
        by(G, Event::new(Nanos(21_000), Kind::GRun, 0)),
        by(G, Event::new(Nanos(22_000), Kind::GoBlocking, 0)),
        by(G, Event::new(Nanos(25_000), Kind::GoUnblocked, 0)),
        // For the body.
        mine(26_000, Kind::GoBlock).labelled(Label(2)),
        on(30_000, Kind::GReady).to(G),
        by(G, Event::new(Nanos(30_500), Kind::GRun, 0)),
        mine(31_000, Kind::ConnRead).bytes(HEAD as u64, 10),
        // For room to write.
        mine(32_000, Kind::GoBlock).labelled(Label(2)),
        on(33_000, Kind::TcpWindow).bytes(0, 0),
        on(40_000, Kind::GReady).to(G),
        by(G, Event::new(Nanos(40_500), Kind::GRun, 0)),
    ]);
    events.extend(end(41_000, 0, 500));
    let told = tell(events);
    let handler = &told[0].hops[4..];
    let found: Vec<_> = handler
        .iter()
        .map(|h| (h.kind, h.len_ns(), h.note.as_str()))
        .collect();
    assert_eq!(
        found[..12],
        [
            (HopKind::Handler, 1_000, ""),
            (HopKind::HandlerWait, 9_000, "sleep"),
            (HopKind::RunQueue, 1_000, ""),
            (HopKind::Handler, 1_000, ""),
            (HopKind::Blocking, 3_000, ""),
            (HopKind::Handler, 1_000, ""),
            (HopKind::BodyWait, 4_000, ""),
            (HopKind::RunQueue, 500, ""),
            (HopKind::Handler, 1_500, ""),
            (HopKind::WindowWait, 8_000, "the peer's window was shut"),
            (HopKind::RunQueue, 500, ""),
            (HopKind::Handler, 500, ""),
        ]
    );
    assert_eq!((told[0].status, told[0].bytes_in), (500, HEAD as u64 + 10));
}

#[test]
fn what_was_lost_counts_until_it_was_sent_again() {
    let mut events = [begin(10_000, 0), end(14_000, 0, 200)].concat();
    events.push(on(1_014_000, Kind::TcpRetransmit).bytes(0, BODY));
    events.extend(departure(1_016_000, 0, BODY));
    let told = tell(events);
    let last = told[0].hops.last().unwrap();
    assert_eq!(
        (last.kind, last.to_ns),
        (HopKind::Retransmission, 1_016_000)
    );
    assert_eq!(last.note, "a segment of it was sent again");
}

#[test]
fn a_wait_that_ended_just_before_the_retransmission_was_for_it() {
    const MS: u64 = 1_000_000;
    let told = |again: Option<u64>| {
        let mut events = begin(MS, 0);
        events.extend([
            mine(2 * MS, Kind::GoBlock).labelled(Label(2)),
            Event::new(Nanos(1_002 * MS), Kind::GoUnblock, 0).to(G),
            by(G, Event::new(Nanos(1_003 * MS), Kind::GRun, 0)),
            mine(1_004 * MS, Kind::ConnWrite).bytes(0, BODY),
        ]);
        events.extend(again.map(|at| on(at * MS, Kind::TcpRetransmit).bytes(0, BODY)));
        events.extend(arrival(1_006 * MS, HEAD as u64, 0));
        events.extend(end(1_007 * MS, 0, 200));
        let wait = |hop: &&Hop| hop.kind == HopKind::WindowWait;
        tell(events)[0].hops.iter().find(wait).unwrap().note.clone()
    };
    assert_eq!(told(Some(1_005)), "a segment was sent again after 1.0 s");
    assert_eq!(
        told(Some(1_006)),
        "an ACK came after 1.0 s (a delayed ACK?)"
    );
    assert_eq!(told(None), "an ACK came after 1.0 s (a delayed ACK?)");
}

#[test]
fn bytes_within_tls_are_not_looked_for_on_the_wire() {
    let mut events = [begin(10_000, 0), end(14_000, 0, 200)].concat();
    for e in &mut events {
        if matches!(e.kind, Kind::HttpHead | Kind::HttpHandler) {
            e.offset |= wirepath_runtime::trace::PROTECTED;
        }
    }
    let told = tell(events);
    let found = kinds(&told[0]);
    assert_eq!(
        found,
        [
            (HopKind::RunQueue, 2_000),
            (HopKind::Parse, 2_000),
            (HopKind::Handler, 4_000)
        ]
    );
    assert_eq!(
        (told[0].offset, told[0].nth, told[0].bytes_in),
        (0, Some(1), 60)
    );
}

#[test]
fn a_request_in_hand_is_told_as_far_as_it_came() {
    let mut events = begin(10_000, 0);
    events.push(by(G, Event::new(Nanos(11_000), Kind::GoBlock, 0)).labelled(Label(3)));
    events.push(Event::new(Nanos(90_000), Kind::ProcStop, 0));
    let told = tell(events);
    assert_eq!((told[0].status, told[0].end), (0, 90_000));
    assert_eq!(told[0].hops.last().unwrap().kind, HopKind::HandlerWait);
}

#[test]
fn whatever_is_missing_the_hops_are_the_whole() {
    let mut all = vec![by(12, Event::new(Nanos(1_000), Kind::GRun, 0))];
    for n in 0..6 {
        let at = 20_000 * (n + 1);
        all.extend(begin(at, n * HEAD as u64));
        all.push(mine(at + 50, Kind::GoBlock).labelled(Label(2)));
        all.push(on(at + 100, Kind::GReady).to(G));
        all.push(by(G, Event::new(Nanos(at + 200), Kind::GRun, 0)));
        all.extend(end(at + 4_000, n * BODY as u64, 200));
        all.push(on(at + 7_000, Kind::TcpRetransmit).bytes(n * BODY as u64, 40));
    }
    all.sort_by_key(|e| e.at);
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    for _ in 0..2_000 {
        let mut events: Vec<Event> = all.iter().filter(|_| random() % 4 > 0).copied().collect();
        // Clocks of threads that do not agree.
        for e in &mut events {
            e.at.0 += random() % 3_000;
        }
        tell(events);
    }
}
