//! A connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wirepath_driver::Nanos;
use wirepath_stack::{Errno, Fd, Stack, syscall};

use super::runtime;
use crate::netpoll::{Dir, PollDesc, Wait, WaitInner};
use crate::sched::Shared;

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
    rt: Arc<Shared>,
    fd: Fd,
    desc: Arc<PollDesc>,
    #[cfg(any(feature = "futures-io", feature = "hyper"))]
    pub(super) tasks: super::async_io::Tasks,
}

impl TcpStream {
    /// Opens a connection and waits until it stands.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `NetworkUnreachable`,
    /// `HostUnreachable`, `AddrNotAvailable` (no free port); `Unsupported`
    /// outside of a runtime; `NetworkDown` in a runtime without a stack.
    pub fn connect(remote: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        TcpStream::dial(remote.into(), None)
    }

    /// Opens a connection; gives up with `TimedOut` after `timeout`.
    ///
    /// # Errors
    /// As [`connect`](TcpStream::connect).
    pub fn connect_timeout(
        remote: impl Into<SocketAddr>,
        timeout: Duration,
    ) -> io::Result<TcpStream> {
        TcpStream::dial(remote.into(), Some(crate::time::now() + timeout))
    }

    fn dial(remote: SocketAddr, deadline: Option<Nanos>) -> io::Result<TcpStream> {
        let rt = runtime()?;
        let shard = rt.netpoll.dial_shard();
        let fd = rt
            .netpoll
            .stack()?
            .connect(shard, remote, crate::time::now())?;
        let stream = TcpStream::adopt(rt, fd)?;
        stream.mark_dirty();
        stream.set_write_deadline(deadline);
        stream
            .desc
            .retry(Dir::Write, |_| stream.stack().connect_result(fd))?;
        stream.set_write_deadline(None);
        Ok(stream)
    }

    /// Makes a stream of a connection of the stack.
    pub(super) fn adopt(rt: Arc<Shared>, fd: Fd) -> io::Result<TcpStream> {
        let now = crate::time::now();
        let desc = rt.netpoll.open(&[fd], false).inspect_err(|_| {
            // Nobody can use it. It fails only for an fd that is gone.
            let _ = rt.netpoll.stack().map(|stack| stack.abort(fd, now));
        })?;
        let stream = TcpStream {
            rt,
            fd,
            desc,
            #[cfg(any(feature = "futures-io", feature = "hyper"))]
            tasks: super::async_io::Tasks::default(),
        };
        stream.rt.netpoll.register(&stream.desc, fd)?;
        Ok(stream)
    }

    fn stack(&self) -> &Stack {
        let stack = self.rt.netpoll.stack();
        stack.expect("a connection exists only with a stack")
    }

    /// TCP may have something to send.
    fn mark_dirty(&self) {
        self.rt.mark_dirty(self.fd.shard());
    }

    fn poll_read(&self, buf: &mut [u8], now: Nanos) -> Result<usize, Errno> {
        let n = self.stack().read(self.fd, buf, now)?;
        if n > 0 {
            // The window may have opened.
            self.mark_dirty();
        }
        Ok(n)
    }

    fn poll_write(&self, buf: &[u8], now: Nanos) -> Result<usize, Errno> {
        let n = self.stack().write(self.fd, buf, now)?;
        self.mark_dirty();
        Ok(n)
    }

    /// Reads what is there now; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; see [`TcpStream`].
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.desc.attempt(Dir::Read, |now| self.poll_read(buf, now))
    }

    /// Writes what fits in the send buffer now.
    ///
    /// # Errors
    /// `WouldBlock` when it is full, `BrokenPipe` after the sending side was
    /// shut down; see [`TcpStream`].
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.desc
            .attempt(Dir::Write, |now| self.poll_write(buf, now))
    }

    /// What to wait for after [`try_read`](TcpStream::try_read) said
    /// `WouldBlock`.
    pub fn readable(&self) -> Wait {
        self.wait(Dir::Read)
    }

    /// What to wait for after [`try_write`](TcpStream::try_write) said
    /// `WouldBlock`.
    pub fn writable(&self) -> Wait {
        self.wait(Dir::Write)
    }

    fn wait(&self, dir: Dir) -> Wait {
        Wait(WaitInner {
            desc: self.desc.clone(),
            dir,
        })
    }

    /// Until when reads may wait; `None` for ever. Once it has passed, reads
    /// fail with `TimedOut`, even with data there, until it is set anew. A read
    /// that waits now is held to it as well. Cheap enough to set for each
    /// request.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.desc.set_deadline(Dir::Read, at);
    }

    /// Until when writes may wait, as
    /// [`set_read_deadline`](TcpStream::set_read_deadline).
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.desc.set_deadline(Dir::Write, at);
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
        let how = match how {
            Shutdown::Read => syscall::Shutdown::Read,
            Shutdown::Write => syscall::Shutdown::Write,
            Shutdown::Both => syscall::Shutdown::Both,
        };
        self.unless_closed(|stack| stack.shutdown(self.fd, how, crate::time::now()))?;
        self.mark_dirty();
        Ok(())
    }

    /// Closes the connection in order, as dropping it does, while others may
    /// still hold it. Closing again does nothing.
    pub fn close(&self) {
        self.end(Stack::close);
    }

    /// Resets the connection (`SO_LINGER` 0, then close). What was not sent
    /// yet is lost.
    pub fn abort(&self) {
        self.end(Stack::abort);
    }

    fn end(&self, how: fn(&Stack, Fd, Nanos) -> Result<(), Errno>) {
        if self.desc.close() {
            // It fails only for an fd that is gone, which is what is wanted.
            let _ = how(self.stack(), self.fd, crate::time::now());
            self.rt.netpoll.release(&self.desc);
            self.mark_dirty();
        }
    }

    /// Probes an idle peer at this interval, so that a vanished one is
    /// noticed; `None` never.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn set_keepalive(&self, interval: Option<Duration>) -> io::Result<()> {
        self.unless_closed(|stack| stack.set_keepalive(self.fd, interval))
    }

    /// `TCP_NODELAY`, which is always on, as in Go.
    ///
    /// # Errors
    /// `Unsupported` for `false`: Nagle's algorithm (RFC 9293 §3.7.4) is not
    /// used.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        if nodelay {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, NoNagle))
    }

    /// This side's address.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.unless_closed(|stack| stack.local_addr(self.fd))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.unless_closed(|stack| stack.peer_addr(self.fd))
    }

    /// Bytes in the socket's buffers now: received and not read, written and
    /// not acknowledged.
    ///
    /// # Errors
    /// See [`TcpStream`].
    pub fn queued(&self) -> io::Result<(usize, usize)> {
        self.unless_closed(|stack| stack.queued(self.fd))
    }

    /// The descriptor's number as people see it.
    pub fn fd_number(&self) -> u32 {
        self.fd.slot()
    }

    /// The flow's identity in the trace.
    pub fn flow(&self) -> u64 {
        self.fd.raw()
    }

    fn unless_closed<T>(&self, call: impl FnOnce(&Stack) -> Result<T, Errno>) -> io::Result<T> {
        self.desc.unless_closed(|| call(self.stack()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Nagle's algorithm is not supported: a connection always sends at once")]
struct NoNagle;

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.desc.retry(Dir::Read, |now| self.poll_read(buf, now))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.desc.retry(Dir::Write, |now| self.poll_write(buf, now))
    }

    /// Sends what is written now, instead of when the goroutine next waits.
    fn flush(&mut self) -> io::Result<()> {
        self.rt.netpoll.flush(self.fd.shard(), crate::time::now());
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
        f.debug_struct("TcpStream").field("fd", &self.fd).finish()
    }
}
