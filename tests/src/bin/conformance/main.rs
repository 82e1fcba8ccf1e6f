//! `wirepath-conformance`: a server with the routes, options and mux sets that
//! interoperability suites and the comparison with Go's net/http ask for. It
//! takes the options of `wirepath serve`, `--catchall` and `--muxsets FILE`.

#![forbid(unsafe_code)]

mod echo;
mod muxsets;
mod query;
mod routes;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use wirepath::Server;
use wirepath_tools::failure::Failure;
use wirepath_tools::serve;

use muxsets::MuxSets;

const NAME: &str = "wirepath-conformance";
const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// net/http's default.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// A server for conformance tests of HTTP.
#[derive(Parser)]
#[command(name = NAME, version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    serve: serve::Options,
    /// Answer every path without a route of its own as /echo.
    #[arg(long)]
    catchall: bool,
    /// Sets of patterns to make muxes of: [{"id","patterns":[..]}]. A request
    /// chooses one with the header X-Mux-Set.
    #[arg(long, value_name = "FILE")]
    muxsets: Option<PathBuf>,
    /// Log more to stderr; twice for every detail.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    let arguments = std::env::args_os().map(with_two_dashes);
    let cli: Cli = match wirepath_tools::parse(NAME, arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    wirepath_tools::log_to_stderr(cli.verbose);
    wirepath_tools::exit_with(NAME, run(&cli))
}

/// Go's flags have one dash or two.
fn with_two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some("-catchall") => "--catchall".into(),
        Some("-muxsets") => "--muxsets".into(),
        _ => argument,
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    serve::run_server(&cli.serve, &|_| {
        let sets = match &cli.muxsets {
            Some(path) => MuxSets::read(path).map_err(Failure::refused)?,
            None => MuxSets::default(),
        };
        let handler = sets.or_else(routes::mux(cli.catchall));
        let server = Server::builder(handler)
            .read_header_timeout(READ_HEADER_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .max_header_bytes(MAX_HEADER_BYTES);
        Ok(server.build())
    })
}
