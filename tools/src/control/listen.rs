//! The server's end of the control socket.

use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use serde::Serialize;
use wirepath::see::{Recording, Scene, Wanted};

use super::place::{self, ControlPath};
use super::{Dump, Length, MAX_LISTED, MAX_QUESTION_BYTES, Question, Refusal};
use crate::failure::Failure;

/// Clients at a time: each has a thread.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to read an answer before it is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Goroutines that a dump lists at most.
const MOST_GOROUTINES: usize = 100_000;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// How long to wait after a failure to accept (no more descriptors, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A control socket that is there, and whom nobody answers yet. It is made
/// while the process still may, and has one thread.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Listening {
    /// Makes the socket that `--control` asks for, or the default one. That the
    /// default one cannot be made is logged, and no reason not to serve.
    ///
    /// # Errors
    ///
    /// A path that was asked for, and cannot be had.
    pub fn open(wish: Option<&ControlPath>) -> Result<Option<Listening>, Failure> {
        match wish {
            Some(ControlPath::Off) => Ok(None),
            Some(ControlPath::At(path)) => listen_at(path).map(Some).map_err(|error| {
                let path = path.display();
                Failure::refused(format!(
                    "--control {path}: {error}; give another path, or `--control off`"
                ))
            }),
            None => Ok(by_default()),
        }
    }

    /// Begins to answer.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn answer(self, scene: Scene) -> Result<Control, Failure> {
        let failed = |e| Failure::running(format!("cannot answer at the control socket: {e}"));
        let listener = Arc::new(self.listener);
        let control = Control {
            listener: listener.clone(),
            ended: Arc::default(),
            path: self.path,
        };
        let ended = control.ended.clone();
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &ended, &scene))
            .map_err(failed)?;
        Ok(control)
    }
}

/// The socket of a server that runs, removed at its end.
#[derive(Debug)]
pub struct Control {
    listener: Arc<UnixListener>,
    ended: Arc<AtomicBool>,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Before the shutdown, whose error the thread then takes for the end.
        self.ended.store(true, Ordering::Release);
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
        // With --user the folder is another's; the next server tidies up.
        let _ = fs::remove_file(&self.path);
    }
}

fn by_default() -> Option<Listening> {
    let Some(dir) = place::own_dir() else {
        tracing::warn!(
            "no control socket for `wirepath top`: XDG_RUNTIME_DIR is not set; give --control PATH"
        );
        return None;
    };
    let made = make_dir(&dir).and_then(|()| {
        place::tidy(&dir);
        listen_at(&place::of_process(&dir, std::process::id()))
    });
    let warn = |error: &io::Error| {
        let dir = dir.display();
        tracing::warn!(%dir, %error, "no control socket for `wirepath top`; give --control PATH");
    };
    made.inspect_err(warn).ok()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Listens at a path, which is free, or a socket's whose process is dead.
fn listen_at(path: &Path) -> io::Result<Listening> {
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(io::Error::other("a file that is not a socket is there"));
        }
        if !place::is_dead(path) {
            return Err(io::Error::other("another process listens there"));
        }
        fs::remove_file(path)?;
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A socket's mode becomes that of the name that bind(2) makes, so it is
    // never open to others, not even for a moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(Listening {
        listener: socket.into(),
        path: path.to_owned(),
    })
}

fn accept(listener: &UnixListener, ended: &AtomicBool, scene: &Scene) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if ended.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => take(stream, &clients, scene),
            Err(error) => {
                tracing::debug!(%error, "the control socket could not accept");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Counts a client for as long as it is there.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take(mut stream: UnixStream, clients: &Arc<AtomicUsize>, scene: &Scene) {
    let before = clients.fetch_add(1, Ordering::Relaxed);
    let seat = Seat(clients.clone());
    if before >= MAX_CLIENTS {
        // Whether it hears is its own affair.
        let _ = refuse(
            &mut stream,
            format!("{MAX_CLIENTS} clients are there already; end one of them"),
        );
        return;
    }
    let scene = scene.clone();
    let client = move || {
        let _seat = seat;
        if let Err(error) = converse(&stream, &scene) {
            tracing::debug!(%error, "a client of the control socket is gone");
        }
    };
    let thread = std::thread::Builder::new().name("control-client".into());
    if let Err(error) = thread.spawn(client) {
        tracing::warn!(%error, "no thread for a client of the control socket");
    }
}

fn converse(mut stream: &UnixStream, scene: &Scene) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = reader.by_ref().take(MAX_QUESTION_BYTES);
        bounded.read_until(b'\n', &mut line)?;
        match line.last() {
            None => return Ok(()),
            Some(b'\n') => answer(&mut stream, &line, scene)?,
            Some(_) => {
                return refuse(
                    &mut stream,
                    format!(
                        "a line has {MAX_QUESTION_BYTES} bytes at most and ends with a newline"
                    ),
                );
            }
        }
    }
}

fn answer(sink: &mut impl Write, line: &[u8], scene: &Scene) -> io::Result<()> {
    match serde_json::from_slice(line) {
        Ok(Question::State {
            flows,
            goroutines,
            requests,
        }) => {
            let wanted = Wanted {
                flows: flows.min(MAX_LISTED),
                goroutines: goroutines.min(MAX_LISTED),
                requests: requests.min(MAX_LISTED),
            };
            say(sink, &scene.state(&wanted))
        }
        Ok(Question::Dump) => {
            let text = scene.runtime().dump(MOST_GOROUTINES);
            say(sink, &Dump { text })
        }
        Ok(Question::Trace) => {
            let bytes = Recording::take(scene.runtime(), "asked").to_bytes();
            let len = bytes.len() as u64;
            say(sink, &Length { len })?;
            sink.write_all(&bytes)
        }
        Err(error) => refuse(
            sink,
            format!(
                "this is no question: {error}; ask {{\"get\":\"state\"}}, {{\"get\":\"dump\"}} or \
                 {{\"get\":\"trace\"}}"
            ),
        ),
    }
}

fn refuse(sink: &mut impl Write, error: String) -> io::Result<()> {
    say(sink, &Refusal { error })
}

fn say(sink: &mut impl Write, answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    sink.write_all(&line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use wirepath::runtime::Runtime;

    use super::super::Client;
    use super::*;

    struct Asked {
        dir: tempfile::TempDir,
        runtime: Runtime,
        control: Control,
    }

    fn asked() -> Asked {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::builder().max_procs(1).build().unwrap();
        let wish = ControlPath::At(dir.path().join("s"));
        let listening = Listening::open(Some(&wish)).unwrap().unwrap();
        let control = listening.answer(Scene::new(runtime.handle())).unwrap();
        Asked {
            dir,
            runtime,
            control,
        }
    }

    impl Asked {
        fn ask(&self, line: &[u8]) -> String {
            let mut stream = UnixStream::connect(self.dir.path().join("s")).unwrap();
            stream.write_all(line).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            // What the server did not read any more may reset the connection.
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        }

        fn client(&self) -> Client {
            let path = self.dir.path().join("s");
            Client::find(Some(path.to_str().unwrap())).unwrap()
        }

        fn end(self) {
            drop(self.control);
            assert!(!self.dir.path().join("s").exists());
            self.runtime.shutdown(Duration::from_secs(1));
        }
    }

    #[test]
    fn it_is_its_owners_alone_and_goes_with_its_server() {
        let asked = asked();
        let mode = fs::metadata(asked.dir.path().join("s"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        asked.end();
    }

    #[test]
    fn clients_are_answered_as_often_as_they_ask() {
        let asked = asked();
        let wanted = Wanted {
            flows: 1,
            goroutines: 1,
            requests: usize::MAX,
        };
        let mut clients = [asked.client(), asked.client()];
        for _ in 0..3 {
            for client in &mut clients {
                let state = client.state(&wanted).unwrap();
                assert_eq!(state.pid, std::process::id());
                assert_eq!(state.procs.len(), 1);
                client.dump().unwrap();
            }
        }
        let mut bytes = Vec::new();
        let len = clients[0].trace(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, len);
        assert_eq!(Recording::read(&bytes[..]).unwrap().meta.why, "asked");
        assert_eq!(clients[0].state(&wanted).unwrap().network, "kernel");
        asked.end();
    }

    #[test]
    fn what_is_no_question_is_answered_with_why() {
        let asked = asked();
        for (line, said) in [
            (&b"\n"[..], "no question"),
            (b"{}\n", "get"),
            (b"{\"get\":\"money\"}\n", "money"),
            (b"{\"get\":\"state\",\"flows\":-1}\n", "-1"),
            (b"\xff\xfe\n", "no question"),
            (b"{\"get\":\"dump\"}", "ends with a newline"),
            (&[b'x'; 10_000], "bytes at most"),
        ] {
            let answer = asked.ask(line);
            let shown = String::from_utf8_lossy(line);
            assert!(answer.starts_with("{\"error\":\""), "{shown}: {answer}");
            assert!(answer.contains(said), "{shown}: {answer}");
        }
        let again = asked.ask(b"nonsense\n{\"get\":\"dump\"}\n");
        assert_eq!(again.lines().count(), 2, "{again}");
        asked.end();
    }

    #[test]
    fn one_client_more_than_there_are_seats_is_told_so() {
        let asked = asked();
        let path = asked.dir.path().join("s");
        let mut seated = Vec::new();
        for _ in 0..MAX_CLIENTS {
            let mut client = asked.client();
            client.dump().unwrap();
            seated.push(client);
        }
        let mut told = String::new();
        let mut one_more = UnixStream::connect(&path).unwrap();
        one_more.read_to_string(&mut told).unwrap();
        assert!(told.contains("16 clients"), "{told}");
        asked.end();
    }

    #[test]
    fn a_path_that_is_taken_is_refused_and_a_dead_ones_is_not() {
        let asked = asked();
        let path = asked.dir.path().join("s");
        let open = |path: PathBuf| Listening::open(Some(&ControlPath::At(path)));
        let said = open(path).unwrap_err().to_string();
        assert!(said.contains("another process listens"), "{said}");
        let file = asked.dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let said = open(file.clone()).unwrap_err().to_string();
        assert!(said.contains("not a socket"), "{said}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let left = asked.dir.path().join("left");
        drop(UnixListener::bind(&left).unwrap());
        assert!(open(left).unwrap().is_some());
        assert!(Listening::open(Some(&ControlPath::Off)).unwrap().is_none());
        asked.end();
    }
}
