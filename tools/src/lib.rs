//! The `wirepath` command, as a library.
//!
//! Each subcommand is a module. What goes wrong before a server runs is one
//! line that says what failed, why and what to do, with exit code 2. Another
//! program that serves on the same devices takes [`serve`] and [`exit_with`].

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::Failure;

/// Prints a line to stdout, or to stderr once that is somebody else's
/// ([`leave_stdout`]). That nobody reads it (`wirepath demo | head`) is no reason
/// to stop.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::print_line(format_args!($($arg)*))
    };
}

mod capture;
pub mod control;
mod demo;
mod device;
mod doctor;
mod explain;
pub mod failure;
mod goroutines;
pub mod inspect;
mod mux;
mod privileges;
mod replay;
pub mod serve;
mod signals;
mod site;
mod ss;
mod top;
mod trace;

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
    /// Walk one request's way stage by stage, beside what Linux and Go do there.
    Explain(explain::Options),
    /// Serve HTTP on a network card's queues (AF_XDP), on a TAP, or over the kernel's sockets.
    Serve(Box<serve::Options>),
    /// Capture what crosses the device of a running server (pcapng), into a file,
    /// a pipe or Wireshark.
    Capture(Box<capture::command::Options>),
    /// Check whether this machine and an interface are fit for AF_XDP, and say
    /// what mends what is not.
    Doctor(doctor::Options),
    /// Say which of a list of patterns answers a request, and why; or why two
    /// conflict.
    Mux(mux::Options),
    /// List the connections of a running server, as ss(8) those of the kernel.
    Ss(ss::Options),
    /// Watch a running server in the terminal: rings, P's, routes, connections,
    /// goroutines, requests.
    Top(top::Options),
    /// Say what a capture file holds: packets, conversations, TCP analysis, HTTP.
    Inspect(inspect::Options),
    /// Have the clients of a capture talk to a server of ours once more, on virtual
    /// time, and compare what it answers.
    Replay(replay::Options),
    /// Say what the goroutines of a running server do.
    Goroutines(goroutines::Options),
    /// Say what a recording of a server's flight recorder holds: why requests
    /// were slow, one request's way, or a file for Perfetto.
    Trace(trace::Options),
}

/// Stdout belongs to a capture.
static STDOUT_IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// From now on stdout is for bytes, and what is said to people goes to stderr.
fn leave_stdout() {
    STDOUT_IS_TAKEN.store(true, Ordering::Relaxed);
}

/// Whether stdout is a person's who wants colours (<https://no-color.org>).
fn is_coloured() -> bool {
    let no_color = std::env::var_os("NO_COLOR");
    std::io::stdout().is_terminal() && no_color.is_none_or(|value| value.is_empty())
}

fn print_line(line: fmt::Arguments<'_>) {
    let _ = match STDOUT_IS_TAKEN.load(Ordering::Relaxed) {
        true => writeln!(std::io::stderr(), "{line}"),
        false => writeln!(std::io::stdout(), "{line}"),
    };
}

/// The command: what its arguments ask for, and its exit code.
pub fn main() -> ExitCode {
    let cli: Cli = match parse("wirepath", std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    log_to_stderr(cli.verbose);
    let (name, outcome) = match cli.command {
        Command::Demo(options) => ("demo", demo::run(&options)),
        Command::Serve(options) => ("serve", serve::run(&options)),
        Command::Capture(options) => ("capture", capture::command::run(&options)),
        Command::Doctor(options) => ("doctor", doctor::run(&options)),
        Command::Top(options) => ("top", top::run(&options)),
        Command::Ss(options) => ("ss", ss::run(&options)),
        Command::Goroutines(options) => ("goroutines", goroutines::run(&options)),
        Command::Inspect(options) => ("inspect", inspect::run(&options)),
        Command::Replay(options) => ("replay", replay::run(&options)),
        Command::Explain(options) => ("explain", explain::run(&options)),
        Command::Mux(options) => ("mux", mux::run(&options)),
        Command::Trace(options) => ("trace", trace::run(&options)),
    };
    exit_with(&format!("wirepath {name}"), outcome)
}

/// Reads a program's arguments. What is wrong is one line on stderr and exit
/// code 2; help and the version end the process.
///
/// # Errors
///
/// The exit code, the line being printed.
pub fn parse<P: Parser>(
    program: &str,
    arguments: impl Iterator<Item = OsString>,
) -> Result<P, ExitCode> {
    match P::try_parse_from(arguments) {
        Ok(parsed) => Ok(parsed),
        Err(err) if is_wrong(&err) => {
            eprintln!("{program}: {}; see `{program} --help`", one_line(&err));
            Err(ExitCode::from(2))
        }
        Err(help) => help.exit(),
    }
}

/// Logs to stderr: warnings, or with `verbose` more.
pub fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
}

/// The exit code of what a program did, which is said on stderr if it failed.
pub fn exit_with(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_options_of_all_commands_fit_together() {
        super::Cli::command().debug_assert();
    }
}
