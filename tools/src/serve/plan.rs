//! Which addresses and ports a server takes, checked before anything is opened.
//!
//! A pure function of the options and of the addresses that the kernel has, so
//! that every refusal has a test without a device.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use wirepath_stack::Cidr;

use crate::failure::Failure;

/// Addresses that a server has at most: those that an interface of the stack
/// holds.
pub const MAX_ADDRS: usize = 8;

/// An address that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddr {
    /// The interface that it is on.
    pub interface: String,
    /// The address with its network.
    pub cidr: Cidr,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The interface.
    pub interface: &'a str,
    /// The addresses given.
    pub addrs: &'a [Cidr],
    /// Whether they are to be the host's.
    pub share_host: bool,
    /// The ports given.
    pub ports: Option<&'a [u16]>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The next hops given.
    pub gateways: &'a [IpAddr],
}

/// What the server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its addresses.
    pub addrs: Vec<Cidr>,
    /// Its ports, or None for all of them.
    pub ports: Option<Vec<u16>>,
    /// Whether the host has the addresses too.
    pub shared: bool,
}

/// Checks a wish for an AF_XDP device against the addresses of the host.
pub fn on_interface(wish: &Wish<'_>, host: &[HostAddr]) -> Result<Plan, Failure> {
    let addrs = if wish.share_host {
        shared_addrs(wish, host)?
    } else {
        own_addrs(wish, host)?
    };
    check_in_networks(&addrs, wish.listen, wish.gateways)?;
    let ports = match wish.ports {
        None if !wish.share_host => None,
        None => Some(vec![wish.listen.port()]),
        Some(ports) => Some(with_listener(ports, wish.listen.port())?),
    };
    Ok(Plan {
        addrs,
        ports,
        shared: wish.share_host,
    })
}

/// Addresses that the host must not have.
fn own_addrs(wish: &Wish<'_>, host: &[HostAddr]) -> Result<Vec<Cidr>, Failure> {
    let interface = wish.interface;
    if wish.addrs.is_empty() {
        return Err(Failure::refused(format!(
            "the server needs an address: give it one of its own in the network of {interface} \
             with --addr 10.0.0.2/24, or share the host's with --share-host"
        )));
    }
    let taken = |cidr: &Cidr| host.iter().find(|h| h.cidr.addr == cidr.addr);
    if let Some(theirs) = wish.addrs.iter().find_map(taken) {
        let (cidr, on) = (theirs.cidr, &theirs.interface);
        let share = if on == interface {
            ", or share it with --share-host"
        } else {
            ""
        };
        return Err(Failure::refused(format!(
            "--addr {cidr} is the host's address on {on}, and cannot be the server's alone; give \
             another, or take it from the host with 'ip addr del {cidr} dev {on}'{share}"
        )));
    }
    Ok(wish.addrs.to_vec())
}

/// Addresses that the host must have on the interface: those given, or else
/// all that others can reach.
fn shared_addrs(wish: &Wish<'_>, host: &[HostAddr]) -> Result<Vec<Cidr>, Failure> {
    let interface = wish.interface;
    let theirs: Vec<_> = host
        .iter()
        .filter(|h| h.interface == interface)
        .map(|h| h.cidr)
        .collect();
    if let Some(missing) = wish.addrs.iter().find(|cidr| !theirs.contains(cidr)) {
        return Err(not_shared(interface, *missing, &theirs));
    }
    if !wish.addrs.is_empty() {
        return Ok(wish.addrs.to_vec());
    }
    let found: Vec<_> = theirs
        .into_iter()
        .filter(|cidr| !is_link_local(cidr.addr))
        .collect();
    match found.len() {
        0 => Err(Failure::refused(format!(
            "{interface} has no address of the host's to share; give it one with \
             'ip addr add 10.0.0.2/24 dev {interface}', or leave out --share-host and give the \
             server one of its own with --addr"
        ))),
        1..=MAX_ADDRS => Ok(found),
        many => Err(Failure::refused(format!(
            "the host has {many} addresses on {interface}, more than the {MAX_ADDRS} that a server \
             takes; choose with --addr {}",
            found[0]
        ))),
    }
}

/// Why a given address cannot be shared.
fn not_shared(interface: &str, missing: Cidr, theirs: &[Cidr]) -> Failure {
    let other_prefix = theirs.iter().find(|cidr| cidr.addr == missing.addr);
    let advice = match (other_prefix, theirs) {
        (Some(cidr), _) => format!("it is {cidr} there; give that"),
        (None, []) => format!(
            "which has none; give it that with 'ip addr add {missing} dev {interface}', or leave \
             out --share-host"
        ),
        (None, theirs) => {
            let list: Vec<_> = theirs.iter().map(Cidr::to_string).collect();
            format!(
                "which has {}; give one of these, or leave out --share-host for an address of the \
                 server's own",
                list.join(", ")
            )
        }
    };
    Failure::refused(format!(
        "--share-host: --addr {missing} is no address of the host's on {interface}, {advice}"
    ))
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

/// The ports, of which the listener's must be one: its clients would not get
/// through else.
fn with_listener(ports: &[u16], listen: u16) -> Result<Vec<u16>, Failure> {
    if ports.contains(&listen) {
        return Ok(ports.to_vec());
    }
    Err(Failure::refused(format!(
        "port {listen} of --listen is not among --ports, so nothing would reach it; add it to \
         --ports, or listen on one of them"
    )))
}

/// Checks a wish for a TAP, whose addresses are the server's alone by nature.
pub fn on_tap(addrs: &[Cidr], listen: SocketAddr, gateways: &[IpAddr]) -> Result<(), Failure> {
    if addrs.is_empty() {
        return Err(Failure::refused(
            "the server needs an address on the device: give one with --addr 10.0.0.2/24",
        ));
    }
    check_in_networks(addrs, listen, gateways)
}

/// A gateway is on the link, and the listener at an address of the server's.
fn check_in_networks(
    addrs: &[Cidr],
    listen: SocketAddr,
    gateways: &[IpAddr],
) -> Result<(), Failure> {
    for gateway in gateways {
        if !addrs.iter().any(|cidr| cidr.contains(*gateway)) {
            return Err(Failure::refused(format!(
                "--gateway {gateway} is in none of the networks given with --addr; give a gateway \
                 on the link"
            )));
        }
    }
    let host = listen.ip();
    if !host.is_unspecified() && !addrs.iter().any(|cidr| cidr.addr == host) {
        return Err(Failure::refused(format!(
            "--listen {listen} is none of the addresses given with --addr; give one of them, or \
             only a port as :{}",
            listen.port()
        )));
    }
    Ok(())
}

/// The addresses that the kernel has, in the network namespace of the caller.
pub fn host_addrs() -> Result<Vec<HostAddr>, Failure> {
    let found = getifaddrs().map_err(|e| {
        Failure::refused(format!(
            "cannot ask the kernel for its addresses (getifaddrs): {e}; it does so over \
             rtnetlink, which a unit must not forbid (RestrictAddressFamilies=AF_NETLINK)"
        ))
    })?;
    let each = found.filter_map(|found| {
        Some(HostAddr {
            cidr: cidr(found.address.as_ref()?, found.netmask.as_ref()?)?,
            interface: found.interface_name,
        })
    });
    Ok(each.collect())
}

/// An address and its mask; None for another family than IP.
fn cidr(addr: &SockaddrStorage, mask: &SockaddrStorage) -> Option<Cidr> {
    if let (Some(addr), Some(mask)) = (addr.as_sockaddr_in(), mask.as_sockaddr_in()) {
        let prefix = mask.ip().to_bits().count_ones();
        return Some(Cidr {
            addr: addr.ip().into(),
            prefix: u8::try_from(prefix).ok()?,
        });
    }
    let (addr, mask) = (addr.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
    let prefix = mask.ip().to_bits().count_ones();
    Some(Cidr {
        addr: addr.ip().into(),
        prefix: u8::try_from(prefix).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(text: &str) -> Vec<Cidr> {
        text.split_whitespace()
            .map(|c| c.parse().unwrap())
            .collect()
    }

    fn host() -> Vec<HostAddr> {
        let at = |interface: &str, text: &str| HostAddr {
            interface: interface.into(),
            cidr: text.parse().unwrap(),
        };
        vec![
            at("lo", "127.0.0.1/8"),
            at("eth0", "192.0.2.5/24"),
            at("eth0", "2001:db8::5/64"),
            at("eth0", "fe80::5/64"),
            at("eth1", "198.51.100.5/24"),
            at("bare0", "fe80::6/64"),
        ]
    }

    struct Case {
        interface: &'static str,
        addrs: &'static str,
        share: bool,
        ports: Option<&'static [u16]>,
        listen: &'static str,
        gateway: Option<&'static str>,
    }

    const CASE: Case = Case {
        interface: "eth0",
        addrs: "192.0.2.9/24",
        share: false,
        ports: None,
        listen: "0.0.0.0:8080",
        gateway: None,
    };

    fn plan(case: &Case) -> Result<Plan, String> {
        let gateways: Vec<IpAddr> = case.gateway.iter().map(|g| g.parse().unwrap()).collect();
        let wish = Wish {
            interface: case.interface,
            addrs: &cidrs(case.addrs),
            share_host: case.share,
            ports: case.ports,
            listen: case.listen.parse().unwrap(),
            gateways: &gateways,
        };
        on_interface(&wish, &host()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_can_be_is_taken() {
        for (case, addrs, ports, shared) in [
            (CASE, "192.0.2.9/24", None, false),
            (
                Case {
                    ports: Some(&[80, 8080]),
                    ..CASE
                },
                "192.0.2.9/24",
                Some(vec![80, 8080]),
                false,
            ),
            // The host's, found by itself: not the link-local one.
            (
                Case {
                    addrs: "",
                    share: true,
                    ..CASE
                },
                "192.0.2.5/24 2001:db8::5/64",
                Some(vec![8080]),
                true,
            ),
            (
                Case {
                    addrs: "192.0.2.5/24",
                    share: true,
                    listen: "192.0.2.5:80",
                    ports: Some(&[80, 443]),
                    ..CASE
                },
                "192.0.2.5/24",
                Some(vec![80, 443]),
                true,
            ),
            // One that it has and that was asked for by name.
            (
                Case {
                    addrs: "fe80::5/64",
                    share: true,
                    ..CASE
                },
                "fe80::5/64",
                Some(vec![8080]),
                true,
            ),
        ] {
            let want = Plan {
                addrs: cidrs(addrs),
                ports,
                shared,
            };
            assert_eq!(plan(&case), Ok(want));
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_mend() {
        for (case, says) in [
            (Case { addrs: "", ..CASE }, "--addr 10.0.0.2/24"),
            (
                Case {
                    addrs: "192.0.2.9/24 192.0.2.5/24",
                    ..CASE
                },
                "'ip addr del 192.0.2.5/24 dev eth0', or share it with --share-host",
            ),
            // Another interface's address cannot be shared on this one.
            (
                Case {
                    addrs: "198.51.100.5/24",
                    ..CASE
                },
                "'ip addr del 198.51.100.5/24 dev eth1'",
            ),
            (
                Case {
                    addrs: "192.0.2.9/24",
                    share: true,
                    ..CASE
                },
                "which has 192.0.2.5/24, 2001:db8::5/64, fe80::5/64; give one of these",
            ),
            (
                Case {
                    addrs: "192.0.2.5/16",
                    share: true,
                    ..CASE
                },
                "it is 192.0.2.5/24 there",
            ),
            (
                Case {
                    interface: "eth2",
                    addrs: "192.0.2.9/24",
                    share: true,
                    ..CASE
                },
                "'ip addr add 192.0.2.9/24 dev eth2'",
            ),
            (
                Case {
                    interface: "bare0",
                    addrs: "",
                    share: true,
                    ..CASE
                },
                "'ip addr add 10.0.0.2/24 dev bare0'",
            ),
            (
                Case {
                    ports: Some(&[80]),
                    ..CASE
                },
                "port 8080 of --listen is not among --ports",
            ),
            (
                Case {
                    gateway: Some("10.9.9.9"),
                    ..CASE
                },
                "--gateway 10.9.9.9",
            ),
            (
                Case {
                    listen: "192.0.2.7:80",
                    ..CASE
                },
                "--listen 192.0.2.7:80",
            ),
        ] {
            let said = plan(&case).unwrap_err();
            assert!(said.contains(says), "{said}");
            assert!(!said.contains('\n'), "one line: {said}");
        }
    }

    #[test]
    fn the_hosts_addresses_are_found() {
        let found = host_addrs().unwrap();
        let loopback = cidrs("127.0.0.1/8")[0];
        assert!(found.iter().any(|h| h.cidr == loopback), "{found:?}");
    }

    #[test]
    fn more_addresses_than_a_server_takes() {
        let many = (1..=9).map(|n| HostAddr {
            interface: "eth0".into(),
            cidr: Cidr {
                addr: [10, 0, 0, n].into(),
                prefix: 24,
            },
        });
        let wish = Wish {
            interface: "eth0",
            addrs: &[],
            share_host: true,
            ports: None,
            listen: "0.0.0.0:80".parse().unwrap(),
            gateways: &[],
        };
        let refused = on_interface(&wish, &many.collect::<Vec<_>>()).unwrap_err();
        assert!(refused.to_string().contains("--addr 10.0.0.1/24"));
    }
}
