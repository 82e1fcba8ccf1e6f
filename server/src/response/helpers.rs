//! Whole answers that many handlers give.

use std::borrow::Cow;
use std::io::Write;

use http::{Method, StatusCode};

use super::ResponseWriter;
use crate::path;
use crate::request::Request;

/// Answers with a plain-text message and a status.
pub fn error(w: &mut ResponseWriter, message: &str, status: StatusCode) {
    w.remove_header("Content-Length");
    w.header("Content-Type", "text/plain; charset=utf-8");
    w.header("X-Content-Type-Options", "nosniff");
    w.write_header(status);
    // A connection that failed is noticed by the server.
    let _ = writeln!(w, "{message}");
}

/// Answers 404.
pub fn not_found(w: &mut ResponseWriter, _r: &mut Request) {
    error(w, "404 page not found", StatusCode::NOT_FOUND);
}

/// Answers with a redirect to `url`, which may be relative to the request's
/// path. `status` is one of 3xx.
pub fn redirect(w: &mut ResponseWriter, r: &Request, url: &str, status: StatusCode) {
    let url = match is_absolute(url) {
        true => Cow::Borrowed(url),
        false => Cow::Owned(resolve(r, url)),
    };
    let has_type = w.get_header("Content-Type").is_some();
    w.header("Location", path::escape_non_ascii(&url));
    let is_get = *r.method() == Method::GET;
    if !has_type && (is_get || *r.method() == Method::HEAD) {
        w.header("Content-Type", "text/html; charset=utf-8");
    }
    w.write_header(status);
    if !has_type && is_get {
        let reason = status.canonical_reason().unwrap_or_default();
        let _ = writeln!(w, "<a href=\"{}\">{reason}</a>.\n", escape_html(&url));
    }
}

/// Whether the URL names a scheme or a host.
fn is_absolute(url: &str) -> bool {
    let end = url.find(['/', '?', '#']).unwrap_or(url.len());
    url.starts_with("//") || url[..end].find(':').is_some_and(|colon| colon > 0)
}

/// The cleaned absolute path that `url` means on the page that was asked for.
fn resolve(r: &Request, url: &str) -> String {
    let (to, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    let mut full = String::new();
    if !to.starts_with('/') {
        let here = String::from_utf8_lossy(r.escaped_path());
        full.push_str(&here[..here.rfind('/').map_or(0, |slash| slash + 1)]);
    }
    full.push_str(to);
    let cleaned = path::clean(full.as_bytes());
    let cleaned = String::from_utf8_lossy(&cleaned);
    [&cleaned, query].concat()
}

/// Escapes what HTML would take for markup.
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
