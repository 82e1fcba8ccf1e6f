//! Loss, silence, shut windows, and what comes after the end.

use super::*;

const PEER: (MacAddr, &str) = (MacAddr([2, 0, 0, 0, 0, 9]), "10.0.0.9/24");

#[test]
fn a_lost_segment_is_sent_again() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    let mut lost = 0;
    net.wire.lose(move |side, _| {
        lost += usize::from(side == 0);
        side == 0 && lost == 1
    });
    net.write(0, server, b"again").unwrap();
    net.settle();
    assert_eq!(net.read(1, client, 9), Err(Errno::WouldBlock));
    net.advance(Duration::from_millis(1_100));
    assert_eq!(net.read(1, client, 9).unwrap(), b"again");
    assert_eq!(net.count(0, "tcp_retransmits"), 1);
}

#[test]
fn data_survives_random_loss_and_idle_memory_is_kept_while_gaps_are() {
    for seed in 0..5 {
        let mut net = Net::new();
        let (_, server, client) = net.connected();
        let mut random = Random(seed);
        net.wire.lose(move |_, _| random.below(10) == 0);
        let data = pattern(0, 200_000);
        let (mut written, mut got) = (0, Vec::new());
        for _ in 0..10_000 {
            written += net.write(1, client, &data[written..]).unwrap_or(0);
            if let Ok(bytes) = net.read(0, server, 100_000) {
                got.extend(bytes);
            }
            if got.len() == data.len() {
                break;
            }
            net.advance(Duration::from_millis(300));
        }
        assert!(got == data, "seed {seed}: {} bytes", got.len());
    }
}

/// Data bytes of each segment that the server sent since last asked.
fn data_sent(net: &Net) -> Vec<usize> {
    let sent = segments(PEER, &net.wire.sent(0));
    let lens = sent.iter().map(|segment| segment.payload_len);
    lens.filter(|len| *len > 0).collect()
}

#[test]
fn ten_segments_leave_at_once_and_no_more() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    net.wire.sent(0);
    net.write(0, server, &pattern(0, 50_000)).unwrap();
    net.flush(0);
    assert_eq!(data_sent(&net), [1_460; 10]);
    // Congestion control is on now: half of the flight answered brings no more
    // than it did, all of it does.
    let ack = |net: &mut Net, bytes: u32| {
        net.inject(raw.frame(TcpControl::None, 1_001, Some(next + bytes), PLAIN))
            .iter()
            .map(|segment| segment.payload_len)
            .sum::<usize>()
    };
    assert_eq!(ack(&mut net, 7_300), 0);
    let more = ack(&mut net, 14_600);
    assert!((1_460..=5_000).contains(&more), "{more}");
}

#[test]
fn an_initial_window_that_is_lost_comes_again_slowly() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    net.raw_handshake(&raw, None);
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    net.wire.sent(0);
    net.write(0, server, &pattern(0, 14_000)).unwrap();
    net.flush(0);
    assert_eq!(data_sent(&net).iter().sum::<usize>(), 14_000);
    net.advance(Duration::from_millis(1_050));
    assert!(data_sent(&net).iter().sum::<usize>() <= 2_048);
}

#[test]
fn a_handshake_that_was_lost_makes_careful() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let syn_ack = net.inject(raw.frame(TcpControl::Syn, 1_000, None, PLAIN));
    net.advance(Duration::from_millis(1_050));
    let next = syn_ack[0].seq.wrapping_add(1);
    net.inject(raw.frame(TcpControl::None, 1_001, Some(next), PLAIN));
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    net.write(0, server, &pattern(0, 14_000)).unwrap();
    net.flush(0);
    assert_eq!(data_sent(&net).iter().sum::<usize>(), 2_048);
}

#[test]
fn responses_up_to_the_initial_window_never_wait() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let mut next = net.raw_handshake(&raw, None);
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    for _ in 0..20 {
        net.wire.sent(0);
        net.write(0, server, &pattern(0, 14_600)).unwrap();
        net.flush(0);
        assert_eq!(data_sent(&net), [1_460; 10]);
        next = next.wrapping_add(14_600);
        net.inject(raw.frame(TcpControl::None, 1_001, Some(next), PLAIN));
    }
    assert_eq!(net.count(0, "tcp_retransmits"), 0);
}

#[test]
fn a_peer_that_never_answers_again_times_out() {
    let mut net = Net::new();
    let (_, server, _) = net.connected();
    net.wire.lose(|_, _| true);
    net.write(0, server, b"hello?").unwrap();
    net.advance(Duration::from_secs(900));
    assert_eq!(net.state(0, server), "ESTABLISHED");
    net.advance(Duration::from_secs(120));
    assert_eq!(net.read(0, server, 1), Err(Errno::TimedOut));
    assert!(net.told(0, server).contains(Ready::HANGUP));
    assert_eq!(net.count(0, "timed_out"), 1);
}

#[test]
fn a_peer_with_a_shut_window_is_kept() {
    let mut net = Net::new();
    let (_, server, client) = net.connected();
    let mut total = 0;
    while let Ok(n) = net.write(0, server, &pattern(total, 10_000)) {
        total += n;
        net.settle();
    }
    net.advance(Duration::from_secs(3_600));
    assert_eq!(net.state(0, server), "ESTABLISHED");
    let mut got = Vec::new();
    for _ in 0..1_000 {
        match net.read(1, client, 8_000) {
            Ok(bytes) => got.extend(bytes),
            Err(_) => net.advance(Duration::from_millis(100)),
        }
        if got.len() == total {
            break;
        }
    }
    assert!(got == pattern(0, total));
}

#[test]
fn what_a_shut_window_cost_is_sent_again_when_it_opens() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.write(fd, &pattern(0, 8_000), net.now).unwrap();
    net.flush(0);
    // The peer takes the first segment, drops the next, and has no room.
    let mss = 1_460;
    let ack = Some(next.wrapping_add(mss));
    let shut = More { window: 0, ..PLAIN };
    net.inject(raw.frame(TcpControl::None, 1_001, ack, shut));
    let answers = net.inject(raw.frame(TcpControl::None, 1_001, ack, PLAIN));
    let again = answers.iter().find(|s| Some(s.seq) == ack);
    assert!(again.is_some_and(|s| s.payload_len > 0), "{answers:?}");
    // And were that lost too, the timer sends it.
    net.wire.sent(0);
    net.advance(Duration::from_secs(3));
    assert!(!net.wire.sent(0).is_empty());
}

#[test]
fn a_window_that_shuts_over_data_in_flight_is_probed() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.write(fd, &pattern(0, 8_000), net.now).unwrap();
    net.flush(0);
    // The peer drops all of it, and what it says of its open window is lost.
    let shut = More { window: 0, ..PLAIN };
    net.inject(raw.frame(TcpControl::None, 1_001, Some(next), shut));
    net.wire.sent(0);
    net.advance(Duration::from_secs(600));
    let probes = net.wire.sent(0);
    assert!((8..40).contains(&probes.len()), "{} probes", probes.len());
    // One of them is answered.
    let answers = net.inject(raw.frame(TcpControl::None, 1_001, Some(next), PLAIN));
    let again = answers.iter().find(|s| s.seq == next);
    assert!(again.is_some_and(|s| s.payload_len > 1), "{answers:?}");
}

#[test]
fn a_window_that_was_overtaken_is_not_taken_for_the_last() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.write(fd, &pattern(0, 8_000), net.now).unwrap();
    net.flush(0);
    // The peer takes the first segment and drops the others. What it said before
    // comes after, and then that there is room, for less than is in flight.
    let ack = next.wrapping_add(1_460);
    for (ack, window) in [(ack, 0), (next, 2_000)] {
        let more = More { window, ..PLAIN };
        let answers = net.inject(raw.frame(TcpControl::None, 1_001, Some(ack), more));
        assert!(answers.is_empty(), "{answers:?}");
    }
    let opens = More {
        window: 3_000,
        ..PLAIN
    };
    let answers = net.inject(raw.frame(TcpControl::None, 1_001, Some(ack), opens));
    let again = answers.iter().find(|s| s.seq == ack);
    assert!(again.is_some_and(|s| s.payload_len > 0), "{answers:?}");
}

#[test]
fn a_window_that_shuts_over_all_there_is_to_send_is_probed() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.write(fd, &pattern(0, 4_000), net.now).unwrap();
    net.flush(0);
    let ack = next.wrapping_add(1_460);
    let shut = More { window: 0, ..PLAIN };
    net.inject(raw.frame(TcpControl::None, 1_001, Some(ack), shut));
    net.wire.sent(0);
    net.advance(Duration::from_secs(600));
    // A segment inside its window without data would not be answered.
    let sent = segments(PEER, &net.wire.sent(0));
    let asks = |s: &&Segment| s.payload_len > 0 || crate::segment::after(ack, s.seq);
    let probes = sent.iter().filter(asks).count();
    assert!((8..40).contains(&probes), "{sent:?}");
    let answers = net.inject(raw.frame(TcpControl::None, 1_001, Some(ack), PLAIN));
    let again = answers.iter().find(|s| s.seq == ack);
    assert!(again.is_some_and(|s| s.payload_len > 0), "{answers:?}");
}

#[test]
fn a_fin_that_met_a_shut_window_is_sent_when_it_opens() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.write(fd, &pattern(0, 1_000), net.now).unwrap();
    net.server.close(fd, net.now).unwrap();
    net.flush(0);
    // The peer takes the data, says again and again that it has no room for the
    // FIN, and then has.
    let fin = next.wrapping_add(1_000);
    let shut = More { window: 0, ..PLAIN };
    for _ in 0..5 {
        net.inject(raw.frame(TcpControl::None, 1_001, Some(fin), shut));
    }
    let answers = net.inject(raw.frame(TcpControl::None, 1_001, Some(fin), PLAIN));
    let is_fin = |s: &Segment| s.seq == fin && s.flags.contains(TcpFlags::FIN);
    assert!(answers.iter().any(is_fin), "{answers:?}");
    net.wire.sent(0);
    net.advance(Duration::from_secs(3));
    assert!(!net.wire.sent(0).is_empty());
}

#[test]
fn keepalive_finds_a_dead_peer_and_keeps_a_live_one() {
    let mut net = Net::new();
    let (_, server, _) = net.connected();
    net.server
        .set_keepalive(server, Some(Duration::from_secs(15)))
        .unwrap();
    net.wire.sent(0);
    net.advance(Duration::from_secs(14));
    assert!(net.wire.sent(0).is_empty());
    net.advance(Duration::from_secs(600));
    let probes = net.wire.sent(0).len();
    assert!((35..45).contains(&probes), "{probes} probes in 600 s");
    assert_eq!(net.state(0, server), "ESTABLISHED");
    net.wire.lose(|_, _| true);
    net.advance(Duration::from_secs(120));
    assert_eq!(net.state(0, server), "ESTABLISHED");
    net.advance(Duration::from_secs(60));
    assert_eq!(net.read(0, server, 1), Err(Errno::TimedOut));
}

/// A raw peer and the server both closed, the server first: (peer, server's
/// next sequence number).
fn time_wait(net: &mut Net, timestamp: Option<(u32, u32)>) -> (Raw, u32) {
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, timestamp);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.close(fd, net.now).unwrap();
    net.flush(0);
    let more = More { timestamp, ..PLAIN };
    let answers = net.inject(raw.frame(TcpControl::Fin, 1_001, Some(next + 1), more));
    assert_eq!((answers[0].flags, answers[0].ack), (TcpFlags::ACK, 1_002));
    assert_eq!(
        (net.count(0, "connections"), net.count(0, "time_wait")),
        (0, 1)
    );
    (raw, next + 1)
}

#[test]
fn time_wait_answers_and_gives_way() {
    let mut net = Net::new();
    let (raw, next) = time_wait(&mut net, None);
    // The FIN comes again: its ACK was lost.
    let answers = net.inject(raw.frame(TcpControl::Fin, 1_001, Some(next), PLAIN));
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].seq, answers[0].ack), (next, 1_002));
    assert!(
        net.inject(raw.frame(TcpControl::Rst, 1_002, None, PLAIN))
            .is_empty()
    );
    assert_eq!(net.count(0, "time_wait"), 1);
    // An old SYN is answered with an ACK, a new one begins a connection.
    let answers = net.inject(raw.frame(TcpControl::Syn, 900, None, PLAIN));
    assert_eq!(answers[0].flags, TcpFlags::ACK);
    let answers = net.inject(raw.frame(TcpControl::Syn, 50_000, None, PLAIN));
    assert_eq!(answers[0].flags, TcpFlags::SYN | TcpFlags::ACK);
    assert_eq!(answers[0].ack, 50_001);
    assert!(crate::segment::after(answers[0].seq, next));
    assert_eq!(
        (net.count(0, "time_wait"), net.count(0, "time_wait_reused")),
        (0, 1)
    );
}

#[test]
fn time_wait_goes_by_timestamps_where_there_are_any() {
    let mut net = Net::new();
    let (raw, next) = time_wait(&mut net, Some((500, 0)));
    let at = |val| More {
        timestamp: Some((val, 0)),
        ..PLAIN
    };
    let answers = net.inject(raw.frame(TcpControl::Syn, 50_000, None, at(499)));
    assert_eq!(answers[0].flags, TcpFlags::ACK);
    assert_eq!(answers[0].seq, next);
    let answers = net.inject(raw.frame(TcpControl::Syn, 10, None, at(501)));
    assert_eq!(answers[0].flags, TcpFlags::SYN | TcpFlags::ACK);
}

#[test]
fn a_closed_connection_does_not_wait_for_ever_for_the_peers_fin() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    net.server.close(fd, net.now).unwrap();
    net.flush(0);
    net.inject(raw.frame(TcpControl::None, 1_001, Some(next + 1), PLAIN));
    net.advance(Duration::from_secs(50));
    assert_eq!(net.count(0, "connections"), 1);
    net.advance(Duration::from_secs(15));
    assert_eq!(
        (net.count(0, "connections"), net.count(0, "orphans_expired")),
        (0, 1)
    );
}

#[test]
fn a_closed_connection_whose_fin_is_never_acknowledged_ends() {
    let mut net = Net::new();
    let (_, server, _) = net.connected();
    net.wire.lose(|_, _| true);
    net.write(0, server, b"unheard").unwrap();
    net.server.close(server, net.now).unwrap();
    net.advance(Duration::from_secs(200));
    assert_eq!(net.count(0, "connections"), 0);
}

#[test]
fn a_flow_follows_its_peers_station_only_inside_the_window() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let mut raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (fd, _) = net.server.accept(listener, net.now).unwrap();
    let mac = |net: &Net| net.server.flow_info(fd).unwrap().peer_mac;
    raw.mac = MacAddr([2, 0, 0, 0, 0, 0x66]);
    net.inject(raw.frame(TcpControl::None, 900_000, Some(next), PLAIN));
    assert_eq!(mac(&net), PEER.0);
    net.inject(raw.frame(TcpControl::None, 1_001, Some(next), PLAIN));
    assert_eq!(mac(&net), raw.mac);
}
