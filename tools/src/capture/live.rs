//! Captures of a running server, asked for over a Unix socket.
//!
//! A server leaves a socket `PID.capture` in a folder of its user's
//! ([`folders`]), which only that user may open. Who connects writes one line of
//! JSON ([`Ask`]) and reads one ([`Reply`]); behind that comes the capture, until
//! the asker shuts its side: the statistics follow, and the end. The
//! server's queues pass through a switch that costs them one load a burst while
//! nobody captures. A reader that is slow costs the capture frames, which are
//! counted, and the server nothing.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wirepath_driver::Queue;
use wirepath_driver::capture::{CaptureFile, CaptureSwitch, Files};

use super::boxed;
use super::options::WhatArgs;

/// What the names of the sockets end in.
const SUFFIX: &str = ".capture";

/// Bytes of a line at most: a filter has 4096 characters.
const MOST_LINE: u64 = 32 << 10;

/// How long an asker may take to say what it wants.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    /// A filter; empty for none.
    pub filter: String,
    /// Whether frames get comments.
    pub comments: bool,
    /// Bytes of each frame to keep; None for all.
    pub snaplen: Option<u64>,
}

/// Whether there is a capture.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// Why not; empty when there is one, which follows.
    pub error: String,
}

/// Where servers leave their sockets: the folder of the user's session, and
/// that of the system's services.
pub fn folders() -> Vec<PathBuf> {
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let session = session.filter(|folder| folder.is_absolute());
    let system = Some(PathBuf::from("/run"));
    let all = session.into_iter().chain(system);
    all.map(|folder| folder.join("wirepath")).collect()
}

/// The sockets that there are, with the processes that they are of.
pub fn sockets() -> Vec<(u32, PathBuf)> {
    let entries = folders().into_iter().filter_map(|f| fs::read_dir(f).ok());
    let pid = |path: &Path| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(SUFFIX)?.parse().ok()
    };
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let mut all: Vec<_> = paths.filter_map(|path| Some((pid(&path)?, path))).collect();
    all.sort();
    all.dedup_by_key(|(pid, _)| *pid);
    all
}

/// A socket that nobody answers yet.
pub struct Socket {
    listener: UnixListener,
    path: Removed,
}

/// A path that goes with its owner.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // A server that gave its rights up may not remove what it made; askers
        // pass over what nobody answers.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Makes it, in the first folder that can be written. None when there is no
    /// such folder, which keeps no server from serving.
    pub fn open() -> Option<Socket> {
        let found = folders().into_iter().find_map(|folder| {
            Socket::open_in(&folder)
                .inspect_err(|e| tracing::debug!("no capture socket in {}: {e}", folder.display()))
                .ok()
        });
        if found.is_none() {
            tracing::info!("no folder for a capture socket: `wirepath capture` will not find it");
        }
        found
    }

    fn open_in(folder: &Path) -> io::Result<Socket> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let path = folder.join(format!("{}{SUFFIX}", std::process::id()));
        // One that a process with the same number left.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let path = Removed(path);
        fs::set_permissions(&path.0, fs::Permissions::from_mode(0o600))?;
        Ok(Socket { listener, path })
    }

    /// Answers it from now on, on threads of its own, until the process ends.
    ///
    /// # Errors
    /// There is no thread.
    pub fn serve(self) -> io::Result<Live> {
        let switch = CaptureSwitch::new();
        let live = Live {
            switch: switch.clone(),
            _path: self.path,
        };
        let listener = self.listener;
        spawn("capture-asked", move || {
            for stream in listener.incoming().flatten() {
                let switch = switch.clone();
                let answered = spawn("capture-live", move || {
                    if let Err(e) = answer(&stream, &switch) {
                        tracing::debug!("a capture that was asked for ended: {e}");
                    }
                });
                if let Err(e) = answered {
                    tracing::warn!("no thread for a capture that was asked for: {e}");
                }
            }
        })?;
        Ok(live)
    }
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(f)?;
    Ok(())
}

/// A server that can be asked.
pub struct Live {
    switch: CaptureSwitch,
    _path: Removed,
}

impl Live {
    /// Makes a queue's frames part of captures that are asked for.
    pub fn wrap(&self, queue: Box<dyn Queue>) -> Box<dyn Queue> {
        Box::new(self.switch.wrap(queue))
    }
}

/// The stream, once the reply is on it.
struct Once {
    stream: Option<UnixStream>,
    reply: mpsc::Receiver<()>,
}

impl Files for Once {
    fn next(&mut self) -> io::Result<Box<dyn Write + Send>> {
        // Nobody replies to a capture that is refused.
        self.reply.recv().map_err(io::Error::other)?;
        let stream = self.stream.take().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Box::new(stream))
    }
}

fn answer(stream: &UnixStream, switch: &CaptureSwitch) -> io::Result<()> {
    stream.set_read_timeout(Some(ASK_PATIENCE))?;
    let asked = read_line(stream)?;
    stream.set_read_timeout(None)?;
    match start(stream, switch, &asked) {
        Err(error) => write_line(stream, &Reply { error }),
        Ok(file) => {
            // Until the asker shuts its side, or is gone.
            let ended = io::copy(&mut { stream }, &mut io::sink());
            switch.turn_off(&file);
            let finished = file.finish().map_err(io::Error::other);
            let _ = stream.shutdown(Shutdown::Both);
            ended.and(finished.map(|_| ()))
        }
    }
}

/// Begins the capture, behind its reply.
fn start(stream: &UnixStream, switch: &CaptureSwitch, asked: &str) -> Result<CaptureFile, String> {
    let ask: Ask = serde_json::from_str(asked).map_err(|e| {
        format!("this is no request for a capture: {e}; ask with `wirepath capture`")
    })?;
    let filter = match ask.filter.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|e| format!("the filter: {e}"))?),
    };
    let what = WhatArgs {
        snaplen: ask.snaplen,
        pcap_filter: filter,
        pcap_comments: Some(ask.comments),
    };
    let (sift, _) = boxed(&what);
    let fail = |e: &dyn std::error::Error| e.to_string();
    let sink = stream.try_clone().map_err(|e| fail(&e))?;
    let (replied, reply) = mpsc::channel();
    let once = Once {
        stream: Some(sink),
        reply,
    };
    let file = CaptureFile::start_in(Box::new(once), what.options(), sift).map_err(|e| fail(&e))?;
    if !switch.turn_on(&file) {
        return Err("as many captures as there may be are under way; end one of them".into());
    }
    write_line(stream, &Reply::default()).map_err(|e| fail(&e))?;
    // The writer waits for nothing else.
    let _ = replied.send(());
    Ok(file)
}

/// A line of at most [`MOST_LINE`] bytes, without its end.
pub fn read_line(stream: impl Read) -> io::Result<String> {
    let mut line = String::new();
    // Unbuffered beyond the line: what follows it is another's.
    let mut bytes = BufReader::with_capacity(1, stream.take(MOST_LINE));
    bytes.read_line(&mut line)?;
    match line.pop() {
        Some('\n') => Ok(line),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes a document as a line.
pub fn write_line(mut stream: impl Write, document: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(document).map_err(io::Error::other)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}
