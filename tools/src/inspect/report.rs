//! What is told when a file was read whole.

use std::collections::BTreeMap;
use std::io::{self, Write};

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use serde::Serialize;

use super::flow::{Conversation, Rows, SideRow, State, TcpRow};
use super::http::report::Sums;
use super::read::{Complaints, Interface, Reader, Record};
use super::tcp::Counts;
use super::tcp::stall::{Cause, Stall, Stalls};
use crate::trace::duration;

/// Conversations that the summary lists, the largest.
const LARGEST: usize = 10;
/// Pauses that the summary lists, the longest.
const LONGEST_STALLS: usize = 10;
/// Round trips above this are counted as this (nanoseconds): ten minutes.
const MAX_TIMED_NS: u64 = 600_000_000_000;

/// What the packets sum up to.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Packets that the filter took.
    pub packets: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Bytes that were captured of them.
    pub captured_bytes: u64,
    /// The first packet's time, in nanoseconds since 1970.
    pub first_ns: i64,
    /// The latest packet's.
    pub last_ns: i64,
    /// Bytes that came again under the same numbers and were others.
    pub conflicting_bytes: u64,
}

impl Totals {
    /// Counts a packet.
    pub fn add(&mut self, record: &Record<'_>) {
        if self.packets == 0 {
            (self.first_ns, self.last_ns) = (record.at_ns, record.at_ns);
        }
        self.packets += 1;
        self.bytes += u64::from(record.original);
        self.captured_bytes += record.data.len() as u64;
        self.first_ns = self.first_ns.min(record.at_ns);
        self.last_ns = self.last_ns.max(record.at_ns);
    }

    fn span_ns(&self) -> u64 {
        self.last_ns
            .saturating_sub(self.first_ns)
            .max(0)
            .unsigned_abs()
    }
}

/// A file, summed up.
#[derive(Serialize)]
pub struct Report {
    format: String,
    interfaces: Vec<Interface>,
    tls_secrets: u64,
    #[serde(flatten)]
    totals: Totals,
    tcp: TcpTotals,
    http: Sums,
    largest: Vec<Conversation>,
    conversations: usize,
    conversations_left_out: u64,
    conversations_forgotten: u64,
    complaints: Complaints,
    #[serde(skip)]
    rows: Vec<Conversation>,
}

/// All connections of a file.
#[derive(Default, Serialize)]
struct TcpTotals {
    connections: usize,
    states: BTreeMap<&'static str, usize>,
    handshakes: Option<Spread>,
    round_trips: Option<Spread>,
    data_bytes: u64,
    again_bytes: u64,
    missed_bytes: u64,
    findings: Counts,
    stalls: Vec<StallSum>,
    longest_stalls: Vec<LongStall>,
}

/// Times of many connections, nanoseconds.
#[derive(Serialize)]
struct Spread {
    count: u64,
    min_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

impl Spread {
    fn of(times: impl Iterator<Item = i64>) -> Option<Spread> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, MAX_TIMED_NS, 3)
            .expect("bounds that are in order");
        for ns in times {
            histogram.saturating_record(ns.max(0).unsigned_abs());
        }
        (!histogram.is_empty()).then(|| Spread {
            count: histogram.len(),
            min_ns: histogram.min(),
            p50_ns: histogram.value_at_quantile(0.5),
            p99_ns: histogram.value_at_quantile(0.99),
            max_ns: histogram.max(),
        })
    }

    fn words(&self) -> String {
        format!(
            "{} timed, least {}, median {}, 99 % {}, most {}",
            self.count,
            duration(self.min_ns),
            duration(self.p50_ns),
            duration(self.p99_ns),
            duration(self.max_ns)
        )
    }
}

#[derive(Serialize)]
struct StallSum {
    cause: Cause,
    count: u32,
    ns: i64,
}

#[derive(Serialize)]
struct LongStall {
    stream: u32,
    #[serde(flatten)]
    stall: Stall,
}

impl TcpTotals {
    fn of(rows: &[Conversation]) -> TcpTotals {
        let mut totals = TcpTotals::default();
        let mut stalls = Stalls::default();
        for row in rows {
            if let Some(tcp) = &row.tcp {
                totals.add(tcp);
                stalls.merge(tcp.sums());
            }
        }
        let sums = stalls.iter();
        totals.stalls = sums
            .map(|(cause, count, ns)| StallSum { cause, count, ns })
            .collect();
        totals.handshakes = Spread::of(tcps(rows).filter_map(|tcp| tcp.handshake_ns));
        totals.round_trips = Spread::of(sides(rows).filter_map(|side| side.round_trips.mean_ns()));
        totals.longest_stalls = longest(rows);
        totals
    }

    fn add(&mut self, tcp: &TcpRow) {
        self.connections += 1;
        *self.states.entry(tcp.state.words()).or_default() += 1;
        for side in [&tcp.client, &tcp.server] {
            self.data_bytes += side.data_bytes;
            self.again_bytes += side.again_bytes;
            self.missed_bytes += side.missed_bytes;
            self.findings.merge(&side.findings);
        }
    }
}

fn tcps(rows: &[Conversation]) -> impl Iterator<Item = &TcpRow> {
    rows.iter().filter_map(|row| row.tcp.as_deref())
}

fn sides(rows: &[Conversation]) -> impl Iterator<Item = &SideRow> {
    tcps(rows).flat_map(|tcp| [&tcp.client, &tcp.server])
}

/// The longest pauses in which somebody waited for data.
fn longest(rows: &[Conversation]) -> Vec<LongStall> {
    let mut kept: Vec<LongStall> = Vec::new();
    for row in rows {
        for stall in row.tcp.iter().flat_map(|tcp| &tcp.stalls) {
            if stall.cause.is_trouble() {
                kept.push(LongStall {
                    stream: row.stream,
                    stall: *stall,
                });
            }
        }
    }
    kept.sort_by_key(|long| -long.stall.ns);
    kept.truncate(LONGEST_STALLS);
    kept
}

impl Report {
    /// Sums a file up that was read.
    pub fn of(reader: &Reader, totals: Totals, rows: Rows, http: Sums) -> Report {
        Report {
            format: reader.format(),
            interfaces: reader.interfaces().to_vec(),
            tls_secrets: reader.secrets(),
            totals,
            tcp: TcpTotals::of(&rows.all),
            http,
            largest: largest(&rows.all),
            conversations: rows.all.len(),
            conversations_left_out: rows.left_out,
            conversations_forgotten: rows.forgotten,
            complaints: reader.complaints().clone(),
            rows: rows.all,
        }
    }

    /// All conversations.
    pub fn rows(&self) -> &[Conversation] {
        &self.rows
    }

    /// Those of TCP.
    pub fn connections(&self) -> impl Iterator<Item = &Conversation> {
        self.rows.iter().filter(|row| row.tcp.is_some())
    }

    /// The summary, for people.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        self.print_file(out)?;
        self.print_tcp_totals(out)?;
        self.http.print(out)?;
        if !self.largest.is_empty() {
            let which = match self.conversations > self.largest.len() {
                true => format!(
                    "The {LARGEST} largest of {} conversations",
                    HumanCount(self.conversations as u64)
                ),
                false => "Conversations".to_string(),
            };
            writeln!(out, "\n{which}")?;
            self.print_rows(&self.largest, out)?;
        }
        self.print_left_out(out)
    }

    fn print_file(&self, out: &mut dyn Write) -> io::Result<()> {
        let totals = &self.totals;
        let (packets, bytes) = (HumanCount(totals.packets), HumanBytes(totals.bytes));
        writeln!(
            out,
            "{}: {packets} packets, {bytes} on the wire",
            self.format
        )?;
        if totals.captured_bytes < totals.bytes {
            writeln!(
                out,
                "  {} of them captured (snap length)",
                HumanBytes(totals.captured_bytes)
            )?;
        }
        if totals.packets > 0 {
            let start = Timestamp::from_nanosecond(i128::from(totals.first_ns));
            let start =
                start.map_or_else(|_| "a time that is no date".into(), |time| time.to_string());
            writeln!(out, "  {} from {start} on", duration(totals.span_ns()))?;
        }
        for (number, interface) in self.interfaces.iter().take(LARGEST).enumerate() {
            writeln!(out, "  interface {number}: {}", interface_words(interface))?;
        }
        if self.interfaces.len() > LARGEST {
            writeln!(
                out,
                "  and {} more interfaces",
                self.interfaces.len() - LARGEST
            )?;
        }
        if self.tls_secrets > 0 {
            writeln!(out, "  {} blocks of TLS secrets", self.tls_secrets)?;
        }
        Ok(())
    }

    fn print_tcp_totals(&self, out: &mut dyn Write) -> io::Result<()> {
        let tcp = &self.tcp;
        if tcp.connections == 0 {
            return Ok(());
        }
        let states: Vec<String> = tcp
            .states
            .iter()
            .map(|(state, count)| format!("{} {state}", HumanCount(*count as u64)))
            .collect();
        writeln!(
            out,
            "\nTCP: {} connections, {}",
            HumanCount(tcp.connections as u64),
            states.join(", ")
        )?;
        for (what, spread) in [
            ("handshakes", &tcp.handshakes),
            ("round trips", &tcp.round_trips),
        ] {
            if let Some(spread) = spread {
                writeln!(out, "  {what:<12} {}", spread.words())?;
            }
        }
        let again = tcp.again_bytes as f64 * 100.0 / tcp.data_bytes.max(1) as f64;
        write!(out, "  {:<12} {}", "data", HumanBytes(tcp.data_bytes))?;
        writeln!(
            out,
            ", of it {} sent again ({again:.2} %)",
            HumanBytes(tcp.again_bytes)
        )?;
        if tcp.missed_bytes > 0 {
            writeln!(
                out,
                "  {:<12} {} arrived that the capture lacks",
                "missed",
                HumanBytes(tcp.missed_bytes)
            )?;
        }
        if self.totals.conflicting_bytes > 0 {
            writeln!(
                out,
                "  {:<12} {} came again as other bytes under the same numbers: corruption, or an attack",
                "conflicts",
                HumanBytes(self.totals.conflicting_bytes)
            )?;
        }
        for (finding, count) in tcp.findings.iter() {
            writeln!(
                out,
                "  {:>12} {}",
                HumanCount(count.into()),
                finding.words()
            )?;
        }
        self.print_stalls(out)
    }

    fn print_stalls(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.tcp.stalls.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nStood still")?;
        for sum in &self.tcp.stalls {
            let (count, ns) = (HumanCount(sum.count.into()), sum.ns.unsigned_abs());
            writeln!(
                out,
                "  {count:>8}× {:>10}  {}",
                duration(ns),
                sum.cause.words()
            )?;
        }
        for long in &self.tcp.longest_stalls {
            writeln!(out, "  {}", self.stall_words(long.stream, &long.stall))?;
        }
        Ok(())
    }

    fn stall_words(&self, stream: u32, stall: &Stall) -> String {
        format!(
            "stream {stream}, at {}: {} ({}), until packet {}",
            duration(
                stall
                    .since_ns
                    .saturating_sub(self.totals.first_ns)
                    .max(0)
                    .unsigned_abs()
            ),
            duration(stall.ns.unsigned_abs()),
            stall.cause.words(),
            stall.packet
        )
    }

    /// Conversations as a table, for people.
    pub fn print_conversations(&self, out: &mut dyn Write) -> io::Result<()> {
        self.print_rows(&self.rows, out)?;
        self.print_left_out(out)
    }

    fn print_left_out(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.conversations_left_out > 0 {
            writeln!(
                out,
                "{} more conversations are not listed, for want of room",
                HumanCount(self.conversations_left_out)
            )?;
        }
        if self.conversations_forgotten > 0 {
            writeln!(
                out,
                "{} conversations were split: more went on at a time than can be followed",
                HumanCount(self.conversations_forgotten)
            )?;
        }
        Ok(())
    }

    fn print_rows(&self, rows: &[Conversation], out: &mut dyn Write) -> io::Result<()> {
        let width = rows
            .iter()
            .map(|row| ends(row).chars().count())
            .max()
            .unwrap_or(0)
            .max(16);
        writeln!(
            out,
            "{:>7} {:<5} {:<width$} {:>11} {:>11} {:>10} {:>10}  state",
            "stream", "", "client → server", "→ bytes", "← bytes", "from", "lasts"
        )?;
        for row in rows {
            let state = row.tcp.as_ref().map_or("", |tcp| tcp.state.words());
            let since = row
                .first_ns
                .saturating_sub(self.totals.first_ns)
                .max(0)
                .unsigned_abs();
            writeln!(
                out,
                "{:>7} {:<5} {:<width$} {:>11} {:>11} {:>10} {:>10}  {state}",
                row.stream,
                row.protocol.name(),
                ends(row),
                HumanBytes(row.from_client.bytes).to_string(),
                HumanBytes(row.from_server.bytes).to_string(),
                duration(since),
                duration(row.duration_ns.max(0).unsigned_abs()),
            )?;
        }
        Ok(())
    }

    /// Each connection, for people.
    pub fn print_tcp(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in &self.rows {
            if let Some(tcp) = &row.tcp {
                self.print_connection(row, tcp, out)?;
            }
        }
        self.print_left_out(out)
    }

    fn print_connection(
        &self,
        row: &Conversation,
        tcp: &TcpRow,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        writeln!(
            out,
            "stream {}: {}, {}",
            row.stream,
            ends(row),
            tcp.state.words()
        )?;
        if let Some(ns) = tcp.handshake_ns {
            writeln!(out, "  handshake in {}", duration(ns.max(0).unsigned_abs()))?;
        } else if tcp.state != State::Midstream {
            writeln!(out, "  no whole handshake")?;
        }
        for (name, side, volume) in [
            ("client", &tcp.client, row.from_client),
            ("server", &tcp.server, row.from_server),
        ] {
            writeln!(out, "  {name}: {}", side_words(side, volume.packets))?;
        }
        for stall in &tcp.stalls {
            writeln!(out, "  {}", self.stall_words(row.stream, stall))?;
        }
        Ok(())
    }
}

fn ends(row: &Conversation) -> String {
    format!("{} → {}", row.client, row.server)
}

fn largest(rows: &[Conversation]) -> Vec<Conversation> {
    let bytes = |row: &Conversation| row.from_client.bytes + row.from_server.bytes;
    let mut order: Vec<&Conversation> = rows.iter().collect();
    order.sort_by_key(|row| std::cmp::Reverse(bytes(row)));
    order.into_iter().take(LARGEST).cloned().collect()
}

fn interface_words(interface: &Interface) -> String {
    let mut words = match &interface.name {
        Some(name) => format!("{}, {}", name.escape_debug(), interface.link_name()),
        None => interface.link_name(),
    };
    if interface.snap_len > 0 && interface.snap_len < 65_535 {
        words += &format!(", snap length {}", interface.snap_len);
    }
    for (count, what) in [
        (interface.received, "received"),
        (interface.dropped_by_device, "dropped by the device"),
        (interface.dropped_by_system, "dropped by the system"),
    ] {
        if let Some(count) = count {
            words += &format!(", {} {what}", HumanCount(count));
        }
    }
    words
}

fn side_words(side: &SideRow, packets: u64) -> String {
    let mut words = format!(
        "{} packets, {} of data",
        HumanCount(packets),
        HumanBytes(side.data_bytes)
    );
    if let Some(mss) = side.mss {
        words += &format!(", MSS {mss}");
    }
    if let Some(ns) = side.round_trips.mean_ns() {
        let trips = &side.round_trips;
        let [least, mean, most] =
            [trips.min_ns, ns, trips.max_ns].map(|ns| duration(ns.unsigned_abs()));
        words += &format!(
            ", round trips {least} / {mean} / {most} (least, mean, most of {})",
            trips.count
        );
    }
    for (finding, count) in side.findings.iter() {
        words += &format!(", {count} {}", finding.words());
    }
    if side.missed_bytes > 0 {
        words += &format!(", {} not captured", HumanBytes(side.missed_bytes));
    }
    words
}
