//! Requests for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use super::canned::Canned;
use super::client::Responses;
use super::response::Response;
use crate::conn::Wire;
use crate::handler::Handler;
use crate::request::{HeadError, HeadScanner, Request, Scan};
use crate::response::{Recorded, ResponseWriter};
use crate::service::Config;

/// The host that is asked for unless another is said. As in Go.
const HOST: &str = "example.com";
/// Where requests come from unless another address is said: one of those that
/// documentation may use (RFC 5737). As in Go.
const REMOTE: ([u8; 4], u16) = ([192, 0, 2, 1], 1234);
/// Where they are received.
const LOCAL: ([u8; 4], u16) = ([192, 0, 2, 2], 80);
/// The data of a chunk, in bytes.
const CHUNK_BYTES: usize = 4096;

/// Begins a request. `target` is what follows the method on the request line: a
/// path with its query, usually.
pub fn request(method: impl Into<String>, target: impl Into<String>) -> RequestBuilder {
    RequestBuilder {
        method: method.into(),
        target: target.into(),
        is_10: false,
        fields: Vec::new(),
        body: Vec::new(),
        is_chunked: false,
        trailers: Vec::new(),
        remote: REMOTE.into(),
        local: LOCAL.into(),
    }
}

/// A request that is being put together: see [`request`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RequestBuilder {
    method: String,
    target: String,
    is_10: bool,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    is_chunked: bool,
    trailers: Vec<(String, Vec<u8>)>,
    remote: SocketAddr,
    local: SocketAddr,
}

impl RequestBuilder {
    /// Adds a header field. `Host` is `example.com`, and `Content-Length` that
    /// of the body, unless they are given.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> RequestBuilder {
        self.fields.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> RequestBuilder {
        self.body = body.into();
        self
    }

    /// Sets the body, as JSON, and the `Content-Type` that says so.
    ///
    /// # Panics
    ///
    /// When the value cannot be JSON.
    #[cfg(feature = "json")]
    pub fn json(self, value: &impl serde::Serialize) -> RequestBuilder {
        let body = serde_json::to_vec(value).expect("a value that can be JSON");
        self.header("Content-Type", "application/json").body(body)
    }

    /// Sends the body in chunks, instead of with a `Content-Length`.
    pub fn chunked(mut self) -> RequestBuilder {
        self.is_chunked = true;
        self
    }

    /// Adds a field after the body, which is sent in chunks then.
    pub fn trailer(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> RequestBuilder {
        self.trailers.push((name.into(), value.as_ref().to_vec()));
        self.chunked()
    }

    /// Makes it an HTTP/1.0 request.
    pub fn http_10(mut self) -> RequestBuilder {
        self.is_10 = true;
        self
    }

    /// Where the handler sees it come from; 192.0.2.1:1234 unless set. A
    /// [`TestServer`](super::TestServer) gives addresses of its own.
    pub fn remote_addr(mut self, address: impl Into<SocketAddr>) -> RequestBuilder {
        self.remote = address.into();
        self
    }

    /// Where the handler sees it received; 192.0.2.2:80 unless set.
    pub fn local_addr(mut self, address: impl Into<SocketAddr>) -> RequestBuilder {
        self.local = address.into();
        self
    }

    /// The request as it goes over a wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let version = if self.is_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut out = format!("{} {} {version}\r\n", self.method, self.target).into_bytes();
        if !self.has("Host") && !self.is_10 {
            push_field(&mut out, "Host", HOST.as_bytes());
        }
        for (name, value) in &self.fields {
            push_field(&mut out, name, value);
        }
        if self.is_chunked {
            push_field(&mut out, "Transfer-Encoding", b"chunked");
        } else if !self.body.is_empty() && !self.has("Content-Length") {
            let length = self.body.len().to_string();
            push_field(&mut out, "Content-Length", length.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        self.push_body(&mut out);
        out
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|f| f.0.eq_ignore_ascii_case(name))
    }

    fn push_body(&self, out: &mut Vec<u8>) {
        if !self.is_chunked {
            return out.extend_from_slice(&self.body);
        }
        for chunk in self.body.chunks(CHUNK_BYTES) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in &self.trailers {
            push_field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The request, as a server would hand it to a handler.
    ///
    /// # Panics
    ///
    /// When the server would refuse it, with the reason.
    #[track_caller]
    pub fn build(self) -> Request {
        self.try_build().unwrap_or_else(refused)
    }

    /// Hands the request to a handler, and returns what a client would get of
    /// its answer. A panic of the handler's goes on.
    ///
    /// # Panics
    ///
    /// As [`RequestBuilder::build`].
    #[track_caller]
    pub fn serve(self, handler: &(impl Handler + ?Sized)) -> Response {
        let (remote, local) = (self.remote, self.local);
        let (mut r, canned) = self.assemble().unwrap_or_else(refused);
        let method = r.method().clone();
        let mut w = ResponseWriter::new();
        w.attach(r.body.wire().expect("it was attached").clone());
        w.begin(&r);
        handler.serve(&mut w, &mut r);
        w.finish();
        let answer = Canned::new(canned.take_written(), local, remote);
        let response = Responses::new(Arc::new(answer)).next(method.as_str());
        response.expect("what the writer wrote is a response")
    }

    /// Hands the request to a handler, and returns what that did itself, without
    /// what a server adds: see [`ResponseWriter::recording`].
    ///
    /// # Panics
    ///
    /// As [`RequestBuilder::build`].
    #[track_caller]
    pub fn record(self, handler: &(impl Handler + ?Sized)) -> Recorded {
        let mut w = ResponseWriter::recording();
        handler.serve(&mut w, &mut self.build());
        w.into_recorded()
    }

    /// The request, as a server with the limits that it has unless told
    /// otherwise would hand it to a handler.
    ///
    /// # Errors
    ///
    /// Why the server would refuse it.
    pub fn try_build(self) -> Result<Request, HeadError> {
        self.assemble().map(|(request, _)| request)
    }

    fn assemble(self) -> Result<(Request, Arc<Canned>), HeadError> {
        let canned = Arc::new(Canned::new(self.to_bytes(), self.remote, self.local));
        let wire = Arc::new(Wire::new(canned.clone()));
        let mut request = Request::new();
        request.attach(&wire);
        let limits = Config::default();
        let head = find_head(&mut request, &wire, limits.max_head_bytes())?;
        request.begin(head, limits.max_header_fields)?;
        Ok((request, canned))
    }
}

#[track_caller]
fn refused<T>(e: HeadError) -> T {
    panic!("no server hands this request to a handler: {e}")
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn find_head(
    request: &mut Request,
    wire: &Wire,
    max_bytes: usize,
) -> Result<std::ops::Range<usize>, HeadError> {
    let mut scanner = HeadScanner::default();
    let input = &mut request.body.input;
    loop {
        let filled = input.try_fill(wire).expect("a canned read never fails");
        if let Scan::Complete(head) = scanner.scan(input.buffered(), max_bytes)? {
            return Ok(head);
        }
        assert!(filled > 0, "what was written has the end of a head");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_handler_sees_what_was_said() {
        let mut r = request("POST", "/a%20b?q=1")
            .header("X-One", "1")
            .header("x-one", "2")
            .body("hello")
            .remote_addr(([10, 0, 0, 9], 99))
            .build();
        assert_eq!(*r.method(), http::Method::POST);
        assert_eq!((&*r.path(), r.query()), ("/a b", "q=1"));
        assert_eq!(r.host(), "example.com");
        assert_eq!(r.headers.get_all("X-One").count(), 2);
        assert_eq!(r.content_length(), Some(5));
        assert_eq!(r.remote_addr().port(), 99);
        let mut body = String::new();
        r.body.read_to_string(&mut body).unwrap();
        assert_eq!(body, "hello");
    }

    #[test]
    fn a_body_in_chunks_has_a_trailer() {
        let body = "x".repeat(3 * CHUNK_BYTES + 1);
        let mut r = request("PUT", "/")
            .body(body.as_str())
            .trailer("X-Sum", "42")
            .build();
        assert_eq!(r.content_length(), None);
        let mut got = String::new();
        r.body.read_to_string(&mut got).unwrap();
        assert_eq!(got, body);
        assert_eq!(r.trailers().get("X-Sum").as_deref(), Some("42"));
    }

    #[test]
    fn what_the_server_refuses_is_refused() {
        let refused = |r: RequestBuilder| r.try_build().unwrap_err();
        assert_eq!(refused(request("GET", "nowhere")), HeadError::Target);
        assert_eq!(
            refused(request("GET", "/").header("Host", "a").header("Host", "b")),
            HeadError::DuplicateHost
        );
        assert_eq!(
            refused(request("GET", "/").header("X y", "1")),
            HeadError::FieldName
        );
        let many = (0..600).fold(request("GET", "/"), |r, _| r.header("X", "1"));
        assert_eq!(refused(many), HeadError::TooManyFields);
        assert!(request("GET", "/").http_10().try_build().is_ok());
    }
}
