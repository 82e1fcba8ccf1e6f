use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use super::*;
use crate::ip::tests::frames::{
    OUR_MAC, PEER_MAC, from_peer, local, ping_v4, ping_v6, udp_bytes, v4, v4_frame, v6, v6_frame,
};
use crate::ip::{ICMP, ICMPV6, Packet, UDP, classify};

fn reply_to(frame: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0xee; 99];
    let answered = match classify(&local(), frame, false) {
        Ok(Packet::Icmp(request)) => echo_reply(&local(), &request, frame, &mut out),
        other => panic!("not ICMP: {other:?}"),
    };
    assert_eq!(answered, !out.is_empty());
    answered.then_some(out)
}

fn unreachable_for(frame: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0xee; 99];
    let answered = match classify(&local(), frame, false) {
        Ok(Packet::Udp(datagram)) => port_unreachable(&local(), &datagram, frame, &mut out),
        other => panic!("not UDP: {other:?}"),
    };
    assert_eq!(answered, !out.is_empty());
    answered.then_some(out)
}

fn assert_header(frame: &[u8], ethertype: u16) {
    let want = ether::Header {
        src: OUR_MAC,
        dst: PEER_MAC,
        ethertype,
    };
    assert_eq!(ether::parse(frame), Ok(want));
}

/// The ICMP message of an IPv4 frame of ours, checksums verified by smoltcp.
#[track_caller]
fn read_v4(frame: &[u8], check: impl FnOnce(Ipv4Repr, Icmpv4Repr<'_>)) {
    let checks = ChecksumCapabilities::default();
    assert_header(frame, ether::IPV4);
    let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    let ip = Ipv4Repr::parse(&packet, &checks).unwrap();
    let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
    check(ip, Icmpv4Repr::parse(&message, &checks).unwrap());
}

/// The same for IPv6.
#[track_caller]
fn read_v6(frame: &[u8], check: impl FnOnce(Ipv6Repr, Icmpv6Repr<'_>)) {
    let checks = ChecksumCapabilities::default();
    assert_header(frame, ether::IPV6);
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    let ip = Ipv6Repr::parse(&packet).unwrap();
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    let repr = Icmpv6Repr::parse(&ip.src_addr, &ip.dst_addr, &message, &checks);
    check(ip, repr.unwrap());
}

#[test]
fn pings_are_answered_with_their_data() {
    for len in [0, 1, 56, 1472] {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let reply = reply_to(&from_peer(ICMP, &ping_v4(&data))).unwrap();
        read_v4(&reply, |ip, message| {
            assert_eq!((ip.src_addr, ip.dst_addr), (v4("10.0.0.2"), v4("10.0.0.1")));
            let want = Icmpv4Repr::EchoReply {
                ident: 0x1234,
                seq_no: 7,
                data: &data,
            };
            assert_eq!(message, want);
        });
        let ping = ping_v6("fd00::1", "fd00::2", &data);
        let reply = reply_to(&v6_frame("fd00::1", "fd00::2", 64, &[], ICMPV6, &ping)).unwrap();
        read_v6(&reply, |ip, message| {
            assert_eq!((ip.src_addr, ip.dst_addr), (v6("fd00::2"), v6("fd00::1")));
            let want = Icmpv6Repr::EchoReply {
                ident: 0x1234,
                seq_no: 7,
                data: &data,
            };
            assert_eq!(message, want);
        });
    }
}

#[test]
fn a_ping_to_many_is_answered_only_over_ipv6() {
    let to_all = v4_frame("10.0.0.1", "10.0.0.255", ICMP, &[], &ping_v4(b"x"));
    assert_eq!(reply_to(&to_all), None);
    let ping = ping_v6("fe80::1", "ff02::1", b"x");
    let reply = reply_to(&v6_frame("fe80::1", "ff02::1", 64, &[], ICMPV6, &ping)).unwrap();
    read_v6(&reply, |ip, _| {
        assert_eq!(ip.src_addr, v6("fe80::ff:fe00:2"));
    });
}

#[test]
fn only_requests_are_answered() {
    for (kind, code) in [(0, 0), (3, 3), (8, 1), (13, 0), (128, 0)] {
        let mut message = [kind, code, 0, 0, 0, 0, 0, 0];
        let checksum = Sum::of(&message).checksum();
        message[2..4].copy_from_slice(&checksum);
        assert_eq!(reply_to(&from_peer(ICMP, &message)), None, "type {kind}");
    }
}

/// The packet that an error of ours quotes. smoltcp's `Repr` refuses one that is
/// cut short, so this reads less of it.
#[track_caller]
fn quoted_v4(error: &[u8]) -> &[u8] {
    assert_header(error, ether::IPV4);
    let packet = Ipv4Packet::new_checked(&error[14..]).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!(
        (packet.src_addr(), packet.dst_addr()),
        (v4("10.0.0.2"), v4("10.0.0.1"))
    );
    let message = Icmpv4Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum());
    assert_eq!(&error[34..36], [3, 3]);
    assert_eq!(&error[38..42], [0; 4]);
    &error[42..]
}

/// The same for IPv6.
#[track_caller]
fn quoted_v6(error: &[u8]) -> &[u8] {
    assert_header(error, ether::IPV6);
    let packet = Ipv6Packet::new_checked(&error[14..]).unwrap();
    let (src, dst) = (packet.src_addr(), packet.dst_addr());
    assert_eq!((src, dst), (v6("fd00::2"), v6("fd00::1")));
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(&src, &dst));
    assert_eq!(&error[54..56], [1, 4]);
    assert_eq!(&error[58..62], [0; 4]);
    &error[62..]
}

#[test]
fn a_closed_port_is_told_with_as_much_of_the_packet_as_fits() {
    for len in [0, 20, 519, 520, 521, 1472] {
        let datagram = udp_bytes("10.0.0.1", "10.0.0.2", &vec![7; len]);
        let frame = from_peer(UDP, &datagram);
        let error = unreachable_for(&frame).unwrap();
        let want = (28 + len).min(576 - 28);
        assert_eq!(quoted_v4(&error), &frame[14..14 + want], "{len}");
    }
    for len in [0, 1183, 1184, 1185, 1440] {
        let datagram = udp_bytes("fd00::1", "fd00::2", &vec![7; len]);
        let frame = v6_frame("fd00::1", "fd00::2", 64, &[], UDP, &datagram);
        let error = unreachable_for(&frame).unwrap();
        let want = (48 + len).min(1280 - 48);
        assert_eq!(quoted_v6(&error), &frame[14..14 + want], "{len}");
    }
}

#[test]
fn errors_are_never_about_what_was_for_many() {
    for dst in ["10.0.0.255", "255.255.255.255"] {
        let datagram = udp_bytes("10.0.0.1", dst, b"x");
        let frame = v4_frame("10.0.0.1", dst, UDP, &[], &datagram);
        assert_eq!(unreachable_for(&frame), None, "{dst}");
    }
    let datagram = udp_bytes("fd00::1", "ff02::1", b"x");
    let frame = v6_frame("fd00::1", "ff02::1", 64, &[], UDP, &datagram);
    assert_eq!(unreachable_for(&frame), None);
}

#[test]
fn the_limit_lets_a_burst_through_and_then_a_steady_rate() {
    let ms = |ms: u64| Nanos(5_000_000_000 + ms * 1_000_000);
    let mut limit = RateLimit::new(10, 3);
    let allowed = |limit: &mut RateLimit, at: Nanos| (0..9).filter(|_| limit.allow(at)).count();
    assert_eq!(allowed(&mut limit, ms(0)), 3);
    assert_eq!(allowed(&mut limit, ms(99)), 0);
    assert_eq!(allowed(&mut limit, ms(100)), 1);
    assert_eq!(allowed(&mut limit, ms(350)), 2);
    assert_eq!(
        allowed(&mut limit, ms(60_000)),
        3,
        "the bucket holds no more"
    );
    assert_eq!(limit.refused(), 5 * 9 - 9);
    // No rate and no burst still let something through, and never divide by zero.
    assert!(RateLimit::new(0, 0).allow(Nanos::ZERO));
}
