//! The ports of a shared address, kept from everybody else on the host.
//!
//! The filter takes these ports' frames from under the kernel, which knows
//! nothing of it: another server could bind such a port and never hear a
//! client, and an outgoing connection could be given it and never hear the
//! answer. A bound socket for each address, port and protocol keeps them; it
//! does not listen, so that the kernel has nobody to answer for. They end with
//! the process.
//!
//! `SO_REUSEADDR` is not set: two sockets that have it may bind the same port
//! as long as none listens (socket(7)), and every server sets it. The price is
//! that a port whose kernel connections ended within the last minute cannot be
//! had; the error says so.
//!
//! Rejected: `net.ipv4.ip_local_reserved_ports`, which is the whole machine's,
//! stays after a crash, and keeps only outgoing connections away.
//!
//! The device reserves before it attaches the filter, and drops [`Reserved`]
//! after it was taken off.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::filter::Rules;
use super::processes;

/// A protocol whose ports are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As ss(8) and /proc/net call it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Why a port could not be reserved. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// Somebody has it.
    #[error(
        "{protocol} port {port} of {ip} is taken{who}; {mend}, or serve other ports (--ports)",
        protocol = protocol.name(), port = addr.port(), ip = addr.ip(),
        who = who(holders, *closing), mend = mend(*protocol, *addr, *closing)
    )]
    Taken {
        /// The address and port.
        addr: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// Who has it, as far as we may see: number and name.
        holders: Vec<(u32, String)>,
        /// Whether nothing but connections that are ending hold it.
        closing: bool,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host does not have the address.
    #[error(
        "{ip} is no address of this host, so there is nothing to share; 'ip -br addr' lists those that are (an IPv6 address that is still «tentative» becomes one in a second), or take it as our own with --addr and without --share-host",
        ip = addr.ip()
    )]
    NotHere {
        /// The address and port.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A port that only the privileged may bind.
    #[error(
        "cannot reserve port {port}: not permitted; run as root or with CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start with 'sudo sysctl net.ipv4.ip_unprivileged_port_start={port}'",
        port = addr.port()
    )]
    Permission {
        /// The address and port.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step failed that should not on a healthy machine.
    #[error(
        "cannot reserve {protocol} port {addr}; each takes a descriptor, so check the limit of open files ('ulimit -n')",
        protocol = protocol.name()
    )]
    System {
        /// The address and port.
        addr: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// What the kernel said.
        source: io::Error,
    },
}

fn who(holders: &[(u32, String)], closing: bool) -> String {
    match holders {
        [] if closing => " by connections of the kernel's that ended just now".to_owned(),
        [] => " by another process".to_owned(),
        [(pid, name), ..] => format!(" by process {pid} ({name})"),
    }
}

fn mend(protocol: Protocol, addr: SocketAddr, closing: bool) -> String {
    let letter = protocol.name().chars().next().unwrap_or('t');
    let port = addr.port();
    if closing {
        "wait a minute until they are gone".to_owned()
    } else {
        format!("end it ('sudo ss -{letter}anp sport = :{port}' shows it)")
    }
}

/// Ports that nobody else gets as long as this value lives.
#[derive(Debug, Default)]
pub struct Reserved {
    sockets: Vec<OwnedFd>,
}

impl Reserved {
    /// Reserves every port of a shared address, for TCP and UDP. Where the
    /// addresses are our own that is none, since the kernel does not have them.
    /// `ifindex` is the interface that link-local addresses are of.
    ///
    /// # Errors
    /// See [`ReserveError`]; nothing stays reserved then.
    pub fn bind(rules: &Rules, ifindex: u32) -> Result<Reserved, ReserveError> {
        let mut reserved = Reserved::default();
        if !rules.is_shared() {
            return Ok(reserved);
        }
        for addr in places(rules, ifindex) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let socket = reserve(addr, protocol).map_err(|e| explain(addr, protocol, e))?;
                reserved.sockets.push(socket);
            }
        }
        Ok(reserved)
    }

    /// How many sockets hold them.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }
}

/// Each address with each port, once.
fn places(rules: &Rules, ifindex: u32) -> Vec<SocketAddr> {
    let mut places = Vec::new();
    for addr in &rules.addrs {
        for port in rules.ports().unwrap_or_default() {
            places.push(place(*addr, *port, ifindex));
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

fn place(addr: IpAddr, port: u16, ifindex: u32) -> SocketAddr {
    let is_link_local = |addr: &Ipv6Addr| addr.is_unicast_link_local();
    match addr {
        IpAddr::V6(addr) if is_link_local(&addr) => {
            SocketAddrV6::new(addr, port, 0, ifindex).into()
        }
        _ => SocketAddr::new(addr, port),
    }
}

fn reserve(addr: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // What the filter passes on, a fragment say, is not kept for us. The kernel
    // gives the least that it can.
    sockopt::set_socket_recv_buffer_size(&socket, 1)?;
    bind(&socket, &addr)?;
    Ok(socket)
}

fn explain(addr: SocketAddr, protocol: Protocol, errno: Errno) -> ReserveError {
    let source = errno.into();
    match errno {
        Errno::ADDRINUSE => taken(addr, protocol, source),
        Errno::ADDRNOTAVAIL | Errno::NODEV => ReserveError::NotHere { addr, source },
        Errno::ACCESS | Errno::PERM => ReserveError::Permission { addr, source },
        _ => ReserveError::System {
            addr,
            protocol,
            source,
        },
    }
}

fn taken(addr: SocketAddr, protocol: Protocol, source: io::Error) -> ReserveError {
    let inodes = sockets_on(addr, protocol);
    // A connection in TIME_WAIT has no socket any more, and number 0.
    let closing = !inodes.is_empty() && inodes.iter().all(|inode| *inode == 0);
    let mut holders: Vec<_> = inodes
        .into_iter()
        .filter(|inode| *inode != 0)
        .flat_map(|inode| processes::with_descriptor(&format!("socket:[{inode}]")))
        .collect();
    holders.dedup();
    ReserveError::Taken {
        addr,
        protocol,
        holders,
        closing,
        source,
    }
}

/// The inodes of the kernel's sockets that keep this port of this address, or
/// of all addresses. Both families: a socket of IPv6 may hold a port of IPv4.
fn sockets_on(addr: SocketAddr, protocol: Protocol) -> Vec<u64> {
    let mut inodes = Vec::new();
    for family in ["", "6"] {
        let path = format!("/proc/thread-self/net/{}{family}", protocol.name());
        let table = fs::read_to_string(path).unwrap_or_default();
        let rows = table.lines().skip(1);
        inodes.extend(rows.filter_map(|row| inode_on(row, addr)));
    }
    inodes
}

/// The inode of one row of /proc/net/tcp and its like (proc_pid_net(5)), if
/// what it is bound to stands in the way of `addr`.
fn inode_on(row: &str, addr: SocketAddr) -> Option<u64> {
    let mut columns = row.split_ascii_whitespace();
    let (ip, port) = columns.nth(1)?.rsplit_once(':')?;
    let ip = local_ip(ip)?;
    let same_port = u16::from_str_radix(port, 16) == Ok(addr.port());
    let in_the_way = same_port && (ip.is_unspecified() || ip == addr.ip());
    let inode = columns.nth(7)?.parse().ok();
    inode.filter(|_| in_the_way)
}

/// An address as these tables have it: words of the machine's order, in hex.
/// One of IPv4 on a socket of IPv6 is given as the former.
fn local_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    if hex.len() == 8 {
        return Some(IpAddr::from(word(0)?.to_ne_bytes()));
    }
    let mut octets = [0; 16];
    for (place, four) in octets.chunks_exact_mut(4).enumerate() {
        four.copy_from_slice(&word(place * 8)?.to_ne_bytes());
    }
    Some(IpAddr::from(octets).to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::xdp::filter::tests::lab::{addr, as_nobody, in_namespace, ip, veth, wait_until};

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_the_kernels_tables_are_read() {
        let row = |local: &str| {
            format!(
                "   0: {local} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1215 1 0000000030710ff5 100 0 0 10 0"
            )
        };
        let v6 = "0000000000000000FFFF00000200000A";
        let loopback = "00000000000000000000000001000000";
        let table = [
            ("0200000A:0050".to_owned(), "10.0.0.2:80", Some(1215)),
            ("00000000:0050".to_owned(), "10.0.0.2:80", Some(1215)),
            ("0200000A:0051".to_owned(), "10.0.0.2:80", None),
            ("0300000A:0050".to_owned(), "10.0.0.2:80", None),
            (format!("{v6}:0050"), "10.0.0.2:80", Some(1215)),
            (format!("{loopback}:01BB"), "[::1]:443", Some(1215)),
            (format!("{loopback}:01BB"), "[::2]:443", None),
            ("rubbish".to_owned(), "10.0.0.2:80", None),
            ("0000:0050".to_owned(), "10.0.0.2:80", None),
        ];
        for (local, addr, want) in table {
            let addr = addr.parse().unwrap();
            assert_eq!(inode_on(&row(&local), addr), want, "{local}");
        }
        assert_eq!(inode_on("", "10.0.0.2:80".parse().unwrap()), None);
    }

    /// The loopback with two addresses, in a namespace.
    fn host() {
        ip("link set lo up");
        ip("addr add 10.0.0.3/24 dev lo");
        ip("addr add fd00::3/64 dev lo nodad");
    }

    fn both(ports: &[u16]) -> Rules {
        Rules::shared([addr("10.0.0.3"), addr("fd00::3")], ports.to_vec())
    }

    #[test]
    fn a_reserved_port_is_nobody_elses_until_it_is_dropped() {
        in_namespace("a_reserved_port_is_nobody_elses", || {
            host();
            let reserved = Reserved::bind(&both(&[80, 443, 80]), 1).unwrap();
            assert_eq!(reserved.sockets(), 2 * 2 * 2);
            let places = ["10.0.0.3:80", "[fd00::3]:443", "0.0.0.0:80", "[::]:80"];
            for place in places {
                // The standard library sets SO_REUSEADDR.
                let tcp = TcpListener::bind(place).unwrap_err();
                assert_eq!(tcp.kind(), io::ErrorKind::AddrInUse, "{place}");
                let udp = UdpSocket::bind(place).unwrap_err();
                assert_eq!(udp.kind(), io::ErrorKind::AddrInUse, "{place}");
            }
            // Nobody listens: the kernel has nothing to answer for.
            let refused = TcpStream::connect("10.0.0.3:80").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            TcpListener::bind("10.0.0.3:81").unwrap();
            TcpListener::bind("127.0.0.1:80").unwrap();
            drop(reserved);
            for place in places {
                TcpListener::bind(place).unwrap();
            }
        });
    }

    #[test]
    fn who_has_a_port_is_said() {
        in_namespace("who_has_a_port_is_said", || {
            host();
            for place in ["10.0.0.3:80", "0.0.0.0:80", "[::]:80", "[fd00::3]:80"] {
                let _server = TcpListener::bind(place).unwrap();
                let taken = Reserved::bind(&both(&[80]), 1).unwrap_err();
                let text = taken.to_string();
                let ours = format!("taken by process {} (", std::process::id());
                assert!(text.starts_with("tcp port 80 of "), "{text}");
                assert!(text.contains(&ours), "{text}");
                assert!(text.contains("sudo ss -tanp sport = :80"), "{text}");
            }
            let _server = UdpSocket::bind("10.0.0.3:80").unwrap();
            let taken = Reserved::bind(&both(&[80]), 1).unwrap_err();
            assert!(taken.to_string().starts_with("udp port 80"), "{taken}");
        });
    }

    #[test]
    fn connections_that_are_ending_are_told_from_a_server() {
        in_namespace("connections_that_are_ending", || {
            host();
            let server = TcpListener::bind("10.0.0.3:80").unwrap();
            let client = TcpStream::connect("10.0.0.3:80").unwrap();
            let (served, _) = server.accept().unwrap();
            // Who ends first keeps the port for a minute.
            served.shutdown(std::net::Shutdown::Both).unwrap();
            drop((served, client, server));
            let closing = || match Reserved::bind(&both(&[80]), 1) {
                Err(ReserveError::Taken { closing, .. }) => closing,
                other => panic!("{other:?}"),
            };
            wait_until("nothing but TIME_WAIT is left", closing);
            let text = Reserved::bind(&both(&[80]), 1).unwrap_err().to_string();
            assert!(text.contains("wait a minute"), "{text}");
        });
    }

    #[test]
    fn what_cannot_be_reserved_says_why() {
        in_namespace("what_cannot_be_reserved_says_why", || {
            host();
            let foreign = Rules::shared([addr("192.0.2.9")], [80]);
            let not_here = Reserved::bind(&foreign, 1).unwrap_err();
            let text = not_here.to_string();
            assert!(
                text.starts_with("192.0.2.9 is no address of this host"),
                "{text}"
            );
            as_nobody(|| {
                let refused = Reserved::bind(&both(&[80]), 1).unwrap_err();
                let text = refused.to_string();
                assert!(text.contains("CAP_NET_BIND_SERVICE"), "{text}");
                Reserved::bind(&both(&[8080]), 1).unwrap();
            });
            let none = Reserved::bind(&Rules::own([addr("192.0.2.9")]), 1).unwrap();
            assert_eq!(none.sockets(), 0);
        });
    }

    #[test]
    fn a_link_local_address_is_of_its_interface() {
        in_namespace("a_link_local_address_is_of_its_interface", || {
            let index = veth();
            ip("addr add fe80::3/64 dev wpf0 nodad");
            let rules = Rules::shared([addr("fe80::3")], [80]);
            Reserved::bind(&rules, index).unwrap();
            let elsewhere = Reserved::bind(&rules, 1).unwrap_err();
            assert!(
                matches!(elsewhere, ReserveError::NotHere { .. }),
                "{elsewhere}"
            );
        });
    }
}
