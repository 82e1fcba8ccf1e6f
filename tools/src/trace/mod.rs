//! `wirepath trace`: what a recording of the flight recorder says.
//!
//! A recording comes from `/debug/wirepath/trace`, from `serve --record-dir`, or
//! from an API of the server ([`wirepath::see::Recording`]).

mod perfetto;
mod summary;
mod tree;
mod why_slow;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use wirepath::see::Recording;
use wirepath::see::journey::Journey;

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
    Perfetto(PerfettoOptions),
}

/// What all views take.
#[derive(Args)]
struct Common {
    /// The recording (`-`: stdin).
    file: PathBuf,
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

#[derive(Args)]
struct PerfettoOptions {
    /// The recording (`-`: stdin).
    file: PathBuf,
    /// Where to (`-`: stdout).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Reads the recording and shows it.
pub fn run(options: &Options) -> Result<(), Failure> {
    match &options.view {
        View::Summary(common) => {
            let recording = read(&common.file)?;
            let summary = summary::Summary::of(&recording, &journeys(&recording));
            print(common, &summary)
        }
        View::Tree(options) => {
            let recording = read(&options.common.file)?;
            let told = journeys(&recording);
            let route = options.route.as_deref();
            let (number, journey) = choose(&told, options.request, route)?;
            print(&options.common, &tree::Tree::new(number, journey))
        }
        View::WhySlow(options) => {
            let recording = read(&options.common.file)?;
            let told = journeys(&recording);
            print(
                &options.common,
                &why_slow::WhySlow::of(&told, options.number),
            )
        }
        View::Perfetto(options) => to_perfetto(options),
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

fn to_perfetto(options: &PerfettoOptions) -> Result<(), Failure> {
    let recording = read(&options.file)?;
    let told = journeys(&recording);
    let name = options.output.display().to_string();
    let failed = |e: io::Error| Failure::running(format!("cannot write {name}: {e}"));
    if name == "-" {
        let mut sink = BufWriter::new(io::stdout().lock());
        perfetto::write(&recording, &told, &mut sink).map_err(failed)?;
        return sink.flush().map_err(failed);
    }
    let mut sink = BufWriter::new(File::create(&options.output).map_err(failed)?);
    perfetto::write(&recording, &told, &mut sink).map_err(failed)?;
    sink.flush().map_err(failed)?;
    say!(
        "{name}: {} events, {} requests; open it in ui.perfetto.dev (it stays on your machine)",
        recording.events.len(),
        told.len()
    );
    Ok(())
}

/// A duration in the unit that fits it: `180 ms`, `12.3 µs`.
fn duration(ns: u64) -> String {
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
