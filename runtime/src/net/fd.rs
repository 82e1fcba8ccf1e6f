//! Any descriptor of the kernel.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use wirepath_driver::Nanos;

use super::runtime;
use super::socket::Socket;
use crate::netpoll::{CallError, Dir, KernelFd, Source, Wait};

/// A descriptor of the kernel that can be waited for: an end of a pipe, a
/// socket of another family, a terminal, an eventfd, a timerfd.
///
/// It is read and written by `&PollFd` as well. One goroutine at a time may
/// wait in each direction; a second gets an error of kind `ResourceBusy`.
/// Dropping it closes it.
///
/// Errors common to the calls: `TimedOut` after the deadline of the direction,
/// `ConnectionAborted` once it was closed here, also for a call that waits at
/// that moment; the system's.
pub struct PollFd {
    socket: Socket,
}

impl PollFd {
    /// Takes over a descriptor. It becomes non-blocking, for everyone who
    /// shares its open file.
    ///
    /// # Errors
    /// `Unsupported` for what cannot be waited for, as a regular file, which is
    /// to be read and written in [`blocking`](crate::blocking), and outside of
    /// a runtime; the system's.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<PollFd> {
        let (rt, fd) = (runtime()?, fd.into());
        rustix::io::ioctl_fionbio(&fd, true)?;
        let socket = Socket::of_kernel(rt, fd, "the descriptor").map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => {
                io::Error::new(io::ErrorKind::Unsupported, NoReadiness)
            }
            _ => e,
        })?;
        Ok(PollFd { socket })
    }

    fn fd(&self) -> &KernelFd {
        match self.socket.source() {
            Source::Kernel(fd) => fd,
            Source::Stack { .. } => unreachable!("made of a descriptor of the kernel"),
        }
    }

    fn poll_read(&self, buf: &mut [u8]) -> Result<usize, CallError> {
        self.fd().call(|fd| rustix::io::read(fd, &mut *buf))
    }

    fn poll_write(&self, buf: &[u8]) -> Result<usize, CallError> {
        self.fd().call(|fd| rustix::io::write(fd, buf))
    }

    /// Reads what is there now; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; see [`PollFd`].
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.attempt(Dir::Read, |_| self.poll_read(buf))
    }

    /// Writes what there is room for now.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; see [`PollFd`].
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.attempt(Dir::Write, |_| self.poll_write(buf))
    }

    /// What to wait for after [`try_read`](PollFd::try_read) said `WouldBlock`.
    pub fn readable(&self) -> Wait {
        self.socket.wait(Dir::Read)
    }

    /// What to wait for after [`try_write`](PollFd::try_write) said
    /// `WouldBlock`.
    pub fn writable(&self) -> Wait {
        self.socket.wait(Dir::Write)
    }

    /// Until when reads may wait; `None` for ever. Once it has passed, reads
    /// fail with `TimedOut` until it is set anew. A read that waits now is held
    /// to it as well.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Read, at);
    }

    /// Until when writes may wait, as
    /// [`set_read_deadline`](PollFd::set_read_deadline).
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.socket.desc.set_deadline(Dir::Write, at);
    }

    /// Closes it while others may still hold it. Closing again does nothing.
    pub fn close(&self) {
        self.socket.close(|_, _, _| Ok(()), |_| {});
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "this descriptor cannot be waited for (a regular file is always ready); use it in `blocking`"
)]
struct NoReadiness;

impl Read for &PollFd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.retry(Dir::Read, |_| self.poll_read(buf))
    }
}

impl Write for &PollFd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.retry(Dir::Write, |_| self.poll_write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PollFd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for PollFd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PollFd {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for PollFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollFd")
            .field("fd", self.socket.source())
            .finish()
    }
}
