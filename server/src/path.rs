//! Paths of request targets and of patterns: percent-encoding and cleaning.
//!
//! Paths are bytes here: a percent-encoded byte need not be part of a UTF-8
//! text. The rules for what may stand unescaped are those of Go's `net/url`,
//! because they decide how a path splits into segments and what a redirect's
//! `Location` looks like.

use std::borrow::Cow;

use crate::bytes::ByteSet;

/// A `%` that is not followed by two hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Decodes every `%XX`. Borrows when there is none. A `+` stays a `+`: this is
/// a path, not a form.
pub(crate) fn unescape(path: &[u8]) -> Result<Cow<'_, [u8]>, BadEscape> {
    let Some(first) = memchr::memchr(b'%', path) else {
        return Ok(Cow::Borrowed(path));
    };
    let mut out = Vec::with_capacity(path.len());
    out.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let [hi, lo, ..] = *tail else {
            return Err(BadEscape);
        };
        out.push(hex(hi).ok_or(BadEscape)? << 4 | hex(lo).ok_or(BadEscape)?);
        rest = &tail[2..];
    }
    Ok(Cow::Owned(out))
}

/// [`unescape`], or the bytes as they are when they are not escaped properly.
pub(crate) fn unescape_or_raw(segment: &[u8]) -> Cow<'_, [u8]> {
    unescape(segment).unwrap_or(Cow::Borrowed(segment))
}

/// Whether every `%` of `path` begins a proper escape.
pub(crate) fn escapes_are_proper(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).all(|at| {
        matches!(path.get(at + 1..at + 3), Some(&[hi, lo]) if hex(hi).is_some() && hex(lo).is_some())
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|v| u8::try_from(v).ok())
}

/// What a path may hold unescaped when it comes from a peer: RFC 3986 `pchar`,
/// `/`, and the brackets that Go lets through.
const UNESCAPED: &ByteSet = &ByteSet::alphanumeric_and(b"-_.~!$&'()*+,;=:@[]/");

/// Whether `path` can be kept as it is and has nothing to decode.
pub(crate) fn is_plain(path: &[u8]) -> bool {
    UNESCAPED.has_all(path)
}

/// Whether `path` is an encoding that can be kept as it is.
pub(crate) fn is_valid_encoding(path: &[u8]) -> bool {
    path.iter().all(|&b| b == b'%' || UNESCAPED.has(b))
}

/// Encodes a decoded path anew, as Go does when the peer's own encoding was
/// not valid.
pub(crate) fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 8);
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(byte);
        } else {
            push_escaped(&mut out, byte);
        }
    }
    out
}

/// Encodes what is not ASCII and keeps the rest: for a `Location` that a
/// handler gave.
pub(crate) fn escape_non_ascii(url: &str) -> String {
    let mut out = Vec::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii() {
            out.push(byte);
        } else {
            push_escaped(&mut out, byte);
        }
    }
    String::from_utf8(out).expect("every byte that is not ASCII was escaped")
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]);
}

/// The canonical form of an escaped path: rooted, without empty, `.` and `..`
/// segments, its trailing slash kept. Borrows when the path is clean already.
pub(crate) fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    if is_clean(path) {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|&b| b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if kept.is_empty() || path.ends_with(b"/") {
        out.push(b'/');
    }
    Cow::Owned(out)
}

fn is_clean(path: &[u8]) -> bool {
    let Some((b'/', mut rest)) = path.split_first() else {
        return false;
    };
    loop {
        let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let is_last = end == rest.len();
        match &rest[..end] {
            b"" if !is_last => return false,
            b"." | b".." => return false,
            _ if is_last => return true,
            _ => rest = &rest[end + 1..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_keeps_the_trailing_slash() {
        for (dirty, want) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//a", "/a"),
            ("/a//b/", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a"),
            ("/a/./", "/a/"),
            ("/%2e%2e/a", "/%2e%2e/a"),
            ("/...", "/..."),
        ] {
            let got = clean(dirty.as_bytes());
            assert_eq!(got, want.as_bytes(), "{dirty}");
            let unchanged = matches!(got, Cow::Borrowed(_));
            assert_eq!(unchanged, dirty == want, "{dirty}");
        }
    }

    #[test]
    fn escapes_round_trip_or_are_refused() {
        assert_eq!(unescape(b"/a%2Fb%25").unwrap(), b"/a/b%".as_slice());
        assert_eq!(unescape(b"+").unwrap(), b"+".as_slice());
        for bad in ["%", "%2", "%2g", "a%zz", "%+1", "%é"] {
            assert_eq!(unescape(bad.as_bytes()), Err(BadEscape), "{bad}");
            assert!(!escapes_are_proper(bad.as_bytes()), "{bad}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)).unwrap(), all);
        assert!(is_valid_encoding(b"/a!(b)%7C[]"));
        assert!(!is_valid_encoding(b"/a|b"));
        assert_eq!(escape_non_ascii("/é?%2f|"), "/%C3%A9?%2f|");
    }
}
