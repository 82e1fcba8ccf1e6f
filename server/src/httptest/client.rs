//! A client of a connection in memory.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use wirepath_runtime::now;

use super::pipe::PipeEnd;
use super::request::RequestBuilder;
use super::response::Response;
use crate::conn::{Conn, Wire};
use crate::request::{Body, Framing};

/// Bytes of a response's head that are waited for; more is a fault of a
/// handler.
const MAX_HEAD_BYTES: usize = 1 << 20;
/// Fields that a response may have here.
const MAX_FIELDS: usize = 1024;

/// What makes an answer none.
#[derive(Debug, thiserror::Error)]
enum NoResponse {
    #[error("the response's head cannot be parsed: {0}")]
    Head(#[from] httparse::Error),
    #[error("the response's head is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
    #[error("the response's status, a field or a length is none")]
    Invalid,
}

impl From<NoResponse> for io::Error {
    fn from(e: NoResponse) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}

/// A connection to a [`TestServer`](super::TestServer): requests go out and
/// responses come in one after another, or raw bytes by [`Read`] and [`Write`].
/// Dropping it closes it.
pub struct Client {
    end: Arc<PipeEnd>,
    responses: Responses,
}

/// Reads responses off a connection.
pub(super) struct Responses {
    wire: Arc<Wire>,
    /// Decodes bodies; has what arrived and is not used yet.
    body: Body,
}

/// What a response's head says.
struct Head {
    version: Version,
    status: StatusCode,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(end: PipeEnd) -> Client {
        let end = Arc::new(end);
        Client {
            responses: Responses::new(end.clone()),
            end,
        }
    }

    /// This end's address, which a handler sees as the remote one.
    pub fn local_addr(&self) -> SocketAddr {
        self.end.local_addr()
    }

    /// How long from now on reads may wait, all together; `None` for ever, as
    /// at first.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        self.end.set_read_deadline(timeout.map(|t| now() + t));
    }

    /// Sends a request, and waits for the response to it.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the server closes the connection before the end of
    /// the response, and others of the connection; `InvalidData` for an answer
    /// that is none.
    pub fn send(&mut self, request: &RequestBuilder) -> io::Result<Response> {
        // A server may answer and close without having read a body; if there is
        // no answer, reading it fails as well.
        let _ = self.responses.wire.write_all(&request.to_bytes());
        self.response_to(request.method())
    }

    /// Waits for a response, to a request of this method that was written.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub fn response_to(&mut self, method: &str) -> io::Result<Response> {
        self.responses.next(method)
    }

    /// Ends the sending side: the server sees a client that closed.
    ///
    /// # Errors
    ///
    /// None today; those of a connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.end.shutdown(how)
    }

    /// Resets the connection.
    pub fn abort(&self) {
        self.end.abort();
    }
}

impl Responses {
    pub fn new(conn: Arc<dyn Conn>) -> Responses {
        let wire = Arc::new(Wire::new(conn));
        let mut body = Body::default();
        body.attach(wire.clone());
        Responses { wire, body }
    }

    /// The response to a request of this method.
    pub fn next(&mut self, method: &str) -> io::Result<Response> {
        let mut informational = Vec::new();
        let head = loop {
            let head = self.head()?;
            let is_last = !head.status.is_informational();
            if is_last || head.status == StatusCode::SWITCHING_PROTOCOLS {
                break head;
            }
            informational.push((head.status, head.headers));
        };
        let body = self.body(method, &head)?;
        let trailers = self.body.trailers.to_header_map();
        Ok(Response {
            version: head.version,
            status: head.status,
            headers: head.headers,
            informational,
            body,
            trailers: trailers.map_err(|_| NoResponse::Invalid)?,
        })
    }

    fn head(&mut self) -> io::Result<Head> {
        loop {
            let bytes = self.body.input.buffered();
            if let Some((head, len)) = parse_head(bytes)? {
                self.body.input.consume(len);
                return Ok(head);
            }
            if bytes.len() > MAX_HEAD_BYTES {
                return Err(NoResponse::TooLong.into());
            }
            if self.body.input.fill(&self.wire)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn body(&mut self, method: &str, head: &Head) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let framing = framing(method, head)?;
        self.body.begin(framing.unwrap_or(Framing::None));
        match framing {
            Some(_) => drop(self.body.read_to_end(&mut bytes)?),
            None => self.read_rest(&mut bytes)?,
        }
        Ok(bytes)
    }

    fn read_rest(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let input = &mut self.body.input;
        loop {
            bytes.extend_from_slice(input.buffered());
            input.consume(input.buffered().len());
            if input.fill(&self.wire)? == 0 {
                return Ok(());
            }
        }
    }
}

/// Where the body ends; `None` for the end of the connection (RFC 9112 §6.3).
fn framing(method: &str, head: &Head) -> io::Result<Option<Framing>> {
    let status = head.status;
    let is_tunnel = method == "CONNECT" && status.is_success();
    let is_bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if method == "HEAD" || is_tunnel || is_bodiless || status.is_informational() {
        return Ok(Some(Framing::None));
    }
    if head.headers.contains_key("transfer-encoding") {
        return Ok(Some(Framing::Chunked));
    }
    let Some(length) = head.headers.get("content-length") else {
        return Ok(None);
    };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    match length.ok_or(NoResponse::Invalid)? {
        0 => Ok(Some(Framing::None)),
        n => Ok(Some(Framing::Length(n))),
    }
}

/// The head at the start of `bytes`, and its length.
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, NoResponse> {
    let mut fields = vec![httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(len) = parsed.parse(bytes)? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    for field in &*parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (name, value) = (name.ok(), value.ok());
        headers.append(
            name.ok_or(NoResponse::Invalid)?,
            value.ok_or(NoResponse::Invalid)?,
        );
    }
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
    let version = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let head = Head {
        version,
        status: status.map_err(|_| NoResponse::Invalid)?,
        headers,
    };
    Ok(Some((head, len)))
}

impl Read for Client {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Responses { wire, body } = &mut self.responses;
        body.input.read(wire, into)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.end.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("local_addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}
