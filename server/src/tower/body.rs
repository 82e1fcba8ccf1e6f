//! The body of a request as an `http_body::Body`.
//!
//! A poll must not wait, and reading a body does. So a poll that finds nothing
//! lends the body to a goroutine that reads one frame, and is woken when that is
//! there: wherever it is polled, also on another runtime's thread.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use wirepath_runtime::{Handle, sync};

use crate::conn::Wire;
use crate::request::{Body, Request};

/// The most that is in a frame, in bytes.
const FRAME_BYTES: usize = 16 * 1024;

/// The body of a request, in frames of up to 16 KiB, each read when it is asked
/// for; the fields after it, if there are any, are the last frame.
///
/// Errors are those of [`crate::Body`]. Once the request was answered, what is
/// left can no longer be read, and polls fail with `BrokenPipe`.
pub struct RequestBody {
    lent: Lent,
}

/// A body that was lent to a [`RequestBody`].
#[derive(Clone)]
pub(super) struct Lent(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wire: Option<Arc<Wire>>,
    /// A frame was asked for.
    is_asked: AtomicBool,
    /// Held while the client is told to go on, and while the response begins:
    /// the one must not be written into the other.
    gate: sync::Mutex<()>,
    runtime: Option<Handle>,
}

struct State {
    place: Place,
    waker: Option<Waker>,
    /// What is left of the body, if its length was declared.
    left: Option<u64>,
}

/// Where the body is.
enum Place {
    /// Here, and not being read.
    Here(Body),
    /// Here, with what was read.
    Read(Body, io::Result<Option<Frame<Bytes>>>),
    /// A goroutine reads.
    Away,
    /// Here, at its end.
    AtEnd(Body),
    /// Taken back.
    Over,
}

impl RequestBody {
    pub(super) fn of(lent: &Lent) -> RequestBody {
        RequestBody { lent: lent.clone() }
    }
}

impl Lent {
    /// Takes the body out of `r`.
    pub fn of(r: &mut Request) -> Lent {
        let left = r.content_length();
        let body = std::mem::take(&mut r.body);
        let wire = body.wire().cloned();
        if let Some(wire) = &wire {
            // By it the request knows its connection.
            r.body.attach(wire.clone());
        }
        let state = State {
            place: match left {
                Some(0) => Place::AtEnd(body),
                _ => Place::Here(body),
            },
            waker: None,
            left,
        };
        Lent(Arc::new(Shared {
            wire,
            is_asked: AtomicBool::new(false),
            state: Mutex::new(state),
            gate: sync::Mutex::new(()),
            runtime: Handle::current(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `write_head`, while the client is not told to go on: before it if the
    /// body was asked for, and afterwards no more.
    pub fn begin_response(&self, write_head: impl FnOnce()) {
        let _gate = self.0.gate.lock();
        if let Some(wire) = &self.0.wire
            && self.0.is_asked.load(Ordering::SeqCst)
        {
            // The response meets the same error.
            let _ = wire.send_continue();
        }
        write_head();
    }

    fn send_continue(&self) -> io::Result<()> {
        let _gate = self.0.gate.lock();
        self.0
            .wire
            .as_ref()
            .map_or(Ok(()), |wire| wire.send_continue())
    }

    /// The body, unless it is being read.
    pub fn take_back(&self) -> Option<Body> {
        match std::mem::replace(&mut self.state().place, Place::Over) {
            Place::Here(body) | Place::Read(body, _) | Place::AtEnd(body) => Some(body),
            Place::Away | Place::Over => None,
        }
    }

    /// Reads a frame, and tells who asked for it.
    fn fetch(self, mut body: Body) {
        let read = self.send_continue().and_then(|()| read_frame(&mut body));
        let mut state = self.state();
        if matches!(state.place, Place::Away) {
            state.place = Place::Read(body, read);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut state = self.state();
        match std::mem::replace(&mut state.place, Place::Away) {
            Place::Here(body) => {
                state.waker = Some(cx.waker().clone());
                drop(state);
                self.0.is_asked.store(true, Ordering::SeqCst);
                self.begin_fetch(body);
                let mut state = self.state();
                match std::mem::replace(&mut state.place, Place::Away) {
                    Place::Read(body, read) => Poll::Ready(state.hand_out(body, read)),
                    place => {
                        state.place = place;
                        Poll::Pending
                    }
                }
            }
            Place::Away => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Place::Read(body, read) => Poll::Ready(state.hand_out(body, read)),
            Place::AtEnd(body) => {
                state.place = Place::AtEnd(body);
                Poll::Ready(None)
            }
            Place::Over => {
                state.place = Place::Over;
                Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into())))
            }
        }
    }

    /// Reads a frame: here, if that needs no wait, or nobody else can.
    fn begin_fetch(&self, body: Body) {
        let lent = self.clone();
        match &self.0.runtime {
            Some(runtime) if body.may_wait() => drop(runtime.go(move || lent.fetch(body))),
            _ => lent.fetch(body),
        }
    }
}

impl State {
    fn hand_out(
        &mut self,
        body: Body,
        read: io::Result<Option<Frame<Bytes>>>,
    ) -> Option<io::Result<Frame<Bytes>>> {
        let is_data = matches!(&read, Ok(Some(frame)) if frame.is_data());
        self.place = match is_data {
            true => Place::Here(body),
            false => Place::AtEnd(body),
        };
        if let (Some(left), Ok(Some(frame))) = (&mut self.left, &read) {
            *left -= frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        read.transpose()
    }
}

/// The next frame; `None` at the end.
fn read_frame(body: &mut Body) -> io::Result<Option<Frame<Bytes>>> {
    let room = match usize::try_from(body.known_left()) {
        Ok(left @ 1..FRAME_BYTES) => left,
        _ => FRAME_BYTES,
    };
    let mut data = vec![0; room];
    let n = body.read(&mut data)?;
    if n > 0 {
        data.truncate(n);
        return Ok(Some(Frame::data(data.into())));
    }
    if body.trailers.is_empty() {
        return Ok(None);
    }
    let trailers = body.trailers.to_header_map();
    let trailers = trailers.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(Some(Frame::trailers(trailers)))
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.lent.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.lent.state().place, Place::AtEnd(_))
    }

    fn size_hint(&self) -> SizeHint {
        self.lent
            .state()
            .left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}
