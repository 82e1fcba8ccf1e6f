//! The `Range` field (RFC 9110 §14.1.2).

/// What of a file is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Whole,
    /// `len` bytes from `start`; at least one.
    Part {
        start: u64,
        len: u64,
    },
    Unsatisfiable,
}

/// What `range` asks for of a file of `size` bytes. Several ranges are
/// answered with the whole file, as RFC 9110 §14.2 lets a server do; a field
/// that is malformed is unsatisfiable, as in Go.
pub(super) fn choose(range: Option<&str>, size: u64) -> Choice {
    let Some(range) = range else {
        return Choice::Whole;
    };
    let Some(set) = range.strip_prefix("bytes=") else {
        return Choice::Unsatisfiable;
    };
    let mut ranges = set.split(',').map(str::trim).filter(|r| !r.is_empty());
    match (ranges.next(), ranges.next()) {
        (Some(_), Some(_)) | (None, _) => Choice::Whole,
        // Nothing of an empty file can be named.
        (Some(_), None) if size == 0 => Choice::Whole,
        (Some(range), None) => part(range, size).unwrap_or(Choice::Unsatisfiable),
    }
}

fn part(range: &str, size: u64) -> Option<Choice> {
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let (start, end) = match (first, last) {
        ("", suffix) => (size - number(suffix)?.min(size), size),
        (first, "") => (number(first)?, size),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    (start < end).then(|| Choice::Part {
        start,
        len: end - start,
    })
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        let part = |start, len| Choice::Part { start, len };
        for (range, want) in [
            ("bytes=0-4", part(0, 5)),
            ("bytes=2-", part(2, 8)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-30", part(0, 10)),
            ("bytes=9-99", part(9, 1)),
            ("bytes= 1 - 2 ", part(1, 2)),
            ("bytes=0-18446744073709551615", part(0, 10)),
            ("bytes=0-0,2-3", Choice::Whole),
            ("bytes=", Choice::Whole),
            ("bytes=10-", Choice::Unsatisfiable),
            ("bytes=-0", Choice::Unsatisfiable),
            ("bytes=4-2", Choice::Unsatisfiable),
            ("bytes=-", Choice::Unsatisfiable),
            ("bytes=+1-2", Choice::Unsatisfiable),
            ("bytes=a-b", Choice::Unsatisfiable),
            ("lines=1-2", Choice::Unsatisfiable),
        ] {
            assert_eq!(choose(Some(range), 10), want, "{range}");
        }
        assert_eq!(choose(Some("bytes=0-1"), 0), Choice::Whole);
        assert_eq!(choose(None, 10), Choice::Whole);
    }
}
