//! IPv6 neighbour discovery (RFC 4861 §4.3, §4.4) and listener discovery
//! (RFC 3810 §5) messages, read and written.
//!
//! smoltcp has them only where it speaks Ethernet itself. What is read here has
//! passed [`crate::ip::classify`]: the checksum is right and the message at least
//! 8 bytes.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::MacAddr;
use crate::ether::{self, HEADER_LEN};
use crate::icmp::push_ipv6;
use crate::ip::checksum::Sum;
use crate::ip::{ALL_NODES, DropCause, ICMPV6, IPV6_HEADER_LEN, solicited_node};

/// Hop limit of neighbour discovery: nothing from another link has it left
/// (RFC 4861 §7.1).
const ON_LINK: u8 = 255;

const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_V2: u8 = 143;

const OPTION_SOURCE_LINK: u8 = 1;
const OPTION_TARGET_LINK: u8 = 2;

const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// Where version 2 reports go: all routers that know them (RFC 3810 §5.2.14).
const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// A neighbour or listener discovery message and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NdpPacket {
    /// Station that sent the frame.
    pub src_mac: MacAddr,
    /// Sender's address; unspecified while it looks for duplicates.
    pub src: Ipv6Addr,
    /// What it says.
    pub message: NdpMessage,
}

/// What a neighbour or listener discovery message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NdpMessage {
    /// «Who has `target`?»
    Solicit {
        /// The address asked for.
        target: Ipv6Addr,
        /// Where the asker says that it is.
        source_mac: Option<MacAddr>,
    },
    /// «I have `target`.»
    Advert {
        /// The address that the sender has.
        target: Ipv6Addr,
        /// Where it says that it is.
        target_mac: Option<MacAddr>,
        /// Answers a solicitation of ours, so the sender hears us.
        solicited: bool,
        /// Wants to replace what we know.
        overrides: bool,
    },
    /// «Who listens to which groups?»
    Query {
        /// The group asked for; unspecified for all.
        group: Ipv6Addr,
        /// The answer is to come at a random time within this.
        max_delay: Duration,
    },
}

impl NdpPacket {
    /// RFC 4861 §7.1.1.
    pub(crate) fn parse_solicit(
        src_mac: MacAddr,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        hop_limit: u8,
        bytes: &[u8],
    ) -> Result<NdpPacket, DropCause> {
        let (target, options) = target_and_options(hop_limit, bytes)?;
        let source_mac = link_address(options, OPTION_SOURCE_LINK)?;
        let is_probe = src.is_unspecified();
        if is_probe && (dst != solicited_node(target) || source_mac.is_some()) {
            return Err(DropCause::BadNdp);
        }
        Ok(NdpPacket {
            src_mac,
            src,
            message: NdpMessage::Solicit { target, source_mac },
        })
    }

    /// RFC 4861 §7.1.2.
    pub(crate) fn parse_advert(
        src_mac: MacAddr,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        hop_limit: u8,
        bytes: &[u8],
    ) -> Result<NdpPacket, DropCause> {
        let (target, options) = target_and_options(hop_limit, bytes)?;
        let solicited = bytes[4] & FLAG_SOLICITED != 0;
        if dst.is_multicast() && solicited {
            return Err(DropCause::BadNdp);
        }
        Ok(NdpPacket {
            src_mac,
            src,
            message: NdpMessage::Advert {
                target,
                target_mac: link_address(options, OPTION_TARGET_LINK)?,
                solicited,
                overrides: bytes[4] & FLAG_OVERRIDE != 0,
            },
        })
    }

    /// RFC 3810 §5.1, §6.2; a query of version 1 is 24 bytes and says the same.
    pub(crate) fn parse_query(
        src_mac: MacAddr,
        src: Ipv6Addr,
        bytes: &[u8],
    ) -> Result<NdpPacket, DropCause> {
        let header = bytes.first_chunk::<24>().ok_or(DropCause::BadNdp)?;
        if !src.is_unicast_link_local() {
            return Err(DropCause::BadNdp);
        }
        let code = u16::from_be_bytes([header[4], header[5]]);
        // From version 2 on, large values are floating point (RFC 3810 §5.1.3).
        let millis = if bytes.len() == 24 || code < 0x8000 {
            u64::from(code)
        } else {
            let (exponent, mantissa) = ((code >> 12) & 7, code & 0xfff);
            (u64::from(mantissa) | 0x1000) << (exponent + 3)
        };
        Ok(NdpPacket {
            src_mac,
            src,
            message: NdpMessage::Query {
                group: ipv6_at(header, 8),
                max_delay: Duration::from_millis(millis),
            },
        })
    }
}

/// The checks and fields that solicitations and advertisements share.
fn target_and_options(hop_limit: u8, bytes: &[u8]) -> Result<(Ipv6Addr, &[u8]), DropCause> {
    let (header, options) = bytes.split_first_chunk::<24>().ok_or(DropCause::BadNdp)?;
    let target = ipv6_at(header, 8);
    if hop_limit != ON_LINK || header[1] != 0 || target.is_multicast() {
        return Err(DropCause::BadNdp);
    }
    Ok((target, options))
}

fn ipv6_at(header: &[u8; 24], at: usize) -> Ipv6Addr {
    let bytes = header[at..].first_chunk::<16>();
    Ipv6Addr::from(*bytes.expect("the address is in the header"))
}

/// The link-layer address in the first option of type `wanted` (RFC 4861 §4.6).
/// One that no station can have is as good as none.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, DropCause> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let len = usize::from(units) * 8;
        if len == 0 || len > options.len() {
            return Err(DropCause::BadNdp);
        }
        if let ([_, _, a, b, c, d, e, f], true) = (&options[..len], kind == wanted) {
            found = found.or(Some(MacAddr([*a, *b, *c, *d, *e, *f])));
        }
        options = &options[len..];
    }
    match options {
        [] => Ok(found.filter(|mac| mac.is_station())),
        _ => Err(DropCause::BadNdp),
    }
}

/// A frame that asks `dst_mac`, or with none the group, who has `target`. An
/// unspecified `src` makes it a probe for duplicates (RFC 4862 §5.4.2).
pub(super) fn solicit_frame(
    mac: MacAddr,
    src: Ipv6Addr,
    target: Ipv6Addr,
    dst_mac: Option<MacAddr>,
) -> Vec<u8> {
    let group = solicited_node(target);
    let (dst, dst_mac) = match dst_mac {
        Some(dst_mac) => (target, dst_mac),
        None => (group, ether::group_mac(group)),
    };
    let option = (!src.is_unspecified()).then_some(OPTION_SOURCE_LINK);
    let body = neighbor_body(NEIGHBOR_SOLICITATION, 0, target, option, mac);
    frame((mac, src), (dst_mac, dst), ON_LINK, &[], &body)
}

/// A frame that tells `to`, or with none everybody, that we have `target`.
pub(super) fn advert_frame(
    mac: MacAddr,
    target: Ipv6Addr,
    to: Option<(MacAddr, Ipv6Addr)>,
) -> Vec<u8> {
    let (flags, to) = match to {
        Some(to) => (FLAG_SOLICITED | FLAG_OVERRIDE, to),
        None => (FLAG_OVERRIDE, (ether::group_mac(ALL_NODES), ALL_NODES)),
    };
    let option = Some(OPTION_TARGET_LINK);
    let body = neighbor_body(NEIGHBOR_ADVERTISEMENT, flags, target, option, mac);
    frame((mac, target), to, ON_LINK, &[], &body)
}

fn neighbor_body(
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: Option<u8>,
    mac: MacAddr,
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    if let Some(option) = option {
        body.extend_from_slice(&[option, 1]);
        body.extend_from_slice(&mac.0);
    }
    body
}

/// What a listener report says of its groups (RFC 3810 §5.2.12): every source is
/// welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// We listen, as you asked.
    Still = 2,
    /// We listen from now on.
    Newly = 4,
}

/// A version 2 report of `groups`. An unspecified `src` is right while no
/// address of ours is known to be unique (RFC 3810 §5.2.13).
pub(super) fn report_frame(
    mac: MacAddr,
    src: Ipv6Addr,
    groups: &[Ipv6Addr],
    listening: Listening,
) -> Vec<u8> {
    /// A hop-by-hop header with a router alert of value 0, padded (RFC 2711).
    const ROUTER_ALERT: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let count = u16::try_from(groups.len()).expect("a group for each of a few addresses");
    let mut body = vec![LISTENER_REPORT_V2, 0, 0, 0, 0, 0];
    body.extend_from_slice(&count.to_be_bytes());
    for group in groups {
        body.extend_from_slice(&[listening as u8, 0, 0, 0]);
        body.extend_from_slice(&group.octets());
    }
    let to = (ether::group_mac(ALL_MLDV2_ROUTERS), ALL_MLDV2_ROUTERS);
    frame((mac, src), to, 1, &ROUTER_ALERT, &body)
}

/// A frame with an ICMPv6 message, whose checksum is filled in, after
/// `hop_by_hop`.
fn frame(
    from: (MacAddr, Ipv6Addr),
    to: (MacAddr, Ipv6Addr),
    hop_limit: u8,
    hop_by_hop: &[u8],
    body: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN];
    ether::write_header(&mut out, to.0, from.0, ether::IPV6);
    let next = if hop_by_hop.is_empty() { ICMPV6 } else { 0 };
    let len = hop_by_hop.len() + body.len();
    push_ipv6(&mut out, from.1, to.1, hop_limit, next, len);
    let addrs = Sum::of(&out[HEADER_LEN + 8..HEADER_LEN + IPV6_HEADER_LEN]);
    out.extend_from_slice(hop_by_hop);
    let at = out.len();
    out.extend_from_slice(body);
    let sum = addrs.and_protocol(ICMPV6, body.len()).and(Sum::of(body));
    out[at + 2..at + 4].copy_from_slice(&sum.checksum());
    out
}
