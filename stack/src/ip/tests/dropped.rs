//! Frames that must go no further.

use super::frames::*;
use crate::MacAddr;
use crate::ether;
use crate::ip::{DropCause, ICMP, ICMPV6, TCP, UDP};

/// Frames that are dropped, each for exactly one cause.
pub(super) fn dropped() -> Vec<(&'static str, Vec<u8>, DropCause)> {
    let mut table = dropped_below_transport();
    table.extend(dropped_extensions());
    table.extend(dropped_transport());
    table.extend(dropped_discovery());
    table
}

fn dropped_below_transport() -> Vec<(&'static str, Vec<u8>, DropCause)> {
    use DropCause::*;
    let tcp = tcp_v4();
    let six = tcp_v6_behind(&[]);
    let edited = |at: usize, value: u8| changed(&tcp, |f| f[at] = value);
    let ping = ping_v4(b"abcdefgh");
    vec![
        ("no header", vec![0; 13], Truncated),
        ("no IPv4 header", tcp[..33].to_vec(), Truncated),
        ("cut IPv4 packet", tcp[..tcp.len() - 1].to_vec(), Truncated),
        ("no IPv6 header", six[..53].to_vec(), Truncated),
        ("cut IPv6 packet", six[..six.len() - 1].to_vec(), Truncated),
        ("giant", vec![0; ether::MAX_FRAME_LEN + 1], Oversized),
        ("802.1Q", edited(12, 0x81), Vlan),
        (
            "LLC",
            frame(OUR_MAC, PEER_MAC, 38, &[0x42; 38]),
            UnknownEthertype,
        ),
        (
            "LLDP to us",
            frame(OUR_MAC, PEER_MAC, 0x88cc, &[]),
            UnknownEthertype,
        ),
        ("another station", edited(5, 9), ForeignMac),
        (
            "spanning tree",
            frame(MacAddr([1, 0x80, 0xc2, 0, 0, 0]), PEER_MAC, 38, &[0; 38]),
            ForeignMac,
        ),
        (
            "another's solicited-node group",
            frame(
                MacAddr([0x33, 0x33, 0xff, 0, 0, 9]),
                PEER_MAC,
                0x86dd,
                &[0; 40],
            ),
            ForeignMac,
        ),
        ("from a group", edited(6, 1), BadSourceMac),
        (
            "from nobody",
            changed(&tcp, |f| f[6..12].fill(0)),
            BadSourceMac,
        ),
        ("from our own MAC", edited(11, 2), OwnSourceMac),
        ("IPv6 as IPv4", edited(14, 0x65), BadVersion),
        ("IPv4 as IPv6", changed(&six, |f| f[14] = 0x45), BadVersion),
        ("short header length", edited(14, 0x44), BadLength),
        (
            "total length below header",
            changed(&tcp, |f| f[16..18].fill(0)),
            BadLength,
        ),
        (
            "header checksum",
            {
                let mut frame = tcp.clone();
                frame[22] ^= 1;
                frame
            },
            BadHeaderChecksum,
        ),
        (
            "option past the header",
            v4_frame("10.0.0.1", "10.0.0.2", ICMP, &[7, 40, 0, 0], &ping),
            BadOptions,
        ),
        (
            "option without length",
            v4_frame("10.0.0.1", "10.0.0.2", ICMP, &[1, 1, 1, 7], &ping),
            BadOptions,
        ),
        (
            "option of length 0",
            v4_frame("10.0.0.1", "10.0.0.2", ICMP, &[7, 0, 0, 0], &ping),
            BadOptions,
        ),
        (
            "loose source route",
            v4_frame("10.0.0.1", "10.0.0.2", ICMP, &[131, 3, 4, 0], &ping),
            SourceRoute,
        ),
        (
            "strict source route after no-op",
            v4_frame("10.0.0.1", "10.0.0.2", ICMP, &[1, 137, 3, 4], &ping),
            SourceRoute,
        ),
        ("first fragment", edited(20, 0x20), Fragment),
        ("later fragment", edited(21, 0x08), Fragment),
        (
            "another's address",
            tcp_between("10.0.0.1", "10.0.0.3"),
            ForeignAddr,
        ),
        (
            "another's IPv6 address",
            tcp_between("fd00::1", "fd00::3"),
            ForeignAddr,
        ),
        (
            "IPv4 group in our frame",
            tcp_between("10.0.0.1", "224.0.0.1"),
            ForeignAddr,
        ),
        (
            "nothing to all nodes",
            v6_frame("fd00::1", "ff02::1", 1, &[], 59, &[]),
            UnknownProtocol,
        ),
        (
            "from multicast",
            tcp_between("224.0.0.1", "10.0.0.2"),
            BadSource,
        ),
        (
            "from broadcast",
            tcp_between("255.255.255.255", "10.0.0.2"),
            BadSource,
        ),
        (
            "from the network's broadcast",
            tcp_between("10.0.0.255", "10.0.0.2"),
            BadSource,
        ),
        (
            "from unspecified",
            tcp_between("0.0.0.0", "10.0.0.2"),
            BadSource,
        ),
        (
            "from this network",
            tcp_between("0.1.2.3", "10.0.0.2"),
            BadSource,
        ),
        (
            "from loopback",
            tcp_between("127.0.0.1", "10.0.0.2"),
            BadSource,
        ),
        (
            "from IPv6 multicast",
            tcp_between("ff02::1", "fd00::2"),
            BadSource,
        ),
        (
            "from IPv6 loopback",
            tcp_between("::1", "fd00::2"),
            BadSource,
        ),
        (
            "from IPv6 unspecified",
            tcp_between("::", "fd00::2"),
            BadSource,
        ),
        (
            "from mapped IPv4",
            tcp_between("::ffff:10.0.0.1", "fd00::2"),
            BadSource,
        ),
        ("land", tcp_between("10.0.0.2", "10.0.0.2"), OwnSource),
        ("IPv6 land", tcp_between("fd00::2", "fd00::2"), OwnSource),
        (
            "link-local land",
            tcp_between("fe80::ff:fe00:2", "fd00::2"),
            OwnSource,
        ),
        (
            "broadcast frame",
            changed(&tcp, |f| f[..6].fill(0xff)),
            GroupFrame,
        ),
        (
            "IPv6 group frame",
            changed(&six, |f| f[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1])),
            GroupFrame,
        ),
        ("IGMP", from_peer(2, &[0; 8]), UnknownProtocol),
        (
            "SCTP over IPv6",
            v6_frame("fd00::1", "fd00::2", 64, &[], 132, &[0; 12]),
            UnknownProtocol,
        ),
        (
            "no next header",
            v6_frame("fd00::1", "fd00::2", 64, &[], 59, &[]),
            UnknownProtocol,
        ),
    ]
}

fn dropped_extensions() -> Vec<(&'static str, Vec<u8>, DropCause)> {
    use DropCause::*;
    let routing = |kind: u8, left: u8| {
        let mut header = [0; 24];
        header[1..4].copy_from_slice(&[2, kind, left]);
        header
    };
    let seven: Vec<(u8, &[u8])> = vec![(60, PADDING); 7];
    vec![
        (
            "destination options, TCP",
            tcp_v6_behind(&[(60, PADDING)]),
            ExtensionChain,
        ),
        (
            "routing, TCP",
            tcp_v6_behind(&[(43, &routing(2, 0))]),
            ExtensionChain,
        ),
        (
            "late hop-by-hop",
            udp_v6_behind(&[(60, PADDING), (0, PADDING)]),
            ExtensionChain,
        ),
        ("long chain", udp_v6_behind(&seven), ExtensionChain),
        (
            "type 0 routing",
            udp_v6_behind(&[(43, &routing(0, 1))]),
            SourceRoute,
        ),
        (
            "unknown routing",
            udp_v6_behind(&[(43, &routing(99, 3))]),
            SourceRoute,
        ),
        (
            "first IPv6 fragment",
            tcp_v6_behind(&[(44, &[0, 0, 0, 1, 0, 0, 0, 9])]),
            Fragment,
        ),
        (
            "later IPv6 fragment",
            tcp_v6_behind(&[(44, &[0, 0, 1, 0, 0, 0, 0, 9])]),
            Fragment,
        ),
        (
            "fragment after options",
            udp_v6_behind(&[(60, PADDING), (44, &[0, 0, 0, 1, 0, 0, 0, 9])]),
            Fragment,
        ),
        (
            "jumbogram",
            udp_v6_behind(&[(0, &[0, 0, 0xc2, 4, 0, 1, 0, 0])]),
            UnknownOption,
        ),
        (
            "home address",
            udp_v6_behind(&[(60, &[0, 0, 0xc9, 4, 0, 0, 0, 0])]),
            UnknownOption,
        ),
        (
            "discard if unknown",
            udp_v6_behind(&[(0, &[0, 0, 0x40, 4, 0, 0, 0, 0])]),
            UnknownOption,
        ),
        (
            "option past its header",
            udp_v6_behind(&[(0, &[0, 0, 1, 9, 0, 0, 0, 0])]),
            BadOptions,
        ),
        (
            "option cut short",
            udp_v6_behind(&[(60, &[0, 0, 1, 3, 0, 0, 0, 1])]),
            BadOptions,
        ),
        (
            "header past the packet",
            v6_frame(
                "fd00::1",
                "fd00::2",
                64,
                &[(60, &[0, 9, 1, 4, 0, 0, 0, 0])],
                UDP,
                &[],
            ),
            Truncated,
        ),
        (
            "options but no bytes",
            v6_frame("fd00::1", "fd00::2", 64, &[], 60, &[]),
            Truncated,
        ),
    ]
}

fn dropped_transport() -> Vec<(&'static str, Vec<u8>, DropCause)> {
    use DropCause::*;
    let tcp = tcp_v4();
    let udp = udp_bytes("10.0.0.1", "10.0.0.2", b"question");
    let udp6 = udp_bytes("fd00::1", "fd00::2", b"question");
    let ping = ping_v4(b"abcdefgh");
    let ping6 = ping_v6("fd00::1", "fd00::2", b"abcdefgh");
    let spoiled = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x10;
        bytes
    };
    let with_len = |len: u8| {
        let mut bytes = udp.clone();
        bytes[4..6].copy_from_slice(&[0, len]);
        from_peer(UDP, &bytes)
    };
    let unsummed6 = {
        let mut bytes = udp6.clone();
        bytes[6..8].fill(0);
        v6_frame("fd00::1", "fd00::2", 64, &[], UDP, &bytes)
    };
    vec![
        ("half a TCP header", from_peer(TCP, &[0; 19]), Truncated),
        ("half a UDP header", from_peer(UDP, &[0; 7]), Truncated),
        (
            "half an ICMP header",
            from_peer(ICMP, &[8, 0, 0xf7, 0xff]),
            Truncated,
        ),
        (
            "TCP to broadcast",
            tcp_between("10.0.0.1", "255.255.255.255"),
            TcpToGroup,
        ),
        (
            "TCP to the network",
            tcp_between("10.0.0.1", "10.0.0.255"),
            TcpToGroup,
        ),
        (
            "TCP to all nodes",
            tcp_between("fd00::1", "ff02::1"),
            TcpToGroup,
        ),
        (
            "TCP to broadcast in a broadcast frame",
            changed(&tcp_between("10.0.0.1", "10.0.0.255"), |f| {
                f[..6].fill(0xff);
            }),
            TcpToGroup,
        ),
        ("offset 4", resummed(&tcp, |t| t[12] = 0x40), BadTcpOffset),
        (
            "offset past the end",
            resummed(&tcp[..], |t| t[12] = 0xf0),
            BadTcpOffset,
        ),
        (
            "from port 0",
            resummed(&tcp, |t| t[..2].fill(0)),
            TcpPortZero,
        ),
        (
            "to port 0",
            resummed(&tcp, |t| t[2..4].fill(0)),
            TcpPortZero,
        ),
        ("TCP payload", changed(&tcp, |f| f[70] ^= 1), BadTcpChecksum),
        ("TCP header", changed(&tcp, |f| f[38] ^= 1), BadTcpChecksum),
        (
            "TCP pseudo-header",
            changed(&tcp, |f| f[29] ^= 2),
            BadTcpChecksum,
        ),
        (
            "TCP over IPv6",
            changed(&tcp_v6_behind(&[]), |f| f[60] ^= 1),
            BadTcpChecksum,
        ),
        ("UDP length 7", with_len(7), BadLength),
        ("UDP length past the end", with_len(17), BadLength),
        ("UDP", from_peer(UDP, &spoiled(&udp, 12)), BadUdpChecksum),
        (
            "UDP over IPv6",
            v6_frame("fd00::1", "fd00::2", 64, &[], UDP, &spoiled(&udp6, 12)),
            BadUdpChecksum,
        ),
        ("UDP over IPv6 without checksum", unsummed6, BadUdpChecksum),
        (
            "ICMP",
            from_peer(ICMP, &spoiled(&ping, 12)),
            BadIcmpChecksum,
        ),
        (
            "ICMPv6",
            v6_frame("fd00::1", "fd00::2", 64, &[], ICMPV6, &spoiled(&ping6, 12)),
            BadIcmpChecksum,
        ),
    ]
}

fn dropped_discovery() -> Vec<(&'static str, Vec<u8>, DropCause)> {
    use DropCause::*;
    const GROUP: &str = "ff02::1:ff00:2";
    let arp = arp_bytes(1, (PEER_MAC, "10.0.0.1"), (MacAddr([0; 6]), "10.0.0.2"));
    let arp_with = |at: usize, value: u8| {
        let mut bytes = arp.clone();
        bytes[at] = value;
        frame(MacAddr::BROADCAST, PEER_MAC, ether::ARP, &bytes)
    };
    let solicit = |options: &[u8]| neighbor_message(135, 0, "fd00::2", options);
    let source = &[1, 1, 2, 0, 0, 0, 0, 1];
    let mut coded = solicit(source);
    coded[1] = 1;
    vec![
        (
            "short ARP",
            frame(OUR_MAC, PEER_MAC, ether::ARP, &arp)[..41].to_vec(),
            Truncated,
        ),
        ("ARP for token ring", arp_with(1, 6), BadArp),
        ("ARP for AppleTalk", arp_with(2, 9), BadArp),
        ("ARP with long MACs", arp_with(4, 8), BadArp),
        ("reverse ARP", arp_with(7, 3), BadArp),
        (
            "routed solicitation",
            ndp_frame("fd00::1", GROUP, 254, &solicit(source)),
            BadNdp,
        ),
        (
            "solicitation with a code",
            ndp_frame("fd00::1", GROUP, 255, &coded),
            BadNdp,
        ),
        (
            "short solicitation",
            ndp_frame("fd00::1", GROUP, 255, &solicit(&[])[..20]),
            BadNdp,
        ),
        (
            "option of length 0",
            ndp_frame("fd00::1", GROUP, 255, &solicit(&[1, 0, 0, 0])),
            BadNdp,
        ),
        (
            "option cut short",
            ndp_frame("fd00::1", GROUP, 255, &solicit(&source[..7])),
            BadNdp,
        ),
        (
            "trailing byte",
            ndp_frame("fd00::1", GROUP, 255, &solicit(&[0])),
            BadNdp,
        ),
        (
            "probe with a source",
            ndp_frame("::", GROUP, 255, &solicit(source)),
            BadNdp,
        ),
        (
            "probe of us alone",
            ndp_frame("::", "fd00::2", 255, &solicit(&[])),
            BadNdp,
        ),
        (
            "solicitation for a group",
            ndp_frame(
                "fd00::1",
                GROUP,
                255,
                &neighbor_message(135, 0, "ff02::1", source),
            ),
            BadNdp,
        ),
        (
            "solicited advertisement to all",
            ndp_frame(
                "fd00::1",
                "ff02::1",
                255,
                &neighbor_message(136, 0x40, "fd00::1", &[]),
            ),
            BadNdp,
        ),
        (
            "advertisement from nobody",
            ndp_frame(
                "::",
                "ff02::1",
                255,
                &neighbor_message(136, 0, "fd00::1", &[]),
            ),
            BadSource,
        ),
        (
            "ping from us",
            {
                let ping = ping_v6("fd00::2", "fd00::2", b"");
                v6_frame("fd00::2", "fd00::2", 64, &[], ICMPV6, &ping)
            },
            OwnSource,
        ),
        (
            "ping from nobody",
            {
                let ping = ping_v6("::", "fd00::2", b"");
                v6_frame("::", "fd00::2", 64, &[], ICMPV6, &ping)
            },
            BadSource,
        ),
        (
            "query without alert",
            query_frame("fe80::1", 1, &[], 100),
            BadNdp,
        ),
        (
            "query from afar",
            query_frame("fe80::1", 2, &[(0, ROUTER_ALERT)], 100),
            BadNdp,
        ),
        (
            "query from a global address",
            query_frame("fd00::1", 1, &[(0, ROUTER_ALERT)], 1),
            BadNdp,
        ),
        (
            "router advertisement",
            ndp_frame(
                "fe80::1",
                "ff02::1",
                255,
                &[134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            RouterDiscovery,
        ),
        (
            "redirect",
            ndp_frame("fe80::1", "fd00::2", 255, &[137, 0, 0, 0, 0, 0, 0, 0]),
            RouterDiscovery,
        ),
    ]
}
