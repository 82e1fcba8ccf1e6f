//! A TLS session over a connection, as a connection.
//!
//! rustls does no I/O: it is given ciphertext and gives some back. Here both
//! happen under one lock, with calls of the connection below that never wait,
//! so ciphertext goes in and out in the order in which rustls counts its
//! records, whoever calls; a wait comes after the lock was given back. One
//! goroutine may so read while another writes. (The other way, ciphertext
//! copied out under the lock and written after it, needs a second lock for the
//! order, which is held across waits.)
//!
//! The handshake is part of the first read. It waits as that does, so the
//! connection's step ends while a client takes its time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use rustls::{ServerConfig, ServerConnection};
use wirepath_runtime::Nanos;

use super::TlsInfo;
use crate::conn::{Conn, Watch};

/// Plaintext that is made ciphertext at once, in bytes: four records, of which
/// the writer waits for the last to be taken by the connection.
const WRITE_BYTES: usize = 64 * 1024;
/// The length of a record's header (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;
/// What a client that speaks plain HTTP gets. As in Go.
const PLAIN_REPLY: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
/// Reads of what such a client sent, so that a reset does not overtake the
/// reply.
const PLAIN_READS: usize = 16;

/// What TLS needs of the connection below it.
pub(crate) trait Transport: Conn {
    /// Waits until a read may give something else than `WouldBlock`.
    fn wait_readable(&self) -> io::Result<()>;
    /// Waits until a write may.
    fn wait_writable(&self) -> io::Result<()>;
}

/// A connection that speaks TLS.
pub(crate) struct TlsConn<T: Transport> {
    below: Arc<T>,
    session: Mutex<Session>,
    info: OnceLock<TlsInfo>,
    /// The last read of the connection below took all there was.
    is_drained: AtomicBool,
}

/// rustls, and what became of it.
struct Session {
    tls: ServerConnection,
    /// The first bytes that came, which tell TLS from plain HTTP, and how many
    /// there are. rustls gets them once they are complete.
    start: ([u8; HEADER_BYTES], usize),
    /// Why nothing can be read any more.
    failed: Option<io::ErrorKind>,
}

/// The side of the connection below that rustls reads.
struct Incoming<'a, T> {
    below: &'a T,
    is_drained: &'a AtomicBool,
}

impl<T: Transport> Read for Incoming<'_, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.below.try_read(into)?;
        let drained = 0 < n && n < into.len() && self.below.short_read_drains();
        self.is_drained.store(drained, Ordering::Relaxed);
        Ok(n)
    }
}

/// And the one that it writes.
struct Outgoing<'a, T>(&'a T);

impl<T: Transport> Write for Outgoing<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block<V>(result: &io::Result<V>) -> bool {
    matches!(result, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

impl<T: Transport> TlsConn<T> {
    /// A session that is still to begin, and whose handshake must be sent
    /// until `until`.
    pub fn new(
        below: Arc<T>,
        config: Arc<ServerConfig>,
        until: Nanos,
    ) -> Result<TlsConn<T>, rustls::Error> {
        let mut tls = ServerConnection::new(config)?;
        tls.set_buffer_limit(Some(WRITE_BYTES));
        below.set_write_deadline(Some(until));
        Ok(TlsConn {
            below,
            session: Mutex::new(Session {
                tls,
                start: ([0; HEADER_BYTES], 0),
                failed: None,
            }),
            info: OnceLock::new(),
            is_drained: AtomicBool::new(false),
        })
    }

    /// Held only while nothing waits.
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends ciphertext that is left, as far as that needs no wait.
    fn send_some(&self, session: &mut Session) -> io::Result<()> {
        while session.tls.wants_write() {
            session.tls.write_tls(&mut Outgoing(&*self.below))?;
        }
        Ok(())
    }

    /// Sends ciphertext that is left.
    fn send_all(&self) -> io::Result<()> {
        loop {
            let sent = self.send_some(&mut self.session());
            if !would_block(&sent) {
                return sent;
            }
            self.below.wait_writable()?;
        }
    }

    /// Takes in the first bytes.
    fn begin(&self, session: &mut Session) -> io::Result<()> {
        let (start, filled) = &mut session.start;
        while *filled < HEADER_BYTES {
            match self.below.try_read(&mut start[*filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => *filled += n,
            }
        }
        if is_plain_http(start) {
            self.reply_plainly();
            session.failed = Some(io::ErrorKind::InvalidData);
            return Err(io::Error::new(io::ErrorKind::InvalidData, PlainHttp));
        }
        session.tls.read_tls(&mut &start[..])?;
        Ok(())
    }

    /// Takes in ciphertext, and what it brings about.
    fn receive(&self, session: &mut Session) -> io::Result<()> {
        if session.start.1 < HEADER_BYTES {
            self.begin(session)?;
        }
        session.tls.read_tls(&mut Incoming {
            below: &*self.below,
            is_drained: &self.is_drained,
        })?;
        if let Err(e) = session.tls.process_new_packets() {
            return Err(self.fail(session, e));
        }
        if self.info.get().is_none()
            && !session.tls.is_handshaking()
            && let Some(info) = TlsInfo::of(&session.tls)
        {
            self.below.set_write_deadline(None);
            // Nobody else sets it, the session being locked.
            let _ = self.info.set(info);
        }
        Ok(())
    }

    /// Tells the client that there will be nothing, and why.
    #[cold]
    fn fail(&self, session: &mut Session, e: rustls::Error) -> io::Error {
        let peer = self.below.peer_addr();
        tracing::debug!(%peer, "TLS failed: {e}");
        // The alert: lost if there is no room for it.
        let _ = self.send_some(session);
        session.failed = Some(io::ErrorKind::InvalidData);
        io::Error::new(io::ErrorKind::InvalidData, e)
    }

    fn reply_plainly(&self) {
        tracing::debug!(peer = %self.below.peer_addr(), "{PlainHttp}");
        // To a client that takes nothing, nothing can be said.
        let _ = self.below.try_write(PLAIN_REPLY);
        let _ = self.below.shutdown(Shutdown::Write);
        let mut scrap = [0; 4096];
        for _ in 0..PLAIN_READS {
            if !matches!(self.below.try_read(&mut scrap), Ok(1..)) {
                return;
            }
        }
    }

    /// Says that nothing more will be sent, unless that was said.
    fn say_farewell(&self) {
        if self.info.get().is_some() {
            let mut session = self.session();
            session.tls.send_close_notify();
            // If there is no room for it, the client is in the middle of
            // something that it will not get the end of anyway.
            let _ = self.send_some(&mut session);
        }
    }
}

/// A client that does not speak TLS.
#[derive(Debug, thiserror::Error)]
#[error("a client sent a plain HTTP request to a TLS port")]
struct PlainHttp;

/// Whether a client began as HTTP/1.x requests begin. The methods are Go's.
fn is_plain_http(start: &[u8; HEADER_BYTES]) -> bool {
    [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"].contains(&start)
}

impl<T: Transport> Conn for TlsConn<T> {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.try_read(into);
            if !would_block(&read) {
                return read;
            }
            self.below.wait_readable()?;
        }
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut session = self.session();
            if let Some(kind) = session.failed {
                return Err(kind.into());
            }
            let read = session.tls.reader().read(into);
            if !would_block(&read) {
                return read;
            }
            let is_handshake = session.tls.is_handshaking();
            self.receive(&mut session)?;
            let sent = self.send_some(&mut session);
            drop(session);
            match sent {
                // The client waits for it before it sends anything itself.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && is_handshake => {
                    self.send_all()?;
                }
                // It goes out with what is written next.
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                _ => {}
            }
        }
    }

    fn short_read_drains(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_all()?;
        let taken = self.session().tls.writer().write(bytes)?;
        self.send_all()?;
        Ok(taken)
    }

    fn set_read_deadline(&self, at: Option<Nanos>) {
        self.below.set_read_deadline(at);
    }

    fn set_write_deadline(&self, at: Option<Nanos>) {
        self.below.set_write_deadline(at);
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            self.say_farewell();
        }
        self.below.shutdown(how)
    }

    fn abort(&self) {
        self.below.abort();
    }

    fn peer_addr(&self) -> SocketAddr {
        self.below.peer_addr()
    }

    fn local_addr(&self) -> SocketAddr {
        self.below.local_addr()
    }

    fn flow(&self) -> u64 {
        self.below.flow()
    }

    fn watch_hangup(&self, waker: &Waker) -> Option<Watch> {
        self.below.watch_hangup(waker)
    }

    fn tls(&self) -> Option<&TlsInfo> {
        self.info.get()
    }
}

impl<T: Transport> Drop for TlsConn<T> {
    fn drop(&mut self) {
        self.say_farewell();
    }
}
