//! A packet's headers, from its first byte to where its data begins.
//!
//! Headers are read where they lie, in one pass and without a copy: a file has
//! tens of millions of them. What is cut off by the capture's snap length is
//! known to be cut off; what a header says that cannot be is a word in
//! [`Net::Broken`]. Nothing here looks at what a capture of a device would not
//! have: link types are those that tcpdump and Wireshark write for machines that
//! serve.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::seen::Flags;

/// Link types (<https://www.tcpdump.org/linktypes.html>) that are read.
mod link {
    pub const NULL: u32 = 0;
    pub const ETHERNET: u32 = 1;
    pub const RAW_BSD: u32 = 12;
    pub const RAW_OPENBSD: u32 = 14;
    pub const RAW: u32 = 101;
    pub const LOOP: u32 = 108;
    pub const LINUX_SLL: u32 = 113;
    pub const IPV4: u32 = 228;
    pub const IPV6: u32 = 229;
    pub const LINUX_SLL2: u32 = 276;
}

/// EtherTypes (IANA, «IEEE 802 Numbers»).
mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Below, the field is a length (IEEE 802.3).
    pub const LEAST: u16 = 0x0600;
}

/// Protocol numbers (IANA, «Assigned Internet Protocol Numbers»).
pub mod protocol {
    #![allow(missing_docs)]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMP6: u8 = 58;
    pub const DESTINATION: u8 = 60;
}

/// VLAN tags that are stepped over, and IPv6 extension headers: more is broken.
const MAX_TAGS: usize = 4;
const MAX_EXTENSIONS: usize = 8;

/// What a packet is.
#[derive(Clone, Copy, Debug)]
pub enum Net<'a> {
    /// IP, of either version.
    Ip(Ip<'a>),
    /// ARP, from its first byte.
    Arp(&'a [u8]),
    /// Another EtherType, and how many bytes it carries.
    EtherType(u16, u32),
    /// An IEEE 802.3 frame of so many bytes.
    Length(u32),
    /// A link type that is not read.
    LinkType(u32),
    /// What of it cannot be.
    Broken(&'static str),
}

/// An IP packet (RFC 791, RFC 8200).
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// From.
    pub from: IpAddr,
    /// To.
    pub to: IpAddr,
    /// Bytes behind its headers, as they were on the wire.
    pub len: u32,
    /// Whether an IPv6 packet has options for every hop (RFC 8200 §4.3).
    pub has_hop_options: bool,
    /// What it carries.
    pub carries: Carried<'a>,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug)]
pub enum Carried<'a> {
    /// A TCP segment.
    Tcp(Tcp<'a>),
    /// A UDP datagram.
    Udp {
        /// From port.
        from: u16,
        /// To port.
        to: u16,
        /// Bytes of data.
        len: u32,
    },
    /// ICMP or ICMPv6, from its first byte.
    Icmp(&'a [u8]),
    /// A part of a packet (RFC 791 §3.2) of this protocol, which is not put
    /// together again.
    Fragment(u8),
    /// Another protocol.
    Other(u8),
    /// A header that the capture cut, or that cannot be.
    Broken(&'static str),
}

/// A TCP segment (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// From port.
    pub from: u16,
    /// To port.
    pub to: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: Flags,
    /// Window as it stands there, without its scale.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, as far as they were captured.
    pub options: &'a [u8],
    /// Data that was captured.
    pub payload: &'a [u8],
    /// Data that was on the wire, in bytes.
    pub len: u32,
}

impl Tcp<'_> {
    /// Data that the snap length cut off, in bytes.
    pub fn cut(&self) -> u32 {
        self.len - self.payload.len() as u32
    }

    /// Sequence numbers that it takes: its data, SYN and FIN.
    pub fn takes(&self) -> u32 {
        self.len + u32::from(self.flags.syn()) + u32::from(self.flags.fin())
    }
}

/// The options of a TCP header that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Padding (RFC 9293 §3.1).
    Nop,
    /// The end of the list.
    End,
    /// Maximum segment size (RFC 9293 §3.7.1).
    Mss(u16),
    /// Window scale (RFC 7323 §2).
    WindowScale(u8),
    /// SACK permitted (RFC 2018 §2).
    SackPermitted,
    /// Blocks that arrived out of order (RFC 2018 §3), eight bytes each.
    Sack(&'a [u8]),
    /// Timestamps (RFC 7323 §3): value and echo.
    Timestamps(u32, u32),
    /// Another kind, with its bytes.
    Other(u8, &'a [u8]),
    /// A length that cannot be: the list ends here.
    Bad,
}

/// Reads the options of a TCP header, in order.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions<'a>(pub &'a [u8]);

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        let (&kind, rest) = self.0.split_first()?;
        if kind <= 1 {
            self.0 = if kind == 0 { &[] } else { rest };
            return Some(if kind == 0 {
                TcpOption::End
            } else {
                TcpOption::Nop
            });
        }
        let len = rest.first().map_or(0, |&len| usize::from(len));
        let Some(body) = self.0.get(2..len) else {
            self.0 = &[];
            return Some(TcpOption::Bad);
        };
        self.0 = &self.0[len..];
        Some(match (kind, body) {
            (2, &[a, b]) => TcpOption::Mss(u16::from_be_bytes([a, b])),
            (3, &[scale]) => TcpOption::WindowScale(scale),
            (4, &[]) => TcpOption::SackPermitted,
            (5, blocks) if !blocks.is_empty() && blocks.len() % 8 == 0 => TcpOption::Sack(blocks),
            (8, both) if both.len() == 8 => TcpOption::Timestamps(u32_at(both, 0), u32_at(both, 4)),
            _ => TcpOption::Other(kind, body),
        })
    }
}

/// What lies behind a link's header.
enum Behind<'a> {
    Ip(&'a [u8]),
    Arp(&'a [u8]),
    EtherType(u16, &'a [u8]),
    Length(&'a [u8]),
    LinkType,
    Broken(&'static str),
}

/// The IP packet that a captured one carries, if it carries one.
pub fn ip_packet(link_type: u32, data: &[u8]) -> Option<&[u8]> {
    match behind(link_type, data) {
        Behind::Ip(packet) => Some(packet),
        _ => None,
    }
}

impl<'a> Net<'a> {
    /// Reads a packet's headers.
    ///
    /// `original` is its length on the wire, in bytes.
    pub fn of(link_type: u32, data: &'a [u8], original: u32) -> Net<'a> {
        let missing = original - data.len().min(original as usize) as u32;
        let whole = |rest: &[u8]| rest.len() as u32 + missing;
        match behind(link_type, data) {
            Behind::Ip(packet) => ip(packet, missing),
            Behind::Arp(packet) => Net::Arp(packet),
            Behind::EtherType(kind, rest) => Net::EtherType(kind, whole(rest)),
            Behind::Length(rest) => Net::Length(whole(rest)),
            Behind::LinkType => Net::LinkType(link_type),
            Behind::Broken(why) => Net::Broken(why),
        }
    }

    /// The segment that it carries, with its ends.
    pub fn tcp(&self) -> Option<(SocketAddr, SocketAddr, &Tcp<'a>)> {
        match self {
            Net::Ip(Ip {
                from,
                to,
                carries: Carried::Tcp(tcp),
                ..
            }) => Some((
                SocketAddr::new(*from, tcp.from),
                SocketAddr::new(*to, tcp.to),
                tcp,
            )),
            _ => None,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// # Panics
///
/// If the bytes end before it, as [`u16_at`].
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn behind(link_type: u32, data: &[u8]) -> Behind<'_> {
    match link_type {
        link::ETHERNET => ethernet(data),
        link::RAW | link::RAW_BSD | link::RAW_OPENBSD | link::IPV4 | link::IPV6 => Behind::Ip(data),
        link::NULL | link::LOOP => match data.get(4..) {
            Some(rest) => Behind::Ip(rest),
            None => Behind::Broken("cut within the loopback header"),
        },
        link::LINUX_SLL => cooked(data, 14, 16),
        link::LINUX_SLL2 => cooked(data, 0, 20),
        _ => Behind::LinkType,
    }
}

fn ethernet(data: &[u8]) -> Behind<'_> {
    let mut at = 12;
    for _ in 0..=MAX_TAGS {
        let Some(rest) = data.get(at..).filter(|rest| rest.len() >= 2) else {
            return Behind::Broken("cut within the Ethernet header");
        };
        let kind = u16_at(rest, 0);
        if !matches!(kind, ether_type::VLAN | ether_type::SERVICE_VLAN) {
            return of_ether_type(kind, &rest[2..]);
        }
        at += 4;
    }
    Behind::Broken("more VLAN tags than a frame has")
}

/// Linux's cooked captures: an EtherType at a place of a header.
fn cooked(data: &[u8], kind_at: usize, header: usize) -> Behind<'_> {
    match data.get(header..) {
        Some(rest) => of_ether_type(u16_at(data, kind_at), rest),
        None => Behind::Broken("cut within the cooked header"),
    }
}

fn of_ether_type(kind: u16, rest: &[u8]) -> Behind<'_> {
    match kind {
        ether_type::IPV4 | ether_type::IPV6 => Behind::Ip(rest),
        ether_type::ARP => Behind::Arp(rest),
        kind if kind < ether_type::LEAST => Behind::Length(rest),
        kind => Behind::EtherType(kind, rest),
    }
}

fn ip(data: &[u8], missing: u32) -> Net<'_> {
    match data.first().map(|first| first >> 4) {
        Some(4) => ipv4(data, missing),
        Some(6) => ipv6(data, missing),
        Some(_) => Net::Broken("neither IPv4 nor IPv6"),
        None => Net::Broken("cut before the IP header"),
    }
}

fn ipv4(data: &[u8], missing: u32) -> Net<'_> {
    if data.len() < 20 {
        return Net::Broken("cut within the IPv4 header");
    }
    let header = usize::from(data[0] & 0xf) * 4;
    if header < 20 {
        return Net::Broken("an IPv4 header of less than 20 bytes");
    }
    let there = data.len() as u32 + missing;
    // A device that cuts segments itself may see a length of 0 in a packet that
    // is longer than the field can say.
    let total = match u16_at(data, 2) {
        0 => there,
        total => u32::from(total),
    };
    if total < header as u32 {
        return Net::Broken("an IPv4 length shorter than its header");
    }
    let fragment = u16_at(data, 6);
    let part = Part {
        offset: u32::from(fragment & 0x1fff) * 8,
        has_more: fragment & 0x2000 != 0,
    };
    let len = total.min(there) - (header as u32).min(there);
    let body = clip(data.get(header..).unwrap_or_default(), len);
    Net::Ip(Ip {
        from: Ipv4Addr::from(u32_at(data, 12)).into(),
        to: Ipv4Addr::from(u32_at(data, 16)).into(),
        len,
        has_hop_options: false,
        carries: carried(data[9], body, len, part),
    })
}

fn ipv6(data: &[u8], missing: u32) -> Net<'_> {
    if data.len() < 40 {
        return Net::Broken("cut within the IPv6 header");
    }
    let there = data.len() as u32 + missing - 40;
    let len = match u16_at(data, 4) {
        0 => there,
        len => u32::from(len).min(there),
    };
    let from: [u8; 16] = data[8..24].try_into().expect("sixteen bytes");
    let to: [u8; 16] = data[24..40].try_into().expect("sixteen bytes");
    let (kind, skipped, part) = extensions(data[6], clip(&data[40..], len));
    let len = len.saturating_sub(skipped as u32);
    let body = clip(data.get(40 + skipped..).unwrap_or_default(), len);
    Net::Ip(Ip {
        from: Ipv6Addr::from(from).into(),
        to: Ipv6Addr::from(to).into(),
        len,
        has_hop_options: data[6] == protocol::HOP_BY_HOP,
        carries: carried(kind, body, len, part),
    })
}

/// Where in a packet a fragment is.
#[derive(Clone, Copy, Default)]
struct Part {
    offset: u32,
    has_more: bool,
}

/// Steps over the extension headers (RFC 8200 §4): what follows them, and their
/// length.
fn extensions(first: u8, bytes: &[u8]) -> (u8, usize, Part) {
    let (mut kind, mut at, mut part) = (first, 0, Part::default());
    for _ in 0..MAX_EXTENSIONS {
        let Some(header) = bytes.get(at..).filter(|rest| rest.len() >= 8) else {
            break;
        };
        let len = match kind {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                8 + usize::from(header[1]) * 8
            }
            protocol::AUTHENTICATION => 8 + usize::from(header[1]) * 4,
            protocol::FRAGMENT => {
                let field = u16_at(header, 2);
                part = Part {
                    offset: u32::from(field & !7),
                    has_more: field & 1 != 0,
                };
                8
            }
            _ => break,
        };
        kind = header[0];
        at += len;
    }
    (kind, at, part)
}

fn carried(kind: u8, body: &[u8], len: u32, part: Part) -> Carried<'_> {
    // The first part of a datagram has its header; a segment's data would be cut.
    if part.offset > 0 || part.has_more && kind != protocol::UDP {
        return Carried::Fragment(kind);
    }
    match kind {
        protocol::TCP => tcp(body, len),
        protocol::UDP => match body {
            [a, b, c, d, e, f, ..] => Carried::Udp {
                from: u16::from_be_bytes([*a, *b]),
                to: u16::from_be_bytes([*c, *d]),
                // A length of 0 is that of a datagram longer than it can say.
                len: match u16::from_be_bytes([*e, *f]) {
                    0 => len.saturating_sub(8),
                    said => u32::from(said).saturating_sub(8),
                },
            },
            _ => Carried::Broken("cut within the UDP header"),
        },
        protocol::ICMP | protocol::ICMP6 => Carried::Icmp(body),
        other => Carried::Other(other),
    }
}

fn tcp(body: &[u8], len: u32) -> Carried<'_> {
    if body.len() < 20 {
        return Carried::Broken("cut within the TCP header");
    }
    let header = usize::from(body[12] >> 4) * 4;
    if header < 20 || header as u32 > len {
        return Carried::Broken("a TCP header length that cannot be");
    }
    let len = len - header as u32;
    Carried::Tcp(Tcp {
        from: u16_at(body, 0),
        to: u16_at(body, 2),
        seq: u32_at(body, 4),
        ack: u32_at(body, 8),
        flags: Flags(body[13]),
        window: u16_at(body, 14),
        urgent: u16_at(body, 18),
        options: &body[20..header.min(body.len())],
        payload: clip(body.get(header..).unwrap_or_default(), len),
        len,
    })
}

/// Without what pads a short frame.
fn clip(bytes: &[u8], len: u32) -> &[u8] {
    &bytes[..bytes.len().min(len as usize)]
}
