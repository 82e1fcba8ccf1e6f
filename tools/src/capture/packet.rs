//! What a capture knows of a frame from its bytes.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice, ip_number};
use serde::Serialize;
use wirepath_driver::capture::{Captured, Direction};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A segment.
    Tcp,
    /// A datagram.
    Udp,
    /// ICMP, or ICMPv6 with NDP.
    Icmp,
    /// ARP.
    Arp,
    /// Something else.
    Other,
}

impl Protocol {
    /// Whether its packets have ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Udp)
    }
}

/// The part of a TCP header that places a segment in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its sequence number.
    pub seq: u32,
    /// Bytes of data, also those that were cut off.
    pub len: u32,
    /// Whether it opens a connection.
    pub is_syn: bool,
    /// Whether it acknowledges.
    pub is_ack: bool,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which way it went.
    pub direction: Direction,
    /// What it carries.
    pub protocol: Protocol,
    /// From where to where; ports are 0 where there are none.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// Of TCP, if its header is whole.
    pub tcp: Option<Segment>,
}

/// Our end and the peer's.
pub type FlowKey = (SocketAddr, SocketAddr);

impl Packet {
    /// Reads a frame, as far as it is one.
    pub fn of(frame: &Captured) -> Packet {
        let nothing = Packet {
            direction: frame.direction,
            protocol: Protocol::Other,
            ends: None,
            tcp: None,
        };
        let Ok(sliced) = LaxSlicedPacket::from_ethernet(&frame.bytes) else {
            return nothing;
        };
        let Some((ips, number, ip_len)) = addresses(&sliced) else {
            let protocol = match sliced.net {
                Some(LaxNetSlice::Arp(_)) => Protocol::Arp,
                _ => Protocol::Other,
            };
            return Packet {
                protocol,
                ..nothing
            };
        };
        let (ports, tcp) = transport(sliced.transport.as_ref(), ip_len);
        Packet {
            protocol: protocol(number),
            ends: Some((
                SocketAddr::new(ips.0, ports.0),
                SocketAddr::new(ips.1, ports.1),
            )),
            tcp,
            ..nothing
        }
    }

    /// The connection that it is of, if it is of one: our end and the peer's.
    pub fn flow(&self) -> Option<FlowKey> {
        if self.protocol != Protocol::Tcp {
            return None;
        }
        let (from, to) = self.ends?;
        Some(match self.direction {
            Direction::In => (to, from),
            Direction::Out => (from, to),
        })
    }
}

/// Addresses, what the packet carries, and how many bytes of that there should
/// be.
fn addresses(sliced: &LaxSlicedPacket<'_>) -> Option<((IpAddr, IpAddr), u8, usize)> {
    match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let from = header.source_addr().into();
            let to = header.destination_addr().into();
            let len = usize::from(header.total_len());
            let len = len.saturating_sub(header.slice().len());
            Some(((from, to), ip.payload().ip_number.0, len))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let from = header.source_addr().into();
            let to = header.destination_addr().into();
            let extensions = ip.extensions().slice().len();
            let len = usize::from(header.payload_length()).saturating_sub(extensions);
            Some(((from, to), ip.payload().ip_number.0, len))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

fn protocol(number: u8) -> Protocol {
    match etherparse::IpNumber(number) {
        ip_number::TCP => Protocol::Tcp,
        ip_number::UDP => Protocol::Udp,
        ip_number::ICMP | ip_number::IPV6_ICMP => Protocol::Icmp,
        _ => Protocol::Other,
    }
}

/// Ports, and a segment's place.
fn transport(sliced: Option<&TransportSlice<'_>>, ip_len: usize) -> ((u16, u16), Option<Segment>) {
    match sliced {
        Some(TransportSlice::Tcp(tcp)) => {
            let len = ip_len.saturating_sub(tcp.header_slice().len());
            let segment = Segment {
                seq: tcp.sequence_number(),
                len: u32::try_from(len).unwrap_or(0),
                is_syn: tcp.syn(),
                is_ack: tcp.ack(),
            };
            ((tcp.source_port(), tcp.destination_port()), Some(segment))
        }
        Some(TransportSlice::Udp(udp)) => ((udp.source_port(), udp.destination_port()), None),
        _ => ((0, 0), None),
    }
}
