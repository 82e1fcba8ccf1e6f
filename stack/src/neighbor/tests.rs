//! The link on virtual time: frames are handed in as the shard would, and what
//! comes out is read back by our own checks as another host would apply them.

use smoltcp::wire::{Icmpv6Packet, Ipv6Packet};

use super::own::{ANNOUNCE_INTERVAL, DEFEND_INTERVAL};
use super::table::{ASK_INTERVAL, FAILED_HOLD, MAX_ASKS, MAX_ENTRIES};
use super::*;
use crate::ether::{self, group_mac};
use crate::ip::tests::frames::{OUR_MAC, PEER_MAC, local, v4, v6};
use crate::ip::{ALL_NODES, Packet, classify};

const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const LINK_LOCAL: &str = "fe80::ff:fe00:2";

/// Neighbours on a link of virtual time.
struct Link {
    neighbors: Neighbors,
    now: Nanos,
    sent: Vec<Vec<u8>>,
}

/// What a frame of ours says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Request {
        src: IpAddr,
        target: IpAddr,
    },
    Reply {
        src: IpAddr,
        target: IpAddr,
    },
    Solicit {
        src: IpAddr,
        target: IpAddr,
    },
    Advert {
        dst: IpAddr,
        target: IpAddr,
        solicited: bool,
    },
    Report {
        src: IpAddr,
        record: u8,
    },
}

impl Link {
    fn new(local: &Local, dad: bool) -> Link {
        Link {
            neighbors: Neighbors::with_dad(local, 0x5eed, dad),
            now: Nanos(1_000_000_000_000),
            sent: Vec::new(),
        }
    }

    /// A link whose addresses are ours and announced.
    fn settled() -> Link {
        let mut link = Link::new(&local(), true);
        link.run(Duration::from_secs(10));
        assert_eq!(
            link.neighbors.next_event(),
            None,
            "a quiet link needs no timer"
        );
        link.sent.clear();
        link
    }

    /// Polls at each event until `time` has passed.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let Some(due) = self.neighbors.next_event().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            let sent = &mut self.sent;
            self.neighbors
                .poll(self.now, &mut |f| sent.push(f.to_vec()));
        }
        panic!("polling does not get past {:?}", self.now);
    }

    fn resolve(&mut self, addr: &str) -> Resolution {
        let sent = &mut self.sent;
        let addr = addr.parse().unwrap();
        self.neighbors
            .resolve(self.now, addr, &mut |f| sent.push(f.to_vec()))
    }

    fn arp(&mut self, op: ArpOp, sender: (MacAddr, &str), target: &str) -> Option<IpAddr> {
        let packet = ArpPacket {
            op,
            sender_mac: sender.0,
            sender_ip: v4(sender.1),
            target_mac: MacAddr([0; 6]),
            target_ip: v4(target),
        };
        let sent = &mut self.sent;
        self.neighbors
            .on_arp(self.now, &packet, &mut |f| sent.push(f.to_vec()))
    }

    fn ndp(&mut self, src: (MacAddr, &str), message: NdpMessage) -> Option<IpAddr> {
        let packet = NdpPacket {
            src_mac: src.0,
            src: v6(src.1),
            message,
        };
        let sent = &mut self.sent;
        self.neighbors
            .on_ndp(self.now, &packet, &mut |f| sent.push(f.to_vec()))
    }

    fn advert(&mut self, mac: MacAddr, addr: &str, flags: &str) -> Option<IpAddr> {
        let message = NdpMessage::Advert {
            target: v6(addr),
            target_mac: flags.contains('T').then_some(mac),
            solicited: flags.contains('S'),
            overrides: flags.contains('O'),
        };
        self.ndp((mac, addr), message)
    }

    fn solicit(&mut self, src: (MacAddr, &str), target: &str) -> Option<IpAddr> {
        let is_probe = v6(src.1).is_unspecified();
        let message = NdpMessage::Solicit {
            target: v6(target),
            source_mac: (!is_probe).then_some(src.0),
        };
        self.ndp(src, message)
    }

    /// What was sent since last asked, each with the station or group it went to.
    fn said(&mut self) -> Vec<(MacAddr, Said)> {
        let sent = std::mem::take(&mut self.sent);
        sent.iter().map(|frame| said(frame)).collect()
    }

    #[track_caller]
    fn assert_usable(&self, addr: &str, want: bool) {
        assert_eq!(self.neighbors.usable(addr.parse().unwrap()), want, "{addr}");
    }
}

/// Reads a frame as a stranger who is in every group would.
fn said(frame: &[u8]) -> (MacAddr, Said) {
    let header = ether::parse(frame).unwrap();
    assert_eq!(header.src, OUR_MAC);
    if header.ethertype == ether::ARP {
        assert_eq!(frame.len(), 60);
        let packet = ArpPacket::parse(&frame[14..]).unwrap();
        assert_eq!(packet.sender_mac, OUR_MAC);
        let (src, target) = (packet.sender_ip.into(), packet.target_ip.into());
        let said = match packet.op {
            ArpOp::Request => Said::Request { src, target },
            ArpOp::Reply => Said::Reply { src, target },
        };
        return (header.dst, said);
    }
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    let (src, dst) = (packet.src_addr(), packet.dst_addr());
    if dst.is_multicast() {
        assert_eq!(header.dst, group_mac(dst));
    }
    let hop_by_hop = usize::from(frame[20] == 0) * 8;
    let bytes = &packet.payload()[hop_by_hop..];
    let message = Icmpv6Packet::new_checked(bytes);
    if bytes[0] != 143 {
        assert!(message.unwrap().verify_checksum(&src, &dst));
    }
    let said = match bytes[0] {
        135 => {
            let got = NdpPacket::parse_solicit(OUR_MAC, src, dst, packet.hop_limit(), bytes);
            let NdpMessage::Solicit { target, source_mac } = got.unwrap().message else {
                unreachable!();
            };
            assert_eq!(source_mac, (!src.is_unspecified()).then_some(OUR_MAC));
            let (src, target) = (src.into(), target.into());
            Said::Solicit { src, target }
        }
        136 => {
            let got = NdpPacket::parse_advert(OUR_MAC, src, dst, packet.hop_limit(), bytes);
            let NdpMessage::Advert {
                target,
                target_mac,
                solicited,
                overrides,
            } = got.unwrap().message
            else {
                unreachable!();
            };
            assert_eq!((target_mac, overrides, src), (Some(OUR_MAC), true, target));
            let (dst, target) = (dst.into(), target.into());
            Said::Advert {
                dst,
                target,
                solicited,
            }
        }
        143 => {
            assert_eq!((dst, packet.hop_limit()), (v6("ff02::16"), 1));
            assert_eq!(&packet.payload()[..8], &[58, 0, 5, 2, 0, 0, 1, 0]);
            // The two addresses end alike, so they share a group.
            assert_eq!((&bytes[6..8], bytes.len()), (&[0, 1][..], 28));
            assert_eq!(bytes[12..], v6("ff02::1:ff00:2").octets());
            let (src, record) = (src.into(), bytes[8]);
            Said::Report { src, record }
        }
        other => panic!("ICMPv6 type {other}"),
    };
    (header.dst, said)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn announcement(addr: &str) -> (MacAddr, Said) {
    match ip(addr) {
        IpAddr::V4(_) => {
            let (src, target) = (ip(addr), ip(addr));
            (MacAddr::BROADCAST, Said::Request { src, target })
        }
        IpAddr::V6(_) => {
            let (dst, target) = (ALL_NODES.into(), ip(addr));
            let solicited = false;
            (
                group_mac(ALL_NODES),
                Said::Advert {
                    dst,
                    target,
                    solicited,
                },
            )
        }
    }
}

fn ask(src: &str, target: &str, of: Option<MacAddr>) -> (MacAddr, Said) {
    let (src, target) = (ip(src), ip(target));
    match target {
        IpAddr::V4(_) => (
            of.unwrap_or(MacAddr::BROADCAST),
            Said::Request { src, target },
        ),
        IpAddr::V6(addr) => {
            let group = group_mac(solicited_node(addr));
            (of.unwrap_or(group), Said::Solicit { src, target })
        }
    }
}

fn report(src: &str, record: u8) -> (MacAddr, Said) {
    let src = ip(src);
    (group_mac(v6("ff02::16")), Said::Report { src, record })
}

#[test]
fn ipv4_is_used_at_once_and_ipv6_after_nobody_objects() {
    let mut link = Link::new(&local(), true);
    link.assert_usable("10.0.0.2", true);
    link.assert_usable("fd00::2", false);
    link.run(Duration::ZERO);
    assert_eq!(link.said(), [report("::", 4), announcement("10.0.0.2")]);
    link.run(Duration::from_secs(1));
    let mut probes = link.said();
    probes.retain(|(_, said)| matches!(said, Said::Solicit { .. }));
    probes.sort_by_key(|(_, said)| format!("{said:?}"));
    assert_eq!(
        probes,
        [ask("::", "fd00::2", None), ask("::", LINK_LOCAL, None)]
    );
    link.run(Duration::from_secs(1));
    link.assert_usable("fd00::2", true);
    link.assert_usable(LINK_LOCAL, true);
    link.run(Duration::from_secs(8));
    let said = link.said();
    for (what, times) in [
        (announcement("fd00::2"), 2),
        (announcement(LINK_LOCAL), 2),
        (announcement("10.0.0.2"), 1),
        (report(LINK_LOCAL, 4), 1),
    ] {
        assert_eq!(
            said.iter().filter(|said| **said == what).count(),
            times,
            "{what:?}"
        );
    }
    assert_eq!(said.len(), 6);
    assert_eq!(link.neighbors.next_event(), None);
}

#[test]
fn without_detection_every_address_is_used_at_once() {
    let mut link = Link::new(&local(), false);
    link.assert_usable("fd00::2", true);
    link.run(Duration::ZERO);
    let want = [
        report(LINK_LOCAL, 4),
        announcement("10.0.0.2"),
        announcement("fd00::2"),
        announcement(LINK_LOCAL),
    ];
    assert_eq!(link.said(), want);
    link.run(ANNOUNCE_INTERVAL - Duration::from_nanos(1));
    assert_eq!(link.said(), []);
    link.run(Duration::from_nanos(1));
    assert_eq!(link.said(), want[1..]);
}

#[test]
fn ipv4_alone_says_nothing_of_ipv6() {
    let local = Local {
        mac: OUR_MAC,
        cidrs: vec!["10.0.0.2/24".parse().unwrap()],
        is_shared: false,
    };
    let mut link = Link::new(&local, true);
    link.run(Duration::from_secs(60));
    assert_eq!(
        link.said(),
        [announcement("10.0.0.2"), announcement("10.0.0.2")]
    );
    assert_eq!(link.neighbors.next_event(), None);
}

#[test]
fn a_tentative_address_answers_nothing_and_yields() {
    for (by_probe, after_ms) in [(false, 0), (true, 0), (false, 999), (true, 999)] {
        let mut link = Link::new(&local(), true);
        link.run(Duration::from_millis(after_ms));
        link.sent.clear();
        link.solicit((PEER_MAC, "fd00::1"), "fd00::2");
        assert_eq!(link.said(), [], "tentative");
        match by_probe {
            true => link.solicit((OTHER_MAC, "::"), "fd00::2"),
            false => link.advert(OTHER_MAC, "fd00::2", "TO"),
        };
        let conflict = Conflict {
            addr: ip("fd00::2"),
            mac: OTHER_MAC,
        };
        assert_eq!(link.neighbors.take_conflict(), Some(conflict));
        link.run(Duration::from_secs(60));
        link.assert_usable("fd00::2", false);
        link.assert_usable(LINK_LOCAL, true);
        assert!(!link.said().contains(&announcement("fd00::2")));
        link.solicit((PEER_MAC, "fd00::1"), "fd00::2");
        link.advert(OTHER_MAC, "fd00::2", "TO");
        assert_eq!(link.said(), []);
        assert_eq!(link.neighbors.stats().duplicates, 1);
    }
}

#[test]
fn questions_for_us_are_answered_to_the_asker() {
    let mut link = Link::settled();
    link.arp(ArpOp::Request, (PEER_MAC, "10.0.0.1"), "10.0.0.2");
    let (src, target) = (ip("10.0.0.2"), ip("10.0.0.1"));
    assert_eq!(link.said(), [(PEER_MAC, Said::Reply { src, target })]);
    link.arp(ArpOp::Request, (PEER_MAC, "10.0.0.1"), "10.0.0.3");
    assert_eq!(link.said(), []);
    for target in ["fd00::2", LINK_LOCAL] {
        link.solicit((PEER_MAC, "fd00::1"), target);
        let (dst, target, solicited) = (ip("fd00::1"), ip(target), true);
        assert_eq!(
            link.said(),
            [(
                PEER_MAC,
                Said::Advert {
                    dst,
                    target,
                    solicited
                }
            )]
        );
    }
    link.solicit((PEER_MAC, "fd00::1"), "fd00::3");
    assert_eq!(link.said(), []);
    assert_eq!(link.neighbors.stats().answered, 3);
}

#[test]
fn probes_for_our_addresses_are_answered_and_teach_nothing() {
    let mut link = Link::settled();
    link.arp(ArpOp::Request, (PEER_MAC, "0.0.0.0"), "10.0.0.2");
    let (src, target) = (ip("10.0.0.2"), ip("0.0.0.0"));
    assert_eq!(link.said(), [(PEER_MAC, Said::Reply { src, target })]);
    link.solicit((PEER_MAC, "::"), "fd00::2");
    assert_eq!(link.said(), [announcement("fd00::2")]);
    assert_eq!(link.neighbors.table.len(), 0);
    assert_eq!(link.neighbors.take_conflict(), None);
}

#[test]
fn our_addresses_are_defended_now_and_then() {
    for addr in ["10.0.0.2", "fd00::2"] {
        let mut link = Link::settled();
        let claim = |link: &mut Link| match addr {
            "fd00::2" => link.advert(OTHER_MAC, addr, "TO"),
            _ => link.arp(ArpOp::Request, (OTHER_MAC, addr), addr),
        };
        let conflict = Some(Conflict {
            addr: ip(addr),
            mac: OTHER_MAC,
        });
        for _ in 0..100 {
            claim(&mut link);
        }
        assert_eq!(link.said(), [announcement(addr)]);
        assert_eq!(link.neighbors.take_conflict(), conflict);
        assert_eq!(link.neighbors.take_conflict(), None);
        link.run(DEFEND_INTERVAL - Duration::from_nanos(1));
        claim(&mut link);
        assert_eq!(link.said(), []);
        link.run(Duration::from_nanos(1));
        claim(&mut link);
        assert_eq!(link.said(), [announcement(addr)]);
        assert_eq!(link.neighbors.take_conflict(), conflict);
        assert_eq!(link.neighbors.stats().conflicts, 102);
        link.assert_usable(addr, true);
    }
}

#[test]
fn asking_is_repeated_and_then_given_up_for_a_while() {
    for (own, peer) in [
        ("10.0.0.2", "10.0.0.7"),
        ("fd00::2", "fd00::7"),
        (LINK_LOCAL, "fe80::7"),
    ] {
        let mut link = Link::settled();
        assert_eq!(link.resolve(peer), Resolution::Pending);
        assert_eq!(link.said(), [ask(own, peer, None)]);
        for _ in 1..MAX_ASKS {
            link.run(ASK_INTERVAL - Duration::from_nanos(1));
            assert_eq!(link.resolve(peer), Resolution::Pending);
            assert_eq!(link.said(), [], "too early for {peer}");
            link.run(Duration::from_nanos(1));
            assert_eq!(link.said(), [ask(own, peer, None)]);
        }
        link.run(ASK_INTERVAL);
        assert_eq!(link.resolve(peer), Resolution::Failed);
        assert_eq!(link.neighbors.next_event(), None);
        link.run(FAILED_HOLD);
        assert_eq!(link.said(), []);
        assert_eq!(link.resolve(peer), Resolution::Pending);
        assert_eq!(link.said(), [ask(own, peer, None)]);
    }
}

#[test]
fn an_answer_is_reported_and_holds_for_a_while() {
    let mut link = Link::settled();
    for peer in ["10.0.0.7", "fd00::7"] {
        link.resolve(peer);
        let got = match ip(peer) {
            IpAddr::V4(_) => link.arp(ArpOp::Reply, (PEER_MAC, peer), "10.0.0.2"),
            IpAddr::V6(_) => link.advert(PEER_MAC, peer, "TSO"),
        };
        assert_eq!(got, Some(ip(peer)));
        link.sent.clear();
        link.run(Duration::from_secs(14));
        assert_eq!(link.resolve(peer), Resolution::Known(PEER_MAC));
        assert_eq!(link.said(), [], "still reachable");
        link.run(Duration::from_secs(32));
        assert_eq!(
            link.resolve(peer),
            Resolution::Known(PEER_MAC),
            "stale serves"
        );
        let own = if peer.contains(':') {
            "fd00::2"
        } else {
            "10.0.0.2"
        };
        assert_eq!(link.said(), [ask(own, peer, Some(PEER_MAC))]);
        link.run(ASK_INTERVAL);
        assert_eq!(link.said(), [ask(own, peer, None)], "then all are asked");
        assert_eq!(link.resolve(peer), Resolution::Known(PEER_MAC));
        link.run(2 * ASK_INTERVAL);
        assert_eq!(link.resolve(peer), Resolution::Failed);
        link.sent.clear();
    }
}

#[test]
fn a_silent_peer_delays_no_other() {
    let mut link = Link::settled();
    for silent in 10..30 {
        link.resolve(&format!("10.0.0.{silent}"));
    }
    link.sent.clear();
    assert_eq!(link.resolve("10.0.0.7"), Resolution::Pending);
    assert_eq!(link.said(), [ask("10.0.0.2", "10.0.0.7", None)]);
    link.arp(ArpOp::Reply, (PEER_MAC, "10.0.0.7"), "10.0.0.2");
    assert_eq!(link.resolve("10.0.0.7"), Resolution::Known(PEER_MAC));
    link.run(Duration::from_secs(10));
    assert_eq!(link.neighbors.stats().failed, 20);
    assert_eq!(link.resolve("10.0.0.7"), Resolution::Known(PEER_MAC));
}

#[test]
fn only_what_was_asked_for_or_asks_us_is_learned() {
    let mut link = Link::settled();
    let zero = MacAddr([0; 6]);
    for (op, mac, sender, target) in [
        (ArpOp::Reply, PEER_MAC, "10.0.0.7", "10.0.0.2"),
        (ArpOp::Request, PEER_MAC, "10.0.0.7", "10.0.0.7"),
        (ArpOp::Request, PEER_MAC, "10.0.0.7", "10.0.0.3"),
        (ArpOp::Request, PEER_MAC, "192.0.2.7", "10.0.0.2"),
        (ArpOp::Request, MacAddr::BROADCAST, "10.0.0.7", "10.0.0.2"),
        (ArpOp::Request, zero, "10.0.0.7", "10.0.0.2"),
    ] {
        assert_eq!(link.arp(op, (mac, sender), target), None);
        assert_eq!(
            link.neighbors.table.len(),
            0,
            "{op:?} {mac} {sender} {target}"
        );
    }
    link.advert(PEER_MAC, "fd00::7", "TSO");
    link.solicit((PEER_MAC, "2001:db8::7"), "fd00::2");
    assert_eq!(link.neighbors.table.len(), 0);
    link.arp(ArpOp::Request, (PEER_MAC, "10.0.0.7"), "10.0.0.2");
    link.solicit((PEER_MAC, "fe80::7"), "fd00::2");
    assert_eq!(link.neighbors.table.len(), 2);
    assert_eq!(link.resolve("10.0.0.7"), Resolution::Known(PEER_MAC));
    assert_eq!(link.resolve("fe80::7"), Resolution::Known(PEER_MAC));
    // A group's address answers nothing.
    link.resolve("10.0.0.8");
    link.arp(ArpOp::Reply, (MacAddr::BROADCAST, "10.0.0.8"), "10.0.0.2");
    assert_eq!(link.resolve("10.0.0.8"), Resolution::Pending);
}

#[test]
fn what_is_known_is_replaced_only_by_an_answer() {
    let mut link = Link::settled();
    let gratuitous = |link: &mut Link, addr: &str| match ip(addr) {
        IpAddr::V4(_) => link.arp(ArpOp::Request, (OTHER_MAC, addr), addr),
        IpAddr::V6(_) => link.advert(OTHER_MAC, addr, "TO"),
    };
    let answer = |link: &mut Link, mac: MacAddr, addr: &str| match ip(addr) {
        IpAddr::V4(_) => link.arp(ArpOp::Reply, (mac, addr), "10.0.0.2"),
        IpAddr::V6(_) => link.advert(mac, addr, "TSO"),
    };
    for (own, peer) in [("10.0.0.2", "10.0.0.7"), ("fd00::2", "fd00::7")] {
        link.resolve(peer);
        answer(&mut link, PEER_MAC, peer);
        link.sent.clear();
        gratuitous(&mut link, peer);
        assert_eq!(link.said(), [ask(own, peer, None)]);
        assert_eq!(link.resolve(peer), Resolution::Known(PEER_MAC));
        answer(&mut link, PEER_MAC, peer);
        assert_eq!(link.resolve(peer), Resolution::Known(PEER_MAC));
        gratuitous(&mut link, peer);
        answer(&mut link, OTHER_MAC, peer);
        assert_eq!(link.resolve(peer), Resolution::Known(OTHER_MAC));
        link.sent.clear();
    }
    assert_eq!(link.neighbors.stats().contradictions, 4);
    // Without the override flag, nothing is even asked (RFC 4861 §7.2.5).
    link.advert(PEER_MAC, "fd00::7", "TS");
    assert_eq!(link.said(), []);
}

#[test]
fn a_flood_of_askers_is_bounded_and_displaces_none_in_use() {
    let mut link = Link::settled();
    link.resolve("10.0.0.7");
    link.arp(ArpOp::Reply, (PEER_MAC, "10.0.0.7"), "10.0.0.2");
    for host in 0..5 * MAX_ENTRIES {
        let addr = format!("fd00::1:{host:x}");
        link.solicit((OTHER_MAC, &addr), "fd00::2");
    }
    assert_eq!(link.neighbors.table.len(), MAX_ENTRIES);
    assert_eq!(link.resolve("10.0.0.7"), Resolution::Known(PEER_MAC));
    // Dialling gets in even then, and even when everything else is dialled.
    for host in 0..2 * MAX_ENTRIES {
        let addr = format!("fd00::2:{host:x}");
        assert_eq!(link.resolve(&addr), Resolution::Pending, "{addr}");
    }
    assert_eq!(link.neighbors.table.len(), MAX_ENTRIES);
    assert!(link.neighbors.stats().evicted > MAX_ENTRIES as u64);
    link.run(Duration::from_secs(5));
    assert_eq!(link.neighbors.next_event(), None);
}

#[test]
fn listener_queries_are_answered_within_their_time() {
    let mut link = Link::settled();
    let query = |group: &str| NdpMessage::Query {
        group: v6(group),
        max_delay: Duration::from_secs(10),
    };
    link.ndp((PEER_MAC, "fe80::1"), query("ff02::1:ff00:9"));
    assert_eq!(link.neighbors.next_event(), None, "not our group");
    for group in ["::", "ff02::1:ff00:2"] {
        for _ in 0..50 {
            link.ndp((PEER_MAC, "fe80::1"), query(group));
        }
        link.run(Duration::from_secs(10));
        assert_eq!(
            link.said(),
            [report(LINK_LOCAL, 2)],
            "one answer to all of them"
        );
    }
}

#[test]
fn nothing_is_asked_for_what_cannot_answer() {
    let mut link = Link::settled();
    for addr in [
        "10.0.0.2",
        "224.0.0.1",
        "0.0.0.0",
        "fd00::2",
        "ff02::1",
        "::",
    ] {
        assert_eq!(link.resolve(addr), Resolution::Failed, "{addr}");
    }
    assert_eq!(link.said(), []);
    // A gateway outside of our networks is asked for from our first address.
    link.resolve("192.0.2.1");
    assert_eq!(link.said(), [ask("10.0.0.2", "192.0.2.1", None)]);
}

/// Hands each frame to `to` as its shard would; the neighbours found by it.
fn deliver(
    frames: Vec<Vec<u8>>,
    now: Nanos,
    (local, to): (&Local, &mut Neighbors),
    back: &mut Vec<Vec<u8>>,
) -> Vec<IpAddr> {
    let mut out = |frame: &[u8]| back.push(frame.to_vec());
    let mut found = Vec::new();
    for frame in frames {
        found.extend(match classify(local, &frame, false) {
            Ok(Packet::Arp(packet)) => to.on_arp(now, &packet, &mut out),
            Ok(Packet::Ndp(packet)) => to.on_ndp(now, &packet, &mut out),
            _ => None,
        });
    }
    found
}

fn peer_with(cidrs: [&str; 2]) -> Local {
    Local {
        mac: PEER_MAC,
        cidrs: cidrs.map(|cidr| cidr.parse().unwrap()).to_vec(),
        is_shared: false,
    }
}

/// Two stacks on a wire, polled for 20 s; `a` asks for `wanted` after 5 s.
fn run_both(
    (ours, a): (&Local, &mut Neighbors),
    (theirs, b): (&Local, &mut Neighbors),
    wanted: &[&str],
) -> Vec<IpAddr> {
    let (mut to_a, mut to_b, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for tick in 1..=200_u64 {
        let now = Nanos(tick * 100_000_000);
        a.poll(now, &mut |f| to_b.push(f.to_vec()));
        b.poll(now, &mut |f| to_a.push(f.to_vec()));
        for peer in wanted.iter().filter(|_| tick == 50) {
            a.resolve(now, ip(peer), &mut |f| to_b.push(f.to_vec()));
        }
        let frames = std::mem::take(&mut to_b);
        deliver(frames, now, (theirs, b), &mut to_a);
        let frames = std::mem::take(&mut to_a);
        found.extend(deliver(frames, now, (ours, a), &mut to_b));
    }
    found.sort();
    found
}

#[test]
fn two_stacks_find_each_other_through_their_own_frames() {
    let (ours, theirs) = (local(), peer_with(["10.0.0.1/24", "fd00::1/64"]));
    let (mut a, mut b) = (Neighbors::new(&ours, 1), Neighbors::new(&theirs, 2));
    let wanted = ["10.0.0.1", "fd00::1", "fe80::ff:fe00:1"];
    let found = run_both((&ours, &mut a), (&theirs, &mut b), &wanted);
    assert_eq!(found, wanted.map(ip));
    for peer in ["10.0.0.2", "fd00::2", LINK_LOCAL] {
        let known = b.resolve(Nanos(20_000_000_000), ip(peer), &mut |_| {});
        assert_eq!(
            known,
            Resolution::Known(OUR_MAC),
            "learned from its questions"
        );
    }
    assert_eq!((a.take_conflict(), b.take_conflict()), (None, None));
}

#[test]
fn of_two_stacks_with_one_address_the_later_yields() {
    let (ours, theirs) = (local(), peer_with(["10.0.0.1/24", "fd00::2/64"]));
    let mut a = Neighbors::new(&ours, 1);
    let mut b = Neighbors::with_dad(&theirs, 2, false);
    run_both((&ours, &mut a), (&theirs, &mut b), &[]);
    assert!(!a.usable(ip("fd00::2")) && b.usable(ip("fd00::2")));
    assert!(a.usable(ip(LINK_LOCAL)));
    let conflict = Conflict {
        addr: ip("fd00::2"),
        mac: PEER_MAC,
    };
    assert_eq!(
        (a.take_conflict(), a.take_conflict()),
        (Some(conflict), None)
    );
    assert_eq!(b.take_conflict(), None);
}
