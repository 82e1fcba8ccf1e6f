//! States as Server-Sent Events: one every so often, until the client is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use wirepath_runtime::{after, now, select};

use super::{MAX_STREAMS, Source, TOO_LONG, WRITE_PATIENCE, bounded, guard_fields, number, wanted};
use crate::request::Request;
use crate::response::{ResponseWriter, error};
use crate::server::Server;
use crate::sse;

/// Milliseconds between two states: unless told, at least and at most. The least
/// keeps a page from costing more than what it shows.
const INTERVAL_MS: usize = 500;
const MIN_INTERVAL_MS: usize = 100;
const MAX_INTERVAL_MS: usize = 60_000;

/// How long a browser waits before it connects anew.
const RETRY: Duration = Duration::from_secs(2);

/// How often a stream that waits looks whether the server shuts down, which
/// would wait for it otherwise: a request's context goes on until the close.
const LOOK: Duration = Duration::from_millis(500);

/// The streams that are open.
#[derive(Clone, Default)]
pub(super) struct Streams {
    open: Arc<AtomicUsize>,
}

/// A place among the streams; dropping it gives it back.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    fn enter(&self) -> Option<Place> {
        let more = |open| (open < MAX_STREAMS).then_some(open + 1);
        let order = Ordering::Relaxed;
        let entered = self.open.fetch_update(order, order, more);
        entered.is_ok().then(|| Place(self.open.clone()))
    }

    /// Sends states until the client or the server ends.
    pub fn serve(&self, source: &Source, w: &mut ResponseWriter, r: &mut Request) {
        guard_fields(w);
        let Some(_place) = self.enter() else {
            let why = format!("{MAX_STREAMS} pages are open already: close one, or read `state`");
            w.header("Retry-After", "5");
            return error(w, &why, StatusCode::SERVICE_UNAVAILABLE);
        };
        w.header("Cache-Control", "no-store");
        w.set_write_deadline(Some(now() + WRITE_PATIENCE));
        // An error says that the client is gone, which is how streams end.
        let _ = sse::Stream::open(w, r).map(|stream| run(source, stream, r));
    }
}

fn run(source: &Source, mut stream: sse::Stream<'_>, r: &Request) {
    let ms = number(r, "interval", INTERVAL_MS, MIN_INTERVAL_MS, MAX_INTERVAL_MS);
    let interval = Duration::from_millis(ms as u64);
    let wanted = wanted(r);
    let mut nth = 0_u64;
    loop {
        nth += 1;
        let event = match bounded(source, wanted.clone()) {
            Some(json) => sse::Event::new(json).name("state"),
            None => sse::Event::new(TOO_LONG).name("trouble"),
        };
        stream.set_write_deadline(Some(now() + WRITE_PATIENCE));
        if stream
            .send(&event.id(nth.to_string()).retry(RETRY))
            .is_err()
        {
            return;
        }
        if !pause(&stream, interval) {
            return;
        }
    }
}

/// Waits for `interval`; false once the client is gone or the server ends.
fn pause(stream: &sse::Stream<'_>, interval: Duration) -> bool {
    let end = now() + interval;
    loop {
        let left = end.since(now());
        if left.is_zero() {
            return true;
        }
        let next = after(left.min(LOOK));
        let is_gone = select! {
            recv(next) -> _ => false,
            recv(stream.context().done()) => true,
        };
        let server = stream.context().value::<Server>();
        if is_gone || server.is_some_and(|server| server.service().is_draining()) {
            return false;
        }
    }
}
