//! A connection's byte stream, as the HTTP code sees it.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use wirepath_runtime::Nanos;
use wirepath_runtime::net::HangUpWatch;

use crate::context::Scope;
use crate::hooks::{ConnInfo, ConnState};

/// Bytes of a file of this machine.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'f> {
    pub file: BorrowedFd<'f>,
    pub offset: u64,
    pub len: u64,
    /// They are in memory: nothing waits for a disk.
    pub is_cached: bool,
}

/// What HTTP needs of a connection. Reads and writes block the goroutine;
/// a deadline that passed makes them fail with `TimedOut`.
pub(crate) trait Conn: Send + Sync + 'static {
    /// Reads what there is, waiting for the first byte. 0 is the end.
    fn read(&self, into: &mut [u8]) -> io::Result<usize>;
    /// Reads what there is, or fails with `WouldBlock`.
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;
    /// Whether a read that leaves room has taken all there was, so that a wait
    /// may follow it without another: what comes later ends the wait.
    fn short_read_drains(&self) -> bool;
    /// Writes some of `bytes`, waiting for room.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Whether [`Conn::send_file`] can be used.
    fn can_send_file(&self) -> bool {
        false
    }
    /// Sends some bytes of a file, waiting for room, without taking them into
    /// this process. 0 is the end of the file.
    fn send_file(&self, _pages: &Pages<'_>) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Bounds reads from now on.
    fn set_read_deadline(&self, at: Option<Nanos>);
    /// Bounds writes from now on.
    fn set_write_deadline(&self, at: Option<Nanos>);
    /// Ends one or both directions.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    /// Resets the connection.
    fn abort(&self);
    /// The client's address.
    fn peer_addr(&self) -> SocketAddr;
    /// The server's address.
    fn local_addr(&self) -> SocketAddr;
    /// The flow's identity in the trace.
    fn flow(&self) -> u64;
    /// Has `waker` woken once when the client hangs up, or has. `None` if
    /// nobody can tell of that.
    fn watch_hangup(&self, _waker: &Waker) -> Option<HangUpWatch> {
        None
    }
    /// What the two sides agreed on, once they have.
    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<&crate::tls::TlsInfo> {
        None
    }
}

/// Adds without a locked instruction: one goroutine moves a connection's bytes.
fn add(counter: &AtomicU64, n: usize) {
    let count = counter.load(Ordering::Relaxed);
    counter.store(count + n as u64, Ordering::Relaxed);
}

/// A connection with what the two directions of an exchange share.
pub(crate) struct Wire {
    pub conn: Arc<dyn Conn>,
    /// The client waits for `100 Continue` before it sends its body.
    awaits_continue: AtomicBool,
    /// The last read took all there was.
    is_drained: AtomicBool,
    /// A handler took the connection over.
    is_hijacked: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    pub scope: Scope,
    info: Option<ConnInfo>,
}

impl Wire {
    /// One whose requests have no context of a server's.
    pub fn new(conn: Arc<dyn Conn>) -> Wire {
        Wire {
            conn,
            awaits_continue: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            is_hijacked: AtomicBool::new(false),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            scope: Scope::default(),
            info: None,
        }
    }

    /// A connection of a server.
    pub fn of_server(conn: Arc<dyn Conn>, scope: Scope, info: ConnInfo) -> Wire {
        Wire {
            scope,
            info: Some(info),
            ..Wire::new(conn)
        }
    }

    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len();
        self.note_read(room, self.conn.read(into))
    }

    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len();
        self.note_read(room, self.conn.try_read(into))
    }

    fn note_read(&self, room: usize, read: io::Result<usize>) -> io::Result<usize> {
        if let Ok(n) = read {
            add(&self.bytes_in, n);
            // No bytes at all are the end.
            let drained = 0 < n && n < room && self.conn.short_read_drains();
            self.is_drained.store(drained, Ordering::Relaxed);
        }
        read
    }

    /// Whether the last read took all there was, since [`Wire::look_again`].
    pub fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// After a wait there may be something again.
    pub fn look_again(&self) {
        self.is_drained.store(false, Ordering::Relaxed);
    }

    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        add(&self.bytes_out, bytes.len());
        while !bytes.is_empty() {
            match self.conn.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends bytes of a file, and returns how many: fewer only at its end.
    pub fn send_file(&self, mut pages: Pages<'_>) -> io::Result<u64> {
        let len = pages.len;
        while pages.len > 0 {
            match self.conn.send_file(&pages) {
                Ok(0) => break,
                Ok(n) => {
                    add(&self.bytes_out, n);
                    pages.offset += n as u64;
                    pages.len -= n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(len - pages.len)
    }

    /// Bytes moved since the last call: read, written.
    pub fn take_counts(&self) -> (u64, u64) {
        let take = |counter: &AtomicU64| {
            let count = counter.load(Ordering::Relaxed);
            counter.store(0, Ordering::Relaxed);
            count
        };
        (take(&self.bytes_in), take(&self.bytes_out))
    }

    /// From now on the connection is not the server's.
    pub fn hijack(&self) {
        self.is_hijacked.store(true, Ordering::SeqCst);
        if let (Some(service), Some(info)) = (self.scope.service(), &self.info) {
            service.report(info, ConnState::Hijacked);
        }
    }

    pub fn is_hijacked(&self) -> bool {
        self.is_hijacked.load(Ordering::SeqCst)
    }

    pub fn expect_continue(&self) {
        self.awaits_continue.store(true, Ordering::Relaxed);
    }

    /// Tells a client that waits for it to go on.
    pub fn send_continue(&self) -> io::Result<()> {
        match self.end_continue() {
            true => self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n"),
            false => Ok(()),
        }
    }

    /// Whether the client still waited; it does not any more.
    pub fn end_continue(&self) -> bool {
        self.awaits_continue.load(Ordering::Relaxed)
            && self.awaits_continue.swap(false, Ordering::Relaxed)
    }
}
