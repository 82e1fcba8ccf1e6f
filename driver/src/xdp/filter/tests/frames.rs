//! Frames made by hand, from the drawings of RFC 791, 826, 4861, 8200, 9293.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const ESP: u8 = 50;
pub const AUTHENTICATION: u8 = 51;
pub const NO_NEXT_HEADER: u8 = 59;
pub const DESTINATION: u8 = 60;

pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;

/// A frame of this Ethertype.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `frame` with a VLAN tag of this Ethertype.
pub fn tagged(tag: u16, frame: &[u8]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(tag.to_be_bytes());
    tagged.extend([0, 7]);
    tagged.extend(&frame[12..]);
    tagged
}

/// An IPv4 packet's header fields that tests set.
#[derive(Clone, Copy)]
pub struct V4<'a> {
    pub dst: &'a str,
    pub protocol: u8,
    /// Flags and offset: 0x2000 is «more», the offset counts in 8 bytes.
    pub fragment: u16,
    /// Bytes of options, a multiple of 4.
    pub options: usize,
}

/// To `dst`, whole, without options.
pub fn v4(dst: &str, protocol: u8) -> V4<'_> {
    V4 {
        dst,
        protocol,
        fragment: 0x4000,
        options: 0,
    }
}

impl V4<'_> {
    pub fn frame(self, payload: &[u8]) -> Vec<u8> {
        let dst: Ipv4Addr = self.dst.parse().unwrap();
        let header = 20 + self.options;
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(((header + payload.len()) as u16).to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0, 10, 0, 0, 1]);
        packet.extend(dst.octets());
        packet.resize(header, 1);
        packet.extend(payload);
        ethernet(0x0800, &packet)
    }
}

/// An IPv6 frame whose first next header is `next`.
pub fn v6(dst: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let dst: Ipv6Addr = dst.parse().unwrap();
    let src: Ipv6Addr = "fd00::1".parse().unwrap();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

/// Enough of a segment or datagram to this port.
pub fn ports(dst: u16) -> Vec<u8> {
    let mut segment = vec![0xc0, 0];
    segment.extend(dst.to_be_bytes());
    segment.resize(20, 0x50);
    segment
}

/// An extension header of `8 * (units + 1)` bytes, before `rest`.
pub fn extension(next: u8, units: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units];
    header.resize(8 * (usize::from(units) + 1), 0);
    header.extend(rest);
    header
}

/// A routing header with `left` stops left, before `rest`.
pub fn routing(next: u8, left: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = extension(next, 2, rest);
    header[2..4].copy_from_slice(&[4, left]);
    header
}

/// A fragment header (offset in 8 bytes), before `rest`.
pub fn fragment(next: u8, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0x99];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0, 1]);
    header.extend(rest);
    header
}

/// A neighbour message about `target`.
pub fn neighbor(kind: u8, target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().unwrap();
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    message
}

/// ARP from `sender` about `target`.
pub fn arp(operation: u16, sender: &str, target: &str) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend([2, 0, 0, 0, 0, 1]);
    packet.extend(address(sender));
    packet.extend([0; 6]);
    packet.extend(address(target));
    ethernet(0x0806, &packet)
}
