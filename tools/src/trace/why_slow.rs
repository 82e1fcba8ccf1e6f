//! The slowest requests, and the share of each hop.

use std::collections::BTreeMap;
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

/// The hops of a request of one kind and with one thing to say of them: a long
/// response waits for its peer many times.
struct Part<'h> {
    kind: HopKind,
    note: &'h str,
    spent: u64,
    times: usize,
}

/// The longest first.
fn parts(hops: &[Hop]) -> Vec<Part<'_>> {
    let mut by_cause: BTreeMap<(HopKind, &str), (u64, usize)> = BTreeMap::new();
    for hop in hops {
        let (spent, times) = by_cause.entry((hop.kind, &hop.note)).or_default();
        *spent += hop.len_ns();
        *times += 1;
    }
    let part = |((kind, note), (spent, times))| Part {
        kind,
        note,
        spent,
        times,
    };
    let mut parts: Vec<_> = by_cause.into_iter().map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.spent));
    parts
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
        let matters = |(place, part): &(usize, Part)| {
            let share = percent(part.spent, total);
            *place == 0 || (*place < MOST_HOPS && share >= LEAST_PERCENT)
        };
        let mut told = 0;
        let all = parts(&journey.hops).into_iter().enumerate();
        for (_, part) in all.filter(matters) {
            told += part.spent;
            let (share, len) = (percent(part.spent, total), duration(part.spent));
            write!(f, "  {share:>5.1} %  {len:>9}  {}", part.kind.words())?;
            if part.times > 1 {
                write!(f, ", {} times", part.times)?;
            }
            match part.note {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_of_one_cause_are_summed_and_the_longest_cause_is_first() {
        let hop = |kind, from_ns, to_ns, note: &str| Hop {
            kind,
            from_ns,
            to_ns,
            note: note.to_owned(),
        };
        let hops = [
            hop(HopKind::Handler, 0, 40, ""),
            hop(HopKind::WindowWait, 40, 70, "for the peer's ACKs"),
            hop(HopKind::Handler, 70, 75, ""),
            hop(HopKind::WindowWait, 75, 95, "for the peer's ACKs"),
            hop(HopKind::WindowWait, 95, 100, "the window was shut"),
        ];
        let told: Vec<_> = parts(&hops)
            .iter()
            .map(|part| (part.kind, part.spent, part.times))
            .collect();
        assert_eq!(
            told,
            [
                (HopKind::WindowWait, 50, 2),
                (HopKind::Handler, 45, 2),
                (HopKind::WindowWait, 5, 1)
            ]
        );
    }
}
