//! The index that finds, for a new pattern, those it could conflict with.
//!
//! Comparing each new pattern with all that are there makes registering n of
//! them cost n². Two patterns can share a request only if at each position
//! their literals are the same or one has a wildcard there, so it is enough to
//! look at the patterns under one well-chosen position.

use std::collections::HashMap;
use std::sync::Arc;

use super::pattern::Pattern;

type Patterns = Vec<Arc<Pattern>>;
/// A position and the literal there; `None` for a wildcard for one segment.
type Key = (usize, Option<Box<[u8]>>);

/// Every registered pattern, by the segments it has.
#[derive(Default)]
pub(super) struct Index {
    segments: HashMap<Key, Patterns>,
    /// Those that end in a wildcard for the rest. They are few, and are all
    /// looked at.
    multis: Patterns,
    /// Those without a single literal, which may share a request with any of
    /// the same length, and those which such a one must be compared with.
    by_length: HashMap<usize, Patterns>,
}

impl Index {
    pub fn add(&mut self, pattern: &Arc<Pattern>) {
        if pattern.last().multi {
            self.multis.push(pattern.clone());
            return;
        }
        for (position, segment) in pattern.segments.iter().enumerate() {
            let key = (!segment.wild).then(|| segment.text.clone());
            let patterns = self.segments.entry((position, key)).or_default();
            patterns.push(pattern.clone());
        }
        let same_length = self.by_length.entry(pattern.segments.len()).or_default();
        same_length.push(pattern.clone());
    }

    /// Every registered pattern.
    pub fn patterns(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.multis.iter().chain(self.by_length.values().flatten())
    }

    /// The first registered pattern that `conflicts` says yes to, of those
    /// that could.
    pub fn find(
        &self,
        pattern: &Pattern,
        conflicts: impl Fn(&Pattern) -> bool,
    ) -> Option<&Arc<Pattern>> {
        let first_in = |patterns: &'_ [Arc<Pattern>]| patterns.iter().position(|p| conflicts(p));
        if let Some(at) = first_in(&self.multis) {
            return Some(&self.multis[at]);
        }
        for patterns in self.candidates(pattern) {
            if let Some(at) = first_in(patterns) {
                return Some(&patterns[at]);
            }
        }
        None
    }

    /// Lists that together hold every pattern without a wildcard for the rest
    /// that shares a request with `pattern`.
    fn candidates(&self, pattern: &Pattern) -> Vec<&[Arc<Pattern>]> {
        let at = |position, literal: Option<&[u8]>| -> &[Arc<Pattern>] {
            let key = (position, literal.map(Box::from));
            self.segments.get(&key).map_or(&[], Vec::as_slice)
        };
        let literals = pattern.segments.iter().enumerate().filter(|(_, s)| !s.wild);
        let fewest = literals
            .map(|(i, s)| match s.is_end() {
                true => [at(i, Some(b"/")), &[]],
                false => [at(i, Some(&s.text)), at(i, None)],
            })
            .min_by_key(|[literal, wild]| literal.len() + wild.len());
        if let Some(lists) = fewest {
            return lists.to_vec();
        }
        // All wildcards. One that ends in a wildcard for the rest reaches
        // every pattern at least as long as what comes before it.
        let length = pattern.segments.len();
        if pattern.last().multi {
            let longer = self.by_length.iter().filter(|(n, _)| **n >= length);
            longer.map(|(_, p)| p.as_slice()).collect()
        } else {
            self.by_length.get(&length).map_or(Vec::new(), |p| vec![p])
        }
    }
}
