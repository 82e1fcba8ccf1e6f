//! The `tracing` span that a request is served in.
//!
//! It is called `request`, at level DEBUG with the target `wirepath::request`,
//! so that a log at INFO costs a request nothing but a look at the span's
//! interest. Its fields: `id` (counted from 1 in the process), `method`,
//! `target`, `peer`, and once the request is answered `route` (the mux's
//! pattern), `status`, `bytes` (of the body) and `duration_us`. Events of the
//! handler and of the server are in it, also those after a wait: the runtime
//! sees to that.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Empty, display};
use tracing::span::Entered;
use tracing::{Span, debug_span};
use wirepath_runtime::{Nanos, now};

use crate::request::Request;
use crate::response::ResponseWriter;

/// The span of one request; nothing if nobody is interested.
pub(crate) struct RequestSpan {
    span: Span,
    started: Option<Nanos>,
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl RequestSpan {
    pub fn open(r: &Request) -> RequestSpan {
        let span = debug_span!(
            target: "wirepath::request",
            "request",
            id = next_id(),
            method = %r.method(),
            target = r.target(),
            peer = %r.remote_addr(),
            route = Empty,
            status = Empty,
            bytes = Empty,
            duration_us = Empty,
        );
        let started = (!span.is_disabled()).then(now);
        RequestSpan { span, started }
    }

    pub fn enter(&self) -> Entered<'_> {
        self.span.enter()
    }

    /// The request is answered.
    pub fn record(&self, r: &Request, w: &ResponseWriter) {
        let Some(started) = self.started else { return };
        if !r.pattern().is_empty() {
            self.span.record("route", r.pattern());
        }
        if let Some(status) = w.status() {
            self.span.record("status", status.as_u16());
        }
        self.span.record("bytes", w.written());
        let micros = now().since(started).as_micros();
        self.span.record("duration_us", display(micros));
    }
}
