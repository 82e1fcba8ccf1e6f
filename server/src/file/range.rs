//! The `Range` field (RFC 9110 §14.2), by Go's rules.

/// Ranges in one field that are looked at; a field with more is ignored. Go's
/// number.
const MAX_RANGES: usize = 200;

/// A part of a file: `len` bytes from `start`, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl ByteRange {
    /// As `Content-Range` tells it (RFC 9110 §14.4), of a file of `size` bytes.
    pub(super) fn content_range(self, size: u64) -> String {
        let last = self.start + self.len - 1;
        format!("bytes {}-{last}/{size}", self.start)
    }
}

/// Why a `Range` field names nothing of a file. Both are answered with 416.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is not ranges of bytes.
    #[error("invalid range")]
    Malformed,
    /// Every range is beyond the end.
    #[error("invalid range: failed to overlap")]
    NoOverlap,
}

/// The parts that the value of a `Range` field asks for, of a file of `size`
/// bytes, in its order. None stands for all of the file: the field names no
/// range, or more than 200.
///
/// Numbers are digits, of any size: what is beyond the end is cut off. (Go
/// takes a sign, and refuses what needs more than 63 bits.)
///
/// # Errors
///
/// [`RangeError`]: one malformed range spoils the field; `NoOverlap` only if
/// no range is within the file.
pub fn parse_ranges(field: &[u8], size: u64) -> Result<Vec<ByteRange>, RangeError> {
    let set = field.strip_prefix(b"bytes=").ok_or(RangeError::Malformed)?;
    if memchr::memchr_iter(b',', set).count() >= MAX_RANGES {
        return Ok(Vec::new());
    }
    let mut ranges = Vec::new();
    let mut is_beyond = false;
    for spec in set.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        if spec.is_empty() {
            continue;
        }
        match parse_one(spec, size)? {
            Some(range) => ranges.push(range),
            None => is_beyond = true,
        }
    }
    match ranges.is_empty() && is_beyond {
        true => Err(RangeError::NoOverlap),
        false => Ok(ranges),
    }
}

/// `None`: nothing of the file. A range that begins beyond the end is not
/// looked at further, as in Go.
fn parse_one(spec: &[u8], size: u64) -> Result<Option<ByteRange>, RangeError> {
    let dash = memchr::memchr(b'-', spec).ok_or(RangeError::Malformed)?;
    let (first, last) = (spec[..dash].trim_ascii(), spec[dash + 1..].trim_ascii());
    let start = match first {
        b"" => size - number(last)?.min(size),
        first => number(first)?,
    };
    if start >= size {
        return Ok(None);
    }
    let end = match last {
        _ if first.is_empty() => size,
        b"" => size,
        last => number(last)?.saturating_add(1).min(size),
    };
    match start < end {
        true => Ok(Some(ByteRange {
            start,
            len: end - start,
        })),
        false => Err(RangeError::Malformed),
    }
}

/// Digits; more than fit are as good as the most that does.
fn number(digits: &[u8]) -> Result<u64, RangeError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RangeError::Malformed);
    }
    let add = |n: u64, digit: &u8| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Ok(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(ranges: &[(u64, u64)]) -> Result<Vec<ByteRange>, RangeError> {
        let range = |&(start, len)| ByteRange { start, len };
        Ok(ranges.iter().map(range).collect())
    }

    #[test]
    fn ranges_are_cut_to_the_file() {
        for (field, want) in [
            ("bytes=0-4", some(&[(0, 5)])),
            ("bytes=2-", some(&[(2, 8)])),
            ("bytes=-3", some(&[(7, 3)])),
            ("bytes=-30", some(&[(0, 10)])),
            ("bytes=9-99", some(&[(9, 1)])),
            ("bytes= 1 - 2 ", some(&[(1, 2)])),
            ("bytes=0-18446744073709551615", some(&[(0, 10)])),
            ("bytes=0-99999999999999999999999", some(&[(0, 10)])),
            ("bytes=-99999999999999999999999", some(&[(0, 10)])),
            ("bytes=0-0,2-3", some(&[(0, 1), (2, 2)])),
            ("bytes=5-6, 0-1 ,\t-1", some(&[(5, 2), (0, 2), (9, 1)])),
            ("bytes=0-0,,", some(&[(0, 1)])),
            ("bytes=0-0,10-", some(&[(0, 1)])),
            ("bytes=", some(&[])),
            ("bytes=,", some(&[])),
            ("bytes=10-", Err(RangeError::NoOverlap)),
            ("bytes=10-,12-13", Err(RangeError::NoOverlap)),
            ("bytes=99999999999999999999999-", Err(RangeError::NoOverlap)),
            ("bytes=-0", Err(RangeError::NoOverlap)),
            ("bytes=12-11", Err(RangeError::NoOverlap)),
            ("bytes=10-x", Err(RangeError::NoOverlap)),
            ("bytes=4-2", Err(RangeError::Malformed)),
            ("bytes=0-0,4-2", Err(RangeError::Malformed)),
            ("bytes=-", Err(RangeError::Malformed)),
            ("bytes=--1", Err(RangeError::Malformed)),
            ("bytes=5", Err(RangeError::Malformed)),
            ("bytes=+1-2", Err(RangeError::Malformed)),
            ("bytes=a-b", Err(RangeError::Malformed)),
            ("lines=1-2", Err(RangeError::Malformed)),
            ("", Err(RangeError::Malformed)),
        ] {
            assert_eq!(parse_ranges(field.as_bytes(), 10), want, "{field}");
        }
        for field in ["bytes=0-1", "bytes=-1", "bytes=0-"] {
            let nothing = Err(RangeError::NoOverlap);
            assert_eq!(parse_ranges(field.as_bytes(), 0), nothing, "{field}");
        }
    }

    #[test]
    fn too_many_ranges_are_all_of_the_file() {
        let field = |n: usize| format!("bytes={}", vec!["0-0"; n].join(","));
        assert_eq!(parse_ranges(field(200).as_bytes(), 9).unwrap().len(), 200);
        assert_eq!(parse_ranges(field(201).as_bytes(), 9), Ok(vec![]));
    }
}
