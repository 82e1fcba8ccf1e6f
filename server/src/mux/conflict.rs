//! How two patterns relate: which one is more specific, and why two conflict.
//!
//! A pattern stands for the set of requests that it matches. Of two patterns
//! that share a request one must match a strict subset of the other's, or one
//! must name a host and the other none; everything else is a conflict, told at
//! registration.

use super::pattern::{Pattern, Segment};
use crate::path;

/// How the requests of a first pattern relate to those of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The same requests.
    Equivalent,
    /// All of the second's, and more.
    MoreGeneral,
    /// Some of the second's, and no others.
    MoreSpecific,
    /// None of the second's.
    Disjoint,
    /// Some that the second matches and some that it does not, and the other
    /// way round.
    Overlaps,
}

use Relation::{Disjoint, Equivalent, MoreGeneral, MoreSpecific, Overlaps};

impl Relation {
    /// The relation of the whole, from those of two parts that vary freely.
    fn and(self, other: Relation) -> Relation {
        match (self, other) {
            (Disjoint, _) | (_, Disjoint) => Disjoint,
            (Equivalent, r) | (r, Equivalent) => r,
            (a, b) if a == b => a,
            _ => Overlaps,
        }
    }
}

/// Whether some request is matched by both and neither takes precedence.
pub(super) fn conflict(a: &Pattern, b: &Pattern) -> bool {
    a.host == b.host && matches!(relation(a, b), Relation::Equivalent | Relation::Overlaps)
}

/// How the requests of two patterns relate, their hosts aside.
pub(super) fn relation(a: &Pattern, b: &Pattern) -> Relation {
    methods(a, b).and(paths(a, b))
}

fn methods(a: &Pattern, b: &Pattern) -> Relation {
    match (&*a.method, &*b.method) {
        (a, b) if a == b => Equivalent,
        ("", _) | ("GET", "HEAD") => MoreGeneral,
        (_, "") | ("HEAD", "GET") => MoreSpecific,
        _ => Disjoint,
    }
}

pub(super) fn paths(a: &Pattern, b: &Pattern) -> Relation {
    let common = a
        .segments
        .iter()
        .zip(&b.segments)
        .fold(Equivalent, |rel, (a, b)| rel.and(segments(a, b)));
    // A pattern that is shorter can share a path with a longer one only where
    // its last wildcard stands for what the longer one has more.
    let rest = match a.segments.len().cmp(&b.segments.len()) {
        std::cmp::Ordering::Equal => Equivalent,
        std::cmp::Ordering::Less if a.last().multi => MoreGeneral,
        std::cmp::Ordering::Greater if b.last().multi => MoreSpecific,
        _ => Disjoint,
    };
    common.and(rest)
}

fn segments(a: &Segment, b: &Segment) -> Relation {
    match (a.multi, b.multi) {
        (true, true) => return Equivalent,
        (true, false) => return MoreGeneral,
        (false, true) => return MoreSpecific,
        (false, false) => {}
    }
    match (a.wild, b.wild) {
        (true, true) => Equivalent,
        // A wildcard for one segment does not match the end.
        (true, false) if b.is_end() => Disjoint,
        (false, true) if a.is_end() => Disjoint,
        (true, false) => MoreGeneral,
        (false, true) => MoreSpecific,
        (false, false) if a.text == b.text => Equivalent,
        (false, false) => Disjoint,
    }
}

/// Says why two patterns that [`conflict`] do, with paths as examples.
pub(super) fn describe(a: &Pattern, b: &Pattern) -> String {
    match (methods(a, b), paths(a, b)) {
        (_, Overlaps) => format!(
            "{a} and {b} both match some paths, like {:?}.\n\
             But neither is more specific than the other.\n\
             {a} matches {:?}, but {b} doesn't.\n\
             {b} matches {:?}, but {a} doesn't.",
            common_path(a, b),
            difference_path(a, b),
            difference_path(b, a),
        ),
        (MoreGeneral, MoreSpecific) => {
            format!("{a} matches more methods than {b}, but has a more specific path pattern")
        }
        (MoreSpecific, MoreGeneral) => {
            format!("{a} matches fewer methods than {b}, but has a more general path pattern")
        }
        _ => format!("{a} matches the same requests as {b}"),
    }
}

/// A request that both match, as `METHOD HOST/PATH`.
pub(super) fn example(a: &Pattern, b: &Pattern) -> String {
    let methods = [&*a.method, &*b.method];
    let method = match methods.iter().find(|m| !m.is_empty()) {
        _ if methods.contains(&"HEAD") => "HEAD",
        Some(method) => method,
        None => "GET",
    };
    let common = a.segments.iter().zip(&b.segments);
    let common = common.map(|(sa, sb)| if sa.wild && !sb.multi { sb } else { sa });
    let segments = common.chain(surplus(a, b));
    let path: String = segments
        .map(|s| ["/".to_owned(), encoded(s)].concat())
        .collect();
    format!("{method} {}{path}", a.host)
}

/// What a segment of a path is sent as; a wildcard stands for its name.
fn encoded(segment: &Segment) -> String {
    if segment.multi || segment.is_end() {
        return String::new();
    }
    let escaped = path::escape(&segment.text);
    String::from_utf8_lossy(&escaped).replace('/', "%2F")
}

fn push_segment(path: &mut Vec<u8>, segment: &Segment) {
    path.push(b'/');
    if !segment.multi && !segment.is_end() {
        path.extend_from_slice(&segment.text);
    }
}

/// The longer pattern's segments after the shorter one's last.
fn surplus<'p>(a: &'p Pattern, b: &'p Pattern) -> &'p [Segment] {
    let common = a.segments.len().min(b.segments.len());
    let longer = if a.segments.len() > common { a } else { b };
    &longer.segments[common..]
}

fn finish(mut path: Vec<u8>, rest: &[Segment]) -> String {
    for segment in rest {
        push_segment(&mut path, segment);
    }
    String::from_utf8_lossy(&path).into_owned()
}

/// A path that both match; there is one.
fn common_path(a: &Pattern, b: &Pattern) -> String {
    let mut path = Vec::new();
    for (sa, sb) in a.segments.iter().zip(&b.segments) {
        push_segment(&mut path, if sa.wild { sb } else { sa });
    }
    finish(path, surplus(a, b))
}

/// A path that `a` matches and `b` does not; there is one where they overlap,
/// or `a` is more general.
pub(super) fn difference_path(a: &Pattern, b: &Pattern) -> String {
    let mut path = Vec::new();
    for (sa, sb) in a.segments.iter().zip(&b.segments) {
        if sa.multi {
            // A slash and nothing more differs from whatever is not a wildcard
            // for the rest, but for `{$}`, from which anything more differs.
            path.push(b'/');
            if sb.is_end() && !sb.multi {
                let name: &[u8] = if sa.text.is_empty() { b"x" } else { &sa.text };
                path.extend_from_slice(name);
            }
            return finish(path, &[]);
        }
        push_segment(&mut path, sa);
        if sa.wild && !sb.wild && sa.text == sb.text {
            path.push(b'x');
        }
    }
    finish(path, surplus(a, b))
}
