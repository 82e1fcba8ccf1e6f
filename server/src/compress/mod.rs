//! Compression of responses, and of requests' bodies (feature `compression`).
//!
//! [`Compress`] is a middleware: it wraps a handler, and sends what that writes
//! as gzip, brotli (`br`) or zstd, whichever the client likes best.
//!
//! ```
//! use wirepath::compress::{Coding, Compress};
//! use wirepath::{ServeMux, Server};
//!
//! let mux = ServeMux::new();
//! let server = Server::new(Compress::new(mux).level(Coding::Gzip, 5));
//! ```
//!
//! A response stays as it is when it is smaller than
//! [`min_bytes`](Compress::min_bytes) and its handler has returned, when its
//! type is not of those that compress well, when it has a `Content-Encoding`, is
//! part of something (206) or the answer to HEAD, or says `no-transform`
//! (RFC 9111 §5.2.2.6). An event stream is compressed only if its type is added:
//! a flush then ends a block, so events are not held back, but each client
//! costs an encoder.
//!
//! What could have been compressed has `Vary: Accept-Encoding`; what is has a
//! weak `ETag`, since it is no longer the same byte for byte (RFC 9110 §8.8.1),
//! and neither its length nor `Accept-Ranges`.
//!
//! Do not compress a secret together with what the client chose: their length
//! tells of the secret (BREACH).

mod decode;
mod encoder;
mod negotiate;

use std::io;
use std::sync::Arc;

use http::StatusCode;

pub use decode::{DecodeError, decoded_body};
use encoder::{Encoder, Pool};

use crate::handler::Handler;
use crate::request::{Request, has_token};
use crate::response::{BodyFilter, ResponseHead, ResponseWriter};

/// Bodies that are smaller are not compressed: they would fit into one packet
/// either way.
const MIN_BYTES: u64 = 1024;

/// Types that compress well, beside `text/*` and those that end in `+json`,
/// `+xml` or `+text`.
const TYPES: &[&str] = &[
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/svg+xml",
    "image/x-icon",
];

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `zstd` (RFC 8878).
    Zstd,
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, in the order in which they are preferred: zstd takes the
    /// least time, gzip compresses least.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// Its name in a header.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// Recipients take `x-gzip` for gzip (RFC 9110 §8.4.1.3).
    fn is_called(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name())
            || (self == Coding::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }

    fn of(name: &str) -> Option<Coding> {
        Coding::ALL.into_iter().find(|c| c.is_called(name))
    }

    /// The levels that it has here: those of zstd above 19 need more memory than
    /// clients must have (RFC 9659).
    fn levels(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Coding::Zstd => 1..=19,
            Coding::Brotli => 0..=11,
            Coding::Gzip => 0..=9,
        }
    }
}

struct Options {
    offered: Vec<Coding>,
    /// By the order of `Coding::ALL`.
    levels: [u32; 3],
    min_bytes: u64,
    types: Vec<String>,
    pool: Pool,
}

impl Options {
    fn level(&self, coding: Coding) -> u32 {
        self.levels[coding as usize]
    }

    fn compresses(&self, kind: &str) -> bool {
        let kind = kind.split(';').next().unwrap_or("").trim();
        let kind = kind.to_ascii_lowercase();
        if kind == "text/event-stream" || self.types.contains(&kind) {
            return self.types.contains(&kind);
        }
        let suffixes = ["+json", "+xml", "+text"];
        kind.starts_with("text/")
            || TYPES.contains(&kind.as_str())
            || suffixes.iter().any(|s| kind.ends_with(s))
    }
}

/// A handler whose responses are compressed: see the [module](self).
pub struct Compress<H> {
    handler: H,
    options: Arc<Options>,
}

impl<H: Handler> Compress<H> {
    /// Compresses what `handler` answers.
    pub fn new(handler: H) -> Compress<H> {
        let options = Options {
            offered: Coding::ALL.to_vec(),
            levels: [3, 4, 6],
            min_bytes: MIN_BYTES,
            types: Vec::new(),
            pool: Pool::default(),
        };
        Compress {
            handler,
            options: Arc::new(options),
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Options)) -> Compress<H> {
        let options = Arc::get_mut(&mut self.options);
        change(options.expect("nobody else has them before the first request"));
        self
    }

    /// The codings that are offered, the preferred first; all of them unless
    /// set.
    #[must_use]
    pub fn codings(self, codings: &[Coding]) -> Compress<H> {
        self.change(|options| options.offered = codings.to_vec())
    }

    /// How hard a coding tries: 0 to 9 for gzip (6 unless set), 0 to 11 for
    /// brotli (4), 1 to 19 for zstd (3). What is beyond is the nearest of those.
    #[must_use]
    pub fn level(self, coding: Coding, level: u32) -> Compress<H> {
        let range = coding.levels();
        let level = level.clamp(*range.start(), *range.end());
        self.change(|options| options.levels[coding as usize] = level)
    }

    /// Bodies that are known to be smaller stay as they are; 1024 bytes unless
    /// set.
    #[must_use]
    pub fn min_bytes(self, bytes: u64) -> Compress<H> {
        self.change(|options| options.min_bytes = bytes)
    }

    /// Compresses bodies of this type too, such as `application/x-tar`.
    #[must_use]
    pub fn content_type(self, kind: &str) -> Compress<H> {
        self.change(|options| options.types.push(kind.to_ascii_lowercase()))
    }
}

impl<H: Handler> Handler for Compress<H> {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        let values = r.headers.get_all("Accept-Encoding");
        let values = values.filter_map(|value| str::from_utf8(value).ok());
        w.set_body_filter(Box::new(Filter {
            coding: negotiate::negotiate(values, &self.options.offered),
            options: self.options.clone(),
            encoder: None,
        }));
        self.handler.serve(w, r);
    }
}

impl<H> std::fmt::Debug for Compress<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compress")
            .field("codings", &self.options.offered)
            .finish_non_exhaustive()
    }
}

/// One response's.
struct Filter {
    coding: Option<Coding>,
    options: Arc<Options>,
    encoder: Option<Encoder>,
}

impl Filter {
    /// Whether another client could get this compressed.
    fn is_eligible(&self, head: &ResponseHead<'_>) -> bool {
        let has = |name: &str| head.header(name).is_some_and(|v| !v.is_empty());
        let cache = head.header("Cache-Control").unwrap_or(b"");
        let kind = head.header("Content-Type").unwrap_or(b"");
        let is_whole = !matches!(
            head.status(),
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::PARTIAL_CONTENT
        );
        is_whole
            && !has("Content-Encoding")
            && !has("Content-Range")
            && !has_token(cache, "no-transform")
            && self.options.compresses(&String::from_utf8_lossy(kind))
            && head.body_len().is_none_or(|n| n >= self.options.min_bytes)
    }

    /// The encoder of this response, if it is to have one. One that cannot be
    /// made leaves the response as it is.
    fn encoder(&self, head: &ResponseHead<'_>) -> Option<(Coding, Encoder)> {
        let coding = self.coding.filter(|_| !head.is_head_request())?;
        let level = self.options.level(coding);
        match self.options.pool.take(coding, level) {
            Ok(encoder) => Some((coding, encoder)),
            Err(e) => {
                tracing::error!(coding = coding.name(), "not compressed: {e}");
                None
            }
        }
    }

    fn encoder_mut(&mut self) -> &mut Encoder {
        let encoder = self.encoder.as_mut();
        encoder.expect("there from `begin` to `finish`")
    }
}

fn set(head: &mut ResponseHead<'_>, name: &str, value: impl AsRef<[u8]>) {
    let set = head.set_header(name, value);
    set.expect("a header field of our own is valid");
}

fn vary(head: &mut ResponseHead<'_>) {
    let value = head.header("Vary").unwrap_or(b"");
    if !has_token(value, "accept-encoding") && !has_token(value, "*") {
        let added = head.append_header("Vary", "Accept-Encoding");
        added.expect("a header field of our own is valid");
    }
}

impl BodyFilter for Filter {
    fn begin(&mut self, head: &mut ResponseHead<'_>) -> bool {
        if head.status() == StatusCode::NOT_MODIFIED {
            vary(head);
            return false;
        }
        if !self.is_eligible(head) {
            return false;
        }
        vary(head);
        let Some((coding, encoder)) = self.encoder(head) else {
            return false;
        };
        self.encoder = Some(encoder);
        set(head, "Content-Encoding", coding.name());
        head.remove_header("Accept-Ranges");
        let tag = head.header("ETag").filter(|tag| tag.starts_with(b"\""));
        if let Some(tag) = tag {
            let weak = [b"W/", tag].concat();
            set(head, "ETag", weak);
        }
        true
    }

    fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.encoder_mut().write(data, out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.encoder_mut().flush(out)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.encoder_mut().finish(out)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(encoder) = self.encoder.take() {
            self.options.pool.put(encoder);
        }
    }
}

#[cfg(test)]
mod tests;
