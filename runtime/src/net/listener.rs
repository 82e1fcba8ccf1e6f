//! Listening.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wirepath_driver::Nanos;
use wirepath_stack::syscall::ListenOptions;
use wirepath_stack::{Errno, Fd, Stack};

use super::socket::Socket;
use super::{Network, TcpStream, kernel, runtime};
use crate::netpoll::{CallError, Dir, Source, Wait};
use crate::sched::Shared;

/// A listening socket. On the stack it listens on every shard.
///
/// One goroutine at a time may wait in [`accept`](TcpListener::accept); a
/// second gets an error of kind `ResourceBusy`. Dropping it closes it.
pub struct TcpListener {
    socket: Socket,
    /// Which shard the next accept looks at first, so that a busy shard does
    /// not keep the others waiting.
    turn: AtomicUsize,
}

/// A connection that was taken off a queue.
enum Accepted {
    Stack(Fd),
    Kernel(std::os::fd::OwnedFd),
}

/// What a listener is called in errors.
const WHAT: &str = "the listener";

impl TcpListener {
    /// Listens on `addr` with default options, on the runtime's network. Port 0
    /// takes a free port, an unspecified address of either family all addresses
    /// of both, as in Go.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`; `PermissionDenied` (the kernel's ports
    /// below 1024); `Unsupported` outside of a runtime.
    pub fn bind(addr: impl Into<SocketAddr>) -> io::Result<TcpListener> {
        TcpListener::bind_on(Network::current()?, addr)
    }

    /// As [`bind`](TcpListener::bind), on this network.
    ///
    /// # Errors
    /// As [`bind`](TcpListener::bind); `NetworkDown` for the stack in a runtime
    /// that has none.
    pub fn bind_on(network: Network, addr: impl Into<SocketAddr>) -> io::Result<TcpListener> {
        let rt = runtime()?;
        match network {
            Network::Stack => TcpListener::on_stack(rt, addr.into(), &ListenOptions::default()),
            Network::Kernel => TcpListener::on_kernel(rt, addr.into(), None),
        }
    }

    /// Listens on `addr`. The connections that it accepts have the options'
    /// buffers. The kernel doubles them (`socket(7)`), holds them at its limits,
    /// and counts handshakes under way by itself; with
    /// [`bind`](TcpListener::bind) it sizes buffers as they are needed.
    ///
    /// # Errors
    /// As [`bind`](TcpListener::bind).
    pub fn bind_with(
        addr: impl Into<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<TcpListener> {
        let rt = runtime()?;
        match rt.netpoll.network() {
            Network::Stack => TcpListener::on_stack(rt, addr.into(), options),
            Network::Kernel => TcpListener::on_kernel(rt, addr.into(), Some(options)),
        }
    }

    /// A socket of the kernel that listens already. Its other options stay as
    /// they are.
    ///
    /// # Errors
    /// `Unsupported` outside of a runtime; the system's.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        TcpListener::of_socket(Socket::of_kernel(runtime()?, listener.into(), WHAT))
    }

    fn on_stack(
        rt: Arc<Shared>,
        addr: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<TcpListener> {
        let fds = rt.netpoll.stack()?.listen(addr, options)?;
        TcpListener::of_socket(Socket::of_stack(rt, &fds, WHAT))
    }

    fn on_kernel(
        rt: Arc<Shared>,
        addr: SocketAddr,
        options: Option<&ListenOptions>,
    ) -> io::Result<TcpListener> {
        let fd = kernel::listen(addr, options)?;
        TcpListener::of_socket(Socket::of_kernel(rt, fd, WHAT))
    }

    fn of_socket(socket: io::Result<Socket>) -> io::Result<TcpListener> {
        Ok(TcpListener {
            socket: socket?,
            turn: AtomicUsize::new(0),
        })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// `TimedOut` when the deadline has passed, `ConnectionAborted` when the
    /// listener was closed, also while this call waited, `NetworkDown` when the
    /// stack's device is gone.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.socket.retry(Dir::Read, |now| self.poll_accept(now))?;
        self.adopt(accepted)
    }

    /// The next connection if there is one now.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else as [`accept`](TcpListener::accept).
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self
            .socket
            .attempt(Dir::Read, |now| self.poll_accept(now))?;
        self.adopt(accepted)
    }

    /// What to wait for after [`try_accept`](TcpListener::try_accept) said
    /// `WouldBlock`.
    pub fn acceptable(&self) -> Wait {
        self.socket.wait(Dir::Read)
    }

    fn poll_accept(&self, now: Nanos) -> Result<(Accepted, SocketAddr), CallError> {
        match self.socket.source() {
            Source::Stack { fd, others } => {
                let accepted = self.poll_shards(*fd, others, now);
                let (fd, peer) = accepted?;
                Ok((Accepted::Stack(fd), peer))
            }
            Source::Kernel(listener) => {
                let (fd, peer) = kernel::accept(listener)?;
                Ok((Accepted::Kernel(fd), peer))
            }
        }
    }

    fn poll_shards(&self, fd: Fd, others: &[Fd], now: Nanos) -> Result<(Fd, SocketAddr), Errno> {
        let count = 1 + others.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for i in 0..count {
            let at = (first + i) % count;
            let listener = if at == 0 { fd } else { others[at - 1] };
            match self.socket.stack().accept(listener, now) {
                Err(Errno::WouldBlock) => {}
                done => return done,
            }
        }
        Err(Errno::WouldBlock)
    }

    fn adopt(&self, (fd, peer): (Accepted, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
        let rt = self.socket.rt.clone();
        let stream = match fd {
            Accepted::Stack(fd) => TcpStream::of_stack(rt, fd),
            Accepted::Kernel(fd) => TcpStream::of_kernel(rt, fd),
        };
        Ok((stream?, peer))
    }

    /// The address that it listens on, with the port that was taken.
    ///
    /// # Errors
    /// When the listener was closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.unless_closed(|| match self.socket.source() {
            Source::Stack { fd, .. } => Ok(self.socket.stack().local_addr(*fd)?),
            Source::Kernel(listener) => kernel::local_addr(listener),
        })
    }

    /// Until when [`accept`](TcpListener::accept) may wait; `None` for ever.
    /// Once it has passed, accepting fails with `TimedOut` until it is set
    /// anew. A call that waits now is held to it as well.
    pub fn set_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Read, at);
    }

    /// Stops listening; connections that nobody accepted are reset. A blocked
    /// [`accept`](TcpListener::accept) ends with `ConnectionAborted`, and so
    /// do later calls. Closing again does nothing.
    pub fn close(&self) {
        self.socket.close(Stack::close, |_| {});
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("fd", self.socket.source())
            .finish()
    }
}
