use super::*;

#[derive(Default)]
struct Heard {
    exchanges: Vec<Exchange>,
    bodies: Vec<(u32, Side, Vec<u8>)>,
    other: Vec<Other>,
}

impl Audience for Heard {
    fn body(&mut self, exchange: &Exchange, from: Side, bytes: &[u8]) {
        match self
            .bodies
            .iter_mut()
            .find(|body| (body.0, body.1) == (exchange.number, from))
        {
            Some(body) => body.2.extend(bytes),
            None => self.bodies.push((exchange.number, from, bytes.to_vec())),
        }
    }

    fn exchange(&mut self, exchange: &Exchange) {
        self.exchanges.push(exchange.clone());
    }

    fn other(&mut self, _: u32, what: Other) {
        self.other.push(what);
    }
}

/// What happens on a connection.
enum Step<'a> {
    C(&'a str),
    S(&'a str),
    GapC(u64),
    GapS(u64),
    EndC,
    EndS,
}

use Step::{C, EndC, EndS, GapC, GapS, S};

/// A microsecond a step, each of `size` bytes.
fn heard(steps: &[Step<'_>], size: usize) -> Heard {
    let mut heard = Heard::default();
    let mut http = Http::new(&mut heard);
    let mut offsets = [0, 0];
    let mut at_ns = 0;
    let mut open = vec![Side::Client, Side::Server];
    for step in steps {
        let (from, text, gap) = match step {
            C(text) => (Side::Client, *text, 0),
            S(text) => (Side::Server, *text, 0),
            GapC(gap) => (Side::Client, "", *gap),
            GapS(gap) => (Side::Server, "", *gap),
            EndC | EndS => {
                let from = if matches!(step, EndC) {
                    Side::Client
                } else {
                    Side::Server
                };
                open.retain(|&side| side != from);
                http.end(3, from, at_ns, How::Fin);
                continue;
            }
        };
        let offset: &mut u64 = &mut offsets[from.index()];
        for piece in text.as_bytes().chunks(size) {
            at_ns += 1_000;
            let place = Place {
                stream: 3,
                from,
                offset: *offset,
                at_ns,
                packet: 9,
            };
            http.data(place, piece);
            *offset += piece.len() as u64;
        }
        if gap > 0 {
            at_ns += 1_000;
            http.gap(
                Place {
                    stream: 3,
                    from,
                    offset: *offset,
                    at_ns,
                    packet: 9,
                },
                gap,
            );
            *offset += gap;
        }
    }
    for from in open {
        http.end(3, from, at_ns, How::Unseen);
    }
    assert!(http.talks.is_empty());
    heard
}

/// Method, target, status, bytes of both bodies, whether whole.
type Row<'a> = (
    Option<&'a str>,
    Option<&'a str>,
    Option<u16>,
    u64,
    u64,
    bool,
);

/// The same however the bytes are cut.
#[track_caller]
fn check(steps: &[Step<'_>], wanted: &[Row<'_>]) -> Heard {
    for size in [1, 2, 3, 7, 20] {
        rows(&heard(steps, size), wanted);
    }
    let heard = heard(steps, usize::MAX);
    rows(&heard, wanted);
    heard
}

#[track_caller]
fn rows(heard: &Heard, wanted: &[Row<'_>]) {
    let found: Vec<Row<'_>> = heard
        .exchanges
        .iter()
        .map(|e| {
            (
                e.method.as_deref(),
                e.target.as_deref(),
                e.status,
                e.request_body_bytes,
                e.response_body_bytes,
                e.is_whole,
            )
        })
        .collect();
    assert_eq!(found, wanted);
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn an_exchange_with_its_times() {
    let steps = [
        C(GET),
        S("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"),
        S("hello"),
    ];
    let heard = check(&steps, &[(Some("GET"), Some("/a"), Some(200), 0, 5, true)]);
    let exchange = &heard.exchanges[0];
    assert_eq!(
        (exchange.first_byte_ns(), exchange.total_ns()),
        (Some(1_000), Some(2_000))
    );
    assert_eq!(
        (exchange.host.as_deref(), exchange.content_type.as_deref()),
        (Some("x"), Some("text/plain"))
    );
    assert_eq!(exchange.request_head_bytes, GET.len() as u64);
    assert_eq!(heard.bodies, [(1, Side::Server, b"hello".to_vec())]);
}

#[test]
fn bodies_of_every_framing() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\n wo\r\n0\r\nA: b\r\n\r\n";
    let post = "POST /p HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let steps = [
        C(GET),
        S(chunked),
        C(post),
        S("HTTP/1.1 204 No Content\r\n\r\n"),
        C("HEAD /h HTTP/1.1\r\n\r\n"),
        S("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
        C(GET),
        S("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        C(GET),
        S("HTTP/1.0 200 OK\r\n\r\nto the end"),
        EndS,
    ];
    let heard = check(
        &steps,
        &[
            (Some("GET"), Some("/a"), Some(200), 0, 8, true),
            (Some("POST"), Some("/p"), Some(204), 3, 0, true),
            (Some("HEAD"), Some("/h"), Some(200), 0, 0, true),
            (Some("GET"), Some("/a"), Some(304), 0, 0, true),
            (Some("GET"), Some("/a"), Some(200), 0, 10, true),
        ],
    );
    assert_eq!(heard.bodies[0], (1, Side::Server, b"hello wo".to_vec()));
}

#[test]
fn pipelined_requests_find_their_answers() {
    let two = "GET /1 HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
    let answers = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    check(
        &[C(two), S(answers)],
        &[
            (Some("GET"), Some("/1"), Some(200), 0, 1, true),
            (Some("GET"), Some("/2"), Some(404), 0, 0, true),
        ],
    );
}

#[test]
fn an_answer_before_the_request_is_whole() {
    let half = "POST /p HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345";
    let steps = [
        C(half),
        S("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
        C("67890"),
        C(GET),
        S("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    check(
        &steps,
        &[
            (Some("POST"), Some("/p"), Some(413), 5, 0, false),
            (Some("GET"), Some("/a"), Some(200), 0, 0, true),
        ],
    );
}

#[test]
fn what_is_missing_in_a_body_is_stepped_over() {
    let steps = [
        C(GET),
        S("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12"),
        GapS(6),
        S("90"),
        C(GET),
        S("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    check(
        &steps,
        &[
            (Some("GET"), Some("/a"), Some(200), 0, 4, false),
            (Some("GET"), Some("/a"), Some(200), 0, 0, true),
        ],
    );
}

#[test]
fn the_thread_is_taken_up_behind_a_lost_head() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let steps = [
        C("GET /lost HT"),
        GapC(4),
        C("\r\n\r\n"),
        S(answer),
        C(GET),
        S(answer),
    ];
    let heard = heard(&steps, usize::MAX);
    rows(
        &heard,
        &[
            (None, None, Some(200), 0, 0, false),
            (Some("GET"), Some("/a"), Some(200), 0, 0, true),
        ],
    );
}

#[test]
fn requests_without_answers_and_answers_without_requests() {
    check(
        &[C(GET), EndC, EndS],
        &[(Some("GET"), Some("/a"), None, 0, 0, false)],
    );
    check(
        &[S("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")],
        &[(None, None, Some(200), 0, 2, false)],
    );
    check(
        &[C(GET), S("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")],
        &[(Some("GET"), Some("/a"), Some(200), 0, 2, false)],
    );
}

#[test]
fn what_is_no_http_is_named() {
    for (bytes, what) in [
        ("\u{16}\u{3}\u{1}\u{2}", Other::Tls),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Other::Http2),
    ] {
        assert_eq!(heard(&[C(bytes)], usize::MAX).other, [what]);
    }
    let upgraded = [
        C(GET),
        S(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\u{1}\u{5}GET / HTTP/1.1\r\n\r\n",
        ),
    ];
    let heard = check(
        &upgraded,
        &[(Some("GET"), Some("/a"), Some(101), 0, 0, true)],
    );
    assert_eq!(heard.other, [Other::Tunnel]);
}

#[test]
fn an_interim_answer_is_no_first_byte() {
    let head = "POST /p HTTP/1.1\r\nContent-Length: 2\r\n\r\n";
    let steps = [
        C(head),
        S("HTTP/1.1 100 Continue\r\n\r\n"),
        C("ok"),
        S("HTTP/1.1 204 No Content\r\n\r\n"),
    ];
    let heard = check(&steps, &[(Some("POST"), Some("/p"), Some(204), 2, 0, true)]);
    assert_eq!(heard.exchanges[0].first_byte_ns(), Some(1_000));
}

#[test]
fn a_lost_request_costs_no_answer_that_is_being_read() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let steps = [
        C(GET),
        S(answer),
        S("12"),
        GapC(7),
        C("GET /b HTTP/1.1\r\n\r\n"),
        S("34"),
        S(answer),
        S("5678"),
    ];
    let heard = heard(&steps, usize::MAX);
    rows(
        &heard,
        &[
            (Some("GET"), Some("/a"), Some(200), 0, 4, true),
            (Some("GET"), Some("/b"), Some(200), 0, 4, true),
        ],
    );
}

#[test]
fn a_connection_that_began_before_the_file_is_read_from_its_next_message() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let steps = [S("\u{1}binary body"), C(GET), S(answer)];
    rows(
        &heard(&steps, usize::MAX),
        &[(Some("GET"), Some("/a"), Some(200), 0, 0, true)],
    );
}

#[test]
fn nothing_grows_without_bound() {
    let endless = "x".repeat(200_000);
    assert!(
        heard(&[C("GET /"), C(&endless), C(&endless)], 1000)
            .exchanges
            .is_empty()
    );
    let many = "GET / HTTP/1.1\r\n\r\n".repeat(MAX_WAITING + 5);
    assert_eq!(
        heard(&[C(&many)], usize::MAX).exchanges.len(),
        MAX_WAITING + 4
    );
    for wrong in ["zz\r\n", "5\r\nhelloX", &"f".repeat(9000)] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{wrong}");
        let heard = heard(&[C(GET), S(&answer)], 11);
        assert!(!heard.exchanges[0].is_whole);
    }
}

#[test]
fn heads_that_never_end_are_bounded_over_all_connections() {
    let mut heard = Heard::default();
    let mut http = Http::new(&mut heard);
    let place = |stream| Place {
        stream,
        from: Side::Client,
        offset: 0,
        at_ns: 1,
        packet: 1,
    };
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60_000));
    let count = 2 * (MAX_KEPT_BYTES / endless.len()) as u32;
    for stream in 0..count {
        http.data(place(stream), endless.as_bytes());
        assert!(http.kept_bytes <= MAX_KEPT_BYTES, "{}", http.kept_bytes);
    }
    // Many that wait count too.
    let many = "GET /a HTTP/1.1\r\n\r\n".repeat(MAX_WAITING);
    for stream in count..2 * count {
        http.data(place(stream), many.as_bytes());
        assert!(http.kept_bytes <= MAX_KEPT_BYTES, "{}", http.kept_bytes);
    }
    for stream in 0..2 * count {
        for from in [Side::Client, Side::Server] {
            http.end(stream, from, 2, How::Fin);
        }
    }
    assert_eq!(http.kept_bytes, 0);
    assert_eq!(heard.exchanges.len(), count as usize * MAX_WAITING);
}
