//! Taking a connection over from the server, as Go's `Hijacker`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use wirepath_runtime::Nanos;

use crate::conn::Conn;

/// A connection that a handler took over with
/// [`ResponseWriter::hijack`](crate::ResponseWriter::hijack).
#[derive(Debug)]
pub struct Hijacked {
    /// The connection. It is closed when this is dropped.
    pub conn: HijackedConn,
    /// What was read ahead of the request: it comes before what `conn` gives.
    pub buffered: Vec<u8>,
}

/// Why a connection was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HijackError {
    /// It was taken over before.
    #[error("the connection was hijacked before")]
    Hijacked,
    /// There is none: the response is recorded.
    #[error("a recorded response has no connection to hijack")]
    Unsupported,
    /// The request is not the one that is being answered.
    #[error("hijacking needs the request that this writer answers")]
    OtherRequest,
    /// It failed before.
    #[error("the connection to hijack has failed")]
    Failed,
}

impl From<HijackError> for io::Error {
    fn from(e: HijackError) -> io::Error {
        io::Error::other(e)
    }
}

/// The byte stream of a connection that was taken over: plain, or the inside of
/// its TLS session. Reads and writes park the goroutine.
///
/// It can be used by several goroutines at a time, one that reads and one that
/// writes: `&HijackedConn` is a reader and a writer. Dropping it closes the
/// connection once what was written is delivered.
pub struct HijackedConn {
    conn: Arc<dyn Conn>,
}

impl HijackedConn {
    pub(crate) fn new(conn: Arc<dyn Conn>) -> HijackedConn {
        HijackedConn { conn }
    }

    /// Bounds reads from now on; they then fail with `TimedOut`.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.conn.set_read_deadline(at);
    }

    /// Bounds writes from now on; they then fail with `TimedOut`.
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.conn.set_write_deadline(at);
    }

    /// Ends one or both directions.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.conn.shutdown(how)
    }

    /// Resets the connection.
    pub fn abort(&self) {
        self.conn.abort();
    }

    /// The client's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.conn.peer_addr()
    }

    /// The server's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.conn.local_addr()
    }
}

impl Read for &HijackedConn {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.conn.read(into)
    }
}

impl Write for &HijackedConn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.conn.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for HijackedConn {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.conn.read(into)
    }
}

impl Write for HijackedConn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.conn.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for HijackedConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HijackedConn")
            .field("peer_addr", &self.peer_addr())
            .finish_non_exhaustive()
    }
}
