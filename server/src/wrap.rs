//! Small handlers around others, as Go has them.

use crate::handler::Handler;
use crate::path;
use crate::request::Request;
use crate::response::{self, ResponseWriter};

use http::StatusCode;

/// Serves a request as if its path had no `prefix`: Go's `StripPrefix`. One
/// whose path, decoded and as it was encoded, does not begin with it gets 404.
///
/// ```
/// use wirepath::{Request, ResponseWriter, httptest, strip_prefix};
/// use std::io::Write;
///
/// let inner = |w: &mut ResponseWriter, r: &mut Request| {
///     let _ = w.write_all(r.path().as_bytes());
/// };
/// let outer = strip_prefix("/static", inner);
/// assert_eq!(httptest::request("GET", "/static/a.css").serve(&outer).text(), "/a.css");
/// assert_eq!(httptest::request("GET", "/other").serve(&outer).status(), 404);
/// ```
pub fn strip_prefix(prefix: impl Into<String>, handler: impl Handler) -> impl Handler {
    let prefix = prefix.into();
    move |w: &mut ResponseWriter, r: &mut Request| {
        if prefix.is_empty() {
            return handler.serve(w, r);
        }
        let Some(path) = without_prefix(r, prefix.as_bytes()) else {
            return response::not_found(w, r);
        };
        let before = r.rewrite(Some(path), None);
        handler.serve(w, r);
        r.end_rewrite(before);
    }
}

/// The encoded path without `prefix`, which is not encoded.
fn without_prefix(r: &Request, prefix: &[u8]) -> Option<Vec<u8>> {
    let decoded = r.path_bytes();
    let rest = decoded.strip_prefix(prefix)?;
    let escaped = r.escaped_path();
    if escaped == path::escape(&decoded) {
        return Some(path::escape(rest));
    }
    // Where the client encoded what it need not have, the prefix must not be
    // part of that.
    escaped.strip_prefix(prefix).map(<[u8]>::to_vec)
}

/// Has `;` separate the values of a query as `&` does: Go's
/// `AllowQuerySemicolons`. Whoever is between client and server may take it for
/// part of a value.
pub fn allow_query_semicolons(handler: impl Handler) -> impl Handler {
    move |w: &mut ResponseWriter, r: &mut Request| {
        if !r.query().contains(';') {
            return handler.serve(w, r);
        }
        let query = r.query().replace(';', "&");
        let before = r.rewrite(None, Some(query));
        handler.serve(w, r);
        r.end_rewrite(before);
    }
}

/// Bounds the bodies of the requests that a handler gets, in bytes: Go's
/// `MaxBytesHandler`. See [`Body::limit`](crate::Body::limit).
pub fn max_bytes_handler(handler: impl Handler, bytes: u64) -> impl Handler {
    move |w: &mut ResponseWriter, r: &mut Request| {
        r.body.limit(bytes);
        handler.serve(w, r);
    }
}

/// Answers every request with a redirect: Go's `RedirectHandler`.
pub fn redirect_handler(url: impl Into<String>, status: StatusCode) -> impl Handler {
    let url = url.into();
    move |w: &mut ResponseWriter, r: &mut Request| response::redirect(w, r, &url, status)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::{MaxBytesError, ServeMux, httptest};

    fn tell(w: &mut ResponseWriter, r: &mut Request) {
        let path = String::from_utf8_lossy(r.escaped_path()).into_owned();
        let text = format!("{path} {} {}", r.path(), r.path_value("x"));
        w.write_all(text.as_bytes()).unwrap();
    }

    /// What Go's `StripPrefix` gives for the same.
    #[test]
    fn prefixes_are_stripped_as_in_go() {
        for (prefix, target, want) in [
            ("/a", "/a/b", Some("/b /b ")),
            ("/a/", "/a/b", Some("b b ")),
            ("/a", "/a", Some("  ")),
            ("/a", "/b/a", None),
            ("/a", "/%61/b", None),
            ("/a", "/a/%2Fb", Some("/%2Fb //b ")),
            ("/a b", "/a%20b/c", Some("/c /c ")),
            ("", "/x", Some("/x /x ")),
        ] {
            let handler = strip_prefix(prefix, tell);
            let answer = httptest::request("GET", target).serve(&handler);
            let got = (answer.status() == 200).then(|| answer.text().into_owned());
            assert_eq!(got.as_deref(), want, "{prefix} {target}");
        }
    }

    #[test]
    fn path_values_outlive_a_stripped_prefix() {
        let mut inner = ServeMux::new();
        inner.handle_func("/b/{y}", |w: &mut ResponseWriter, r: &mut Request| {
            r.set_path_value("z", "set");
            let text = ["x", "y", "z"]
                .map(|n| r.path_value(n).into_owned())
                .join(" ");
            w.write_all(text.as_bytes()).unwrap();
        });
        let mut outer = ServeMux::new();
        outer.handle("/{x}/", strip_prefix("/v", inner));
        let answer = httptest::request("GET", "/v/b/2").serve(&outer);
        assert_eq!(answer.text(), "v 2 set");
        let mut plain = ServeMux::new();
        plain.handle("/{x}/", strip_prefix("/v", tell));
        let answer = httptest::request("GET", "/v/b").serve(&plain);
        assert_eq!(answer.text(), "/b /b v");
    }

    #[test]
    fn semicolons_are_allowed_where_asked_for() {
        let handler = |w: &mut ResponseWriter, r: &mut Request| {
            let text = format!("{} {}", r.query_values().encode(), r.target());
            w.write_all(text.as_bytes()).unwrap();
        };
        let request = || httptest::request("GET", "/?a=1;b=2");
        assert_eq!(request().serve(&handler).text(), " /?a=1;b=2");
        let allowed = allow_query_semicolons(handler);
        assert_eq!(request().serve(&allowed).text(), "a=1&b=2 /?a=1;b=2");
    }

    #[test]
    fn bodies_are_bounded() {
        let handler = max_bytes_handler(
            |w: &mut ResponseWriter, r: &mut Request| {
                let mut body = Vec::new();
                let read = r.body.read_to_end(&mut body);
                let text = match read {
                    Ok(_) => "whole".to_owned(),
                    Err(e) if MaxBytesError::is_in(&e) => format!("{e}"),
                    Err(e) => panic!("{e}"),
                };
                w.write_all(text.as_bytes()).unwrap();
            },
            3,
        );
        let ask = |body: &str| httptest::request("POST", "/").body(body).serve(&handler);
        assert_eq!(ask("abc").text(), "whole");
        assert_eq!(
            ask("abcd").text(),
            "request body too large: more than 3 bytes"
        );
        let chunked = httptest::request("POST", "/").body("abcd").chunked();
        assert!(chunked.serve(&handler).text().contains("too large"));
    }
}
