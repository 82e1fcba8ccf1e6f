//! The four forms of a request target (RFC 9112 §3.2).

use std::ops::Range;

use http::Method;

use super::error::HeadError;
use crate::bytes::ByteSet;
use crate::path;

/// Where the parts of the target are in the raw head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    /// All of it.
    pub whole: Range<usize>,
    /// The authority of an absolute target or of CONNECT's; else empty.
    pub host: Range<usize>,
    /// The path as sent; empty for CONNECT's authority and for a URL without.
    pub path: Range<usize>,
    /// What is after the first `?`.
    pub query: Range<usize>,
    /// The path encoded anew, where the client's own encoding is not valid.
    pub escaped: Option<Vec<u8>>,
}

/// Finds the parts of the target that is at `whole` in `raw`.
pub(super) fn parse(raw: &[u8], whole: Range<usize>, method: &Method) -> Result<Target, HeadError> {
    let text = &raw[whole.clone()];
    let mut target = Target {
        whole: whole.clone(),
        host: whole.start..whole.start,
        path: whole.clone(),
        query: whole.end..whole.end,
        escaped: None,
    };
    if text == b"*" || (text.starts_with(b"/") && path::is_plain(text)) {
        return Ok(target);
    }
    let is_text = str::from_utf8(text).is_ok();
    if text.is_empty() || !is_text || text.iter().any(|&b| b <= b' ' || b == 0x7f) {
        return Err(HeadError::Target);
    }
    if text[0] != b'/' {
        let (host, rest) = match *method == Method::CONNECT {
            true => (0..text.len(), text.len()),
            false => absolute(text).ok_or(HeadError::Target)?,
        };
        if host.is_empty() || !is_authority(&text[host.clone()]) {
            return Err(HeadError::Target);
        }
        target.host = whole.start + host.start..whole.start + host.end;
        target.path.start = whole.start + rest;
    }
    if let Some(mark) = memchr::memchr(b'?', &raw[target.path.clone()]) {
        let mark = target.path.start + mark;
        target.query = mark + 1..whole.end;
        target.path.end = mark;
    }
    let path = &raw[target.path.clone()];
    if !path::escapes_are_proper(path) {
        return Err(HeadError::Target);
    }
    if !path::is_valid_encoding(path) {
        target.escaped = Some(path::escape(&path::unescape_or_raw(path)));
    }
    Ok(target)
}

/// Where the authority is in `scheme://authority…`, and where it ends.
fn absolute(text: &[u8]) -> Option<(Range<usize>, usize)> {
    let colon = memchr::memchr(b':', text)?;
    let (scheme, rest) = text.split_at(colon);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    let authority = rest.strip_prefix(b"://").filter(|_| is_scheme)?;
    let start = colon + 3;
    let end = authority
        .iter()
        .position(|b| b"/?".contains(b))
        .map_or(text.len(), |at| start + at);
    Some((start..end, end))
}

/// Whether a target's `host[:port]` is one: as Go's `net/url` has it, digits for a
/// port, brackets around what has colons, and escapes only for what is not ASCII
/// or the `%` of a zone.
fn is_authority(text: &[u8]) -> bool {
    let host_end = match text.strip_prefix(b"[") {
        Some(inner) => memchr::memrchr(b']', inner).map(|at| at + 2),
        None => Some(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let Some((host, port)) = host_end.map(|end| text.split_at(end)) else {
        return false;
    };
    let is_port = match port.strip_prefix(b":") {
        Some(digits) => digits.iter().all(u8::is_ascii_digit),
        None => port.is_empty(),
    };
    is_port && is_host(host) && has_host_escapes(host)
}

fn has_host_escapes(host: &[u8]) -> bool {
    memchr::memchr_iter(b'%', host).all(|at| match host.get(at + 1..at + 3) {
        Some(b"25") => true,
        Some([high, low]) => {
            matches!(high, b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F') && low.is_ascii_hexdigit()
        }
        _ => false,
    })
}

/// Whether every byte may stand in a `Host`: those of RFC 3986's host and
/// port, percent-escapes and an IPv6 zone included.
pub(super) fn is_host(host: &[u8]) -> bool {
    const HOST: &ByteSet = &ByteSet::alphanumeric_and(b"!$%&'()*+,-.:;=[]_~");
    HOST.has_all(host)
}
