//! Datagrams.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wirepath_driver::Nanos;
use wirepath_stack::{Errno, Fd, Stack};

use super::socket::Socket;
use super::{Network, UdpOptions, kernel, runtime};
use crate::netpoll::{CallError, Dir, KernelFd, Source, Wait};
use crate::sched::Shared;

/// A UDP socket. On the stack it is bound on every shard.
///
/// It is used by reference, so one goroutine may receive while another sends.
/// One goroutine at a time may wait in each direction; a second gets an error of
/// kind `ResourceBusy`. Dropping it closes it.
///
/// Errors common to the calls: `TimedOut` after the deadline of the direction,
/// `ConnectionAborted` once it was closed here, also for a call that waits at
/// that moment. A connected socket also hears of what became of its datagrams,
/// once each: `ConnectionRefused` when nobody has the peer's port,
/// `HostUnreachable` when the next hop does not answer.
pub struct UdpSocket {
    socket: Socket,
    /// Of a kernel socket: it takes IPv4 addresses only as mapped to IPv6.
    is_dual: bool,
    /// On the stack, which shard's descriptor the last datagram came to: answers
    /// leave there, and the next look begins behind it.
    turn: AtomicUsize,
}

/// What a UDP socket is called in errors.
const WHAT: &str = "the UDP socket";

impl UdpSocket {
    /// A socket at `addr` of the runtime's network. Port 0 takes a free port, an
    /// unspecified address of either family all addresses of both, as in Go.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`; `PermissionDenied` (the kernel's ports
    /// below 1024); `Unsupported` outside of a runtime.
    pub fn bind(addr: impl Into<SocketAddr>) -> io::Result<UdpSocket> {
        UdpSocket::bind_on(Network::current()?, addr)
    }

    /// As [`bind`](UdpSocket::bind), on this network.
    ///
    /// # Errors
    /// As [`bind`](UdpSocket::bind); `NetworkDown` for the stack in a runtime that
    /// has none.
    pub fn bind_on(network: Network, addr: impl Into<SocketAddr>) -> io::Result<UdpSocket> {
        UdpSocket::open(runtime()?, network, addr.into(), None)
    }

    /// As [`bind`](UdpSocket::bind), with these options. The kernel counts bytes
    /// alone, doubles them (`socket(7)`) and holds them at its limit.
    ///
    /// # Errors
    /// As [`bind`](UdpSocket::bind).
    pub fn bind_with(addr: impl Into<SocketAddr>, options: &UdpOptions) -> io::Result<UdpSocket> {
        UdpSocket::open(runtime()?, Network::current()?, addr.into(), Some(options))
    }

    /// A socket of the kernel that is bound already. Its options stay as they
    /// are.
    ///
    /// # Errors
    /// `Unsupported` outside of a runtime; the system's.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        let is_dual = socket.local_addr()?.is_ipv6();
        let socket = Socket::of_kernel(runtime()?, socket.into(), WHAT)?;
        Ok(UdpSocket::new(socket, is_dual))
    }

    fn open(
        rt: Arc<Shared>,
        network: Network,
        addr: SocketAddr,
        options: Option<&UdpOptions>,
    ) -> io::Result<UdpSocket> {
        match network {
            Network::Stack => {
                let default = UdpOptions::default();
                let options = options.unwrap_or(&default);
                let fds = rt.netpoll.stack()?.udp_bind(addr, options)?;
                let socket = Socket::of_stack(rt, &fds, WHAT)?;
                Ok(UdpSocket::new(socket, false))
            }
            Network::Kernel => {
                let (fd, is_dual) = kernel::udp_bind(addr, options)?;
                let socket = Socket::of_kernel(rt, fd, WHAT)?;
                Ok(UdpSocket::new(socket, is_dual))
            }
        }
    }

    fn new(socket: Socket, is_dual: bool) -> UdpSocket {
        UdpSocket {
            turn: AtomicUsize::new(socket.rt.netpoll.dial_shard()),
            socket,
            is_dual,
        }
    }

    /// Sets the peer: whom [`send`](UdpSocket::send) sends to, and the only one
    /// that is heard from now on. Sends nothing. May be called again.
    ///
    /// # Errors
    /// `AddrNotAvailable` for an address that no peer can have,
    /// `NetworkUnreachable`; on the stack `PermissionDenied` for a broadcast
    /// address or a group; see [`UdpSocket`].
    pub fn connect(&self, remote: impl Into<SocketAddr>) -> io::Result<()> {
        let remote = remote.into();
        self.socket.unless_closed(|| match self.socket.source() {
            Source::Stack { fd, others } => {
                for fd in std::iter::once(fd).chain(others) {
                    self.socket.stack().udp_connect(*fd, remote)?;
                }
                Ok(())
            }
            Source::Kernel(fd) => kernel::udp_connect(fd, &self.for_kernel(remote)),
        })
    }

    /// Sends a datagram to the peer; waits while there is no room for it. Returns
    /// the length of `data`.
    ///
    /// # Errors
    /// `InvalidInput` for one that is longer than the network takes (on the stack
    /// the device's MTU without headers), `NotConnected` without a peer,
    /// `HostUnreachable`, `NetworkUnreachable`; see [`UdpSocket`].
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        let send = |now| self.poll_send(data, None, now);
        self.socket.retry(Dir::Write, send)
    }

    /// As [`send`](UdpSocket::send), to `remote`.
    ///
    /// # Errors
    /// As [`send`](UdpSocket::send), and as [`connect`](UdpSocket::connect).
    pub fn send_to(&self, data: &[u8], remote: impl Into<SocketAddr>) -> io::Result<usize> {
        let remote = Some(remote.into());
        let send = |now| self.poll_send(data, remote, now);
        self.socket.retry(Dir::Write, send)
    }

    /// Waits for a datagram and copies it to `buf`; what does not fit is lost.
    /// Returns the bytes copied: 0 for an empty datagram.
    ///
    /// # Errors
    /// See [`UdpSocket`].
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from(buf).map(|(len, _)| len)
    }

    /// As [`recv`](UdpSocket::recv), with the sender.
    ///
    /// # Errors
    /// See [`UdpSocket`].
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.retry(Dir::Read, |_| self.poll_recv(buf))
    }

    /// Sends a datagram to the peer if there is room for it now.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; as [`send`](UdpSocket::send).
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        let send = |now| self.poll_send(data, None, now);
        self.socket.attempt(Dir::Write, send)
    }

    /// As [`try_send`](UdpSocket::try_send), to `remote`.
    ///
    /// # Errors
    /// `WouldBlock`; as [`send_to`](UdpSocket::send_to).
    pub fn try_send_to(&self, data: &[u8], remote: impl Into<SocketAddr>) -> io::Result<usize> {
        let remote = Some(remote.into());
        let send = |now| self.poll_send(data, remote, now);
        self.socket.attempt(Dir::Write, send)
    }

    /// The oldest datagram if there is one now.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; see [`UdpSocket`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_recv_from(buf).map(|(len, _)| len)
    }

    /// As [`try_recv`](UdpSocket::try_recv), with the sender.
    ///
    /// # Errors
    /// As [`try_recv`](UdpSocket::try_recv).
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.attempt(Dir::Read, |_| self.poll_recv(buf))
    }

    /// What to wait for after [`try_recv`](UdpSocket::try_recv) said
    /// `WouldBlock`.
    pub fn readable(&self) -> Wait {
        self.socket.wait(Dir::Read)
    }

    /// What to wait for after [`try_send`](UdpSocket::try_send) said
    /// `WouldBlock`.
    pub fn writable(&self) -> Wait {
        self.socket.wait(Dir::Write)
    }

    fn poll_send(
        &self,
        data: &[u8],
        to: Option<SocketAddr>,
        now: Nanos,
    ) -> Result<usize, CallError> {
        match self.socket.source() {
            Source::Stack { fd, others } => {
                let at = self.turn.load(Ordering::Relaxed) % (1 + others.len());
                let fd = at.checked_sub(1).map_or(*fd, |at| others[at]);
                let sent = self.socket.stack().udp_send_to(fd, data, to, now)?;
                self.socket.mark_dirty(fd);
                Ok(sent)
            }
            Source::Kernel(fd) => kernel::send_to(fd, data, to.map(|to| self.for_kernel(to))),
        }
    }

    fn poll_recv(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr), CallError> {
        let (fd, others) = match self.socket.source() {
            Source::Stack { fd, others } => (*fd, others),
            Source::Kernel(fd) => return kernel::recv_from(fd, buf),
        };
        let count = 1 + others.len();
        let last = self.turn.load(Ordering::Relaxed);
        for at in (1..=count).map(|step| (last + step) % count) {
            let fd = at.checked_sub(1).map_or(fd, |at| others[at]);
            match self.socket.stack().udp_recv_from(fd, buf) {
                Ok((copied, _, from)) => {
                    self.turn.store(at, Ordering::Relaxed);
                    return Ok((copied, from));
                }
                Err(Errno::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::WouldBlock.into())
    }

    /// An address as the kernel's socket takes it.
    fn for_kernel(&self, addr: SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(v4) if self.is_dual => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            addr => addr,
        }
    }

    /// Until when receiving may wait; `None` for ever. Once it has passed,
    /// receiving fails with `TimedOut`, even with datagrams there, until it is
    /// set anew. A call that waits now is held to it as well.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Read, at);
    }

    /// Until when sending may wait, as
    /// [`set_read_deadline`](UdpSocket::set_read_deadline).
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Write, at);
    }

    /// Sets both deadlines.
    pub fn set_deadline(&self, at: Option<Nanos>) {
        self.set_read_deadline(at);
        self.set_write_deadline(at);
    }

    /// Closes it, as dropping it does, while others may still hold it. Closing
    /// again does nothing.
    pub fn close(&self) {
        self.socket.close(Stack::close, |_| {});
    }

    /// Its address; unspecified when it was bound so and is not connected.
    ///
    /// # Errors
    /// See [`UdpSocket`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.either(|stack, fd| Ok(stack.local_addr(fd)?), kernel::local_addr)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` without one; see [`UdpSocket`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.either(|stack, fd| Ok(stack.peer_addr(fd)?), kernel::peer_addr)
    }

    /// The network that it is of.
    pub fn network(&self) -> Network {
        match self.socket.source() {
            Source::Stack { .. } => Network::Stack,
            Source::Kernel(_) => Network::Kernel,
        }
    }

    fn either<T>(
        &self,
        of_stack: impl FnOnce(&Stack, Fd) -> Result<T, CallError>,
        of_kernel: impl FnOnce(&KernelFd) -> Result<T, CallError>,
    ) -> io::Result<T> {
        self.socket.unless_closed(|| match self.socket.source() {
            Source::Stack { fd, .. } => of_stack(self.socket.stack(), *fd),
            Source::Kernel(fd) => of_kernel(fd),
        })
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("fd", self.socket.source())
            .finish()
    }
}
