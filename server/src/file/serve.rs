//! From a path to a file, a list, a redirect, or an error.

use std::borrow::Cow;
use std::io;
use std::time::SystemTime;

use http::StatusCode;
use wirepath_runtime::blocking;

use super::conditions::{self, Validators};
use super::content::{self, not_modified, serve_error, set_last_modified};
use super::fs::{DirEntry, File, FileInfo, FileSystem};
use super::list::{list, relative_url};
use super::{Dotfiles, Options, etag, variants};
use crate::path;
use crate::request::Request;
use crate::response::ResponseWriter;

/// What stands for a directory, if it is there.
const INDEX: &[u8] = b"index.html";

/// Files, and how they are served.
pub(super) struct Site<'s> {
    pub fs: &'s dyn FileSystem,
    pub options: &'s Options,
    /// Whether the request's path is that of the file, so that its last slash
    /// can be put right.
    pub redirects: bool,
}

/// What a path led to.
struct Found {
    file: Box<dyn File>,
    info: FileInfo,
}

impl Site<'_> {
    /// Answers with what the clean path `name` leads to.
    pub fn serve(&self, w: &mut ResponseWriter, r: &Request, name: &[u8]) {
        let url = match r.path_bytes() {
            // The target of `GET http://host HTTP/1.1`.
            url if url.is_empty() => Cow::Borrowed(&b"/"[..]),
            url => url,
        };
        if url.ends_with(b"/index.html") {
            return local_redirect(w, r, "./");
        }
        if let Err(e) = self.answer(w, r, &url, name) {
            refuse(w, &e);
        }
    }

    /// Errors are of what is to be answered; nothing went out yet.
    fn answer(
        &self,
        w: &mut ResponseWriter,
        r: &Request,
        url: &[u8],
        name: &[u8],
    ) -> io::Result<()> {
        self.options.dotfiles.check(name)?;
        if name.contains(&0) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let found = self.open(name)?;
        let is_dir = found.info.is_dir;
        match (is_dir, url.ends_with(b"/")) {
            (true, true) => return self.serve_directory(w, r, name, &found),
            (true, false) => local_redirect(w, r, &format!("{}/", relative_url(base(url)))),
            (false, true) if self.redirects => to_file(w, r, base(url)),
            (false, _) => return self.serve_file(w, r, name, found),
        }
        Ok(())
    }

    /// Opens what the kernel has at hand at once, the rest off the scheduler.
    fn open(&self, name: &[u8]) -> io::Result<Found> {
        let look = |file: Box<dyn File>| {
            let info = file.info()?;
            Ok(Found { file, info })
        };
        match self.fs.try_open(name) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                blocking(|| self.fs.open(name).and_then(look))
            }
            opened => opened.and_then(look),
        }
    }

    fn open_file(&self, name: &[u8]) -> Option<Found> {
        self.open(name).ok().filter(|found| !found.info.is_dir)
    }

    fn serve_directory(
        &self,
        w: &mut ResponseWriter,
        r: &Request,
        name: &[u8],
        found: &Found,
    ) -> io::Result<()> {
        let slash: &[u8] = if name.ends_with(b"/") { b"" } else { b"/" };
        let index = [name, slash, INDEX].concat();
        if let Some(file) = self.open_file(&index) {
            return self.serve_file(w, r, &index, file);
        }
        if !self.options.directory_lists {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let modified = found.info.modified.and_then(conditions::to_second);
        let now = Validators {
            etag: b"",
            modified,
        };
        if conditions::is_get(r) && conditions::if_modified_since(r, &now) == Some(false) {
            not_modified(w);
            return Ok(());
        }
        set_last_modified(w, modified);
        let shows = |entry: &DirEntry| self.options.dotfiles.shows(&entry.name);
        content::end(r, list(w, &*found.file, shows));
        Ok(())
    }

    fn serve_file(
        &self,
        w: &mut ResponseWriter,
        r: &Request,
        name: &[u8],
        found: Found,
    ) -> io::Result<()> {
        let found = match self.options.precompressed {
            true => self.variant(w, r, name, found)?,
            false => found,
        };
        if w.get_header("ETag").is_none()
            && let Some(tag) = self.tag(w, &found.info)
        {
            w.header("ETag", tag);
        }
        if let Some(value) = &self.options.cache_control
            && w.get_header("Cache-Control").is_none()
        {
            w.header("Cache-Control", value);
        }
        let Found { file, info } = found;
        let sent = content::serve(w, r, base(name), info.modified, Some(info.len), &*file);
        content::end(r, sent);
        Ok(())
    }

    fn tag(&self, w: &ResponseWriter, info: &FileInfo) -> Option<String> {
        let made = || etag::of_file(info, SystemTime::now());
        let tag = match &info.etag {
            Some(tag) => Some(tag.clone()),
            None if self.options.etags => made(),
            None => None,
        }?;
        Some(match w.get_header("Content-Encoding") {
            Some(coding) => etag::with_suffix(&tag, &String::from_utf8_lossy(coding)),
            None => tag,
        })
    }

    /// The file, or its best sibling that the client takes (RFC 9110 §12.5.3),
    /// and the header fields that go with the choice.
    fn variant(
        &self,
        w: &mut ResponseWriter,
        r: &Request,
        name: &[u8],
        found: Found,
    ) -> io::Result<Found> {
        if w.get_header("Content-Encoding").is_some() {
            return Ok(found);
        }
        w.append_header("Vary", "Accept-Encoding")
            .expect("a name and a value of ours");
        for coding in variants::accepted(r) {
            if let Some(sibling) = self.open_file(&[name, coding.extension].concat()) {
                // Its own name and bytes would tell of the coding.
                content::set_content_type(w, base(name), &*found.file)?;
                w.header("Content-Encoding", coding.name);
                return Ok(sibling);
            }
        }
        Ok(found)
    }
}

impl Dotfiles {
    fn shows(self, name: &[u8]) -> bool {
        self == Dotfiles::Served || !name.starts_with(b".") || name == b".well-known"
    }

    fn check(self, path: &[u8]) -> io::Result<()> {
        match path.split(|&b| b == b'/').all(|name| self.shows(name)) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The last segment of a path, without slashes after it.
fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
    let path = &path[..end];
    path.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

/// A file has no slash at its end.
fn to_file(w: &mut ResponseWriter, r: &Request, base: &[u8]) {
    if matches!(base, b"" | b".") {
        let text = "http: attempting to traverse a non-directory";
        return serve_error(w, text, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let name = String::from_utf8(path::escape(base)).expect("an escaped path is ASCII");
    local_redirect(w, r, &format!("../{name}"));
}

/// A redirect within the directory; the query is kept. Where a segment has an
/// encoded slash, what is relative to the path is not relative to the file, and
/// there is none.
fn local_redirect(w: &mut ResponseWriter, r: &Request, to: &str) {
    let encoded = r.escaped_path();
    let has_slash = encoded
        .windows(3)
        .any(|three| three.eq_ignore_ascii_case(b"%2f"));
    if has_slash {
        return refuse(w, &io::ErrorKind::NotFound.into());
    }
    let location = match r.query() {
        "" => to.to_owned(),
        query => format!("{to}?{query}"),
    };
    w.header("Location", path::escape_non_ascii(&location));
    w.write_header(StatusCode::MOVED_PERMANENTLY);
}

/// Says no more of an error than its kind.
fn refuse(w: &mut ResponseWriter, e: &io::Error) {
    let (text, status) = match e.kind() {
        io::ErrorKind::NotFound => ("404 page not found", StatusCode::NOT_FOUND),
        io::ErrorKind::PermissionDenied => ("403 Forbidden", StatusCode::FORBIDDEN),
        _ => {
            tracing::warn!("a file was not opened: {e}");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            ("500 Internal Server Error", status)
        }
    };
    serve_error(w, text, status);
}
