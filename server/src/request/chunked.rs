//! The chunked transfer coding (RFC 9112 §7.1), receiving side.

use std::io;

use super::error::HeadError;
use super::fields::Fields;
use super::head;
use crate::conn::{Input, Wire};

/// Bytes in the line of a chunk's size, its extensions included. As in Go.
const MAX_LINE_BYTES: usize = 4096;
/// Bytes in a trailer. As in Go.
const MAX_TRAILER_BYTES: usize = 4096;
/// Fields in a trailer.
const MAX_TRAILER_FIELDS: usize = 64;
/// Bytes around the data of a chunk that are not counted against the sender:
/// enough for one byte a chunk.
const FREE_OVERHEAD_BYTES: u64 = 16;
/// What may be sent around the data beyond that and twice the data. It bounds
/// what extensions can make the server read for nothing. As in Go.
const MAX_EXCESS_BYTES: u64 = 16 * 1024;

/// Why a chunked body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The line of a size, or a trailer, is too long.
    #[error("chunk line too long")]
    LineTooLong,
    /// A line that does not end in CRLF, or has a CR within.
    #[error("malformed end of line in chunked encoding")]
    LineEnd,
    /// No hexadecimal number, or one that is too large.
    #[error("invalid chunk size")]
    Size,
    /// A control byte in a chunk's extension.
    #[error("invalid chunk extension")]
    Extension,
    /// Something else than CRLF after a chunk's data.
    #[error("malformed chunked encoding")]
    DataEnd,
    /// Mostly extensions and tiny chunks.
    #[error("chunked encoding contains too much non-data")]
    TooMuchOverhead,
    /// The trailer's fields are malformed.
    #[error("malformed trailer: {0}")]
    Trailer(HeadError),
    /// A field that must not be in a trailer (RFC 9110 §6.5.1).
    #[error("forbidden field in trailer")]
    ForbiddenTrailer,
}

impl From<ChunkError> for io::Error {
    fn from(e: ChunkError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}

/// Where in the coding the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the line of a size.
    #[default]
    Size,
    /// In a chunk, this many bytes of data left; never 0.
    Data(u64),
    /// After a chunk's data, before its CRLF.
    DataEnd,
    /// After the last chunk.
    Trailer,
    /// After the trailer.
    Done,
}

/// Decodes one body.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    excess: u64,
}

impl Chunked {
    /// Reads data of the body; 0 is its end, with the trailer in `trailer`.
    pub fn read(
        &mut self,
        input: &mut Input,
        wire: &Wire,
        into: &mut [u8],
        trailer: &mut Fields,
    ) -> io::Result<usize> {
        loop {
            match self.state {
                State::Size => self.size(input, wire)?,
                State::Data(left) => {
                    let room = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let n = input.read(wire, &mut into[..room])?;
                    if n == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.state = match left - n as u64 {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(n);
                }
                State::DataEnd => {
                    fill_to(input, wire, 2)?;
                    if !input.buffered().starts_with(b"\r\n") {
                        return Err(ChunkError::DataEnd.into());
                    }
                    input.consume(2);
                    self.state = State::Size;
                }
                State::Trailer => {
                    read_trailer(input, wire, trailer)?;
                    self.state = State::Done;
                }
                State::Done => return Ok(0),
            }
        }
    }

    fn size(&mut self, input: &mut Input, wire: &Wire) -> io::Result<()> {
        let len = line_len(input, wire, 0, MAX_LINE_BYTES)?;
        let size = parse_size(&input.buffered()[..len - 2])?;
        input.consume(len);
        let allowed = size.saturating_mul(2).saturating_add(FREE_OVERHEAD_BYTES);
        self.excess = (self.excess + len as u64 + 2).saturating_sub(allowed);
        if self.excess > MAX_EXCESS_BYTES {
            return Err(ChunkError::TooMuchOverhead.into());
        }
        self.state = match size {
            0 => State::Trailer,
            n => State::Data(n),
        };
        Ok(())
    }
}

/// Waits until `n` bytes are buffered.
fn fill_to(input: &mut Input, wire: &Wire, n: usize) -> io::Result<()> {
    while input.buffered().len() < n {
        if input.fill(wire)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Waits for the end of the line that begins at `from` in what is buffered,
/// and says how long the line is, its CRLF included.
fn line_len(input: &mut Input, wire: &Wire, from: usize, max: usize) -> io::Result<usize> {
    let mut seen = from;
    loop {
        let buffered = input.buffered();
        if let Some(at) = memchr::memchr(b'\n', &buffered[seen..]) {
            let line = &buffered[from..=seen + at];
            let cr = memchr::memchr(b'\r', line);
            return match line.len() {
                _ if cr.is_none_or(|at| at + 2 != line.len()) => Err(ChunkError::LineEnd.into()),
                len if len > max => Err(ChunkError::LineTooLong.into()),
                len => Ok(len),
            };
        }
        seen = buffered.len();
        if seen - from > max {
            return Err(ChunkError::LineTooLong.into());
        }
        fill_to(input, wire, seen + 1)?;
    }
}

/// Hexadecimal digits, then possibly extensions, which are ignored, and white
/// space at the end (RFC 9112 §7.1.1). White space before an extension is
/// refused, as in Go.
fn parse_size(line: &[u8]) -> Result<u64, ChunkError> {
    let line = line.trim_ascii_end();
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(end);
    if !extensions.iter().all(|&b| head::is_value_byte(b)) {
        return Err(ChunkError::Extension);
    }
    if digits.is_empty() || digits.len() > 16 {
        return Err(ChunkError::Size);
    }
    digits.iter().try_fold(0_u64, |size, &digit| {
        let digit = char::from(digit).to_digit(16).ok_or(ChunkError::Size)?;
        Ok(size << 4 | u64::from(digit))
    })
}

fn read_trailer(input: &mut Input, wire: &Wire, trailer: &mut Fields) -> io::Result<()> {
    let mut len = 0;
    loop {
        let line = line_len(
            input,
            wire,
            len,
            MAX_TRAILER_BYTES - len.min(MAX_TRAILER_BYTES),
        )?;
        len += line;
        if line == 2 {
            break;
        }
    }
    trailer.set_raw(&input.buffered()[..len]);
    input.consume(len);
    head::index_fields(trailer, 0, MAX_TRAILER_FIELDS).map_err(ChunkError::Trailer)?;
    let mut names = trailer.iter().map(|(name, _)| name);
    if names.any(is_forbidden_in_trailer) {
        return Err(ChunkError::ForbiddenTrailer.into());
    }
    Ok(())
}

/// Fields that delimit or route the message, which is too late in a trailer.
fn is_forbidden_in_trailer(name: &str) -> bool {
    ["transfer-encoding", "content-length", "trailer", "host"]
        .iter()
        .any(|f| name.eq_ignore_ascii_case(f))
}

#[cfg(test)]
mod tests;
