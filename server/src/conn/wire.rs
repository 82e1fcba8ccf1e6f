//! A connection's byte stream, as the HTTP code sees it.

use std::any::Any;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use wirepath_runtime::Nanos;

use super::pace::{self, Pace};
use crate::context::Scope;
use crate::hooks::{ConnInfo, ConnState};
use crate::stats::{Counter, Stats};
use crate::targets;

/// Bytes of a file of this machine.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'f> {
    pub file: BorrowedFd<'f>,
    pub offset: u64,
    pub len: u64,
    /// They are in memory: nothing waits for a disk.
    pub is_cached: bool,
}

/// Keeps a watch for a client's hanging up; dropping it ends it.
pub(crate) type Watch = Box<dyn Any + Send + Sync>;

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
    /// Writes what there is room for now, or fails with `WouldBlock`, as it may
    /// at any time.
    fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
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
    fn watch_hangup(&self, _waker: &Waker) -> Option<Watch> {
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
    /// Those of them that [`Wire::take_counts`] has told.
    told_in: AtomicU64,
    told_out: AtomicU64,
    pub scope: Scope,
    info: Option<ConnInfo>,
    reading: Pace,
    writing: Pace,
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
            told_in: AtomicU64::new(0),
            told_out: AtomicU64::new(0),
            scope: Scope::default(),
            info: None,
            reading: Pace::new(None),
            writing: Pace::new(None),
        }
    }

    /// A connection of a server.
    pub fn of_server(conn: Arc<dyn Conn>, scope: Scope, info: ConnInfo) -> Wire {
        let config = scope.service().map(|service| &service.config);
        Wire {
            reading: Pace::new(config.and_then(|c| c.min_body_rate)),
            writing: Pace::new(config.and_then(|c| c.min_response_rate)),
            scope,
            info: Some(info),
            ..Wire::new(conn)
        }
    }

    /// A request begins: its client may be as slow as any.
    pub fn begin(&self) {
        self.reading.begin();
        self.writing.begin();
        self.scope.begin();
    }

    /// Bounds reads from now on, besides the least rate.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.reading.note_deadline(at);
        self.conn.set_read_deadline(at);
    }

    /// Bounds writes from now on, besides the least rate.
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.writing.note_deadline(at);
        self.conn.set_write_deadline(at);
    }

    /// Reads what there is, waiting for the first byte, as long as the client
    /// keeps to the least rate.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self.try_read(into) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        let room = into.len();
        let set = |at| self.conn.set_read_deadline(at);
        let read = self.reading.run(set, || self.conn.read(into));
        let read =
            read.inspect_err(|e| self.note_too_slow(e, "request body", |s| &s.bodies_too_slow));
        self.note_read(room, read)
    }

    #[cold]
    fn note_too_slow(&self, e: &io::Error, what: &str, counter: fn(&Stats) -> &Counter) {
        if let (Some(service), true) = (self.scope.service(), pace::is_too_slow(e)) {
            counter(&service.stats).add(1);
            let peer = self.conn.peer_addr();
            tracing::info!(target: targets::LIMIT, %peer, what, "given up: {}", e);
        }
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

    /// Writes what there is room for, waiting for some, as long as the client
    /// keeps to the least rate. One that does not is cut off: what it was sent
    /// is incomplete, and a close in order would wait for it.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.conn.try_write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        self.pace_writes(|| self.conn.write(bytes))
    }

    fn pace_writes(&self, write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        let set = |at| self.conn.set_write_deadline(at);
        self.writing.run(set, write).inspect_err(|e| {
            self.note_too_slow(e, "response", |s| &s.responses_too_slow);
            if pace::is_too_slow(e) {
                self.conn.abort();
            }
        })
    }

    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        add(&self.bytes_out, bytes.len());
        while !bytes.is_empty() {
            match self.write(bytes) {
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
            match self.pace_writes(|| self.conn.send_file(&pages)) {
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
        let take = |total: u64, told: &AtomicU64| {
            let count = total - told.load(Ordering::Relaxed);
            told.store(total, Ordering::Relaxed);
            count
        };
        (
            take(self.total_in(), &self.told_in),
            take(self.total_out(), &self.told_out),
        )
    }

    /// Bytes read so far.
    pub fn total_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub fn total_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
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
