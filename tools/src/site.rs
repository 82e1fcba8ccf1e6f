//! The demo site: a handler for each thing that a server must get right.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wirepath::debug::{Pages, is_near};
use wirepath::http::StatusCode;
use wirepath::metrics::Metrics;
use wirepath::runtime;
use wirepath::runtime::net::Network;
use wirepath::see::{self, Page, Scene, Wanted};
use wirepath::{FileServer, Request, ResponseWriter, ServeMux};
use wirepath_stack::Cidr;

use crate::failure::Failure;

/// `/stream` and `/sleep` take no more than this, so that a stranger's number
/// keeps no goroutine for hours.
const MAX_STREAM_LINES: u64 = 1_000_000;
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// `/spin` takes no more than this: it keeps a thread for as long.
const MAX_SPIN: Duration = Duration::from_secs(10);
/// Goroutines that `/debug/goroutines` lists at most.
const MOST_GOROUTINES: usize = 10_000;
/// The body of `/big`, bytes.
const BIG_LEN: usize = 1 << 20;

/// The site's routes over `network`, but for those below `/debug/`.
pub fn mux(network: Network) -> ServeMux {
    let mut mux = ServeMux::new();
    mux.handle_func("/{$}", hello);
    let text = about(network);
    mux.handle_func("/about", move |w: &mut ResponseWriter, _: &mut Request| {
        w.header("Content-Type", "text/plain; charset=utf-8");
        answer(w, text.as_bytes());
    });
    mux.handle_func("/users/{id}", user);
    mux.handle_func("POST /echo", echo);
    mux.handle_func("/big", big);
    mux.handle_func("/stream", stream);
    mux.handle_func("/sleep", sleep);
    mux.handle_func("/spin", spin);
    mux.handle_func("/panic", |_: &mut ResponseWriter, _: &mut Request| {
        panic!("the handler of /panic was asked to");
    });
    mux
}

/// The site over `network`: the files of `root`, or else the demo's routes.
///
/// # Errors
///
/// The directory cannot be served.
pub fn of(network: Network, root: Option<&Path>) -> Result<ServeMux, Failure> {
    let Some(root) = root else {
        return Ok(mux(network));
    };
    let files = FileServer::new(root).map_err(|e| {
        Failure::refused(format!(
            "cannot serve files of --root {}: {e}",
            root.display()
        ))
    })?;
    let mut mux = ServeMux::new();
    mux.handle("/", files);
    Ok(mux)
}

/// The pages below `/debug/` for who may see them; `/debug/wirepath/counters`
/// answers with what `counters` gives.
pub fn add_counters(
    mux: &mut ServeMux,
    from: &[Cidr],
    counters: impl Fn() -> Value + Send + Sync + 'static,
) {
    let pages = Pages::new().allow(may_see(from));
    pages.register(mux);
    let counted = move |w: &mut ResponseWriter, _: &mut Request| {
        w.header("Content-Type", "application/json");
        let text = format!("{:#}\n", counters());
        answer(w, text.as_bytes());
    };
    mux.handle("GET /debug/wirepath/counters", pages.guard(counted));
    mux.handle("GET /debug/goroutines", pages.guard(goroutines));
    see::recorder::register(mux, &pages);
}

/// The page that shows the path live, of the scene that `scene` makes when it is
/// first asked for.
pub fn add_page(
    mux: &mut ServeMux,
    from: &[Cidr],
    scene: impl Fn() -> Scene + Send + Sync + 'static,
) {
    let made = OnceLock::new();
    let states = move |wanted: &Wanted| made.get_or_init(&scene).state(wanted);
    Page::of_states(states).allow(may_see(from)).register(mux);
}

/// Prometheus's `/metrics`, for who may see the pages below `/debug/`.
pub fn add_metrics(mux: &mut ServeMux, from: &[Cidr], metrics: &Metrics) {
    let pages = Pages::new().allow(may_see(from));
    mux.handle("GET /metrics", pages.guard(metrics.handler()));
}

/// Who sees the pages below `/debug/`: near addresses, unless there is a list.
fn may_see(from: &[Cidr]) -> impl Fn(IpAddr) -> bool + Send + Sync + 'static {
    let from = from.to_vec();
    move |addr| match &from[..] {
        [] => is_near(addr),
        list => {
            let addr = addr.to_canonical();
            list.iter().any(|cidr| cidr.contains(addr))
        }
    }
}

/// All goroutines of the server, as Go's `/debug/pprof/goroutine?debug=2`.
fn goroutines(w: &mut ResponseWriter, _: &mut Request) {
    w.header("Content-Type", "text/plain; charset=utf-8");
    let runtime = runtime::Handle::current().expect("handlers run on goroutines");
    answer(w, runtime.dump(MOST_GOROUTINES).as_bytes());
}

/// The goroutines that kept their threads for long, by where they were started.
pub fn long_runs() -> Value {
    let runs = runtime::Handle::current().map_or_else(Vec::new, |runtime| runtime.long_runs());
    let row = |run: runtime::LongRun| {
        json!({
            "created_at": format!("{}:{}", run.site.file(), run.site.line()),
            "name": run.name.as_deref(),
            "goroutine": run.goroutine,
            "runs": run.runs,
            "off_cpu": run.off_cpu,
            "longest_ms": run.longest.as_millis() as u64,
            "most_waiting": run.most_waiting,
        })
    };
    runs.into_iter().map(row).collect()
}

/// Writes a body. An error means that the client is gone, which the server
/// sees by itself.
fn answer(w: &mut ResponseWriter, body: &[u8]) {
    let _ = w.write_all(body);
}

fn hello(w: &mut ResponseWriter, _: &mut Request) {
    w.header("Content-Type", "text/plain; charset=utf-8");
    answer(w, b"Hello, World!\n");
}

fn about(network: Network) -> &'static str {
    match network {
        Network::Kernel => {
            "Wirepath: an HTTP server whose goroutines and HTTP run in userspace, here over the\n\
             kernel's TCP and its sockets (--kernel). /debug/wirepath/ shows what happens on the\n\
             way.\n"
        }
        _ => {
            "Wirepath: an HTTP server whose TCP, readiness, goroutines and HTTP all run in\n\
             userspace. This page came through no kernel socket. /debug/wirepath/ shows what\n\
             happens on the way.\n"
        }
    }
}

fn user(w: &mut ResponseWriter, r: &mut Request) {
    w.header("Content-Type", "text/plain; charset=utf-8");
    let text = format!("user {}\n", r.path_value("id"));
    answer(w, text.as_bytes());
}

fn echo(w: &mut ResponseWriter, r: &mut Request) {
    let kind = r.header("Content-Type");
    let kind = kind.as_deref().unwrap_or("application/octet-stream");
    w.header("Content-Type", kind);
    if let Some(len) = r.content_length() {
        w.header("Content-Length", len.to_string());
    }
    let mut buf = [0; 16 * 1024];
    loop {
        match r.body.read(&mut buf) {
            Ok(0) => return,
            Ok(n) => {
                if w.write_all(&buf[..n]).is_err() {
                    return;
                }
            }
            Err(e) => {
                tracing::info!(error = %e, "the body of an echo ended early");
                return;
            }
        }
    }
}

fn big(w: &mut ResponseWriter, _: &mut Request) {
    w.header("Content-Type", "application/octet-stream");
    w.header("Content-Length", BIG_LEN.to_string());
    // Every line of 64 bytes starts with its offset, so that a byte that went
    // astray shows.
    let mut line = [b'.'; 64];
    line[63] = b'\n';
    let mut chunk = Vec::with_capacity(16 * 1024);
    for offset in (0..BIG_LEN).step_by(64) {
        line[..10].copy_from_slice(format!("{offset:010}").as_bytes());
        chunk.extend_from_slice(&line);
        if chunk.len() == chunk.capacity() {
            if w.write_all(&chunk).is_err() {
                return;
            }
            chunk.clear();
        }
    }
    answer(w, &chunk);
}

/// A number of the query, or what to answer instead.
fn number(r: &Request, name: &str, default: u64, max: u64) -> Result<u64, String> {
    let pairs = r.query().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = pairs.into_iter().find(|(key, _)| *key == name) else {
        return Ok(default);
    };
    text.parse()
        .ok()
        .filter(|n| *n <= max)
        .ok_or_else(|| format!("{name} is a number from 0 to {max}"))
}

fn stream(w: &mut ResponseWriter, r: &mut Request) {
    let lines = match number(r, "n", 10, MAX_STREAM_LINES) {
        Ok(lines) => lines,
        Err(why) => return wirepath::error(w, &why, StatusCode::BAD_REQUEST),
    };
    w.header("Content-Type", "text/plain; charset=utf-8");
    for i in 0..lines {
        if writeln!(w, "line {i}").and_then(|()| w.flush()).is_err() {
            return;
        }
    }
}

/// Passes the time that `ms` of the query says, by `pass`, and tells of it.
fn for_ms(
    w: &mut ResponseWriter,
    r: &Request,
    most: Duration,
    verb: &str,
    pass: impl FnOnce(Duration),
) {
    let most = u64::try_from(most.as_millis()).expect("a minute fits");
    let ms = match number(r, "ms", 100, most) {
        Ok(ms) => ms,
        Err(why) => return wirepath::error(w, &why, StatusCode::BAD_REQUEST),
    };
    pass(Duration::from_millis(ms));
    w.header("Content-Type", "text/plain; charset=utf-8");
    let text = format!("{verb} {ms} ms\n");
    answer(w, text.as_bytes());
}

fn sleep(w: &mut ResponseWriter, r: &mut Request) {
    for_ms(w, r, MAX_SLEEP, "slept", runtime::sleep);
}

/// A handler that computes and lets nobody else run on its thread.
fn spin(w: &mut ResponseWriter, r: &mut Request) {
    for_ms(w, r, MAX_SPIN, "computed for", |time| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    });
}
