//! One request as a tree: its hops, and below each the stages that it passed.

use std::fmt;

use serde::Serialize;
use wirepath::runtime::trace::Kind;
use wirepath::see::journey::{Hop, Journey};

use super::{duration, title};

/// A request, with its number in the recording.
#[derive(Serialize)]
pub struct Tree<'j> {
    number: usize,
    #[serde(flatten)]
    journey: &'j Journey,
}

impl<'j> Tree<'j> {
    pub fn new(number: usize, journey: &'j Journey) -> Tree<'j> {
        Tree { number, journey }
    }

    /// The stages passed from `from` to before `to`, by time.
    fn stages(&self, from: u64, to: u64) -> Vec<(Kind, u64)> {
        let at = |kind: Kind| Some((kind, self.journey.stages[kind as usize - 1]?));
        let mut passed: Vec<_> = Kind::STAGES.into_iter().filter_map(at).collect();
        passed.retain(|(_, at)| (from..to).contains(at));
        passed.sort_by_key(|(kind, at)| (*at, *kind));
        passed
    }

    fn hop(&self, f: &mut fmt::Formatter<'_>, hop: &Hop, is_last: bool) -> fmt::Result {
        let (branch, below) = if is_last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        let since = duration(hop.from_ns - self.journey.start);
        let len = duration(hop.len_ns());
        write!(f, "{branch} {since:>9}  +{len:<9} {}", hop.kind.words())?;
        match hop.note.as_str() {
            "" => writeln!(f)?,
            note => writeln!(f, ": {note}")?,
        }
        let to = if is_last { u64::MAX } else { hop.to_ns };
        for (kind, at) in self.stages(hop.from_ns, to) {
            let at = duration(at - self.journey.start);
            writeln!(f, "{below} {at:>9}   {:>2} {kind}", kind as u8)?;
        }
        Ok(())
    }
}

impl fmt::Display for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let journey = self.journey;
        let total = duration(journey.total_ns());
        writeln!(f, "#{}  {}  {total}", self.number, title(journey))?;
        let peer = if journey.peer.is_empty() {
            ""
        } else {
            " from "
        };
        let nth = journey.nth.map_or(String::new(), |n| {
            format!(", request {n} of its connection")
        });
        writeln!(
            f,
            "fd {}{peer}{}{nth}; route «{}»; goroutine {}; {} bytes in, {} out",
            journey.fd,
            journey.peer,
            journey.route,
            journey.goroutine,
            journey.bytes_in,
            journey.bytes_out
        )?;
        let last = journey.hops.len().saturating_sub(1);
        for (place, hop) in journey.hops.iter().enumerate() {
            self.hop(f, hop, place == last)?;
        }
        Ok(())
    }
}
