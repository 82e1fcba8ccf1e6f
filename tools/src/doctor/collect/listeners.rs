//! Sockets of this network namespace that wait at a port.

use std::io;
use std::net::SocketAddr;

use procfs::net::TcpState;

use crate::doctor::facts::{Listener, Protocol};

/// TCP sockets that listen, UDP sockets that are bound, from /proc/net.
///
/// # Errors
/// If /proc is not there.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let tcp = procfs::net::tcp().map_err(io::Error::other)?;
    let tcp6 = procfs::net::tcp6().unwrap_or_default();
    let udp = procfs::net::udp().map_err(io::Error::other)?;
    let udp6 = procfs::net::udp6().unwrap_or_default();
    let tcp = tcp.into_iter().chain(tcp6);
    let tcp = tcp.filter(|socket| socket.state == TcpState::Listen);
    let tcp = tcp.map(|socket| listener(socket.local_address, Protocol::Tcp));
    let udp = udp.into_iter().chain(udp6);
    let udp = udp.map(|socket| listener(socket.local_address, Protocol::Udp));
    Ok(tcp.chain(udp).collect())
}

fn listener(local: SocketAddr, protocol: Protocol) -> Listener {
    Listener {
        addr: local.ip(),
        port: local.port(),
        protocol,
    }
}
