//! Handlers and servers, tested as their users would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use http::StatusCode;
use wirepath_runtime::{now, simulate, sleep};

use super::*;
use crate::{Request, ResponseWriter, ServeMux, Server};

fn routes() -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/{$}", |w, _| w.write_all(b"hello\n").unwrap());
    mux.handle_func("POST /echo", |w, r| {
        std::io::copy(&mut r.body, w).unwrap();
    });
    mux.handle_func("/early", |w, _| {
        w.header("Link", "</a.css>; rel=preload");
        w.write_header(StatusCode::EARLY_HINTS);
        w.write_all(b"final").unwrap();
    });
    mux.handle_func("/sum", |w, _| {
        w.header("Trailer", "X-Sum");
        w.write_all(b"body").unwrap();
        w.flush().unwrap();
        w.trailer("X-Sum", "42").unwrap();
    });
    mux.handle_func("/none", |w, _| w.write_header(StatusCode::NO_CONTENT));
    mux.handle_func("/big", |w, _| w.write_all(&[b'x'; 300_000]).unwrap());
    mux.handle_func("/who", |w, r| {
        write!(w, "{} {}", r.remote_addr(), r.local_addr()).unwrap();
    });
    mux
}

/// The same answers are expected of a handler alone and of a server.
fn answers(ask: impl Fn(RequestBuilder) -> Response) {
    let hello = ask(request("GET", "/"));
    assert_eq!((hello.status(), &*hello.text()), (200, "hello\n"));
    assert_eq!(
        hello.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(hello.header("content-length"), Some("6"));
    let head = ask(request("HEAD", "/"));
    assert_eq!((head.status(), head.body.len()), (200, 0));
    let body = "x".repeat(5000);
    let echo = ask(request("POST", "/echo").body(body.as_str()).chunked());
    assert_eq!(echo.text(), body);
    let early = ask(request("GET", "/early"));
    assert_eq!((early.status(), &*early.text()), (200, "final"));
    assert_eq!(early.informational[0].0, 103);
    assert_eq!(early.informational[0].1.len(), 1);
    let sum = ask(request("GET", "/sum"));
    assert_eq!(
        (&*sum.text(), &sum.trailers["x-sum"]),
        ("body", &"42".parse().unwrap())
    );
    assert_eq!(ask(request("GET", "/none")).status(), 204);
    assert_eq!(ask(request("GET", "/big")).body.len(), 300_000);
    let old = ask(request("GET", "/big").http_10());
    assert_eq!(
        (old.version, old.body.len()),
        (http::Version::HTTP_10, 300_000)
    );
    assert_eq!(ask(request("GET", "/nowhere")).status(), 404);
    let wrong = ask(request("DELETE", "/echo"));
    assert_eq!((wrong.status(), wrong.header("Allow")), (405, Some("POST")));
}

#[test]
fn a_handler_answers_alone() {
    let mux = routes();
    answers(|r| r.serve(&mux));
    let who = request("GET", "/who").remote_addr(([10, 0, 0, 7], 99));
    assert_eq!(who.serve(&mux).text(), "10.0.0.7:99 192.0.2.2:80");
}

#[test]
fn what_a_handler_does_is_recorded() {
    let mux = routes();
    let sum = request("GET", "/sum").record(&mux);
    assert!(sum.is_flushed());
    assert_eq!((sum.status().as_u16(), sum.body()), (200, &b"body"[..]));
    assert_eq!(sum.trailers().collect::<Vec<_>>(), [("X-Sum", &b"42"[..])]);
    let hello = request("GET", "/").record(&mux);
    assert!(!hello.is_flushed());
    assert_eq!(
        hello.headers().count(),
        0,
        "what the server adds is not there"
    );
}

#[test]
fn a_server_answers_in_memory() {
    let server = TestServer::start(routes());
    answers(|r| server.send(&r).unwrap());
    let mut client = server.connect();
    for _ in 0..3 {
        let who = client.send(&request("GET", "/who")).unwrap();
        assert_eq!(who.text(), format!("{} 192.0.2.2:80", client.local_addr()));
    }
}

#[test]
fn a_server_answers_on_the_loopback() {
    let server = TestServer::start(routes());
    let url = server.url();
    assert_eq!(server.url(), url);
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
}

#[test]
fn raw_bytes_go_both_ways() {
    let server = TestServer::start(routes());
    let mut client = server.connect();
    client.write_all(b"GET / HTTP/1.1\nHost: a\n\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
}

#[test]
fn a_dropped_server_is_gone_though_a_handler_waits() {
    let server = TestServer::start(|_: &mut ResponseWriter, _: &mut Request| {
        sleep(Duration::from_secs(3600));
    });
    let url = server.url();
    let mut client = server.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    drop(server);
    assert!(client.response_to("GET").is_err());
    TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap_err();
}

#[test]
fn a_server_that_was_shut_down_answers_nothing() {
    let server = TestServer::start(routes());
    assert!(
        server
            .server()
            .shutdown(Duration::from_secs(9))
            .is_complete()
    );
    let refused = server.get("/").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn time_outs_pass_in_no_time() {
    let run = simulate(7, || {
        let builder = Server::builder(routes()).read_header_timeout(Duration::from_secs(600));
        let server = TestServer::with(builder);
        let start = now();
        let mut client = server.connect();
        client.write_all(b"GET / HT").unwrap();
        let answer = client.response_to("GET").unwrap_err();
        assert_eq!(answer.kind(), std::io::ErrorKind::UnexpectedEof);
        assert_eq!(now() - start, Duration::from_secs(600));
        let waiting = server.connect();
        waiting.set_timeout(Some(Duration::from_secs(60)));
        let mut waiting = waiting;
        let late = waiting.read(&mut [0; 1]).unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    });
    run.unwrap();
}
