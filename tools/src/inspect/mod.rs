//! `wirepath inspect`: what a capture holds.
//!
//! A file is read once, forward, whatever its size ([`read`]). Each packet's
//! headers are looked at where they lie ([`packet`]), it is put to its
//! conversation ([`flow`]), and a segment to its connection's analysis ([`tcp`]).
//! Where a view wants what the connections carried, their bytes are put in order
//! ([`stream`]) and read as HTTP ([`http`]). What is printed depends on the view:
//! the packets ([`list`]), rows and sums at the end ([`report`]), requests, one
//! stream ([`follow`]), or files ([`export`]).
//!
//! Everything that grows with a file has a bound of its own, named where it is;
//! what a bound leaves out is counted and said.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::capture::filter::Filter;
use crate::failure::Failure;
use export::Export;
use flow::{Belongs, Flows, When};
use follow::{Files, Follow, Form};
use http::report::Sums;
use http::{Audience, Exchange, Http};
use list::Lines;
use packet::Net;
use read::{Reader, Record};
use report::{Report, Totals};
use row::PacketRow;
use seen::{Seen, Side};
use stream::{Assembler, Listener};
use tcp::Finding;

mod export;
#[cfg(test)]
pub(crate) mod fixture;
pub mod flow;
mod follow;
pub mod http;
pub mod list;
pub mod packet;
pub mod read;
mod report;
pub(crate) mod row;
pub mod seen;
pub mod stream;
pub mod tcp;

/// Options of `wirepath inspect`.
#[derive(Args)]
#[command(group = ArgGroup::new("view"))]
pub struct Options {
    /// The capture: pcap or pcapng, also packed with gzip or zstd; `-` for
    /// standard input.
    file: PathBuf,
    /// Only packets that this filter takes, as `wirepath capture` knows it:
    /// `host 10.0.0.1 and port 80`.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// List the packets, as `tcpdump -nn` does.
    #[arg(short, long, group = "view")]
    packets: bool,
    /// List the conversations.
    #[arg(short, long, group = "view")]
    conversations: bool,
    /// Tell each TCP connection: handshake, round trips, what was sent again,
    /// windows, pauses and their causes.
    #[arg(short, long, group = "view")]
    tcp: bool,
    /// List the segments that are worth a word: retransmissions, missing
    /// segments, closed windows, resets.
    #[arg(short, long, group = "view")]
    events: bool,
    /// List the HTTP requests, with their answers and times.
    #[arg(long, group = "view")]
    http: bool,
    /// Show what a connection carried; its number is that of the other views.
    #[arg(short, long, value_name = "STREAM", group = "view")]
    follow: Option<u32>,
    /// How --follow shows it.
    #[arg(long = "as", value_enum, value_name = "FORM", default_value_t = Form::Text, requires = "follow")]
    form: Form,
    /// Only this side of --follow.
    #[arg(long, value_enum, requires = "follow")]
    side: Option<SideName>,
    /// Write both sides of --follow into files of this directory.
    #[arg(long, value_name = "DIR", requires = "follow")]
    into: Option<PathBuf>,
    /// Write the bodies of requests and answers into files of this directory.
    #[arg(long, value_name = "DIR", group = "view")]
    export: Option<PathBuf>,
    /// Bytes of a file of --export at most, as compressed bodies can become
    /// very long.
    #[arg(long, value_name = "BYTES", default_value_t = export::MAX_OBJECT_BYTES, requires = "export")]
    max_object: u64,
    /// Stop after so many packets that the filter takes.
    #[arg(short = 'n', long, value_name = "N")]
    most: Option<u64>,
    /// A pause of a connection from this length on is told, with its cause.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    stall_ms: u32,
    /// Print times of the list in UTC, not in local time.
    #[arg(long)]
    utc: bool,
    /// Print nanoseconds in the list, not microseconds.
    #[arg(long)]
    nano: bool,
    /// Print JSON: an object a line in the lists, else one object.
    #[arg(long, conflicts_with_all = ["follow", "export"])]
    json: bool,
}

/// A side, as an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SideName {
    /// Who opened the connection.
    Client,
    /// The other.
    Server,
}

impl From<SideName> for Side {
    fn from(name: SideName) -> Side {
        match name {
            SideName::Client => Side::Client,
            SideName::Server => Side::Server,
        }
    }
}

/// Reads the file and prints.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.form == Form::Raw && options.side.is_none() && options.into.is_none() {
        return Err(Failure::refused(
            "--as raw writes one side's bytes; say which with --side client or --side server, or write both with --into DIR",
        ));
    }
    let filter = filter_of(&options.filter)?;
    let mut walk = Walk::new(options, Reader::open(&options.file)?, filter);
    let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let outcome = walk.view(&mut out);
    match outcome.and_then(|()| out.flush().map_err(Stop::from)) {
        Ok(()) => {}
        Err(Stop::Unread) => return Ok(()),
        Err(Stop::Failed(failure)) => return Err(failure),
    }
    if !options.json {
        complain(&walk.reader);
    }
    Ok(())
}

/// Reads a file of any bytes in every view at once and prints nowhere: what the
/// fuzzer calls.
pub fn all_views(bytes: Vec<u8>) {
    let Ok(mut reader) = Reader::from_bytes(bytes) else {
        return;
    };
    let mut flows = Flows::new(0);
    let (mut sums, mut totals) = (Sums::default(), Totals::default());
    let mut assembler = Assembler::default();
    let mut lines = Lines::new(TimeZone::UTC, true);
    let mut http = Http::new(&mut sums);
    while let Some(record) = reader.next() {
        let net = Net::of(record.link, record.data, record.original);
        let belongs = flows.take(&net, When::of(&record));
        totals.add(&record);
        lines.of(
            record.at_ns,
            &net,
            belongs.and_then(|belongs| belongs.bases),
        );
        // Its text is what counts: nobody reads it.
        let _ = serde_json::to_vec(&PacketRow::of(&record, &net, belongs));
        if let Some(seen) = seen(&record, &net, belongs) {
            assembler.take(&seen, &mut http);
        }
    }
    assembler.finish(&mut http);
    let report = Report::of(&reader, totals, flows.into_rows(), sums);
    let _ = report.print(&mut io::sink());
    let _ = report.print_tcp(&mut io::sink());
    let _ = report.print_conversations(&mut io::sink());
    let _ = serde_json::to_vec(&report);
}

/// Why a reading ended before its file.
enum Stop {
    /// Nobody reads what is printed (`| head`).
    Unread,
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Stop {
        match err.kind() {
            io::ErrorKind::BrokenPipe => Stop::Unread,
            _ => Stop::Failed(Failure::running(format!("cannot write: {err}"))),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// What is wrong with the file, for people.
fn complain(reader: &Reader) {
    let complaints = reader.complaints();
    for complaint in &complaints.first {
        eprintln!(
            "wirepath inspect: at byte {}: {}",
            complaint.offset, complaint.what
        );
    }
    let more = complaints.count - complaints.first.len() as u64;
    if more > 0 {
        eprintln!("wirepath inspect: and {more} more like these");
    }
}

/// The filter that words of a command line make, if there are any.
///
/// # Errors
///
/// It is none, or asks what a file does not tell.
pub(crate) fn filter_of(words: &[String]) -> Result<Option<Filter>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    let filter: Filter = words
        .join(" ")
        .parse()
        .map_err(|err| Failure::setup(&err))?;
    match filter.asks_trace() {
        true => Err(Failure::refused(
            "fd, route and status are known while a server runs (`wirepath capture`), not of a file; filter by address, net, port or protocol",
        )),
        false => Ok(Some(filter)),
    }
}

impl Options {
    fn zone(&self) -> TimeZone {
        match self.utc {
            true => TimeZone::UTC,
            false => TimeZone::system(),
        }
    }
}

/// What hears of each packet.
type Each<'a> = dyn FnMut(&Totals, &Record<'_>, &Net<'_>, Option<Belongs>) -> Result<(), Stop> + 'a;

/// A file on its way through a view.
struct Walk<'o> {
    options: &'o Options,
    reader: Reader,
    filter: Option<Filter>,
    flows: Flows,
    totals: Totals,
}

impl Walk<'_> {
    fn new(options: &Options, reader: Reader, filter: Option<Filter>) -> Walk<'_> {
        Walk {
            options,
            reader,
            filter,
            flows: Flows::new(i64::from(options.stall_ms) * 1_000_000),
            totals: Totals::default(),
        }
    }

    fn view(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let options = self.options;
        if options.packets {
            self.packets(out)
        } else if options.events {
            self.packets_each(&mut |totals, record, net, belongs| {
                print_events(options.json, totals, record, net, belongs, out)
            })
        } else if options.http {
            self.requests(out)
        } else if let Some(stream) = options.follow {
            self.follow(stream, out)
        } else if let Some(dir) = &options.export {
            let mut export = Export::new(dir, options.max_object, out)?;
            self.streams(&mut Http::new(&mut export))?;
            export_said(&export)
        } else {
            self.report(out)
        }
    }

    /// Reads the file, or as much of it as was asked for.
    fn packets_each(&mut self, each: &mut Each<'_>) -> Result<(), Stop> {
        while self.totals.packets < self.options.most.unwrap_or(u64::MAX) {
            let Some(record) = self.reader.next() else {
                break;
            };
            let net = Net::of(record.link, record.data, record.original);
            if let Some(filter) = &self.filter
                && !row::takes(filter, &record, &net)?
            {
                continue;
            }
            let belongs = self.flows.take(&net, When::of(&record));
            self.totals.add(&record);
            each(&self.totals, &record, &net, belongs)?;
        }
        Ok(())
    }

    /// As above, for what the connections carried; ends where the listener wants
    /// no more, whose error says why.
    fn streams(&mut self, listener: &mut dyn Listener) -> Result<(), Stop> {
        let mut assembler = Assembler::default();
        let outcome = self.packets_each(&mut |_, record, net, belongs| {
            if let Some(seen) = seen(record, net, belongs) {
                assembler.take(&seen, listener);
            }
            match listener.is_over() {
                true => Err(Stop::Unread),
                false => Ok(()),
            }
        });
        match outcome {
            Err(Stop::Unread) => return Ok(()),
            other => other?,
        }
        assembler.finish(listener);
        self.totals.conflicting_bytes = assembler.conflicting_bytes;
        Ok(())
    }

    fn packets(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let json = self.options.json;
        let mut lines = Lines::new(self.options.zone(), self.options.nano);
        self.packets_each(&mut |_, record, net, belongs| {
            if json {
                return print_json(&PacketRow::of(record, net, belongs), out);
            }
            let bases = belongs.and_then(|belongs| belongs.bases);
            Ok(out.write_all(lines.of(record.at_ns, net, bases))?)
        })
    }

    fn requests(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let mut printer = Printer {
            is_json: self.options.json,
            first_ns: None,
            out,
            error: None,
        };
        self.streams(&mut Http::new(&mut printer))?;
        printer.error.map_or(Ok(()), Err)
    }

    fn follow(&mut self, stream: u32, out: &mut dyn Write) -> Result<(), Stop> {
        let options = self.options;
        let was_seen = if let Some(dir) = &options.into {
            let mut files = Files::create(stream, dir)?;
            self.streams(&mut files)?;
            if let Some(err) = files.error {
                return Err(err.into());
            }
            if files.was_seen {
                for (name, (written, missing)) in files.names().iter().zip(files.written) {
                    writeln!(out, "{name}  {written} bytes, {missing} missing")?;
                }
                true
            } else {
                files.discard()?;
                false
            }
        } else {
            let side = options.side.map(Side::from);
            let mut follow = Follow::new(stream, options.form, side, crate::is_coloured(), out);
            self.streams(&mut follow)?;
            if let Some(err) = follow.error {
                return Err(err.into());
            }
            follow.was_seen
        };
        match was_seen {
            true => Ok(()),
            false => Err(Failure::refused(format!(
                "stream {stream} is no TCP connection of the file with data; `wirepath inspect -c` lists its {} conversations",
                self.flows.count()
            ))
            .into()),
        }
    }

    fn report(&mut self, out: &mut dyn Write) -> Result<(), Stop> {
        let options = self.options;
        let mut sums = Sums::default();
        if options.conversations || options.tcp {
            self.packets_each(&mut |_, _, _, _| Ok(()))?;
        } else {
            self.streams(&mut Http::new(&mut sums))?;
        }
        let flows = std::mem::replace(&mut self.flows, Flows::new(0));
        let report = Report::of(&self.reader, self.totals, flows.into_rows(), sums);
        match (options.json, options.conversations, options.tcp) {
            (true, true, _) => report
                .rows()
                .iter()
                .try_for_each(|row| print_json(row, out)),
            (true, _, true) => report
                .connections()
                .try_for_each(|row| print_json(row, out)),
            (true, ..) => print_json(&report, out),
            (_, true, _) => Ok(report.print_conversations(out)?),
            (_, _, true) => Ok(report.print_tcp(out)?),
            _ => Ok(report.print(out)?),
        }
    }
}

/// A segment of a connection, if the packet is one.
fn seen<'a>(record: &Record<'_>, net: &Net<'a>, belongs: Option<Belongs>) -> Option<Seen<'a>> {
    let (belongs, (_, _, tcp)) = (belongs?, net.tcp()?);
    Some(belongs.seen(tcp, record.number, record.at_ns))
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> Result<(), Stop> {
    serde_json::to_writer(&mut *out, value).map_err(|err| Stop::from(io::Error::from(err)))?;
    out.write_all(b"\n")?;
    Ok(())
}

fn print_events(
    is_json: bool,
    totals: &Totals,
    record: &Record<'_>,
    net: &Net<'_>,
    belongs: Option<Belongs>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let Some(belongs) = belongs.filter(|belongs| !belongs.findings.is_empty()) else {
        return Ok(());
    };
    let Some((from, to, tcp)) = net.tcp() else {
        return Ok(());
    };
    if is_json {
        return print_json(&PacketRow::of(record, net, Some(belongs)), out);
    }
    let since = record.at_ns.saturating_sub(totals.first_ns) as f64 / 1e9;
    let words: Vec<&str> = belongs.findings.iter().map(Finding::words).collect();
    let seq = tcp
        .seq
        .wrapping_sub(belongs.bases.map_or(0, |bases| bases.0));
    writeln!(
        out,
        "{:>8} {since:>12.6} stream {:<6} {from} > {to}: {}, seq {seq}, length {}",
        record.number,
        belongs.stream,
        words.join(", "),
        tcp.len,
    )?;
    Ok(())
}

fn export_said(export: &Export<'_>) -> Result<(), Stop> {
    if let Some(why) = &export.error {
        return Err(Failure::running(why.clone()).into());
    }
    if export.files == 0 {
        eprintln!("wirepath inspect: no body of an HTTP/1.x message is in the file");
    }
    if export.left_out > 0 {
        eprintln!(
            "wirepath inspect: parts of bodies were left out {} times: too many went on at a time",
            export.left_out
        );
    }
    Ok(())
}

/// Prints each exchange when it is over.
struct Printer<'a> {
    is_json: bool,
    first_ns: Option<i64>,
    out: &'a mut dyn Write,
    error: Option<Stop>,
}

/// An exchange in JSON.
#[derive(Serialize)]
struct ExchangeRow<'a> {
    #[serde(flatten)]
    exchange: &'a Exchange,
    first_byte_ns: Option<u64>,
    total_ns: Option<u64>,
}

impl Printer<'_> {
    fn print(&mut self, exchange: &Exchange) -> Result<(), Stop> {
        if self.is_json {
            let row = ExchangeRow {
                exchange,
                first_byte_ns: exchange.first_byte_ns(),
                total_ns: exchange.total_ns(),
            };
            return print_json(&row, self.out);
        }
        let begins = exchange.request_first_ns.or(exchange.response_first_ns);
        let first_ns = match self.first_ns {
            Some(first_ns) => first_ns,
            None => {
                writeln!(self.out, "{}", http::report::TITLE)?;
                *self.first_ns.insert(begins.unwrap_or(0))
            }
        };
        Ok(http::report::write_line(exchange, first_ns, self.out)?)
    }
}

impl Audience for Printer<'_> {
    fn is_over(&self) -> bool {
        self.error.is_some()
    }

    fn exchange(&mut self, exchange: &Exchange) {
        if self.error.is_none()
            && let Err(stop) = self.print(exchange)
        {
            self.error = Some(stop);
        }
    }
}
