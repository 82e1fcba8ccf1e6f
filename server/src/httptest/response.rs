//! What a handler, or a server, answered.

use std::borrow::Cow;

use http::header::{AsHeaderName, HeaderMap};
use http::{StatusCode, Version};

/// A whole response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// The version on its status line.
    pub version: Version,
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// The informational responses (1xx) before it, with their fields.
    pub informational: Vec<(StatusCode, HeaderMap)>,
    /// Its body, without transfer coding.
    pub body: Vec<u8>,
    /// The fields after the body.
    pub trailers: HeaderMap,
}

impl Response {
    /// The status, as a number.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The first value of a header field, if it is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text; bytes that are none are replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}
