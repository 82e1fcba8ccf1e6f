//! What a handler answered, kept instead of sent.

use std::io;
use std::sync::{Arc, OnceLock};

use http::StatusCode;

use super::headers::HeaderLines;
use super::{ResponseWriter, WriteError};

/// Body bytes that a recording writer keeps unless another bound is set: 64 MiB.
const MAX_BODY_BYTES: usize = 64 << 20;

/// What a [`ResponseWriter::recording`] was told, from [`ResponseWriter::into_recorded`].
#[derive(Debug, Default)]
pub struct Recorded {
    pub(super) status: Option<StatusCode>,
    pub(super) headers: HeaderLines,
    pub(super) trailers: HeaderLines,
    pub(super) informational: Vec<(StatusCode, HeaderLines)>,
    pub(super) body: Vec<u8>,
    pub(super) is_flushed: bool,
    max_body_bytes: usize,
    /// The handler wrote more than is kept.
    is_cut: bool,
    ended: Ended,
}

/// Why what is recorded is no longer wanted, once it is not.
pub(crate) type Ended = Arc<OnceLock<WriteError>>;

impl Recorded {
    pub(super) fn new() -> Recorded {
        Recorded {
            max_body_bytes: MAX_BODY_BYTES,
            ..Recorded::default()
        }
    }

    pub(super) fn keep(&mut self, data: &[u8]) -> io::Result<()> {
        if let Some(why) = self.ended.get() {
            return Err((*why).into());
        }
        if data.len() > self.max_body_bytes - self.body.len() {
            self.is_cut = true;
            return Err(WriteError::RecordFull.into());
        }
        self.body.extend_from_slice(data);
        Ok(())
    }

    pub(super) fn bound(&mut self, bytes: usize) {
        self.max_body_bytes = bytes;
    }

    pub(super) fn ended(&self) -> Ended {
        self.ended.clone()
    }

    /// Whether the handler wrote more of a body than is kept.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The status: 200 unless the handler wrote another.
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or(StatusCode::OK)
    }

    /// The header fields that were set before the status was written, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.fields()
    }

    /// The fields of the trailer.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailers.fields()
    }

    /// The informational responses (1xx), with the fields that each had.
    pub fn informational(
        &self,
    ) -> impl Iterator<Item = (StatusCode, impl Iterator<Item = (&str, &[u8])>)> {
        self.informational
            .iter()
            .map(|(status, headers)| (*status, headers.fields()))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the handler flushed.
    pub fn is_flushed(&self) -> bool {
        self.is_flushed
    }

    /// Answers with what was recorded: its header fields replace those of the
    /// same names.
    ///
    /// # Errors
    ///
    /// As the writing of the body.
    pub fn replay(&self, w: &mut ResponseWriter) -> io::Result<()> {
        for (status, headers) in &self.informational {
            let before = w.headers.clone();
            w.headers.overwrite(headers);
            w.write_header(*status);
            w.headers = before;
        }
        w.headers.overwrite(&self.headers);
        w.trailers.overwrite(&self.trailers);
        w.write_header(self.status());
        match self.body.is_empty() {
            true => Ok(()),
            false => io::Write::write_all(w, &self.body),
        }
    }
}
