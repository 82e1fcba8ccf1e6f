//! How much a recording holds, and where its requests' time went.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use wirepath::see::Recording;
use wirepath::see::journey::{HopKind, Journey};

use super::{duration, percent};

/// A recording in numbers.
#[derive(Serialize)]
pub struct Summary {
    pid: u32,
    why: String,
    taken: String,
    events: usize,
    events_lost: u64,
    span_ns: u64,
    frame_bytes: u64,
    requests: usize,
    in_hand: usize,
    by_status: BTreeMap<u16, usize>,
    total: Spread,
    hops: Vec<Hop>,
}

/// Times of many requests, nanoseconds.
#[derive(Serialize)]
struct Spread {
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

#[derive(Serialize)]
struct Hop {
    kind: HopKind,
    /// Of the time of all requests.
    share_percent: f64,
    #[serde(flatten)]
    spread: Spread,
}

impl Spread {
    fn of(mut times: Vec<u64>) -> Spread {
        times.sort_unstable();
        let at = |share: usize| {
            let place = (times.len() * share).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or(0)
        };
        Spread {
            p50_ns: at(50),
            p90_ns: at(90),
            p99_ns: at(99),
            max_ns: at(100),
        }
    }
}

impl Summary {
    pub fn of(recording: &Recording, told: &[Journey]) -> Summary {
        let meta = &recording.meta;
        let events = &recording.events;
        let first = events.first().map_or(0, |e| e.at.0);
        let last = events.last().map_or(0, |e| e.at.0);
        let answered: Vec<&Journey> = told.iter().filter(|j| j.status != 0).collect();
        let mut by_status = BTreeMap::new();
        for journey in &answered {
            *by_status.entry(journey.status).or_default() += 1;
        }
        let whole: u64 = answered.iter().map(|j| j.total_ns()).sum();
        let hop = |kind: HopKind| {
            let times: Vec<u64> = answered.iter().map(|j| j.spent_ns(kind)).collect();
            let spent: u64 = times.iter().sum();
            (spent > 0).then(|| Hop {
                kind,
                share_percent: percent(spent, whole),
                spread: Spread::of(times),
            })
        };
        Summary {
            pid: meta.pid,
            why: meta.why.clone(),
            taken: wall(meta.taken_ns.saturating_add(meta.wall_offset_ns)),
            events: events.len(),
            events_lost: meta.lost,
            span_ns: last.saturating_sub(first),
            frame_bytes: meta.frame_bytes,
            requests: answered.len(),
            in_hand: told.len() - answered.len(),
            total: Spread::of(answered.iter().map(|j| j.total_ns()).collect()),
            by_status,
            hops: HopKind::ALL.into_iter().filter_map(hop).collect(),
        }
    }
}

/// Nanoseconds since the Unix epoch, in UTC.
fn wall(ns: u64) -> String {
    let at = jiff::Timestamp::from_nanosecond(ns.into());
    at.map_or_else(|_| "an unknown time".to_owned(), |at| format!("{at:.3}"))
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "recording of process {}, taken at {} ({})",
            self.pid, self.taken, self.why
        )?;
        writeln!(
            f,
            "{} events over {}, {} before them overwritten",
            self.events,
            duration(self.span_ns),
            self.events_lost
        )?;
        if self.frame_bytes > 0 {
            writeln!(f, "{} bytes of frames (pcapng)", self.frame_bytes)?;
        }
        write!(f, "{} requests answered", self.requests)?;
        for (status, count) in &self.by_status {
            write!(f, ", {count} with {status}")?;
        }
        writeln!(f, "; {} still in hand\n", self.in_hand)?;
        if self.requests == 0 {
            return Ok(());
        }
        let head = ["share", "p50", "p90", "p99", "max"];
        write!(f, "{:<44}", "where their time went")?;
        head.iter().try_for_each(|name| write!(f, "{name:>10}"))?;
        writeln!(f)?;
        for hop in &self.hops {
            write!(f, "{:<44}{:>8.1} %", hop.kind.words(), hop.share_percent)?;
            line(f, &hop.spread)?;
        }
        write!(f, "{:<44}{:>10}", "in all", "")?;
        line(f, &self.total)
    }
}

fn line(f: &mut fmt::Formatter<'_>, spread: &Spread) -> fmt::Result {
    for ns in [spread.p50_ns, spread.p90_ns, spread.p99_ns, spread.max_ns] {
        write!(f, "{:>10}", duration(ns))?;
    }
    writeln!(f)
}
