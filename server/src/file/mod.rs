//! Files of a directory, as Go's `FileServer` gives them.
//!
//! Every file is opened with openat2(2) and `RESOLVE_BENEATH` from a
//! descriptor of the root, so the kernel itself refuses what leaves it: by
//! `..` in any encoding, by an absolute path, or by a symbolic link, also one
//! that is put there while the server looks. A link that stays below the root
//! is followed.
//!
//! Reads of a file block the thread: a slow disk is felt by the other
//! goroutines of that thread.

mod range;

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use http::{Method, StatusCode};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};

use crate::handler::Handler;
use crate::path;
use crate::request::Request;
use crate::response::{self, ResponseWriter, detect_content_type};
use range::{Choice, choose};

/// Bytes of a file that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What stands for a directory, if it is there.
const INDEX: &str = "index.html";

/// Serves the files below a directory: `GET` and `HEAD`, `Last-Modified` and
/// `If-Modified-Since`, one range of bytes, `index.html` for a directory, and
/// a list where there is none.
#[derive(Debug)]
pub struct FileServer {
    root: OwnedFd,
}

/// What a path leads to.
struct Found {
    file: File,
    metadata: Metadata,
}

impl FileServer {
    /// Serves what is below `root`.
    ///
    /// # Errors
    ///
    /// When `root` is not a directory that can be opened, or when the kernel
    /// has no openat2 (before Linux 5.6).
    pub fn new(root: impl AsRef<Path>) -> io::Result<FileServer> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root.as_ref(), flags, Mode::empty())?;
        let server = FileServer { root };
        server.open(b"/")?;
        Ok(server)
    }

    /// Opens what the cleaned path `path` leads to.
    fn open(&self, path: &[u8]) -> io::Result<Found> {
        let relative = match path.strip_prefix(b"/") {
            Some(b"") | None => b".",
            Some(relative) => relative,
        };
        // A pipe without a writer must not make the open wait.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(&self.root, relative, flags, Mode::empty(), resolve)?;
        let file = File::from(fd);
        let metadata = file.metadata()?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Found { file, metadata })
    }

    fn serve_path(&self, w: &mut ResponseWriter, r: &mut Request) -> io::Result<()> {
        let decoded = r.path_bytes();
        let path = path::clean(&decoded).into_owned();
        if path.ends_with(b"/index.html") {
            local_redirect(w, r, b"./");
            return Ok(());
        }
        let bare = match path.strip_suffix(b"/") {
            Some(b"") | None => &path,
            Some(bare) => bare,
        };
        let found = self.open(bare)?;
        let base = bare.rsplit(|&b| b == b'/').next().unwrap_or_default();
        match (found.metadata.is_dir(), path.ends_with(b"/")) {
            (true, false) => local_redirect(w, r, &[base, b"/"].concat()),
            (false, true) => local_redirect(w, r, &[b"../", base].concat()),
            (true, true) => return self.serve_directory(w, r, &path, found),
            (false, false) => serve_file(w, r, base, found)?,
        }
        Ok(())
    }

    fn serve_directory(
        &self,
        w: &mut ResponseWriter,
        r: &mut Request,
        path: &[u8],
        found: Found,
    ) -> io::Result<()> {
        let index = [path, INDEX.as_bytes()].concat();
        match self.open(&index) {
            Ok(file) if file.metadata.is_file() => {
                return serve_file(w, r, INDEX.as_bytes(), file);
            }
            _ => {}
        }
        if not_modified(w, r, &found.metadata) {
            return Ok(());
        }
        list(w, found.file.into())
    }
}

impl Handler for FileServer {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        if *r.method() != Method::GET && *r.method() != Method::HEAD {
            w.header("Allow", "GET, HEAD");
            response::error(w, "Method Not Allowed", StatusCode::METHOD_NOT_ALLOWED);
            return;
        }
        let Err(e) = self.serve_path(w, r) else {
            return;
        };
        if w.status().is_some() {
            // The response is short of its length, which closes the connection.
            tracing::debug!(target = r.target(), "a file was not sent in full: {e}");
            return;
        }
        match e.kind() {
            io::ErrorKind::PermissionDenied => {
                response::error(w, "403 Forbidden", StatusCode::FORBIDDEN);
            }
            // What leaves the root, what is too long or loops, and what has a
            // NUL in its name is not there either.
            _ => response::not_found(w, r),
        }
    }
}

/// Answers with the file at `path` on this machine, whatever the request's
/// path is. For trusted paths: nothing keeps it below a root.
pub fn serve_file_at(w: &mut ResponseWriter, r: &mut Request, path: impl AsRef<Path>) {
    let path = path.as_ref();
    let open = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok(Found { file, metadata }),
            false => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let sent = open().and_then(|found| serve_file(w, r, name, found));
    if sent.is_err() && w.status().is_none() {
        response::not_found(w, r);
    }
}

/// A redirect that stays in the directory. The query is kept.
fn local_redirect(w: &mut ResponseWriter, r: &Request, to: &[u8]) {
    let mut to = relative_url(to);
    if !r.query().is_empty() {
        to.push('?');
        to.push_str(r.query());
    }
    w.header("Location", path::escape_non_ascii(&to));
    w.write_header(StatusCode::MOVED_PERMANENTLY);
}

/// A name as a URL that is relative to its directory.
fn relative_url(name: &[u8]) -> String {
    let escaped = path::escape(name);
    let text = String::from_utf8(escaped).expect("an escaped path is ASCII");
    let first = text.split('/').next().unwrap_or_default();
    match first.contains(':') {
        // It would be taken for a scheme.
        true => format!("./{text}"),
        false => text,
    }
}

/// Sets `Last-Modified`, and answers 304 if the client has this already.
fn not_modified(w: &mut ResponseWriter, r: &Request, metadata: &Metadata) -> bool {
    let Some(modified) = last_modified(metadata) else {
        return false;
    };
    w.header("Last-Modified", httpdate::fmt_http_date(modified));
    // RFC 9110 §13.2.2: with If-None-Match the date does not count. There are
    // no entity tags here, so only `*` matches.
    let is_same = match (r.header("If-None-Match"), r.header("If-Modified-Since")) {
        (Some(tags), _) => tags.trim() == "*",
        (None, Some(since)) => {
            httpdate::parse_http_date(&since).is_ok_and(|since| modified <= since)
        }
        (None, None) => false,
    };
    if is_same {
        w.write_header(StatusCode::NOT_MODIFIED);
    }
    is_same
}

/// To the second, as HTTP tells it. The epoch itself says that none is known.
fn last_modified(metadata: &Metadata) -> Option<SystemTime> {
    let since = metadata
        .modified()
        .ok()?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let whole = std::time::Duration::from_secs(since.as_secs());
    (!whole.is_zero()).then(|| SystemTime::UNIX_EPOCH + whole)
}

fn serve_file(
    w: &mut ResponseWriter,
    r: &mut Request,
    name: &[u8],
    found: Found,
) -> io::Result<()> {
    let Found { mut file, metadata } = found;
    if not_modified(w, r, &metadata) {
        return Ok(());
    }
    let size = metadata.len();
    let kind = content_type(name, &mut file)?;
    let modified = w.get_header("Last-Modified").map(<[u8]>::to_vec);
    // RFC 9110 §13.1.5: a range of what the client has a part of, or all.
    let is_current = r
        .headers
        .get_bytes("If-Range")
        .is_none_or(|validator| Some(validator) == modified.as_deref());
    let wanted = r.header("Range").filter(|_| is_current);
    w.header("Accept-Ranges", "bytes");
    let (start, len) = match choose(wanted.as_deref(), size) {
        Choice::Whole => (0, size),
        Choice::Part { start, len } => {
            let last = start + len - 1;
            w.header("Content-Range", format!("bytes {start}-{last}/{size}"));
            (start, len)
        }
        Choice::Unsatisfiable => {
            w.header("Content-Range", format!("bytes */{size}"));
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            response::error(w, "invalid range: failed to overlap", status);
            return Ok(());
        }
    };
    w.header("Content-Type", kind);
    w.header("Content-Length", itoa::Buffer::new().format(len));
    w.write_header(match len == size {
        true if w.get_header("Content-Range").is_none() => StatusCode::OK,
        _ => StatusCode::PARTIAL_CONTENT,
    });
    if *r.method() == Method::HEAD {
        return Ok(());
    }
    file.seek(SeekFrom::Start(start))?;
    copy(&mut file.take(len), w)
}

/// Copies in chunks; a file that shrank ends early.
fn copy(from: &mut impl Read, w: &mut ResponseWriter) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            n => w.write_all(&chunk[..n])?,
        }
    }
}

/// By the name's extension, or else by the first bytes.
fn content_type(name: &[u8], file: &mut File) -> io::Result<String> {
    let name = String::from_utf8_lossy(name);
    if let Some(kind) = mime_guess::from_path(&*name).first_raw() {
        return Ok(match kind.starts_with("text/") {
            true => format!("{kind}; charset=utf-8"),
            false => kind.to_owned(),
        });
    }
    let mut start = Vec::with_capacity(512);
    file.take(512).read_to_end(&mut start)?;
    Ok(detect_content_type(&start).to_owned())
}

/// Answers with the names in a directory, sorted.
fn list(w: &mut ResponseWriter, directory: OwnedFd) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let mut name = entry.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            name.push(b'/');
        }
        names.push(name);
    }
    names.sort_unstable();
    w.header("Content-Type", "text/html; charset=utf-8");
    let mut page = String::from(
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n",
    );
    for name in &names {
        let text = String::from_utf8_lossy(name);
        let line = format!(
            "<a href=\"{}\">{}</a>\n",
            response::escape_html(&relative_url(name)),
            response::escape_html(&text)
        );
        page.push_str(&line);
    }
    page.push_str("</pre>\n");
    w.write_all(page.as_bytes())
}

#[cfg(test)]
mod tests;
