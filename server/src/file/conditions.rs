//! Conditional requests (RFC 9110 §13), in the order of §13.2.2.

use std::time::SystemTime;

use http::Method;

use super::etag;
use crate::request::Request;

/// The second after the last that an HTTP date can tell: the year 10000.
const DATES_END: u64 = 253_402_300_800;

/// What is known of the current content.
pub(super) struct Validators<'v> {
    /// The entity tag of the response; empty if there is none.
    pub etag: &'v [u8],
    /// To the second.
    pub modified: Option<SystemTime>,
}

/// What a request's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Serve it; the parts only that are asked for if `ranges`.
    Serve { ranges: bool },
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client thinks.
    Failed,
}

/// A time as HTTP tells it, to the second. The epoch itself says that none is
/// known.
pub(super) fn to_second(time: SystemTime) -> Option<SystemTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let whole = std::time::Duration::from_secs(since.as_secs());
    let is_told = (1..DATES_END).contains(&whole.as_secs());
    is_told.then(|| SystemTime::UNIX_EPOCH + whole)
}

/// Looks at all conditions of `r`.
pub(super) fn check(r: &Request, now: &Validators<'_>) -> Verdict {
    let is_get = is_get(r);
    let holds = if_match(r, now).or_else(|| if_unmodified_since(r, now));
    if holds == Some(false) {
        return Verdict::Failed;
    }
    match if_none_match(r, now) {
        Some(true) => {}
        Some(false) if is_get => return Verdict::NotModified,
        Some(false) => return Verdict::Failed,
        None if is_get && if_modified_since(r, now) == Some(false) => {
            return Verdict::NotModified;
        }
        None => {}
    }
    Verdict::Serve {
        // RFC 9110 §14.2: of other methods a range means nothing.
        ranges: is_get && if_range(r, now) != Some(false),
    }
}

pub(super) fn is_get(r: &Request) -> bool {
    matches!(*r.method(), Method::GET | Method::HEAD)
}

/// A field's first value, if it is not empty.
fn field<'r>(r: &'r Request, name: &str) -> Option<&'r [u8]> {
    r.headers.get_bytes(name).filter(|value| !value.is_empty())
}

/// A date, or nothing if the field is none (RFC 9110 §13.1.3).
fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()
}

/// Whether one of the tags listed matches; `*` always does. What is no tag
/// ends the list.
fn list_matches(mut list: &[u8], matches: impl Fn(&[u8]) -> bool) -> bool {
    loop {
        list = list.trim_ascii_start();
        match list.first() {
            None => return false,
            Some(b',') => list = &list[1..],
            Some(b'*') => return true,
            Some(_) => match etag::scan(list) {
                Some((tag, _)) if matches(tag) => return true,
                Some((_, rest)) => list = rest,
                None => return false,
            },
        }
    }
}

/// RFC 9110 §13.1.1.
fn if_match(r: &Request, now: &Validators<'_>) -> Option<bool> {
    let list = field(r, "If-Match")?;
    Some(list_matches(list, |tag| {
        etag::match_strongly(tag, now.etag)
    }))
}

/// RFC 9110 §13.1.2: false if one matches.
fn if_none_match(r: &Request, now: &Validators<'_>) -> Option<bool> {
    let list = field(r, "If-None-Match")?;
    Some(!list_matches(list, |tag| etag::match_weakly(tag, now.etag)))
}

/// RFC 9110 §13.1.3.
pub(super) fn if_modified_since(r: &Request, now: &Validators<'_>) -> Option<bool> {
    let since = date(field(r, "If-Modified-Since")?)?;
    Some(now.modified? > since)
}

/// RFC 9110 §13.1.4.
fn if_unmodified_since(r: &Request, now: &Validators<'_>) -> Option<bool> {
    let since = date(field(r, "If-Unmodified-Since")?)?;
    Some(now.modified? <= since)
}

/// RFC 9110 §13.1.5: what is neither the current tag nor the current date asks
/// for all of it.
fn if_range(r: &Request, now: &Validators<'_>) -> Option<bool> {
    let validator = field(r, "If-Range")?;
    Some(match etag::scan(validator) {
        Some((tag, _)) => etag::match_strongly(tag, now.etag),
        None => now.modified.is_some() && date(validator) == now.modified,
    })
}
