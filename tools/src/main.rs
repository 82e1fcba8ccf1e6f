//! The `wirepath` command.
//!
//! Each subcommand is a module. What goes wrong before a server runs is one
//! line that says what failed, why and what to do, with exit code 2.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

/// Prints a line to stdout. That nobody reads it (`wirepath demo | head`) is no
/// reason to stop.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

mod demo;
mod device;
mod doctor;
mod failure;
mod privileges;
mod serve;
mod signals;
mod site;

/// An HTTP server on a TCP stack of its own, and the tools to watch it.
#[derive(Parser)]
#[command(name = "wirepath", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log more to stderr; twice for every detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Follow one request from the ring to its handler and back; needs no root.
    Demo(demo::Options),
    /// Serve HTTP on a network card's queues (AF_XDP), on a TAP, or over the kernel's sockets.
    Serve(Box<serve::Options>),
    /// Check whether this machine and an interface are fit for AF_XDP, and say
    /// what mends what is not.
    Doctor(doctor::Options),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) if is_wrong(&err) => {
            eprintln!("wirepath: {}; see `wirepath --help`", one_line(&err));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    let level = match cli.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
    let (name, outcome) = match cli.command {
        Command::Demo(options) => ("demo", demo::run(&options)),
        Command::Serve(options) => ("serve", serve::run(&options)),
        Command::Doctor(options) => ("doctor", doctor::run(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("wirepath {name}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Whether the options were wrong, rather than a request for help.
fn is_wrong(err: &clap::Error) -> bool {
    err.use_stderr() && err.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// What is wrong, without the usage that clap adds below.
fn one_line(err: &clap::Error) -> String {
    let text = err.to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = what
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    words.join(" ")
}
