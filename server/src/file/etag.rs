//! Entity tags (RFC 9110 §8.8.3).

use std::time::{Duration, SystemTime};

use super::fs::FileInfo;

/// How old a change must be for the time of it to tell it from any other: the
/// clock of a file system may stand for some milliseconds, or for 2 s on FAT.
const SETTLED: Duration = Duration::from_secs(2);

/// The tag at the start of `text`, and what follows. `None` if there is none.
pub(super) fn scan(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let opaque = text.strip_prefix(b"W/").unwrap_or(text);
    let inner = opaque.strip_prefix(b"\"")?;
    let is_end = |b: &u8| !matches!(b, 0x21 | 0x23..=0x7e | 0x80..);
    let end = inner.iter().position(is_end)?;
    let whole = text.len() - inner.len() + end + 1;
    (inner[end] == b'"').then(|| text.split_at(whole))
}

/// RFC 9110 §8.8.3.2: the same, and neither is weak.
pub(super) fn match_strongly(a: &[u8], b: &[u8]) -> bool {
    a == b && a.starts_with(b"\"")
}

/// RFC 9110 §8.8.3.2: the same but for weakness.
pub(super) fn match_weakly(a: &[u8], b: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    opaque(a) == opaque(b)
}

/// A tag made of the time of the last change and the length. It is weak while
/// the change is so recent that another could have the same time.
pub(super) fn of_file(info: &FileInfo, now: SystemTime) -> Option<String> {
    let modified = info.modified?;
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let is_settled = now.duration_since(modified).is_ok_and(|age| age >= SETTLED);
    let weak = if is_settled { "" } else { "W/" };
    Some(format!("{weak}\"{:x}-{:x}\"", since.as_nanos(), info.len))
}

/// The tag of another form of the same content: `suffix` in its quotes.
pub(super) fn with_suffix(tag: &str, suffix: &str) -> String {
    format!("{}-{suffix}\"", tag.strip_suffix('"').unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_at_the_start() {
        for (text, want) in [
            ("\"a\"", Some(("\"a\"", ""))),
            (" W/\"a\", \"b\"", Some(("W/\"a\"", ", \"b\""))),
            ("\"\"x", Some(("\"\"", "x"))),
            ("\"é\"", Some(("\"é\"", ""))),
            ("\"a b\"", None),
            ("\"a", None),
            ("a\"", None),
            ("w/\"a\"", None),
            ("W/a", None),
            ("\"", None),
            ("", None),
        ] {
            let want = want.map(|(tag, rest)| (tag.as_bytes(), rest.as_bytes()));
            assert_eq!(scan(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn weak_tags_match_only_weakly() {
        for (a, b, strongly, weakly) in [
            ("\"a\"", "\"a\"", true, true),
            ("W/\"a\"", "\"a\"", false, true),
            ("W/\"a\"", "W/\"a\"", false, true),
            ("\"a\"", "\"b\"", false, false),
            ("\"a\"", "", false, false),
        ] {
            assert_eq!(
                match_strongly(a.as_bytes(), b.as_bytes()),
                strongly,
                "{a} {b}"
            );
            assert_eq!(match_weakly(a.as_bytes(), b.as_bytes()), weakly, "{a} {b}");
        }
    }

    #[test]
    fn a_tag_is_weak_until_the_change_has_settled() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(16, 1);
        let info = FileInfo::file(255, Some(at));
        let after = |seconds| of_file(&info, at + Duration::from_secs(seconds)).unwrap();
        assert_eq!(after(1), "W/\"3b9aca001-ff\"");
        assert!(!after(2).starts_with("W/"));
        assert!(of_file(&FileInfo::file(1, None), at).is_none());
        assert_eq!(with_suffix("W/\"a\"", "gzip"), "W/\"a-gzip\"");
    }
}
