//! The body of a request, as a reader.

use std::io::{self, Read};
use std::sync::Arc;

use super::chunked::Chunked;
use super::fields::Fields;
use super::head::Framing;
use crate::conn::{Input, Wire};

#[derive(Debug, Default)]
enum Decoder {
    /// The end was reached.
    #[default]
    Done,
    /// This many bytes are left; never 0.
    Length(u64),
    Chunked(Chunked),
    /// An error ended it; nothing after it can be trusted.
    Failed(io::ErrorKind),
}

/// The body of a request: reads as the bytes that the client sent, without
/// its transfer coding, and waits for them as they come.
///
/// The first read tells a client that asked for it to go on
/// (`100 Continue`). A body that ends early fails with `UnexpectedEof`, a
/// malformed one with `InvalidData` and a [`crate::ChunkError`] within.
#[derive(Default)]
pub struct Body {
    decoder: Decoder,
    /// Bytes that may still be read, and the bound that this began with.
    limit: Option<(u64, u64)>,
    pub(crate) trailers: Fields,
    pub(crate) input: Input,
    wire: Option<Arc<Wire>>,
}

/// What became of a body that a handler left unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// All of it was read: the next request can follow.
    Fully,
    /// It goes on, or cannot be read.
    NotFully,
}

impl Body {
    pub(crate) fn attach(&mut self, wire: Arc<Wire>) {
        self.wire = Some(wire);
    }

    /// The connection; `None` of a request that came over none.
    pub(crate) fn wire(&self) -> Option<&Arc<Wire>> {
        self.wire.as_ref()
    }

    pub(crate) fn detach(&mut self) {
        self.wire = None;
        self.decoder = Decoder::Done;
        self.input.reset();
    }

    pub(crate) fn begin(&mut self, framing: Framing) {
        self.trailers.clear();
        self.limit = None;
        self.decoder = match framing {
            Framing::None => Decoder::Done,
            Framing::Length(n) => Decoder::Length(n),
            Framing::Chunked => Decoder::Chunked(Chunked::default()),
        };
    }

    /// Whether it comes over this connection.
    pub(crate) fn is_of(&self, wire: &Arc<Wire>) -> bool {
        self.wire.as_ref().is_some_and(|own| Arc::ptr_eq(own, wire))
    }

    /// Ends it, and gives what was read ahead.
    pub(crate) fn hijack(&mut self) -> Vec<u8> {
        self.decoder = Decoder::Failed(io::ErrorKind::NotConnected);
        let ahead = self.input.buffered().to_vec();
        self.input.consume(ahead.len());
        ahead
    }

    /// Swaps what belongs to the connection with `other`, unless reads may still
    /// give something: neither has any left then.
    pub(crate) fn swap_ended(&mut self, other: &mut Body) {
        if !self.remains() && !other.remains() {
            std::mem::swap(&mut self.wire, &mut other.wire);
            std::mem::swap(&mut self.input, &mut other.input);
        }
    }

    /// Whether reads may still give something.
    pub(crate) fn remains(&self) -> bool {
        !matches!(self.decoder, Decoder::Done)
    }

    /// Bytes that are known to be left.
    pub(crate) fn known_left(&self) -> u64 {
        match self.decoder {
            Decoder::Length(n) => n,
            _ => 0,
        }
    }

    /// Whether a read may have to wait for the client.
    pub(crate) fn may_wait(&self) -> bool {
        match self.decoder {
            Decoder::Done | Decoder::Failed(_) => false,
            Decoder::Length(n) => n > self.input.buffered().len() as u64,
            Decoder::Chunked(_) => true,
        }
    }

    /// Reads and forgets up to `max` bytes.
    pub(crate) fn drain(&mut self, max: u64) -> Drained {
        if !self.remains() {
            return Drained::Fully;
        }
        if self.known_left() > max {
            return Drained::NotFully;
        }
        let mut limited = self.take(max + 1);
        let drained = io::copy(&mut limited, &mut io::sink());
        match drained.is_ok() && !self.remains() {
            true => Drained::Fully,
            false => Drained::NotFully,
        }
    }

    fn read_decoded(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wire = self.wire.as_ref().expect("attached while served");
        match &mut self.decoder {
            Decoder::Done => Ok(0),
            Decoder::Failed(kind) => Err((*kind).into()),
            Decoder::Length(left) => {
                let room = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let n = self.input.read(wire, &mut into[..room])?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= n as u64;
                if *left == 0 {
                    self.decoder = Decoder::Done;
                }
                Ok(n)
            }
            Decoder::Chunked(chunked) => {
                let n = chunked.read(&mut self.input, wire, into, &mut self.trailers)?;
                if n == 0 {
                    self.decoder = Decoder::Done;
                }
                Ok(n)
            }
        }
    }
}

/// A body is longer than a handler allowed ([`Body::limit`]). It is inside an
/// [`io::Error`] of the kind `FileTooLarge`; [`MaxBytesError::is_in`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request body too large: more than {limit} bytes")]
pub struct MaxBytesError {
    /// The bound, in bytes.
    pub limit: u64,
}

impl MaxBytesError {
    /// Whether this is what a read failed with.
    pub fn is_in(e: &io::Error) -> bool {
        e.kind() == io::ErrorKind::FileTooLarge
    }
}

impl Body {
    /// Bounds what can be read from now on, in bytes: reading on after that
    /// fails with a [`MaxBytesError`], and the connection is closed after the
    /// response. Of two bounds the lesser holds. Go's `MaxBytesReader`.
    pub fn limit(&mut self, bytes: u64) {
        match self.limit {
            Some((left, _)) if left <= bytes => {}
            _ => self.limit = Some((bytes, bytes)),
        }
    }

    pub(crate) fn limit_unless_set(&mut self, bytes: u64) {
        if self.limit.is_none() {
            self.limit(bytes);
        }
    }

    fn read_limited(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some((left, limit)) = self.limit else {
            return self.read_decoded(into);
        };
        // One byte more than is allowed tells that there is one.
        let room = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
        let most = into.len().min(room);
        let n = self.read_decoded(&mut into[..most])?;
        match left.checked_sub(n as u64) {
            Some(left) => {
                self.limit = Some((left, limit));
                Ok(n)
            }
            None => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                MaxBytesError { limit },
            )),
        }
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || !self.remains() {
            return Ok(0);
        }
        let wire = self.wire.as_ref().expect("attached while served");
        wire.send_continue()?;
        let read = self.read_limited(into);
        if let Err(e) = &read {
            self.decoder = Decoder::Failed(e.kind());
        }
        read
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("decoder", &self.decoder)
            .finish_non_exhaustive()
    }
}
