//! Protection against requests that other sites' pages make with a user's
//! cookies (CSRF), by what browsers say of a request: Go's
//! `CrossOriginProtection`.

use std::collections::HashSet;

use http::StatusCode;

use crate::handler::Handler;
use crate::mux::{RegisterError, ServeMux};
use crate::request::Request;
use crate::response::{self, ResponseWriter};

/// Refuses requests that change something and that a browser sends for another
/// origin's page. GET, HEAD and OPTIONS pass, and must not change anything; so do
/// requests without `Sec-Fetch-Site` and `Origin`, which no browser of these
/// years sends.
///
/// ```
/// use wirepath::{CrossOriginProtection, Request, ResponseWriter, httptest};
///
/// let protection = CrossOriginProtection::new().trust("https://app.example.com").unwrap();
/// let handler = protection.handler(|_: &mut ResponseWriter, _: &mut Request| ());
/// let post = |site| httptest::request("POST", "/").header("Sec-Fetch-Site", site).serve(&handler);
/// assert_eq!(post("same-origin").status(), 200);
/// assert_eq!(post("cross-site").status(), 403);
/// ```
#[derive(Default)]
pub struct CrossOriginProtection {
    trusted: HashSet<String>,
    bypass: ServeMux,
    deny: Option<Box<dyn Handler>>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrossOriginError {
    /// The browser says so.
    #[error("cross-origin request detected from Sec-Fetch-Site header")]
    FetchSite,
    /// The browser does not say, and the page's origin is another.
    #[error(
        "cross-origin request detected, and/or browser is out of date: Sec-Fetch-Site is \
         missing, and Origin does not match Host"
    )]
    Origin,
}

/// A text is not an origin: `scheme://host`, or `scheme://host:port`, and
/// nothing after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin: write scheme://host or scheme://host:port")]
pub struct OriginError(pub String);

impl CrossOriginProtection {
    /// One that trusts no other origin.
    pub fn new() -> CrossOriginProtection {
        CrossOriginProtection::default()
    }

    /// Lets the pages of `origin` send every request.
    ///
    /// # Errors
    ///
    /// [`OriginError`].
    pub fn trust(mut self, origin: &str) -> Result<CrossOriginProtection, OriginError> {
        let host = host_of(origin).filter(|host| !host.is_empty());
        if host.is_none_or(|host| origin.len() != origin.find("://").unwrap_or(0) + 3 + host.len())
        {
            return Err(OriginError(origin.to_owned()));
        }
        self.trusted.insert(origin.to_owned());
        Ok(self)
    }

    /// Lets every request through that a pattern of [`ServeMux`] matches.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], as when it is registered.
    #[track_caller]
    pub fn bypass(mut self, pattern: &str) -> Result<CrossOriginProtection, RegisterError> {
        let nothing = |_: &mut ResponseWriter, _: &mut Request| ();
        self.bypass.try_handle(pattern, nothing)?;
        Ok(self)
    }

    /// Has `handler` answer what is refused, in place of 403.
    #[must_use]
    pub fn deny_with(mut self, handler: impl Handler) -> CrossOriginProtection {
        self.deny = Some(Box::new(handler));
        self
    }

    /// Whether a request may pass.
    ///
    /// # Errors
    ///
    /// [`CrossOriginError`].
    pub fn check(&self, r: &Request) -> Result<(), CrossOriginError> {
        if matches!(r.method().as_str(), "GET" | "HEAD" | "OPTIONS") {
            return Ok(());
        }
        let origin = r.headers.get_bytes("Origin").unwrap_or_default();
        let why = match r.headers.get_bytes("Sec-Fetch-Site").unwrap_or_default() {
            b"same-origin" | b"none" => return Ok(()),
            b"" if origin.is_empty() || is_of(origin, r.host()) => return Ok(()),
            b"" => CrossOriginError::Origin,
            _ => CrossOriginError::FetchSite,
        };
        let is_trusted = str::from_utf8(origin).is_ok_and(|o| self.trusted.contains(o));
        match is_trusted || self.bypass.handler(r).is_some() {
            true => Ok(()),
            false => Err(why),
        }
    }

    /// A handler that refuses what may not pass.
    pub fn handler(self, handler: impl Handler) -> impl Handler {
        move |w: &mut ResponseWriter, r: &mut Request| match (self.check(r), &self.deny) {
            (Ok(()), _) => handler.serve(w, r),
            (Err(_), Some(deny)) => deny.serve(w, r),
            (Err(e), None) => response::error(w, &e.to_string(), StatusCode::FORBIDDEN),
        }
    }
}

/// Whether an origin's host is the one that was asked.
fn is_of(origin: &[u8], host: &str) -> bool {
    let origin = str::from_utf8(origin).ok();
    origin
        .and_then(host_of)
        .is_some_and(|theirs| theirs == host)
}

/// The host, with its port, of a URL.
fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    is_scheme.then_some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httptest;

    fn status(protection: CrossOriginProtection, method: &str, fields: &[(&str, &str)]) -> u16 {
        let handler = protection.handler(|_: &mut ResponseWriter, _: &mut Request| ());
        let mut request = httptest::request(method, "/x/y").header("Host", "example.com");
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        request.serve(&handler).status()
    }

    /// What Go's gives for the same.
    #[test]
    fn requests_pass_as_in_go() {
        for (method, fields, want) in [
            ("POST", &[("Sec-Fetch-Site", "same-origin")][..], 200),
            ("POST", &[("Sec-Fetch-Site", "none")], 200),
            ("POST", &[("Sec-Fetch-Site", "cross-site")], 403),
            ("POST", &[("Sec-Fetch-Site", "same-site")], 403),
            ("GET", &[("Sec-Fetch-Site", "cross-site")], 200),
            ("HEAD", &[("Sec-Fetch-Site", "cross-site")], 200),
            ("OPTIONS", &[("Sec-Fetch-Site", "cross-site")], 200),
            ("PUT", &[("Sec-Fetch-Site", "cross-site")], 403),
            ("POST", &[], 200),
            ("POST", &[("Origin", "https://example.com")], 200),
            ("POST", &[("Origin", "http://example.com")], 200),
            ("POST", &[("Origin", "https://attacker.example")], 403),
            ("POST", &[("Origin", "null")], 403),
            ("POST", &[("Origin", "https://example.com:8443")], 403),
        ] {
            let got = status(CrossOriginProtection::new(), method, fields);
            assert_eq!(got, want, "{method} {fields:?}");
        }
    }

    #[test]
    fn trusted_origins_and_bypassed_patterns_pass() {
        let trusting = || {
            CrossOriginProtection::new()
                .trust("https://good.example")
                .unwrap()
        };
        let cross = ("Sec-Fetch-Site", "cross-site");
        assert_eq!(
            status(
                trusting(),
                "POST",
                &[cross, ("Origin", "https://good.example")]
            ),
            200
        );
        assert_eq!(
            status(
                trusting(),
                "POST",
                &[cross, ("Origin", "http://good.example")]
            ),
            403
        );
        let bypassing = CrossOriginProtection::new()
            .bypass("POST /x/{any}")
            .unwrap();
        assert_eq!(status(bypassing, "POST", &[cross]), 200);
        let other = CrossOriginProtection::new().bypass("/y/").unwrap();
        assert_eq!(status(other, "POST", &[cross]), 403);
        let denying =
            CrossOriginProtection::new().deny_with(|w: &mut ResponseWriter, _: &mut Request| {
                w.write_header(StatusCode::IM_A_TEAPOT);
            });
        assert_eq!(status(denying, "POST", &[cross]), 418);
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for (text, is_one) in [
            ("https://a.b", true),
            ("http://a.b:80", true),
            ("a.b", false),
            ("https://", false),
            ("https://a.b/", false),
            ("https://a.b?q", false),
            ("https://a.b#f", false),
            ("://a.b", false),
        ] {
            assert_eq!(
                CrossOriginProtection::new().trust(text).is_ok(),
                is_one,
                "{text}"
            );
        }
    }
}
