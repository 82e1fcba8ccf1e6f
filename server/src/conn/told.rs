//! What a connection tells a trace of its requests.
//!
//! A request is known by its flow and by where its head begins in the stream
//! in. With TLS the offsets are those of what it protects, not of the wire.
//! Each function is to be called behind [`trace::enabled`].

use wirepath_runtime::Nanos;
use wirepath_runtime::trace::{self, Event, HEAD_TEXT_LEN, Kind, Label, TEXT_LEN};

use super::wire::Wire;
use crate::request::{HeadError, Request};
use crate::response::ResponseWriter;

/// Bytes of method and target that a trace keeps at most.
const MAX_TEXT: usize = HEAD_TEXT_LEN + 3 * TEXT_LEN;

/// A request whose beginning was told.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    at: Nanos,
    /// Bytes of the stream out before its response.
    out: u64,
}

/// A head was parsed, and nothing of the body read yet.
#[inline(never)]
pub(super) fn head(wire: &Wire, r: &Request) -> Begun {
    let (at, flow) = (trace::stamp(), wire.conn.flow());
    let head = r.headers.raw();
    let unused = r.body.input.buffered().len() + head.len();
    let offset = wire.total_in().saturating_sub(unused as u64) | protection(wire);
    let event = Event::new(at, Kind::HttpHead, flow).bytes(offset, head.len());
    trace::emit(event.with_head_text(head));
    let rest = head
        .get(HEAD_TEXT_LEN..MAX_TEXT.min(head.len()))
        .unwrap_or_default();
    if memchr::memchr_iter(b' ', &head[..head.len().min(HEAD_TEXT_LEN)]).count() < 2 {
        more_text(at, flow, rest);
    }
    Begun {
        at,
        out: wire.total_out(),
    }
}

/// The mark of offsets that are not the wire's.
fn protection(wire: &Wire) -> u64 {
    #[cfg(feature = "tls")]
    if wire.conn.tls().is_some() {
        return trace::PROTECTED;
    }
    let _ = wire;
    0
}

/// What of the target did not fit the head's event: up to the next space.
#[cold]
fn more_text(at: Nanos, flow: u64, rest: &[u8]) {
    let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    for part in rest[..end].chunks(TEXT_LEN) {
        trace::emit(Event::new(at, Kind::HttpText, flow).with_text(part));
    }
}

/// A request was refused.
#[inline(never)]
pub(super) fn refused(wire: &Wire, e: &HeadError) {
    let event = Event::new(trace::stamp(), Kind::HttpRefused, wire.conn.flow());
    let event = event.labelled(trace::label(e.code()));
    trace::emit(event.answered(e.status().as_u16(), Label::default()));
}

/// The response was written.
#[inline(never)]
pub(super) fn answered(wire: &Wire, begun: Begun, r: &Request, w: &ResponseWriter) {
    let status = w.status().map_or(0, |status| status.as_u16());
    let len = usize::try_from(wire.total_out() - begun.out).unwrap_or(usize::MAX);
    let event = Event::new(trace::stamp(), Kind::HttpHandler, wire.conn.flow());
    let mut event = event
        .bytes(begun.out | protection(wire), len)
        .answered(status, r.route());
    event.dur_ns = begun.at.0;
    trace::emit(event);
}
