//! A client of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use wirepath::see::Wanted;
use wirepath::see::state::{self, State};

use super::{Dump, Length, MAX_ANSWER_BYTES, Question, Refusal, place};
use crate::failure::Failure;

/// How long a server may take to answer: its threads answer, so more is the
/// machine's fault, or a debugger's.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a running server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects to the server that `target` names: a process's number, or a
    /// socket's path; without it, to the only one that runs.
    ///
    /// # Errors
    ///
    /// There is none, there are several (the error lists them), or it does not
    /// let this user in.
    pub fn find(target: Option<&str>) -> Result<Client, Failure> {
        match target {
            None => Client::only(),
            Some(pid) if pid.bytes().all(|b| b.is_ascii_digit()) => Client::of_process(pid),
            Some(path) => Client::connect(Path::new(path)),
        }
    }

    fn of_process(pid: &str) -> Result<Client, Failure> {
        let number = pid.parse().unwrap_or(u32::MAX);
        let paths = place::all_dirs().into_iter();
        let mut paths = paths.map(|dir| place::of_process(&dir, number));
        match paths.find(|path| path.exists()) {
            Some(path) => Client::connect(&path),
            None => Err(Failure::refused(format!(
                "process {pid} has no control socket{}; is it `wirepath serve` of this user, \
                 without --control? Give the PATH of its --control, or ask as its user",
                running_words(&living())
            ))),
        }
    }

    fn only() -> Result<Client, Failure> {
        let living = living();
        match &living[..] {
            [(_, path)] => Client::connect(path),
            [] => Err(Failure::refused(
                "no server of this user runs with a control socket; start one with `wirepath \
                 serve`, or give its PID or the PATH of its --control (root's servers answer root)",
            )),
            _ => Err(Failure::refused(format!(
                "which server?{}; give one of these PIDs",
                running_words(&living)
            ))),
        }
    }

    fn connect(path: &Path) -> Result<Client, Failure> {
        let shown = path.display();
        let failed = |error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => "; ask as the user that the server runs as",
                io::ErrorKind::ConnectionRefused => "; its server has ended",
                io::ErrorKind::NotFound => "; see the server's --control",
                _ => "",
            };
            Failure::refused(format!("cannot connect to {shown}: {error}{advice}"))
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .map_err(failed)?;
        stream
            .set_write_timeout(Some(ANSWER_LIMIT))
            .map_err(failed)?;
        Ok(Client {
            stream: BufReader::new(stream),
            path: path.to_owned(),
        })
    }

    /// Where it is connected to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the server is doing.
    ///
    /// # Errors
    ///
    /// The server ended, does not answer, or is of another version.
    pub fn state(&mut self, wanted: &Wanted) -> Result<State, Failure> {
        let state: State = self.ask(&Question::state(wanted))?;
        match state.version {
            state::VERSION => Ok(state),
            other => Err(Failure::running(format!(
                "the server's state has version {other}, and this command knows {}; use the \
                 `wirepath` that the server was started with",
                state::VERSION
            ))),
        }
    }

    /// Its goroutines, in the form of Go's dumps.
    ///
    /// # Errors
    ///
    /// As [`Client::state`].
    pub fn dump(&mut self) -> Result<String, Failure> {
        let dump: Dump = self.ask(&Question::Dump)?;
        Ok(dump.text)
    }

    /// Writes what its flight recorder holds into `sink`, as a recording. How
    /// many bytes it has.
    ///
    /// # Errors
    ///
    /// As [`Client::state`], and those of the sink.
    pub fn trace(&mut self, sink: &mut impl Write) -> Result<u64, Failure> {
        let Length { len } = self.ask(&Question::Trace)?;
        let mut bytes = self.stream.by_ref().take(len);
        let copied = io::copy(&mut bytes, sink)
            .map_err(|e| Failure::running(format!("the recording could not be copied: {e}")))?;
        match copied == len {
            true => Ok(len),
            false => Err(Failure::running(format!(
                "the server ended after {copied} of the recording's {len} bytes"
            ))),
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, question: &Question) -> Result<T, Failure> {
        let line = self.exchange(question).map_err(|error| self.lost(&error))?;
        let wrong = |error: serde_json::Error| {
            let path = self.path.display();
            Failure::running(format!("what {path} answers cannot be read: {error}"))
        };
        if let Ok(Refusal { error }) = serde_json::from_slice(&line) {
            return Err(Failure::running(format!("the server says: {error}")));
        }
        serde_json::from_slice(&line).map_err(wrong)
    }

    fn exchange(&mut self, question: &Question) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        line.clear();
        let mut bounded = self.stream.by_ref().take(MAX_ANSWER_BYTES);
        bounded.read_until(b'\n', &mut line)?;
        match line.last() {
            Some(b'\n') => Ok(line),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) => Err(io::Error::other("the answer has no end")),
        }
    }

    fn lost(&self, error: &io::Error) -> Failure {
        let path = self.path.display();
        Failure::running(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!(
                "the server at {path} has not answered for {} s; is it stopped?",
                ANSWER_LIMIT.as_secs()
            ),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => format!("the server at {path} has ended"),
            _ => format!("the server at {path} cannot be asked: {error}"),
        })
    }
}

/// The servers that answer, of all folders.
fn living() -> Vec<(u32, PathBuf)> {
    let dirs = place::all_dirs();
    let sockets = dirs.iter().flat_map(|dir| place::sockets(dir));
    sockets.filter(|(_, path)| !place::is_dead(path)).collect()
}

/// ` (running: 17, 23)`.
fn running_words(living: &[(u32, PathBuf)]) -> String {
    let pids: Vec<String> = living.iter().map(|(pid, _)| pid.to_string()).collect();
    match pids.is_empty() {
        true => String::new(),
        false => format!(" (running: {})", pids.join(", ")),
    }
}
