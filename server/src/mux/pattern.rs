//! The pattern language: `[METHOD ][HOST]/[PATH]`.
//!
//! A path is a list of segments. A segment is a literal, a wildcard for one
//! segment (`{name}`), a wildcard for the rest (`{name...}`, or nothing after
//! a trailing slash), or the end (`{$}`, kept as the literal `/`, which no
//! other segment can be). Literals are unescaped once, here, so that matching
//! compares bytes.

use std::fmt;
use std::panic::Location;

use wirepath_runtime::trace::{self, Label};

use super::counts::Counts;
use crate::path;

/// One segment of a pattern's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The literal, unescaped, or the wildcard's name; `/` for `{$}`; empty
    /// for the wildcard that a trailing slash stands for.
    pub text: Box<[u8]>,
    /// Whether this is a wildcard.
    pub wild: bool,
    /// Whether this is a wildcard for the rest of the path.
    pub multi: bool,
}

impl Segment {
    fn literal(text: &[u8]) -> Segment {
        Segment {
            text: text.into(),
            wild: false,
            multi: false,
        }
    }

    fn wildcard(name: &str, multi: bool) -> Segment {
        Segment {
            text: name.as_bytes().into(),
            wild: true,
            multi,
        }
    }

    /// Whether this is `{$}`.
    pub fn is_end(&self) -> bool {
        !self.wild && *self.text == *b"/"
    }
}

/// A parsed pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// As it was registered.
    pub source: Box<str>,
    /// Empty for every method.
    pub method: Box<str>,
    /// Empty for every host.
    pub host: Box<str>,
    /// Never empty.
    pub segments: Vec<Segment>,
    /// Where it was registered.
    pub site: &'static Location<'static>,
    /// What a trace calls it.
    pub label: Label,
    /// What its handler answered.
    pub counts: Counts,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing {pattern:?}: at offset {offset}: {kind}")]
pub struct PatternError {
    /// The text.
    pub pattern: String,
    /// Where in it the fault is, in bytes.
    pub offset: usize,
    /// What the fault is.
    pub kind: PatternErrorKind,
}

/// The faults that a pattern can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// Nothing at all.
    #[error("empty pattern")]
    Empty,
    /// The method is not a token (RFC 9110 §9.1).
    #[error("invalid method {0:?}")]
    InvalidMethod(String),
    /// No slash begins a path.
    #[error("host/path missing /")]
    MissingSlash,
    /// A wildcard where the host belongs.
    #[error("host contains '{{' (missing initial '/'?)")]
    BraceInHost,
    /// Requests' paths are cleaned before they are matched.
    #[error("non-CONNECT pattern with unclean path can never match")]
    Unclean,
    /// A wildcard that is only a part of its segment.
    #[error("bad wildcard segment (must start with '{{')")]
    MustStartWithBrace,
    /// A wildcard that is only a part of its segment, or is not closed.
    #[error("bad wildcard segment (must end with '}}')")]
    MustEndWithBrace,
    /// `{$}` before the end.
    #[error("{{$}} not at end")]
    EndNotAtEnd,
    /// `{name...}` before the end.
    #[error("{{...}} wildcard not at end")]
    MultiNotAtEnd,
    /// `{}` or `{...}`.
    #[error("empty wildcard")]
    EmptyWildcard,
    /// The name is not an identifier.
    #[error("bad wildcard name {0:?}")]
    BadName(String),
    /// The same name twice.
    #[error("duplicate wildcard name {0:?}")]
    DuplicateName(String),
}

impl Pattern {
    /// Parses `source`, which was registered at `site`.
    pub fn parse(source: &str, site: &'static Location<'static>) -> Result<Pattern, PatternError> {
        parse(source, site).map_err(|(offset, kind)| PatternError {
            pattern: source.to_owned(),
            offset,
            kind,
        })
    }

    /// The last segment; every path has one.
    pub fn last(&self) -> &Segment {
        self.segments.last().expect("a path begins with a slash")
    }

    /// Where the wildcard `name` is among those that have a name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names().position(|n| n == name.as_bytes())
    }

    /// The names of the wildcards, in order.
    pub fn wildcards(&self) -> impl Iterator<Item = &str> {
        let text = |name| str::from_utf8(name).expect("a name is an identifier");
        self.names().map(text)
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.segments
            .iter()
            .filter(|s| s.wild && !s.text.is_empty())
            .map(|s| &*s.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

type Fault = (usize, PatternErrorKind);

fn parse(source: &str, site: &'static Location<'static>) -> Result<Pattern, Fault> {
    if source.is_empty() {
        return Err((0, PatternErrorKind::Empty));
    }
    let (method, rest) = match source.find([' ', '\t']) {
        Some(end) => (
            &source[..end],
            source[end + 1..].trim_start_matches([' ', '\t']),
        ),
        None => ("", source),
    };
    if !method.is_empty() && !is_token(method) {
        return Err((0, PatternErrorKind::InvalidMethod(method.to_owned())));
    }
    let start = source.len() - rest.len();
    let slash = rest
        .find('/')
        .ok_or((start, PatternErrorKind::MissingSlash))?;
    let (host, path) = rest.split_at(slash);
    if let Some(brace) = host.find('{') {
        return Err((start + brace, PatternErrorKind::BraceInHost));
    }
    let unclean = path::clean(path.as_bytes()) != path.as_bytes();
    if !method.is_empty() && method != "CONNECT" && unclean {
        return Err((start + slash, PatternErrorKind::Unclean));
    }
    Ok(Pattern {
        source: source.into(),
        method: method.into(),
        host: host.into(),
        segments: parse_path(path).map_err(|(at, kind)| (start + slash + at, kind))?,
        site,
        label: trace::label(source),
        counts: Counts::default(),
    })
}

fn parse_path(path: &str) -> Result<Vec<Segment>, Fault> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut offset = 1;
    loop {
        let rest = &path[offset..];
        let (text, is_last) = match rest.find('/') {
            Some(end) => (&rest[..end], false),
            None => (rest, true),
        };
        if text.is_empty() && is_last {
            segments.push(Segment::wildcard("", true));
            return Ok(segments);
        }
        let segment = parse_segment(text, is_last).map_err(|kind| (offset, kind))?;
        let is_named = segment.wild;
        if is_named && segments.iter().any(|s| s.wild && s.text == segment.text) {
            let name = String::from_utf8_lossy(&segment.text).into_owned();
            return Err((offset, PatternErrorKind::DuplicateName(name)));
        }
        segments.push(segment);
        if is_last {
            return Ok(segments);
        }
        offset += text.len() + 1;
    }
}

fn parse_segment(text: &str, is_last: bool) -> Result<Segment, PatternErrorKind> {
    match text.find('{') {
        None => {
            return Ok(Segment::literal(&path::unescape_or_raw(text.as_bytes())));
        }
        Some(0) => {}
        Some(_) => return Err(PatternErrorKind::MustStartWithBrace),
    }
    let name = text[1..]
        .strip_suffix('}')
        .ok_or(PatternErrorKind::MustEndWithBrace)?;
    if name == "$" {
        return match is_last {
            true => Ok(Segment::literal(b"/")),
            false => Err(PatternErrorKind::EndNotAtEnd),
        };
    }
    let (name, multi) = match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    };
    if multi && !is_last {
        return Err(PatternErrorKind::MultiNotAtEnd);
    }
    if name.is_empty() {
        return Err(PatternErrorKind::EmptyWildcard);
    }
    if !is_identifier(name) {
        return Err(PatternErrorKind::BadName(name.to_owned()));
    }
    Ok(Segment::wildcard(name, multi))
}

/// A letter or underscore, then letters, digits and underscores.
fn is_identifier(name: &str) -> bool {
    name.chars()
        .enumerate()
        .all(|(i, c)| c == '_' || c.is_alphabetic() || (i > 0 && c.is_numeric()))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    crate::request::TOKEN.has_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fault(source: &str) -> (usize, String) {
        let e = Pattern::parse(source, Location::caller()).unwrap_err();
        (e.offset, e.kind.to_string())
    }

    #[test]
    fn parts_are_found() {
        let p =
            Pattern::parse("GET \t example.com/a%2Fb/{x}/{rest...}", Location::caller()).unwrap();
        assert_eq!((&*p.method, &*p.host), ("GET", "example.com"));
        assert_eq!(&*p.segments[0].text, b"a/b");
        assert!(p.segments[1].wild && !p.segments[1].multi);
        assert!(p.last().multi);
        assert_eq!(p.names().collect::<Vec<_>>(), [b"x".as_slice(), b"rest"]);
        let end = Pattern::parse("/{$}", Location::caller()).unwrap();
        assert!(end.last().is_end());
    }

    #[test]
    fn a_fault_is_told_with_its_offset() {
        for (source, offset, says) in [
            ("", 0, "empty pattern"),
            ("A=B /", 0, "invalid method"),
            ("GET abc", 4, "missing /"),
            ("GET a{b/", 5, "host contains '{'"),
            ("GET //", 4, "unclean"),
            ("/a/b{c}", 3, "must start with '{'"),
            ("/a/{c}d", 3, "must end with '}'"),
            ("/{$}/", 1, "{$} not at end"),
            ("/{a...}/b", 1, "{...} wildcard not at end"),
            ("/x/{}", 3, "empty wildcard"),
            ("/x/{...}", 3, "empty wildcard"),
            ("/{1a}", 1, "bad wildcard name \"1a\""),
            ("/{a}/{a}", 5, "duplicate wildcard name \"a\""),
        ] {
            let (at, text) = fault(source);
            assert_eq!(at, offset, "{source}");
            assert!(text.contains(says), "{source}: {text}");
        }
    }
}
