//! `wirepath trace`: what a recording of the flight recorder says.
//!
//! A recording is taken from a running server, or is a file: from
//! `/debug/wirepath/trace`, from `serve --record-dir`, or from an API of the
//! server ([`wirepath::see::Recording`]).

mod perfetto;
mod summary;
mod tree;
mod why_slow;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use wirepath::see::Recording;
use wirepath::see::journey::Journey;
use wirepath_driver::QueueInfo;

use crate::control::Client;
use crate::demo;
use crate::failure::Failure;

/// What is asked of a recording.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    view: View,
}

#[derive(Subcommand)]
enum View {
    /// How much it holds, and where its requests' time went.
    Summary(Common),
    /// One request, hop by hop and stage by stage.
    Tree(TreeOptions),
    /// The slowest requests, and what each hop of them had to do with it.
    WhySlow(WhySlowOptions),
    /// A file for Perfetto (ui.perfetto.dev) or chrome://tracing.
    Perfetto(ToFile),
    /// The recording itself, taken from a running server.
    Save(SaveOptions),
    /// The frames that a recording has (`serve --record-frames`), as a pcapng file.
    Frames(ToFile),
}

/// Where a recording comes from.
#[derive(Args)]
struct From {
    /// The recording (`-`: stdin); by default one is taken from a running server.
    file: Option<PathBuf>,
    /// That server: its process number, or the path of its control socket. By
    /// default the only one that is running.
    #[arg(long, value_name = "PID|PATH", conflicts_with = "file")]
    from: Option<String>,
}

impl From {
    fn read(&self) -> Result<Recording, Failure> {
        match &self.file {
            Some(file) => read(file),
            None => {
                let bytes = take(self.from.as_deref())?;
                Recording::read(&bytes[..]).map_err(|e| Failure::setup(&e))
            }
        }
    }
}

/// The bytes of a recording of a running server.
fn take(from: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    Client::find(from)?.trace(&mut bytes)?;
    Ok(bytes)
}

/// What all views take.
#[derive(Args)]
struct Common {
    #[command(flatten)]
    from: From,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct TreeOptions {
    #[command(flatten)]
    common: Common,
    /// The request by its number, in the order in which requests ended, from 1;
    /// by default the slowest.
    #[arg(long, value_name = "N")]
    request: Option<usize>,
    /// Of a route, as the mux has it: `GET /users/{id}`.
    #[arg(long, value_name = "PATTERN")]
    route: Option<String>,
}

#[derive(Args)]
struct WhySlowOptions {
    #[command(flatten)]
    common: Common,
    /// How many.
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    number: usize,
}

/// What goes into a file.
#[derive(Args)]
struct ToFile {
    #[command(flatten)]
    from: From,
    /// Where to (`-`: stdout).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
struct SaveOptions {
    /// Where to (`-`: stdout).
    file: PathBuf,
    /// The server: its process number, or the path of its control socket. By
    /// default the only one that is running.
    #[arg(long, value_name = "PID|PATH")]
    from: Option<String>,
}

/// Writes to a file or stdout, and says `said` unless stdout has what was written.
fn write_to(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    said: &str,
) -> Result<(), Failure> {
    let name = path.display();
    let failed = |e: io::Error| Failure::running(format!("cannot write {name}: {e}"));
    if path == Path::new("-") {
        let mut sink = BufWriter::new(io::stdout().lock());
        return write(&mut sink).and_then(|()| sink.flush()).map_err(failed);
    }
    let mut sink = BufWriter::new(File::create(path).map_err(failed)?);
    write(&mut sink)
        .and_then(|()| sink.flush())
        .map_err(failed)?;
    say!("{name}: {said}");
    Ok(())
}

/// Reads the recording and shows it.
pub fn run(options: &Options) -> Result<(), Failure> {
    match &options.view {
        View::Summary(common) => {
            let recording = common.from.read()?;
            let summary = summary::Summary::of(&recording, &journeys(&recording));
            print(common, &summary)
        }
        View::Tree(options) => {
            let recording = options.common.from.read()?;
            let told = journeys(&recording);
            let route = options.route.as_deref();
            let (number, journey) = choose(&told, options.request, route)?;
            print(&options.common, &tree::Tree::new(number, journey))
        }
        View::WhySlow(options) => {
            let recording = options.common.from.read()?;
            let told = journeys(&recording);
            print(
                &options.common,
                &why_slow::WhySlow::of(&told, options.number),
            )
        }
        View::Perfetto(options) => to_perfetto(options),
        View::Save(options) => save(options),
        View::Frames(options) => frames(options),
    }
}

fn print(
    common: &Common,
    view: &(impl std::fmt::Display + serde::Serialize),
) -> Result<(), Failure> {
    if common.json {
        let text = serde_json::to_string_pretty(view);
        say!("{}", text.map_err(|e| Failure::setup(&e))?);
    } else {
        say!("{}", view.to_string().trim_end());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Recording, Failure> {
    let name = path.display();
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(
            File::open(path)
                .map_err(|e| Failure::refused(format!("cannot open the recording {name}: {e}")))?,
        ),
    };
    Recording::read(source).map_err(|e| {
        Failure::refused(format!(
            "{name}: {e}; a running server gives one at /debug/wirepath/trace"
        ))
    })
}

fn journeys(recording: &Recording) -> Vec<Journey> {
    Journey::all(&recording.events, &recording.names())
}

/// The way of a recording's request, by its number, or of the slowest.
///
/// # Errors
///
/// The recording cannot be read, or has no such request.
pub fn journey_of(file: &Path, number: Option<usize>) -> Result<demo::journey::Journey, Failure> {
    let recording = read(file)?;
    let told = journeys(&recording);
    let (_, journey) = choose(&told, number, None)?;
    let queue = recording.meta.queues.first().cloned().unwrap_or_default();
    let device = QueueInfo {
        name: queue.name,
        mtu: 0,
        sees_nic_rx: queue.sees_nic_rx,
        sees_nic_done: queue.sees_nic_done,
    };
    let (times, start) = (&journey.stages, journey.start);
    Ok(demo::journey::Journey::of_times(
        &recording.events,
        times,
        start,
        &device,
    ))
}

/// The request that was asked for, with its number.
fn choose<'j>(
    told: &'j [Journey],
    number: Option<usize>,
    route: Option<&str>,
) -> Result<(usize, &'j Journey), Failure> {
    if told.is_empty() {
        return Err(Failure::refused("the recording has no request"));
    }
    if let Some(number) = number {
        let found = number.checked_sub(1).and_then(|at| told.get(at));
        return found.map(|journey| (number, journey)).ok_or_else(|| {
            let last = told.len();
            Failure::refused(format!("--request {number}: the recording has 1 to {last}"))
        });
    }
    let numbered = (1..).zip(told);
    let fits = numbered.filter(|(_, j)| route.is_none_or(|route| j.route == route));
    fits.max_by_key(|(_, j)| j.total_ns()).ok_or_else(|| {
        let mut routes: Vec<&str> = told.iter().map(|j| j.route.as_str()).collect();
        routes.sort_unstable();
        routes.dedup();
        Failure::refused(format!(
            "--route {}: no request of it; the recording has {}",
            route.unwrap_or_default(),
            routes.join(", ")
        ))
    })
}

fn to_perfetto(options: &ToFile) -> Result<(), Failure> {
    let recording = options.from.read()?;
    let told = journeys(&recording);
    let said = format!(
        "{} events, {} requests; open it in ui.perfetto.dev (it stays on your machine)",
        recording.events.len(),
        told.len()
    );
    write_to(
        &options.output,
        |mut sink| perfetto::write(&recording, &told, &mut sink),
        &said,
    )
}

fn save(options: &SaveOptions) -> Result<(), Failure> {
    let bytes = take(options.from.as_deref())?;
    let said = format!(
        "{}; `wirepath trace summary` tells what it holds",
        HumanBytes(bytes.len() as u64)
    );
    write_to(&options.file, |sink| sink.write_all(&bytes), &said)
}

fn frames(options: &ToFile) -> Result<(), Failure> {
    let recording = options.from.read()?;
    let frames = recording.frames.ok_or_else(|| {
        Failure::refused(
            "the recording has no frames; a server keeps some with --record-frames 16MiB",
        )
    })?;
    let said = format!(
        "{}; `wirepath inspect` reads it, and so does Wireshark",
        HumanBytes(frames.len() as u64)
    );
    write_to(&options.output, |sink| sink.write_all(&frames), &said)
}

/// A duration in the unit that fits it: `180 ms`, `12.3 µs`.
pub(crate) fn duration(ns: u64) -> String {
    let scaled = |unit: u64, name: &str| match ns / unit {
        whole @ 100.. => format!("{whole} {name}"),
        whole => format!("{whole}.{} {name}", ns % unit * 10 / unit),
    };
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ => scaled(1_000_000_000, "s"),
    }
}

/// A part of a whole, in percent.
fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 * 100.0 / whole as f64,
    }
}

/// `GET / → 200`, or that it is still in hand.
fn title(journey: &Journey) -> String {
    let request = match journey.request.as_str() {
        "" => "a request",
        text => text,
    };
    match journey.status {
        0 => format!("{request} (still in hand)"),
        status => format!("{request} → {status}"),
    }
}
