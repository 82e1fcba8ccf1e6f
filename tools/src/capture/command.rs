//! `wirepath capture`: what crosses the device of a running server, into a file
//! or a pipe; and the same as a capture device of Wireshark ([`extcap`]).

use std::io::IsTerminal;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::files::{Destination, STDOUT};
use super::live::{self, Ask, Reply};
use super::options::{CaptureArgs, parse_time};
use super::split::{self, Limits, SplitError};
use crate::failure::Failure;
use crate::signals;

#[path = "extcap.rs"]
mod extcap;

/// Options of `wirepath capture`.
#[derive(Args)]
pub struct Options {
    /// The server: its process's number, or its socket. Needed where several
    /// run.
    target: Option<String>,
    #[command(flatten)]
    capture: CaptureArgs,
    /// End after so long.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    duration: Option<Duration>,
    /// List the servers that can be asked, and end.
    #[arg(long)]
    list: bool,
    /// Say what was done, and list, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    extcap: extcap::ExtcapArgs,
}

/// Captures until told to stop.
///
/// # Errors
/// No server, or none that says yes; a file that cannot be written.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.extcap.is_asked() {
        return extcap::run(&options.extcap, &options.capture);
    }
    if options.list {
        list(options.json);
        return Ok(());
    }
    let stream = connect(options.target.as_deref())?;
    let mut args = options.capture.clone();
    let path = args.pcap.get_or_insert_with(|| STDOUT.into());
    if path.as_os_str() == STDOUT && std::io::stdout().is_terminal() {
        return Err(Failure::refused(
            "a terminal is no place for a capture: give a file with --pcap FILE, or pipe it: \
             `wirepath capture | wireshark -k -i -`",
        ));
    }
    let limits = Limits {
        bytes: args.pcap_size,
        age: args.pcap_time,
    };
    let (destination, shown) = args.open()?.expect("a path was given");
    let stop = stopper(&stream)?;
    if let Some(duration) = options.duration {
        let stop = stop.clone();
        spawn(move || {
            std::thread::sleep(duration);
            stop();
        })?;
    }
    signals::on_stop(stop)
        .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
    let frames = follow(stream, destination, &args, limits)?;
    match options.json {
        true => say!("{}", json!({ "capture": shown, "frames": frames })),
        false => say!("capture: {shown}, {frames} frames"),
    }
    Ok(())
}

fn spawn(f: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = std::thread::Builder::new().name("stop".into()).spawn(f);
    thread
        .map(|_| ())
        .map_err(|e| Failure::running(format!("cannot start a thread: {e}")))
}

/// Tells the server, once, that it is enough.
fn stopper(stream: &UnixStream) -> Result<impl Fn() + Clone + Send + Sync + 'static, Failure> {
    let stream = stream.try_clone().map_err(|e| lost(&e))?;
    let stream = Arc::new((stream, AtomicBool::new(false)));
    Ok(move || {
        if !stream.1.swap(true, Ordering::Relaxed) {
            // The server may be gone, which the reader sees.
            let _ = stream.0.shutdown(Shutdown::Write);
        }
    })
}

fn lost(error: &dyn std::fmt::Display) -> Failure {
    Failure::running(format!("the server cannot be heard any more: {error}"))
}

/// Asks for what `args` say, and copies it to the end.
fn follow(
    mut stream: UnixStream,
    mut destination: Destination,
    args: &CaptureArgs,
    limits: Limits,
) -> Result<u64, Failure> {
    let what = &args.what;
    let ask = Ask {
        filter: what.filter_text().to_owned(),
        comments: what.pcap_comments.unwrap_or(true),
        snaplen: what.snaplen,
    };
    live::write_line(&stream, &ask).map_err(|e| lost(&e))?;
    let reply = live::read_line(&stream).map_err(|e| lost(&e))?;
    let reply: Reply = serde_json::from_str(&reply).map_err(|e| lost(&e))?;
    if !reply.error.is_empty() {
        return Err(Failure::refused(reply.error));
    }
    match split::copy(&mut stream, &mut destination, limits) {
        Ok(frames) => Ok(frames),
        Err(SplitError::Read(e)) => Err(lost(&e)),
        Err(SplitError::Write(e)) => Err(Failure::running(format!(
            "the capture {} is incomplete: {e}",
            destination.shown()
        ))),
    }
}

/// The servers that answer, with their sockets.
fn servers() -> Vec<(u32, PathBuf)> {
    let answers = |path: &Path| UnixStream::connect(path).is_ok();
    let all = live::sockets().into_iter();
    all.filter(|(_, path)| answers(path)).collect()
}

fn list(as_json: bool) {
    let servers = servers();
    if as_json {
        let row = |(pid, path): &(u32, PathBuf)| json!({ "pid": pid, "socket": path });
        say!("{}", servers.iter().map(row).collect::<serde_json::Value>());
        return;
    }
    if servers.is_empty() {
        say!("no server of yours runs on a device");
    }
    for (pid, path) in servers {
        say!("{pid}  {}", path.display());
    }
}

const START: &str = "start one with `wirepath serve --tap NAME …`, or as the user that runs it \
                     (sudo) ask for its";

/// Connects to the server that is meant.
fn connect(target: Option<&str>) -> Result<UnixStream, Failure> {
    let path = match target {
        Some(target) => match target.parse::<u32>() {
            Ok(pid) => socket_of(pid)?,
            Err(_) => PathBuf::from(target),
        },
        None => only_one()?,
    };
    UnixStream::connect(&path).map_err(|e| {
        let path = path.display();
        Failure::refused(format!(
            "cannot ask the server at {path}: {e}; `wirepath capture --list` shows those that \
             answer"
        ))
    })
}

fn socket_of(pid: u32) -> Result<PathBuf, Failure> {
    let found = live::sockets().into_iter().find(|(of, _)| *of == pid);
    found.map(|(_, path)| path).ok_or_else(|| {
        Failure::refused(format!(
            "process {pid} has no socket for captures; `wirepath capture --list` shows those that \
             have one"
        ))
    })
}

fn only_one() -> Result<PathBuf, Failure> {
    let mut servers = servers();
    match servers.len() {
        1 => Ok(servers.remove(0).1),
        0 => Err(Failure::refused(format!(
            "no server of yours can be asked for a capture; {START} captures"
        ))),
        _ => {
            let pids: Vec<String> = servers.iter().map(|(pid, _)| pid.to_string()).collect();
            Err(Failure::refused(format!(
                "several servers run; say which: wirepath capture {}",
                pids.join(" | ")
            )))
        }
    }
}
