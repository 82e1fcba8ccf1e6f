//! Frames as peers build them. Payloads and their checksums come from
//! `smoltcp::wire`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr, UdpPacket, UdpRepr,
};

use crate::MacAddr;
use crate::ether::{self, HEADER_LEN};
use crate::ip::checksum::Sum;
use crate::ip::{ICMPV6, Local, TCP, UDP};

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
        is_shared: false,
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
pub(crate) fn ipv4_packet(
    src: &str,
    dst: &str,
    protocol: u8,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
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

pub(crate) fn tcp_bytes(src: &str, dst: &str, edit: impl FnOnce(&mut TcpRepr<'_>)) -> Vec<u8> {
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

pub(crate) fn tcp_v4() -> Vec<u8> {
    from_peer(TCP, &tcp_bytes("10.0.0.1", "10.0.0.2", |_| {}))
}

pub(crate) fn tcp_v6_behind(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let segment = tcp_bytes("fd00::1", "fd00::2", |_| {});
    v6_frame("fd00::1", "fd00::2", 64, extensions, TCP, &segment)
}

pub(crate) fn udp_v6_behind(extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let datagram = udp_bytes("fd00::1", "fd00::2", b"query");
    v6_frame("fd00::1", "fd00::2", 64, extensions, UDP, &datagram)
}

pub(crate) fn tcp_between(src: &str, dst: &str) -> Vec<u8> {
    let bytes = tcp_bytes(src, dst, |_| {});
    if src.contains(':') {
        v6_frame(src, dst, 64, &[], TCP, &bytes)
    } else {
        v4_frame(src, dst, TCP, &[], &bytes)
    }
}

/// `frame` with some bytes changed, and the IPv4 header's checksum made right.
pub(crate) fn changed(frame: &[u8], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
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
pub(crate) fn resummed(frame: &[u8], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    edit(&mut frame[34..end]);
    let (src, dst) = (v4("10.0.0.1").into(), v4("10.0.0.2").into());
    TcpPacket::new_unchecked(&mut frame[34..end]).fill_checksum(&src, &dst);
    frame
}

pub(crate) fn arp_bytes(op: u8, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, op];
    for (mac, ip) in [sender, target] {
        bytes.extend_from_slice(&mac.0);
        bytes.extend_from_slice(&v4(ip).octets());
    }
    bytes
}

pub(crate) fn ndp_frame(src: &str, dst: &str, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let bytes = icmpv6_bytes(src, dst, message);
    v6_frame(src, dst, hop_limit, &[], ICMPV6, &bytes)
}

pub(crate) const ROUTER_ALERT: &[u8] = &[0, 0, 5, 2, 0, 0, 1, 0];

pub(crate) fn query_frame(
    src: &str,
    hop_limit: u8,
    extensions: &[(u8, &[u8])],
    code: u16,
) -> Vec<u8> {
    let mut message = vec![130, 0, 0, 0];
    message.extend_from_slice(&code.to_be_bytes());
    message.resize(28, 0);
    let bytes = icmpv6_bytes(src, "ff02::1", &message);
    v6_frame(src, "ff02::1", hop_limit, extensions, ICMPV6, &bytes)
}

pub(crate) const PADDING: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
