//! The server over TCP: two runtimes, each with a stack of its own, joined by
//! a cable in memory.

#[path = "../../runtime/tests/lab/mod.rs"]
mod lab;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use lab::{Lab, SERVER, wait_until};
use wirepath::{Request, ResponseWriter, ServeMux, Server, ServerBuilder};
use wirepath_runtime::chan::{Receiver, Sender, channel};
use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::{JoinHandle, go};

const ADDR: (std::net::IpAddr, u16) = (SERVER, 80);

fn hello(w: &mut ResponseWriter, _r: &mut Request) {
    w.write_all(b"hello\n").unwrap();
}

fn demo() -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/{$}", hello);
    mux.handle_func("/panic", |_, _| panic!("as the test asks"));
    mux.handle_func("POST /echo", |w, r| {
        std::io::copy(&mut r.body, w).unwrap();
    });
    mux.handle_func("/who", |w, r| {
        write!(w, "{} {}", r.remote_addr().ip(), r.local_addr()).unwrap();
    });
    mux
}

/// Starts a server on [`ADDR`], and waits until it listens.
fn start(lab: &Lab, builder: ServerBuilder) -> (Server, JoinHandle<()>) {
    let server = builder.build();
    let serving = server.clone();
    let (ready, listens) = channel::<()>(1);
    let accepting = lab.server.go(move || {
        let listener = TcpListener::bind(SocketAddr::from(ADDR)).unwrap();
        ready.send(()).unwrap();
        serving.serve(listener).unwrap();
    });
    listens.recv().unwrap();
    (server, accepting)
}

/// What the server sends to a client that sends this, until it closes.
fn ask(lab: &Lab, request: impl Into<Vec<u8>>) -> String {
    let request = request.into();
    let client = lab.client.go(move || {
        let mut stream = TcpStream::connect(SocketAddr::from(ADDR)).unwrap();
        stream.write_all(&request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    String::from_utf8(client.join().unwrap()).unwrap()
}

fn stat(server: &Server, name: &str) -> u64 {
    let stats = server.stats();
    stats.iter().find(|(n, _)| *n == name).unwrap().1
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let lab = Lab::new();
    let (server, _) = start(&lab, Server::builder(demo()));
    let who = "GET /who HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = ask(&lab, [who.repeat(500).as_str(), LAST].concat());
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 501);
    assert_eq!(answer.matches("10.7.0.2 10.7.0.1:80").count(), 500);
    assert!(answer.ends_with("\r\n\r\nhello\n"));
    assert_eq!(stat(&server, "requests"), 501);
    wait_until(|| stat(&server, "connections_open") == 0);
    assert_eq!(stat(&server, "bytes_out"), answer.len() as u64);
}

#[test]
fn a_body_is_echoed_while_it_comes() {
    let lab = Lab::new();
    let (_server, _) = start(&lab, Server::builder(demo()));
    let len = 3 << 20;
    let client = lab.client.go(move || {
        let mut stream = TcpStream::connect(SocketAddr::from(ADDR)).unwrap();
        let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let stream = std::sync::Arc::new(stream);
        let writer = stream.clone();
        let sending = go(move || {
            let piece: Vec<u8> = (0..1 << 16).map(|i| b'a' + (i % 26) as u8).collect();
            for _ in 0..len >> 16 {
                (&*writer).write_all(&piece).unwrap();
            }
        });
        let mut got = Vec::new();
        let mut buf = vec![0; 1 << 16];
        while !got.ends_with(b"\r\n0\r\n\r\n") {
            let n = (&*stream).read(&mut buf).unwrap();
            assert!(n > 0, "it ended after {}", got.len());
            got.extend_from_slice(&buf[..n]);
        }
        sending.join().unwrap();
        got
    });
    let got = client.join().unwrap();
    let head = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    assert!(got.len() - head > len, "{} bytes", got.len());
}

#[test]
fn a_panic_leaves_the_others_alone() {
    let lab = Lab::new();
    let (server, _) = start(&lab, Server::builder(demo()));
    assert_eq!(ask(&lab, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"), "");
    assert!(ask(&lab, LAST).ends_with("hello\n"));
    assert_eq!(stat(&server, "panics"), 1);
}

/// A handler that says when it was entered and waits until it may answer.
fn held() -> (ServeMux, Receiver<()>, Sender<()>) {
    let (entered, was_entered) = channel(1);
    let (release, released) = channel::<()>(1);
    let mut mux = demo();
    mux.handle_func("/held", move |w, r| {
        entered.send(()).unwrap();
        released.recv().unwrap();
        hello(w, r);
    });
    (mux, was_entered, release)
}

#[test]
fn a_shutdown_waits_for_the_request_in_flight() {
    let lab = Lab::new();
    let (mux, entered, release) = held();
    let (server, accepting) = start(&lab, Server::builder(mux));
    // One connection that is idle, and one in a handler.
    let idle = lab.client.go(|| {
        let mut stream = TcpStream::connect(SocketAddr::from(ADDR)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        rest
    });
    wait_until(|| stat(&server, "responses_2xx") == 1);
    let busy = lab.client.go(|| {
        let mut stream = TcpStream::connect(SocketAddr::from(ADDR)).unwrap();
        let request = "GET /held HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        rest
    });
    entered.recv().unwrap();
    let stopping = server.clone();
    let early = lab
        .server
        .go(move || stopping.shutdown(Duration::from_millis(1)));
    assert!(!early.join().unwrap().is_complete());
    let stopping = server.clone();
    let shutdown = lab
        .server
        .go(move || stopping.shutdown(Duration::from_secs(20)));
    assert!(idle.join().unwrap().ends_with("hello\n"));
    accepting.join().unwrap();
    let refused = lab.client.go(|| TcpStream::connect(SocketAddr::from(ADDR)));
    let refused = refused.join().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    wait_until(|| stat(&server, "connections_open") == 1);
    release.send(()).unwrap();
    let answer = busy.join().unwrap();
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("hello\n"));
    assert!(shutdown.join().unwrap().is_complete());
}
