//! Files over HTTP, as Go's `FileServer`, `ServeFile` and `ServeContent`.
//!
//! [`FileServer`] is a handler for the files of a [`FileSystem`]: a [`Dir`] of
//! this machine, files in memory ([`MemoryFs`]), or what else implements the
//! trait. [`serve_file`] answers with one file at a trusted path,
//! [`serve_content`] with anything that is read and seeks.
//!
//! All of them answer conditional requests (RFC 9110 §13) and ranges (§14),
//! and take the type from the name or else from the first bytes. Errors have
//! Go's texts; they take back `Cache-Control`, `Content-Encoding`, `ETag` and
//! `Last-Modified`, which were set for the content. Methods are not looked at:
//! register with `GET` in the pattern to have the others refused.
//!
//! # How it is kept apart
//!
//! `dir` and `memory` find files; `serve` goes from a path to a file, a list
//! or a redirect; `content` from a file to a response, by `conditions`,
//! `range`, `multipart` and `mime`; `send` from a file to the wire. Nothing
//! waits for a disk while it holds a P: what the kernel has in memory is opened
//! and read at once, all else in `blocking`.

mod conditions;
mod content;
mod dir;
mod etag;
mod fs;
mod list;
mod memory;
mod mime;
mod multipart;
mod range;
mod send;
mod serve;
mod variants;

use std::io;
use std::path::Path;

use http::StatusCode;

pub use content::{serve_bytes, serve_content};
pub use dir::{Dir, Links};
pub use fs::{DirEntry, File, FileInfo, FileSystem};
pub use memory::{Bytes, MemoryFs};
pub use mime::type_by_extension;
pub use range::{ByteRange, RangeError, parse_ranges};

use crate::handler::Handler;
use crate::path;
use crate::request::Request;
use crate::response::ResponseWriter;
use serve::Site;

/// What becomes of names that begin with a dot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dotfiles {
    /// They are served and listed like others, as in Go.
    #[default]
    Served,
    /// They, and what is below them, are neither found nor listed. Except
    /// `.well-known` (RFC 8615).
    Hidden,
}

#[derive(Debug)]
struct Options {
    etags: bool,
    precompressed: bool,
    directory_lists: bool,
    dotfiles: Dotfiles,
    cache_control: Option<String>,
}

impl Options {
    /// Go's ways.
    const GO: Options = Options {
        etags: false,
        precompressed: false,
        directory_lists: true,
        dotfiles: Dotfiles::Served,
        cache_control: None,
    };
}

/// A handler that serves files, whose paths are those of the requests. As Go's
/// `FileServer` unless options say otherwise.
///
/// `…/index.html` is redirected to `…/`, where it is served, or else a list of
/// the directory; a directory without a slash at its end, and a file with one,
/// are redirected as well.
///
/// ```no_run
/// use wirepath::{FileServer, ServeMux};
/// use wirepath::file::Dotfiles;
///
/// # fn main() -> std::io::Result<()> {
/// let files = FileServer::new("/srv/www")?
///     .etags(true)
///     .precompressed(true)
///     .dotfiles(Dotfiles::Hidden)
///     .cache_control("max-age=3600");
/// let mut mux = ServeMux::new();
/// mux.handle("GET /", files);
/// # Ok(())
/// # }
/// ```
pub struct FileServer {
    fs: Box<dyn FileSystem>,
    options: Options,
}

impl FileServer {
    /// Serves what is below the directory `root`, and nothing else: see
    /// [`Dir`].
    ///
    /// # Errors
    ///
    /// Those of [`Dir::open`].
    pub fn new(root: impl AsRef<Path>) -> io::Result<FileServer> {
        Dir::open(root).map(FileServer::of)
    }

    /// Serves the files of `fs`.
    pub fn of(fs: impl FileSystem) -> FileServer {
        FileServer {
            fs: Box::new(fs),
            options: Options::GO,
        }
    }

    /// Whether files get an `ETag`, made of the time of the last change and
    /// the length, where the collection has none itself. It is weak in the two
    /// seconds after a change. Off unless set.
    #[must_use]
    pub fn etags(mut self, on: bool) -> FileServer {
        self.options.etags = on;
        self
    }

    /// Whether `name.br`, `name.zst` or `name.gz` is sent in place of `name`
    /// to a client that takes the coding. All answers with files then have
    /// `Vary: Accept-Encoding`. Off unless set.
    #[must_use]
    pub fn precompressed(mut self, on: bool) -> FileServer {
        self.options.precompressed = on;
        self
    }

    /// Whether a directory without `index.html` is listed; else it is answered
    /// with 403. On unless set.
    #[must_use]
    pub fn directory_lists(mut self, on: bool) -> FileServer {
        self.options.directory_lists = on;
        self
    }

    /// What becomes of names that begin with a dot.
    #[must_use]
    pub fn dotfiles(mut self, policy: Dotfiles) -> FileServer {
        self.options.dotfiles = policy;
        self
    }

    /// The `Cache-Control` of files, unless a handler before set one.
    #[must_use]
    pub fn cache_control(mut self, value: impl Into<String>) -> FileServer {
        self.options.cache_control = Some(value.into());
        self
    }
}

impl Handler for FileServer {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        let url = r.path_bytes();
        let name = path::clean(&url);
        let site = Site {
            fs: &*self.fs,
            options: &self.options,
            redirects: true,
        };
        site.serve(w, r, without_slash(&name));
    }
}

impl std::fmt::Debug for FileServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileServer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Answers with the file or directory at `path` on this machine, whatever the
/// request's path is: as Go's `ServeFile`. For trusted paths, since nothing
/// keeps it below a root; a relative one is relative to the working directory.
///
/// As a precaution for those who made `path` of the request's, a request whose
/// path has a `..` segment is answered with 400. One that ends in
/// `/index.html` is redirected, as [`FileServer`] does.
pub fn serve_file(w: &mut ResponseWriter, r: &mut Request, path: impl AsRef<Path>) {
    let path = path.as_ref();
    let (root, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name.as_encoded_bytes()),
        _ => (path, &b""[..]),
    };
    let fs = dir::Trusted(root.to_owned());
    serve_named(w, r, &fs, &[b"/", name].concat());
}

/// [`serve_file`] of the file or directory `name`, such as `"css/site.css"`, in
/// a [`FileSystem`]: Go's `ServeFileFS`.
pub fn serve_file_fs(w: &mut ResponseWriter, r: &mut Request, fs: &dyn FileSystem, name: &str) {
    let name = path::clean(name.as_bytes());
    serve_named(w, r, fs, without_slash(&name));
}

fn serve_named(w: &mut ResponseWriter, r: &Request, fs: &dyn FileSystem, name: &[u8]) {
    let url = r.path_bytes();
    let mut segments = url.split(|b| matches!(b, b'/' | b'\\'));
    if segments.any(|segment| segment == b"..") {
        return content::serve_error(w, "invalid URL path", StatusCode::BAD_REQUEST);
    }
    let site = Site {
        fs,
        options: &Options::GO,
        redirects: false,
    };
    site.serve(w, r, name);
}

/// A clean path as the name of what it leads to.
fn without_slash(path: &[u8]) -> &[u8] {
    match path.strip_suffix(b"/") {
        Some(b"") | None => path,
        Some(bare) => bare,
    }
}

#[cfg(test)]
mod tests;
