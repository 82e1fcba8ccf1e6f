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

/// A head of `len` bytes from `offset` of the stream in was parsed.
#[inline(never)]
pub(super) fn head(wire: &Wire, r: &Request, offset: u64, len: usize) -> Begun {
    let (at, flow) = (trace::stamp(), wire.conn.flow());
    let mut text = [0; MAX_TEXT];
    let mut end = 0;
    for part in [r.method().as_str(), " ", r.target()] {
        let part = &part.as_bytes()[..part.len().min(MAX_TEXT - end)];
        text[end..][..part.len()].copy_from_slice(part);
        end += part.len();
    }
    let (first, rest) = text[..end].split_at(end.min(HEAD_TEXT_LEN));
    let event = Event::new(at, Kind::HttpHead, flow).bytes(offset, len);
    trace::emit(event.with_head_text(first));
    for part in rest.chunks(TEXT_LEN) {
        trace::emit(Event::new(at, Kind::HttpText, flow).with_text(part));
    }
    Begun {
        at,
        out: wire.total_out(),
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
    let mut event = event.bytes(begun.out, len).answered(status, r.route());
    event.dur_ns = begun.at.0;
    trace::emit(event);
}
