//! What nobody should send.

use super::*;

/// Random damage to plausible frames: nothing panics, memory stays bounded, and
/// the server still serves.
#[test]
fn damaged_frames_do_no_harm() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut net = Net::new();
        let listener = net.listen(&ListenOptions::default());
        let raw = Raw::new(5_000);
        let mut next = net.raw_handshake(&raw, None);
        for _ in 0..2_000 {
            let controls = [
                TcpControl::None,
                TcpControl::Psh,
                TcpControl::Syn,
                TcpControl::Fin,
                TcpControl::Rst,
            ];
            let payload = pattern(0, random.below(1_400));
            let more = More {
                window: random.below(65_536) as u16,
                timestamp: (random.below(3) == 0).then_some((random.below(9) as u32, 0)),
                payload: &payload,
            };
            let near = |random: &mut Random, base: u32| match random.below(4) {
                0 => random.below(usize::MAX >> 1) as u32,
                1 => base,
                _ => base
                    .wrapping_add(random.below(5_000) as u32)
                    .wrapping_sub(1_000),
            };
            let control = controls[random.below(controls.len())];
            let (seq, ack) = (near(&mut random, 1_001), near(&mut random, next));
            let ack = (random.below(4) > 0).then_some(ack);
            let mut frame = raw.frame(control, seq, ack, more);
            if random.below(3) == 0 {
                for _ in 0..1 + random.below(4) {
                    let at = random.below(frame.len());
                    frame[at] = random.below(256) as u8;
                }
            }
            if random.below(8) == 0 {
                frame.truncate(random.below(frame.len()));
            }
            for answer in net.inject(frame) {
                if answer.flags.contains(TcpFlags::SYN) {
                    next = answer.seq.wrapping_add(1);
                }
            }
            if random.below(16) == 0
                && let Ok((fd, _)) = net.server.accept(listener, net.now)
            {
                let _ = net.write(0, fd, &payload);
                let _ = net.read(0, fd, 500);
                if random.below(4) == 0 {
                    let _ = net.server.close(fd, net.now);
                }
            }
            net.now = net.now + Duration::from_millis(random.below(300) as u64);
        }
        assert_eq!(net.count(0, "tcp_panics"), 0, "seed {seed}");
        assert!(net.count(0, "connections") < 1_000, "seed {seed}");
        net.take_events(0);
        let client = net.dial(SERVER);
        assert_eq!(net.client.connect_result(client), Ok(()), "seed {seed}");
    }
}

#[test]
fn noise_is_dropped_and_counted() {
    let mut net = Net::new();
    let mut random = Random(7);
    let dropped = net.count(0, "dropped");
    for _ in 0..3_000 {
        let len = random.below(200);
        let mut frame: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        if len > 14 && random.below(2) == 0 {
            frame[..6].copy_from_slice(&SERVER_MAC.0);
            frame[12..14].copy_from_slice(&[8, 0]);
            frame[14] = 0x45;
        }
        net.wire.state().toward[0].push_back(frame);
    }
    net.settle();
    assert_eq!(net.count(0, "dropped") - dropped, 3_000);
}

#[test]
fn resets_for_strangers_are_limited() {
    let mut net = Net::new();
    for port in 0..5_000 {
        let frame = Raw::new(1 + port).frame(TcpControl::None, 5, Some(9), PLAIN);
        net.wire.state().toward[0].push_back(frame);
    }
    net.settle();
    let sent = net.count(0, "no_flow_resets");
    assert!((1..=200).contains(&sent), "{sent}");
    assert_eq!(net.count(0, "answers_rate_limited"), 5_000 - sent);
    assert_eq!(net.count(0, "no_flow"), 5_000);
    net.now = net.now + Duration::from_secs(1);
    let answers = net.inject(Raw::new(9).frame(TcpControl::None, 5, Some(9), PLAIN));
    assert_eq!((answers[0].flags, answers[0].seq), (TcpFlags::RST, 9));
    assert!(
        net.inject(Raw::new(9).frame(TcpControl::Rst, 5, None, PLAIN))
            .is_empty()
    );
}

#[test]
fn a_stranger_that_guesses_the_window_does_not_take_the_replies() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    let mut stranger = Raw::new(5_000);
    stranger.mac = MacAddr([2, 0, 0, 0, 0, 66]);
    let peer_mac = |net: &Net| net.server.flow_info(server).unwrap().peer_mac;
    let wrong = [next.wrapping_sub(200_000), next.wrapping_add(70_000)];
    for (seq, ack) in [
        (1_001, None),
        (1_001, Some(wrong[0])),
        (2_000, Some(wrong[1])),
    ] {
        net.inject(stranger.frame(TcpControl::None, seq, ack, PLAIN));
        assert_eq!(peer_mac(&net), raw.mac, "{seq} {ack:?}");
    }
    // The peer itself, by another way.
    net.inject(stranger.frame(TcpControl::None, 1_001, Some(next), PLAIN));
    assert_eq!(peer_mac(&net), stranger.mac);
}

#[test]
fn strangers_do_not_keep_a_dead_peers_connection() {
    let mut net = Net::new();
    let listener = net.listen(&ListenOptions::default());
    let raw = Raw::new(5_000);
    let next = net.raw_handshake(&raw, None);
    let (server, _) = net.server.accept(listener, net.now).unwrap();
    net.write(0, server, b"anybody?").unwrap();
    for _ in 0..100 {
        let guess = raw.frame(TcpControl::None, 500_000, Some(next + 500_000), PLAIN);
        net.inject(guess);
        net.advance(Duration::from_secs(11));
    }
    assert_eq!(net.read(0, server, 1), Err(Errno::TimedOut));
}
