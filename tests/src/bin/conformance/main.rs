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
use wirepath::{MinRate, Server};
use wirepath_tools::failure::Failure;
use wirepath_tools::serve;

use muxsets::MuxSets;

const NAME: &str = "wirepath-conformance";
const READ_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes a second of the slowest client, beyond its grace: a server's own.
const LEAST_RATE: u32 = 240;
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
    /// Connections at a time from one address; by default as many as a server
    /// takes.
    #[arg(long, value_name = "N")]
    max_connections_per_address: Option<usize>,
    /// How long a client may send a body, or take a response, more slowly than
    /// 240 bytes a second; by default as long as a server lets it.
    #[arg(long, value_name = "MS")]
    grace: Option<u64>,
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
    wirepath_tools::exit_with(NAME, run(cli))
}

/// Go's flags have one dash or two.
fn with_two_dashes(argument: OsString) -> OsString {
    match argument.to_str() {
        Some("-catchall") => "--catchall".into(),
        Some("-muxsets") => "--muxsets".into(),
        _ => argument,
    }
}

fn run(mut cli: Cli) -> Result<(), Failure> {
    cli.serve.no_debug_page = true;
    serve::run_server(&cli.serve, &|_| {
        let sets = match &cli.muxsets {
            Some(path) => MuxSets::read(path).map_err(Failure::refused)?,
            None => MuxSets::default(),
        };
        let handler = sets.or_else(routes::mux(cli.catchall));
        let mut server = Server::builder(handler)
            .read_header_timeout(READ_HEADER_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .max_header_bytes(MAX_HEADER_BYTES);
        if let Some(most) = cli.max_connections_per_address {
            server = server.max_connections_per_address(most);
        }
        if let Some(grace) = cli.grace.map(Duration::from_millis) {
            let rate = Some(MinRate {
                bytes_per_second: LEAST_RATE,
                grace,
            });
            server = server.min_body_rate(rate).min_response_rate(rate);
        }
        Ok(server.build())
    })
}
