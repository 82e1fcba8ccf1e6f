//! One file, or other content that has a length: conditions, type, ranges.

use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::SystemTime;

use http::{Method, StatusCode};
use wirepath_runtime::blocking;

use super::conditions::{self, Validators, Verdict};
use super::fs::{DirEntry, File, FileInfo};
use super::memory::copy_from;
use super::mime::type_by_extension;
use super::multipart::Multipart;
use super::range::{ByteRange, RangeError, parse_ranges};
use super::send::{read_start, send};
use crate::request::Request;
use crate::response::{self, ResponseWriter, detect_content_type};

/// Bytes that decide the type of content whose name does not tell it.
const SNIFF_BYTES: usize = 512;

/// Answers with `content`, as Go's `ServeContent`: with `Last-Modified` and
/// `Accept-Ranges`, by the conditions and the ranges that the request has.
///
/// `name` is used for the type only, unless the header field `Content-Type` is
/// set; the first 512 bytes decide where it does not tell. A header field
/// `ETag` that is set takes part in the conditions. `modified` is not told if
/// it is `None` or the epoch.
///
/// The content is read off the scheduler, since it may be on a slow disk; what
/// is in memory is better given to [`serve_bytes`]. An error when it seeks is
/// answered with 500, one when it is read ends the response and its connection.
///
/// ```
/// use std::io::Cursor;
/// use wirepath::{Request, ResponseWriter, serve_content};
///
/// fn report(w: &mut ResponseWriter, r: &mut Request) {
///     w.header("ETag", "\"2026-1\"");
///     serve_content(w, r, "report.csv", None, Cursor::new("a,b\n"));
/// }
/// ```
pub fn serve_content(
    w: &mut ResponseWriter,
    r: &mut Request,
    name: &str,
    modified: Option<SystemTime>,
    content: impl Read + Seek,
) {
    let content = Seekable(RefCell::new(content));
    let sent = serve(w, r, name.as_bytes(), modified, None, &content);
    end(r, sent);
}

/// [`serve_content`] of bytes in memory, which are sent from where they are.
pub fn serve_bytes(
    w: &mut ResponseWriter,
    r: &mut Request,
    name: &str,
    modified: Option<SystemTime>,
    bytes: &[u8],
) {
    let len = Some(bytes.len() as u64);
    let sent = serve(w, r, name.as_bytes(), modified, len, &InMemory(bytes));
    end(r, sent);
}

/// Tells the log of a body that was cut short. Its connection is closed, since
/// it is short of its length.
pub(super) fn end(r: &Request, sent: io::Result<()>) {
    if let Err(e) = sent {
        tracing::debug!(target = r.target(), "content was not sent in full: {e}");
    }
}

/// What a 200 or 206 has for a body.
enum Selected {
    Whole,
    One(ByteRange),
    Several(Vec<ByteRange>, Multipart),
}

/// Answers with `file`, whose length is `len`, or is asked for. Errors are of
/// the body: the head went out.
pub(super) fn serve(
    w: &mut ResponseWriter,
    r: &Request,
    name: &[u8],
    modified: Option<SystemTime>,
    len: Option<u64>,
    file: &dyn File,
) -> io::Result<()> {
    let modified = modified.and_then(conditions::to_second);
    set_last_modified(w, modified);
    let ranges = match check_conditions(w, r, modified) {
        Verdict::Serve { ranges } => ranges,
        Verdict::NotModified => {
            not_modified(w);
            return Ok(());
        }
        Verdict::Failed => {
            w.write_header(StatusCode::PRECONDITION_FAILED);
            return Ok(());
        }
    };
    if let Err(e) = set_content_type(w, name, file) {
        tracing::warn!(target = r.target(), "content was not read: {e}");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        serve_error(w, "500 Internal Server Error", status);
        return Ok(());
    }
    let asked = || blocking(|| file.info()).map(|info| info.len);
    let Ok(size) = len.map_or_else(asked, Ok) else {
        serve_error(w, "seeker can't seek", StatusCode::INTERNAL_SERVER_ERROR);
        return Ok(());
    };
    let field = r.headers.get_bytes("Range").filter(|_| ranges);
    match select(w, field.unwrap_or_default(), size) {
        Ok(selected) => send_selected(w, r, file, size, selected),
        Err(e) => {
            if e == RangeError::NoOverlap {
                w.header("Content-Range", format!("bytes */{size}"));
            }
            serve_error(w, &e.to_string(), StatusCode::RANGE_NOT_SATISFIABLE);
            Ok(())
        }
    }
}

fn check_conditions(w: &ResponseWriter, r: &Request, modified: Option<SystemTime>) -> Verdict {
    let etag = w.get_header("ETag").unwrap_or_default();
    conditions::check(r, &Validators { etag, modified })
}

pub(super) fn set_last_modified(w: &mut ResponseWriter, modified: Option<SystemTime>) {
    if let Some(modified) = modified {
        w.header("Last-Modified", httpdate::fmt_http_date(modified));
    }
}

/// Answers 304 without what describes the content (RFC 9110 §15.4.5).
pub(super) fn not_modified(w: &mut ResponseWriter) {
    for name in ["Content-Type", "Content-Length", "Content-Encoding"] {
        w.remove_header(name);
    }
    if w.get_header("ETag").is_some_and(|tag| !tag.is_empty()) {
        w.remove_header("Last-Modified");
    }
    w.write_header(StatusCode::NOT_MODIFIED);
}

/// Answers with an error, without what was set for the content.
pub(super) fn serve_error(w: &mut ResponseWriter, text: &str, status: StatusCode) {
    for name in ["Cache-Control", "Content-Encoding", "ETag", "Last-Modified"] {
        w.remove_header(name);
    }
    response::error(w, text, status);
}

/// By the handler, else by the name, else by the first bytes.
pub(super) fn set_content_type(
    w: &mut ResponseWriter,
    name: &[u8],
    file: &dyn File,
) -> io::Result<()> {
    if w.get_header("Content-Type").is_some() {
        return Ok(());
    }
    match type_by_extension(name) {
        Some(kind) => w.header("Content-Type", &*kind),
        None => w.header("Content-Type", sniff(file)?),
    };
    Ok(())
}

/// The type of a file by its first bytes.
fn sniff(file: &dyn File) -> io::Result<&'static str> {
    if let Some(bytes) = file.bytes() {
        return Ok(detect_content_type(bytes));
    }
    let mut start = [0; SNIFF_BYTES];
    let n = read_start(file, &mut start)?;
    Ok(detect_content_type(&start[..n]))
}

/// What a `Range` field, empty if there is none, selects of `size` bytes.
fn select(w: &ResponseWriter, field: &[u8], size: u64) -> Result<Selected, RangeError> {
    let mut ranges = match field {
        b"" => Vec::new(),
        field => match parse_ranges(field, size) {
            // Some clients ask for a range of everything, to bound it.
            Err(RangeError::NoOverlap) if size == 0 => Vec::new(),
            ranges => ranges?,
        },
    };
    let sum = ranges.iter().map(|r| r.len).fold(0, u64::saturating_add);
    if sum > size {
        // More in all than there is: an attack, or a client that is no better.
        ranges.clear();
    }
    Ok(match ranges[..] {
        [] => Selected::Whole,
        [range] => Selected::One(range),
        _ => {
            let kind = w.get_header("Content-Type").unwrap_or_default();
            let multipart = Multipart::new(&ranges, &String::from_utf8_lossy(kind), size);
            Selected::Several(ranges, multipart)
        }
    })
}

/// Sends head and body of a 200 or 206.
fn send_selected(
    w: &mut ResponseWriter,
    r: &Request,
    file: &dyn File,
    size: u64,
    selected: Selected,
) -> io::Result<()> {
    let (status, len) = match &selected {
        Selected::Whole => (StatusCode::OK, size),
        Selected::One(range) => {
            w.header("Content-Range", range.content_range(size));
            (StatusCode::PARTIAL_CONTENT, range.len)
        }
        Selected::Several(ranges, multipart) => {
            w.header("Content-Type", multipart.content_type());
            (StatusCode::PARTIAL_CONTENT, multipart.len(ranges))
        }
    };
    w.header("Accept-Ranges", "bytes");
    w.header("Content-Length", itoa::Buffer::new().format(len));
    w.write_header(status);
    if *r.method() == Method::HEAD {
        return Ok(());
    }
    match selected {
        Selected::Whole => send(w, file, 0, size),
        Selected::One(range) => send(w, file, range.start, range.len),
        Selected::Several(ranges, multipart) => {
            for (head, range) in multipart.heads().zip(ranges) {
                w.write_all(head)?;
                send(w, file, range.start, range.len)?;
            }
            w.write_all(multipart.end().as_bytes())
        }
    }
}

/// Something that is read and seeks, as a file.
struct Seekable<C>(RefCell<C>);

impl<C: Read + Seek> File for Seekable<C> {
    fn info(&self) -> io::Result<FileInfo> {
        let len = self.0.borrow_mut().seek(SeekFrom::End(0))?;
        Ok(FileInfo::file(len, None))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut content = self.0.borrow_mut();
        content.seek(SeekFrom::Start(offset))?;
        content.read(buf)
    }

    fn entries(&self, _limit: usize) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

/// Bytes as a file.
struct InMemory<'b>(&'b [u8]);

impl File for InMemory<'_> {
    fn info(&self) -> io::Result<FileInfo> {
        Ok(FileInfo::file(self.0.len() as u64, None))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(copy_from(self.0, buf, offset))
    }

    fn entries(&self, _limit: usize) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self.0)
    }
}
