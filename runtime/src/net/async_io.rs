//! A connection as asynchronous crates know one: the traits of `futures-io`
//! (feature `futures-io`) and of hyper's runtime (feature `hyper`).
//!
//! A poll that would block publishes a [`Task`] in the descriptor's word, one
//! for each direction of a connection, in which the waker of the latest poll
//! is. The waker is put there before the call is tried, so an edge that comes
//! after the try wakes that one. What is published stays published when its
//! future is dropped, so who has polled a direction goes on to poll it: the
//! blocking calls find it taken (`ResourceBusy`) until something comes.
//!
//! Deadlines count here as well: a poll that waits is woken at the deadline and
//! gives `TimedOut`.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use super::TcpStream;
use crate::netpoll::Wait;
use crate::park::{Parker, Task};
use crate::word::Arm;

/// Who waits asynchronously for a connection: to read, and to write. Nothing is
/// made for a connection that is used by goroutines alone.
#[derive(Default)]
pub(super) struct Tasks {
    read: OnceLock<Arc<Task>>,
    write: OnceLock<Arc<Task>>,
}

/// Tries `call`; if it would block, the context's waker is woken when it may
/// not any more.
fn poll<T>(
    task: &OnceLock<Arc<Task>>,
    wait: impl Fn() -> Wait,
    context: &Context<'_>,
    mut call: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    let task = task.get_or_init(Arc::default);
    loop {
        // Before the call: see above.
        task.watch(context.waker());
        match call() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        if !task.arm() {
            return Poll::Pending;
        }
        match wait().arm(Parker::Task(task.clone())) {
            Arm::Armed => return Poll::Pending,
            Arm::Ready => task.disarm(),
            Arm::Busy => {
                task.disarm();
                return Poll::Ready(Err(io::ErrorKind::ResourceBusy.into()));
            }
        }
    }
}

impl TcpStream {
    fn poll_try_read(&self, context: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        poll(
            &self.tasks.read,
            || self.readable(),
            context,
            || self.try_read(buf),
        )
    }

    fn poll_try_write(&self, context: &Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        poll(
            &self.tasks.write,
            || self.writable(),
            context,
            || self.try_write(buf),
        )
    }

    /// Ends the sending side. That the peer has gone already is no error, nor
    /// that it was ended before.
    fn poll_end(&self) -> Poll<io::Result<()>> {
        match self.shutdown(Shutdown::Write) {
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

#[cfg(feature = "futures-io")]
mod futures_io_traits {
    use futures_io::{AsyncRead, AsyncWrite};

    use super::*;

    impl AsyncRead for &TcpStream {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_try_read(context, buf)
        }
    }

    impl AsyncWrite for &TcpStream {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_try_write(context, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(io::Write::flush(self.get_mut()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_end()
        }
    }

    impl AsyncRead for TcpStream {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_try_read(context, buf)
        }
    }

    impl AsyncWrite for TcpStream {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_try_write(context, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(io::Write::flush(&mut &*self))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_end()
        }
    }
}

#[cfg(feature = "hyper")]
mod hyper_traits {
    use std::task::ready;

    use hyper::rt::{Read, ReadBufCursor, Write};

    use super::*;

    /// What is read at once: the cursor's room is not initialised, and
    /// initialising all of it would cost more than the bytes that come.
    const CHUNK: usize = 8 * 1024;

    impl Read for TcpStream {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            mut cursor: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let mut chunk = [0; CHUNK];
            let room = &mut chunk[..cursor.remaining().min(CHUNK)];
            let read = ready!(self.poll_try_read(context, room))?;
            cursor.put_slice(&room[..read]);
            Poll::Ready(Ok(()))
        }
    }

    impl Write for TcpStream {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_try_write(context, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(io::Write::flush(&mut &*self))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_end()
        }
    }
}
