//! Requests: the head, parsed once, and the body, read as it comes.

mod body;
mod chunked;
mod error;
mod fields;
mod head;
mod target;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::{Extensions, Method, Version};
use wirepath_runtime::context::Context;
use wirepath_runtime::trace::Label;

pub(crate) use body::Drained;
pub use body::{Body, MaxBytesError};
pub use chunked::ChunkError;
pub use error::HeadError;
pub use fields::{Fields, HeaderMapError};
pub(crate) use head::{Expect, Framing, HeadScanner, Scan, has_token, is_value_byte};

use crate::bytes::ByteSet;
use crate::conn::Wire;
use crate::form::Form;
use crate::mux::{Pattern, Spans};
use crate::path;
use crate::values::Values;
use head::Head;

/// Reads header fields and the empty line after them, by the rules of a head.
pub(crate) fn parse_fields(raw: &[u8], max_fields: usize) -> Result<Fields, HeadError> {
    let mut fields = Fields::default();
    fields.set_raw(raw);
    head::index_fields(&mut fields, 0, max_fields)?;
    Ok(fields)
}

/// What a token is made of (RFC 9110 §5.6.2).
pub(crate) const TOKEN: &ByteSet = &ByteSet::alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// The pattern that a mux chose.
pub(crate) struct Matched {
    pub pattern: Arc<Pattern>,
    pub spans: Spans,
}

/// A path, encoded, and a query in place of those of the target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rewritten {
    path: Option<Vec<u8>>,
    query: Option<String>,
}

/// A request, as a handler sees it.
pub struct Request {
    /// The header fields, `Host` included.
    pub headers: Fields,
    /// The body.
    pub body: Body,
    head: Head,
    matched: Option<Matched>,
    /// Kept from request to request for its memory.
    spans: Spans,
    remote_addr: SocketAddr,
    local_addr: SocketAddr,
    extensions: Extensions,
    /// What stands for the path and the query that came.
    rewritten: Rewritten,
    /// Path values that are kept apart from the match: those that were set, and
    /// those of a match before the path was rewritten.
    values: Vec<(Box<str>, Vec<u8>)>,
    pub(crate) form: Option<Box<Form>>,
    pub(crate) context: OnceLock<Context>,
}

impl Default for Request {
    /// `GET / HTTP/1.1`, from nowhere: what stands in for a request that was
    /// taken out with [`std::mem::take`], to be moved to another goroutine. A
    /// connection whose request was not put back is closed after the response.
    fn default() -> Request {
        let mut r = Request::new();
        r.headers.set_raw(b"GET / HTTP/1.1\r\nHost:\r\n\r\n");
        head::parse(&mut r.headers, 1, &mut r.head).expect("a valid head");
        r
    }
}

impl Request {
    pub(crate) fn new() -> Request {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Request {
            headers: Fields::default(),
            body: Body::default(),
            head: Head::default(),
            matched: None,
            spans: Spans::new(),
            remote_addr: nowhere,
            local_addr: nowhere,
            extensions: Extensions::new(),
            rewritten: Rewritten::default(),
            values: Vec::new(),
            form: None,
            context: OnceLock::new(),
        }
    }

    /// Takes the request out, for another goroutine. If nothing of its body is
    /// left, the connection stays here, and can carry another request whatever
    /// becomes of this one.
    pub(crate) fn lend(&mut self) -> Request {
        let mut lent = std::mem::take(self);
        self.remote_addr = lent.remote_addr;
        self.local_addr = lent.local_addr;
        self.matched = lent.matched.as_ref().map(|matched| Matched {
            pattern: matched.pattern.clone(),
            spans: Spans::new(),
        });
        #[cfg(feature = "tls")]
        if let Some(tls) = lent.tls().cloned() {
            lent.extensions.insert(tls);
        }
        lent.body.swap_ended(&mut self.body);
        lent
    }

    /// Puts back a request that was lent.
    pub(crate) fn put_back(&mut self, mut lent: Request) {
        if lent.body.wire().is_none() {
            lent.body.swap_ended(&mut self.body);
        }
        *self = lent;
    }

    pub(crate) fn attach(&mut self, wire: &Arc<Wire>) {
        self.remote_addr = wire.conn.peer_addr();
        self.local_addr = wire.conn.local_addr();
        self.body.attach(wire.clone());
    }

    pub(crate) fn detach(&mut self) {
        self.release_match();
        self.context.take();
        self.body.detach();
    }

    /// Becomes the request whose head is at `head` in what is buffered.
    pub(crate) fn begin(
        &mut self,
        head: std::ops::Range<usize>,
        max_fields: usize,
    ) -> Result<(), HeadError> {
        self.release_match();
        self.extensions.clear();
        self.rewritten = Rewritten::default();
        self.values.clear();
        self.form = None;
        self.context.take();
        let end = head.end;
        self.headers.set_raw(&self.body.input.buffered()[head]);
        self.body.input.consume(end);
        head::parse(&mut self.headers, max_fields, &mut self.head)?;
        self.body.begin(self.head.framing);
        Ok(())
    }

    fn release_match(&mut self) {
        if let Some(matched) = self.matched.take() {
            self.spans = matched.spans;
        }
    }

    fn text(&self, range: std::ops::Range<usize>) -> &str {
        str::from_utf8(&self.headers.raw()[range]).expect("checked when it was parsed")
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The target, as on the request line.
    pub fn target(&self) -> &str {
        self.text(self.head.target.whole.clone())
    }

    /// The path, decoded; bytes that are no text are replaced.
    pub fn path(&self) -> Cow<'_, str> {
        lossy(self.path_bytes())
    }

    /// The path, decoded.
    pub fn path_bytes(&self) -> Cow<'_, [u8]> {
        match &self.rewritten.path {
            Some(path) => path::unescape_or_raw(path),
            None => path::unescape_or_raw(&self.headers.raw()[self.head.target.path.clone()]),
        }
    }

    /// The path, encoded: as the client sent it if that was a valid encoding.
    pub fn escaped_path(&self) -> &[u8] {
        let rewritten = self.rewritten.path.as_ref();
        match rewritten.or(self.head.target.escaped.as_ref()) {
            Some(path) => path,
            None => &self.headers.raw()[self.head.target.path.clone()],
        }
    }

    /// What is after the `?`, as sent; empty if there is none.
    pub fn query(&self) -> &str {
        match &self.rewritten.query {
            Some(query) => query,
            None => self.text(self.head.target.query.clone()),
        }
    }

    /// The names and values of the query. What is not valid is left out:
    /// [`Values::parse`] of [`Request::query`] tells of it.
    pub fn query_values(&self) -> Values {
        Values::parse(self.query().as_bytes()).0
    }

    /// Has handlers see another path and query, until what is returned is put
    /// back. Path values of the match so far are kept.
    pub(crate) fn rewrite(&mut self, path: Option<Vec<u8>>, query: Option<String>) -> Rewritten {
        let before = self.rewritten.clone();
        if path.is_some() {
            self.keep_values();
            self.rewritten.path = path;
        }
        if query.is_some() {
            self.rewritten.query = query;
        }
        before
    }

    /// Ends a [`Request::rewrite`].
    pub(crate) fn end_rewrite(&mut self, before: Rewritten) {
        self.keep_values();
        self.rewritten = before;
    }

    /// Keeps the path values of the match apart from the path.
    fn keep_values(&mut self) {
        let Some(mut matched) = self.matched.take() else {
            return;
        };
        let names = matched.pattern.wildcards();
        let kept: Vec<_> = names
            .zip(&matched.spans)
            .map(|(name, &(start, end))| {
                let value =
                    path::unescape_or_raw(&self.escaped_path()[start as usize..end as usize]);
                (Box::from(name), value.into_owned())
            })
            .collect();
        for (name, value) in kept {
            self.set_kept(name, value);
        }
        matched.spans.clear();
        self.matched = Some(matched);
    }

    fn set_kept(&mut self, name: Box<str>, value: Vec<u8>) {
        self.values.retain(|(other, _)| *other != name);
        self.values.push((name, value));
    }

    /// The version: an HTTP/1.x above 1.1 is one that speaks 1.1.
    pub fn version(&self) -> Version {
        match self.is_11() {
            true => Version::HTTP_11,
            false => Version::HTTP_10,
        }
    }

    /// The version as on the request line, such as `HTTP/1.1`.
    pub fn proto(&self) -> &str {
        let start = self.head.target.whole.end + 1;
        self.text(start..start + "HTTP/1.1".len())
    }

    pub(crate) fn is_11(&self) -> bool {
        self.head.version.is_11()
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The host that is asked for, with its port if one was given: of an
    /// absolute target, else of the `Host` field.
    pub fn host(&self) -> &str {
        str::from_utf8(self.host_bytes()).expect("checked when it was parsed")
    }

    pub(crate) fn host_bytes(&self) -> &[u8] {
        match self.target_host() {
            b"" => &self.headers.raw()[self.head.host.clone()],
            host => host,
        }
    }

    /// The host of an absolute target, or CONNECT's authority.
    pub(crate) fn target_host(&self) -> &[u8] {
        &self.headers.raw()[self.head.target.host.clone()]
    }

    /// Whether the target is `*`: the server, and nothing on it.
    pub(crate) fn is_asterisk(&self) -> bool {
        self.headers.raw()[self.head.target.whole.clone()] == *b"*"
    }

    /// The length of the body: 0 if there is none, `None` if it comes in
    /// chunks.
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            Framing::None => Some(0),
            Framing::Length(n) => Some(n),
            Framing::Chunked => None,
        }
    }

    /// The first value of a header field, in any case of its name.
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.headers.get(name)
    }

    /// The fields after a chunked body: there once the body was read to its
    /// end.
    pub fn trailers(&self) -> &Fields {
        &self.body.trailers
    }

    /// Where the request came from.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote_addr
    }

    /// Where it was received.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What was agreed on for the TLS connection that it came over; `None` over
    /// plain HTTP.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&crate::tls::TlsInfo> {
        let own = self.body.wire().and_then(|wire| wire.conn.tls());
        own.or_else(|| self.extensions.get())
    }

    /// What handlers keep for each other with this request, by type.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// [`Request::extensions`], to be added to.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// The pattern that matched, as registered; empty if no mux chose one.
    pub fn pattern(&self) -> &str {
        self.matched.as_ref().map_or("", |m| &m.pattern.source)
    }

    /// Counts that the pattern's handler answered.
    pub(crate) fn count_answer(&self, status: http::StatusCode) {
        if let Some(matched) = &self.matched {
            matched.pattern.counts.count(status);
        }
    }

    /// What a trace calls the pattern.
    pub(crate) fn route(&self) -> Label {
        let matched = self.matched.as_ref();
        matched.map_or_else(Label::default, |m| m.pattern.label)
    }

    /// What the pattern's wildcard `name` matched, decoded; empty if there is
    /// no such wildcard. Bytes that are no text are replaced.
    pub fn path_value(&self, name: &str) -> Cow<'_, str> {
        lossy(self.path_value_bytes(name))
    }

    /// [`Request::path_value`], as bytes.
    pub fn path_value_bytes(&self, name: &str) -> Cow<'_, [u8]> {
        let mut kept = self.values.iter();
        let kept = kept.find_map(|(other, value)| (**other == *name).then_some(value));
        let span = self.matched.as_ref().and_then(|m| {
            let at = m.pattern.position(name)?;
            m.spans.get(at)
        });
        match (span, kept) {
            (Some(&(start, end)), _) => {
                path::unescape_or_raw(&self.escaped_path()[start as usize..end as usize])
            }
            (None, kept) => Cow::Borrowed(kept.map_or(b"", Vec::as_slice)),
        }
    }

    /// Sets what [`Request::path_value`] gives for `name`.
    pub fn set_path_value(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.keep_values();
        self.set_kept(name.into(), value.as_ref().to_vec());
    }

    /// Takes the empty list that a mux puts its matches in.
    pub(crate) fn take_spans(&mut self) -> Spans {
        self.release_match();
        std::mem::take(&mut self.spans)
    }

    pub(crate) fn set_matched(&mut self, matched: Matched) {
        self.matched = Some(matched);
    }
}

fn lossy(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("target", &self.target())
            .field("remote_addr", &self.remote_addr)
            .finish_non_exhaustive()
    }
}
