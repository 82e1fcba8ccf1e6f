//! What an ICMP error says of a packet that we sent.
//!
//! RFC 792, RFC 1122 §3.2.2.1, RFC 4443 §3.1. The error quotes the packet: its
//! IP header and at least 8 bytes (RFC 792), which hold both ports and TCP's
//! sequence number. Anybody can send such a message, so whoever acts on one
//! first checks that the quoted numbers are those of a packet that is out
//! (RFC 5927 §4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Errno;
use crate::flow::FlowKey;
use crate::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IcmpPacket, TCP, UDP};

/// A packet of ours that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    /// Its addresses and ports, ours as `local`.
    pub(crate) flow: FlowKey,
    /// Its sequence number; None for a datagram.
    pub(crate) seq: Option<u32>,
    /// What keeps it from arriving.
    pub(crate) error: Errno,
}

/// The packet that `message`, which `frame` was classified as, says did not
/// arrive; None for a message that says no such thing, or quotes none of ours.
pub(crate) fn unreachable(message: &IcmpPacket, frame: &[u8]) -> Option<Unreachable> {
    let quoted = frame.get(message.message.clone())?.get(8..)?;
    let (error, (local, remote, protocol, payload)) = match message.src {
        IpAddr::V4(_) => (error_v4(message.kind, message.code)?, quoted_v4(quoted)?),
        IpAddr::V6(_) => (error_v6(message.kind, message.code)?, quoted_v6(quoted)?),
    };
    let [p0, p1, p2, p3, s0, s1, s2, s3] = *payload.first_chunk::<8>()?;
    let seq = match protocol {
        TCP => Some(u32::from_be_bytes([s0, s1, s2, s3])),
        UDP => None,
        _ => return None,
    };
    let flow = FlowKey {
        local: (local, u16::from_be_bytes([p0, p1])),
        remote: (remote, u16::from_be_bytes([p2, p3])),
    };
    Some(Unreachable { flow, seq, error })
}

/// «Destination unreachable» by its code, as Linux tells them. «Fragmentation
/// needed» (4) is no such error.
fn error_v4(kind: u8, code: u8) -> Option<Errno> {
    const UNREACHABLE: u8 = 3;
    match (kind, code) {
        (UNREACHABLE, 2 | 3) => Some(Errno::ConnectionRefused),
        (UNREACHABLE, 0 | 6 | 9 | 11) => Some(Errno::NetworkUnreachable),
        (UNREACHABLE, 1 | 5 | 7 | 8 | 10 | 12..=15) => Some(Errno::HostUnreachable),
        _ => None,
    }
}

/// The same of ICMPv6 (RFC 4443 §3.1): no route, forbidden, beyond the scope, no
/// such station, no such port, refused by a policy or a route.
fn error_v6(kind: u8, code: u8) -> Option<Errno> {
    const UNREACHABLE: u8 = 1;
    match (kind, code) {
        (UNREACHABLE, 4) => Some(Errno::ConnectionRefused),
        (UNREACHABLE, 0) => Some(Errno::NetworkUnreachable),
        (UNREACHABLE, 1..=3 | 5 | 6) => Some(Errno::HostUnreachable),
        _ => None,
    }
}

/// Source, destination, protocol and payload of a packet.
type Quoted<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn quoted_v4(packet: &[u8]) -> Option<Quoted<'_>> {
    let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    // We send no fragments.
    let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    if header[0] >> 4 != 4 || header_len < IPV4_HEADER_LEN || !is_first {
        return None;
    }
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let (src, dst) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    Some((src.into(), dst.into(), header[9], packet.get(header_len..)?))
}

/// We send no extension headers, so the next header is the protocol.
fn quoted_v6(packet: &[u8]) -> Option<Quoted<'_>> {
    let header = packet.first_chunk::<IPV6_HEADER_LEN>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let addr = |at: usize| {
        let bytes = header[at..].first_chunk::<16>();
        IpAddr::from(Ipv6Addr::from(*bytes.expect("both are in the header")))
    };
    Some((addr(8), addr(24), header[6], &packet[IPV6_HEADER_LEN..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;

    /// What a message of a type and code that quotes `quoted` says.
    fn read(src: &str, kind: u8, code: u8, quoted: &[u8]) -> Option<Unreachable> {
        let mut frame = vec![kind, code, 0, 0, 0, 0, 0, 0];
        frame.extend_from_slice(quoted);
        let packet = IcmpPacket {
            src_mac: MacAddr([2; 6]),
            src: src.parse().unwrap(),
            dst: src.parse().unwrap(),
            kind,
            code,
            message: 0..frame.len(),
        };
        unreachable(&packet, &frame)
    }

    fn v4(protocol: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        packet.extend_from_slice(&[10, 0, 0, 1, 192, 0, 2, 1]);
        packet.extend_from_slice(&[0x9c, 0x40, 0, 80, 1, 2, 3, 4]);
        packet
    }

    fn v6(protocol: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, protocol, 64];
        for addr in ["fd00::1", "2001:db8::1"] {
            packet.extend_from_slice(&addr.parse::<Ipv6Addr>().unwrap().octets());
        }
        packet.extend_from_slice(&[0x9c, 0x40, 0, 80, 1, 2, 3, 4]);
        packet
    }

    #[test]
    fn errors_name_the_packet_and_the_reason() {
        use Errno::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        for (code, want) in [
            (0, Some(NetworkUnreachable)),
            (1, Some(HostUnreachable)),
            (3, Some(ConnectionRefused)),
            (4, None),
            (13, Some(HostUnreachable)),
            (16, None),
        ] {
            let said = read("10.0.0.9", 3, code, &v4(TCP));
            assert_eq!(said.map(|said| said.error), want, "code {code}");
        }
        for (code, want) in [
            (0, Some(NetworkUnreachable)),
            (3, Some(HostUnreachable)),
            (4, Some(ConnectionRefused)),
            (7, None),
        ] {
            let said = read("fd00::9", 1, code, &v6(TCP));
            assert_eq!(said.map(|said| said.error), want, "code {code}");
        }
        let said = read("10.0.0.9", 3, 3, &v4(TCP)).unwrap();
        assert_eq!(said.seq, Some(0x0102_0304));
        assert_eq!(said.flow.local_addr(), "10.0.0.1:40000".parse().unwrap());
        assert_eq!(said.flow.remote_addr(), "192.0.2.1:80".parse().unwrap());
        let said = read("fd00::9", 1, 4, &v6(UDP)).unwrap();
        assert_eq!(said.seq, None);
        assert_eq!(said.flow.local_addr(), "[fd00::1]:40000".parse().unwrap());
    }

    #[test]
    fn what_is_cut_short_or_of_no_protocol_says_nothing() {
        for (src, kind, whole) in [("10.0.0.9", 3, v4(TCP)), ("fd00::9", 1, v6(UDP))] {
            for len in 0..whole.len() {
                assert_eq!(read(src, kind, 3, &whole[..len]), None, "{len} bytes");
            }
            assert!(read(src, kind, 3, &whole).is_some());
            assert_eq!(read(src, 11, 0, &whole), None, "time exceeded");
        }
        assert_eq!(read("10.0.0.9", 3, 3, &v4(1)), None);
        assert_eq!(read("10.0.0.9", 3, 3, &v6(TCP)), None);
        let mut fragment = v4(TCP);
        fragment[7] = 9;
        assert_eq!(read("10.0.0.9", 3, 3, &fragment), None);
        let mut long = v4(TCP);
        long[0] = 0x4f;
        assert_eq!(read("10.0.0.9", 3, 3, &long), None);
    }
}
