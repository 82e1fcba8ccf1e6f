//! ICMP and ICMPv6: echo replies and «port unreachable» that we send, the limit on
//! how often, and the errors about our packets that we take.
//!
//! smoltcp could do both, but only with its checksums verified twice, without a
//! limit, and for TCP's sake alone. RFC 792, RFC 1122 §3.2.2, RFC 1812 §4.3.2,
//! RFC 4443. The frames go back to the station that the cause came from.

mod unreachable;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(crate) use unreachable::{Unreachable, unreachable};
use wirepath_driver::Nanos;

use crate::MacAddr;
use crate::ether::{self, HEADER_LEN};
use crate::ip::checksum::Sum;
use crate::ip::{self, Datagram, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IcmpPacket, Local};

/// Hop limit of what we send (RFC 1700, still the customary value).
pub(crate) const HOP_LIMIT: u8 = 64;

/// Bytes of the longest ICMP error as an IP packet (RFC 1812 §4.3.2.3).
const MAX_ERROR_LEN_V4: usize = 576;
/// Bytes of the longest ICMPv6 error as an IP packet: the least MTU (RFC 4443 §2.4).
const MAX_ERROR_LEN_V6: usize = 1280;

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: [u8; 2] = [0, 0];
const PORT_UNREACHABLE_V4: [u8; 2] = [3, 3];
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: [u8; 2] = [129, 0];
const PORT_UNREACHABLE_V6: [u8; 2] = [1, 4];

/// Puts into `out` the frame that answers `request`, which `frame` was classified
/// as; false, and `out` empty, when it is to go unanswered.
///
/// A ping to an IPv4 broadcast is not answered (RFC 1122 §3.2.2.6), one to a
/// group of IPv6 from our link-local address (RFC 4443 §4.2).
#[must_use]
pub(crate) fn echo_reply(
    local: &Local,
    request: &IcmpPacket,
    frame: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    out.clear();
    let Some([kind, code, _, _, body @ ..]) = frame.get(request.message.clone()) else {
        return false;
    };
    let reply = match (*kind, *code, request.src) {
        (ECHO_REQUEST_V4, 0, IpAddr::V4(_)) => ECHO_REPLY_V4,
        (ECHO_REQUEST_V6, 0, IpAddr::V6(_)) => ECHO_REPLY_V6,
        _ => return false,
    };
    let own = match request.dst {
        dst if local.owns(dst) => dst,
        IpAddr::V6(_) => match local.link_local() {
            Some(addr) => addr.into(),
            None => return false,
        },
        IpAddr::V4(_) => return false,
    };
    Message {
        from: (local.mac, own),
        to: (request.src_mac, request.src),
        kind_and_code: reply,
        rest: &body[..4],
        data: &body[4..],
    }
    .write(out)
}

/// Puts into `out` the frame that tells the sender of `datagram`, which `frame`
/// was classified as, that nobody listens on its port; false, and `out` empty,
/// when nothing may be sent: the datagram was for many (RFC 1122 §3.2.2,
/// RFC 4443 §2.4 e). Quotes as much of the packet as an error may.
#[must_use]
pub(crate) fn port_unreachable(
    local: &Local,
    datagram: &Datagram,
    frame: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    out.clear();
    let Some(packet) = frame.get(datagram.ip.clone()) else {
        return false;
    };
    if !local.owns(datagram.dst) {
        return false;
    }
    let (kind_and_code, room) = match datagram.src {
        IpAddr::V4(_) => (PORT_UNREACHABLE_V4, MAX_ERROR_LEN_V4 - IPV4_HEADER_LEN - 8),
        IpAddr::V6(_) => (PORT_UNREACHABLE_V6, MAX_ERROR_LEN_V6 - IPV6_HEADER_LEN - 8),
    };
    Message {
        from: (local.mac, datagram.dst),
        to: (datagram.src_mac, datagram.src),
        kind_and_code,
        rest: &[0; 4],
        data: &packet[..packet.len().min(room)],
    }
    .write(out)
}

/// An ICMP message of either family on its way into a frame.
struct Message<'a> {
    from: (MacAddr, IpAddr),
    to: (MacAddr, IpAddr),
    kind_and_code: [u8; 2],
    /// The four bytes after the checksum.
    rest: &'a [u8],
    data: &'a [u8],
}

impl Message<'_> {
    /// Appends the frame; false when the addresses are of two families or the
    /// data does not fit an IP packet.
    fn write(&self, out: &mut Vec<u8>) -> bool {
        let len = 8 + self.data.len();
        out.resize(HEADER_LEN, 0);
        let (ethertype, pseudo) = match (self.from.1, self.to.1) {
            (IpAddr::V4(src), IpAddr::V4(dst)) if len <= 65_535 - IPV4_HEADER_LEN => {
                push_ipv4(out, src, dst, ip::ICMP, len);
                (ether::IPV4, Sum::default())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) if len <= 65_535 => {
                push_ipv6(out, src, dst, HOP_LIMIT, ip::ICMPV6, len);
                let addrs = Sum::of(&out[HEADER_LEN + 8..]);
                (ether::IPV6, addrs.and_protocol(ip::ICMPV6, len))
            }
            _ => {
                out.clear();
                return false;
            }
        };
        ether::write_header(out, self.to.0, self.from.0, ethertype);
        let at = out.len();
        out.extend_from_slice(&self.kind_and_code);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(self.rest);
        out.extend_from_slice(self.data);
        let checksum = pseudo.and(Sum::of(&out[at..])).checksum();
        out[at + 2..at + 4].copy_from_slice(&checksum);
        true
    }
}

/// Appends an IPv4 header for `len` bytes, at most 65,515. It forbids fragments,
/// so the identification means nothing and is 0 (RFC 6864 §4.1).
fn push_ipv4(out: &mut Vec<u8>, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) {
    let total_len = u16::try_from(IPV4_HEADER_LEN + len).expect("the caller checked the length");
    let [high, low] = total_len.to_be_bytes();
    let at = out.len();
    out.extend_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    let checksum = Sum::of(&out[at..]).checksum();
    out[at + 10..at + 12].copy_from_slice(&checksum);
}

/// Appends an IPv6 header for `len` bytes, at most 65,535.
pub(crate) fn push_ipv6(
    out: &mut Vec<u8>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    next: u8,
    len: usize,
) {
    let len = u16::try_from(len).expect("the caller checked the length");
    let [high, low] = len.to_be_bytes();
    out.extend_from_slice(&[0x60, 0, 0, 0, high, low, next, hop_limit]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
}

/// How often we speak unasked: errors and resets (RFC 1812 §4.3.2.8, RFC 4443
/// §2.4 f). A token bucket, kept as the time at which it would be full: one word,
/// no refill timer.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    /// Time that one token takes to come.
    interval: Duration,
    /// Time that a full bucket takes to come, less one token.
    slack: Duration,
    /// When the bucket is full again.
    full_at: Nanos,
    /// What was refused.
    refused: u64,
}

impl RateLimit {
    /// A full bucket of `burst` tokens, to which `per_second` come. A limit of 0
    /// counts as 1.
    pub(crate) fn new(per_second: u32, burst: u32) -> RateLimit {
        let interval = Duration::from_secs(1) / per_second.max(1);
        RateLimit {
            interval,
            slack: interval * (burst.max(1) - 1),
            full_at: Nanos::ZERO,
            refused: 0,
        }
    }

    /// Takes a token; false, and counted, when there is none.
    pub(crate) fn allow(&mut self, now: Nanos) -> bool {
        if self.full_at.since(now) > self.slack {
            self.refused += 1;
            return false;
        }
        self.full_at = self.full_at.max(now) + self.interval;
        true
    }

    /// How often there was no token.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests;
