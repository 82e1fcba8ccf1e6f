//! Wirepath's answers beside those of Go's `net/http`, conversation by
//! conversation, from the records in `tests/oracle/` (see
//! [`wirepath_tests::oracle`]). `make oracle` records them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use wirepath_tests::http::Client;
use wirepath_tests::oracle::play::play;
use wirepath_tests::oracle::vector::{folder, read, write};
use wirepath_tests::oracle::{Outcome, Vector, page};
use wirepath_tests::process::Daemon;

/// The files of vectors.
const FILES: [&str; 4] = ["wire", "malformed", "smuggling", "mux"];
/// Where the recorded smuggling cases may not become fewer.
const LEAST_SMUGGLING: usize = 200;
/// Conversations at a time; most of them wait for a server's linger.
const AT_A_TIME: usize = 16;
/// The program of `tests/oracle`, when recording.
const ORACLE: &str = "WIREPATH_ORACLE";
/// The row of a difference that nobody has explained yet. The page has none of
/// that name.
const UNEXPLAINED: &str = "?";

/// A conformance server on loopback.
struct Server {
    daemon: Daemon,
    addr: SocketAddr,
}

impl Server {
    #[track_caller]
    fn start(program: &Path, listen: [&str; 2]) -> Server {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.args(listen).arg("-catchall");
        command.arg("-muxsets").arg(folder().join("muxsets.json"));
        let mut daemon = Daemon::start(&mut command).expect("a program can be started");
        daemon.wait_for("listening on http://");
        let output = daemon.output();
        let url = output.split("listening on http://").nth(1);
        let addr = url.and_then(|url| url.split(['/', ' ', '\n']).next());
        let addr = addr.and_then(|addr| addr.parse().ok());
        Server {
            addr: addr.unwrap_or_else(|| panic!("no address in {output}")),
            daemon,
        }
    }

    fn ours() -> Server {
        let program = Path::new(env!("CARGO_BIN_EXE_wirepath-conformance"));
        Server::start(program, ["--kernel", "127.0.0.1:0"])
    }

    fn play(&self, vector: &Vector) -> Outcome {
        let stream = TcpStream::connect(self.addr).expect("the server accepts");
        play(vector, stream).expect("the client's socket works")
    }

    /// The outcome of each vector, in their order.
    fn play_all(&self, vectors: &[Vector]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(vector) = vectors.get(at) else {
                            return;
                        };
                        let outcome = self.play(vector);
                        outcomes.lock().unwrap().insert(at, outcome);
                    }
                });
            }
        });
        outcomes.into_inner().unwrap().into_values().collect()
    }
}

#[track_caller]
fn replay(file: &str) {
    let vectors = read(file);
    let outcomes = Server::ours().play_all(&vectors);
    let mut wrong = 0;
    for (vector, outcome) in vectors.iter().zip(outcomes) {
        if outcome != *vector.expected() {
            wrong += 1;
            eprintln!("{}: {:#?}", vector.id, vector.expected());
            eprintln!("but now {outcome:#?}");
        }
    }
    assert_eq!(wrong, 0, "of {} conversations of {file}", vectors.len());
}

#[test]
fn exchanges_are_as_with_go() {
    replay("wire");
}

#[test]
fn malformed_requests_get_their_recorded_answers() {
    replay("malformed");
}

#[test]
fn smuggling_gets_its_recorded_answers() {
    replay("smuggling");
}

#[test]
fn muxes_route_as_gos_do() {
    replay("mux");
}

#[test]
fn it_dials_out_and_ends_when_told() {
    let mut server = Server::ours();
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = peer.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (mut stream, _) = peer.accept().unwrap();
        let mut said = [0; 7];
        stream.read_exact(&mut said).unwrap();
        stream.write_all(b"welcome").unwrap();
        said
    });
    let mut client = Client::new(TcpStream::connect(server.addr).unwrap());
    let reply = client.get(&format!("/dial?addr={addr}&ms=1000"));
    assert_eq!(reply.text(), "ok \"welcome\"\n");
    assert_eq!(answering.join().unwrap(), *b"dialed\n");
    // Nobody listens there any more.
    let failed = client.get(&format!("/dial?addr={addr}&ms=1000"));
    assert_eq!(failed.status, 502);
    server.daemon.signal(Signal::TERM);
    assert_eq!(client.rest().unwrap(), b"");
    let (status, printed) = server.daemon.wait();
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[test]
fn each_difference_is_explained() {
    let mut counts = BTreeMap::new();
    for vector in FILES.iter().flat_map(|file| read(file)) {
        assert_eq!(vector.ours.is_some(), vector.row.is_some(), "{}", vector.id);
        assert_ne!(vector.ours, vector.go, "{}", vector.id);
        if let Some(row) = vector.row {
            *counts.entry(row).or_insert(0) += 1;
        }
    }
    let rows = page::rows();
    for row in counts.keys() {
        assert!(rows.contains_key(row), "the page has no row {row}");
    }
    for (row, said) in rows {
        let count = counts.get(&row).copied().unwrap_or(0);
        assert_eq!(count, said, "conversations of {row}");
    }
}

#[test]
fn no_name_is_twice_and_none_was_lost() {
    for file in FILES {
        let vectors = read(file);
        let names: BTreeSet<_> = vectors.iter().map(|v| &v.id).collect();
        assert_eq!(names.len(), vectors.len(), "{file}");
    }
    let smuggling = read("smuggling").len();
    assert!(smuggling >= LEAST_SMUGGLING, "{smuggling}");
}

/// Asks both servers anew. A difference keeps the row that it had.
#[test]
#[ignore = "`make oracle` runs it, with Go's server"]
fn record() {
    let oracle = std::env::var_os(ORACLE).expect("make oracle says where Go's server is");
    let go = Server::start(Path::new(&oracle), ["-listen", "127.0.0.1:0"]);
    let ours = Server::ours();
    let mut counts = BTreeMap::new();
    for file in FILES {
        let mut vectors = read(file);
        let theirs = go.play_all(&vectors);
        let answers = ours.play_all(&vectors);
        for ((vector, theirs), ours) in vectors.iter_mut().zip(theirs).zip(answers) {
            let differs = ours != theirs;
            let row = vector.row.take().unwrap_or_else(|| UNEXPLAINED.to_owned());
            vector.row = differs.then_some(row);
            vector.ours = differs.then_some(ours);
            vector.go = Some(theirs);
            if let Some(row) = &vector.row {
                *counts.entry(row.clone()).or_insert(0) += 1;
            }
        }
        write(file, &vectors);
    }
    page::set_counts(&counts);
    println!("differences: {counts:#?}");
}
