//! The page `/debug/wirepath/`: a live drawing of the path, its tables, and a
//! guided tour of the stages.
//!
//! | path | what it is |
//! | --- | --- |
//! | `/debug/wirepath/` | the page, one document with all that it needs |
//! | `/debug/wirepath/state` | a [`State`] as JSON |
//! | `/debug/wirepath/events` | a [`State`] every so often, as Server-Sent Events |
//! | `/debug/wirepath/journey?hello=TOKEN` | the way of the request for `hello?TOKEN`, or null |
//! | `/debug/wirepath/hello` | a short answer: what the page asks for when it sends a request to be followed |
//!
//! `state` and `events` take in their query how many `flows`, `goroutines` and
//! `requests` a state lists, and `events` the `interval` between two in
//! milliseconds. A number out of bounds becomes the nearest that is allowed, and
//! what is no number is as if it were not there: nobody is refused for a slip in
//! a query.
//!
//! # Invariants
//!
//! * Everything that a browser runs is in the document, which names the SHA-256
//!   of its script and its style in its `Content-Security-Policy`: a text of a
//!   peer that found its way into the markup could still run nothing.
//! * A state is at most [`MAX_STATE_BYTES`] long, and there are at most
//!   [`MAX_STREAMS`] streams, each a goroutine that holds one state at a time. A
//!   client that does not read keeps its own goroutine for
//!   [`WRITE_PATIENCE`] and nobody else.
//! * Like other pages below `/debug/`, these are for near addresses unless said
//!   otherwise ([`Page::allow`]).
//!
//! # Rejected
//!
//! * A WebSocket: nothing is sent but states, in one direction, and a browser
//!   reconnects an event stream by itself.
//! * Drawing on the server: the document would be sent again with each change.
//! * Modules as files of their own: each would be a request on the path, and the
//!   page would begin by showing itself.

mod document;
mod events;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use wirepath_runtime::{Handle, trace};

use super::journey::Journey;
use super::recording::Names;
use super::state::State;
use super::{Scene, Wanted, recent};
use crate::debug::Pages;
use crate::file::serve_bytes;
use crate::mux::ServeMux;
use crate::request::Request;
use crate::response::{ResponseWriter, error};
use document::Document;
use events::Streams;

/// Event streams at a time: a page each.
pub const MAX_STREAMS: usize = 16;
/// Bytes of a state as JSON. One that would be longer is made anew with fewer
/// flows, goroutines and requests.
pub const MAX_STATE_BYTES: usize = 512 * 1024;
/// How long a client may take to make room for a state before its stream ends.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the word that tells one request for `hello` from another. With the
/// path before it, it fits one event of the trace.
const MAX_TOKEN_BYTES: usize = 12;

/// Flows, goroutines and requests that a state lists at most, and unless told.
const MOST: Wanted = Wanted {
    flows: 1_000,
    goroutines: 1_000,
    requests: 200,
};
const USUAL: Wanted = Wanted {
    flows: 72,
    goroutines: 60,
    requests: 20,
};

const JSON: &str = "application/json; charset=utf-8";

/// Where states come from.
type Source = Arc<dyn Fn(&Wanted) -> State + Send + Sync>;

/// The page, to be registered with a mux.
#[derive(Clone)]
pub struct Page {
    source: Source,
    guard: Pages,
}

impl Page {
    /// The page of what `scene` shows, for near addresses: see
    /// [`is_near`](crate::debug::is_near).
    pub fn new(scene: Scene) -> Page {
        Page::of_states(move |wanted| scene.state(wanted))
    }

    /// The page of the states that `source` gives: for who has its scene later than
    /// its mux.
    pub fn of_states(source: impl Fn(&Wanted) -> State + Send + Sync + 'static) -> Page {
        Page {
            source: Arc::new(source),
            guard: Pages::new(),
        }
    }

    /// Decides by the address that a request comes from who sees the page.
    #[must_use]
    pub fn allow(self, allow: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Page {
        Page {
            guard: self.guard.allow(allow),
            ..self
        }
    }

    /// Registers the page and what it asks for, for GET and HEAD.
    ///
    /// # Panics
    ///
    /// As [`ServeMux::handle`]: when a pattern of the mux conflicts.
    pub fn register(&self, mux: &mut ServeMux) {
        let document = Arc::new(Document::new());
        let page = move |w: &mut ResponseWriter, r: &mut Request| show(&document, w, r);
        mux.handle("GET /debug/wirepath/{$}", self.guard.guard(page));
        let source = self.source.clone();
        let state = move |w: &mut ResponseWriter, r: &mut Request| once(&source, w, r);
        mux.handle("GET /debug/wirepath/state", self.guard.guard(state));
        let source = self.source.clone();
        let streams = Streams::default();
        let events = move |w: &mut ResponseWriter, r: &mut Request| streams.serve(&source, w, r);
        mux.handle("GET /debug/wirepath/events", self.guard.guard(events));
        mux.handle("GET /debug/wirepath/journey", self.guard.guard(journey));
        mux.handle("GET /debug/wirepath/hello", self.guard.guard(hello));
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

/// What every answer of the page says: it is for this site's own pages, and is
/// what it says it is.
fn guard_fields(w: &mut ResponseWriter) {
    w.header("X-Content-Type-Options", "nosniff");
    w.header("Referrer-Policy", "no-referrer");
    w.header("Cross-Origin-Resource-Policy", "same-origin");
}

fn show(document: &Document, w: &mut ResponseWriter, r: &mut Request) {
    guard_fields(w);
    w.header("Content-Type", "text/html; charset=utf-8");
    w.header("Content-Security-Policy", document.policy.as_str());
    w.header("Cache-Control", "no-cache");
    w.header("ETag", document.etag.as_str());
    serve_bytes(w, r, "page.html", None, document.text.as_bytes());
}

fn once(source: &Source, w: &mut ResponseWriter, r: &mut Request) {
    guard_fields(w);
    w.header("Cache-Control", "no-store");
    match bounded(source, wanted(r)) {
        Some(json) => {
            w.header("Content-Type", JSON);
            // An error says that the client is gone.
            let _ = w.write_all(json.as_bytes());
        }
        None => error(w, TOO_LONG, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn hello(w: &mut ResponseWriter, _: &mut Request) {
    guard_fields(w);
    w.header("Cache-Control", "no-store");
    w.header("Content-Type", "text/plain; charset=utf-8");
    let _ = w.write_all(b"Hello from the other end of the path.\n");
}

/// The way of one request for `hello`, as soon as it was answered: on a busy
/// server it is not among the last for long.
fn journey(w: &mut ResponseWriter, r: &mut Request) {
    guard_fields(w);
    w.header("Cache-Control", "no-store");
    w.header("Content-Type", JSON);
    let values = r.query_values();
    let token = values.get("hello").unwrap_or_default();
    let json = serde_json::to_string(&journey_of(&token));
    let _ = w.write_all(json.unwrap_or_default().as_bytes());
}

fn journey_of(token: &str) -> Option<Journey> {
    let is_token = !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
    let runtime = Handle::current().filter(|_| is_token)?;
    let needle = format!("hello?{token}");
    let events = recent::of_request(&trace::snapshot().events, &needle);
    let names = Names::of(&events, &runtime);
    let all = Journey::all(&events, &names).into_iter();
    all.rev()
        .find(|journey| journey.request.contains(&needle) && journey.stages[13].is_some())
}

/// What is said where no state fits.
const TOO_LONG: &str = "the state is longer than this page takes, however little is asked for: \
                        take a trace instead";

/// How much a request's query wants.
fn wanted(r: &Request) -> Wanted {
    Wanted {
        flows: number(r, "flows", USUAL.flows, 0, MOST.flows),
        goroutines: number(r, "goroutines", USUAL.goroutines, 0, MOST.goroutines),
        requests: number(r, "requests", USUAL.requests, 0, MOST.requests),
    }
}

/// A number of the query, brought within its bounds.
fn number(r: &Request, name: &str, usual: usize, least: usize, most: usize) -> usize {
    let values = r.query_values();
    let given = values.get(name).and_then(|text| text.parse().ok());
    given.unwrap_or(usual).clamp(least, most)
}

/// A state as JSON of at most [`MAX_STATE_BYTES`]; None where not even its
/// totals are as short.
fn bounded(source: &Source, mut wanted: Wanted) -> Option<String> {
    loop {
        let json = serde_json::to_string(&source(&wanted)).ok()?;
        if json.len() <= MAX_STATE_BYTES {
            return Some(json);
        }
        if wanted.flows + wanted.goroutines + wanted.requests == 0 {
            return None;
        }
        wanted = Wanted {
            flows: wanted.flows / 2,
            goroutines: wanted.goroutines / 2,
            requests: wanted.requests / 2,
        };
    }
}
