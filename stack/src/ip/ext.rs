//! What may stand between an IP header and its payload: IPv4 options and IPv6
//! extension headers. Off the fast path.
//!
//! RFC 791 §3.1, RFC 7126 (IPv4 options); RFC 8200 §4, RFC 5095 (IPv6).

use super::DropCause;

/// Extension headers before the payload, at most. RFC 8200 §4.1 names an order
/// with six, of which fragments and IPsec are not for us.
const MAX_EXTENSION_HEADERS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Checks the options of an IPv4 header.
///
/// # Errors
/// [`DropCause::BadOptions`] or [`DropCause::SourceRoute`].
#[cold]
pub(super) fn check_ipv4_options(mut options: &[u8]) -> Result<(), DropCause> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest) {
            (END, _) => return Ok(()),
            (NOP, rest) => rest,
            (LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, _) => return Err(DropCause::SourceRoute),
            (_, [len, ..]) if *len >= 2 && usize::from(*len) <= options.len() => {
                &options[usize::from(*len)..]
            }
            _ => return Err(DropCause::BadOptions),
        };
    }
    Ok(())
}

/// Where a chain of extension headers leads.
pub(super) struct Chain {
    /// The protocol of the payload.
    pub(super) protocol: u8,
    /// Where the payload starts in the packet.
    pub(super) at: usize,
    /// Whether there was a hop-by-hop header with a router alert (RFC 2711).
    pub(super) router_alert: bool,
    /// Whether smoltcp finds the payload too: it skips a hop-by-hop header but
    /// takes any other for the payload and answers with an error.
    pub(super) is_plain: bool,
}

/// Walks the extension headers of `packet`, a whole IPv6 packet whose fixed
/// header says that `next` follows.
///
/// # Errors
/// The cause to drop the packet for.
#[inline]
pub(super) fn walk(packet: &[u8], next: u8) -> Result<Chain, DropCause> {
    let mut chain = Chain {
        protocol: next,
        at: 40,
        router_alert: false,
        is_plain: true,
    };
    if is_extension(next) {
        walk_headers(packet, &mut chain)?;
    }
    Ok(chain)
}

#[inline]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

#[cold]
fn walk_headers(packet: &[u8], chain: &mut Chain) -> Result<(), DropCause> {
    for position in 0..MAX_EXTENSION_HEADERS {
        let rest = packet.get(chain.at..).unwrap_or_default();
        let [next, units, ..] = *rest else {
            return Err(DropCause::Truncated);
        };
        let len = (usize::from(units) + 1) * 8;
        let header = rest.get(..len).ok_or(DropCause::Truncated)?;
        match chain.protocol {
            FRAGMENT => return Err(DropCause::Fragment),
            // Only the first header may be of hop-by-hop options.
            HOP_BY_HOP if position > 0 => return Err(DropCause::ExtensionChain),
            HOP_BY_HOP => chain.router_alert = check_ipv6_options(&header[2..])?,
            // An unknown routing type is passed over when it has nothing left to
            // do (RFC 8200 §4.4), and so is type 0 (RFC 5095 §3).
            ROUTING if header[3] != 0 => return Err(DropCause::SourceRoute),
            ROUTING => chain.is_plain = false,
            _ => {
                check_ipv6_options(&header[2..])?;
                chain.is_plain = false;
            }
        }
        chain.protocol = next;
        chain.at += len;
        if !is_extension(next) {
            return Ok(());
        }
    }
    Err(DropCause::ExtensionChain)
}

/// Checks the options of a hop-by-hop or destination options header; whether a
/// router alert is among them.
fn check_ipv6_options(mut options: &[u8]) -> Result<bool, DropCause> {
    const PAD1: u8 = 0;
    const ROUTER_ALERT: u8 = 5;
    /// The bits of an option's type that say what becomes of the packet where it
    /// is unknown; zero to go on.
    const ACTION: u8 = 0xc0;
    let mut router_alert = false;
    while let [kind, rest @ ..] = options {
        if *kind == PAD1 {
            options = rest;
            continue;
        }
        let len = 2 + usize::from(*rest.first().ok_or(DropCause::BadOptions)?);
        if *kind & ACTION != 0 {
            return Err(DropCause::UnknownOption);
        }
        router_alert |= *kind == ROUTER_ALERT;
        options = options.get(len..).ok_or(DropCause::BadOptions)?;
    }
    Ok(router_alert)
}
