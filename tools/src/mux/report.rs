//! What `wirepath mux` tells, to people and as JSON.

use std::fmt;

use serde::Serialize;
use wirepath::{Answer, Explanation, RegisterError, Request};

/// All that there is to tell.
#[derive(Serialize)]
pub struct Report {
    /// How many patterns were registered.
    pub registered: usize,
    /// Those that were not.
    pub faults: Vec<Fault>,
    /// What becomes of the request, if there was one.
    pub outcome: Option<Outcome>,
}

/// Why a pattern was not registered.
#[derive(Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// It is none.
    Pattern {
        pattern: String,
        offset: usize,
        reason: String,
    },
    /// It conflicts with one that was there.
    Conflict {
        pattern: String,
        other: String,
        reason: String,
        example: String,
    },
    /// Anything else.
    Other { reason: String },
}

/// What becomes of a request.
#[derive(Serialize)]
pub struct Outcome {
    method: String,
    host: String,
    target: String,
    status: Option<u16>,
    pattern: Option<String>,
    location: Option<String>,
    allow: Option<String>,
    matching: Vec<Matching>,
}

/// A pattern that matches.
#[derive(Serialize)]
struct Matching {
    pattern: String,
    why_less_specific: String,
}

impl Fault {
    pub fn new(error: RegisterError) -> Fault {
        match error {
            RegisterError::Pattern(e) => Fault::Pattern {
                reason: e.kind.to_string(),
                pattern: e.pattern,
                offset: e.offset,
            },
            RegisterError::Conflict {
                pattern,
                other,
                reason,
                example,
                ..
            } => Fault::Conflict {
                pattern,
                other,
                reason: reason.into(),
                example: example.into(),
            },
            other => Fault::Other {
                reason: other.to_string(),
            },
        }
    }
}

impl Outcome {
    pub fn new(r: &Request, explained: Explanation) -> Outcome {
        let mut outcome = Outcome {
            method: r.method().to_string(),
            host: r.host().to_string(),
            target: r.target().to_string(),
            status: None,
            pattern: None,
            location: None,
            allow: None,
            matching: Vec::new(),
        };
        match explained.answer {
            Answer::Handler(pattern) => outcome.pattern = Some(pattern),
            Answer::Redirect(to) => (outcome.status, outcome.location) = (Some(307), Some(to)),
            Answer::MethodNotAllowed(allow) => {
                (outcome.status, outcome.allow) = (Some(405), Some(allow));
            }
            Answer::BadRequest => outcome.status = Some(400),
            _ => outcome.status = Some(404),
        }
        let matching = explained.matching.into_iter().map(|m| Matching {
            pattern: m.pattern,
            why_less_specific: m.why_less_specific,
        });
        outcome.matching = matching.collect();
        outcome
    }
}

impl Report {
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names are text and nothing is a map")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        match &self.outcome {
            Some(outcome) => write!(f, "{outcome}"),
            None => writeln!(f, "patterns registered: {}", self.registered),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Pattern {
                pattern,
                offset,
                reason,
            } => {
                let before = pattern.get(..*offset).unwrap_or(pattern);
                let columns = before.chars().count();
                writeln!(f, "not a pattern:\n  {}", shown(pattern))?;
                writeln!(f, "  {:columns$}^ {}", "", shown(reason))
            }
            Fault::Conflict {
                pattern,
                other,
                reason,
                example,
            } => {
                writeln!(f, "conflict: {} with {}", shown(pattern), shown(other))?;
                for line in reason.lines() {
                    writeln!(f, "  {}", shown(line))?;
                }
                writeln!(f, "  both match: {}", shown(example))
            }
            Fault::Other { reason } => writeln!(f, "{}", shown(reason)),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { method, target, .. } = self;
        writeln!(f, "{method} {target} (host {:?})", self.host)?;
        match (&self.pattern, &self.location, &self.allow) {
            (Some(pattern), ..) => writeln!(f, "  {} answers", shown(pattern))?,
            (_, Some(to), _) => writeln!(f, "  307 Temporary Redirect to {to}")?,
            (.., Some(allow)) => writeln!(f, "  405 Method Not Allowed, Allow: {allow}")?,
            _ if self.status == Some(400) => writeln!(f, "  400 Bad Request: no mux answers `*`")?,
            _ => writeln!(f, "  404 Not Found: no pattern matches")?,
        }
        for matching in &self.matching {
            let pattern = shown(&matching.pattern);
            let why = shown(&matching.why_less_specific);
            match why.is_empty() {
                true if self.pattern.is_some() => {}
                true => writeln!(f, "  {pattern} matches the cleaned path")?,
                false => writeln!(f, "  {pattern} matches too: {why}")?,
            }
        }
        Ok(())
    }
}

/// The text on one line, each character in a column.
fn shown(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}
