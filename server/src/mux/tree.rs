//! The routing tree: host, then method, then the path's segments.
//!
//! Because conflicts are refused at registration, the first match of a walk
//! that tries a literal before a wildcard for one segment, and that before a
//! wildcard for the rest, is the most specific one. The walk costs what the
//! path and the depth of the patterns cost, whatever their number. It does not
//! allocate unless a segment has an escape or the caller's list of matches
//! must grow.

use std::borrow::Cow;
use std::sync::Arc;

use super::mapping::Mapping;
use super::pattern::{Pattern, Segment};
use crate::handler::Handler;
use crate::path;

/// What a walk ends at.
pub(super) struct Leaf {
    pub pattern: Arc<Pattern>,
    pub handler: Box<dyn Handler>,
}

/// Where in the request's escaped path each wildcard's match is, in order.
pub(crate) type Spans = Vec<(u32, u32)>;

#[derive(Default)]
struct Node {
    leaf: Option<Leaf>,
    /// Children by literal; `/` is `{$}`.
    literals: Mapping<Box<Node>>,
    /// The child for what has no literal: any host, any method, a wildcard.
    any: Option<Box<Node>>,
    /// The pattern that takes the rest of the path.
    rest: Option<Leaf>,
}

/// The patterns and their handlers.
#[derive(Default)]
pub(super) struct Tree {
    root: Node,
}

impl Tree {
    /// Adds a pattern. Gives the one that is there already if there is one, as
    /// between `/a//b` and `/a/{x}/b`: an empty literal is a wildcard here,
    /// which it need not be since no cleaned path has an empty segment.
    pub fn add(
        &mut self,
        pattern: &Arc<Pattern>,
        handler: Box<dyn Handler>,
    ) -> Result<(), Arc<Pattern>> {
        let mut node = self.root.child(pattern.host.as_bytes());
        node = node.child(pattern.method.as_bytes());
        for Segment { text, wild, multi } in &pattern.segments {
            if *multi {
                break;
            }
            node = node.child(if *wild { b"" } else { text });
        }
        let place = match pattern.last().multi {
            true => &mut node.rest,
            false => &mut node.leaf,
        };
        if let Some(leaf) = place {
            return Err(leaf.pattern.clone());
        }
        let pattern = pattern.clone();
        *place = Some(Leaf { pattern, handler });
        Ok(())
    }

    /// Whether some pattern is for one host only.
    pub fn has_hosts(&self) -> bool {
        !self.root.literals.is_empty()
    }

    /// The most specific pattern that matches, and in `spans` what its
    /// wildcards match.
    pub fn find(
        &self,
        host: &[u8],
        method: &[u8],
        path: &[u8],
        spans: &mut Spans,
    ) -> Option<&Leaf> {
        let with_host = (!host.is_empty())
            .then(|| self.root.literals.get(host))
            .flatten();
        with_host
            .into_iter()
            .chain(self.root.any.as_ref())
            .find_map(|node| node.find_method(method, path, spans))
    }

    /// The methods under which some pattern would match, unsorted.
    pub fn methods(&self, host: &[u8], path: &[u8]) -> Vec<&[u8]> {
        let with_host = (!host.is_empty())
            .then(|| self.root.literals.get(host))
            .flatten();
        let mut found = Vec::new();
        let mut spans = Spans::new();
        for node in with_host.into_iter().chain(self.root.any.as_ref()) {
            for (method, child) in node.literals.iter() {
                spans.clear();
                if child.find_path(path, 0, &mut spans).is_some() {
                    found.push(method);
                }
            }
        }
        found
    }
}

impl Node {
    fn child(&mut self, key: &[u8]) -> &mut Node {
        match key {
            b"" => self.any.get_or_insert_default(),
            _ => self.literals.get_or_default(key),
        }
    }

    fn find_method(&self, method: &[u8], path: &[u8], spans: &mut Spans) -> Option<&Leaf> {
        let by_name = self.literals.get(method);
        let as_get = match method {
            b"HEAD" => self.literals.get(b"GET"),
            _ => None,
        };
        let nodes = by_name.into_iter().chain(as_get).chain(self.any.as_ref());
        nodes.into_iter().find_map(|node| {
            spans.clear();
            node.find_path(path, 0, spans)
        })
    }

    /// Matches what of `path` begins at `at`, which is its end or a slash.
    /// Goes no deeper than the longest pattern.
    fn find_path(&self, path: &[u8], at: usize, spans: &mut Spans) -> Option<&Leaf> {
        let rest = &path[at..];
        if rest.is_empty() {
            return self.leaf.as_ref();
        }
        let start = at + 1;
        let (end, segment) = if rest == b"/" {
            (path.len(), Cow::Borrowed(rest))
        } else {
            let end = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |i| start + i);
            (end, path::unescape_or_raw(&path[start..end]))
        };
        let found = self.literals.get(&segment);
        // As in Go, an escaped slash that is a whole segment counts as the end
        // for `{$}` and for wildcards.
        let is_end = *segment == *b"/";
        let depth = spans.len();
        if let Some(leaf) = found.and_then(|node| node.find_path(path, end, spans)) {
            return Some(leaf);
        }
        if let Some(any) = self.any.as_ref().filter(|_| !is_end) {
            spans.truncate(depth);
            spans.push(span(start, end));
            if let Some(leaf) = any.find_path(path, end, spans) {
                return Some(leaf);
            }
        }
        spans.truncate(depth);
        let leaf = self.rest.as_ref()?;
        if !leaf.pattern.last().text.is_empty() {
            spans.push(span(start, path.len()));
        }
        Some(leaf)
    }
}

fn span(start: usize, end: usize) -> (u32, u32) {
    let narrow = |n| u32::try_from(n).expect("a request head is less than 4 GiB");
    (narrow(start), narrow(end))
}
