//! The head of a message: collected until it is whole, then read with httparse.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use crate::inspect::seen::Side;
use crate::inspect::stream::Place;

use super::body::Body;
use super::{Exchange, Other};

/// A head longer than this is none.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Fields of a head.
const MAX_FIELDS: usize = 256;
/// Of a target or a field no more is kept.
const MAX_TEXT_BYTES: usize = 4096;
/// What a client with prior knowledge begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A head of which not all has come.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// When its first byte came, in which packet.
    first: (i64, u64),
}

/// What became of bytes.
pub(super) enum Taken<'a> {
    /// More are wanted.
    All,
    /// The head is whole; what comes behind it.
    Whole(Whole<'a>, &'a [u8]),
    /// This is no HTTP/1.x.
    Other(Other),
    /// This is no message, or one whose head does not end.
    NoMessage,
}

impl Head {
    pub fn take<'a>(&mut self, place: Place, bytes: &'a [u8]) -> Taken<'a> {
        if !self.bytes.is_empty() {
            return self.take_more(bytes);
        }
        // Empty lines between messages (RFC 9112 §2.2).
        let is_text = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        let Some(skipped) = bytes.iter().position(is_text) else {
            return Taken::All;
        };
        let bytes = &bytes[skipped..];
        if place.offset + skipped as u64 == 0
            && let Some(what) = other(bytes)
        {
            return Taken::Other(what);
        }
        if !matches!(bytes[0], 0x16 | b'A'..=b'Z' | b'a'..=b'z') {
            return Taken::NoMessage;
        }
        let place = (place.at_ns, place.packet);
        let most = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
        match end_of(most, 0) {
            Some(end) => {
                let (head, rest) = bytes.split_at(end);
                Taken::Whole(
                    Whole {
                        bytes: Cow::Borrowed(head),
                        first: place,
                    },
                    rest,
                )
            }
            None if most.len() == MAX_HEAD_BYTES => Taken::NoMessage,
            None => {
                self.bytes.extend_from_slice(bytes);
                self.first = place;
                Taken::All
            }
        }
    }

    fn take_more<'a>(&mut self, bytes: &'a [u8]) -> Taken<'a> {
        let before = self.bytes.len();
        let room = MAX_HEAD_BYTES - before;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        if let Some(what) = other(&self.bytes) {
            return Taken::Other(what);
        }
        match end_of(&self.bytes, before) {
            Some(end) => {
                let mut head = std::mem::take(&mut self.bytes);
                head.truncate(end);
                let whole = Whole {
                    bytes: Cow::Owned(head),
                    first: self.first,
                };
                Taken::Whole(whole, &bytes[end - before..])
            }
            None if bytes.len() >= room => Taken::NoMessage,
            None => Taken::All,
        }
    }

    /// What is kept.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A head.
pub(super) struct Whole<'a> {
    bytes: Cow<'a, [u8]>,
    /// When its first byte came, in which packet.
    first: (i64, u64),
}

impl Whole<'_> {
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn first_ns(&self) -> i64 {
        self.first.0
    }

    pub fn packet(&self) -> u64 {
        self.first.1
    }

    /// None if it is no request.
    pub fn request(&self) -> Option<Request> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(&self.bytes, &mut fields);
        parsed.ok()?;
        let fields = Fields(request.headers);
        Some(Request {
            exchange: Exchange {
                method: request.method.map(|method| short(method.as_bytes())),
                target: request.path.map(|path| short(path.as_bytes())),
                host: fields.text("host"),
                minor_version: request.version.unwrap_or(1),
                ..Exchange::default()
            },
            body: fields.body().unwrap_or(Body::none()),
        })
    }

    /// None if it is no answer. `method` is its request's.
    pub fn response(&self, method: Option<&str>) -> Option<Response> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &self.bytes,
            &mut fields,
        );
        parsed.ok()?;
        let fields = Fields(response.headers);
        let status = response.code?;
        let is_tunnel = status == 101 || method == Some("CONNECT") && (200..300).contains(&status);
        // RFC 9112 §6.3.
        let is_bodiless = method == Some("HEAD") || matches!(status, 204 | 304) || is_tunnel;
        Some(Response {
            status,
            is_interim: status < 200 && status != 101,
            is_tunnel,
            content_type: fields.text("content-type"),
            content_encoding: fields.text("content-encoding"),
            body: match is_bodiless {
                true => Body::none(),
                false => fields.body().unwrap_or(Body::until_close()),
            },
        })
    }
}

/// What a request's head says.
pub(super) struct Request {
    pub exchange: Exchange,
    pub body: Body,
}

/// What an answer's head says.
pub(super) struct Response {
    pub status: u16,
    pub is_interim: bool,
    pub is_tunnel: bool,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub body: Body,
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl Fields<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        let found = self
            .0
            .iter()
            .rev()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.last(name).map(short)
    }

    /// How long the body is, if the fields say so (RFC 9112 §6).
    fn body(&self) -> Option<Body> {
        if let Some(coding) = self.last("transfer-encoding") {
            let last = coding
                .rsplit(|&byte| byte == b',')
                .next()
                .unwrap_or_default();
            return last
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked")
                .then(Body::chunked);
        }
        let length = std::str::from_utf8(self.last("content-length")?).ok()?;
        length.trim().parse().ok().map(Body::of_length)
    }
}

/// Text of a stranger, bounded.
fn short(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Behind the empty line that ends a head, of which `before` bytes were looked
/// at.
fn end_of(bytes: &[u8], before: usize) -> Option<usize> {
    let start = before.saturating_sub(3);
    for place in memchr::memchr_iter(b'\n', &bytes[start..]) {
        let at = start + place;
        match bytes[..at] {
            [.., b'\n'] | [.., b'\n', b'\r'] => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// What a connection that begins like this carries, if that is no HTTP/1.x.
fn other(bytes: &[u8]) -> Option<Other> {
    match bytes {
        [0x16, 3, ..] => Some(Other::Tls),
        _ if bytes.starts_with(HTTP2_PREFACE) => Some(Other::Http2),
        _ => None,
    }
}

/// Whether a message begins here.
pub(super) fn begins(from: Side, bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.trim_ascii_end();
    match from {
        Side::Server => line.starts_with(b"HTTP/1."),
        Side::Client => line[..line.len().saturating_sub(1)].ends_with(b" HTTP/1."),
    }
}
