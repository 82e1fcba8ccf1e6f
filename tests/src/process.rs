//! Programs that a test starts: what they print is kept, and none outlives
//! its test.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{PATIENCE, poll_until, wait_until};

/// How long [`run`] lets a command run.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// A command that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed to standard output.
    pub stdout: Vec<u8>,
    /// What it printed to standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself, if the command said that it went well.
    ///
    /// # Panics
    /// With all that it printed, otherwise.
    #[track_caller]
    pub fn ok(self) -> Finished {
        assert!(self.status.success(), "{self}");
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finished {
            status,
            stdout,
            stderr,
        } = self;
        let shown = &stdout[..stdout.len().min(4096)];
        let shown = String::from_utf8_lossy(shown);
        write!(f, "{status}\nstdout: {shown}\nstderr: {stderr}")
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started, or does not end within two minutes.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("{shown}: {err}"));
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let ended = poll_until(RUN_LIMIT, || matches!(child.try_wait(), Ok(Some(_))));
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().expect("a child of ours can be waited for");
    let [stdout, stderr] =
        [stdout, stderr].map(|reader| reader.join().expect("reading to the end does not panic"));
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let finished = Finished {
        status,
        stdout,
        stderr,
    };
    assert!(
        ended,
        "{shown} was still running after {RUN_LIMIT:?}: {finished}"
    );
    finished
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut all);
        }
        all
    })
}

/// A program that runs beside the test, killed when dropped. Its output is
/// printed when the test panics.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `command`, whose standard output and error are kept together.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Daemon> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = Arc::new(Mutex::new(String::new()));
        let readers = [
            child.stdout.take().map(|pipe| keep_lines(pipe, &output)),
            child.stderr.take().map(|pipe| keep_lines(pipe, &output)),
        ];
        Ok(Daemon {
            child,
            output,
            readers: readers.into_iter().flatten().collect(),
            status: None,
        })
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("nothing panics with it").clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    /// If it ends first, or takes too long.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        wait_until(&format!("a program prints {text:?}"), || {
            self.output().contains(text) || self.ended().is_some()
        });
        let printed = self.output().contains(text);
        assert!(
            printed,
            "ended without printing {text:?}: {}",
            self.output()
        );
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a process id is a positive i32");
        let _ = kill_process(pid, signal);
    }

    /// Waits for its end and returns how it ended and all that it printed.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> (ExitStatus, String) {
        wait_until("a program ends", || self.ended().is_some());
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let status = self.status.expect("it has ended");
        (status, self.output())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // Asked first, so that it finishes its capture file.
            self.signal(Signal::TERM);
            let patience = if std::thread::panicking() {
                PATIENCE / 6
            } else {
                PATIENCE
            };
            if !poll_until(patience, || self.ended().is_some()) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("lab: the program printed:\n{}", self.output());
        }
    }
}

fn keep_lines(pipe: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let output = output.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut output = output.lock().expect("nothing panics with it");
            output.push_str(&line);
            output.push('\n');
        }
    })
}
