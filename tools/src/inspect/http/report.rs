//! Exchanges as lines for people, and what they sum up to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::{Audience, Exchange, Other};
use crate::trace::duration;

/// Targets that are told apart in the summary; the rest is one line.
const MAX_TARGETS: usize = 1_000;
/// Targets that the summary lists, the most frequent.
const LISTED: usize = 10;
/// Of a target as many characters are shown.
const TARGET_WIDTH: usize = 60;
/// Times above this are counted as this (nanoseconds): ten minutes.
const MAX_TIMED_NS: u64 = 600_000_000_000;

/// A line's head.
pub const TITLE: &str = "  packet         time stream  request  status first byte      total       sent   received  target";

/// An exchange's line; its time since the first one that was printed.
pub fn write_line(exchange: &Exchange, first_ns: i64, out: &mut dyn Write) -> io::Result<()> {
    let since = exchange
        .request_first_ns
        .or(exchange.response_first_ns)
        .unwrap_or(first_ns)
        .saturating_sub(first_ns);
    let time = |ns: Option<u64>| ns.map_or("-".to_string(), duration);
    let status = exchange
        .status
        .map_or("-".to_string(), |status| status.to_string());
    writeln!(
        out,
        "{:>8} {:>12.6} {:>6} {:>8}  {status:>6} {:>10} {:>10} {:>10} {:>10}  {} {}{}",
        exchange.packet,
        since as f64 / 1e9,
        exchange.stream,
        exchange.number,
        time(exchange.first_byte_ns()),
        time(exchange.total_ns()),
        HumanBytes(exchange.request_head_bytes + exchange.request_body_bytes).to_string(),
        HumanBytes(exchange.response_head_bytes + exchange.response_body_bytes).to_string(),
        exchange.method.as_deref().unwrap_or("?"),
        target(exchange),
        if exchange.is_whole {
            ""
        } else {
            " (not whole)"
        },
    )
}

/// The target, with nothing in it that moves a terminal.
fn target(exchange: &Exchange) -> String {
    let target = exchange.target.as_deref().unwrap_or("?");
    let mut shown: String = target
        .chars()
        .take(TARGET_WIDTH)
        .flat_map(char::escape_debug)
        .collect();
    if target.chars().count() > TARGET_WIDTH {
        shown.push('…');
    }
    shown
}

/// What the exchanges sum up to.
#[derive(Default, Serialize)]
pub struct Sums {
    /// Exchanges.
    pub exchanges: u64,
    /// Those that are not whole in the capture.
    pub not_whole: u64,
    /// By status; 0 where there was no answer.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that carry something else.
    pub other: BTreeMap<Other, u64>,
    targets: BTreeMap<String, Times>,
    /// Exchanges of targets beyond [`MAX_TARGETS`].
    more_targets: u64,
    all: Times,
    /// For looking up a target.
    #[serde(skip)]
    key: String,
}

/// How long exchanges took.
#[derive(Default)]
struct Times {
    count: u64,
    first_byte: Option<Box<Histogram<u32>>>,
    total: Option<Box<Histogram<u32>>>,
}

impl Times {
    fn add(&mut self, exchange: &Exchange) {
        self.count += 1;
        for (histogram, ns) in [
            (&mut self.first_byte, exchange.first_byte_ns()),
            (&mut self.total, exchange.total_ns()),
        ] {
            if let Some(ns) = ns {
                histogram.get_or_insert_with(fresh).saturating_record(ns);
            }
        }
    }

    fn words(&self) -> String {
        let of = |histogram: &Option<Box<Histogram<u32>>>| {
            histogram.as_ref().map_or("-".to_string(), |histogram| {
                let [half, most] =
                    [0.5, 0.99].map(|share| duration(histogram.value_at_quantile(share)));
                format!("{half:>8} / {most:>8}")
            })
        };
        format!("{}   {}", of(&self.first_byte), of(&self.total))
    }
}

fn fresh() -> Box<Histogram<u32>> {
    // Two digits: a kilobyte or two for each target.
    Box::new(Histogram::new_with_bounds(1_000, MAX_TIMED_NS, 2).expect("bounds that are in order"))
}

impl Serialize for Times {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told {
            count: u64,
            first_byte_p50_ns: Option<u64>,
            first_byte_p99_ns: Option<u64>,
            total_p50_ns: Option<u64>,
            total_p99_ns: Option<u64>,
        }
        let at = |histogram: &Option<Box<Histogram<u32>>>, share| {
            histogram
                .as_ref()
                .map(|histogram| histogram.value_at_quantile(share))
        };
        Told {
            count: self.count,
            first_byte_p50_ns: at(&self.first_byte, 0.5),
            first_byte_p99_ns: at(&self.first_byte, 0.99),
            total_p50_ns: at(&self.total, 0.5),
            total_p99_ns: at(&self.total, 0.99),
        }
        .serialize(serializer)
    }
}

impl Audience for Sums {
    fn exchange(&mut self, exchange: &Exchange) {
        self.exchanges += 1;
        self.not_whole += u64::from(!exchange.is_whole);
        *self
            .statuses
            .entry(exchange.status.unwrap_or(0))
            .or_default() += 1;
        self.all.add(exchange);
        let method = exchange.method.as_deref().unwrap_or("?");
        let path = exchange
            .target
            .as_deref()
            .unwrap_or("?")
            .split('?')
            .next()
            .unwrap_or_default();
        self.key.clear();
        let _ = write!(self.key, "{method} {path}");
        if let Some(times) = self.targets.get_mut(&self.key) {
            times.add(exchange);
        } else if self.targets.len() < MAX_TARGETS {
            let times = self.targets.entry(self.key.clone()).or_default();
            times.add(exchange);
        } else {
            self.more_targets += 1;
        }
    }

    fn other(&mut self, _stream: u32, what: Other) {
        *self.other.entry(what).or_default() += 1;
    }
}

impl Sums {
    /// For people.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.exchanges == 0 && self.other.is_empty() {
            return Ok(());
        }
        let status = |(status, count): (&u16, &u64)| match status {
            0 => format!("{} without an answer", HumanCount(*count)),
            status => format!("{} with {status}", HumanCount(*count)),
        };
        let statuses: Vec<String> = self.statuses.iter().map(status).collect();
        writeln!(
            out,
            "\nHTTP: {} exchanges{}{}",
            HumanCount(self.exchanges),
            if statuses.is_empty() { "" } else { ", " },
            statuses.join(", ")
        )?;
        if self.not_whole > 0 {
            writeln!(
                out,
                "  {} of them are not whole in the capture",
                HumanCount(self.not_whole)
            )?;
        }
        for (what, count) in &self.other {
            writeln!(
                out,
                "  {} connections carry {}",
                HumanCount(*count),
                what.words()
            )?;
        }
        self.print_targets(out)
    }

    fn print_targets(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.exchanges == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "  {:>9}  to the first byte        total (median / 99 %)",
            ""
        )?;
        writeln!(
            out,
            "  {:>9}  {}  all",
            HumanCount(self.all.count).to_string(),
            self.all.words()
        )?;
        let mut targets: Vec<_> = self.targets.iter().collect();
        targets.sort_by_key(|(_, times)| std::cmp::Reverse(times.count));
        for (key, times) in targets.iter().take(LISTED) {
            let key: String = key
                .chars()
                .take(TARGET_WIDTH)
                .flat_map(char::escape_debug)
                .collect();
            writeln!(
                out,
                "  {:>9}  {}  {key}",
                HumanCount(times.count).to_string(),
                times.words()
            )?;
        }
        let rest = targets.len().saturating_sub(LISTED);
        if rest > 0 || self.more_targets > 0 {
            writeln!(
                out,
                "  and {} more targets; `--http` lists each request",
                HumanCount(rest as u64 + self.more_targets)
            )?;
        }
        Ok(())
    }
}
