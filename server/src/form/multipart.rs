//! `multipart/form-data` (RFC 7578, RFC 2046 §5.1), read part by part as it
//! comes.
//!
//! The delimiter is CRLF, two dashes and the boundary. The CRLF that ends a
//! part's head is kept for the search, so that a delimiter right after it is
//! found as any other; what precedes the first delimiter is read as a part that
//! nobody wants. Of the body no more is buffered than the search needs.

use std::borrow::Cow;
use std::io::{self, Read};

use memchr::memmem;

use crate::request::{Fields, HeadError, parse_fields};

/// Parts of one form. As in Go.
pub(super) const MAX_PARTS: usize = 1_000;
/// Header fields of all parts of a form together. As in Go.
const MAX_FIELDS: usize = 10_000;
/// Bytes of one part's head. A browser sends about 150.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Characters of a boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;
/// What is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Why a multipart body could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// The type of the body is another.
    #[error("the body is not multipart/form-data")]
    ContentType,
    /// There is no boundary in `Content-Type`, or none that can be one.
    #[error("no boundary of 1 to {MAX_BOUNDARY} characters in Content-Type")]
    Boundary,
    /// Something else than space follows a delimiter on its line.
    #[error("a delimiter between parts is malformed")]
    Delimiter,
    /// A part's head is longer than 16 KiB.
    #[error("the head of a part is longer than {MAX_HEAD_BYTES} bytes")]
    HeadTooLarge,
    /// A part's head is malformed, or all of them have more than 10,000 fields.
    #[error("the head of a part is malformed")]
    Head(#[source] HeadError),
    /// More than 1,000 parts.
    #[error("more than {MAX_PARTS} parts")]
    TooManyParts,
    /// The values of a form take more than the memory allowed for them.
    #[error("the values of the form are larger than allowed")]
    ValuesTooLarge,
    /// The body could not be read, is too long, or ended before its last
    /// delimiter.
    #[error("reading the body failed")]
    Body(#[from] io::Error),
}

/// Reads the parts of a multipart body one after the other.
#[derive(Debug)]
pub struct MultipartReader<R> {
    source: R,
    /// CRLF, two dashes, and the boundary.
    delimiter: Vec<u8>,
    /// What was read and not used yet.
    buffer: Vec<u8>,
    parts: usize,
    fields_left: usize,
    is_done: bool,
}

/// One part: its head, and a reader of its body.
#[derive(Debug)]
pub struct Part<'m, R> {
    /// The header fields.
    pub headers: Fields,
    reader: &'m mut MultipartReader<R>,
}

/// What the buffer begins with.
enum Ahead {
    /// So many bytes of the part.
    Data(usize),
    /// A delimiter.
    Delimiter,
    /// Too little to tell.
    Unknown,
}

impl<R: Read> MultipartReader<R> {
    /// Reads the body of a message with this `Content-Type`.
    ///
    /// # Errors
    ///
    /// [`MultipartError::ContentType`] or [`MultipartError::Boundary`].
    pub fn new(content_type: &[u8], source: R) -> Result<MultipartReader<R>, MultipartError> {
        let (kind, parameters) = split_parameters(content_type);
        if !kind.eq_ignore_ascii_case(b"multipart/form-data") {
            return Err(MultipartError::ContentType);
        }
        let boundary = parameter(parameters, b"boundary").filter(|b| is_boundary(b));
        let boundary = boundary.ok_or(MultipartError::Boundary)?;
        Ok(MultipartReader {
            source,
            delimiter: [b"\r\n--", boundary.as_slice()].concat(),
            // As if a line had ended before the body.
            buffer: b"\r\n".to_vec(),
            parts: 0,
            fields_left: MAX_FIELDS,
            is_done: false,
        })
    }

    /// The next part, what is left of the one before being skipped; `None` after
    /// the last.
    ///
    /// # Errors
    ///
    /// [`MultipartError`]; nothing can be read after one.
    pub fn next_part(&mut self) -> Result<Option<Part<'_, R>>, MultipartError> {
        if self.is_done {
            return Ok(None);
        }
        // Until a part is found, nothing is to be read.
        self.is_done = true;
        while self.skip()? {}
        if !self.end_delimiter()? {
            return Ok(None);
        }
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(MultipartError::TooManyParts);
        }
        let headers = self.head()?;
        self.is_done = false;
        Ok(Some(Part {
            headers,
            reader: self,
        }))
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let len = self.buffer.len();
        self.buffer.resize(len + READ_BYTES, 0);
        let read = self.source.read(&mut self.buffer[len..]);
        self.buffer
            .truncate(len + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(n) => Ok(n > 0),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn fill_or_fail(&mut self) -> io::Result<()> {
        match self.fill()? {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn look(&self) -> Ahead {
        let after = |at: usize| match &self.buffer[at + self.delimiter.len()..] {
            [b' ' | b'\t' | b'\r', ..] | [b'-', b'-', ..] => Ahead::Delimiter,
            [] | [b'-'] => Ahead::Unknown,
            // The boundary goes on: it is another, and part of the data.
            _ => Ahead::Data(self.delimiter.len()),
        };
        match memmem::find(&self.buffer, &self.delimiter) {
            Some(0) => after(0),
            Some(at) => Ahead::Data(at),
            // A delimiter may have begun at the last CR.
            None => match memchr::memrchr(b'\r', &self.buffer) {
                Some(0) if self.delimiter.starts_with(&self.buffer) => Ahead::Unknown,
                Some(at) if at > 0 && self.delimiter.starts_with(&self.buffer[at..]) => {
                    Ahead::Data(at)
                }
                _ if self.buffer.is_empty() => Ahead::Unknown,
                _ => Ahead::Data(self.buffer.len()),
            },
        }
    }

    /// How much of the part is buffered; 0 before a delimiter.
    fn available(&mut self) -> io::Result<usize> {
        loop {
            match self.look() {
                Ahead::Data(n) => return Ok(n),
                Ahead::Delimiter => return Ok(0),
                Ahead::Unknown => self.fill_or_fail()?,
            }
        }
    }

    /// Skips some of the part; false before a delimiter.
    fn skip(&mut self) -> io::Result<bool> {
        let n = self.available()?;
        self.buffer.drain(..n);
        Ok(n > 0)
    }

    /// Takes the delimiter off the buffer, and its line but for the CRLF. False:
    /// it was the last.
    fn end_delimiter(&mut self) -> Result<bool, MultipartError> {
        let len = self.delimiter.len();
        if self.buffer[len..].starts_with(b"--") {
            return Ok(false);
        }
        loop {
            let line = &self.buffer[len..];
            let padding = line.iter().take_while(|b| b" \t".contains(b)).count();
            match &line[padding..] {
                [b'\r', b'\n', ..] => {
                    self.buffer.drain(..len + padding);
                    return Ok(true);
                }
                [] | [b'\r'] if padding <= MAX_HEAD_BYTES => self.fill_or_fail()?,
                _ => return Err(MultipartError::Delimiter),
            }
        }
    }

    /// Reads a part's head.
    fn head(&mut self) -> Result<Fields, MultipartError> {
        let end = loop {
            // The buffer begins with the CRLF of the delimiter's line.
            match memmem::find(&self.buffer, b"\r\n\r\n") {
                Some(end) => break end,
                None if self.buffer.len() > MAX_HEAD_BYTES => {
                    return Err(MultipartError::HeadTooLarge);
                }
                None => self.fill_or_fail()?,
            }
        };
        if end > MAX_HEAD_BYTES {
            return Err(MultipartError::HeadTooLarge);
        }
        let raw = &self.buffer[2..end + 4];
        let fields = parse_fields(raw, self.fields_left).map_err(MultipartError::Head)?;
        self.fields_left -= fields.len();
        self.buffer.drain(..end + 2);
        // Unless a delimiter follows at once, that CRLF is the head's.
        if self.available()? > 0 {
            self.buffer.drain(..2);
        }
        Ok(fields)
    }
}

impl<R: Read> Part<'_, R> {
    /// The name of the form's field.
    pub fn form_name(&self) -> Option<String> {
        self.disposition(b"name")
    }

    /// The name that the file has at the client, without any path.
    pub fn file_name(&self) -> Option<String> {
        let name = self.disposition(b"filename")?;
        let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
        (!base.is_empty() && base != "." && base != "..").then(|| base.to_owned())
    }

    fn disposition(&self, name: &[u8]) -> Option<String> {
        let field = self.headers.get_bytes("Content-Disposition")?;
        let (kind, parameters) = split_parameters(field);
        if !kind.eq_ignore_ascii_case(b"form-data") {
            return None;
        }
        let value = parameter(parameters, name)?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }
}

impl<R: Read> Read for Part<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        if into.is_empty() || reader.is_done {
            return Ok(0);
        }
        let n = reader.available()?.min(into.len());
        into[..n].copy_from_slice(&reader.buffer[..n]);
        reader.buffer.drain(..n);
        Ok(n)
    }
}

/// RFC 2046 §5.1.1: up to 70 characters, and no space at the end.
fn is_boundary(boundary: &[u8]) -> bool {
    let may_be = |b: &u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(b);
    (1..=MAX_BOUNDARY).contains(&boundary.len())
        && boundary.iter().all(may_be)
        && !boundary.ends_with(b" ")
}

/// The value of a field before its first `;`, and what is after it.
fn split_parameters(field: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b';', field).unwrap_or(field.len());
    let rest = field.get(end + 1..).unwrap_or_default();
    (field[..end].trim_ascii(), rest)
}

/// A parameter of a field (RFC 9110 §5.6.6). `name*` (RFC 8187) goes before
/// `name`, when it is UTF-8.
fn parameter(parameters: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = None;
    let mut rest = parameters;
    while let Some(equals) = memchr::memchr(b'=', rest) {
        let key = rest[..equals].trim_ascii();
        let (value, after) = value(rest[equals + 1..].trim_ascii_start());
        if key.eq_ignore_ascii_case(&[name, b"*"].concat()) {
            let extended = value
                .get(..7)
                .filter(|c| c.eq_ignore_ascii_case(b"utf-8''"));
            if extended.is_some() {
                return Some(crate::path::unescape_or_raw(&value[7..]).into_owned());
            }
        } else if key.eq_ignore_ascii_case(name) && plain.is_none() {
            plain = Some(value.into_owned());
        }
        rest = after;
    }
    plain
}

/// A token or a quoted string, and what is after the next `;`. A backslash
/// stands for itself unless a quote or another follows, as in file names of old
/// browsers.
fn value(text: &[u8]) -> (Cow<'_, [u8]>, &[u8]) {
    let after = |at: usize| {
        let semicolon = memchr::memchr(b';', &text[at..]);
        semicolon.map_or(b"".as_slice(), |semicolon| &text[at + semicolon + 1..])
    };
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        return (Cow::Borrowed(text[..end].trim_ascii()), after(end));
    };
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(&byte) = quoted.get(at).filter(|b| **b != b'"') {
        let next = quoted.get(at + 1);
        let escapes = byte == b'\\' && next.is_some_and(|b| b"\\\"".contains(b));
        at += usize::from(escapes);
        value.push(quoted[at]);
        at += 1;
    }
    (Cow::Owned(value), after((at + 2).min(text.len())))
}
