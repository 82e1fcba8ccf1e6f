//! A connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use wirepath_driver::Nanos;
use wirepath_stack::{Fd, Stack, syscall};

use super::socket::Socket;
use super::{Network, dial, kernel, runtime};
use crate::netpoll::{CallError, Dir, HangUpWatch, KernelFd, Source, Wait};
use crate::sched::Shared;
use crate::time::now;

/// A TCP connection.
///
/// It is read and written by `&TcpStream` as well, so one goroutine may read
/// while another writes. One goroutine at a time may wait in each direction; a
/// second gets an error of kind `ResourceBusy`. Dropping it closes it in order:
/// what was written is still sent.
///
/// Errors common to the calls: `TimedOut` after the deadline of the direction
/// (or when the peer no longer answers), `ConnectionReset` when the peer reset
/// the connection, `ConnectionAborted` once it was closed or aborted here, also
/// for a call that waits at that moment.
pub struct TcpStream {
    socket: Socket,
    #[cfg(any(feature = "futures-io", feature = "hyper"))]
    pub(super) tasks: super::async_io::Tasks,
}

/// What a connection is called in errors.
const WHAT: &str = "the connection";

impl TcpStream {
    /// Opens a connection over the runtime's network and waits until it stands.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`,
    /// `HostUnreachable`, `AddrNotAvailable` (no free port); `Unsupported`
    /// outside of a runtime.
    pub fn connect(remote: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        TcpStream::connect_on(Network::current()?, remote)
    }

    /// Opens a connection over this network and waits until it stands.
    ///
    /// # Errors
    /// As [`connect`](TcpStream::connect); `NetworkDown` for the stack in a
    /// runtime that has none.
    pub fn connect_on(network: Network, remote: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        TcpStream::dial(network, remote.into(), None)
    }

    /// Opens a connection; gives up with `TimedOut` after `timeout`.
    ///
    /// # Errors
    /// As [`connect`](TcpStream::connect).
    pub fn connect_timeout(
        remote: impl Into<SocketAddr>,
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        TcpStream::connect_timeout_on(Network::current()?, remote, timeout)
    }

    /// As [`connect_timeout`](TcpStream::connect_timeout), over this network.
    ///
    /// # Errors
    /// As [`connect_on`](TcpStream::connect_on).
    pub fn connect_timeout_on(
        network: Network,
        remote: impl Into<SocketAddr>,
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        TcpStream::dial(network, remote.into(), Some(now() + timeout))
    }

    /// A connection of the kernel, or one that is being opened. Its options
    /// stay as they are.
    ///
    /// # Errors
    /// `Unsupported` outside of a runtime; the system's.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        TcpStream::of_kernel(runtime()?, stream.into())
    }

    /// Connects to a host by its name, `example.org:80`, over the runtime's
    /// network: tries its addresses in turn, IPv6 and IPv4 beside each other when
    /// the first do not answer soon, as Go's `Dial` does. See
    /// [`lookup_host`](super::lookup_host) for how names are resolved.
    ///
    /// # Errors
    /// `InvalidInput` for what is not a host and a port; those of the lookup;
    /// when no address connects, what the first one met, as
    /// [`connect`](TcpStream::connect).
    pub fn connect_host(target: &str) -> io::Result<TcpStream> {
        TcpStream::connect_host_on(Network::current()?, target, None)
    }

    /// As [`connect_host`](TcpStream::connect_host), over this network and until
    /// `deadline`, which the lookup and the addresses share.
    ///
    /// # Errors
    /// As [`connect_host`](TcpStream::connect_host); `TimedOut`; `NetworkDown` for
    /// the stack in a runtime that has none.
    pub fn connect_host_on(
        network: Network,
        target: &str,
        deadline: Option<Nanos>,
    ) -> io::Result<TcpStream> {
        dial::connect_host(network, target, deadline)
    }

    fn dial(
        network: Network,
        remote: SocketAddr,
        deadline: Option<Nanos>,
    ) -> io::Result<TcpStream> {
        let stream = TcpStream::start(network, remote)?;
        stream.finish_connect(deadline)?;
        Ok(stream)
    }

    /// Begins to connect; [`finish_connect`](TcpStream::finish_connect) waits for
    /// the end.
    pub(super) fn start(network: Network, remote: SocketAddr) -> io::Result<TcpStream> {
        let rt = runtime()?;
        match network {
            Network::Stack => {
                let shard = rt.netpoll.dial_shard();
                let fd = rt.netpoll.stack()?.connect(shard, remote, now())?;
                let stream = TcpStream::of_stack(rt, fd)?;
                stream.socket.mark_dirty(fd);
                Ok(stream)
            }
            Network::Kernel => TcpStream::of_kernel(rt, kernel::start_connect(&remote)?),
        }
    }

    pub(super) fn finish_connect(&self, deadline: Option<Nanos>) -> io::Result<()> {
        self.set_write_deadline(deadline);
        self.socket
            .retry(Dir::Write, |_| match self.socket.source() {
                Source::Stack { fd, .. } => Ok(self.socket.stack().connect_result(*fd)?),
                Source::Kernel(fd) => kernel::connect_result(fd),
            })?;
        self.set_write_deadline(None);
        Ok(())
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    fn of(socket: Socket) -> TcpStream {
        TcpStream {
            socket,
            #[cfg(any(feature = "futures-io", feature = "hyper"))]
            tasks: super::async_io::Tasks::default(),
        }
    }

    /// Makes a stream of a connection of the stack.
    pub(super) fn of_stack(rt: Arc<Shared>, fd: Fd) -> io::Result<TcpStream> {
        let socket = Socket::of_stack(rt, &[fd], WHAT)?;
        Ok(TcpStream::of(socket))
    }

    /// Makes a stream of a socket of the kernel, which does not block.
    pub(super) fn of_kernel(rt: Arc<Shared>, fd: OwnedFd) -> io::Result<TcpStream> {
        let socket = Socket::of_kernel(rt, fd, WHAT)?;
        Ok(TcpStream::of(socket))
    }

    fn poll_read(&self, buf: &mut [u8], now: Nanos) -> Result<usize, CallError> {
        match self.socket.source() {
            Source::Stack { fd, .. } => {
                let n = self.socket.stack().read(*fd, buf, now)?;
                if n > 0 {
                    // The window may have opened.
                    self.socket.mark_dirty(*fd);
                }
                Ok(n)
            }
            Source::Kernel(fd) => kernel::read(fd, buf),
        }
    }

    fn poll_write(&self, buf: &[u8], now: Nanos) -> Result<usize, CallError> {
        match self.socket.source() {
            Source::Stack { fd, .. } => {
                let n = self.socket.stack().write(*fd, buf, now)?;
                self.socket.mark_dirty(*fd);
                Ok(n)
            }
            Source::Kernel(fd) => kernel::write(fd, buf),
        }
    }

    /// Reads what is there now; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; see [`TcpStream`].
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket
            .attempt(Dir::Read, |now| self.poll_read(buf, now))
    }

    /// Writes what fits in the send buffer now.
    ///
    /// # Errors
    /// `WouldBlock` when it is full, `BrokenPipe` after the sending side was
    /// shut down; see [`TcpStream`].
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket
            .attempt(Dir::Write, |now| self.poll_write(buf, now))
    }

    /// Sends up to `len` bytes of a file from `offset` on, waiting for room, and
    /// returns how many; 0 is the end of the file. They do not pass through this
    /// process (sendfile(2)). `is_cached` says that they are in memory; else they
    /// may come from a disk, and are waited for in [`blocking`](crate::blocking).
    ///
    /// # Errors
    /// `Unsupported` over the stack, whose frames are made in this process; see
    /// [`TcpStream`]; the file's.
    pub fn send_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        is_cached: bool,
    ) -> io::Result<usize> {
        let Source::Kernel(fd) = self.socket.source() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let send = || kernel::send_file(fd, file, offset, len);
        self.socket.retry(Dir::Write, |_| match is_cached {
            true => send(),
            false => crate::blocking(send),
        })
    }

    /// What to wait for after [`try_read`](TcpStream::try_read) said
    /// `WouldBlock`, or read less than it had room for: then it took all there
    /// was, and what came since ends the wait at once.
    pub fn readable(&self) -> Wait {
        self.socket.wait(Dir::Read)
    }

    /// What to wait for after [`try_write`](TcpStream::try_write) said
    /// `WouldBlock`, or wrote a part of what it was given.
    pub fn writable(&self) -> Wait {
        self.socket.wait(Dir::Write)
    }

    /// Has `waker` woken once when the peer hangs up: when its stream has ended
    /// (FIN) or this side's reading was shut down, when the connection failed
    /// (reset, timed out), or when it was closed here; at once if that has
    /// happened. It takes no reader: bytes that came before stay where they
    /// are. Dropping what is returned ends the watch; a wake that is on its
    /// way then may still come.
    ///
    /// The waker is woken by a thread that polls the network, with no lock
    /// held, and must not wait.
    ///
    /// # Errors
    /// `ResourceBusy` while there is another watch of this connection.
    pub fn watch_hangup(&self, waker: &Waker) -> io::Result<HangUpWatch> {
        HangUpWatch::new(&self.socket.desc, waker)
            .ok_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, Watched))
    }

    /// Until when reads may wait; `None` for ever. Once it has passed, reads
    /// fail with `TimedOut`, even with data there, until it is set anew. A read
    /// that waits now is held to it as well. Cheap enough to set for each
    /// request.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Read, at);
    }

    /// Until when writes may wait, as
    /// [`set_read_deadline`](TcpStream::set_read_deadline).
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Write, at);
    }

    /// Sets both deadlines.
    pub fn set_deadline(&self, at: Option<Nanos>) {
        self.set_read_deadline(at);
        self.set_write_deadline(at);
    }

    /// Shuts down one side or both. `Write` sends a FIN after what is
    /// buffered (half-close); `Read` discards what still arrives.
    ///
    /// # Errors
    /// `NotConnected`; see [`TcpStream`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let of_stack = match how {
            Shutdown::Read => syscall::Shutdown::Read,
            Shutdown::Write => syscall::Shutdown::Write,
            Shutdown::Both => syscall::Shutdown::Both,
        };
        self.either(
            |stack, fd| {
                stack.shutdown(fd, of_stack, now())?;
                self.socket.mark_dirty(fd);
                Ok(())
            },
            |fd| kernel::shutdown(fd, how),
        )
    }

    /// Closes the connection in order, as dropping it does, while others may
    /// still hold it. Closing again does nothing.
    pub fn close(&self) {
        self.socket.close(Stack::close, |_| {});
    }

    /// Resets the connection (`SO_LINGER` 0, then close). What was not sent
    /// yet is lost.
    pub fn abort(&self) {
        self.socket.close(Stack::abort, kernel::reset);
    }

    /// Probes an idle peer at this interval, so that a vanished one is
    /// noticed; `None` never. The kernel counts in whole seconds.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn set_keepalive(&self, interval: Option<Duration>) -> io::Result<()> {
        self.either(
            |stack, fd| Ok(stack.set_keepalive(fd, interval)?),
            |fd| kernel::set_keepalive(fd, interval),
        )
    }

    /// `TCP_NODELAY`, which is on at first, as in Go.
    ///
    /// # Errors
    /// On the stack `Unsupported` for `false`: Nagle's algorithm (RFC 9293
    /// §3.7.4) is not used there.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self.socket.source() {
            Source::Stack { .. } if nodelay => Ok(()),
            Source::Stack { .. } => Err(io::Error::new(io::ErrorKind::Unsupported, NoNagle)),
            Source::Kernel(fd) => self
                .socket
                .unless_closed(|| kernel::set_nodelay(fd, nodelay)),
        }
    }

    /// This side's address.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.either(|stack, fd| Ok(stack.local_addr(fd)?), kernel::local_addr)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.either(|stack, fd| Ok(stack.peer_addr(fd)?), kernel::peer_addr)
    }

    /// Bytes in the socket's buffers now: received and not read, written and
    /// not acknowledged.
    ///
    /// # Errors
    /// `Unsupported` for a socket of the kernel; see [`TcpStream`].
    pub fn queued(&self) -> io::Result<(usize, usize)> {
        self.either(
            |stack, fd| Ok(stack.queued(fd)?),
            |_| Err(rustix::io::Errno::OPNOTSUPP.into()),
        )
    }

    /// The descriptor's number as people see it.
    pub fn fd_number(&self) -> u32 {
        match self.socket.source() {
            Source::Stack { fd, .. } => fd.slot(),
            Source::Kernel(fd) => fd.number().unsigned_abs(),
        }
    }

    /// The network that it is of.
    pub fn network(&self) -> Network {
        match self.socket.source() {
            Source::Stack { .. } => Network::Stack,
            Source::Kernel(_) => Network::Kernel,
        }
    }

    /// The flow's identity in the trace.
    pub fn flow(&self) -> u64 {
        self.socket.desc.flow()
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

#[derive(Debug, thiserror::Error)]
#[error("Nagle's algorithm is not supported: a connection always sends at once")]
struct NoNagle;

#[derive(Debug, thiserror::Error)]
#[error("another watches for the peer's hanging up already; drop that watch first")]
struct Watched;

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.socket.retry(Dir::Read, |now| self.poll_read(buf, now))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.socket
            .retry(Dir::Write, |now| self.poll_write(buf, now))
    }

    /// Sends what is written now, instead of when the goroutine next waits.
    fn flush(&mut self) -> io::Result<()> {
        if let Source::Stack { fd, .. } = self.socket.source() {
            self.socket.rt.netpoll.flush(fd.shard(), now());
        }
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("fd", self.socket.source())
            .finish()
    }
}
