//! Frames in, verdicts out. The builders serve the tests of ICMP and neighbours
//! too; payloads and their checksums come from `smoltcp::wire`.

use std::collections::HashSet;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr, UdpPacket, UdpRepr,
};

use super::*;
use crate::neighbor::{ArpOp, NdpMessage, Random};

pub(crate) const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

pub(crate) fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(crate) fn local() -> Local {
    let cidrs = ["10.0.0.2/24", "fd00::2/64"].map(|cidr| cidr.parse().unwrap());
    Local {
        mac: OUR_MAC,
        cidrs: cidrs.to_vec(),
    }
}

/// A frame around `payload`, padded as a NIC pads it.
pub(crate) fn frame(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    ether::write_header(&mut frame, dst, src, ethertype);
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv4 packet from `src` to `dst`.
fn ipv4_packet(src: &str, dst: &str, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20 + options.len() + payload.len()];
    bytes[20..20 + options.len()].copy_from_slice(options);
    bytes[20 + options.len()..].copy_from_slice(payload);
    let total_len = bytes.len() as u16;
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    packet.set_version(4);
    packet.set_header_len(20 + options.len() as u8);
    packet.set_total_len(total_len);
    packet.set_hop_limit(64);
    packet.set_next_header(IpProtocol::from(protocol));
    packet.set_src_addr(v4(src));
    packet.set_dst_addr(v4(dst));
    packet.fill_checksum();
    bytes
}

/// An IPv6 packet; each extension header is its type and its bytes, of which the
/// first, the next header, is filled in.
pub(crate) fn ipv6_packet(
    src: &str,
    dst: &str,
    hop_limit: u8,
    extensions: &[(u8, &[u8])],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, protocol, hop_limit];
    bytes.extend_from_slice(&v6(src).octets());
    bytes.extend_from_slice(&v6(dst).octets());
    let mut next_at = 6;
    for (kind, header) in extensions {
        bytes[next_at] = *kind;
        next_at = bytes.len();
        bytes.extend_from_slice(header);
        bytes[next_at] = protocol;
    }
    bytes.extend_from_slice(payload);
    let len = bytes.len() as u16 - 40;
    bytes[4..6].copy_from_slice(&len.to_be_bytes());
    bytes
}

fn tcp_bytes(src: &str, dst: &str, edit: impl FnOnce(&mut TcpRepr<'_>)) -> Vec<u8> {
    let (src, dst) = (
        src.parse::<IpAddr>().unwrap(),
        dst.parse::<IpAddr>().unwrap(),
    );
    let mut repr = TcpRepr {
        src_port: 40_000,
        dst_port: 8080,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(0x8123_4567_u32 as i32),
        ack_number: Some(TcpSeqNumber(0x1bcd_ef01)),
        window_len: 0xfeed,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: Some(TcpTimestampRepr::new(7, 9)),
        payload: b"GET / HTTP/1.1\r\n\r\n",
    };
    edit(&mut repr);
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut bytes);
    repr.emit(
        &mut packet,
        &src.into(),
        &dst.into(),
        &ChecksumCapabilities::default(),
    );
    bytes
}

pub(crate) fn udp_bytes(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (
        src.parse::<IpAddr>().unwrap(),
        dst.parse::<IpAddr>().unwrap(),
    );
    let repr = UdpRepr {
        src_port: 5353,
        dst_port: 53,
    };
    let mut bytes = vec![0; 8 + payload.len()];
    let mut packet = UdpPacket::new_unchecked(&mut bytes);
    repr.emit(
        &mut packet,
        &src.into(),
        &dst.into(),
        payload.len(),
        |room| room.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    bytes
}

pub(crate) fn ping_v4(payload: &[u8]) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest {
        ident: 0x1234,
        seq_no: 7,
        data: payload,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &mut Icmpv4Packet::new_unchecked(&mut bytes),
        &ChecksumCapabilities::default(),
    );
    bytes
}

pub(crate) fn ping_v6(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let repr = Icmpv6Repr::EchoRequest {
        ident: 0x1234,
        seq_no: 7,
        data: payload,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &v6(src),
        &v6(dst),
        &mut Icmpv6Packet::new_unchecked(&mut bytes),
        &ChecksumCapabilities::default(),
    );
    bytes
}

/// An ICMPv6 message with its checksum filled in by smoltcp.
pub(crate) fn icmpv6_bytes(src: &str, dst: &str, message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    Icmpv6Packet::new_unchecked(&mut bytes).fill_checksum(&v6(src), &v6(dst));
    bytes
}

/// A neighbour solicitation (135) or advertisement (136) for `target`.
pub(crate) fn neighbor_message(kind: u8, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    bytes.extend_from_slice(&v6(target).octets());
    bytes.extend_from_slice(options);
    bytes
}

/// An IPv4 frame from the peer to us.
pub(crate) fn from_peer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_frame("10.0.0.1", "10.0.0.2", protocol, &[], payload)
}

pub(crate) fn v4_frame(
    src: &str,
    dst: &str,
    protocol: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let packet = ipv4_packet(src, dst, protocol, options, payload);
    frame(OUR_MAC, PEER_MAC, ether::IPV4, &packet)
}

/// An IPv6 frame to us, in a frame to the group when `dst` is one.
pub(crate) fn v6_frame(
    src: &str,
    dst: &str,
    hop_limit: u8,
    extensions: &[(u8, &[u8])],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let packet = ipv6_packet(src, dst, hop_limit, extensions, protocol, payload);
    let dst_mac = match v6(dst).is_multicast() {
        true => ether::group_mac(v6(dst)),
        false => OUR_MAC,
    };
    frame(dst_mac, PEER_MAC, ether::IPV6, &packet)
}

fn tcp_v4() -> Vec<u8> {
    from_peer(TCP, &tcp_bytes("10.0.0.1", "10.0.0.2", |_| {}))
}

fn tcp_v6_behind(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let segment = tcp_bytes("fd00::1", "fd00::2", |_| {});
    v6_frame("fd00::1", "fd00::2", 64, extensions, TCP, &segment)
}

fn udp_v6_behind(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let datagram = udp_bytes("fd00::1", "fd00::2", b"query");
    v6_frame("fd00::1", "fd00::2", 64, extensions, UDP, &datagram)
}

fn tcp_between(src: &str, dst: &str) -> Vec<u8> {
    let bytes = tcp_bytes(src, dst, |_| {});
    if src.contains(':') {
        v6_frame(src, dst, 64, &[], TCP, &bytes)
    } else {
        v4_frame(src, dst, TCP, &[], &bytes)
    }
}

/// `frame` with some bytes changed, and the IPv4 header's checksum made right.
fn changed(frame: &[u8], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = frame.to_vec();
    edit(&mut frame);
    if frame[14] >> 4 == 4 {
        let header = &mut frame[14..34];
        header[10..12].fill(0);
        let checksum = Sum::of(header).checksum();
        header[10..12].copy_from_slice(&checksum);
    }
    frame
}

/// `frame`, an IPv4 segment or datagram with its checksum at `at`, with bytes of
/// its payload changed and the checksum made right.
fn resummed(frame: &[u8], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    edit(&mut frame[34..end]);
    let (src, dst) = (v4("10.0.0.1").into(), v4("10.0.0.2").into());
    TcpPacket::new_unchecked(&mut frame[34..end]).fill_checksum(&src, &dst);
    frame
}

fn verdict(frame: &[u8]) -> Result<Packet, DropCause> {
    classify(&local(), frame, false)
}

/// Frames that are dropped, each for exactly one cause.
fn dropped() -> Vec<(&'static str, Vec<u8>, DropCause)> {
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

const PADDING: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];

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
                f[..6].fill(0xff)
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

pub(crate) fn arp_bytes(op: u8, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, op];
    for (mac, ip) in [sender, target] {
        bytes.extend_from_slice(&mac.0);
        bytes.extend_from_slice(&v4(ip).octets());
    }
    bytes
}

fn ndp_frame(src: &str, dst: &str, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let bytes = icmpv6_bytes(src, dst, message);
    v6_frame(src, dst, hop_limit, &[], ICMPV6, &bytes)
}

const ROUTER_ALERT: &[u8] = &[0, 0, 5, 2, 0, 0, 1, 0];

fn query_frame(src: &str, hop_limit: u8, extensions: &[(u8, &[u8])], code: u16) -> Vec<u8> {
    let mut message = vec![130, 0, 0, 0];
    message.extend_from_slice(&code.to_be_bytes());
    message.resize(28, 0);
    let bytes = icmpv6_bytes(src, "ff02::1", &message);
    v6_frame(src, "ff02::1", hop_limit, extensions, ICMPV6, &bytes)
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
        assert!(hit.contains(cause), "no frame is dropped for {cause:?}");
        assert_eq!(cause.index(), at);
    }
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
        f[..6].fill(0xff)
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
