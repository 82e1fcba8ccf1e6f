//! Bodies of requests that came compressed.

use std::io::{self, BufReader, Read};

use super::Coding;
use crate::request::Request;

/// The largest window of zstd that is allowed, as a power of two: 8 MiB, as
/// RFC 9659 §3 says.
const ZSTD_WINDOW: u32 = 23;
const BUFFER_BYTES: usize = 8 * 1024;

/// Why a request's body cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A coding that is not known, or several: answer with 415 (Unsupported
    /// Media Type).
    #[error("a body with the content coding {0:?}, which is not gzip, br or zstd")]
    Unsupported(String),
    /// What is decoded is larger than it may be: answer with 413 (Content Too
    /// Large). It is within the error of a read.
    #[error("a body of more than {0} bytes when it is decoded")]
    TooLarge(u64),
    /// The decoder could not be made.
    #[error("the decoder could not be made")]
    Decoder(#[source] io::Error),
}

/// Reads a request's body without its content coding, up to `max_bytes` of it:
/// a body of a few kilobytes can decode to gigabytes. The decoder itself takes
/// 16 MiB at most.
///
/// ```
/// use std::io::Read;
/// use wirepath::compress;
/// use wirepath::http::StatusCode;
///
/// fn take(w: &mut wirepath::ResponseWriter, r: &mut wirepath::Request) {
///     let mut text = String::new();
///     let read = match compress::decoded_body(r, 1 << 20) {
///         Ok(mut body) => body.read_to_string(&mut text),
///         Err(_) => return w.write_header(StatusCode::UNSUPPORTED_MEDIA_TYPE),
///     };
///     if read.is_err() {
///         w.write_header(StatusCode::BAD_REQUEST);
///     }
/// }
/// # let answer = wirepath::httptest::request("POST", "/")
/// #     .header("Content-Encoding", "gzip").body("no gzip").serve(&take);
/// # assert_eq!(answer.status(), 400);
/// ```
///
/// # Errors
///
/// [`DecodeError::Unsupported`] and [`DecodeError::Decoder`]. Reads fail with
/// [`DecodeError::TooLarge`] within, or as the decoder's do.
pub fn decoded_body(r: &mut Request, max_bytes: u64) -> Result<impl Read + '_, DecodeError> {
    let values: Vec<_> = r.headers.get_all("Content-Encoding").collect();
    let name = String::from_utf8_lossy(&values.join(&b","[..]))
        .trim()
        .to_owned();
    let body = BufReader::with_capacity(BUFFER_BYTES, &mut r.body);
    let inner: Box<dyn Read + '_> = match Coding::of(&name) {
        _ if name.is_empty() || name.eq_ignore_ascii_case("identity") => Box::new(body),
        Some(Coding::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
        Some(Coding::Brotli) => Box::new(brotli::Decompressor::new(body, BUFFER_BYTES)),
        Some(Coding::Zstd) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body);
            let mut decoder = decoder.map_err(DecodeError::Decoder)?;
            let bounded = decoder.window_log_max(ZSTD_WINDOW);
            bounded.map_err(DecodeError::Decoder)?;
            Box::new(decoder)
        }
        None => return Err(DecodeError::Unsupported(name)),
    };
    Ok(Limited {
        inner,
        left: max_bytes,
        max_bytes,
    })
}

struct Limited<'r> {
    inner: Box<dyn Read + 'r>,
    left: u64,
    max_bytes: u64,
}

impl Read for Limited<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        if n as u64 > self.left {
            let why = DecodeError::TooLarge(self.max_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.left -= n as u64;
        Ok(n)
    }
}
