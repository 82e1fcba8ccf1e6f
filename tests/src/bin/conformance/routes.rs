//! The routes, each a thing that a server must get right.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use wirepath::http::StatusCode;
use wirepath::runtime::net::TcpStream;
use wirepath::runtime::{now, sleep};
use wirepath::{Request, ResponseWriter, ServeMux};

use crate::echo::echo;
use crate::query;

/// How long `/dial` reads.
const DIAL_READ: Duration = Duration::from_secs(2);
/// And how much.
const DIAL_BYTES: u64 = 64 * 1024;
/// Longest wait of `/dial` for a connection unless `ms` says so, milliseconds.
const DIAL_MS: u64 = 2_000;
/// Bytes that `/big` writes at once: its pattern's period.
const BIG_CHUNK: usize = 8192;

/// All routes; with `catchall` every other path echoes.
pub fn mux(catchall: bool) -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/echo", echo);
    mux.handle_func("/hello", text("hello\n"));
    mux.handle_func("/ignore", text("ignored\n"));
    mux.handle_func("/noread", |w: &mut ResponseWriter, _: &mut Request| {
        w.write_header(StatusCode::FORBIDDEN);
        answer(w, b"no\n");
    });
    mux.handle_func("/big", big);
    mux.handle_func("/stream", stream);
    mux.handle_func("/status", |w: &mut ResponseWriter, r: &mut Request| {
        write_status(w, r);
    });
    mux.handle_func("/statusbody", |w: &mut ResponseWriter, r: &mut Request| {
        write_status(w, r);
        answer(w, b"body\n");
    });
    mux.handle_func("/panic", |_: &mut ResponseWriter, _: &mut Request| {
        panic!("/panic was asked to");
    });
    mux.handle_func("/panicmid", panic_mid);
    mux.handle_func("/close", |w: &mut ResponseWriter, _: &mut Request| {
        w.header("Connection", "close");
        answer(w, b"bye\n");
    });
    mux.handle_func("/sleep", |w: &mut ResponseWriter, r: &mut Request| {
        sleep(Duration::from_millis(query::number(r, "ms", 0)));
        answer(w, b"slept\n");
    });
    mux.handle_func("/shortcl", declared("10", b"short"));
    mux.handle_func("/longcl", declared("5", b"longlonger"));
    mux.handle_func("/sethdr", |w: &mut ResponseWriter, r: &mut Request| {
        w.header(&query::text(r, "name"), query::value(r, "value"));
        answer(w, b"set\n");
    });
    mux.handle_func("/trailers", trailers);
    mux.handle_func("/early", early);
    mux.handle_func("/redirect", |w: &mut ResponseWriter, r: &mut Request| {
        wirepath::redirect(w, r, &query::text(r, "to"), StatusCode::FOUND);
    });
    mux.handle_func("/dial", dial);
    if catchall {
        mux.handle_func("/", echo);
    }
    mux
}

/// Writes a body. An error means that the client is gone, or that the route is
/// there to cause it; the server sees to both.
fn answer(w: &mut ResponseWriter, body: &[u8]) {
    let _ = w.write_all(body);
}

fn text(body: &'static str) -> impl Fn(&mut ResponseWriter, &mut Request) {
    move |w, _| answer(w, body.as_bytes())
}

fn declared(
    length: &'static str,
    body: &'static [u8],
) -> impl Fn(&mut ResponseWriter, &mut Request) {
    move |w, _| {
        w.header("Content-Length", length);
        answer(w, body);
    }
}

fn write_status(w: &mut ResponseWriter, r: &Request) {
    let code = u16::try_from(query::number(r, "code", 200)).unwrap_or(0);
    match StatusCode::from_u16(code) {
        Ok(status) => w.write_header(status),
        // As in Go, where a status of other than three digits panics.
        Err(_) => panic!("{code} is no status"),
    }
}

fn big(w: &mut ResponseWriter, r: &mut Request) {
    let mut left = query::number(r, "n", 0);
    w.header("Content-Length", left.to_string());
    let pattern: Vec<u8> = (0..BIG_CHUNK).map(|i| b'a' + (i % 26) as u8).collect();
    while left > 0 {
        let n = pattern
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if w.write_all(&pattern[..n]).is_err() {
            return;
        }
        left -= n as u64;
    }
}

fn stream(w: &mut ResponseWriter, r: &mut Request) {
    let pause = Duration::from_millis(query::number(r, "d", 0));
    for i in 0..query::number(r, "n", 0) {
        if i > 0 && !pause.is_zero() {
            sleep(pause);
        }
        if writeln!(w, "part{i}").and_then(|()| w.flush_now()).is_err() {
            return;
        }
    }
}

fn panic_mid(w: &mut ResponseWriter, _: &mut Request) {
    answer(w, b"part\n");
    let _ = w.flush_now();
    panic!("/panicmid was asked to");
}

fn trailers(w: &mut ResponseWriter, _: &mut Request) {
    w.header("Trailer", "X-Sum");
    answer(w, b"body\n");
    let _ = w.trailer("X-Sum", "42");
}

fn early(w: &mut ResponseWriter, _: &mut Request) {
    w.header("Link", "</style.css>; rel=preload; as=style");
    w.write_header(StatusCode::EARLY_HINTS);
    answer(w, b"final\n");
}

fn dial(w: &mut ResponseWriter, r: &mut Request) {
    match dialed(r) {
        Ok(got) => {
            let _ = writeln!(w, "ok {:?}", String::from_utf8_lossy(&got));
        }
        Err(e) => wirepath::error(w, &e.to_string(), StatusCode::BAD_GATEWAY),
    }
}

/// What a peer says to `dialed`.
fn dialed(r: &Request) -> io::Result<Vec<u8>> {
    let addr: SocketAddr = query::text(r, "addr")
        .parse()
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let timeout = Duration::from_millis(query::number(r, "ms", DIAL_MS));
    let mut peer = TcpStream::connect_timeout(addr, timeout)?;
    peer.write_all(b"dialed\n")?;
    peer.set_read_deadline(Some(now() + DIAL_READ));
    let mut got = Vec::new();
    match peer.take(DIAL_BYTES).read_to_end(&mut got) {
        Err(e) if e.kind() != io::ErrorKind::TimedOut => Err(e),
        _ => Ok(got),
    }
}
