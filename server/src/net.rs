//! The runtime's TCP streams as connections of this crate.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::task::Waker;

use wirepath_runtime::net::{Network, TcpStream};
use wirepath_runtime::{Nanos, Wait};

use crate::conn::{Conn, Pages, Watch};

/// A stream and its addresses, which are asked for once.
pub(crate) struct NetConn {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
}

impl NetConn {
    pub fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<NetConn> {
        let local = stream.local_addr()?;
        Ok(NetConn {
            stream,
            peer,
            local,
        })
    }

    /// What ends a step that has nothing more to read.
    pub fn readable(&self) -> Wait {
        self.stream.readable()
    }
}

impl Conn for NetConn {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(into)
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(into)
    }

    fn short_read_drains(&self) -> bool {
        // Of both networks: see `TcpStream::readable`.
        true
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.stream).write(bytes)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    fn can_send_file(&self) -> bool {
        self.stream.network() == Network::Kernel
    }

    fn send_file(&self, pages: &Pages<'_>) -> io::Result<usize> {
        let len = usize::try_from(pages.len).unwrap_or(usize::MAX);
        self.stream
            .send_file(pages.file, pages.offset, len, pages.is_cached)
    }

    fn set_read_deadline(&self, at: Option<Nanos>) {
        self.stream.set_read_deadline(at);
    }

    fn set_write_deadline(&self, at: Option<Nanos>) {
        self.stream.set_write_deadline(at);
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }

    fn abort(&self) {
        self.stream.abort();
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn flow(&self) -> u64 {
        self.stream.flow()
    }

    fn watch_hangup(&self, waker: &Waker) -> Option<Watch> {
        // There is one watch at a time: that of the request.
        Some(Box::new(self.stream.watch_hangup(waker).ok()?))
    }
}

#[cfg(feature = "tls")]
impl crate::tls::Transport for NetConn {
    fn wait_readable(&self) -> io::Result<()> {
        self.stream.readable().wait()
    }

    fn wait_writable(&self) -> io::Result<()> {
        self.stream.writable().wait()
    }
}
