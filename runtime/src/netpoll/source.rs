//! Where a descriptor lives: in the stack or in the kernel.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{PoisonError, RwLock};

use wirepath_stack::{Errno, Fd};

/// Where a descriptor lives, under which names.
pub(crate) enum Source {
    /// In the stack.
    Stack {
        /// The descriptor: what the trace calls the flow.
        fd: Fd,
        /// A listener's descriptors on the other shards.
        others: Box<[Fd]>,
    },
    /// In the kernel.
    Kernel(KernelFd),
}

impl Source {
    /// Descriptors of the stack, at least one.
    pub(crate) fn stack(fds: &[Fd]) -> Source {
        let (&fd, others) = fds.split_first().expect("a descriptor has an fd");
        let others = others.into();
        Source::Stack { fd, others }
    }

    /// Whether an event of the stack for `event` is for this.
    pub(super) fn owns(&self, event: Fd) -> bool {
        match self {
            Source::Stack { fd, others } => *fd == event || others.contains(&event),
            Source::Kernel(_) => false,
        }
    }
}

/// A descriptor of the kernel, until it is closed.
///
/// Its number has another owner as soon as it is closed, so nobody may be about
/// to use it then: a call holds the lock shared (no call blocks), and a close
/// takes the descriptor out under it.
pub(crate) struct KernelFd {
    fd: RwLock<Option<OwnedFd>>,
    number: RawFd,
}

impl KernelFd {
    pub(crate) fn new(fd: OwnedFd) -> KernelFd {
        KernelFd {
            number: fd.as_raw_fd(),
            fd: RwLock::new(Some(fd)),
        }
    }

    /// Its number, for people.
    pub(crate) fn number(&self) -> RawFd {
        self.number
    }

    /// Makes a call, again if a signal interrupts it. `call` neither blocks nor
    /// waits.
    ///
    /// # Errors
    /// `EBADF` once it was closed; the call's.
    pub(crate) fn call<T>(
        &self,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, CallError> {
        let fd = self.fd.read().unwrap_or_else(PoisonError::into_inner);
        let fd = fd.as_ref().ok_or(rustix::io::Errno::BADF)?;
        Ok(rustix::io::retry_on_intr(|| call(fd.as_fd()))?)
    }

    /// Takes it out, to be closed.
    pub(crate) fn take(&self) -> Option<OwnedFd> {
        let mut fd = self.fd.write().unwrap_or_else(PoisonError::into_inner);
        fd.take()
    }
}

/// Why a call on a descriptor failed, in the words of its mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    Stack(Errno),
    Kernel(rustix::io::Errno),
}

impl CallError {
    pub(crate) fn is_would_block(self) -> bool {
        matches!(
            self,
            CallError::Stack(Errno::WouldBlock) | CallError::Kernel(rustix::io::Errno::AGAIN)
        )
    }

    pub(crate) fn is_bad_fd(self) -> bool {
        matches!(
            self,
            CallError::Stack(Errno::BadFd) | CallError::Kernel(rustix::io::Errno::BADF)
        )
    }
}

impl From<Errno> for CallError {
    fn from(e: Errno) -> CallError {
        CallError::Stack(e)
    }
}

impl From<rustix::io::Errno> for CallError {
    fn from(e: rustix::io::Errno) -> CallError {
        CallError::Kernel(e)
    }
}

impl From<CallError> for io::Error {
    fn from(e: CallError) -> io::Error {
        match e {
            CallError::Stack(e) => e.into(),
            // Of kinds that say it may pass, which the standard library has not
            // for these.
            CallError::Kernel(e @ (rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)) => {
                io::Error::new(io::ErrorKind::QuotaExceeded, e)
            }
            CallError::Kernel(e @ rustix::io::Errno::NOBUFS) => {
                io::Error::new(io::ErrorKind::OutOfMemory, e)
            }
            CallError::Kernel(e) => e.into(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stack { fd, .. } => fd.fmt(f),
            Source::Kernel(fd) => write!(f, "kernel fd {}", fd.number),
        }
    }
}
