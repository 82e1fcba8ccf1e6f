//! From bytes to a request head.
//!
//! Two steps. [`HeadScanner`] finds the end of the head in what has arrived so
//! far, looking at each byte once however the bytes are cut, and refuses what
//! can be refused line by line. [`parse`] then reads the whole head, once: the
//! request line here, the fields with httparse. httparse forgives what
//! RFC 9112 lets a server forgive; smuggling lives there, so it is refused
//! here (bare LF, folded lines, space before a colon, control bytes).

use std::ops::Range;

use http::Method;

use super::TOKEN;
use super::error::HeadError;
use super::fields::{Field, Fields};
use super::target::{self, Target};

/// Empty lines that a client may send before a request line (RFC 9112 §2.2
/// asks for one; more are only a way to keep a server busy).
const MAX_EMPTY_LINES: u8 = 2;
/// Fields that are parsed without allocation. A browser sends about 20.
const FIELDS_ON_STACK: usize = 32;

/// HTTP/1.x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub minor: u8,
}

impl Version {
    /// Whether chunks, 1xx and persistence by default are understood.
    pub fn is_11(self) -> bool {
        self.minor >= 1
    }
}

/// How the body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    #[default]
    None,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks, then a trailer.
    Chunked,
}

/// A head, but for its fields, which are in [`Fields`].
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub method: Method,
    pub version: Version,
    pub target: Target,
    /// Where the value of `Host` is, when the target names no host.
    pub host: Range<usize>,
    pub framing: Framing,
    /// Whether `Connection` has the token `close`.
    pub close: bool,
    /// Whether `Connection` has the token `keep-alive`.
    pub keep_alive: bool,
    pub expect: Expect,
}

/// What `Expect` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing.
    #[default]
    None,
    /// `100-continue`.
    Continue,
    /// Something that this server does not know.
    Unknown,
}

/// Finds where a head ends.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// Bytes looked at.
    seen: usize,
    /// Where the current line begins.
    line: usize,
    empty_lines: u8,
}

/// How far a [`HeadScanner`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// More bytes are needed.
    Partial,
    /// The head is here; what is before it is to be skipped.
    Complete(Range<usize>),
}

impl HeadScanner {
    /// Looks at `bytes`: those of the last call, and what came since. They may
    /// be `max_bytes` before the head must have ended.
    pub fn scan(&mut self, bytes: &[u8], max_bytes: usize) -> Result<Scan, HeadError> {
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + at + 1;
            let line = &bytes[self.line..end];
            let start = usize::from(self.empty_lines) * 2;
            let is_first = self.line == start;
            if !line.ends_with(b"\r\n") {
                return Err(HeadError::BareLf);
            }
            (self.seen, self.line) = (end, end);
            if line.len() > 2 {
                continue;
            }
            if !is_first {
                return match end - start > max_bytes {
                    true => Err(HeadError::TooLarge),
                    false => Ok(Scan::Complete(start..end)),
                };
            }
            if self.empty_lines == MAX_EMPTY_LINES {
                return Err(HeadError::RequestLine);
            }
            self.empty_lines += 1;
        }
        self.seen = bytes.len();
        match bytes.len() > max_bytes {
            true => Err(HeadError::TooLarge),
            false => Ok(Scan::Partial),
        }
    }
}

/// Parses the head that is the raw part of `fields`, and indexes its fields.
pub(crate) fn parse(
    fields: &mut Fields,
    max_fields: usize,
    head: &mut Head,
) -> Result<(), HeadError> {
    let raw = fields.raw();
    let line_end = memchr::memchr(b'\r', raw).ok_or(HeadError::RequestLine)?;
    if raw.get(line_end + 1) != Some(&b'\n') {
        return Err(HeadError::BareCr);
    }
    let (method, target, version) = request_line(&raw[..line_end])?;
    let target = target::parse(raw, target, &method)?;
    index_fields(fields, line_end + 2, max_fields)?;
    *head = Head {
        method,
        version,
        target,
        host: 0..0,
        framing: Framing::None,
        close: false,
        keep_alive: false,
        expect: Expect::None,
    };
    interpret(fields, head)
}

fn request_line(line: &[u8]) -> Result<(Method, Range<usize>, Version), HeadError> {
    let method_end = line.iter().position(|&b| b == b' ');
    let method_end = method_end.ok_or(HeadError::RequestLine)?;
    let target = method_end + 1;
    let target_end = memchr::memchr(b' ', &line[target..]).ok_or(HeadError::RequestLine)?;
    let target = target..target + target_end;
    let method = &line[..method_end];
    let method = Method::from_bytes(method).map_err(|_| HeadError::Method)?;
    let version = version(&line[target.end + 1..])?;
    Ok((method, target, version))
}

/// RFC 9112 §2.3: case-sensitive, one digit each.
fn version(text: &[u8]) -> Result<Version, HeadError> {
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] = *text else {
        return Err(HeadError::MalformedVersion);
    };
    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return Err(HeadError::MalformedVersion);
    }
    match major {
        b'1' => Ok(Version {
            minor: minor - b'0',
        }),
        _ => Err(HeadError::UnsupportedVersion),
    }
}

/// Finds the fields in the raw head from `at` on.
pub(super) fn index_fields(
    fields: &mut Fields,
    at: usize,
    max_fields: usize,
) -> Result<(), HeadError> {
    let Fields { raw, list } = fields;
    let mut on_stack = [httparse::EMPTY_HEADER; FIELDS_ON_STACK];
    let first = max_fields.min(FIELDS_ON_STACK);
    match httparse::parse_headers(&raw[at..], &mut on_stack[..first]) {
        Err(httparse::Error::TooManyHeaders) if max_fields > first => {
            let mut all = vec![httparse::EMPTY_HEADER; max_fields];
            push_fields(list, raw, at, httparse::parse_headers(&raw[at..], &mut all))
        }
        parsed => push_fields(list, raw, at, parsed),
    }
}

type Parsed<'a, 'h> = httparse::Result<(usize, &'h [httparse::Header<'a>])>;

fn push_fields(
    list: &mut Vec<Field>,
    raw: &[u8],
    at: usize,
    parsed: Parsed<'_, '_>,
) -> Result<(), HeadError> {
    let headers = match parsed {
        Ok(httparse::Status::Complete((len, headers))) if at + len == raw.len() => headers,
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        _ => return Err(diagnose(&raw[at..])),
    };
    let range = |part: &[u8]| {
        let start = part.as_ptr().addr() - raw.as_ptr().addr();
        start..start + part.len()
    };
    for field in headers {
        list.push(Field::new(range(field.name.as_bytes()), range(field.value)));
    }
    Ok(())
}

/// Says what is wrong with fields that httparse refused.
#[cold]
fn diagnose(fields: &[u8]) -> HeadError {
    for line in fields.split_inclusive(|&b| b == b'\n') {
        if line == b"\r\n" {
            break;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return HeadError::Fold;
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            return HeadError::FieldName;
        };
        let name = &line[..colon];
        if name.ends_with(b" ") || name.ends_with(b"\t") {
            return HeadError::SpaceBeforeColon;
        }
        if name.is_empty() || !TOKEN.has_all(name) {
            return HeadError::FieldName;
        }
        let value = line[colon + 1..].strip_suffix(b"\r\n");
        match value {
            Some(value) if value.contains(&b'\r') => return HeadError::BareCr,
            Some(value) if value.iter().all(|&b| is_value_byte(b)) => {}
            _ => return HeadError::FieldValue,
        }
    }
    HeadError::FieldName
}

/// RFC 9110 §5.5: visible, space, tab, and bytes that are not ASCII.
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What `Trailer` cannot name: it would be too late.
const FRAMING_FIELDS: [&str; 3] = ["transfer-encoding", "content-length", "trailer"];

/// What the fields say that concerns the message itself.
#[derive(Default)]
struct Seen {
    host: Option<Range<usize>>,
    length: Option<(u64, Range<usize>)>,
    encodings: usize,
    chunked: bool,
    bad_trailer: bool,
}

fn interpret(fields: &Fields, head: &mut Head) -> Result<(), HeadError> {
    let mut seen = Seen::default();
    for (name, value) in fields.ranges() {
        match NAME_LENGTHS & 1 << name.len().min(31) {
            0 => {}
            _ => interpret_field(fields.raw(), (name, value), head, &mut seen)?,
        }
    }
    head.framing = framing(head.version, &seen)?;
    check_host(fields, head, seen.host)
}

/// A bit for each length that a name has which [`interpret_field`] knows.
const NAME_LENGTHS: u32 = 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 14 | 1 << 17;

fn interpret_field(
    raw: &[u8],
    (name, value): (Range<usize>, Range<usize>),
    head: &mut Head,
    seen: &mut Seen,
) -> Result<(), HeadError> {
    let (name, text) = (&raw[name], &raw[value.clone()]);
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if is("host") {
        if seen.host.replace(value).is_some() {
            return Err(HeadError::DuplicateHost);
        }
    } else if is("connection") {
        head.close |= has_token(text, "close");
        head.keep_alive |= has_token(text, "keep-alive");
    } else if is("content-length") {
        let length = content_length(text).ok_or(HeadError::ContentLength)?;
        // Several that agree to the letter are one (RFC 9110 §8.6), as in Go.
        let before = seen.length.replace((length, value));
        if before.is_some_and(|(_, at)| raw[at] != *text) {
            return Err(HeadError::ContentLength);
        }
    } else if is("transfer-encoding") {
        seen.encodings += 1;
        seen.chunked = text.eq_ignore_ascii_case(b"chunked");
    } else if is("trailer") {
        seen.bad_trailer |= FRAMING_FIELDS.iter().any(|name| has_token(text, name));
    } else if is("expect") {
        head.expect = match has_token(text, "100-continue") {
            true => Expect::Continue,
            false if text.is_empty() => Expect::None,
            false => Expect::Unknown,
        };
    }
    Ok(())
}

fn check_host(
    fields: &Fields,
    head: &mut Head,
    host: Option<Range<usize>>,
) -> Result<(), HeadError> {
    let Some(host) = host else {
        let needs_one = head.version.is_11() && head.method != Method::CONNECT;
        return match needs_one {
            true => Err(HeadError::MissingHost),
            false => Ok(()),
        };
    };
    if !target::is_host(&fields.raw()[host.clone()]) {
        return Err(HeadError::Host);
    }
    head.host = host;
    Ok(())
}

/// RFC 9112 §6.3, without what it lets a server tolerate.
fn framing(version: Version, seen: &Seen) -> Result<Framing, HeadError> {
    let length = seen.length.as_ref().map(|&(length, _)| length);
    match (seen.encodings, length) {
        (0, None | Some(0)) => Ok(Framing::None),
        (0, Some(n)) => Ok(Framing::Length(n)),
        _ if !version.is_11() => Err(HeadError::EncodingIn10),
        (1, None) if seen.chunked && seen.bad_trailer => Err(HeadError::TrailerName),
        (1, None) if seen.chunked => Ok(Framing::Chunked),
        (1, Some(_)) if seen.chunked => Err(HeadError::LengthAndEncoding),
        _ => Err(HeadError::TransferEncoding),
    }
}

/// Digits only, and at most what Go's int64 holds.
fn content_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: u64 = str::from_utf8(text).ok()?.parse().ok()?;
    (length <= i64::MAX as u64).then_some(length)
}

/// Whether a comma-separated list has `token`, in any case.
pub(crate) fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|&b| b == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests;
