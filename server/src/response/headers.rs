//! The header fields of a response while it is made.

use crate::request::{TOKEN, is_value_byte};

/// A header field that must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is not a token.
    #[error("the header name is not a token")]
    Name,
    /// The value has a control byte, which could end the field.
    #[error("the header value has a control byte")]
    Value,
}

/// The fields that the server itself looks at.
#[derive(Clone, Copy)]
pub(super) enum Known {
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Date,
    Trailer,
    TransferEncoding,
}

impl Known {
    const fn name(self) -> &'static str {
        match self {
            Known::Connection => "Connection",
            Known::ContentEncoding => "Content-Encoding",
            Known::ContentLength => "Content-Length",
            Known::ContentType => "Content-Type",
            Known::Date => "Date",
            Known::Trailer => "Trailer",
            Known::TransferEncoding => "Transfer-Encoding",
        }
    }

    /// No two of them have the same length.
    fn of(name: &str) -> Option<Known> {
        let known = match name.len() {
            4 => Known::Date,
            7 => Known::Trailer,
            10 => Known::Connection,
            12 => Known::ContentType,
            14 => Known::ContentLength,
            16 => Known::ContentEncoding,
            17 => Known::TransferEncoding,
            _ => return None,
        };
        let is_it = name == known.name() || name.eq_ignore_ascii_case(known.name());
        is_it.then_some(known)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Lines `name: value\r\n`, ready to be sent. The few fields of a response
/// are found by walking over the lines, once it is known that they may be
/// there.
#[derive(Clone, Debug, Default)]
pub(super) struct HeaderLines {
    lines: Vec<u8>,
    /// The bits of the known fields that are there.
    known: u8,
}

impl HeaderLines {
    pub fn clear(&mut self) {
        self.lines.clear();
        self.known = 0;
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }

    /// Each line without its CRLF.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines
            .split_inclusive(|&b| b == b'\n')
            .map(|line| &line[..line.len() - 2])
    }

    /// Names and values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines().map(|line| {
            let colon = memchr::memchr(b':', line).expect("a name ends in a colon");
            let name = str::from_utf8(&line[..colon]).expect("a name is a token");
            (name, &line[colon + 2..])
        })
    }

    /// Takes over the fields of `other`, in place of all of their names.
    pub fn overwrite(&mut self, other: &HeaderLines) {
        for (name, _) in other.fields() {
            self.remove(name);
        }
        self.lines.extend_from_slice(&other.lines);
        self.known |= other.known;
    }

    pub fn has(&self, known: Known) -> bool {
        self.known & known.bit() != 0
    }

    fn may_have(&self, known: Option<Known>) -> bool {
        known.map_or(!self.lines.is_empty(), |known| self.has(known))
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.lines().find_map(|line| value_of(line, name))
    }

    pub fn get_known(&self, known: Known) -> Option<&[u8]> {
        match self.has(known) {
            true => self.get(known.name()),
            false => None,
        }
    }

    pub fn append(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        self.push(Known::of(name), name, value)
    }

    fn push(&mut self, known: Option<Known>, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        if known.is_none() && (name.is_empty() || !TOKEN.has_all(name.as_bytes())) {
            return Err(HeaderError::Name);
        }
        // Without an early end, this compares many bytes at a time.
        if !value.iter().fold(true, |ok, &b| ok & is_value_byte(b)) {
            return Err(HeaderError::Value);
        }
        self.known |= known.map_or(0, Known::bit);
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value.trim_ascii());
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        let known = Known::of(name);
        let replaces = self.may_have(known);
        let old = self.lines.len();
        self.push(known, name, value)?;
        if replaces {
            self.remove_before(old, name);
        }
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        match Known::of(name) {
            Some(known) => self.remove_known(known),
            None => self.remove_before(self.lines.len(), name),
        }
    }

    pub fn remove_known(&mut self, known: Known) {
        if self.has(known) {
            self.remove_before(self.lines.len(), known.name());
            self.known &= !known.bit();
        }
    }

    /// Removes the fields of this name that are in the first `end` bytes.
    fn remove_before(&mut self, mut end: usize, name: &str) {
        let mut at = 0;
        while at < end {
            let rest = &self.lines[at..];
            let len = memchr::memchr(b'\n', rest).expect("every line ends") + 1;
            if value_of(&rest[..len - 2], name).is_some() {
                self.lines.drain(at..at + len);
                end -= len;
            } else {
                at += len;
            }
        }
    }
}

fn value_of<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b": ")?;
    start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
}
