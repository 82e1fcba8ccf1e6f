//! From a received frame to what it is for, or why it is dropped.
//!
//! [`classify`] runs once for every received frame, on the shard's path: it reads
//! the headers, checks all that a host must check (RFC 1122 §3.2, RFC 8200,
//! RFC 9293 §3.9.2), verifies checksums once, and says what the frame is. It
//! allocates nothing, keeps nothing, and never reads past the packet's end.
//!
//! What passes is for one of our addresses, from an address that a host can
//! have, whole, and unfragmented. smoltcp behind it is told not to verify
//! checksums again. Each way to fail is one [`DropCause`].

mod cause;
pub(crate) mod checksum;
mod ext;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

pub(crate) use cause::DropCause;
use checksum::Sum;

use crate::ether::{self, HEADER_LEN};
use crate::neighbor::{ArpPacket, NdpPacket};
use crate::{Cidr, MacAddr};

/// Protocol number of ICMP.
pub(crate) const ICMP: u8 = 1;
/// Protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// Protocol number of UDP.
pub(crate) const UDP: u8 = 17;
/// Next header value of ICMPv6.
pub(crate) const ICMPV6: u8 = 58;

/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_HEADER_LEN: usize = 20;
/// Bytes of an IPv6 header without extensions.
pub(crate) const IPV6_HEADER_LEN: usize = 40;

/// The link's multicast group that every IPv6 host is in (RFC 4291 §2.7.1).
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Who we are on the link.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    /// Our Ethernet address.
    pub mac: MacAddr,
    /// Our addresses, each with the prefix of its network; a handful.
    pub cidrs: Vec<Cidr>,
    /// They are the host's too, which answers ARP, neighbour discovery and ICMP.
    pub is_shared: bool,
}

/// Whom an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Us alone.
    Us,
    /// Us among others: a broadcast, or a group that we are in.
    Group,
}

impl Local {
    /// The IPv6 link-local address that follows from our Ethernet address
    /// (RFC 4291 appendix A), ours when any IPv6 address is configured, unless
    /// the host has it already.
    pub(crate) fn link_local(&self) -> Option<Ipv6Addr> {
        let has_ipv6 = self.cidrs.iter().any(|cidr| cidr.addr.is_ipv6());
        (has_ipv6 && !self.is_shared).then(|| {
            let [a, b, c, d, e, f] = self.mac.0;
            let high = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
            let low = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            Ipv6Addr::from_bits(
                (u128::from(u64::from_be_bytes(high)) << 64) | u128::from(u64::from_be_bytes(low)),
            )
        })
    }

    /// Our IPv6 addresses, the link-local one last.
    pub(crate) fn ipv6_addrs(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        let configured = self.cidrs.iter().filter_map(|cidr| match cidr.addr {
            IpAddr::V6(addr) => Some(addr),
            IpAddr::V4(_) => None,
        });
        configured.chain(self.link_local())
    }

    /// Whether `addr` stands for many: a multicast group, ours or not, or a
    /// broadcast on one of our networks.
    pub(crate) fn is_group(&self, addr: IpAddr) -> bool {
        let is_broadcast = match addr {
            IpAddr::V4(addr) => self.reach_v4(addr) == Some(Reach::Group),
            IpAddr::V6(_) => false,
        };
        addr.is_multicast() || is_broadcast
    }

    /// Whether `addr` is an address of ours. Groups and broadcasts are not.
    #[inline]
    pub(crate) fn owns(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.reach_v4(addr) == Some(Reach::Us),
            IpAddr::V6(addr) => self.owns_v6(addr),
        }
    }

    #[inline]
    fn owns_v6(&self, addr: Ipv6Addr) -> bool {
        self.cidrs.iter().any(|cidr| cidr.addr == addr)
            || (addr.is_unicast_link_local() && self.link_local() == Some(addr))
    }

    /// Whom an IPv4 address reaches; none when not us. The broadcast address of
    /// a network of two addresses or one does not exist (RFC 3021).
    #[inline]
    fn reach_v4(&self, addr: Ipv4Addr) -> Option<Reach> {
        let mut reach = (addr == Ipv4Addr::BROADCAST).then_some(Reach::Group);
        for cidr in &self.cidrs {
            let IpAddr::V4(own) = cidr.addr else {
                continue;
            };
            if own == addr {
                return Some(Reach::Us);
            }
            let host_bits = u32::MAX.checked_shr(cidr.prefix.into()).unwrap_or(0);
            if cidr.prefix < 31 && own.to_bits() | host_bits == addr.to_bits() {
                reach = Some(Reach::Group);
            }
        }
        reach
    }

    /// Whom an IPv6 address reaches; none when not us.
    #[inline]
    fn reach_v6(&self, addr: Ipv6Addr) -> Option<Reach> {
        if !addr.is_multicast() {
            return self.owns_v6(addr).then_some(Reach::Us);
        }
        let is_ours = addr == ALL_NODES || self.ipv6_addrs().any(|own| solicited_node(own) == addr);
        is_ours.then_some(Reach::Group)
    }

    /// Whom an Ethernet address reaches; none when not us.
    #[inline]
    fn reach_mac(&self, mac: MacAddr) -> Option<Reach> {
        if mac == self.mac {
            return Some(Reach::Us);
        }
        self.is_our_group(mac).then_some(Reach::Group)
    }

    fn is_our_group(&self, mac: MacAddr) -> bool {
        let has_ipv6 = || self.cidrs.iter().any(|cidr| cidr.addr.is_ipv6());
        let solicits_us = || {
            self.ipv6_addrs()
                .any(|own| ether::group_mac(solicited_node(own)) == mac)
        };
        mac == MacAddr::BROADCAST
            || (mac == ether::group_mac(ALL_NODES) && has_ipv6())
            || (mac.0.starts_with(&[0x33, 0x33, 0xff]) && solicits_us())
    }
}

/// The group in which a neighbour solicitation for `addr` is sent (RFC 4291 §2.7.1).
pub(crate) fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
    Ipv6Addr::from_bits(PREFIX.to_bits() | (addr.to_bits() & 0xff_ffff))
}

/// What a frame is for.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A TCP segment to one of our addresses.
    Tcp(Segment),
    /// A UDP datagram.
    Udp(Datagram),
    /// ICMP or ICMPv6, but for neighbour and listener discovery.
    Icmp(IcmpPacket),
    /// ARP for IPv4.
    Arp(ArpPacket),
    /// IPv6 neighbour or listener discovery.
    Ndp(NdpPacket),
}

bitflags::bitflags! {
    /// Control bits of a TCP segment (RFC 9293 §3.1, RFC 3168 §6.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct TcpFlags: u8 {
        /// No more data from the sender.
        const FIN = 1;
        /// Synchronizes sequence numbers.
        const SYN = 2;
        /// Resets the connection.
        const RST = 4;
        /// Asks for delivery without delay.
        const PSH = 8;
        /// The acknowledgment number counts.
        const ACK = 0x10;
        /// The urgent pointer counts.
        const URG = 0x20;
        /// Echo of congestion experienced.
        const ECE = 0x40;
        /// Congestion window reduced.
        const CWR = 0x80;
    }
}

/// The headers of a TCP segment. Ranges are byte positions in the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Station that sent the frame.
    pub src_mac: MacAddr,
    /// Peer's address.
    pub src: IpAddr,
    /// Our address.
    pub dst: IpAddr,
    /// Peer's port, never 0.
    pub src_port: u16,
    /// Our port, never 0.
    pub dst_port: u16,
    /// Sequence number of the SYN or of the first byte.
    pub seq: u32,
    /// Next byte that the sender expects, when `flags` has ACK.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field as sent, unscaled.
    pub window: u16,
    /// Bytes of data.
    pub payload_len: usize,
    /// The IP packet, without the padding of short frames.
    pub ip: Range<usize>,
    /// The options of the TCP header.
    pub options: Range<usize>,
}

impl Segment {
    /// The timestamp option (RFC 7323 §3) as value and echo reply; `frame` is the
    /// one that was classified.
    pub(crate) fn timestamp(&self, frame: &[u8]) -> Option<(u32, u32)> {
        let [a, b, c, d, e, f, g, h] = self.option(frame, 8)?;
        let value = u32::from_be_bytes([a, b, c, d]);
        Some((value, u32::from_be_bytes([e, f, g, h])))
    }

    /// The largest segment that the sender of a SYN takes (RFC 9293 §3.7.1).
    pub(crate) fn max_segment_size(&self, frame: &[u8]) -> Option<u16> {
        self.option(frame, 2).map(u16::from_be_bytes)
    }

    /// What the first option of a kind says, when it has the right length.
    fn option<const N: usize>(&self, frame: &[u8], wanted: u8) -> Option<[u8; N]> {
        const END: u8 = 0;
        const NOP: u8 = 1;
        let mut options = frame.get(self.options.clone())?;
        loop {
            options = match *options {
                [END, ..] | [] => return None,
                [NOP, ref rest @ ..] => rest,
                [kind, len, ref rest @ ..] if kind == wanted && usize::from(len) == 2 + N => {
                    return rest.first_chunk::<N>().copied();
                }
                [_, len, ..] if len >= 2 => options.get(usize::from(len)..)?,
                _ => return None,
            };
        }
    }
}

/// The headers of a UDP datagram. Ranges are byte positions in the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Station that sent the frame.
    pub src_mac: MacAddr,
    /// Sender's address.
    pub src: IpAddr,
    /// Our address, a broadcast, or a group of ours.
    pub dst: IpAddr,
    /// Sender's port; 0 when it expects no answer.
    pub src_port: u16,
    /// Port that it is for.
    pub dst_port: u16,
    /// The IP packet, without the padding of short frames.
    pub ip: Range<usize>,
    /// The data.
    pub payload: Range<usize>,
}

/// An ICMP or ICMPv6 message. Ranges are byte positions in the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IcmpPacket {
    /// Station that sent the frame.
    pub src_mac: MacAddr,
    /// Sender's address, whose family tells ICMP from ICMPv6.
    pub src: IpAddr,
    /// Our address, a broadcast, or a group of ours.
    pub dst: IpAddr,
    /// Type of the message.
    pub kind: u8,
    /// Code of the message.
    pub code: u8,
    /// The message from its type on, at least 8 bytes.
    pub message: Range<usize>,
}

/// An IP packet whose own headers are checked, before its payload is.
struct Envelope {
    src_mac: MacAddr,
    src: IpAddr,
    dst: IpAddr,
    reach: Reach,
    ip: Range<usize>,
    /// The payload's place in the frame.
    payload: Range<usize>,
    /// Sum of both addresses.
    pseudo: Sum,
}

/// What `frame` is for. With `checksum_vouched`, TCP and UDP checksums are taken
/// as right (the device or the sender's kernel says so).
///
/// # Errors
/// Why the frame is to be dropped; the caller counts it.
#[inline]
pub(crate) fn classify(
    local: &Local,
    frame: &[u8],
    checksum_vouched: bool,
) -> Result<Packet, DropCause> {
    let header = ether::parse(frame)?;
    let reach = local.reach_mac(header.dst).ok_or(DropCause::ForeignMac)?;
    if !header.src.is_station() {
        return Err(DropCause::BadSourceMac);
    }
    if header.src == local.mac {
        return Err(DropCause::OwnSourceMac);
    }
    let packet = match header.ethertype {
        ether::IPV4 => ipv4(local, frame, header.src, reach, checksum_vouched),
        ether::IPV6 => ipv6(local, frame, header.src, reach, checksum_vouched),
        ether::ARP => ArpPacket::parse(&frame[HEADER_LEN..]).map(Packet::Arp),
        _ => Err(DropCause::UnknownEthertype),
    }?;
    let is_transport = matches!(packet, Packet::Tcp(_) | Packet::Udp(_));
    if local.is_shared && !is_transport {
        return Err(DropCause::HostsOwn);
    }
    Ok(packet)
}

/// RFC 791 §3.1, RFC 1122 §3.2.1.
#[inline]
fn ipv4(
    local: &Local,
    frame: &[u8],
    src_mac: MacAddr,
    frame_reach: Reach,
    vouched: bool,
) -> Result<Packet, DropCause> {
    let packet = &frame[HEADER_LEN..];
    let header = packet
        .first_chunk::<IPV4_HEADER_LEN>()
        .ok_or(DropCause::Truncated)?;
    if header[0] >> 4 != 4 {
        return Err(DropCause::BadVersion);
    }
    let header_len = usize::from(header[0] & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < IPV4_HEADER_LEN || total_len < header_len {
        return Err(DropCause::BadLength);
    }
    let packet = packet.get(..total_len).ok_or(DropCause::Truncated)?;
    if !Sum::of(&packet[..header_len]).is_valid() {
        return Err(DropCause::BadHeaderChecksum);
    }
    if header_len > IPV4_HEADER_LEN {
        ext::check_ipv4_options(&packet[IPV4_HEADER_LEN..header_len])?;
    }
    // «More fragments» or an offset; «don't fragment» does not matter here.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(DropCause::Fragment);
    }
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let (src, dst) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    let reach = local.reach_v4(dst).ok_or(DropCause::ForeignAddr)?;
    if frame_reach == Reach::Group && reach == Reach::Us {
        return Err(DropCause::GroupFrame);
    }
    check_ipv4_source(local, src)?;
    let end = HEADER_LEN + total_len;
    let envelope = Envelope {
        src_mac,
        src: src.into(),
        dst: dst.into(),
        reach,
        ip: HEADER_LEN..end,
        payload: HEADER_LEN + header_len..end,
        pseudo: Sum::of(&header[12..]),
    };
    match header[9] {
        TCP => tcp(frame, envelope, vouched),
        UDP => udp(frame, envelope, vouched),
        ICMP => icmp(frame, &envelope),
        _ => Err(DropCause::UnknownProtocol),
    }
}

/// RFC 1122 §3.2.1.3.
#[inline]
fn check_ipv4_source(local: &Local, src: Ipv4Addr) -> Result<(), DropCause> {
    let is_this_network = src.octets()[0] == 0;
    if is_this_network || src.is_loopback() || src.is_multicast() {
        return Err(DropCause::BadSource);
    }
    match local.reach_v4(src) {
        None => Ok(()),
        Some(Reach::Us) => Err(DropCause::OwnSource),
        Some(Reach::Group) => Err(DropCause::BadSource),
    }
}

/// RFC 8200 §3, §4.
#[inline]
fn ipv6(
    local: &Local,
    frame: &[u8],
    src_mac: MacAddr,
    frame_reach: Reach,
    vouched: bool,
) -> Result<Packet, DropCause> {
    let packet = &frame[HEADER_LEN..];
    let header = packet
        .first_chunk::<IPV6_HEADER_LEN>()
        .ok_or(DropCause::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(DropCause::BadVersion);
    }
    let total_len = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let packet = packet.get(..total_len).ok_or(DropCause::Truncated)?;
    let (src, dst) = (ipv6_at(header, 8), ipv6_at(header, 24));
    let reach = local.reach_v6(dst).ok_or(DropCause::ForeignAddr)?;
    if frame_reach == Reach::Group && reach == Reach::Us {
        return Err(DropCause::GroupFrame);
    }
    let chain = ext::walk(packet, header[6])?;
    check_ipv6_source(local, src, chain.protocol)?;
    let end = HEADER_LEN + total_len;
    let envelope = Envelope {
        src_mac,
        src: src.into(),
        dst: dst.into(),
        reach,
        ip: HEADER_LEN..end,
        payload: HEADER_LEN + chain.at..end,
        pseudo: Sum::of(&header[8..]),
    };
    match chain.protocol {
        TCP if !chain.is_plain => Err(DropCause::ExtensionChain),
        TCP => tcp(frame, envelope, vouched),
        UDP => udp(frame, envelope, vouched),
        ICMPV6 => icmpv6(local, frame, &envelope, header[7], chain.router_alert),
        _ => Err(DropCause::UnknownProtocol),
    }
}

#[inline]
fn ipv6_at(header: &[u8; IPV6_HEADER_LEN], at: usize) -> Ipv6Addr {
    let bytes = header[at..].first_chunk::<16>();
    Ipv6Addr::from(*bytes.expect("both addresses are in the header"))
}

/// RFC 4291 §2.5, §2.7. What only some of ICMPv6 may be sent from is left to
/// [`icmpv6`].
#[inline]
fn check_ipv6_source(local: &Local, src: Ipv6Addr, protocol: u8) -> Result<(), DropCause> {
    if src.is_multicast() || src.is_loopback() || src.to_ipv4_mapped().is_some() {
        return Err(DropCause::BadSource);
    }
    if protocol != ICMPV6 && src.is_unspecified() {
        return Err(DropCause::BadSource);
    }
    if protocol != ICMPV6 && local.owns_v6(src) {
        return Err(DropCause::OwnSource);
    }
    Ok(())
}

/// RFC 9293 §3.1.
#[inline]
fn tcp(frame: &[u8], envelope: Envelope, vouched: bool) -> Result<Packet, DropCause> {
    if envelope.reach != Reach::Us {
        return Err(DropCause::TcpToGroup);
    }
    let bytes = &frame[envelope.payload.clone()];
    let header = bytes.first_chunk::<20>().ok_or(DropCause::Truncated)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || header_len > bytes.len() {
        return Err(DropCause::BadTcpOffset);
    }
    let pseudo = envelope.pseudo.and_protocol(TCP, bytes.len());
    if !vouched && !pseudo.and(Sum::of(bytes)).is_valid() {
        let is_partial = pseudo.is_left_in([header[16], header[17]]);
        return Err(wrong_sum(is_partial, DropCause::BadTcpChecksum));
    }
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (src_port, dst_port) = (word(0), word(2));
    if src_port == 0 || dst_port == 0 {
        return Err(DropCause::TcpPortZero);
    }
    let start = envelope.payload.start;
    Ok(Packet::Tcp(Segment {
        src_mac: envelope.src_mac,
        src: envelope.src,
        dst: envelope.dst,
        src_port,
        dst_port,
        seq: u32::from(word(4)) << 16 | u32::from(word(6)),
        ack: u32::from(word(8)) << 16 | u32::from(word(10)),
        flags: TcpFlags::from_bits_retain(header[13]),
        window: word(14),
        payload_len: bytes.len() - header_len,
        ip: envelope.ip,
        options: start + 20..start + header_len,
    }))
}

/// Why a checksum that does not hold is wrong.
fn wrong_sum(is_partial: bool, otherwise: DropCause) -> DropCause {
    if is_partial {
        DropCause::PartialChecksum
    } else {
        otherwise
    }
}

/// RFC 768, RFC 8200 §8.1.
fn udp(frame: &[u8], envelope: Envelope, vouched: bool) -> Result<Packet, DropCause> {
    let bytes = &frame[envelope.payload.clone()];
    let header = bytes.first_chunk::<8>().ok_or(DropCause::Truncated)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let len = usize::from(word(4));
    if len < 8 || len > bytes.len() {
        return Err(DropCause::BadLength);
    }
    let pseudo = envelope.pseudo.and_protocol(UDP, len);
    let unsummed = word(6) == 0;
    if unsummed && envelope.src.is_ipv6() {
        return Err(DropCause::BadUdpChecksum);
    }
    if !unsummed && !vouched && !pseudo.and(Sum::of(&bytes[..len])).is_valid() {
        let is_partial = pseudo.is_left_in([header[6], header[7]]);
        return Err(wrong_sum(is_partial, DropCause::BadUdpChecksum));
    }
    let start = envelope.payload.start;
    Ok(Packet::Udp(Datagram {
        src_mac: envelope.src_mac,
        src: envelope.src,
        dst: envelope.dst,
        src_port: word(0),
        dst_port: word(2),
        ip: envelope.ip,
        payload: start + 8..start + len,
    }))
}

/// RFC 792. No device sums ICMP, so its checksum is always verified.
fn icmp(frame: &[u8], envelope: &Envelope) -> Result<Packet, DropCause> {
    let bytes = &frame[envelope.payload.clone()];
    if bytes.len() < 8 {
        return Err(DropCause::Truncated);
    }
    if !Sum::of(bytes).is_valid() {
        return Err(DropCause::BadIcmpChecksum);
    }
    Ok(icmp_packet(bytes, envelope))
}

/// RFC 4443 §2. Neighbour and listener discovery are told apart here.
fn icmpv6(
    local: &Local,
    frame: &[u8],
    envelope: &Envelope,
    hop_limit: u8,
    router_alert: bool,
) -> Result<Packet, DropCause> {
    const LISTENER_QUERY: u8 = 130;
    const ROUTER_SOLICITATION: u8 = 133;
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const NEIGHBOR_SOLICITATION: u8 = 135;
    const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    const REDIRECT: u8 = 137;
    let bytes = &frame[envelope.payload.clone()];
    if bytes.len() < 8 {
        return Err(DropCause::Truncated);
    }
    let sum = envelope.pseudo.and_protocol(ICMPV6, bytes.len());
    if !sum.and(Sum::of(bytes)).is_valid() {
        return Err(DropCause::BadIcmpChecksum);
    }
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (envelope.src, envelope.dst) else {
        return Err(DropCause::BadVersion);
    };
    // A probe for duplicates comes from no address (RFC 4862 §5.4.2), and the one
    // that objects to ours advertises from the very address it claims.
    if src.is_unspecified() && bytes[0] != NEIGHBOR_SOLICITATION {
        return Err(DropCause::BadSource);
    }
    if bytes[0] != NEIGHBOR_ADVERTISEMENT && local.owns_v6(src) {
        return Err(DropCause::OwnSource);
    }
    let mac = envelope.src_mac;
    match bytes[0] {
        NEIGHBOR_SOLICITATION => NdpPacket::parse_solicit(mac, src, dst, hop_limit, bytes),
        NEIGHBOR_ADVERTISEMENT => NdpPacket::parse_advert(mac, src, dst, hop_limit, bytes),
        LISTENER_QUERY if hop_limit == 1 && router_alert => NdpPacket::parse_query(mac, src, bytes),
        LISTENER_QUERY => Err(DropCause::BadNdp),
        ROUTER_SOLICITATION | ROUTER_ADVERTISEMENT | REDIRECT => Err(DropCause::RouterDiscovery),
        _ => return Ok(icmp_packet(bytes, envelope)),
    }
    .map(Packet::Ndp)
}

fn icmp_packet(bytes: &[u8], envelope: &Envelope) -> Packet {
    Packet::Icmp(IcmpPacket {
        src_mac: envelope.src_mac,
        src: envelope.src,
        dst: envelope.dst,
        kind: bytes[0],
        code: bytes[1],
        message: envelope.payload.clone(),
    })
}
