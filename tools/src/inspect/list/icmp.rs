//! The lines of ARP, ICMP and ICMPv6.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::u32_at;

macro_rules! put {
    ($line:expr, $($arg:tt)*) => {
        write!($line, $($arg)*).expect("memory takes it")
    };
}

/// ARP for IPv4 on Ethernet (RFC 826); of others the numbers.
pub(super) fn arp(line: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len();
    let Some(packet) = bytes.get(..28).filter(|p| p[..6] == [0, 1, 8, 0, 6, 4]) else {
        return put!(line, "ARP, not of IPv4 on Ethernet or cut, length {len}");
    };
    let addr = |at: usize| Ipv4Addr::from(u32_at(packet, at));
    let (sender, target) = (addr(14), addr(24));
    match packet[7] {
        1 => {
            put!(line, "ARP, Request who-has {target}");
            if packet[18..24] != [0; 6] {
                put!(line, " ({})", Mac(&packet[18..24]));
            }
            put!(line, " tell {sender}, length {len}");
        }
        2 => put!(
            line,
            "ARP, Reply {sender} is-at {}, length {len}",
            Mac(&packet[8..14])
        ),
        other => put!(line, "ARP, operation {other}, length {len}"),
    }
}

struct Mac<'a>(&'a [u8]);

impl std::fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let colon = if place > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// A message of either ICMP, `len` bytes long on the wire.
pub(super) fn message(line: &mut Vec<u8>, bytes: &[u8], len: u32, is_v6: bool) {
    line.extend_from_slice(if is_v6 { b"ICMP6, " } else { b"ICMP " });
    let Some(head) = bytes.get(..8) else {
        return put!(line, "[cut within its header], length {len}");
    };
    match is_v6 {
        true => v6(line, head, bytes),
        false => v4(line, head, bytes),
    }
    put!(line, ", length {len}");
}

fn echo(head: &[u8]) -> (u32, u32) {
    let both = u32_at(head, 4);
    (both >> 16, both & 0xffff)
}

/// ICMP (RFC 792).
fn v4(line: &mut Vec<u8>, head: &[u8], bytes: &[u8]) {
    let (id, seq) = echo(head);
    match (head[0], head[1]) {
        (0, _) => put!(line, "echo reply, id {id}, seq {seq}"),
        (8, _) => put!(line, "echo request, id {id}, seq {seq}"),
        (3, code) => unreachable(line, code, head, &bytes[8..]),
        (11, 0) => line.extend_from_slice(b"time exceeded in-transit"),
        (11, _) => line.extend_from_slice(b"ip reassembly time exceeded"),
        (5, _) => put!(line, "redirect to {}", Ipv4Addr::from(u32_at(head, 4))),
        (kind, code) => put!(line, "type-#{kind}, code {code}"),
    }
}

/// Destination unreachable: which, out of the packet that it quotes.
fn unreachable(line: &mut Vec<u8>, code: u8, head: &[u8], quoted: &[u8]) {
    let Some(ip) = quoted.get(..20) else {
        return put!(line, "unreachable, code {code}");
    };
    let to = Ipv4Addr::from(u32_at(ip, 16));
    let header = usize::from(ip[0] & 0xf) * 4;
    let port = quoted
        .get(header + 2..header + 4)
        .map(|p| u16::from_be_bytes([p[0], p[1]]));
    match (code, ip[9], port) {
        (0, ..) => put!(line, "net {to} unreachable"),
        (1, ..) => put!(line, "host {to} unreachable"),
        (2, kind, _) => put!(line, "{to} protocol {kind} unreachable"),
        (3, 17, Some(port)) => put!(line, "{to} udp port {port} unreachable"),
        (3, 6, Some(port)) => put!(line, "{to} tcp port {port} unreachable"),
        (4, ..) => put!(
            line,
            "{to} unreachable - need to frag (mtu {})",
            u32_at(head, 4) & 0xffff
        ),
        (13, ..) => put!(line, "host {to} unreachable - admin prohibited filter"),
        (code, ..) => put!(line, "{to} unreachable, code {code}"),
    }
}

/// ICMPv6 (RFC 4443), neighbour discovery (RFC 4861) and MLD (RFC 3810).
fn v6(line: &mut Vec<u8>, head: &[u8], bytes: &[u8]) {
    let (id, seq) = echo(head);
    let target = bytes.get(8..24).map(|addr| {
        let addr: [u8; 16] = addr.try_into().expect("sixteen bytes");
        Ipv6Addr::from(addr)
    });
    match (head[0], head[1], target) {
        (128, ..) => put!(line, "echo request, id {id}, seq {seq}"),
        (129, ..) => put!(line, "echo reply, id {id}, seq {seq}"),
        (133, ..) => line.extend_from_slice(b"router solicitation"),
        (134, ..) => line.extend_from_slice(b"router advertisement"),
        (135, _, Some(target)) => put!(line, "neighbor solicitation, who has {target}"),
        (136, _, Some(target)) => put!(line, "neighbor advertisement, tgt is {target}"),
        (143, ..) => put!(line, "multicast listener report v2, {seq} group record(s)"),
        (1, code, _) => put!(line, "destination unreachable, code {code}"),
        (2, ..) => put!(line, "packet too big, mtu {}", u32_at(head, 4)),
        (3, ..) => line.extend_from_slice(b"time exceeded in-transit"),
        (kind, code, _) => put!(line, "type-#{kind}, code {code}"),
    }
}
