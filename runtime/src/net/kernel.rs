//! The kernel's sockets, as `socket(7)` and `tcp(7)` have them. No call here
//! blocks; all set `CLOEXEC` and `NONBLOCK`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType,
};
use wirepath_stack::syscall::{ListenOptions, UdpOptions};

use crate::netpoll::{CallError, KernelFd};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Unanswered probes before an idle peer counts as gone (Go's number).
const KEEPALIVE_PROBES: u32 = 9;

/// A socket of the family that `addr` is of.
pub(super) fn socket(addr: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    Ok(rustix::net::socket_with(family, kind, FLAGS, None)?)
}

/// A socket bound to `addr`. An unspecified address means all addresses of
/// both families, as in Go: a socket of IPv6 that takes IPv4 as well, or of
/// IPv4 where the system has no IPv6.
pub(super) fn bound(addr: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    if !addr.ip().is_unspecified() {
        let fd = socket(&addr, kind)?;
        return bind(fd, &addr, kind);
    }
    let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), addr.port());
    let dual = || {
        let fd = socket(&all, kind)?;
        sockopt::set_ipv6_v6only(&fd, false)?;
        bind(fd, &all, kind)
    };
    dual().or_else(|e| match e.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(e),
        _ => {
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port());
            bind(socket(&all, kind)?, &all, kind)
        }
    })
}

fn bind(fd: OwnedFd, addr: &SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    if kind == SocketType::STREAM {
        // Else a port whose last connections are in TIME-WAIT is taken.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    rustix::net::bind(&fd, addr)?;
    Ok(fd)
}

/// A listening socket. Without options the backlog is the most that the system
/// allows (`net.core.somaxconn`), as in Go.
pub(super) fn listen(addr: SocketAddr, options: Option<&ListenOptions>) -> io::Result<OwnedFd> {
    let fd = bound(addr, SocketType::STREAM)?;
    // What it accepts inherits these.
    sockopt::set_tcp_nodelay(&fd, true)?;
    if let Some(options) = options {
        sockopt::set_socket_recv_buffer_size(&fd, options.recv_buffer)?;
        sockopt::set_socket_send_buffer_size(&fd, options.send_buffer)?;
    }
    // The kernel lowers it to its limit.
    let backlog = options.map_or(i32::MAX, |o| i32::try_from(o.backlog).unwrap_or(i32::MAX));
    rustix::net::listen(&fd, backlog)?;
    Ok(fd)
}

/// The next connection. One that was reset before it was taken is passed over.
pub(super) fn accept(listener: &KernelFd) -> Result<(OwnedFd, SocketAddr), CallError> {
    listener.call(|fd| {
        loop {
            match rustix::net::acceptfrom_with(fd, FLAGS) {
                Ok((fd, peer)) => return Ok((fd, address(peer)?)),
                Err(Errno::CONNABORTED) => {}
                Err(e) => return Err(e),
            }
        }
    })
}

/// A socket that connects to `remote`; [`connect_result`] tells how it ended.
pub(super) fn start_connect(remote: &SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(remote, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    match rustix::net::connect(&fd, remote) {
        // An interrupted connect goes on.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(fd),
        Err(e) => Err(e.into()),
    }
}

/// How a connect ended; `EAGAIN` while it goes on.
pub(super) fn connect_result(fd: &KernelFd) -> Result<(), CallError> {
    fd.call(|fd| {
        sockopt::socket_error(fd)??;
        match rustix::net::getpeername(fd) {
            // TCP's simultaneous open: nobody listens at a port that is free
            // for us, and we have met ourselves.
            Ok(peer) if peer == Some(rustix::net::getsockname(fd)?) => Err(Errno::CONNREFUSED),
            Ok(_) => Ok(()),
            Err(Errno::NOTCONN) => Err(Errno::AGAIN),
            Err(e) => Err(e),
        }
    })
}

pub(super) fn read(fd: &KernelFd, buf: &mut [u8]) -> Result<usize, CallError> {
    fd.call(|fd| Ok(rustix::net::recv(fd, &mut *buf, RecvFlags::empty())?.1))
}

pub(super) fn write(fd: &KernelFd, buf: &[u8]) -> Result<usize, CallError> {
    fd.call(|fd| rustix::net::send(fd, buf, SendFlags::NOSIGNAL))
}

/// Sends pages of a file from `offset` on; 0 is its end.
pub(super) fn send_file(
    fd: &KernelFd,
    file: BorrowedFd<'_>,
    mut offset: u64,
    len: usize,
) -> Result<usize, CallError> {
    fd.call(|fd| rustix::fs::sendfile(fd, file, Some(&mut offset), len))
}

/// A UDP socket, and whether it takes IPv4 addresses as mapped to IPv6.
pub(super) fn udp_bind(
    addr: SocketAddr,
    options: Option<&UdpOptions>,
) -> io::Result<(OwnedFd, bool)> {
    let fd = bound(addr, SocketType::DGRAM)?;
    if let Some(options) = options {
        sockopt::set_socket_recv_buffer_size(&fd, options.recv_bytes)?;
    }
    let family = rustix::net::getsockname(&fd)?.address_family();
    Ok((fd, family == AddressFamily::INET6))
}

/// Sets the peer of a UDP socket.
pub(super) fn udp_connect(fd: &KernelFd, remote: &SocketAddr) -> Result<(), CallError> {
    fd.call(|fd| rustix::net::connect(fd, remote))
}

/// Sends a datagram, to the peer when nobody is named.
pub(super) fn send_to(
    fd: &KernelFd,
    data: &[u8],
    to: Option<SocketAddr>,
) -> Result<usize, CallError> {
    fd.call(|fd| match &to {
        Some(to) => rustix::net::sendto(fd, data, SendFlags::NOSIGNAL, to),
        None => rustix::net::send(fd, data, SendFlags::NOSIGNAL),
    })
}

/// Takes a datagram: bytes copied, and its sender.
pub(super) fn recv_from(fd: &KernelFd, buf: &mut [u8]) -> Result<(usize, SocketAddr), CallError> {
    fd.call(|fd| {
        let (copied, _, from) = rustix::net::recvfrom(fd, &mut *buf, RecvFlags::empty())?;
        Ok((copied, address(from)?))
    })
}

pub(super) fn shutdown(fd: &KernelFd, how: std::net::Shutdown) -> Result<(), CallError> {
    let how = match how {
        std::net::Shutdown::Read => Shutdown::Read,
        std::net::Shutdown::Write => Shutdown::Write,
        std::net::Shutdown::Both => Shutdown::Both,
    };
    fd.call(|fd| rustix::net::shutdown(fd, how))
}

/// Has the close that follows send a reset, and drop what was not sent.
pub(super) fn reset(fd: &OwnedFd) {
    // Else it is closed in order, which ends the connection too.
    let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}

pub(super) fn set_nodelay(fd: &KernelFd, nodelay: bool) -> Result<(), CallError> {
    fd.call(|fd| sockopt::set_tcp_nodelay(fd, nodelay))
}

/// Probes after `interval` without traffic, and then at that interval; the
/// kernel counts in seconds.
pub(super) fn set_keepalive(fd: &KernelFd, interval: Option<Duration>) -> Result<(), CallError> {
    fd.call(|fd| {
        if let Some(interval) = interval {
            let interval = Duration::from_secs(interval.as_secs().max(1));
            sockopt::set_tcp_keepidle(fd, interval)?;
            sockopt::set_tcp_keepintvl(fd, interval)?;
            sockopt::set_tcp_keepcnt(fd, KEEPALIVE_PROBES)?;
        }
        sockopt::set_socket_keepalive(fd, interval.is_some())
    })
}

pub(super) fn local_addr(fd: &KernelFd) -> Result<SocketAddr, CallError> {
    fd.call(|fd| address(Some(rustix::net::getsockname(fd)?)))
}

pub(super) fn peer_addr(fd: &KernelFd) -> Result<SocketAddr, CallError> {
    fd.call(|fd| address(rustix::net::getpeername(fd)?))
}

/// An address as people write it: one of IPv4 on a socket of IPv6 as IPv4.
pub(crate) fn address(addr: Option<SocketAddrAny>) -> rustix::io::Result<SocketAddr> {
    let addr = SocketAddr::try_from(addr.ok_or(Errno::NOTCONN)?)?;
    Ok(match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        // With its scope.
        IpAddr::V6(_) => addr,
    })
}
