//! `wirepath explain`: one request's way, stage by stage, told in words.
//!
//! What is told is a request that really was: one that is made now as
//! `wirepath demo` makes it, or one of a recording. Of each stage there is what
//! happened, when, and how long after the stage before; then what the stage is,
//! what Linux and Go do at that point, and what is often said wrongly of it. The
//! words are those of the page ([`wirepath::see::stages`]).

use std::fmt::{self, Write as _};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use textwrap::Options as Wrap;
use wirepath::see::stages::{self, Stage, WALK};

use crate::demo;
use crate::demo::journey::{Journey, Step};
use crate::failure::Failure;
use crate::trace;

/// Text wider than this is hard to read.
const MAX_WIDTH: usize = 92;
/// Where the terminal's width is not known.
const WIDTH: usize = 80;

/// Options of `wirepath explain`.
#[derive(Args)]
pub struct Options {
    /// A recording of the flight recorder; by default a request is made now, as
    /// `wirepath demo` does.
    file: Option<PathBuf>,
    /// The recording's request by its number, from 1; by default the slowest.
    #[arg(long, value_name = "N", requires = "file")]
    request: Option<usize>,
    /// Make the request over the in-memory cable, even where a TAP could be had.
    #[arg(long, conflicts_with = "file")]
    cable: bool,
    /// Only these stages, by number or name: `7`, `g.run`; again for more.
    #[arg(long, value_name = "STAGE", value_parser = stage_of)]
    stage: Vec<&'static Stage>,
    /// Print all at once, without waiting for Enter between stages.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn stage_of(text: &str) -> Result<&'static Stage, String> {
    let by_number = text.parse().ok().and_then(stages::by_number);
    by_number
        .or_else(|| stages::by_name(text))
        .ok_or_else(|| "the stages are 1 to 14, or by name, as driver.poll or g.run".into())
}

/// A stage of the request's way.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    step: Step,
    #[serde(flatten)]
    stage: &'static Stage,
}

/// Makes or finds the request, and tells its way.
pub fn run(options: &Options) -> Result<(), Failure> {
    let journey = match &options.file {
        Some(file) => trace::journey_of(file, options.request)?,
        None => demo::journey(options.cable)?,
    };
    let steps: Vec<Told> = told(&journey, &options.stage);
    if options.json {
        let text = serde_json::to_string_pretty(&steps);
        say!("{}", text.map_err(|e| Failure::setup(&e))?);
        return Ok(());
    }
    let page = Page::of_terminal();
    say!("{}", page.paragraph(INTRODUCTION));
    let waits = !options.all && io::stdin().is_terminal() && io::stdout().is_terminal();
    let last = steps.len().saturating_sub(1);
    for (place, step) in steps.iter().enumerate() {
        say!("\n{}", page.stage(step, place + 1, steps.len()).trim_end());
        if waits && place < last && !wait_for_enter() {
            break;
        }
    }
    Ok(())
}

const INTRODUCTION: &str = "One request, from the frame that brought it to the frame that the \
    answer left in. Each stage has a number; the handler's is 14, though it lies in the middle, \
    since it spans what comes before and after it.";

fn told(journey: &Journey, wanted: &[&'static Stage]) -> Vec<Told> {
    let steps = journey.steps();
    let walk = WALK.iter().filter_map(|&number| {
        let stage = stages::by_number(number)?;
        let is_wanted = wanted.is_empty() || wanted.iter().any(|w| w.number == number);
        let step = steps.iter().find(|step| step.number == number)?;
        is_wanted.then(|| Told {
            step: step.clone(),
            stage,
        })
    });
    walk.collect()
}

/// False at the end of the input, or if the person has had enough.
fn wait_for_enter() -> bool {
    print!("\n  Enter: the next stage; q: enough ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(0) | Err(_) => false,
        Ok(_) => !answer.trim().eq_ignore_ascii_case("q"),
    }
}

/// How text is set.
struct Page {
    width: usize,
    is_coloured: bool,
}

impl Page {
    fn of_terminal() -> Page {
        let columns = ratatui::crossterm::terminal::size().map(|(columns, _)| usize::from(columns));
        Page {
            width: columns.unwrap_or(WIDTH).clamp(40, MAX_WIDTH),
            is_coloured: crate::is_coloured(),
        }
    }

    fn paragraph(&self, text: &str) -> String {
        textwrap::fill(text, self.width)
    }

    /// Text behind a word in the margin.
    fn margin(&self, word: &str, text: &str) -> String {
        const MARGIN: usize = 10;
        let first = format!("{word:<MARGIN$}");
        let rest = " ".repeat(MARGIN);
        let wrap = Wrap::new(self.width)
            .initial_indent(&first)
            .subsequent_indent(&rest);
        textwrap::fill(text, wrap)
    }

    fn strong(&self, text: &str) -> String {
        match self.is_coloured {
            true => format!("\x1b[1m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn stage(&self, told: &Told, place: usize, of: usize) -> String {
        let (step, stage) = (&told.step, told.stage);
        let mut text = String::new();
        let title = format!(
            "{place} of {of} · {} {} · {}",
            stage.number, stage.name, stage.title
        );
        self.put(&mut text, format_args!("{}", self.strong(&title)));
        self.put(
            &mut text,
            format_args!("{}", self.margin("now", &now(step))),
        );
        self.put(
            &mut text,
            format_args!("{}", self.margin("here", stage.here)),
        );
        self.put(
            &mut text,
            format_args!("{}", self.margin("", &format!("({})", stage.here_at))),
        );
        for (word, what, at) in [
            ("Linux", stage.linux, stage.linux_at),
            ("Go", stage.go, stage.go_at),
        ] {
            self.put(&mut text, format_args!("{}", self.margin(word, what)));
            if !at.is_empty() {
                self.put(
                    &mut text,
                    format_args!("{}", self.margin("", &format!("({})", at.join(", ")))),
                );
            }
        }
        for correction in stage.corrections {
            self.put(
                &mut text,
                format_args!(
                    "{}",
                    self.margin("often", &format!("«{}»", correction.said))
                ),
            );
            self.put(
                &mut text,
                format_args!("{}", self.margin("but", correction.right)),
            );
        }
        text
    }

    fn put(&self, text: &mut String, line: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    }
}

/// What happened at a stage.
fn now(step: &Step) -> String {
    let Some(at) = &step.at else {
        return step.what.clone();
    };
    let after = step.after.as_ref().map_or(String::new(), |after| {
        format!(", {after} after the stage before")
    });
    format!("at {at}{after}: {} [{}]", step.what, step.who.trim_end())
}
