//! Why a request goes where it goes: for `wirepath mux`, and for the tests of
//! who has many patterns.
//!
//! Nothing here is on a request's way. Each pattern is asked alone, through a
//! tree of its own, so that what is told cannot differ from what is done.

use std::cmp::Reverse;
use std::sync::Arc;

use super::conflict::{self, Relation};
use super::pattern::Pattern;
use super::tree::{Spans, Tree};
use super::{Route, ServeMux, redirect_target};
use crate::request::Request;
use crate::response;

/// What a mux does with a request, and which patterns match it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What answers.
    pub answer: Answer,
    /// Every pattern that matches, the most specific one first. Where the
    /// answer is a redirect these are for the path that was asked for, cleaned.
    pub matching: Vec<Match>,
}

/// What a mux answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The handler of this pattern.
    Handler(String),
    /// 307, to this target.
    Redirect(String),
    /// 405, with this `Allow`.
    MethodNotAllowed(String),
    /// 404.
    NotFound,
    /// 400: the target is `*`.
    BadRequest,
}

/// A pattern that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// As it was registered.
    pub pattern: String,
    /// Why the first pattern of the list takes precedence; empty for that one.
    pub why_less_specific: String,
}

impl ServeMux {
    /// Says which patterns match a request, and what would answer it.
    pub fn explain(&self, r: &Request) -> Explanation {
        let answer = match self.route(r, &mut Spans::new()) {
            _ if r.is_asterisk() => Answer::BadRequest,
            Route::Found(leaf) => Answer::Handler(leaf.pattern.to_string()),
            Route::Redirect(path) => Answer::Redirect(redirect_target(r, path)),
            Route::NotAllowed(allow) => Answer::MethodNotAllowed(allow),
            Route::NotFound => Answer::NotFound,
        };
        let matching = match answer {
            Answer::BadRequest => Vec::new(),
            _ => self.matching(r),
        };
        Explanation { answer, matching }
    }

    fn matching(&self, r: &Request) -> Vec<Match> {
        let (host, path) = self.key(r);
        let method = r.method().as_str().as_bytes();
        let matches = |pattern: &&Arc<Pattern>| {
            let mut alone = Tree::default();
            let added = alone.add(pattern, Box::new(response::not_found));
            let found = alone.find(host, method, &path, &mut Spans::new());
            added.is_ok() && found.is_some()
        };
        let mut found: Vec<_> = self.index.patterns().filter(matches).collect();
        // Of two that match the same request one is more specific: else they
        // would conflict.
        let more_general = |p: &Pattern| found.iter().filter(|q| is_before(p, q)).count();
        let ranks: Vec<_> = found.iter().map(|p| more_general(p)).collect();
        let mut ranked: Vec<_> = ranks.into_iter().zip(found.drain(..)).collect();
        ranked.sort_by_key(|(rank, _)| Reverse(*rank));
        let first = ranked.first().map(|(_, p)| (*p).clone());
        let tell = |(at, (_, p)): (usize, &(usize, &Arc<Pattern>))| Match {
            pattern: p.to_string(),
            why_less_specific: match &first {
                Some(first) if at > 0 => why(first, p),
                _ => String::new(),
            },
        };
        ranked.iter().enumerate().map(tell).collect()
    }
}

/// Whether `a` takes precedence over `b`, both matching some request.
fn is_before(a: &Pattern, b: &Pattern) -> bool {
    match (a.host.is_empty(), b.host.is_empty()) {
        (false, true) => true,
        (true, false) => false,
        _ => conflict::relation(a, b) == Relation::MoreSpecific,
    }
}

/// Why `first` takes precedence over `other`.
fn why(first: &Pattern, other: &Pattern) -> String {
    if !first.host.is_empty() && other.host.is_empty() {
        return format!("it names no host, and {first} does");
    }
    if conflict::paths(first, other) == Relation::MoreSpecific {
        let more = conflict::difference_path(other, first);
        return format!("it matches more paths than {first}, like {more:?}");
    }
    format!("it matches more methods than {first}")
}
