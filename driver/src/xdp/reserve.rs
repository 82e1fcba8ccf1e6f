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
        IpAddr::V6(addr) if is_link_local(&addr) => SocketAddrV6::new(addr, port, 0, ifindex).into(),
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
    let inodes = sockets_on(addr.port(), protocol);
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

/// The inodes of the kernel's sockets with this local port, of both families:
/// one of IPv6 may hold the port of IPv4 too.
fn sockets_on(port: u16, protocol: Protocol) -> Vec<u64> {
    let mut inodes = Vec::new();
    for family in ["", "6"] {
        let path = format!("/proc/thread-self/net/{}{family}", protocol.name());
        let table = fs::read_to_string(path).unwrap_or_default();
        let rows = table.lines().skip(1);
        inodes.extend(rows.filter_map(|row| inode_on(row, port)));
    }
    inodes
}

/// The inode of one row of /proc/net/tcp and its like (proc_pid_net(5)), if its
/// local port is `port`.
fn inode_on(row: &str, port: u16) -> Option<u64> {
    let mut columns = row.split_ascii_whitespace();
    let (_, local_port) = columns.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local_port, 16) != Ok(port) {
        return None;
    }
    columns.nth(7)?.parse().ok()
}
