//! `Set-Cookie`, written and read.

use std::fmt;
use std::time::SystemTime;

use super::{
    Cookie, CookieError, SameSite, check, is_domain, is_expiry, is_path_byte, is_token,
    is_value_byte, pair, trim,
};

/// Writes a cookie as it is sent.
pub(super) fn write(cookie: &Cookie, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !is_token(&cookie.name) {
        return Ok(());
    }
    write!(f, "{}=", cookie.name)?;
    let value = only(&cookie.value, is_value_byte);
    match cookie.quoted || value.contains([' ', ',']) {
        true => write!(f, "\"{value}\"")?,
        false => f.write_str(&value)?,
    }
    if !cookie.path.is_empty() {
        write!(f, "; Path={}", only(&cookie.path, is_path_byte))?;
    }
    if is_domain(&cookie.domain) {
        let domain = cookie.domain.strip_prefix('.').unwrap_or(&cookie.domain);
        write!(f, "; Domain={domain}")?;
    }
    if let Some(at) = cookie.expires.filter(|at| is_expiry(*at) && fits_date(*at)) {
        write!(f, "; Expires={}", httpdate::fmt_http_date(at))?;
    }
    match cookie.max_age {
        None => {}
        Some(secs) => write!(f, "; Max-Age={}", secs.max(0))?,
    }
    for (is_set, text) in [
        (cookie.http_only, "; HttpOnly"),
        (cookie.secure, "; Secure"),
    ] {
        if is_set {
            f.write_str(text)?;
        }
    }
    f.write_str(match cookie.same_site {
        SameSite::Unset => "",
        SameSite::Lax => "; SameSite=Lax",
        SameSite::Strict => "; SameSite=Strict",
        SameSite::None => "; SameSite=None",
    })?;
    match cookie.partitioned {
        true => f.write_str("; Partitioned"),
        false => Ok(()),
    }
}

fn only(text: &str, valid: impl Fn(u8) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for c in text.chars().filter(|c| u8::try_from(*c).is_ok_and(&valid)) {
        kept.push(c);
    }
    kept
}

/// Whether the date can be written: from 1970 to 9999. A time before that is
/// past for every client, and is said with `Max-Age`.
fn fits_date(at: SystemTime) -> bool {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.is_ok_and(|d| d.as_secs() < 253_402_300_800)
}

/// Reads a `Set-Cookie` field.
///
/// ```
/// let cookie = wirepath::parse_set_cookie("a=1; Path=/x; Max-Age=60; Secure").unwrap();
/// assert_eq!((cookie.path.as_str(), cookie.max_age, cookie.secure), ("/x", Some(60), true));
/// ```
///
/// # Errors
///
/// [`CookieError`], when the name or the value is not one. An attribute that is
/// not valid is in [`Cookie::unparsed`].
pub fn parse_set_cookie(line: &str) -> Result<Cookie, CookieError> {
    let mut parts = trim(line).split(';');
    let first = trim(parts.next().unwrap_or_default());
    if first.is_empty() {
        return Err(match trim(line).is_empty() {
            true => CookieError::Blank,
            false => CookieError::NoEquals,
        });
    }
    let (name, value) = first.split_once('=').ok_or(CookieError::NoEquals)?;
    let mut cookie = pair(&[trim(name), "=", value].concat())?;
    for part in parts.map(trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if name.is_ascii() && !cookie.take_attribute(name, value) {
            cookie.unparsed.push(part.to_owned());
        }
    }
    Ok(cookie)
}

impl Cookie {
    /// Whether the attribute is one.
    fn take_attribute(&mut self, name: &str, value: &str) -> bool {
        if check(value, is_value_byte).is_err() {
            return false;
        }
        match name.to_ascii_lowercase().as_str() {
            "secure" => self.secure = true,
            "httponly" => self.http_only = true,
            "partitioned" => self.partitioned = true,
            "domain" => value.clone_into(&mut self.domain),
            "path" => value.clone_into(&mut self.path),
            "samesite" => {
                self.same_site = match value.to_ascii_lowercase().as_str() {
                    "lax" => SameSite::Lax,
                    "strict" => SameSite::Strict,
                    "none" => SameSite::None,
                    _ => SameSite::Unset,
                }
            }
            "max-age" => match max_age(value) {
                Some(secs) => self.max_age = Some(secs),
                None => return false,
            },
            "expires" => match httpdate::parse_http_date(&value.replace('-', " ")) {
                Ok(at) => self.expires = Some(at),
                Err(_) => return false,
            },
            _ => return false,
        }
        true
    }
}

/// A number without a zero before it; 0 for none left.
fn max_age(value: &str) -> Option<i64> {
    let secs: i64 = value.parse().ok()?;
    let has_zero = secs != 0 && value.starts_with('0');
    (!has_zero).then_some(secs.max(0))
}
