//! Whom a packet of ours goes to, and from which of our addresses.
//!
//! The next hop is the destination itself when a prefix of ours covers it, or
//! when it is an IPv6 link-local address, and otherwise the gateway of its
//! family. The source is chosen by the rules of RFC 6724 §5 that can differ on
//! one link with configured addresses: it is usable (not tentative, not another
//! station's: rule 3's place), its scope reaches the destination (rule 2), its
//! label matches (rule 6: unique local addresses talk to each other), it is in
//! the next hop's network (which stands for rule 5.5), and it has the longest
//! prefix in common with the destination (rule 8). The address configured first
//! goes before its equals.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::ip::Local;
use crate::shard::Shard;
use crate::{Cidr, Errno};

/// How to reach a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Our address.
    pub(crate) source: IpAddr,
    /// Whose station gets the frame.
    pub(crate) next_hop: IpAddr,
}

impl Shard {
    /// How to reach `remote`, from `bound` when given.
    ///
    /// # Errors
    /// [`Errno::AddrNotAvailable`] when `remote` is one of our own addresses, of a
    /// group or of nobody, or no address of ours is usable yet;
    /// [`Errno::NetworkUnreachable`] without a prefix or gateway of its family;
    /// [`Errno::NotSupported`] when the host has our addresses too, since it
    /// would get the answers.
    pub(crate) fn route(&self, remote: IpAddr, bound: Option<IpAddr>) -> Result<Route, Errno> {
        if self.local.is_shared {
            return Err(Errno::NotSupported);
        }
        let usable = |addr| self.neighbors.usable(addr);
        find(&self.local, &self.gateways, usable, remote, bound)
    }
}

fn find(
    local: &Local,
    gateways: &[IpAddr],
    usable: impl Fn(IpAddr) -> bool,
    remote: IpAddr,
    bound: Option<IpAddr>,
) -> Result<Route, Errno> {
    let is_host = !remote.is_unspecified() && !remote.is_loopback() && !local.is_group(remote);
    if !is_host || local.owns(remote) {
        return Err(Errno::AddrNotAvailable);
    }
    let next_hop = next_hop(local, gateways, remote).ok_or(Errno::NetworkUnreachable)?;
    let link_local = local.link_local().map(|addr| Cidr {
        addr: addr.into(),
        prefix: 64,
    });
    let own = local.cidrs.iter().copied().chain(link_local);
    let fits = |own: &Cidr| {
        own.addr.is_ipv4() == remote.is_ipv4()
            && bound.is_none_or(|bound| own.addr == bound)
            && (!is_link_local(own.addr) || is_link_local(remote))
    };
    let mut candidates = own.filter(fits).peekable();
    candidates.peek().ok_or(Errno::NetworkUnreachable)?;
    let source = candidates
        .filter(|own| usable(own.addr))
        .min_by_key(|own| Reverse(rank(own, remote, next_hop)))
        .ok_or(Errno::AddrNotAvailable)?;
    Ok(Route {
        source: source.addr,
        next_hop,
    })
}

fn next_hop(local: &Local, gateways: &[IpAddr], remote: IpAddr) -> Option<IpAddr> {
    let is_on_link = local.cidrs.iter().any(|cidr| cidr.contains(remote));
    if is_on_link || (is_link_local(remote) && local.link_local().is_some()) {
        return Some(remote);
    }
    let mut of_family = gateways.iter().filter(|g| g.is_ipv4() == remote.is_ipv4());
    of_family.next().copied()
}

/// How well an address of ours fits as source, the rules in their order.
fn rank(own: &Cidr, remote: IpAddr, next_hop: IpAddr) -> (bool, bool, bool, u32) {
    (
        is_link_local(own.addr) == is_link_local(remote),
        is_unique_local(own.addr) == is_unique_local(remote),
        own.contains(next_hop),
        common_prefix(own, remote),
    )
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

fn is_unique_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unique_local())
}

/// Bits that an address of ours and `remote` begin with alike, up to the length
/// of our prefix (RFC 6724 §2.2).
fn common_prefix(own: &Cidr, remote: IpAddr) -> u32 {
    let bits = match (own.addr, remote) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    bits.min(own.prefix.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;

    /// Source and next hop from a host with several addresses, of which
    /// `tentative` is not usable.
    fn route(
        remote: &str,
        bound: Option<&str>,
        tentative: &str,
    ) -> Result<(String, String), Errno> {
        let cidrs = [
            "10.0.0.2/24",
            "10.0.0.3/24",
            "10.0.0.130/25",
            "192.0.2.2/24",
            "fd00::2/64",
            "2001:db8::2/64",
        ];
        let local = Local {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
            is_shared: false,
        };
        let gateways = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let usable = |addr: IpAddr| addr.to_string() != tentative;
        let bound = bound.map(|bound| bound.parse().unwrap());
        let remote = remote.parse().unwrap();
        find(&local, &gateways, usable, remote, bound)
            .map(|route| (route.source.to_string(), route.next_hop.to_string()))
    }

    #[test]
    fn sources_and_next_hops() {
        for (remote, bound, tentative, source, next_hop) in [
            // On the link: the longest prefix, the first of equals.
            ("10.0.0.9", None, "", "10.0.0.2", "10.0.0.9"),
            ("10.0.0.9", None, "10.0.0.2", "10.0.0.3", "10.0.0.9"),
            ("10.0.0.200", None, "", "10.0.0.130", "10.0.0.200"),
            ("192.0.2.7", None, "", "192.0.2.2", "192.0.2.7"),
            // By the gateway: from its network, however near another is.
            ("192.0.3.7", None, "", "10.0.0.2", "10.0.0.1"),
            ("192.0.3.7", Some("192.0.2.2"), "", "192.0.2.2", "10.0.0.1"),
            // By label, though the gateway's network is another.
            ("2001:4860::8", None, "", "2001:db8::2", "fd00::1"),
            ("fd77::8", None, "", "fd00::2", "fd00::1"),
            ("2001:4860::8", None, "2001:db8::2", "fd00::2", "fd00::1"),
            ("fe80::9", None, "", "fe80::ff:fe00:1", "fe80::9"),
            ("fe80::9", None, "fe80::ff:fe00:1", "2001:db8::2", "fe80::9"),
        ] {
            let want = Ok((source.to_owned(), next_hop.to_owned()));
            assert_eq!(route(remote, bound, tentative), want, "{remote}");
        }
    }

    #[test]
    fn what_cannot_be_reached() {
        for (remote, bound, tentative, want) in [
            ("10.0.0.2", None, "", Errno::AddrNotAvailable),
            ("10.0.0.255", None, "", Errno::AddrNotAvailable),
            ("255.255.255.255", None, "", Errno::AddrNotAvailable),
            ("127.0.0.1", None, "", Errno::AddrNotAvailable),
            ("::1", None, "", Errno::AddrNotAvailable),
            ("ff02::1", None, "", Errno::AddrNotAvailable),
            ("::", None, "", Errno::AddrNotAvailable),
            ("10.0.0.9", Some("fd00::2"), "", Errno::NetworkUnreachable),
            (
                "10.0.0.9",
                Some("10.0.0.3"),
                "10.0.0.3",
                Errno::AddrNotAvailable,
            ),
        ] {
            assert_eq!(route(remote, bound, tentative), Err(want), "{remote}");
        }
        let local = Local {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            cidrs: vec!["10.0.0.2/24".parse().unwrap()],
            is_shared: false,
        };
        for remote in ["192.0.2.1", "fe80::1", "fd00::1"] {
            let found = find(&local, &[], |_| true, remote.parse().unwrap(), None);
            assert_eq!(found, Err(Errno::NetworkUnreachable), "{remote}");
        }
    }
}
