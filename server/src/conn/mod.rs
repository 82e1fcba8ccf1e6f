//! One connection: request after request, until one side ends it.
//!
//! [`Connection::step`] runs until it has nothing to do without waiting for
//! the client's next bytes; between steps a connection holds no stack, and
//! none of the memory of an exchange unless part of a head has come. Only the
//! body of a request, and a client that is slow to take a response, make a
//! step wait.
//!
//! A response leaves in one write when its handler returns, before the next
//! request of a pipeline is looked at: nothing is held back across a handler,
//! which may take its time.

mod entry;
mod exchange;
mod in_flight;
mod input;
mod pace;
mod told;
mod wire;

use std::io;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use wirepath_runtime::Nanos;
use wirepath_runtime::context::Context;
use wirepath_runtime::trace;

pub(crate) use entry::Entry;
use exchange::Exchange;
pub(crate) use exchange::Pool;
pub(crate) use input::Input;
pub use pace::{MinRate, TooSlow};
pub(crate) use wire::{Conn, Pages, Watch, Wire};

use crate::alarm;
use crate::hooks::ConnState;
use crate::panic::{AbortHandler, Caught};
use crate::request::{Drained, Expect, Framing, HeadError, HeadScanner, Scan};
use crate::response::push_status;
use crate::service::{Service, nanos};
use crate::spans::RequestSpan;
use crate::targets;

/// Requests that one step answers before it lets others run.
const PIPELINE_BOUND: usize = 16;
/// What of a body that its handler left unread is read to keep the connection.
/// As in Go.
const DRAIN_BYTES: u64 = 256 * 1024;
/// How long a closing connection goes on reading, so that the client sees the
/// response rather than a reset (RFC 9112 §9.6). As in Go.
const LINGER: Duration = Duration::from_millis(500);

/// What a connection's step ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The connection is over; drop it.
    Done,
    /// There is more to do; let others run first.
    Yield,
    /// Nothing to do until the connection is readable.
    Readable,
}

/// What looking for a head gives.
enum NextHead {
    Ready,
    Wait,
    End,
    Refused(HeadError),
}

/// A connection and where it is in its exchanges.
pub(crate) struct Connection {
    service: Arc<Service>,
    entry: Arc<Entry>,
    wire: Arc<Wire>,
    exchange: Option<Box<Exchange>>,
    scanner: HeadScanner,
    /// Where the head is that the scanner found.
    head: std::ops::Range<usize>,
    /// When the wait for a head, or for its rest, is over. `None` for a head
    /// whose rest was not waited for yet: most are here at once, and need no
    /// look at the clock.
    expires: Option<Nanos>,
    /// The read deadline that the connection has. It may be earlier than
    /// `expires`: moving it for each request would cost more than finding out
    /// now and then that it was too early.
    armed: Option<Nanos>,
    /// Whether a byte of this head has come, or is still to be the first of the
    /// connection.
    in_head: bool,
}

impl Connection {
    pub fn new(service: Arc<Service>, conn: Arc<dyn Conn>, now: Nanos) -> Connection {
        Connection::of_listener(service, conn, None, now)
    }

    /// One from a listener with the context `base`.
    pub fn of_listener(
        service: Arc<Service>,
        conn: Arc<dyn Conn>,
        base: Option<Context>,
        now: Nanos,
    ) -> Connection {
        let info = service.info(&*conn);
        let scope = service.scope(base, &info);
        let wire = Arc::new(Wire::of_server(conn, scope, info));
        let entry = Arc::new(Entry::new(wire.clone(), info, now));
        Connection {
            expires: Some(now + service.config.head_timeout()),
            service,
            entry,
            wire,
            exchange: None,
            scanner: HeadScanner::default(),
            head: 0..0,
            armed: None,
            in_head: true,
        }
    }

    /// What the server lists.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Answers what requests there are.
    pub fn step(&mut self) -> Outcome {
        self.wire.look_again();
        let outcome = self.run();
        let (read, written) = self.wire.take_counts();
        self.service.stats.bytes_in.add(read);
        self.service.stats.bytes_out.add(written);
        outcome
    }

    fn run(&mut self) -> Outcome {
        for _ in 0..PIPELINE_BOUND {
            match self.next_head() {
                NextHead::Ready => self.report(ConnState::Active),
                NextHead::Wait => return Outcome::Readable,
                NextHead::End => {
                    if self.has_part_of_head() {
                        self.report(ConnState::Active);
                    }
                    return Outcome::Done;
                }
                NextHead::Refused(e) => {
                    self.report(ConnState::Active);
                    self.refuse(e);
                    return Outcome::Done;
                }
            }
            match self.serve() {
                Ok(true) => self.between_requests(),
                Ok(false) => return Outcome::Done,
                Err(e) => {
                    self.refuse(e);
                    return Outcome::Done;
                }
            }
        }
        Outcome::Yield
    }

    fn report(&self, state: ConnState) {
        self.service.report(&self.entry.info, state);
    }

    fn has_part_of_head(&self) -> bool {
        let exchange = self.exchange.as_ref();
        exchange.is_some_and(|x| !x.request.body.input.is_empty())
    }

    fn between_requests(&mut self) {
        self.entry.end();
        self.report(ConnState::Idle);
        self.scanner = HeadScanner::default();
        self.in_head = false;
        self.expires = None;
    }

    fn exchange(&mut self) -> &mut Exchange {
        let exchange = self.exchange.as_mut();
        exchange.expect("there from the first byte of a head until the wait for the next")
    }

    /// Takes in bytes until a head is there, or until there are none.
    fn next_head(&mut self) -> NextHead {
        let max_bytes = self.service.config.max_head_bytes();
        loop {
            if !self.in_head && !self.service.keeps_alive() {
                return NextHead::End;
            }
            let exchange = self.exchange.get_or_insert_with(|| {
                let pool = &self.service.pool;
                pool.take(&self.wire)
            });
            let input = &mut exchange.request.body.input;
            if !input.is_empty() {
                match self.scanner.scan(input.buffered(), max_bytes) {
                    Ok(Scan::Complete(head)) => {
                        self.head = head;
                        return NextHead::Ready;
                    }
                    Ok(Scan::Partial) => {}
                    Err(e) => return NextHead::Refused(e),
                }
            }
            if self.wire.is_drained() {
                return self.wait();
            }
            match input.try_fill(&self.wire) {
                Ok(0) if !input.is_empty() => return NextHead::Refused(HeadError::Cut),
                Ok(0) => return NextHead::End,
                Ok(_) if self.wake() => {}
                Ok(_) => return NextHead::End,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.wait(),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    let now = wirepath_runtime::now();
                    let expires = self.expires(now);
                    if self.armed.is_none() || now >= expires {
                        return self.timed_out();
                    }
                    self.arm(expires);
                }
                Err(_) => return NextHead::End,
            }
        }
    }

    /// Bytes have come. Whether the connection is still this task's.
    fn wake(&mut self) -> bool {
        if !self.in_head {
            self.in_head = true;
            self.expires = None;
        }
        self.entry.wake()
    }

    /// Prepares to wait for bytes.
    fn wait(&mut self) -> NextHead {
        let now = wirepath_runtime::now();
        let exchange = self.exchange.take_if(|x| x.request.body.input.is_empty());
        let is_idle = exchange.is_some();
        if let Some(exchange) = exchange {
            self.service.pool.put(exchange);
        }
        if is_idle && !self.in_head {
            // Idle from the end of the last response; woken early by a
            // deadline it is idle already.
            if self.entry.rest(now) {
                self.expires = Some(now + self.service.config.idle_timeout);
                if !self.service.keeps_alive() {
                    return NextHead::End;
                }
            }
        }
        let expires = self.expires(now);
        if now >= expires {
            return self.timed_out();
        }
        if self.armed.is_none_or(|at| at > expires || at <= now) {
            self.arm(expires);
        }
        NextHead::Wait
    }

    /// The client took too long with a head, or to begin another.
    #[cold]
    fn timed_out(&self) -> NextHead {
        let stats = &self.service.stats;
        match self.in_head {
            true => {
                stats.heads_timed_out.add(1);
                let peer = self.entry.info.remote_addr();
                tracing::debug!(target: targets::LIMIT, %peer, "the head of a request took too long");
            }
            false => stats.idle_timed_out.add(1),
        }
        NextHead::End
    }

    fn expires(&mut self, now: Nanos) -> Nanos {
        let timeout = self.service.config.head_timeout();
        *self.expires.get_or_insert_with(|| now + timeout)
    }

    fn arm(&mut self, at: Nanos) {
        self.wire.set_read_deadline(Some(at));
        self.armed = Some(at);
    }

    fn disarm(&mut self) {
        if self.armed.take().is_some() {
            self.wire.set_read_deadline(None);
        }
    }

    /// Answers the request whose head was found. Whether the connection can
    /// carry another.
    fn serve(&mut self) -> Result<bool, HeadError> {
        let max_fields = self.service.config.max_header_fields;
        let head = self.head.clone();
        let Connection {
            entry, exchange, ..
        } = self;
        let exchange = exchange.as_mut().expect("a head is there");
        let (r, w) = (&mut exchange.request, &mut exchange.response);
        r.begin(head, max_fields)?;
        w.begin(r);
        entry.begin(r);
        let span = RequestSpan::open(r);
        let inside = span.enter();
        self.service.stats.requests.add(1);
        self.wire.begin();
        let begun = trace::enabled().then(|| told::head(&self.wire, r));
        let watched = alarm::start();
        self.set_deadlines();
        let ok = self.handle() && self.finish();
        if let Some(started) = watched {
            alarm::end(started);
        }
        let exchange = self.exchange.as_ref().expect("until the next wait");
        span.record(&exchange.request, &exchange.response);
        drop(inside);
        if let Some(begun) = begun {
            told::answered(&self.wire, begun, &exchange.request, &exchange.response);
        }
        if self.exchange().response.has_deadlines() && ok {
            self.armed = None;
            self.wire.set_read_deadline(None);
            self.wire.set_write_deadline(None);
        }
        if self.service.config.write_timeout.is_some() {
            self.wire.set_write_deadline(None);
        }
        Ok(ok)
    }

    /// Puts the deadlines of the handler's reads and writes.
    fn set_deadlines(&mut self) {
        let config = &self.service.config;
        let (read, write) = (config.read_timeout, config.write_timeout);
        if read.is_none() && write.is_none() {
            if self.exchange().request.body.may_wait() {
                self.disarm();
            }
            return;
        }
        let now = wirepath_runtime::now();
        match read {
            Some(timeout) => self.arm(self.head_began(now) + timeout),
            None => self.disarm(),
        }
        let write = write.map(|timeout| now + timeout);
        self.wire.set_write_deadline(write);
    }

    /// When the first byte of the present head came, which is here: `now`,
    /// unless the rest was waited for.
    fn head_began(&self, now: Nanos) -> Nanos {
        let timeout = nanos(self.service.config.head_timeout());
        let began = |expires: Nanos| Nanos(expires.0.saturating_sub(timeout));
        self.expires.map_or(now, began)
    }

    /// Calls the handler. False if it panicked: the connection is over.
    fn handle(&mut self) -> bool {
        let Connection { service, wire, .. } = self;
        let exchange = self.exchange.as_mut().expect("a head is there");
        let (r, w) = (&mut exchange.request, &mut exchange.response);
        match r.head().expect {
            Expect::Unknown => {
                w.close_after();
                w.write_header(StatusCode::EXPECTATION_FAILED);
                return true;
            }
            Expect::Continue if r.is_11() && r.head().framing != Framing::None => {
                wire.expect_continue();
            }
            _ => {}
        }
        if r.is_asterisk() && *r.method() == Method::OPTIONS {
            w.header("Content-Length", "0");
            return true;
        }
        let panic = catch_unwind(AssertUnwindSafe(|| service.handler.serve(w, r))).err();
        let is_own = r.body.is_of(wire);
        wire.scope.end();
        let Some(panic) = panic else {
            if !is_own && !w.is_hijacked() {
                w.close_after();
            }
            return !w.is_hijacked();
        };
        service.stats.panics.add(1);
        if !panic.is::<AbortHandler>() {
            alarm::raise("panic");
            let caught = Caught::new(&*panic).into_text();
            let peer = wire.conn.peer_addr();
            tracing::error!(
                target: targets::HANDLER,
                %peer, method = %r.method(), target = r.target(),
                "handler panicked: {caught}"
            );
        }
        if w.is_begun() && !w.is_hijacked() {
            // A client to which the end of the connection is the end of the
            // body must not take a part for the whole.
            wire.conn.abort();
        }
        false
    }

    /// Sends what is left of the response and gets rid of what is left of the
    /// request. Whether the connection can carry another.
    fn finish(&mut self) -> bool {
        self.drain_body();
        let keeps_alive = self.service.keeps_alive();
        let w = &mut self.exchange().response;
        if !keeps_alive {
            w.close_after();
        }
        w.finish();
        let status = w.status().expect("finished");
        self.service.stats.count_response(status);
        self.exchange().request.count_answer(status);
        self.drain_body();
        let wire = self.wire.clone();
        let exchange = self.exchange();
        if !exchange.request.body.is_of(&wire) {
            // It is somewhere else, where it may wait for more of its body.
            let _ = wire.conn.shutdown(Shutdown::Both);
            return false;
        }
        let body_left = exchange.request.body.remains();
        let persists = exchange.response.persists() && !body_left;
        if !persists && (body_left || !exchange.request.body.input.is_empty()) {
            self.linger();
        }
        persists
    }

    /// Reads what a handler left of a body, if it is little: before the
    /// response, since a client may write all of its request before it reads.
    fn drain_body(&mut self) {
        let body = &self.exchange().request.body;
        if !body.remains() {
            return;
        }
        let is_large = body.known_left() >= DRAIN_BYTES;
        if is_large || self.wire.end_continue() || !self.exchange().response.persists() {
            self.exchange().response.close_after();
            return;
        }
        if self.exchange().request.body.may_wait() && self.service.config.read_timeout.is_none() {
            self.arm(wirepath_runtime::now() + self.service.config.read_header_timeout);
        }
        let exchange = self.exchange();
        if exchange.request.body.drain(DRAIN_BYTES) == Drained::NotFully {
            exchange.response.close_after();
        }
    }

    /// Ends the sending side and reads on for a while, so that the response is
    /// not lost to a reset.
    fn linger(&mut self) {
        if self.wire.conn.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let until = wirepath_runtime::now() + LINGER;
        self.arm(until);
        let mut scrap = [0; 4096];
        while wirepath_runtime::now() < until {
            match self.wire.read(&mut scrap) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Answers a head that was refused, and ends the connection.
    #[cold]
    fn refuse(&mut self, e: HeadError) {
        let status = e.status();
        let peer = self.wire.conn.peer_addr();
        let code = e.code();
        tracing::debug!(
            target: targets::REQUEST,
            %peer, status = status.as_u16(), code, reason = %e,
            "request refused"
        );
        if trace::enabled() {
            told::refused(&self.wire, &e);
        }
        self.service.stats.count_refusal(e);
        let mut line = Vec::new();
        push_status(&mut line, true, status);
        if let Some(text) = e.public_text() {
            line.truncate(line.len() - 2);
            line.extend_from_slice(format!(": {text}\r\n").as_bytes());
        }
        let body = match e {
            HeadError::TransferEncoding => b"Unsupported transfer encoding".as_slice(),
            _ => &line["HTTP/1.1 ".len()..line.len() - 2],
        };
        let reply = [
            &line,
            b"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n".as_slice(),
            body,
        ]
        .concat();
        // The refusal of a head that never ends must not wait for its sender.
        let until = wirepath_runtime::now() + self.service.config.read_header_timeout;
        self.wire.set_write_deadline(Some(until));
        if self.wire.write_all(&reply).is_ok() {
            self.linger();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.service.pool.put(exchange);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
