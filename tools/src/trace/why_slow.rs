//! The slowest requests, and the share of each hop.

use std::fmt;

use serde::Serialize;
use wirepath::see::journey::{Hop, HopKind, Journey};

use super::{duration, percent, title};

/// Hops that are named of one request at most: those that matter.
const MOST_HOPS: usize = 6;
/// And none below this, percent, but for the longest.
const LEAST_PERCENT: f64 = 1.0;

/// Why the slowest are slow.
#[derive(Serialize)]
pub struct WhySlow {
    requests: usize,
    slowest: Vec<Slow>,
    /// Where the time of the slowest hundredth went, and that of the others.
    tail: Vec<Share>,
    tail_requests: usize,
}

/// A slow request: its number, and it.
#[derive(Serialize)]
struct Slow {
    number: usize,
    total_ns: u64,
    #[serde(flatten)]
    journey: Journey,
}

#[derive(Serialize)]
struct Share {
    kind: HopKind,
    tail_percent: f64,
    rest_percent: f64,
}

impl WhySlow {
    pub fn of(told: &[Journey], most: usize) -> WhySlow {
        let mut by_time: Vec<(usize, &Journey)> = (1..).zip(told).collect();
        by_time.sort_by_key(|(_, j)| std::cmp::Reverse(j.total_ns()));
        let tail_requests = told.len().div_ceil(100);
        let (tail, rest) = by_time.split_at(tail_requests.min(by_time.len()));
        let slow = |(number, journey): &(usize, &Journey)| Slow {
            number: *number,
            total_ns: journey.total_ns(),
            journey: (*journey).clone(),
        };
        WhySlow {
            requests: told.len(),
            slowest: by_time.iter().take(most).map(slow).collect(),
            tail: shares(tail, rest),
            tail_requests,
        }
    }
}

/// Of each kind of hop that is in the tail, the longest first.
fn shares(tail: &[(usize, &Journey)], rest: &[(usize, &Journey)]) -> Vec<Share> {
    let share = |of: &[(usize, &Journey)], kind| {
        let spent = of.iter().map(|(_, j)| j.spent_ns(kind)).sum();
        percent(spent, of.iter().map(|(_, j)| j.total_ns()).sum())
    };
    let both = HopKind::ALL.into_iter().map(|kind| Share {
        kind,
        tail_percent: share(tail, kind),
        rest_percent: share(rest, kind),
    });
    let mut shares: Vec<Share> = both.filter(|s| s.tail_percent >= LEAST_PERCENT).collect();
    shares.sort_by(|a, b| b.tail_percent.total_cmp(&a.tail_percent));
    shares
}

impl fmt::Display for WhySlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requests == 0 {
            return writeln!(f, "the recording has no request");
        }
        writeln!(
            f,
            "the slowest {} of {} requests",
            self.slowest.len(),
            self.requests
        )?;
        for slow in &self.slowest {
            writeln!(f)?;
            slow.fmt(f)?;
        }
        let which = match self.tail_requests {
            1 => "of the slowest request".to_owned(),
            n => format!("of the slowest {n} (1 %)"),
        };
        writeln!(f, "\nwhere the time {which} went, and that of the others")?;
        for share in &self.tail {
            writeln!(
                f,
                "  {:>5.1} %  {:>5.1} %  {}",
                share.tail_percent,
                share.rest_percent,
                share.kind.words()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let journey = &self.journey;
        let total = self.total_ns;
        writeln!(
            f,
            "#{}  {}  {} on fd {}, goroutine {}",
            self.number,
            title(journey),
            duration(total),
            journey.fd,
            journey.goroutine
        )?;
        let mut hops: Vec<&Hop> = journey.hops.iter().collect();
        hops.sort_by_key(|hop| std::cmp::Reverse(hop.len_ns()));
        let matters = |(place, hop): &(usize, &Hop)| {
            let share = percent(hop.len_ns(), total);
            *place == 0 || (*place < MOST_HOPS && share >= LEAST_PERCENT)
        };
        let mut told = 0;
        for (_, hop) in hops.into_iter().enumerate().filter(matters) {
            told += hop.len_ns();
            let (share, len) = (percent(hop.len_ns(), total), duration(hop.len_ns()));
            write!(f, "  {share:>5.1} %  {len:>9}  {}", hop.kind.words())?;
            match hop.note.as_str() {
                "" => writeln!(f)?,
                note => writeln!(f, ": {note}")?,
            }
        }
        let left = total - told;
        if left > 0 {
            let (share, len) = (percent(left, total), duration(left));
            writeln!(f, "  {share:>5.1} %  {len:>9}  all else")?;
        }
        Ok(())
    }
}
