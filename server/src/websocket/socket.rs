//! A WebSocket after its handshake.
//!
//! tungstenite keeps both directions of a connection in one value, which a
//! goroutine that waits for a message would hold all the while. But the frames
//! of a server are not masked and depend on nothing that was received. So each
//! direction has a value of its own: the receiving one answers pings and a
//! close, the sending one frames messages, and both write whole frames under
//! one lock, which also knows that nothing may follow a close (RFC 6455 §5.5.1).

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use wirepath_runtime::{Nanos, now, sync};

use super::{CloseCode, CloseFrame, Error, Message};
use crate::hijack::{Hijacked, HijackedConn};

/// How long [`WebSocket::close`] waits for the client's part.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The most that a control frame has, in bytes (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: usize = 125;

/// What both directions share.
struct Shared {
    conn: HijackedConn,
    /// Whether a close was sent. Held while frames are written.
    is_closed: sync::Mutex<bool>,
}

/// A direction's view of the connection: reads go to it, what is written is
/// kept until it makes whole frames.
struct Side {
    shared: Arc<Shared>,
    frames: Vec<u8>,
}

impl Side {
    /// Sends what was written, of which a close is the last if it `ends`. After
    /// a close nothing is sent.
    fn send(&mut self, ends: bool) -> Result<(), Error> {
        let mut is_closed = self.shared.is_closed.lock();
        let frames = std::mem::take(&mut self.frames);
        if *is_closed {
            return Err(Error::AlreadyClosed);
        }
        *is_closed = ends;
        Ok((&self.shared.conn).write_all(&frames)?)
    }
}

impl Read for Side {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&self.shared.conn).read(into)
    }
}

impl Write for Side {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frames.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives messages: a half of a [`WebSocket`].
pub struct Receiver {
    context: WebSocketContext,
    side: Side,
    close: Option<CloseFrame>,
}

/// Sends messages: a half of a [`WebSocket`].
pub struct Sender {
    context: WebSocketContext,
    side: Side,
}

/// A WebSocket. Dropping it (both halves, once split) closes the connection;
/// [`WebSocket::close`] says farewell before that.
pub struct WebSocket {
    receiver: Receiver,
    sender: Sender,
    subprotocol: Option<String>,
}

impl WebSocket {
    pub(super) fn new(
        hijacked: Hijacked,
        max_message_bytes: usize,
        subprotocol: Option<String>,
    ) -> WebSocket {
        let config = WebSocketConfig::default()
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes))
            // Frames are kept in `Side`, and sent at once.
            .write_buffer_size(0);
        let shared = Arc::new(Shared {
            conn: hijacked.conn,
            is_closed: sync::Mutex::new(false),
        });
        let side = || Side {
            shared: shared.clone(),
            frames: Vec::new(),
        };
        let receiving =
            WebSocketContext::from_partially_read(hijacked.buffered, Role::Server, Some(config));
        WebSocket {
            receiver: Receiver {
                context: receiving,
                side: side(),
                close: None,
            },
            sender: Sender {
                context: WebSocketContext::new(Role::Server, Some(config)),
                side: side(),
            },
            subprotocol,
        }
    }

    /// The subprotocol that was agreed on, of
    /// [`Options::subprotocols`](super::Options::subprotocols).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// As [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.recv()
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message)
    }

    /// As [`Receiver::set_read_deadline`].
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.receiver.set_read_deadline(at);
    }

    /// As [`Sender::set_write_deadline`].
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.sender.set_write_deadline(at);
    }

    /// Where the client is.
    pub fn peer_addr(&self) -> SocketAddr {
        self.receiver.side.shared.conn.peer_addr()
    }

    /// A half for each of two goroutines.
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }

    /// Says farewell, waits up to five seconds for the client to do so, and
    /// closes the connection. Messages that still come are dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Sender::close`], and `TimedOut` within [`Error::Io`] when the
    /// client says nothing.
    pub fn close(mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.sender.close(code, reason)?;
        self.set_read_deadline(Some(now() + CLOSE_PATIENCE));
        while self.recv()?.is_some() {}
        Ok(())
    }
}

impl Receiver {
    /// Waits for the next message, a text or bytes; `None` once the client has
    /// said farewell, or this side has and the client agreed. Pings are answered
    /// and not returned, nor are pongs.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] of the connection, with `TimedOut` after the read deadline:
    /// what came of a message by then is kept, so it may be called again.
    /// [`Error::Protocol`], [`Error::Utf8`] and [`Error::Capacity`] when the
    /// client breaks the rules; it was told so, with code 1002, 1007 or 1009.
    pub fn recv(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let read = self.context.read(&mut self.side);
            match read {
                Ok(Message::Ping(_)) => self.answer(false)?,
                Ok(Message::Close(close)) => {
                    self.close = close;
                    self.answer(true)?;
                    return Ok(None);
                }
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Ok(message) => return Ok(Some(message)),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Ok(None),
                Err(e) => return Err(self.refuse(e)),
            }
        }
    }

    /// Sends what tungstenite answers by itself.
    fn answer(&mut self, ends: bool) -> Result<(), Error> {
        match self.context.flush(&mut self.side) {
            Ok(()) | Err(Error::ConnectionClosed) => {}
            Err(e) => return Err(e),
        }
        match self.side.send(ends) {
            // This side said farewell before; there is nothing to answer.
            Err(Error::AlreadyClosed) => Ok(()),
            sent => sent,
        }
    }

    /// Tells the client which rule it broke, if it did.
    fn refuse(&mut self, e: Error) -> Error {
        let code = match &e {
            Error::Protocol(_) => CloseCode::Protocol,
            Error::Utf8(_) => CloseCode::Invalid,
            Error::Capacity(_) => CloseCode::Size,
            _ => return e,
        };
        let farewell = CloseFrame {
            code,
            reason: "".into(),
        };
        // The error that led to it is the one to be told.
        let _ = self.context.close(&mut self.side, Some(farewell));
        let _ = self.side.send(true);
        e
    }

    /// What the client said at the end, once it has.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.close.as_ref()
    }

    /// Until when [`Receiver::recv`] may wait from now on; `None` for ever.
    pub fn set_read_deadline(&self, at: Option<Nanos>) {
        self.side.shared.conn.set_read_deadline(at);
    }
}

/// The bytes of a frame that must be short; 0 of others.
fn control_len(message: &Message) -> usize {
    match message {
        Message::Ping(data) | Message::Pong(data) => data.len(),
        Message::Close(Some(close)) => 2 + close.reason.len(),
        _ => 0,
    }
}

impl Sender {
    /// Sends a message. [`Message::Ping`] asks the client for a pong, which
    /// keeps a connection from looking idle to what is between.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] of the connection, with `TimedOut` after the write deadline,
    /// and then the connection is of no more use; [`Error::AlreadyClosed`] or
    /// [`Error::Protocol`] after a farewell of either side; [`Error::Protocol`]
    /// for a ping, pong or farewell of more than 125 bytes.
    pub fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        let message = message.into();
        if control_len(&message) > MAX_CONTROL_BYTES {
            return Err(Error::Protocol(ProtocolError::ControlFrameTooBig));
        }
        let ends = message.is_close();
        self.context.write(&mut self.side, message)?;
        self.context.flush(&mut self.side)?;
        self.side.send(ends)
    }

    /// Says farewell: nothing can be sent afterwards. The receiving half gets
    /// the client's answer, and `None` then.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        let reason = reason.into();
        self.send(Message::Close(Some(CloseFrame { code, reason })))
    }

    /// Until when [`Sender::send`] may wait from now on; `None` for ever.
    pub fn set_write_deadline(&self, at: Option<Nanos>) {
        self.side.shared.conn.set_write_deadline(at);
    }
}

impl std::fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocket")
            .field("peer_addr", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
