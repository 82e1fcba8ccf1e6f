//! Responses: what a handler writes, and what the wire gets.
//!
//! A body of up to 2 KiB is held back until the handler returns, so that head
//! and body leave in one write with a `Content-Length`. A longer one, or one
//! that is flushed, goes out as it comes: in chunks to an HTTP/1.1 client, up
//! to the end of the connection to an older one. The rules are Go's.

mod controller;
mod date;
mod filter;
mod headers;
mod helpers;
mod recorded;
mod sniff;

use std::io::{self, Write};
use std::panic::Location;
use std::sync::Arc;

use http::{Method, StatusCode};

pub use controller::ResponseController;
pub use filter::{BodyFilter, ResponseHead};
pub use headers::HeaderError;
pub(crate) use helpers::escape_html;
pub use helpers::{error, not_found, redirect};
pub(crate) use recorded::Ended;
pub use recorded::Recorded;
pub use sniff::detect_content_type;

use wirepath_runtime::Nanos;

use crate::conn::{Pages, Wire};
use crate::hijack::{HijackError, Hijacked, HijackedConn};
use crate::request::{Request, has_token};
use date::DateCache;
use headers::{HeaderLines, Known};

/// Body bytes that are held back. As in Go.
const HOLD_BYTES: usize = 2048;
/// A write of the handler's of up to this many bytes is copied, to leave in
/// one write with what frames it.
const COPY_BYTES: usize = 16 * 1024;
/// Output memory that grew past this is not kept for the next request.
const KEEP_BYTES: usize = 64 * 1024;

/// Why a response's body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The status allows no body (RFC 9110 §6.4.1).
    #[error("the request method or response status code does not allow body")]
    BodyNotAllowed,
    /// More than the declared `Content-Length`.
    #[error("wrote more than the declared Content-Length")]
    ContentLength,
    /// The connection was taken over ([`ResponseWriter::hijack`]).
    #[error("the connection has been hijacked")]
    Hijacked,
    /// More than a recording writer keeps ([`ResponseWriter::recording`]).
    #[error("the recorded body is larger than its bound")]
    RecordFull,
    /// The time of a [`TimeoutHandler`](crate::TimeoutHandler) was over. Go's
    /// `ErrHandlerTimeout`.
    #[error("the handler took longer than its TimeoutHandler allows")]
    HandlerTimeout,
    /// The context of a request under a [`TimeoutHandler`](crate::TimeoutHandler)
    /// ended before its time was over.
    #[error("the context of the request has ended")]
    RequestEnded,
}

impl From<WriteError> for io::Error {
    fn from(e: WriteError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, e)
    }
}

/// How the body goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// The head is not sent yet.
    #[default]
    Held,
    /// As it is: its length was declared, or the connection's end is its end.
    Plain,
    Chunked,
    /// Not at all: the answer to HEAD, or a status without a body.
    Nothing,
}

/// Why bytes are emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emit {
    /// There are more than are held back.
    More,
    /// The handler flushed.
    Flush,
    /// The handler is done.
    Final,
}

/// What of the request decides how it can be answered.
#[derive(Clone, Copy, Default)]
struct Asked {
    is_11: bool,
    is_head: bool,
    is_connect: bool,
    close: bool,
    keep_alive_10: bool,
}

/// Answers one request. It is a writer of the body; the head is sent before
/// the first byte.
pub struct ResponseWriter {
    /// `None` for one that records.
    wire: Option<Arc<Wire>>,
    record: Option<Box<Recorded>>,
    filter: Option<Box<dyn BodyFilter>>,
    /// Whether the filter takes part.
    is_filtered: bool,
    is_hijacked: bool,
    /// The handler changed a deadline of the connection.
    has_deadlines: bool,
    headers: HeaderLines,
    trailers: HeaderLines,
    status: Option<StatusCode>,
    mode: Mode,
    asked: Asked,
    /// Body bytes that are held back.
    held: Vec<u8>,
    /// Bytes for the wire, between calls empty.
    out: Vec<u8>,
    declared: Option<u64>,
    written: u64,
    close: bool,
    /// The wire failed; nothing more can be sent.
    broken: Option<io::ErrorKind>,
    date: DateCache,
}

impl ResponseWriter {
    pub(crate) fn new() -> ResponseWriter {
        ResponseWriter {
            wire: None,
            record: None,
            filter: None,
            is_filtered: false,
            is_hijacked: false,
            has_deadlines: false,
            headers: HeaderLines::default(),
            trailers: HeaderLines::default(),
            status: None,
            mode: Mode::Held,
            asked: Asked::default(),
            held: Vec::with_capacity(HOLD_BYTES),
            out: Vec::new(),
            declared: None,
            written: 0,
            close: false,
            broken: None,
            date: DateCache::new(),
        }
    }

    /// A writer without a connection, which keeps what it is told. Its body is
    /// bounded: 64 MiB, or [`ResponseWriter::bound_recording`].
    pub fn recording() -> ResponseWriter {
        ResponseWriter {
            record: Some(Box::new(Recorded::new())),
            ..ResponseWriter::new()
        }
    }

    /// Bounds the body that a recording writer keeps, in bytes; further writes
    /// fail with [`WriteError::RecordFull`].
    pub fn bound_recording(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.bound(bytes);
        }
    }

    /// Where to say that what a recording writer is told is no longer wanted.
    pub(crate) fn recording_ended(&self) -> Ended {
        let record = self.record.as_ref();
        record.map(|r| r.ended()).unwrap_or_default()
    }

    /// What a recording writer was told; nothing, of another.
    pub fn into_recorded(mut self) -> Recorded {
        let mut record = self.record.take().map_or_else(Recorded::new, |r| *r);
        record.status = self.status;
        record.headers = std::mem::take(&mut self.headers);
        record.trailers = std::mem::take(&mut self.trailers);
        record
    }

    pub(crate) fn attach(&mut self, wire: Arc<Wire>) {
        self.wire = Some(wire);
        self.broken = None;
    }

    pub(crate) fn detach(&mut self) {
        self.wire = None;
        self.filter = None;
        self.is_hijacked = false;
    }

    /// Becomes the answer to `r`.
    pub(crate) fn begin(&mut self, r: &Request) {
        let head = r.head();
        self.asked = Asked {
            is_11: r.is_11(),
            is_head: *r.method() == Method::HEAD,
            is_connect: *r.method() == Method::CONNECT,
            close: head.close,
            keep_alive_10: !r.is_11() && head.keep_alive,
        };
        self.headers.clear();
        self.trailers.clear();
        self.held.clear();
        self.status = None;
        self.mode = Mode::Held;
        self.declared = None;
        self.written = 0;
        self.close = false;
        self.filter = None;
        self.is_filtered = false;
        self.has_deadlines = false;
    }

    fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("attached while served")
    }

    /// Sets a header field, in place of all of that name. A name or value that
    /// must not be sent is left out and reported in the log;
    /// [`ResponseWriter::try_header`] returns the error. Once the status is
    /// written, header fields are sealed and this changes nothing.
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        if let Err(e) = self.try_header(name, value) {
            tracing::error!(name, "response header left out: {e}");
        }
        self
    }

    /// Sets a header field, in place of all of that name.
    ///
    /// # Errors
    ///
    /// When the name is not a token or the value has a control byte.
    pub fn try_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        match self.status {
            None => self.headers.set(name, value.as_ref()),
            Some(_) => Ok(()),
        }
    }

    /// Adds a header field to those of that name.
    ///
    /// # Errors
    ///
    /// As [`ResponseWriter::try_header`].
    pub fn append_header(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<(), HeaderError> {
        match self.status {
            None => self.headers.append(name, value.as_ref()),
            Some(_) => Ok(()),
        }
    }

    /// Takes back the header fields of that name.
    pub fn remove_header(&mut self, name: &str) {
        if self.status.is_none() {
            self.headers.remove(name);
        }
    }

    /// The first value of a header field that was set.
    pub fn get_header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name)
    }

    /// Sets a field of the trailer, which goes out after a chunked body. The
    /// header field `Trailer` must have named it before the body.
    ///
    /// # Errors
    ///
    /// As [`ResponseWriter::try_header`].
    pub fn trailer(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        self.trailers.set(name, value.as_ref())
    }

    /// The status that was written; `None` before.
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// The bytes of the body that were written so far, before any coding.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the status and seals the header fields. An informational status
    /// (1xx, but 101) goes out at once with the fields set so far, and another
    /// must follow; an HTTP/1.0 client does not get it.
    #[track_caller]
    pub fn write_header(&mut self, status: StatusCode) {
        if self.is_hijacked {
            tracing::warn!(%status, "write_header on a hijacked connection");
            return;
        }
        if let Some(first) = self.status {
            let at = Location::caller();
            tracing::warn!(%first, second = %status, %at, "superfluous write_header");
            return;
        }
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            self.write_informational(status);
            return;
        }
        if self.record.is_none() && self.wire().end_continue() {
            // The client was not told to go on; whether its body comes cannot
            // be known (RFC 9110 §10.1.1).
            self.close = true;
        }
        self.status = Some(status);
        self.declared = self.declared_length();
    }

    fn write_informational(&mut self, status: StatusCode) {
        if let Some(record) = &mut self.record {
            record.informational.push((status, self.headers.clone()));
            return;
        }
        if status == StatusCode::CONTINUE {
            self.wire().end_continue();
        }
        if !self.asked.is_11 {
            return;
        }
        push_status(&mut self.out, true, status);
        self.out.extend_from_slice(self.headers.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self.send_out(&[]);
    }

    fn declared_length(&mut self) -> Option<u64> {
        let value = self.headers.get_known(Known::ContentLength)?;
        let text = str::from_utf8(value).ok().filter(|t| !t.starts_with('+'));
        let length = text.and_then(|t| t.parse().ok());
        if length.is_none() {
            tracing::error!("response header left out: invalid Content-Length");
            self.headers.remove_known(Known::ContentLength);
        }
        length
    }

    fn body_allowed(&self) -> bool {
        self.status.is_none_or(allows_body)
    }

    /// Sends what is held back. The head goes out now if it did not before, so
    /// the body's length, unless declared, is no longer known.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn flush_now(&mut self) -> io::Result<()> {
        self.check()?;
        self.ensure_status();
        if let Some(record) = &mut self.record {
            record.is_flushed = true;
            return Ok(());
        }
        self.emit(&[], Emit::Flush);
        self.check()
    }

    /// Puts a transformation between what is written from now on and the wire.
    /// It must be set before the head is sent, and replaces the one that was set
    /// before.
    pub fn set_body_filter(&mut self, filter: Box<dyn BodyFilter>) {
        if self.mode == Mode::Held {
            self.filter = Some(filter);
        }
    }

    /// Bounds the writing of this response. Another deadline holds for the next
    /// request of the connection.
    pub fn set_write_deadline(&mut self, at: Option<Nanos>) {
        if let Some(wire) = &self.wire {
            self.has_deadlines = true;
            wire.set_write_deadline(at);
        }
    }

    /// Bounds the reading of this request's body. Another deadline holds for the
    /// next request of the connection.
    pub fn set_read_deadline(&mut self, at: Option<Nanos>) {
        if let Some(wire) = &self.wire {
            self.has_deadlines = true;
            wire.set_read_deadline(at);
        }
    }

    pub(crate) fn has_deadlines(&self) -> bool {
        self.has_deadlines
    }

    /// Takes the connection over from the server, for another protocol. The
    /// server forgets it: it does not close it, wait for it at a shutdown, or
    /// write anything more; what was written before is sent first. `r` is the
    /// request that this answers: what was read ahead of it is handed over too.
    /// Its body, if it was not read to its end, is part of that.
    ///
    /// # Errors
    ///
    /// [`HijackError`]; the response can then still be written.
    pub fn hijack(&mut self, r: &mut Request) -> Result<Hijacked, HijackError> {
        if self.is_hijacked {
            return Err(HijackError::Hijacked);
        }
        let wire = self.wire.clone().ok_or(HijackError::Unsupported)?;
        if !r.body.is_of(&wire) {
            return Err(HijackError::OtherRequest);
        }
        if self.status.is_some() || self.mode != Mode::Held {
            self.flush_now().map_err(|_| HijackError::Failed)?;
        }
        self.is_hijacked = true;
        wire.hijack();
        wire.set_read_deadline(None);
        wire.set_write_deadline(None);
        Ok(Hijacked {
            conn: HijackedConn::new(wire.conn.clone()),
            buffered: r.body.hijack(),
        })
    }

    pub(crate) fn is_hijacked(&self) -> bool {
        self.is_hijacked
    }

    fn ensure_status(&mut self) {
        if self.status.is_none() {
            self.write_header(StatusCode::OK);
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.is_hijacked {
            return Err(WriteError::Hijacked.into());
        }
        match self.broken {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    /// Sends the held bytes and `data`, after the head.
    fn emit(&mut self, mut data: &[u8], why: Emit) {
        let is_final = why == Emit::Final;
        if self.mode == Mode::Held {
            self.begin_filter(data, is_final);
        }
        if self.is_filtered {
            self.transform(data, why);
            data = &[];
        }
        if self.mode == Mode::Held {
            self.decide(data, is_final);
        }
        let len = self.held.len() + data.len();
        match self.mode {
            Mode::Held => unreachable!("decided above"),
            Mode::Nothing => {
                self.held.clear();
                self.send_out(&[]);
            }
            Mode::Plain => {
                self.out.append(&mut self.held);
                self.send_out(data);
            }
            Mode::Chunked => self.emit_chunk(len, data, is_final),
        }
    }

    /// Asks the filter, if there is one, whether it takes part.
    fn begin_filter(&mut self, data: &[u8], is_final: bool) {
        let status = self.status.expect("written before");
        let Some(mut filter) = self.filter.take() else {
            return;
        };
        // 304 has the header fields that 200 would have (RFC 9110 §15.4.5).
        let is_asked = allows_body(status) || status == StatusCode::NOT_MODIFIED;
        if !is_asked || (self.asked.is_connect && status.is_success()) {
            return;
        }
        if let Some(kind) = self.sniffed(status, data) {
            let set = self.headers.set("Content-Type", kind.as_bytes());
            set.expect("a content type is a header value");
        }
        let is_head = self.asked.is_head;
        let takes_part = filter.begin(&mut ResponseHead {
            status,
            headers: &mut self.headers,
            is_head_request: is_head,
            declared: self.declared,
            body: [&self.held, data],
            is_complete: is_final && !is_head,
        });
        self.is_filtered = takes_part && allows_body(status);
        if self.is_filtered {
            self.headers.remove_known(Known::ContentLength);
            // There is nothing to transform for HEAD.
            self.filter = Some(filter).filter(|_| !is_head);
        }
    }

    /// Puts the held bytes and `data` through the filter; what it gives is held
    /// instead.
    fn transform(&mut self, data: &[u8], why: Emit) {
        let Some(filter) = &mut self.filter else {
            return;
        };
        let mut out = Vec::new();
        let done = [self.held.as_slice(), data]
            .into_iter()
            .filter(|part| !part.is_empty())
            .try_for_each(|part| filter.write(part, &mut out))
            .and_then(|()| match why {
                Emit::More => Ok(()),
                Emit::Flush => filter.flush(&mut out),
                Emit::Final => filter.finish(&mut out),
            });
        if let Err(e) = done {
            tracing::error!("the response's body filter failed: {e}");
            self.broken = Some(e.kind());
            self.close = true;
        }
        if why == Emit::Final {
            self.filter = None;
        }
        self.held.clear();
        self.held.append(&mut out);
    }

    fn emit_chunk(&mut self, len: usize, data: &[u8], is_final: bool) {
        if len > 0 {
            let _ = write!(self.out, "{len:x}\r\n");
            self.out.append(&mut self.held);
            if data.len() > COPY_BYTES {
                self.send_out(data);
            } else {
                self.out.extend_from_slice(data);
            }
            self.out.extend_from_slice(b"\r\n");
        }
        if is_final {
            self.out.extend_from_slice(b"0\r\n");
            self.out.extend_from_slice(self.trailers.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.send_out(&[]);
    }

    /// Sends what is in `out`, then `data`.
    fn send_out(&mut self, data: &[u8]) {
        let mut large = data;
        if data.len() <= COPY_BYTES {
            self.out.extend_from_slice(data);
            large = &[];
        }
        if self.broken.is_none() {
            let wire = self.wire();
            let sent = wire
                .write_all(&self.out)
                .and_then(|()| wire.write_all(large));
            self.broken = sent.err().map(|e| e.kind());
        }
        self.out.clear();
        if self.out.capacity() > KEEP_BYTES {
            self.out = Vec::new();
        }
    }

    /// Decides how the body goes out and puts the head in `out`. `is_final`
    /// says that the handler is done, and all of the body is here.
    fn decide(&mut self, data: &[u8], is_final: bool) {
        let status = self.status.expect("written before");
        let asked = self.asked;
        let len = self.held.len() + data.len();
        let allowed = allows_body(status);
        if !allowed {
            // RFC 9110 §8.6 and §15.4.5.
            self.headers.remove_known(Known::ContentLength);
            if status == StatusCode::NOT_MODIFIED {
                self.headers.remove_known(Known::ContentType);
            }
        }
        self.headers.remove_known(Known::TransferEncoding);
        let is_tunnel = asked.is_connect && status.is_success();
        if is_tunnel {
            self.headers.remove_known(Known::ContentLength);
        }
        let has_trailer = self.headers.has(Known::Trailer);
        let declared = self.declared.filter(|_| !self.is_filtered);
        let mut length = None;
        if is_final
            && allowed
            && !is_tunnel
            && !has_trailer
            && declared.is_none()
            && !(self.is_filtered && asked.is_head)
            && (!asked.is_head || len > 0)
        {
            length = Some(len as u64);
        }
        let known = length.is_some() || declared.is_some();
        let persists_10 = asked.keep_alive_10 && (asked.is_head || known || !allowed);
        self.close |= asked.is_connect || asked.close || (!asked.is_11 && !persists_10);
        let close_asked = self
            .headers
            .get_known(Known::Connection)
            .map(|v| has_token(v, "close"));
        self.close |= close_asked == Some(true);
        self.mode = if asked.is_head || !allowed {
            Mode::Nothing
        } else if known || is_tunnel {
            Mode::Plain
        } else if asked.is_11 {
            Mode::Chunked
        } else {
            self.close = true;
            Mode::Plain
        };
        self.push_head(status, length, persists_10, data);
    }

    fn push_head(
        &mut self,
        status: StatusCode,
        length: Option<u64>,
        persists_10: bool,
        data: &[u8],
    ) {
        let is_11 = self.asked.is_11;
        let asked_connection = self.headers.get_known(Known::Connection);
        let says_close = asked_connection.is_some_and(|v| has_token(v, "close"));
        if self.close && !says_close && status != StatusCode::SWITCHING_PROTOCOLS {
            self.headers.remove_known(Known::Connection);
        }
        let has_connection = self.headers.has(Known::Connection);
        let has_date = self.headers.has(Known::Date);
        let kind = self.sniffed(status, data);
        let out = &mut self.out;
        push_status(out, is_11, status);
        out.extend_from_slice(self.headers.as_bytes());
        if !has_date {
            out.extend_from_slice(self.date.line());
        }
        let mut push = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        if let Some(length) = length {
            push(
                "Content-Length: ",
                itoa::Buffer::new().format(length).as_bytes(),
            );
        }
        if let Some(kind) = kind {
            push("Content-Type: ", kind.as_bytes());
        }
        if self.close && is_11 && !has_connection {
            push("Connection: ", b"close");
        } else if persists_10 && !self.close && !has_connection {
            push("Connection: ", b"keep-alive");
        }
        if self.mode == Mode::Chunked {
            push("Transfer-Encoding: ", b"chunked");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The type of the body, when the handler did not say.
    fn sniffed(&self, status: StatusCode, data: &[u8]) -> Option<&'static str> {
        let is_given = self.headers.has(Known::ContentType)
            || self
                .headers
                .get_known(Known::ContentEncoding)
                .is_some_and(|v| !v.is_empty());
        if is_given || !allows_body(status) {
            return None;
        }
        match (self.held.is_empty(), data.is_empty()) {
            (true, true) => None,
            (true, false) => Some(detect_content_type(data)),
            (false, true) => Some(detect_content_type(&self.held)),
            (false, false) => {
                let mut start = [0; 512];
                let held = self.held.len().min(start.len());
                start[..held].copy_from_slice(&self.held[..held]);
                let more = data.len().min(start.len() - held);
                start[held..held + more].copy_from_slice(&data[..more]);
                Some(detect_content_type(&start[..held + more]))
            }
        }
    }

    /// Whether [`ResponseWriter::send_file`] can be used, the status being
    /// written: the body goes out as it is, over a socket of the kernel.
    pub(crate) fn can_send_file(&self) -> bool {
        let is_plain = match self.mode {
            Mode::Held => self.declared.is_some() && !self.asked.is_head && self.body_allowed(),
            Mode::Plain => true,
            Mode::Chunked | Mode::Nothing => false,
        };
        let is_direct = self.filter.is_none() && self.record.is_none() && !self.is_hijacked;
        is_plain && is_direct && self.wire().conn.can_send_file()
    }

    /// Sends bytes of a file as part of the body, where
    /// [`ResponseWriter::can_send_file`] holds. How many went out: fewer only
    /// if the file ends.
    pub(crate) fn send_file(&mut self, pages: Pages<'_>) -> io::Result<u64> {
        self.check()?;
        if self.declared.is_some_and(|d| self.written + pages.len > d) {
            return Err(WriteError::ContentLength.into());
        }
        self.flush_now()?;
        let sent = self.wire().send_file(pages);
        self.broken = sent.as_ref().err().map(io::Error::kind);
        self.written += sent.as_ref().copied().unwrap_or(0);
        sent
    }

    /// Whether the head went out, or part of it.
    pub(crate) fn is_begun(&self) -> bool {
        self.mode != Mode::Held
    }

    /// Makes this the last response of the connection.
    pub(crate) fn close_after(&mut self) {
        self.close = true;
    }

    /// Sends what is left, the handler being done.
    pub(crate) fn finish(&mut self) {
        self.ensure_status();
        let must_end = self.mode == Mode::Chunked || self.filter.is_some();
        if self.mode == Mode::Held || must_end || !self.held.is_empty() {
            self.emit(&[], Emit::Final);
        }
    }

    /// Whether the connection can carry another exchange.
    pub(crate) fn persists(&self) -> bool {
        let is_short = self.mode == Mode::Plain && self.declared.is_some_and(|d| d != self.written);
        !self.close && !is_short && self.broken.is_none()
    }
}

impl Write for ResponseWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.ensure_status();
        if data.is_empty() {
            return Ok(0);
        }
        if !self.body_allowed() {
            return Err(WriteError::BodyNotAllowed.into());
        }
        self.check()?;
        self.written += data.len() as u64;
        if self.declared.is_some_and(|d| self.written > d) {
            return Err(WriteError::ContentLength.into());
        }
        if let Some(record) = &mut self.record {
            record.keep(data)?;
            return Ok(data.len());
        }
        if self.mode == Mode::Nothing {
            return Ok(data.len());
        }
        if self.held.len() + data.len() <= HOLD_BYTES {
            self.held.extend_from_slice(data);
        } else {
            self.emit(data, Emit::More);
            self.check()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_now()
    }
}

/// RFC 9110 §6.4.1.
fn allows_body(status: StatusCode) -> bool {
    !(status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED)
}

pub(crate) fn push_status(out: &mut Vec<u8>, is_11: bool, status: StatusCode) {
    if is_11 && status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    let version: &[u8] = if is_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " };
    out.extend_from_slice(version);
    out.extend_from_slice(status.as_str().as_bytes());
    match reason(status) {
        Some(reason) => {
            out.push(b' ');
            out.extend_from_slice(reason.as_bytes());
        }
        None => {
            out.extend_from_slice(b" status code ");
            out.extend_from_slice(status.as_str().as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What a status is called in Go, where that is not what `http` calls it.
pub(crate) fn reason(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::NON_AUTHORITATIVE_INFORMATION => Some("Non-Authoritative Information"),
        StatusCode::PAYLOAD_TOO_LARGE => Some("Request Entity Too Large"),
        StatusCode::URI_TOO_LONG => Some("Request URI Too Long"),
        StatusCode::RANGE_NOT_SATISFIABLE => Some("Requested Range Not Satisfiable"),
        status => status.canonical_reason(),
    }
}

impl std::fmt::Debug for ResponseWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseWriter")
            .field("status", &self.status)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
