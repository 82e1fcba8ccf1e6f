//! `ServeMux`: which handler answers a request.
//!
//! The pattern language, its precedence, its conflicts and its redirects are
//! those of Go's `net/http` (since 1.22). As there, the module is split by
//! idea: [`pattern`] parses, [`conflict`] compares two patterns, [`index`]
//! finds those worth comparing, [`tree`] matches.

mod conflict;
mod counts;
mod explain;
mod index;
mod mapping;
mod pattern;
mod tree;

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Arc;

use http::{Method, StatusCode};

#[cfg(feature = "see")]
pub(crate) use counts::answered;
pub use explain::{Answer, Explanation, Match};
pub(crate) use pattern::Pattern;
pub use pattern::{PatternError, PatternErrorKind};
pub(crate) use tree::Spans;

use crate::handler::Handler;
use crate::path;
use crate::request::{Matched, Request};
use crate::response::{self, ResponseWriter};
use index::Index;
use tree::{Leaf, Tree};

/// Why a handler was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The text is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A registered pattern shares requests with it, and neither takes
    /// precedence.
    #[error(
        "pattern {pattern:?} (registered at {site}) conflicts with \
         pattern {other:?} (registered at {other_site}):\n{reason}\n\
         A request that both match: {example}"
    )]
    Conflict {
        /// The pattern that was refused.
        pattern: String,
        /// Where it was registered: file and line.
        site: Box<str>,
        /// The pattern that is there.
        other: String,
        /// Where that was registered.
        other_site: Box<str>,
        /// Why they conflict, in Go's words.
        reason: Box<str>,
        /// A request that both match: `METHOD HOST/PATH`.
        example: Box<str>,
    },
}

/// Matches each request's method, host and path against registered patterns,
/// and calls the handler of the most specific one that matches.
///
/// A pattern is `[METHOD ][HOST]/[PATH]`. `GET` matches `HEAD` too. In the
/// path, `{name}` matches one segment, `{name...}` the rest, `{$}` the end,
/// and a trailing slash everything below. Both sides are unescaped segment by
/// segment, so `%2F` never splits one. A pattern takes precedence over those
/// that match all its requests and more; one with a host over one without.
///
/// A request for `/tree` where only `/tree/` is registered, and one whose path
/// is not in its cleaned form, is redirected with 307, its query kept. A
/// request that would match under other methods gets 405 and `Allow`.
#[derive(Default)]
pub struct ServeMux {
    tree: Tree,
    index: Index,
    not_found: Option<Box<dyn Handler>>,
    method_not_allowed: Option<Box<dyn Handler>>,
}

/// What [`ServeMux::route`] found.
enum Route<'m> {
    Found(&'m Leaf),
    Redirect(Vec<u8>),
    NotAllowed(String),
    NotFound,
}

impl ServeMux {
    /// A mux without patterns.
    pub fn new() -> ServeMux {
        ServeMux::default()
    }

    /// Registers a handler.
    ///
    /// # Panics
    ///
    /// When the pattern is not one, or conflicts with a registered one, as Go
    /// does. [`ServeMux::try_handle`] returns the error.
    #[track_caller]
    pub fn handle(&mut self, pattern: &str, handler: impl Handler) {
        if let Err(e) = self.try_handle(pattern, handler) {
            panic!("{e}");
        }
    }

    /// Registers a function as a handler.
    ///
    /// # Panics
    ///
    /// As [`ServeMux::handle`].
    #[track_caller]
    pub fn handle_func<F>(&mut self, pattern: &str, f: F)
    where
        F: Fn(&mut ResponseWriter, &mut Request) + Send + Sync + 'static,
    {
        self.handle(pattern, f);
    }

    /// Registers a handler, or says why not.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]. The mux is then as it was.
    #[track_caller]
    pub fn try_handle(
        &mut self,
        pattern: &str,
        handler: impl Handler,
    ) -> Result<(), RegisterError> {
        let pattern = Arc::new(Pattern::parse(pattern, Location::caller())?);
        counts::list(&pattern);
        let conflicting = self
            .index
            .find(&pattern, |p| conflict::conflict(&pattern, p));
        if let Some(other) = conflicting {
            return Err(conflict_error(&pattern, other));
        }
        self.tree
            .add(&pattern, Box::new(handler))
            .map_err(|other| conflict_error(&pattern, &other))?;
        self.index.add(&pattern);
        Ok(())
    }

    /// Has `handler` answer below `prefix`, which is a pattern without a slash at
    /// its end, as if the path began there: another mux, say. It sees the path
    /// values of `prefix` beside its own. A redirect that it answers with is
    /// relative to its own root, as with Go's `StripPrefix`.
    ///
    /// ```
    /// use std::io::Write;
    /// use wirepath::{Request, ResponseWriter, ServeMux, httptest};
    ///
    /// let mut shop = ServeMux::new();
    /// shop.handle_func("GET /items/{id}", |w: &mut ResponseWriter, r: &mut Request| {
    ///     let _ = write!(w, "{} of {}", r.path_value("id"), r.path_value("shop"));
    /// });
    /// let mut mux = ServeMux::new();
    /// mux.mount("/shops/{shop}", shop);
    /// let answer = httptest::request("GET", "/shops/7/items/42").serve(&mux);
    /// assert_eq!(answer.text(), "42 of 7");
    /// ```
    ///
    /// # Panics
    ///
    /// As [`ServeMux::handle`].
    #[track_caller]
    pub fn mount(&mut self, prefix: &str, handler: impl Handler) {
        let pattern = format!("{prefix}/");
        let segments = memchr::memchr_iter(b'/', prefix.as_bytes()).count();
        self.handle(&pattern, move |w: &mut ResponseWriter, r: &mut Request| {
            let mut slashes = memchr::memchr_iter(b'/', r.escaped_path());
            let start = slashes.nth(segments).expect("the pattern has as many");
            let below = r.escaped_path()[start..].to_vec();
            let before = r.rewrite(Some(below), None);
            handler.serve(w, r);
            r.end_rewrite(before);
        });
    }

    /// Has `handler` answer what no pattern matches, in place of 404.
    pub fn not_found_handler(&mut self, handler: impl Handler) {
        self.not_found = Some(Box::new(handler));
    }

    /// Has `handler` answer what patterns match under other methods alone, in
    /// place of 405. `Allow` is set before it is called.
    pub fn method_not_allowed_handler(&mut self, handler: impl Handler) {
        self.method_not_allowed = Some(Box::new(handler));
    }

    /// The handler that would answer a request, and its pattern; `None` where the
    /// mux itself would: with a redirect, 404 or 405.
    pub fn handler(&self, r: &Request) -> Option<(&dyn Handler, &str)> {
        match self.route(r, &mut Spans::new()) {
            Route::Found(leaf) => Some((&*leaf.handler, &leaf.pattern.source)),
            _ => None,
        }
    }

    /// Finds what answers, and in `spans` what the pattern's wildcards match.
    fn route(&self, r: &Request, spans: &mut Spans) -> Route<'_> {
        let method = r.method().as_str().as_bytes();
        let escaped = r.escaped_path();
        let is_connect = *r.method() == Method::CONNECT;
        let (host, path) = self.key(r);
        // A CONNECT request names its host in the target for the redirect, and
        // in `Host` for the match.
        let redirect_host = match is_connect {
            true => r.target_host(),
            false => host,
        };
        let mut found = self.tree.find(redirect_host, method, &path, spans);
        if !found.is_some_and(|leaf| is_exact(leaf, &path))
            && !path.is_empty()
            && !path.ends_with(b"/")
        {
            let with_slash = [&path, b"/".as_slice()].concat();
            let mut unused = Spans::new();
            let below = self
                .tree
                .find(redirect_host, method, &with_slash, &mut unused);
            if below.is_some_and(|leaf| is_exact(leaf, &with_slash)) {
                return Route::Redirect(with_slash);
            }
        }
        if is_connect && redirect_host != host {
            found = self.tree.find(host, method, &path, spans);
        }
        if *path != *escaped {
            return Route::Redirect(path.into_owned());
        }
        match found {
            Some(leaf) => Route::Found(leaf),
            None => self.no_match(host, &path),
        }
    }

    /// The host and the path that a request is matched by.
    fn key<'r>(&self, r: &'r Request) -> (&'r [u8], Cow<'r, [u8]>) {
        let escaped = r.escaped_path();
        if *r.method() == Method::CONNECT {
            return (r.host_bytes(), Cow::Borrowed(escaped));
        }
        // The host is of no use where no pattern has one.
        let host = match self.tree.has_hosts() {
            true => strip_port(r.host_bytes()),
            false => b"".as_slice(),
        };
        (host, path::clean(escaped))
    }

    #[cold]
    fn no_match(&self, host: &[u8], path: &[u8]) -> Route<'_> {
        let with_slash = [path, b"/".as_slice()].concat();
        let mut methods = self.tree.methods(host, path);
        if !path.ends_with(b"/") {
            // Under such a method there would be a redirect.
            methods.extend(self.tree.methods(host, &with_slash));
        }
        if methods.is_empty() {
            return Route::NotFound;
        }
        if methods.contains(&b"GET".as_slice()) {
            methods.push(b"HEAD");
        }
        methods.sort_unstable();
        methods.dedup();
        let allow = methods.join(b", ".as_slice());
        Route::NotAllowed(String::from_utf8_lossy(&allow).into_owned())
    }
}

impl Handler for ServeMux {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        if r.is_asterisk() {
            if r.version() >= http::Version::HTTP_11 {
                w.header("Connection", "close");
            }
            w.write_header(StatusCode::BAD_REQUEST);
            return;
        }
        let mut spans = r.take_spans();
        match self.route(r, &mut spans) {
            Route::Found(leaf) => {
                r.set_matched(Matched {
                    pattern: leaf.pattern.clone(),
                    spans,
                });
                leaf.handler.serve(w, r);
            }
            Route::Redirect(path) => redirect(w, r, path),
            Route::NotAllowed(allow) => {
                w.header("Allow", &allow);
                match &self.method_not_allowed {
                    Some(handler) => handler.serve(w, r),
                    None => {
                        let status = StatusCode::METHOD_NOT_ALLOWED;
                        response::error(w, "Method Not Allowed", status);
                    }
                }
            }
            Route::NotFound => match &self.not_found {
                Some(handler) => handler.serve(w, r),
                None => response::not_found(w, r),
            },
        }
    }
}

fn redirect(w: &mut ResponseWriter, r: &Request, path: Vec<u8>) {
    let url = redirect_target(r, path);
    response::redirect(w, r, &url, StatusCode::TEMPORARY_REDIRECT);
}

/// The path, with the request's query.
fn redirect_target(r: &Request, mut path: Vec<u8>) -> String {
    if !r.query().is_empty() {
        path.push(b'?');
        path.extend_from_slice(r.query().as_bytes());
    }
    String::from_utf8(path).expect("an escaped path is ASCII and a query is text")
}

fn conflict_error(pattern: &Pattern, other: &Pattern) -> RegisterError {
    let site = |p: &Pattern| format!("{}:{}", p.site.file(), p.site.line()).into();
    RegisterError::Conflict {
        pattern: pattern.to_string(),
        site: site(pattern),
        other: other.to_string(),
        other_site: site(other),
        reason: conflict::describe(pattern, other).into(),
        example: conflict::example(pattern, other).into(),
    }
}

/// Whether a pattern matches without its last wildcard standing for anything.
fn is_exact(leaf: &Leaf, path: &[u8]) -> bool {
    if !leaf.pattern.last().multi {
        return true;
    }
    (path.is_empty() || path.ends_with(b"/"))
        && leaf.pattern.segments.len() == memchr::memchr_iter(b'/', path).count()
}

/// The host of `host:port` or `[v6]:port`; anything else as it is.
fn strip_port(host: &[u8]) -> &[u8] {
    let Some(colon) = host.iter().rposition(|&b| b == b':') else {
        return host;
    };
    let (name, is_whole) = match &host[..colon] {
        [b'[', inner @ .., b']'] => (inner, !inner.iter().any(|b| b"[]".contains(b))),
        name => (name, !name.iter().any(|b| b":[]".contains(b))),
    };
    match is_whole {
        true => name,
        false => host,
    }
}

#[cfg(test)]
mod tests;
