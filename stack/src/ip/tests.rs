//! Frames in, verdicts out.

mod dropped;
pub(crate) mod frames;

use std::collections::HashSet;

use smoltcp::wire::TcpRepr;

use dropped::dropped;
use frames::*;

use super::*;
use crate::neighbor::{ArpOp, NdpMessage, Random};

fn verdict(frame: &[u8]) -> Result<Packet, DropCause> {
    classify(&local(), frame, false)
}

#[test]
fn each_bad_frame_is_dropped_for_its_cause() {
    for (what, frame, want) in dropped() {
        let got = verdict(&frame).map(|_| "accepted");
        assert_eq!(got, Err(want), "{what}");
    }
}

#[test]
fn each_cause_has_a_frame_a_name_and_an_index() {
    let hit: HashSet<DropCause> = dropped().into_iter().map(|(_, _, cause)| cause).collect();
    let names: HashSet<&str> = DropCause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), DropCause::COUNT);
    for (at, cause) in DropCause::ALL.iter().enumerate() {
        // These have tests of their own.
        let is_elsewhere = matches!(cause, DropCause::HostsOwn | DropCause::PartialChecksum);
        let is_hit = hit.contains(cause) || is_elsewhere;
        assert!(is_hit, "no frame is dropped for {cause:?}");
        assert_eq!(cause.index(), at);
    }
}

#[test]
fn what_the_host_answers_is_not_ours_where_addresses_are_shared() {
    let shared = Local {
        is_shared: true,
        ..local()
    };
    let verdict = |frame: &[u8]| classify(&shared, frame, false).map(|_| ());
    let echo = from_peer(ICMP, &ping_v4(b"hello"));
    assert_eq!(verdict(&echo), Err(DropCause::HostsOwn));
    let arp = arp_bytes(1, (PEER_MAC, "10.0.0.1"), (MacAddr([0; 6]), "10.0.0.2"));
    let arp = frame(OUR_MAC, PEER_MAC, ether::ARP, &arp);
    assert_eq!(verdict(&arp), Err(DropCause::HostsOwn));
    let solicit = neighbor_message(135, 0, "fd00::2", &[]);
    let solicit = ndp_frame("fd00::1", "fd00::2", 255, &solicit);
    assert_eq!(verdict(&solicit), Err(DropCause::HostsOwn));
    assert_eq!(verdict(&tcp_v4()), Ok(()));
    assert_eq!(shared.link_local(), None, "that is the host's");
}

#[test]
fn a_sum_left_to_a_card_is_told_from_a_wrong_one() {
    let (us, peer) = (["10.0.0.2", "fd00::2"], ["10.0.0.1", "fd00::1"]);
    for (dst, src) in us.into_iter().zip(peer) {
        for protocol in [TCP, UDP] {
            let (mut bytes, at) = match protocol {
                TCP => (tcp_bytes(src, dst, |_| {}), 16),
                _ => (udp_bytes(src, dst, b"question"), 6),
            };
            let wrap = |bytes: &[u8]| match dst.contains(':') {
                true => v6_frame(src, dst, 64, &[], protocol, bytes),
                false => v4_frame(src, dst, protocol, &[], bytes),
            };
            assert!(verdict(&wrap(&bytes)).is_ok());
            let pseudo = pseudo_sum(src, dst, protocol, bytes.len());
            bytes[at..at + 2].copy_from_slice(&pseudo);
            let got = verdict(&wrap(&bytes)).map(|_| ());
            assert_eq!(got, Err(DropCause::PartialChecksum), "{dst} {protocol}");
            bytes[at] ^= 0x40;
            let got = verdict(&wrap(&bytes)).map(|_| ());
            assert!(
                matches!(
                    got,
                    Err(DropCause::BadTcpChecksum | DropCause::BadUdpChecksum)
                ),
                "{got:?}"
            );
            // A right sum that looks like one that was left is right.
            bytes[at..at + 2].copy_from_slice(&pseudo);
            let last = bytes.len() - 2;
            bytes[last..].copy_from_slice(&[0, 0]);
            let rest = Sum::of(&bytes).and(Sum::of(&pseudo)).checksum();
            bytes[last..].copy_from_slice(&rest);
            assert!(verdict(&wrap(&bytes)).is_ok(), "{dst} {protocol}");
        }
    }
}

/// What a sender leaves in the checksum field for its card to finish: the sum of
/// the pseudo-header, not complemented.
fn pseudo_sum(src: &str, dst: &str, protocol: u8, len: usize) -> [u8; 2] {
    let octets = |text: &str| match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let sum = Sum::of(&octets(src)).and(Sum::of(&octets(dst)));
    sum.and_protocol(protocol, len).checksum().map(|byte| !byte)
}

#[track_caller]
fn segment(frame: &[u8]) -> Segment {
    match verdict(frame) {
        Ok(Packet::Tcp(segment)) => segment,
        other => panic!("not a segment: {other:?}"),
    }
}

#[test]
fn a_segment_is_read_whole() {
    let frame = tcp_v4();
    let segment = segment(&frame);
    let want = Segment {
        src_mac: PEER_MAC,
        src: v4("10.0.0.1").into(),
        dst: v4("10.0.0.2").into(),
        src_port: 40_000,
        dst_port: 8080,
        seq: 0x8123_4567,
        ack: 0x1bcd_ef01,
        flags: TcpFlags::PSH | TcpFlags::ACK,
        window: 0xfeed,
        payload_len: 18,
        ip: 14..14 + 20 + 32 + 18,
        options: 54..66,
    };
    assert_eq!(segment, want);
    assert_eq!(segment.timestamp(&frame), Some((7, 9)));
}

#[test]
fn padding_is_trimmed_and_options_are_passed_over() {
    let ack = |repr: &mut TcpRepr<'_>| {
        repr.payload = b"";
        repr.timestamp = None;
    };
    let bytes = tcp_bytes("10.0.0.1", "10.0.0.2", ack);
    let short = from_peer(TCP, &bytes);
    assert_eq!(short.len(), 60);
    let got = segment(&short);
    assert_eq!((got.ip.clone(), got.payload_len), (14..54, 0));
    assert_eq!(got.timestamp(&short), None);
    // Record route, then the end of the list.
    let options = [7, 7, 4, 0, 0, 0, 0, 0];
    let routed = v4_frame("10.0.0.1", "10.0.0.2", TCP, &options, &bytes);
    assert_eq!(segment(&routed).ip, 14..62);
    // A NIC that leaves the FCS on, or a trailer.
    let mut trailed = tcp_v4();
    trailed.extend_from_slice(&[0xaa; 4]);
    assert_eq!(segment(&trailed).ip, 14..84);
}

#[test]
fn what_smoltcp_would_not_find_is_told_from_what_it_finds() {
    let hop_by_hop = tcp_v6_behind(&[(0, PADDING)]);
    let got = segment(&hop_by_hop);
    assert_eq!(got.ip, 14..14 + 40 + 8 + 32 + 18);
    assert_eq!(got.timestamp(&hop_by_hop), Some((7, 9)));
    let done = [0, 0, 0, 0, 0, 0, 0, 0];
    let chain: &[(u8, &[u8])] = &[(0, PADDING), (60, PADDING), (43, &done), (60, PADDING)];
    let Ok(Packet::Udp(datagram)) = verdict(&udp_v6_behind(chain)) else {
        panic!("the datagram is behind headers that ask for nothing");
    };
    assert_eq!(datagram.payload, 14 + 40 + 32 + 8..14 + 40 + 32 + 8 + 5);
}

#[test]
fn timestamps_are_found_among_options_and_never_past_them() {
    let frame = tcp_v4();
    let base = segment(&frame);
    let mut odd = frame.clone();
    for (options, want) in [
        (&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9], Some((7, 9))),
        (&[2, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9], Some((7, 9))),
        (&[0, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9], None),
        (&[1, 1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0], None),
        (&[5, 0, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9], None),
        (&[5, 99, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9], None),
        (&[1, 1, 8, 9, 0, 0, 0, 7, 0, 0, 0, 9], None),
        (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8], None),
    ] {
        odd[base.options.clone()].copy_from_slice(options);
        assert_eq!(base.timestamp(&odd), want, "{options:?}");
    }
}

#[test]
fn a_vouched_checksum_is_not_verified_but_the_rest_is() {
    let spoiled = changed(&tcp_v4(), |f| f[70] ^= 1);
    assert!(classify(&local(), &spoiled, true).is_ok());
    let offset = resummed(&tcp_v4(), |t| t[12] = 0x40);
    let got = classify(&local(), &offset, true).map(|_| ());
    assert_eq!(got, Err(DropCause::BadTcpOffset));
    let ping = from_peer(ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let got = classify(&local(), &ping, true).map(|_| ());
    assert_eq!(got, Err(DropCause::BadIcmpChecksum));
}

#[test]
fn datagrams_come_with_their_payload() {
    let bytes = udp_bytes("10.0.0.1", "10.0.0.255", b"question");
    let to_all = changed(&v4_frame("10.0.0.1", "10.0.0.255", UDP, &[], &bytes), |f| {
        f[..6].fill(0xff);
    });
    let Ok(Packet::Udp(got)) = verdict(&to_all) else {
        panic!("a broadcast datagram is one");
    };
    assert_eq!((got.src_port, got.dst_port), (5353, 53));
    assert_eq!(&to_all[got.payload], b"question");
    assert_eq!(got.ip, 14..50);
    let mut unsummed = udp_bytes("10.0.0.1", "10.0.0.2", b"question");
    unsummed[6..8].fill(0);
    unsummed[9] ^= 0xff;
    assert!(matches!(
        verdict(&from_peer(UDP, &unsummed)),
        Ok(Packet::Udp(_))
    ));
}

#[test]
fn control_messages_are_told_apart() {
    let ping = v6_frame(
        "fe80::1",
        "ff02::1",
        64,
        &[],
        ICMPV6,
        &ping_v6("fe80::1", "ff02::1", b"x"),
    );
    let Ok(Packet::Icmp(got)) = verdict(&ping) else {
        panic!("a ping to all nodes is for us too");
    };
    assert_eq!((got.kind, got.code, got.message), (128, 0, 54..63));
    // What `arping` and the kernel send, as tcpdump shows it.
    let request = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01\
        \x02\0\0\0\0\x01\x0a\0\0\x01\0\0\0\0\0\0\x0a\0\0\x02";
    let Ok(Packet::Arp(got)) = verdict(request) else {
        panic!("an ARP request, unpadded as on a TAP");
    };
    assert_eq!((got.op, got.sender_ip), (ArpOp::Request, v4("10.0.0.1")));
    assert_eq!((got.sender_mac, got.target_ip), (PEER_MAC, v4("10.0.0.2")));
    let message = neighbor_message(
        135,
        0,
        "fd00::2",
        &[14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 1],
    );
    let Ok(Packet::Ndp(got)) = verdict(&ndp_frame("fd00::1", "ff02::1:ff00:2", 255, &message))
    else {
        panic!("a solicitation with a nonce");
    };
    let want = NdpMessage::Solicit {
        target: v6("fd00::2"),
        source_mac: Some(PEER_MAC),
    };
    assert_eq!((got.src, got.message), (v6("fd00::1"), want));
    for (code, millis) in [
        (100, 100),
        (0x7fff, 32_767),
        (0x8000, 0x8000),
        (0xffff, 0x1fff << 10),
    ] {
        let frame = query_frame("fe80::1", 1, &[(0, ROUTER_ALERT)], code);
        let Ok(Packet::Ndp(got)) = verdict(&frame) else {
            panic!("a query");
        };
        let want = NdpMessage::Query {
            group: Ipv6Addr::UNSPECIFIED,
            max_delay: std::time::Duration::from_millis(millis),
        };
        assert_eq!(got.message, want);
    }
}

#[test]
fn our_addresses_are_known() {
    let local = local();
    for (addr, want) in [
        ("10.0.0.2", true),
        ("10.0.0.1", false),
        ("10.0.0.255", false),
        ("255.255.255.255", false),
        ("fd00::2", true),
        ("fe80::ff:fe00:2", true),
        ("fe80::ff:fe00:3", false),
        ("ff02::1", false),
        ("ff02::1:ff00:2", false),
    ] {
        assert_eq!(local.owns(addr.parse().unwrap()), want, "{addr}");
    }
    let four_only = Local {
        mac: OUR_MAC,
        cidrs: vec!["10.0.0.2/31".parse().unwrap()],
        is_shared: false,
    };
    assert_eq!(four_only.link_local(), None);
    assert!(!four_only.owns("fe80::ff:fe00:2".parse().unwrap()));
    // A network of two has no broadcast address.
    let frame = v4_frame("10.0.0.3", "10.0.0.2", ICMP, &[], &ping_v4(b""));
    assert!(classify(&four_only, &frame, false).is_ok());
}

/// Checks that what was read of `frame` lies inside of it.
fn assert_inside(frame: &[u8], packet: &Packet) {
    let (ip, inner) = match packet {
        Packet::Tcp(segment) => {
            let end = segment.options.end + segment.payload_len;
            assert_eq!(end, segment.ip.end);
            let _ = segment.timestamp(frame);
            (segment.ip.clone(), segment.options.clone())
        }
        Packet::Udp(datagram) => (datagram.ip.clone(), datagram.payload.clone()),
        Packet::Icmp(icmp) => (14..frame.len(), icmp.message.clone()),
        Packet::Arp(_) | Packet::Ndp(_) => return,
    };
    assert!(ip.start == 14 && ip.end <= frame.len(), "{packet:?}");
    assert!(ip.start <= inner.start && inner.start <= inner.end && inner.end <= ip.end);
}

#[test]
fn no_frame_panics_or_is_read_past_its_end() {
    let mut seeds: Vec<Vec<u8>> = dropped().into_iter().map(|(_, frame, _)| frame).collect();
    seeds.retain(|frame| frame.len() < 2000);
    seeds.extend([
        tcp_v4(),
        tcp_v6_behind(&[(0, PADDING)]),
        udp_v6_behind(&[(60, PADDING)]),
    ]);
    let (local, mut random) = (local(), Random::new(0xf00d));
    let mut accepted = 0;
    for _ in 0..200_000 {
        let seed = &seeds[random.below(seeds.len() as u64) as usize];
        let mut frame = seed.clone();
        for _ in 0..random.below(4) {
            let at = random.below(frame.len() as u64 + 1) as usize;
            match (random.below(3), frame.get_mut(at)) {
                (0, _) => frame.truncate(at),
                (1, Some(byte)) => *byte = random.next() as u8,
                (_, Some(byte)) => *byte ^= 1 << random.below(8),
                (_, None) => frame.push(random.next() as u8),
            }
        }
        // Vouched, so that most changes get past the transport's checksum.
        if let Ok(packet) = classify(&local, &frame, true) {
            accepted += 1;
            assert_inside(&frame, &packet);
        }
    }
    assert!(
        accepted > 1000,
        "{accepted} accepted: the changes go too far"
    );
}
