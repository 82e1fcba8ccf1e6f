//! Cookies (RFC 6265), by Go's rules: what a request brings, and what a
//! response sets.
//!
//! A value may have spaces and commas, as many do; it is sent in quotes then.
//! What must not be sent (control bytes, quotes, semicolons, backslashes) is
//! left out of values and paths when a cookie is written;
//! [`Cookie::validate`] tells of it before.

mod set;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::SystemTime;

pub use set::parse_set_cookie;

use crate::request::{Request, TOKEN};
use crate::response::ResponseWriter;

/// Cookies of one request that are read. As in Go; of a request with more,
/// none are.
pub const MAX_COOKIES: usize = 3_000;

/// Seconds between the years 1601, before which no cookie expires (RFC 6265
/// §5.1.1), and 1970.
const YEARS_1601_TO_1970_SECS: u64 = 11_644_473_600;

/// What keeps a cookie from other sites' requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// Not said: browsers take `Lax`.
    #[default]
    Unset,
    /// Sent when another site's link leads here.
    Lax,
    /// Never sent by another site.
    Strict,
    /// Sent by every site.
    None,
}

/// A cookie. That of a request has a name and a value alone.
///
/// ```
/// use wirepath::{Cookie, SameSite};
///
/// let mut cookie = Cookie::new("session", "31d4");
/// cookie.path = "/".into();
/// cookie.http_only = true;
/// cookie.same_site = SameSite::Lax;
/// assert_eq!(cookie.to_string(), "session=31d4; Path=/; HttpOnly; SameSite=Lax");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cookie {
    /// A token (RFC 9110 §5.6.2).
    pub name: String,
    /// The value, without the quotes around it.
    pub value: String,
    /// Whether it is in quotes.
    pub quoted: bool,
    /// Below which path it is sent back; empty: not said.
    pub path: String,
    /// Which host gets it back, with all below; empty: the one that set it.
    pub domain: String,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// In how many seconds it ends; 0 or less: now. It goes before `expires`.
    pub max_age: Option<i64>,
    /// Whether it is sent over TLS alone.
    pub secure: bool,
    /// Whether scripts do not see it.
    pub http_only: bool,
    /// Which other sites' requests bring it.
    pub same_site: SameSite,
    /// Whether it is kept apart for each site that embeds this one.
    pub partitioned: bool,
    /// Attributes of a cookie that was read which are not known here, or not
    /// valid.
    pub unparsed: Vec<String>,
}

/// Why a text is no cookie, or a cookie cannot be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// There is nothing.
    #[error("blank cookie")]
    Blank,
    /// A part without `=`.
    #[error("no '=' in a cookie")]
    NoEquals,
    /// The name is not a token.
    #[error("the cookie's name is not a token")]
    Name,
    /// A control byte, a quote, a semicolon, a backslash, or one that is not
    /// ASCII, in the value.
    #[error("byte {0:#04x} cannot be in a cookie's value")]
    Value(u8),
    /// A control byte, a semicolon, or one that is not ASCII, in the path.
    #[error("byte {0:#04x} cannot be in a cookie's path")]
    Path(u8),
    /// The domain is neither a domain name nor an IPv4 address.
    #[error("the cookie's domain is not a domain name")]
    Domain,
    /// Before the year 1601.
    #[error("the cookie expires before the year 1601")]
    Expires,
    /// Partitioned, but not secure.
    #[error("a partitioned cookie must be secure")]
    Partitioned,
    /// More than [`MAX_COOKIES`].
    #[error("more than {MAX_COOKIES} cookies")]
    TooMany,
}

impl Cookie {
    /// A cookie with a name and a value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Cookie {
        Cookie {
            name: name.into(),
            value: value.into(),
            ..Cookie::default()
        }
    }

    /// One that has the client forget the cookie of this name.
    pub fn removal(name: impl Into<String>) -> Cookie {
        Cookie {
            max_age: Some(0),
            ..Cookie::new(name, "")
        }
    }

    /// Whether it can be sent as it is. What cannot is left out otherwise.
    ///
    /// # Errors
    ///
    /// The first that is wrong.
    pub fn validate(&self) -> Result<(), CookieError> {
        if !is_token(&self.name) {
            return Err(CookieError::Name);
        }
        if self.expires.is_some_and(|at| !is_expiry(at)) {
            return Err(CookieError::Expires);
        }
        check(&self.value, is_value_byte).map_err(CookieError::Value)?;
        check(&self.path, is_path_byte).map_err(CookieError::Path)?;
        if !self.domain.is_empty() && !is_domain(&self.domain) {
            return Err(CookieError::Domain);
        }
        if self.partitioned && !self.secure {
            return Err(CookieError::Partitioned);
        }
        Ok(())
    }
}

/// As a `Set-Cookie` field; of a cookie with a name and a value alone, as a
/// part of a `Cookie` field. Nothing, when its name is not a token.
impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        set::write(self, f)
    }
}

/// Reads a `Cookie` field, strictly.
///
/// ```
/// let cookies = wirepath::parse_cookie("a=1; b=\"2 3\"").unwrap();
/// assert_eq!((cookies[1].value.as_str(), cookies[1].quoted), ("2 3", true));
/// ```
///
/// # Errors
///
/// [`CookieError`], when any part is not a cookie.
pub fn parse_cookie(line: &str) -> Result<Vec<Cookie>, CookieError> {
    if count(line.as_bytes()) > MAX_COOKIES {
        return Err(CookieError::TooMany);
    }
    if trim(line).is_empty() {
        return Err(CookieError::Blank);
    }
    line.split(';').map(|part| pair(trim(part))).collect()
}

/// The name and the value of a cookie, without space around.
fn pair(part: &str) -> Result<Cookie, CookieError> {
    let (name, value) = part.split_once('=').ok_or(CookieError::NoEquals)?;
    if !is_token(name) {
        return Err(CookieError::Name);
    }
    let (value, quoted) = unquoted(value);
    check(value, is_value_byte).map_err(CookieError::Value)?;
    Ok(Cookie {
        quoted,
        ..Cookie::new(name, value)
    })
}

/// Adds a `Set-Cookie` field. One whose name is not a token is left out and
/// reported in the log, as is what is left out of another.
pub fn set_cookie(w: &mut ResponseWriter, cookie: &Cookie) {
    if let Err(e) = cookie.validate() {
        tracing::warn!(name = cookie.name, "cookie not sent as it is: {e}");
    }
    let text = cookie.to_string();
    if !text.is_empty() {
        let added = w.append_header("Set-Cookie", text);
        added.expect("nothing else is written of a cookie");
    }
}

impl Request {
    /// The cookies that came. What is not a cookie is left out; of more than
    /// [`MAX_COOKIES`] none are read.
    pub fn cookies(&self) -> Vec<Cookie> {
        self.find_cookies(|_| true).collect()
    }

    /// The first cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<Cookie> {
        self.find_cookies(|other| other == name).next()
    }

    /// All cookies of this name.
    pub fn cookies_named(&self, name: &str) -> Vec<Cookie> {
        self.find_cookies(|other| other == name).collect()
    }

    fn find_cookies(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Cookie> {
        let lines = || self.headers.get_all("Cookie");
        let is_few = lines().map(count).sum::<usize>() <= MAX_COOKIES;
        let parts = lines().flat_map(|line| line.split(|&b| b == b';'));
        parts
            .take_while(move |_| is_few)
            .filter_map(|part| str::from_utf8(part).ok())
            .filter_map(move |part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let name = trim(name);
                let is_wanted = is_token(name) && wanted(name);
                let (value, quoted) = unquoted(value.trim_end_matches(SPACE));
                let is_valid = check(value, is_value_byte).is_ok();
                (is_wanted && is_valid).then(|| Cookie {
                    quoted,
                    ..Cookie::new(name, value)
                })
            })
    }
}

/// What is no part of a field's value at its ends.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

fn trim(text: &str) -> &str {
    text.trim_matches(SPACE)
}

fn count(line: &[u8]) -> usize {
    memchr::memchr_iter(b';', line).count() + 1
}

fn unquoted(value: &str) -> (&str, bool) {
    let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inside.map_or((value, false), |inside| (inside, true))
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && TOKEN.has_all(name.as_bytes())
}

/// The first byte that is not `valid`, as an error.
fn check(text: &str, valid: impl Fn(u8) -> bool) -> Result<(), u8> {
    text.bytes().find(|&b| !valid(b)).map_or(Ok(()), Err)
}

fn is_value_byte(byte: u8) -> bool {
    is_path_byte(byte) && byte != b'"' && byte != b'\\'
}

fn is_path_byte(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) && byte != b';'
}

fn is_expiry(at: SystemTime) -> bool {
    let before = SystemTime::UNIX_EPOCH.duration_since(at);
    before.is_ok_and(|d| d.as_secs() <= YEARS_1601_TO_1970_SECS) || at >= SystemTime::UNIX_EPOCH
}

/// A domain name, perhaps after a dot, or an IPv4 address.
fn is_domain(domain: &str) -> bool {
    let name = domain.strip_prefix('.').unwrap_or(domain);
    let is_label = |label: &str| {
        let is_long = label.is_empty() || label.len() > 63;
        let ends_in_dash = label.starts_with('-') || label.ends_with('-');
        let is_plain = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !is_long && !ends_in_dash && is_plain
    };
    // A dot at the end is the root's.
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_name = domain.len() <= 255
        && labels.split('.').all(is_label)
        && name.bytes().any(|b| b.is_ascii_alphabetic());
    is_name || domain.parse::<std::net::Ipv4Addr>().is_ok()
}
