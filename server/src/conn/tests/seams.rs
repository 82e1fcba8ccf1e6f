//! What a handler may do with its connection, its request and its response
//! beyond answering.

use std::sync::{Arc, Mutex};

use super::*;
use crate::response::{BodyFilter, ResponseHead};
use crate::{Handler, HijackError, Hijacked, Recorded};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn answer(handler: impl Handler, sent: &[u8]) -> (Outcome, String) {
    let (mut connection, conn) = connect(&service(handler));
    conn.arrive(sent);
    let outcome = run(&mut connection);
    (outcome, String::from_utf8(conn.sent()).unwrap())
}

#[test]
fn a_hijacked_connection_is_left_alone_and_comes_with_what_was_read_ahead() {
    let kept: Arc<Mutex<Option<Hijacked>>> = Arc::default();
    let keep = kept.clone();
    let handler = move |w: &mut ResponseWriter, r: &mut Request| {
        let hijacked = w.hijack(r).unwrap();
        assert!(matches!(w.hijack(r), Err(HijackError::Hijacked)));
        w.write_header(StatusCode::OK);
        assert!(w.write_all(b"too late").is_err());
        assert!(w.flush_now().is_err());
        *keep.lock().unwrap() = Some(hijacked);
    };
    let (mut connection, conn) = connect(&service(handler));
    conn.arrive(&[GET, b"and more"].concat());
    assert_eq!(run(&mut connection), Outcome::Done);
    assert!(connection.entry().wire.is_hijacked());
    drop(connection);
    assert_eq!((conn.sent(), conn.aborted()), (Vec::new(), false));
    let Hijacked { mut conn, buffered } = kept.lock().unwrap().take().unwrap();
    assert_eq!(buffered, b"and more");
    conn.write_all(b"mine").unwrap();
}

#[test]
fn a_panic_after_a_hijack_leaves_the_connection_to_its_new_owner() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        w.write_header(StatusCode::SWITCHING_PROTOCOLS);
        let _hijacked = w.hijack(r).unwrap();
        panic!("after all");
    };
    let (mut connection, conn) = connect(&service(handler));
    conn.arrive(GET);
    assert_eq!(run(&mut connection), Outcome::Done);
    assert!(!conn.aborted());
    let sent = String::from_utf8(conn.sent()).unwrap();
    assert!(
        sent.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{sent}"
    );
}

#[test]
fn hijacking_takes_the_request_that_is_answered() {
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        let mut other = Request::default();
        let refused = w.hijack(&mut other).unwrap_err();
        w.write_all(refused.to_string().as_bytes()).unwrap();
    };
    let (outcome, sent) = answer(handler, GET);
    assert_eq!(outcome, Outcome::Readable);
    assert!(
        sent.ends_with("the request that this writer answers"),
        "{sent}"
    );
}

#[test]
fn a_request_can_be_taken_out_and_put_back() {
    let handler = |_: &mut ResponseWriter, r: &mut Request| {
        let mut own = std::mem::take(r);
        assert_eq!((r.target(), r.proto()), ("/", "HTTP/1.1"));
        let mut body = String::new();
        own.body.read_to_string(&mut body).unwrap();
        assert_eq!((own.target(), body.as_str()), ("/x", "abc"));
        *r = own;
    };
    let post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let (outcome, sent) = answer(handler, &post.repeat(2));
    assert_eq!(outcome, Outcome::Readable);
    assert_eq!(sent.matches("HTTP/1.1 200 OK").count(), 2, "{sent}");
}

#[test]
fn a_request_that_is_kept_ends_its_connection() {
    let kept: Arc<Mutex<Option<Request>>> = Arc::default();
    let keep = kept.clone();
    let handler = move |_: &mut ResponseWriter, r: &mut Request| {
        *keep.lock().unwrap() = Some(std::mem::take(r));
    };
    let post = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    let (outcome, sent) = answer(handler, post);
    assert_eq!(outcome, Outcome::Done);
    assert!(sent.contains("\r\nConnection: close\r\n"), "{sent}");
    assert!(kept.lock().unwrap().take().is_some());
}

#[test]
fn extensions_last_for_one_request() {
    let handler = |w: &mut ResponseWriter, r: &mut Request| {
        let had = r.extensions_mut().insert(7_u8);
        w.write_all(format!("{had:?} {:?}\n", r.extensions().get::<u8>()).as_bytes())
            .unwrap();
    };
    let (_, sent) = answer(handler, &[GET, GET].concat());
    assert_eq!(sent.matches("None Some(7)\n").count(), 2, "{sent}");
}

#[test]
fn boxed_and_shared_handlers_are_handlers() {
    let shared: Arc<dyn Handler> = Arc::new(hello);
    let boxed: Box<dyn Handler> = Box::new(shared);
    let (_, sent) = answer(boxed, GET);
    assert!(sent.ends_with("\r\n\r\nhello\n"), "{sent}");
}

/// Writes everything in capitals, and tells what it saw.
struct Capitals {
    takes_part: bool,
}

impl BodyFilter for Capitals {
    fn begin(&mut self, head: &mut ResponseHead<'_>) -> bool {
        let saw = format!(
            "{} {:?} {}",
            head.status().as_u16(),
            head.body_len(),
            String::from_utf8_lossy(head.header("Content-Type").unwrap_or_default()),
        );
        head.set_header("X-Saw", saw).unwrap();
        self.takes_part
    }

    fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend(data.to_ascii_uppercase());
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        out.push(b'|');
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(b"!!");
        Ok(())
    }
}

fn filtered(
    takes_part: bool,
    handler: impl Fn(&mut ResponseWriter) + Send + Sync + 'static,
) -> impl Handler {
    move |w: &mut ResponseWriter, _: &mut Request| {
        w.set_body_filter(Box::new(Capitals { takes_part }));
        handler(w);
    }
}

#[test]
fn a_filter_changes_a_short_body_and_its_length() {
    let handler = filtered(true, |w| {
        w.header("Content-Length", "3");
        w.write_all(b"abc").unwrap();
    });
    let (outcome, sent) = answer(handler, GET);
    assert_eq!(outcome, Outcome::Readable);
    assert!(sent.contains("\r\nContent-Length: 5\r\n"), "{sent}");
    assert!(sent.contains("X-Saw: 200 Some(3) text/plain"), "{sent}");
    assert!(sent.ends_with("\r\n\r\nABC!!"), "{sent}");
}

#[test]
fn a_filter_changes_a_streamed_body_and_keeps_the_trailer() {
    let handler = filtered(true, |w| {
        w.header("Trailer", "X-Sum");
        w.write_all(b"abc").unwrap();
        w.flush_now().unwrap();
        w.write_all(b"def").unwrap();
        w.trailer("X-Sum", "6").unwrap();
    });
    let (outcome, sent) = answer(handler, GET);
    assert_eq!(outcome, Outcome::Readable);
    assert!(
        sent.ends_with("\r\n\r\n4\r\nABC|\r\n5\r\nDEF!!\r\n0\r\nX-Sum: 6\r\n\r\n"),
        "{sent}"
    );
}

#[test]
fn a_filter_that_stays_out_changes_nothing() {
    let handler = filtered(false, |w| {
        w.header("Content-Length", "3");
        w.write_all(b"abc").unwrap();
    });
    let (_, sent) = answer(handler, GET);
    assert!(sent.contains("\r\nContent-Length: 3\r\n"), "{sent}");
    assert!(sent.ends_with("\r\n\r\nabc"), "{sent}");
}

#[test]
fn a_filter_sees_head_requests_and_no_status_without_a_body() {
    let handler = filtered(true, |w| w.write_all(b"abc").unwrap());
    let (_, sent) = answer(handler, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(sent.contains("X-Saw: 200 None text/plain"), "{sent}");
    assert!(!sent.contains("Content-Length"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n"), "{sent}");
    let handler = filtered(true, |w| w.write_header(StatusCode::NO_CONTENT));
    let (_, sent) = answer(handler, GET);
    assert!(!sent.contains("X-Saw"), "{sent}");
}

#[test]
fn an_older_client_gets_a_filtered_body_up_to_the_end() {
    let handler = filtered(true, |w| {
        w.write_all(&[b'a'; 3_000]).unwrap();
    });
    let (outcome, sent) = answer(handler, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(outcome, Outcome::Done);
    assert!(sent.ends_with("AAA!!"), "{sent}");
    assert!(!sent.contains("Content-Length"), "{sent}");
}

fn recorded(handler: impl Fn(&mut ResponseWriter)) -> Recorded {
    let mut w = ResponseWriter::recording();
    handler(&mut w);
    w.into_recorded()
}

#[test]
fn a_recording_keeps_what_it_is_told() {
    let recorded = recorded(|w| {
        w.header("Link", "</a.css>; rel=preload");
        w.write_header(StatusCode::EARLY_HINTS);
        w.header("X-A", "1").header("X-B", "2");
        w.write_header(StatusCode::CREATED);
        w.header("X-Late", "3");
        w.write_all(b"body").unwrap();
        w.flush_now().unwrap();
        w.trailer("X-Sum", "4").unwrap();
    });
    assert_eq!(
        (recorded.status(), recorded.body()),
        (StatusCode::CREATED, b"body".as_slice())
    );
    let names: Vec<_> = recorded.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["Link", "X-A", "X-B"]);
    assert_eq!(recorded.trailers().next(), Some(("X-Sum", b"4".as_slice())));
    assert_eq!(recorded.informational().count(), 1);
    assert!(recorded.is_flushed());
}

#[test]
fn a_recording_is_bounded_and_checks_what_a_response_checks() {
    let mut w = ResponseWriter::recording();
    w.bound_recording(3);
    w.write_all(b"abc").unwrap();
    assert!(w.write_all(b"d").is_err());
    assert_eq!(w.into_recorded().body(), b"abc");
    let mut w = ResponseWriter::recording();
    w.write_header(StatusCode::NO_CONTENT);
    assert!(w.write_all(b"a").is_err());
    assert!(w.hijack(&mut Request::default()).is_err());
}

#[test]
fn a_recording_is_replayed() {
    let handler = |w: &mut ResponseWriter, _: &mut Request| {
        let recorded = recorded(|w| {
            w.header("X-A", "new").header("Content-Type", "text/x");
            w.write_header(StatusCode::ACCEPTED);
            w.write_all(b"body").unwrap();
        });
        w.header("X-A", "old").header("X-B", "kept");
        recorded.replay(w).unwrap();
    };
    let (outcome, sent) = answer(handler, GET);
    assert_eq!(outcome, Outcome::Readable);
    assert!(
        sent.starts_with("HTTP/1.1 202 Accepted\r\nX-B: kept\r\nX-A: new\r\n"),
        "{sent}"
    );
    assert!(sent.contains("\r\nContent-Type: text/x\r\n"), "{sent}");
    assert!(sent.ends_with("\r\n\r\nbody"), "{sent}");
}
