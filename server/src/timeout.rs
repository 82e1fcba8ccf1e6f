//! A bound on how long a handler may take.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tracing::Span;
use wirepath_runtime::chan::channel;
use wirepath_runtime::context::ContextError;
use wirepath_runtime::{go_named, select};

use crate::handler::Handler;
use crate::panic::{AbortHandler, Caught};
use crate::request::Request;
use crate::response::{Recorded, ResponseWriter, WriteError};

/// What is answered unless another body is given. As in Go.
const BODY: &str = "<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>";

/// A handler that has so much time and no more, as Go's `TimeoutHandler`.
///
/// The handler runs on a goroutine of its own, and what it answers is kept
/// until it returns. When it takes longer than it may, the client gets 503
/// (Service Unavailable) with a body that says so; the handler's context has
/// ended by then, and what it writes from then on fails with
/// [`WriteError::HandlerTimeout`]. It is not stopped: it should look at
/// [`Request::context`], which has the deadline.
///
/// * A panic of the handler's is the request's, unless it comes too late: then
///   it is logged.
/// * Flushing does nothing, and the connection cannot be hijacked. A body of
///   more than [`max_body_bytes`](TimeoutHandler::max_body_bytes) is answered
///   with 500.
/// * A request of which body is still to be read belongs to the handler until
///   that returns, so a connection whose handler took too long is closed. One
///   without is kept.
///
/// ```
/// use std::time::Duration;
/// use wirepath::{ServeMux, TimeoutHandler};
///
/// let mut mux = ServeMux::new();
/// let report = |w: &mut wirepath::ResponseWriter, r: &mut wirepath::Request| {
///     // This takes as long as it may.
///     r.context().done().map(|done| done.recv());
/// };
/// mux.handle("/report", TimeoutHandler::new(report, Duration::from_secs(10)));
/// ```
pub struct TimeoutHandler<H> {
    handler: Arc<H>,
    limit: Duration,
    body: String,
    max_body_bytes: Option<usize>,
}

/// How a handler came to its end.
type Outcome = Result<(Request, Recorded), Box<dyn Any + Send>>;

impl<H: Handler> TimeoutHandler<H> {
    /// Gives `handler` the time `limit` for each request.
    pub fn new(handler: H, limit: Duration) -> TimeoutHandler<H> {
        TimeoutHandler {
            handler: Arc::new(handler),
            limit,
            body: BODY.to_owned(),
            max_body_bytes: None,
        }
    }

    /// What is answered when the time is over; a small page of HTML unless set.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> TimeoutHandler<H> {
        self.body = body.into();
        self
    }

    /// Bounds the body that is kept until the handler returns, in bytes; that
    /// of [`ResponseWriter::recording`] unless set.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> TimeoutHandler<H> {
        self.max_body_bytes = Some(bytes);
        self
    }

    fn recording(&self) -> ResponseWriter {
        let mut w = ResponseWriter::recording();
        if let Some(bytes) = self.max_body_bytes {
            w.bound_recording(bytes);
        }
        w
    }
}

/// Runs the handler. `None`: nobody waits for it any more.
fn run(handler: &impl Handler, mut w: ResponseWriter, mut r: Request) -> Option<Outcome> {
    let ended = w.recording_ended();
    let panic = catch_unwind(AssertUnwindSafe(|| handler.serve(&mut w, &mut r))).err();
    let is_late = ended.get().is_some();
    match panic {
        None => Some(Ok((r, w.into_recorded()))),
        Some(panic) if !is_late => Some(Err(panic)),
        Some(panic) => {
            if !panic.is::<AbortHandler>() {
                let text = Caught::new(&*panic).into_text();
                tracing::error!(
                    target = r.target(),
                    "handler panicked after its time was over: {text}"
                );
            }
            None
        }
    }
}

impl<H: Handler> Handler for TimeoutHandler<H> {
    fn serve(&self, w: &mut ResponseWriter, r: &mut Request) {
        let context = r.context().with_timeout(self.limit);
        let mut lent = r.lend();
        lent.set_context(context.clone());
        let recording = self.recording();
        let ended = recording.recording_ended();
        let (tell, told) = channel::<Outcome>(1);
        let (handler, span) = (self.handler.clone(), Span::current());
        go_named("timeout handler", move || {
            let _inside = span.enter();
            if let Some(outcome) = run(&*handler, recording, lent) {
                // An error says that the time was over.
                let _ = tell.send(outcome);
            }
        });
        let outcome = select! {
            recv(told) -> outcome => outcome.ok(),
            recv(context.done()) => None,
        };
        match outcome {
            Some(Ok((lent, recorded))) => {
                r.put_back(lent);
                answer(w, &recorded);
            }
            Some(Err(panic)) => resume_unwind(panic),
            None => {
                let is_late = context.err() == Some(ContextError::DeadlineExceeded);
                let why = match is_late {
                    true => WriteError::HandlerTimeout,
                    false => WriteError::RequestEnded,
                };
                let _ = ended.set(why);
                w.write_header(StatusCode::SERVICE_UNAVAILABLE);
                if is_late {
                    // An error says that the client is gone.
                    let _ = std::io::Write::write_all(w, self.body.as_bytes());
                }
            }
        }
    }
}

fn answer(w: &mut ResponseWriter, recorded: &Recorded) {
    if recorded.is_cut() {
        tracing::error!("a response was larger than its TimeoutHandler keeps");
        return w.write_header(StatusCode::INTERNAL_SERVER_ERROR);
    }
    // An error says that the client is gone.
    let _ = recorded.replay(w);
}

impl<H> fmt::Debug for TimeoutHandler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutHandler")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::ServeMux;
    use crate::httptest::{TestServer, request};
    use wirepath_runtime::chan::Receiver;
    use wirepath_runtime::{go, sleep};

    const HOUR: Duration = Duration::from_secs(3600);

    /// A server with handlers under a time limit, and what their late writes gave.
    fn server() -> (TestServer, Receiver<WriteError>) {
        let (tell, told) = channel(8);
        let mut mux = ServeMux::new();
        let mut add = |pattern: &str, handler: fn(&mut ResponseWriter, &mut Request)| {
            mux.handle(pattern, TimeoutHandler::new(handler, HOUR));
        };
        add("/quick", |w, r| {
            w.header("X-One", "1").write_header(StatusCode::CREATED);
            write!(w, "{} {}", r.target(), r.pattern()).unwrap();
        });
        add("/nothing", |_, _| ());
        add("/panic", |_, _| panic!("on purpose"));
        add("/echo", |w, r| {
            std::io::copy(&mut r.body, w).unwrap();
        });
        let late = move |w: &mut ResponseWriter, r: &mut Request| {
            w.header("X-Late", "1");
            // The time may be over already.
            let _ = w.write_all(b"not seen");
            let _ = r.context().done().map(Receiver::recv);
            let refused = loop {
                match w.write_all(b"late") {
                    Ok(()) => sleep(Duration::from_millis(1)),
                    Err(e) => break e,
                }
            };
            let why = refused.get_ref().unwrap().downcast_ref().copied();
            tell.send(why.unwrap()).unwrap();
        };
        mux.handle(
            "/late",
            TimeoutHandler::new(late.clone(), Duration::from_millis(1)),
        );
        let gone = TimeoutHandler::new(late, HOUR);
        mux.handle_func("/gone", move |w, r| {
            let (context, cancel) = r.context().with_cancel();
            r.set_context(context);
            go(move || cancel.cancel());
            gone.serve(w, r);
        });
        mux.handle(
            "/large",
            TimeoutHandler::new(
                |w: &mut ResponseWriter, _: &mut Request| {
                    w.write_all(b"0123456789").unwrap();
                    w.write_all(b"0").unwrap_err();
                },
                HOUR,
            )
            .max_body_bytes(10),
        );
        (TestServer::start(mux), told)
    }

    #[test]
    fn in_time_all_is_as_without() {
        let (server, _) = server();
        let mut client = server.connect();
        for _ in 0..3 {
            let answer = client.send(&request("GET", "/quick")).unwrap();
            assert_eq!((answer.status(), &*answer.text()), (201, "/quick /quick"));
            assert_eq!(answer.header("X-One"), Some("1"));
            let answer = client.send(&request("GET", "/nothing")).unwrap();
            assert_eq!((answer.status(), &*answer.text()), (200, ""));
            let echo = request("POST", "/echo").body("hello").chunked();
            assert_eq!(client.send(&echo).unwrap().text(), "hello");
        }
        let answer = client.send(&request("GET", "/large")).unwrap();
        assert_eq!((answer.status(), &*answer.text()), (500, ""));
        assert!(server.get("/panic").is_err(), "it closes the connection");
    }

    #[test]
    fn too_late_is_503_and_the_connection_is_kept() {
        let (server, told) = server();
        let mut client = server.connect();
        for _ in 0..2 {
            let answer = client.send(&request("GET", "/late")).unwrap();
            assert_eq!((answer.status(), &*answer.text()), (503, BODY));
            assert_eq!(
                answer.header("Content-Type"),
                Some("text/html; charset=utf-8")
            );
            assert_eq!(answer.header("X-Late"), None);
            assert_eq!(told.recv(), Ok(WriteError::HandlerTimeout));
        }
        assert_eq!(
            client.send(&request("GET", "/quick")).unwrap().status(),
            201
        );
    }

    #[test]
    fn a_request_with_a_body_left_costs_the_connection() {
        let (server, told) = server();
        let mut client = server.connect();
        let answer = client
            .send(&request("POST", "/late").body("unread"))
            .unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(told.recv(), Ok(WriteError::HandlerTimeout));
        assert!(client.send(&request("GET", "/quick")).is_err());
    }

    #[test]
    fn a_request_that_ends_before_ends_it_too() {
        let (server, told) = server();
        let answer = server.get("/gone").unwrap();
        assert_eq!((answer.status(), &*answer.text()), (503, ""));
        assert_eq!(told.recv(), Ok(WriteError::RequestEnded));
    }

    #[test]
    fn a_lent_request_comes_back_whole() {
        let mut r = request("POST", "/a?b").body("hello").build();
        let mut lent = r.lend();
        assert_eq!((lent.target(), r.target()), ("/a?b", "/"));
        let mut body = String::new();
        lent.body.read_to_string(&mut body).unwrap();
        r.put_back(lent);
        assert_eq!((r.target(), &*body), ("/a?b", "hello"));
        assert!(r.body.wire().is_some());
        let lent = r.lend();
        assert!(lent.body.wire().is_none() && r.body.wire().is_some());
        r.put_back(lent);
        assert!(r.body.wire().is_some());
        assert_eq!(r.target(), "/a?b");
    }
}
