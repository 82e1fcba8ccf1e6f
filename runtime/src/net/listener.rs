//! Listening.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wirepath_driver::Nanos;
use wirepath_stack::syscall::ListenOptions;
use wirepath_stack::{Errno, Fd, Stack};

use super::{TcpStream, runtime};
use crate::netpoll::{Dir, PollDesc, Wait, WaitInner};
use crate::sched::Shared;

/// A listening socket. It listens on every shard of the stack.
///
/// One goroutine at a time may wait in [`accept`](TcpListener::accept); a
/// second gets an error of kind `ResourceBusy`. Dropping it closes it.
pub struct TcpListener {
    rt: Arc<Shared>,
    fds: Vec<Fd>,
    desc: Arc<PollDesc>,
    /// Which shard the next accept looks at first, so that a busy shard does
    /// not keep the others waiting.
    turn: AtomicUsize,
}

impl TcpListener {
    /// Listens on `addr` with default options. Port 0 takes a free port, an
    /// unspecified address all addresses of the stack.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`; `Unsupported` outside of a runtime;
    /// `NetworkDown` in a runtime without a stack.
    pub fn bind(addr: impl Into<SocketAddr>) -> io::Result<TcpListener> {
        TcpListener::bind_with(addr, &ListenOptions::default())
    }

    /// Listens on `addr`. The connections that it accepts have the options'
    /// buffers.
    ///
    /// # Errors
    /// As [`bind`](TcpListener::bind).
    pub fn bind_with(
        addr: impl Into<SocketAddr>,
        options: &ListenOptions,
    ) -> io::Result<TcpListener> {
        let rt = runtime()?;
        let stack = rt.netpoll.stack()?;
        let now = crate::time::now();
        let fds = stack.listen(addr.into(), options)?;
        let desc = rt.netpoll.open(&fds, true).inspect_err(|_| {
            close_all(stack, &fds, now);
        })?;
        let listener = TcpListener {
            rt,
            fds,
            desc,
            turn: AtomicUsize::new(0),
        };
        let netpoll = &listener.rt.netpoll;
        for &fd in &listener.fds {
            netpoll.register(&listener.desc, fd)?;
        }
        Ok(listener)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// `TimedOut` when the deadline has passed, `ConnectionAborted` when the
    /// listener was closed, also while this call waited.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.desc.retry(Dir::Read, |now| self.poll_accept(now))?;
        self.adopt(accepted)
    }

    /// The next connection if there is one now.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else as [`accept`](TcpListener::accept).
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.desc.attempt(Dir::Read, |now| self.poll_accept(now))?;
        self.adopt(accepted)
    }

    /// What to wait for after [`try_accept`](TcpListener::try_accept) said
    /// `WouldBlock`.
    pub fn acceptable(&self) -> Wait {
        Wait(WaitInner {
            desc: self.desc.clone(),
            dir: Dir::Read,
        })
    }

    fn poll_accept(&self, now: Nanos) -> Result<(Fd, SocketAddr), Errno> {
        let stack = self.stack();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.fds.len();
        let (before, from) = self.fds.split_at(first);
        for &fd in from.iter().chain(before) {
            match stack.accept(fd, now) {
                Err(Errno::WouldBlock) => {}
                done => return done,
            }
        }
        Err(Errno::WouldBlock)
    }

    fn adopt(&self, (fd, peer): (Fd, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
        Ok((TcpStream::adopt(self.rt.clone(), fd)?, peer))
    }

    fn stack(&self) -> &Stack {
        let stack = self.rt.netpoll.stack();
        stack.expect("a listener exists only with a stack")
    }

    /// The address that it listens on, with the port that was taken.
    ///
    /// # Errors
    /// When the listener was closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let call = || self.stack().local_addr(self.fds[0]);
        self.desc.unless_closed(call)
    }

    /// Until when [`accept`](TcpListener::accept) may wait; `None` for ever.
    /// Once it has passed, accepting fails with `TimedOut` until it is set
    /// anew. A call that waits now is held to it as well.
    pub fn set_deadline(&self, at: Option<Nanos>) {
        self.desc.set_deadline(Dir::Read, at);
    }

    /// Stops listening; connections that nobody accepted are reset. A blocked
    /// [`accept`](TcpListener::accept) ends with `ConnectionAborted`, and so
    /// do later calls. Closing again does nothing.
    pub fn close(&self) {
        if self.desc.close() {
            close_all(self.stack(), &self.fds, crate::time::now());
            self.rt.netpoll.release(&self.desc);
            for fd in &self.fds {
                self.rt.mark_dirty(fd.shard());
            }
        }
    }
}

fn close_all(stack: &Stack, fds: &[Fd], now: Nanos) {
    for &fd in fds {
        // It fails only for an fd that is gone, which is what is wanted.
        let _ = stack.close(fd, now);
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
            .field("fds", &self.fds)
            .finish()
    }
}
