//! Egress waits for the flush, so that an ACK rides on the answer.

use super::*;

const CLIENT: (MacAddr, &str) = (CLIENT_MAC, "10.0.0.2/24");

#[test]
fn the_ack_rides_on_the_response() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.wire.sent(0);
    net.take_events(0);
    net.write(1, client, b"request").unwrap();
    net.flush(1);
    net.poll(0);
    assert_eq!(net.told(0, server), Ready::READ);
    assert!(
        net.wire.sent(0).is_empty(),
        "nothing leaves before the flush"
    );
    assert_eq!(net.read(0, server, 100).unwrap(), b"request");
    net.write(0, server, b"response").unwrap();
    net.flush(0);
    let sent = segments(CLIENT, &net.wire.sent(0));
    assert_eq!(sent.len(), 1, "no bare ACK");
    assert_eq!(sent[0].payload_len, 8);
    net.flush(0);
    assert!(net.wire.sent(0).is_empty());
}

#[test]
fn without_a_response_the_flush_acknowledges() {
    let mut net = Net::new();
    let (_, _, client) = net.connected();
    net.wire.sent(0);
    net.write(1, client, b"request").unwrap();
    net.flush(1);
    net.poll(0);
    net.flush(0);
    let sent = segments(CLIENT, &net.wire.sent(0));
    assert_eq!((sent.len(), sent[0].payload_len), (1, 0));
}

#[test]
fn a_burst_is_kicked_once() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    // Opens the congestion window.
    transfer(
        &mut net,
        (0, server),
        (1, client),
        &pattern(0, 100_000),
        9_000,
    );
    net.wire.sent(0);
    let kicks = net.count(0, "kicks");
    net.write(0, server, &pattern(0, 10_000)).unwrap();
    net.flush(0);
    assert_eq!(net.count(0, "kicks"), kicks + 1);
    assert_eq!(segments(CLIENT, &net.wire.sent(0)).len(), 7);
}

#[test]
fn a_full_ring_keeps_the_segments() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    transfer(
        &mut net,
        (0, server),
        (1, client),
        &pattern(0, 100_000),
        9_000,
    );
    net.wire.sent(0);
    let retransmits = net.count(0, "tcp_retransmits");
    net.wire.state().room[0] = 3;
    let data = pattern(0, 14_000);
    assert_eq!(net.write(0, server, &data), Ok(data.len()));
    net.flush(0);
    assert_eq!(net.wire.sent(0).len(), 3);
    let retry = net.server.next_event(0).unwrap();
    assert!(retry <= net.now + Duration::from_millis(1));
    net.wire.state().room[0] = usize::MAX;
    net.settle();
    assert_eq!(net.read(1, client, 20_000).unwrap(), data);
    assert_eq!(net.count(0, "tcp_retransmits"), retransmits);
}

#[test]
fn a_flush_under_a_held_lock_is_served_by_the_holder() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    let done = Arc::new(AtomicBool::new(false));
    // One thread takes turns all the time, another writes and flushes.
    let poller = {
        let (stack, done, now) = (net.server.clone(), done.clone(), net.now);
        std::thread::spawn(move || {
            let mut events = Vec::new();
            while !done.load(Ordering::Relaxed) {
                stack.poll(0, now, 64, &mut events);
                events.clear();
            }
        })
    };
    let mut got = 0;
    for i in 0..2_000 {
        net.write(0, server, &pattern(i, 1)).unwrap();
        net.server.flush(0, net.now);
        // Whoever held the lock has sent it, or does so before it is done.
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while got == i {
            net.poll(1);
            net.flush(1);
            if let Ok(bytes) = net.read(1, client, 10) {
                assert_eq!(bytes, pattern(i, 1));
                got += 1;
            }
            assert!(
                std::time::Instant::now() < give_up,
                "byte {i} was never flushed"
            );
        }
    }
    done.store(true, Ordering::Relaxed);
    poller.join().unwrap();
}

#[test]
fn the_trace_names_every_stage_of_the_stack() {
    use wirepath_driver::trace::{self, Kind};
    trace::enable(1 << 12);
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    net.write(1, client, b"request").unwrap();
    net.flush(1);
    net.poll(0);
    net.read(0, server, 100).unwrap();
    net.write(0, server, b"response").unwrap();
    net.flush(0);
    let events = trace::snapshot().events;
    for (stage, want) in [
        (Kind::TcpIngress, (0, 7)),
        (Kind::FdReady, (0, 7)),
        (Kind::ConnRead, (0, 7)),
        (Kind::ConnWrite, (0, 8)),
        (Kind::TcpSegment, (0, 8)),
    ] {
        let found = events
            .iter()
            .any(|e| e.kind == stage && e.flow == server.raw() && (e.offset, e.len) == want);
        assert!(found, "{stage} of {want:?}");
    }
    for stage in [Kind::DriverPoll, Kind::FlowLookup] {
        assert!(
            events
                .iter()
                .any(|e| e.kind == stage && e.flow == server.raw())
        );
    }
}
