//! A transformation between a handler and the wire, such as compression.

use std::io;

use http::StatusCode;

use super::headers::{HeaderError, HeaderLines};

/// Transforms the body of a response on its way to the wire.
///
/// It is asked once, when the head is about to be sent, and sees then what the
/// handler said and wrote so far. If it takes part, the length that the handler
/// declared is not sent (what the handler writes is still held to it), and all
/// of the body goes through it.
pub trait BodyFilter: Send {
    /// Looks at the head of the response. False: it stays out of this one. It
    /// may change header fields in either case.
    fn begin(&mut self, head: &mut ResponseHead<'_>) -> bool;

    /// Takes in bytes of the body, and appends to `out` what is ready.
    ///
    /// # Errors
    ///
    /// What ends the response and its connection.
    fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()>;

    /// Appends to `out` everything that the client needs in order to have what
    /// was written so far: the handler flushed.
    ///
    /// # Errors
    ///
    /// As [`BodyFilter::write`].
    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()>;

    /// Appends the end to `out`. Nothing is called after it.
    ///
    /// # Errors
    ///
    /// As [`BodyFilter::write`].
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()>;
}

/// The head of a response that is about to be sent, for a [`BodyFilter`].
pub struct ResponseHead<'w> {
    pub(super) status: StatusCode,
    pub(super) headers: &'w mut HeaderLines,
    pub(super) is_head_request: bool,
    pub(super) declared: Option<u64>,
    pub(super) body: [&'w [u8]; 2],
    pub(super) is_complete: bool,
}

impl ResponseHead<'_> {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether this answers HEAD: there will be no body to transform.
    pub fn is_head_request(&self) -> bool {
        self.is_head_request
    }

    /// The first value of a header field. `Content-Type` is there also when the
    /// handler did not set it and it was told from the body.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name)
    }

    /// Sets a header field, in place of all of that name.
    ///
    /// # Errors
    ///
    /// When the name is not a token or the value has a control byte.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        self.headers.set(name, value.as_ref())
    }

    /// Adds a header field to those of that name.
    ///
    /// # Errors
    ///
    /// As [`ResponseHead::set_header`].
    pub fn append_header(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<(), HeaderError> {
        self.headers.append(name, value.as_ref())
    }

    /// Takes back the header fields of that name.
    pub fn remove_header(&mut self, name: &str) {
        self.headers.remove(name);
    }

    /// How long the body will be, in bytes, if that is known: declared by the
    /// handler, or written in full.
    pub fn body_len(&self) -> Option<u64> {
        let written = self.body.iter().map(|part| part.len() as u64).sum();
        self.declared.or(self.is_complete.then_some(written))
    }

    /// What was written so far, in two parts.
    pub fn body_start(&self) -> [&[u8]; 2] {
        self.body
    }
}
