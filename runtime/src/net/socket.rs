//! What every kind of socket is made of.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use wirepath_driver::Nanos;
use wirepath_stack::{Errno, Fd, Stack};

use super::runtime;
use crate::netpoll::{CallError, Dir, PollDesc, Source, Wait, WaitInner};
use crate::sched::Shared;

/// Over which network a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// The runtime's own stack, in this process.
    Stack,
    /// The kernel's.
    Kernel,
}

impl Network {
    /// The one that calls take which name none: as
    /// [`Builder::network`](crate::Builder::network) said.
    ///
    /// # Errors
    /// `Unsupported` outside of a runtime.
    pub fn current() -> io::Result<Network> {
        Ok(runtime()?.netpoll.network())
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "in virtual time there is nothing of the kernel to wait for, as its time goes on by itself; \
     use a stack"
)]
struct NoVirtualTime;

/// A descriptor of either network, its runtime, and who waits for it. Its owner
/// closes it; clones are the same socket.
#[derive(Clone)]
pub(super) struct Socket {
    pub(super) rt: Arc<Shared>,
    pub(super) desc: Arc<PollDesc>,
}

impl Socket {
    /// Of descriptors of the stack: one, or a listener's, one for each shard.
    /// They are closed if that fails.
    pub(super) fn of_stack(rt: Arc<Shared>, fds: &[Fd], what: &'static str) -> io::Result<Socket> {
        let opened = rt.netpoll.open(fds, what);
        let desc = opened.inspect_err(|_| {
            let now = crate::time::now();
            for &fd in fds {
                // Nobody can use it. It fails only for an fd that is gone.
                let _ = rt.netpoll.stack().map(|stack| stack.abort(fd, now));
            }
        })?;
        let socket = Socket { rt, desc };
        for &fd in fds {
            let registered = socket.rt.netpoll.register(&socket.desc, fd);
            registered.inspect_err(|_| socket.close(Stack::abort, |_| {}))?;
        }
        Ok(socket)
    }

    /// Of a descriptor of the kernel, which does not block.
    pub(super) fn of_kernel(
        rt: Arc<Shared>,
        fd: OwnedFd,
        what: &'static str,
    ) -> io::Result<Socket> {
        if rt.simulation.is_some() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, NoVirtualTime));
        }
        let desc = rt.netpoll.open_kernel(fd, what)?;
        Ok(Socket { rt, desc })
    }

    pub(super) fn source(&self) -> &Source {
        &self.desc.source
    }

    /// The stack, of a socket of it.
    pub(super) fn stack(&self) -> &Stack {
        let stack = self.rt.netpoll.stack();
        stack.expect("a socket of the stack exists only with a stack")
    }

    /// TCP may have something to send.
    pub(super) fn mark_dirty(&self, fd: Fd) {
        self.rt.mark_dirty(fd.shard());
    }

    /// What ends a step that waits in this direction.
    pub(super) fn wait(&self, dir: Dir) -> Wait {
        Wait(WaitInner {
            desc: self.desc.clone(),
            dir,
        })
    }

    pub(super) fn retry<T>(
        &self,
        dir: Dir,
        call: impl FnMut(Nanos) -> Result<T, CallError>,
    ) -> io::Result<T> {
        self.desc.retry(dir, call)
    }

    pub(super) fn attempt<T>(
        &self,
        dir: Dir,
        call: impl FnOnce(Nanos) -> Result<T, CallError>,
    ) -> io::Result<T> {
        self.desc.attempt(dir, call)
    }

    pub(super) fn unless_closed<T>(
        &self,
        call: impl FnOnce() -> Result<T, CallError>,
    ) -> io::Result<T> {
        self.desc.unless_closed(call)
    }

    /// Closes it, unless it is closed: `of_stack` each of its descriptors, or
    /// its one of the kernel, after `of_kernel`. Whoever waits is woken.
    pub(super) fn close(
        &self,
        of_stack: fn(&Stack, Fd, Nanos) -> Result<(), Errno>,
        of_kernel: fn(&OwnedFd),
    ) {
        if !self.desc.close() {
            return;
        }
        match self.source() {
            Source::Stack { fd, others } => {
                let now = crate::time::now();
                for fd in std::iter::once(fd).chain(others) {
                    // It fails only for an fd that is gone, which is what is
                    // wanted.
                    let _ = of_stack(self.stack(), *fd, now);
                }
                self.rt.netpoll.release(&self.desc);
                std::iter::once(fd)
                    .chain(others)
                    .for_each(|fd| self.mark_dirty(*fd));
            }
            Source::Kernel(_) => {
                if let Some(fd) = self.rt.netpoll.take_kernel(&self.desc) {
                    of_kernel(&fd);
                }
                self.rt.netpoll.release(&self.desc);
            }
        }
    }
}
