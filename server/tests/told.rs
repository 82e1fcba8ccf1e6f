//! What a server tells a trace of its requests. One test in a process of its
//! own, since the rings are the process's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use wirepath::runtime::Runtime;
use wirepath::runtime::net::TcpListener;
use wirepath::runtime::trace::{self, Event, Kind, Label};
use wirepath::{Request, ResponseWriter, ServeMux, Server};

const FIRST: &str =
    "GET /users/7?a-query-that-is-longer-than-one-event-can-hold HTTP/1.1\r\nHost: a\r\n\r\n";
const SECOND: &str = "GET /users/8 HTTP/1.1\r\nHost: a\r\n\r\n";
const BAD: &str = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";

fn text(label: Label) -> String {
    let number = usize::from(label.0);
    trace::labels()[number - 1].to_string()
}

fn user(w: &mut ResponseWriter, r: &mut Request) {
    let _ = write!(w, "user {}", r.path_value("id"));
}

/// Asks all at once and reads to the end.
fn ask(addr: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    let all = [FIRST, SECOND, BAD].concat();
    stream.write_all(all.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    answers
}

#[test]
fn requests_are_told_with_their_bytes() {
    trace::enable(1 << 12);
    let runtime = Runtime::builder().build().unwrap();
    let mut mux = ServeMux::new();
    mux.handle_func("GET /users/{id}", user);
    let server = Server::new(mux);
    let to_close = server.clone();
    let listener = runtime
        .run(|| TcpListener::bind(([127, 0, 0, 1], 0)))
        .unwrap()
        .unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = runtime.go(move || server.serve(listener).is_ok());
    let answers = ask(addr);
    to_close.close();
    serving.join().unwrap();
    runtime.shutdown(Duration::from_secs(1));
    let events = trace::snapshot().events;
    trace::disable();

    let of = |kind: Kind| events.iter().filter(move |e| e.kind == kind);
    let heads: Vec<_> = of(Kind::HttpHead)
        .map(|e| (e.offset, e.len as usize))
        .collect();
    assert_eq!(
        heads,
        [(0, FIRST.len()), (FIRST.len() as u64, SECOND.len())]
    );
    let is_text = |e: &&Event| matches!(e.kind, Kind::HttpHead | Kind::HttpText);
    let texts: Vec<u8> = events
        .iter()
        .filter(is_text)
        .flat_map(Event::text)
        .collect();
    let lines: String = [FIRST, SECOND]
        .map(|r| r.split(" HTTP").next().unwrap())
        .concat();
    assert_eq!(String::from_utf8(texts).unwrap(), lines);

    let handled: Vec<&Event> = of(Kind::HttpHandler).collect();
    assert_eq!(handled.len(), 2);
    assert_eq!(handled[0].offset, 0);
    assert_eq!(handled[0].end(), handled[1].offset);
    let refusal = answers.find("HTTP/1.1 400").unwrap();
    assert_eq!(handled[1].end(), refusal as u64);
    for e in handled {
        assert_eq!(
            (e.status(), text(e.route()).as_str()),
            (200, "GET /users/{id}")
        );
        assert!(e.dur_ns > 0 && e.dur_ns < 60_000_000_000);
    }
    let refused: Vec<&Event> = of(Kind::HttpRefused).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].status(), text(refused[0].label()).as_str()),
        (400, "duplicate_host")
    );
}
