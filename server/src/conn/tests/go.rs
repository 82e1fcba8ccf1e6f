//! Whole exchanges against what Go's server did, recorded by
//! `tests/vectors/generate.go`.

use serde_json::Value;

use super::*;
use crate::ServeMux;

/// Requests that are refused here with 400 and let through by Go: a part of
/// the request, and why.
const STRICTER: &[(&str, &str)] = &[
    ("\r\nX: b\r\n c\r\n", "a folded line"),
    ("Host: a\nX: b", "a bare LF"),
    (
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "both lengths",
    ),
    (
        "HTTP/1.0\r\nTransfer-Encoding",
        "chunks of an HTTP/1.0 client",
    ),
];

/// Requests that are answered here and refused by Go.
const MORE_LENIENT: &[(&str, &str)] = &[("\r\nGET ", "RFC 9112 §2.2: an empty line is skipped")];

/// Requests whose refusal Go explains in other words.
const OTHER_WORDS: &[&str] = &["Host : a", "X-A : b", "Host: a\r\n X: b"];

/// Refused here for its version; Go lets HTTP/2's preface through to the mux.
const HTTP2_PREFACE: &str = "PRI * HTTP/2.0";

/// Go waits for a body that it did not ask for; here the connection is closed.
const GO_WAITS: &str = "POST /noread HTTP/1.1\r\nHost: a\r\nExpect: 100-continue";

/// Informational responses go to HTTP/1.1 clients only (RFC 9110 §15.2).
const NO_INTERIM_10: &str = "GET /early HTTP/1.0";

fn routes() -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/empty", |_, _| {});
    mux.handle_func("/echo", echo_all);
    mux.handle_func("/redirect", redirect);
    mux.handle_func("/dir/redirect", redirect);
    mux.handle_func("POST /post", |_, _| {});
    mux.handle_func("/flush", |w, _| {
        w.write_all(b"a").unwrap();
        w.flush().unwrap();
        w.write_all(b"b").unwrap();
    });
    mux.handle_func("/early", |w, _| {
        w.header("Link", "</a>");
        w.write_header(StatusCode::EARLY_HINTS);
        w.write_all(b"final\n").unwrap();
    });
    mux.handle_func("/trailers", |w, _| {
        w.header("Trailer", "X-Sum");
        w.write_all(b"body\n").unwrap();
        w.trailer("X-Sum", "42").unwrap();
    });
    let mut answer =
        |path: &str, status: u16, fields: &'static [(&str, &str)], body: Vec<&[u8]>| {
            let body: Vec<Vec<u8>> = body.into_iter().map(<[u8]>::to_vec).collect();
            mux.handle_func(path, move |w, _| {
                for (name, value) in fields {
                    w.header(name, value);
                }
                if status != 200 {
                    w.write_header(StatusCode::from_u16(status).unwrap());
                }
                for part in &body {
                    // Some are refused: that is part of what is compared.
                    let _ = w.write_all(part);
                }
            });
        };
    answer("/hello", 200, &[], vec![b"hello\n"]);
    answer("/noread", 403, &[], vec![b"no\n"]);
    answer("/204", 204, &[], vec![b"x"]);
    answer(
        "/304",
        304,
        &[("Content-Type", "a/b"), ("Etag", "\"e\"")],
        vec![],
    );
    answer("/big", 200, &[], vec![&[b'x'; 3000]]);
    answer("/2048", 200, &[], vec![&[b'x'; 2048]]);
    answer("/shortcl", 200, &[("Content-Length", "10")], vec![b"short"]);
    answer(
        "/longcl",
        200,
        &[("Content-Length", "5")],
        vec![b"0123", b"456789"],
    );
    answer("/close", 200, &[("Connection", "close")], vec![b"bye\n"]);
    answer(
        "/typed",
        201,
        &[("Content-Type", "text/x")],
        vec![b"<html>"],
    );
    answer("/html", 200, &[], vec![b"  <html>x"]);
    answer("/bin", 200, &[], vec![&[0, 1, 2]]);
    answer("/tree/", 200, &[], vec![b"tree"]);
    mux
}

fn redirect(w: &mut ResponseWriter, r: &mut Request) {
    let to = r.query().to_owned();
    crate::redirect(w, r, &to, StatusCode::FOUND);
}

fn echo_all(w: &mut ResponseWriter, r: &mut Request) {
    let mut body = String::new();
    if r.body.read_to_string(&mut body).is_err() {
        w.write_header(StatusCode::BAD_REQUEST);
        return;
    }
    let length = r.content_length().map_or(-1, |n| i64::try_from(n).unwrap());
    let trailer = r.trailers().get("X-T").unwrap_or_default();
    let (method, target) = (r.method(), r.target());
    write!(
        w,
        "{method} {target} cl={length} body={body} trailer={trailer}"
    )
    .unwrap();
}

/// A response, as a client sees it.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    status: u64,
    fields: Vec<(String, String)>,
    body: String,
    /// The statuses before it and after it, as the recording writes them.
    others: String,
    closed: bool,
}

/// Fields that depend on the time, or that the recording leaves out (a Go
/// client takes `Trailer` and `Connection: close` out of the fields).
fn is_compared(name: &str, value: &str) -> bool {
    name != "Date"
        && name != "Trailer"
        && !(name == "Connection" && value == "close")
        && name != "X-Close"
}

fn recorded(want: &Value) -> Seen {
    let mut fields = Vec::new();
    for (name, values) in want["header"].as_object().into_iter().flatten() {
        for value in values.as_array().unwrap() {
            fields.push((name.clone(), value.as_str().unwrap().to_owned()));
        }
    }
    fields.retain(|(n, v)| is_compared(n, v));
    fields.sort();
    Seen {
        status: want["status"].as_u64().unwrap(),
        fields,
        body: want["body"].as_str().unwrap().to_owned(),
        others: want["raw"].as_str().unwrap_or_default().to_owned(),
        closed: want["closed"].as_bool().unwrap(),
    }
}

/// Parses what our side sent.
fn seen(sent: &[u8], is_head: bool, closed: bool) -> Seen {
    let mut seen = Seen {
        closed,
        ..Seen::default()
    };
    let mut rest = sent;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n\r\n") {
        let head = str::from_utf8(&rest[..at]).unwrap();
        rest = &rest[at + 4..];
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        if status.starts_with('1') {
            seen.others += &format!("{status} ");
            continue;
        }
        let split = |l: &str| {
            l.split_once(": ")
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        };
        let mut fields: Vec<_> = lines.filter_map(split).collect();
        let field = |name: &str| {
            fields
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
        };
        let has_body = !is_head && status != "204" && status != "304";
        let body = if !has_body {
            String::new()
        } else if field("Transfer-Encoding").is_some() {
            dechunk(&mut rest)
        } else {
            let length = field("Content-Length").map_or(rest.len(), |l| l.parse().unwrap());
            let (body, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            String::from_utf8(body.to_vec()).unwrap()
        };
        if seen.status > 0 {
            seen.others += &format!("then {status} ");
            continue;
        }
        fields.retain(|(n, v)| is_compared(n, v));
        fields.sort();
        (seen.status, seen.fields, seen.body) = (status.parse().unwrap(), fields, body);
    }
    seen
}

fn dechunk(rest: &mut &[u8]) -> String {
    let mut body = Vec::new();
    loop {
        let end = memchr::memmem::find(rest, b"\r\n").unwrap();
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        *rest = &rest[end + 2..];
        if size == 0 {
            let end = memchr::memmem::find(rest, b"\r\n").unwrap();
            let trailer = if end == 0 { 2 } else { end + 4 };
            *rest = &rest[trailer..];
            return String::from_utf8(body).unwrap();
        }
        body.extend_from_slice(&rest[..size]);
        *rest = &rest[size + 2..];
    }
}

#[test]
fn exchanges_are_as_in_go() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/vectors/http.json")).unwrap();
    let service = service(routes());
    let mut wrong = Vec::new();
    for vector in &vectors {
        let request = vector["request"].as_str().unwrap();
        let has = |part: &&str| request.contains(*part);
        let (mut connection, conn) = connect(&service);
        conn.arrive(request.as_bytes());
        let closed = run(&mut connection) == Outcome::Done;
        let got = seen(&conn.sent(), request.starts_with("HEAD"), closed);
        let mut want = recorded(vector);
        if STRICTER.iter().any(|(part, _)| has(part)) {
            assert_eq!((got.status, got.closed), (400, true), "{request:?}");
            assert_ne!(want.status, 400, "{request:?} is no difference");
            continue;
        }
        if MORE_LENIENT
            .iter()
            .any(|(part, _)| request.starts_with(part))
        {
            assert_eq!((got.status, want.status), (200, 400), "{request:?}");
            continue;
        }
        if request.starts_with(NO_INTERIM_10) {
            want.others.clear();
        }
        if request.starts_with(GO_WAITS) {
            want.closed = true;
        }
        if request.starts_with(HTTP2_PREFACE) {
            assert_eq!((got.status, got.closed), (505, true));
            continue;
        }
        if OTHER_WORDS.iter().any(has) {
            want.body.clone_from(&got.body);
        }
        if got != want {
            wrong.push(format!("{request:?}\n  got  {got:?}\n  want {want:?}"));
        }
    }
    assert!(vectors.len() > 250);
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
