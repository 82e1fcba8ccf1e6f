//! Server-Sent Events: a response that goes on, an event at a time.
//!
//! The format is that of the HTML standard, §9.2 («Server-sent events»).
//!
//! ```
//! use std::time::Duration;
//! use wirepath::{Request, ResponseWriter, sse};
//! use wirepath::runtime::sleep;
//!
//! fn ticks(w: &mut ResponseWriter, r: &mut Request) {
//!     let Ok(mut events) = sse::Stream::open(w, r) else { return };
//!     let mut n: u64 = events.last_event_id().parse().unwrap_or(0);
//!     loop {
//!         n += 1;
//!         let event = sse::Event::new("tick").id(n.to_string());
//!         if events.send(&event).is_err() {
//!             return; // The client is gone.
//!         }
//!         sleep(Duration::from_secs(1));
//! #       break;
//!     }
//! }
//! # let answer = wirepath::httptest::request("GET", "/").serve(&ticks);
//! # assert_eq!(answer.text(), "id: 1\ndata: tick\n\n");
//! ```
//!
//! A server's write timeout bounds the whole of a response: a handler that
//! streams for longer takes it away with
//! [`ResponseWriter::set_write_deadline`].

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use http::Method;
use wirepath_runtime::chan::Receiver;
use wirepath_runtime::context::Context;
use wirepath_runtime::{Nanos, after, select};

use crate::request::Request;
use crate::response::ResponseWriter;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Event {
    name: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
    data: String,
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The name or the id of the event has a line break, which would begin
    /// another field, or the id has a NUL, for which clients ignore it. The
    /// stream goes on.
    #[error("the {0} of an event has a line break or a NUL")]
    Field(&'static str),
    /// The client is gone, or the server ends: return.
    #[error("the stream has ended")]
    Ended,
    /// The response could not be written: return.
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

impl Event {
    /// An event with this data, which may have several lines: each becomes a
    /// `data` line, and the client puts them together with `\n`.
    pub fn new(data: impl Into<String>) -> Event {
        Event {
            data: data.into(),
            ..Event::default()
        }
    }

    /// Sets its name, by which clients listen: `message` unless set.
    pub fn name(mut self, name: impl Into<String>) -> Event {
        self.name = Some(name.into());
        self
    }

    /// Sets its id, which a client that reconnects sends as `Last-Event-ID`.
    pub fn id(mut self, id: impl Into<String>) -> Event {
        self.id = Some(id.into());
        self
    }

    /// Sets how long a client waits before it reconnects, to the millisecond.
    pub fn retry(mut self, retry: Duration) -> Event {
        self.retry = Some(retry);
        self
    }

    fn check(&self) -> Result<(), SendError> {
        let breaks = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or("");
            text.contains(['\r', '\n', '\0'])
        };
        match (breaks(&self.name), breaks(&self.id)) {
            (true, _) => Err(SendError::Field("name")),
            (_, true) => Err(SendError::Field("id")),
            _ => Ok(()),
        }
    }
}

/// The event as it goes over the wire, with the empty line that ends it.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            writeln!(f, "event: {name}")?;
        }
        if let Some(id) = &self.id {
            writeln!(f, "id: {id}")?;
        }
        if let Some(retry) = self.retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        for line in lines(&self.data) {
            writeln!(f, "data: {line}")?;
        }
        writeln!(f)
    }
}

/// The lines of a text, which `\n`, `\r\n` or `\r` may end: a client takes each
/// for an end. An empty text is one empty line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let after = &text[at..];
        let skip = if after.starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&after[skip..]);
        Some(&text[..at])
    })
}

/// A response that is a stream of events.
pub struct Stream<'w> {
    w: &'w mut ResponseWriter,
    context: Context,
    last_event_id: String,
    is_head: bool,
}

impl<'w> Stream<'w> {
    /// Begins the stream: the head of the response is sent at once, so that the
    /// client knows that it is connected.
    ///
    /// # Errors
    ///
    /// When the client is gone already.
    pub fn open(w: &'w mut ResponseWriter, r: &Request) -> io::Result<Stream<'w>> {
        w.header("Content-Type", "text/event-stream");
        if w.get_header("Cache-Control").is_none() {
            w.header("Cache-Control", "no-cache");
        }
        w.remove_header("Content-Length");
        w.flush_now()?;
        let last = r.header("Last-Event-ID");
        Ok(Stream {
            context: r.context().clone(),
            last_event_id: last.map_or_else(String::new, std::borrow::Cow::into_owned),
            is_head: *r.method() == Method::HEAD,
            w,
        })
    }

    /// The id of the last event that a client got before it reconnected; empty
    /// if it got none. It is the client's word: it may be anything.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// What ends when the client hangs up or the server closes: to be waited
    /// for in a `select!` with what makes the events.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Bounds what is sent from now on, in place of the server's write timeout,
    /// which bounds the whole of a stream. A client that does not read ends its
    /// stream then.
    pub fn set_write_deadline(&mut self, at: Option<Nanos>) {
        self.w.set_write_deadline(at);
    }

    /// Sends an event at once.
    ///
    /// # Errors
    ///
    /// [`SendError`]. The answer to HEAD has ended as soon as it began.
    pub fn send(&mut self, event: &Event) -> Result<(), SendError> {
        event.check()?;
        self.write(&event.to_string())
    }

    /// Sends a comment, which clients ignore: it keeps proxies from ending a
    /// connection on which nothing happens, and finds out whether the client is
    /// there. Every line of `text` is one.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn comment(&mut self, text: &str) -> Result<(), SendError> {
        let mut out = String::new();
        for line in lines(text) {
            out.push_str(": ");
            out.push_str(line);
            out.push('\n');
        }
        out.push('\n');
        self.write(&out)
    }

    fn write(&mut self, text: &str) -> Result<(), SendError> {
        if self.is_head || self.context.err().is_some() {
            return Err(SendError::Ended);
        }
        self.w.write_all(text.as_bytes())?;
        Ok(self.w.flush_now()?)
    }

    /// Sends what comes over a channel until that is closed or the stream ends,
    /// and a comment whenever nothing came for `keep_alive`. Events that cannot
    /// be sent for a line break in a field are left out, with a line in the log.
    ///
    /// # Errors
    ///
    /// How the stream ended, if not by the channel's close.
    pub fn forward(
        &mut self,
        events: &Receiver<Event>,
        keep_alive: Duration,
    ) -> Result<(), SendError> {
        loop {
            let idle = after(keep_alive);
            let sent = select! {
                recv(events) -> event => match event {
                    Ok(event) => self.send(&event),
                    Err(_) => return Ok(()),
                },
                recv(idle) -> _ => self.comment("keep-alive"),
                recv(self.context.done()) => Err(SendError::Ended),
            };
            match sent {
                Err(e @ SendError::Field(_)) => tracing::error!("event left out: {e}"),
                sent => sent?,
            }
        }
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("last_event_id", &self.last_event_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::httptest::{TestServer, request};
    use wirepath_runtime::chan::channel;

    #[test]
    fn events_as_text() {
        let ms = Duration::from_millis;
        let table = [
            (Event::new("x"), "data: x\n\n"),
            (Event::new(""), "data: \n\n"),
            (
                Event::new("a\nb\r\nc\rd"),
                "data: a\ndata: b\ndata: c\ndata: d\n\n",
            ),
            (Event::new("a\n"), "data: a\ndata: \n\n"),
            (Event::new("\n\r"), "data: \ndata: \ndata: \n\n"),
            (
                Event::new("x").name("n").id("1").retry(ms(1500)),
                "event: n\nid: 1\nretry: 1500\ndata: x\n\n",
            ),
        ];
        for (event, want) in table {
            assert_eq!(event.to_string(), want);
        }
    }

    #[test]
    fn no_field_can_begin_another() {
        let refused = [
            (Event::new("x").name("a\ndata: y"), "name"),
            (Event::new("x").name("a\r"), "name"),
            (Event::new("x").id("1\n\n"), "id"),
            (Event::new("x").id("\0"), "id"),
        ];
        for (event, field) in refused {
            let error = event.check().unwrap_err();
            assert!(
                matches!(error, SendError::Field(f) if f == field),
                "{event:?}"
            );
        }
    }

    fn stream(w: &mut ResponseWriter, r: &mut Request) {
        let mut events = Stream::open(w, r).unwrap();
        let last = events.last_event_id().to_owned();
        events.comment("hello\nthere").unwrap();
        events.send(&Event::new("x").id("a\nb")).unwrap_err();
        events.send(&Event::new(format!("after {last}"))).unwrap();
    }

    #[test]
    fn a_stream_is_sent_as_it_comes() {
        let answer = request("GET", "/")
            .header("Last-Event-ID", "7")
            .serve(&stream);
        assert_eq!(answer.header("Content-Type"), Some("text/event-stream"));
        assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
        assert_eq!(answer.header("Content-Length"), None);
        assert_eq!(answer.text(), ": hello\n: there\n\ndata: after 7\n\n");
    }

    #[test]
    fn the_answer_to_head_ends_at_once() {
        let endless = |w: &mut ResponseWriter, r: &mut Request| {
            let mut events = Stream::open(w, r).unwrap();
            while events.send(&Event::new("x")).is_ok() {}
        };
        assert_eq!(request("HEAD", "/").serve(&endless).text(), "");
    }

    #[test]
    fn a_stream_ends_with_its_channel_or_its_client() {
        let (tell, told) = channel::<bool>(1);
        let server = TestServer::start(move |w: &mut ResponseWriter, r: &mut Request| {
            let (tx, rx) = channel(4);
            let mut events = Stream::open(w, r).unwrap();
            tx.send(Event::new("1")).unwrap();
            tx.send(Event::new("bad").id("\n")).unwrap();
            tx.send(Event::new("2")).unwrap();
            // The first request's channel is closed; that of the others stays.
            let kept = (r.target() != "/").then(|| tx.clone());
            drop(tx);
            let ended = events.forward(&rx, Duration::from_millis(1));
            drop(kept);
            tell.send(matches!(ended, Err(SendError::Ended | SendError::Io(_))))
                .unwrap();
        });
        let text = server
            .get("/")
            .unwrap()
            .text()
            .replace(": keep-alive\n\n", "");
        assert_eq!(text, "data: 1\n\ndata: 2\n\n");
        assert_eq!(told.recv(), Ok(false));
        let mut client = server.connect();
        client.set_timeout(Some(Duration::from_millis(20)));
        assert!(
            client.send(&request("GET", "/endless")).is_err(),
            "it times out"
        );
        client.abort();
        assert_eq!(told.recv(), Ok(true));
    }
}
