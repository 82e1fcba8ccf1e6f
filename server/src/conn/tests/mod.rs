mod go;
mod seams;

use std::io::{Read, Write};

use super::testing::{connect, exchange, run, service};
use super::*;
use crate::request::Request;
use crate::response::ResponseWriter;

fn hello(w: &mut ResponseWriter, _r: &mut Request) {
    w.write_all(b"hello\n").unwrap();
}

fn echo(w: &mut ResponseWriter, r: &mut Request) {
    let mut body = Vec::new();
    match r.body.read_to_end(&mut body) {
        Ok(_) => w.write_all(&body).unwrap(),
        Err(e) => crate::error(w, &e.to_string(), StatusCode::BAD_REQUEST),
    }
}

#[test]
fn one_request_one_write() {
    let (mut connection, conn) = connect(&service(hello));
    conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(run(&mut connection), Outcome::Readable);
    let sent = String::from_utf8(conn.sent()).unwrap();
    assert!(sent.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{sent}");
    assert!(sent.ends_with(
        " GMT\r\nContent-Length: 6\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\n"
    ));
    assert_eq!(conn.writes(), 1);
    assert!(connection.exchange.is_none(), "idle without an exchange");
}

#[test]
fn refusals_are_counted_by_reason() {
    let service = service(hello);
    let heads = [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ];
    for head in heads {
        let (mut connection, conn) = connect(&service);
        conn.arrive(head.as_bytes());
        assert_eq!(run(&mut connection), Outcome::Done);
    }
    let list = service.stats.list();
    let count = |name| {
        list.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, count)| *count)
    };
    assert_eq!(count("requests_refused"), Some(3));
    assert_eq!(count("refused_duplicate_host"), Some(2));
    assert_eq!(count("refused_folded_line"), Some(1));
    assert_eq!(count("refused_bare_lf"), None, "there was none");
}

#[test]
fn a_size_that_never_comes_is_answered() {
    for size in ["7fffffffffffffff", "8000000000000000", "ffffffffffffffff"] {
        let body = format!("{size}\r\na\r\n0\r\n\r\n");
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let (mut connection, conn) = connect(&service(echo));
        conn.arrive(request.as_bytes());
        assert_eq!(run(&mut connection), Outcome::Done);
        let sent = String::from_utf8(conn.sent()).unwrap();
        assert!(
            sent.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{size}: {sent}"
        );
    }
}

#[test]
fn one_request_one_read() {
    let (mut connection, conn) = connect(&service(hello));
    conn.arrive_apart();
    conn.arrive(b"GET / HTTP/1.1\r\n");
    conn.arrive(b"Host: a\r\n\r\n");
    conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (reads, answers) in [(1, 0), (2, 1), (3, 2)] {
        assert_eq!(connection.step(), Outcome::Readable);
        assert_eq!((conn.reads(), conn.writes()), (reads, answers));
    }
    // Woken without cause, it asks, and hears that there is nothing.
    assert_eq!(connection.step(), Outcome::Readable);
    assert_eq!(conn.reads(), 4);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (mut connection, conn) = connect(&service(|w: &mut ResponseWriter, r: &mut Request| {
        w.write_all(r.target().as_bytes()).unwrap();
    }));
    let requests: String = (0..100)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    conn.arrive(requests.as_bytes());
    assert_eq!(connection.step(), Outcome::Yield, "it lets others run");
    assert_eq!(run(&mut connection), Outcome::Readable);
    let sent = String::from_utf8(conn.sent()).unwrap();
    let bodies: Vec<&str> = sent
        .split("\r\n\r\n")
        .skip(1)
        .map(|part| part.split("HTTP/1.1").next().unwrap())
        .collect();
    let want: Vec<String> = (0..100).map(|i| format!("/{i}")).collect();
    assert_eq!(bodies, want);
}

#[test]
fn a_refused_head_gets_its_status_and_the_end() {
    for (head, want) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (
            "GET / HTTP/2.0\r\n\r\n",
            "HTTP/1.1 505 HTTP Version Not Supported",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 501 Not Implemented",
        ),
        ("GET / HTTP/1.1\nHost: a\n\n", "HTTP/1.1 400 Bad Request"),
    ] {
        let (sent, outcome) = exchange(hello, &[head.as_bytes()]);
        assert!(sent.starts_with(want), "{head:?}: {sent}");
        assert!(sent.contains("\r\nConnection: close\r\n"));
        assert_eq!(outcome, Outcome::Done);
    }
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 21));
    let (sent, _) = exchange(hello, &[huge.as_bytes()]);
    assert!(sent.starts_with("HTTP/1.1 431 "), "{sent}");
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: 1\r\n".repeat(500)
    );
    let (sent, _) = exchange(hello, &[many.as_bytes()]);
    assert!(sent.starts_with("HTTP/1.1 431 "), "{sent}");
    let enough = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: 1\r\n".repeat(499)
    );
    let (sent, _) = exchange(hello, &[enough.as_bytes()]);
    assert!(sent.starts_with("HTTP/1.1 200 "), "{sent}");
}

#[test]
fn bodies_come_by_length_and_in_chunks() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    ] {
        for cut in 0..request.len() {
            let (start, end) = request.as_bytes().split_at(cut);
            let (sent, outcome) = exchange(echo, &[start, end]);
            assert!(
                sent.ends_with("\r\n\r\nhello world"),
                "cut at {cut}: {sent}"
            );
            assert_eq!(outcome, Outcome::Readable);
        }
    }
}

#[test]
fn the_client_is_told_to_go_on_when_the_body_is_read() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (sent, outcome) = exchange(echo, &[head.as_bytes(), b"hi"]);
    assert!(sent.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_eq!(outcome, Outcome::Readable);
    // Not read: not told, and nothing after it can be trusted.
    let (sent, outcome) = exchange(hello, &[head.as_bytes(), b"hi"]);
    assert!(sent.starts_with("HTTP/1.1 200 OK\r\n"), "{sent}");
    assert!(sent.contains("\r\nConnection: close\r\n"));
    assert_eq!(outcome, Outcome::Done);
    let unknown = head.replace("100-continue", "200-ok");
    let (sent, outcome) = exchange(hello, &[unknown.as_bytes()]);
    assert!(sent.starts_with("HTTP/1.1 417 "), "{sent}");
    assert_eq!(outcome, Outcome::Done);
}

#[test]
fn an_unread_body_is_drained_if_it_is_little() {
    let two = |len: usize| {
        [
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n").into_bytes(),
            vec![b'x'; len],
            b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ]
        .concat()
    };
    let (sent, outcome) = exchange(hello, &[&two(200_000)]);
    assert_eq!(sent.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(outcome, Outcome::Readable);
    let (sent, outcome) = exchange(hello, &[&two(300_000)]);
    assert_eq!(sent.matches("HTTP/1.1 200 OK").count(), 1);
    assert!(sent.contains("\r\nConnection: close\r\n"));
    assert_eq!(outcome, Outcome::Done);
}

#[test]
fn a_panic_ends_its_connection_only() {
    let shared = service(|w: &mut ResponseWriter, r: &mut Request| match r.target() {
        "/panic" => panic!("before"),
        "/mid" => {
            w.write_all(b"part").unwrap();
            w.flush().unwrap();
            panic!("after");
        }
        _ => hello(w, r),
    });
    for (target, part, aborted) in [("/panic", "", false), ("/mid", "4\r\npart\r\n", true)] {
        let (mut connection, conn) = connect(&shared);
        conn.arrive(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(run(&mut connection), Outcome::Done);
        let sent = String::from_utf8(conn.sent()).unwrap();
        assert!(
            sent.ends_with(part) && sent.is_empty() == part.is_empty(),
            "{sent}"
        );
        assert_eq!(conn.aborted(), aborted);
    }
    let (mut connection, conn) = connect(&shared);
    conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(run(&mut connection), Outcome::Readable);
    assert!(conn.sent().ends_with(b"hello\n"));
    assert_eq!(shared.stats.panics.get(), 2);
}

#[test]
fn persistence_is_as_the_versions_say() {
    for (request, want, outcome) in [
        ("GET / HTTP/1.0\r\n\r\n", "", Outcome::Done),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "Connection: keep-alive",
            Outcome::Readable,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "Connection: close",
            Outcome::Done,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", Outcome::Readable),
    ] {
        let (sent, ended) = exchange(hello, &[request.as_bytes()]);
        let line = sent.lines().find(|l| l.starts_with("Connection"));
        assert_eq!(line.unwrap_or_default(), want, "{request:?}");
        assert_eq!(ended, outcome, "{request:?}");
    }
}

#[test]
fn a_pipelined_head_has_its_own_time() {
    let timeout = Duration::from_millis(1);
    let handler = move |_: &mut ResponseWriter, _: &mut Request| {
        let until = wirepath_runtime::now() + timeout;
        while wirepath_runtime::now() <= until {}
    };
    let config = crate::service::Config {
        read_header_timeout: timeout,
        ..Default::default()
    };
    let service = Arc::new(Service::new(Box::new(handler), config));
    let (mut connection, conn) = connect(&service);
    conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT");
    assert_eq!(run(&mut connection), Outcome::Readable);
    conn.arrive(b"TP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(run(&mut connection), Outcome::Readable);
    let sent = String::from_utf8(conn.sent()).unwrap();
    assert_eq!(sent.matches("200 OK").count(), 2, "{sent}");
}

#[test]
fn a_draining_server_says_close_and_ends_idle_connections() {
    let service = service(hello);
    let (mut busy, busy_conn) = connect(&service);
    let (mut idle, idle_conn) = connect(&service);
    idle_conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(run(&mut idle), Outcome::Readable);
    service.drain();
    assert!(idle.entry().close_if_idle(Nanos::ZERO));
    assert!(!busy.entry().close_if_idle(Nanos::ZERO), "new a moment ago");
    idle_conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    idle_conn.take_sent();
    assert_eq!(run(&mut idle), Outcome::Done);
    assert!(idle_conn.sent().is_empty());
    busy_conn.arrive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(run(&mut busy), Outcome::Done);
    let sent = String::from_utf8(busy_conn.sent()).unwrap();
    assert!(sent.contains("\r\nConnection: close\r\n"), "{sent}");
}

#[test]
fn after_the_first_request_nothing_is_allocated() {
    let mut mux = crate::ServeMux::new();
    mux.handle_func("/{$}", hello);
    mux.handle_func("GET /users/{id}/posts/{post}", |w, r| {
        let id = r.path_value("id");
        w.write_all(id.as_bytes()).unwrap();
    });
    let (mut connection, conn) = connect(&service(mux));
    let requests = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n\
                     GET /users/7/posts/12 HTTP/1.1\r\nHost: a\r\n\r\n";
    conn.arrive(requests);
    run(&mut connection);
    let first = conn.take_sent();
    conn.arrive(requests);
    conn.reserve(2 * first.len());
    let counted = allocation_counter::measure(|| {
        assert_eq!(connection.step(), Outcome::Readable);
    });
    assert_eq!(conn.sent().len(), first.len());
    assert_eq!(counted.count_total, 0);
}
