//! The HTTP/1.x exchanges of a capture, and how long each took.
//!
//! Both directions of a connection are read as they come in order. A request
//! waits until its answer is whole and is then told, so nothing is kept of what
//! is over. Times are those of the capture: a server's time to its first byte is
//! from the request's last byte to the answer's first, both as seen there.
//!
//! Where bytes are missing, a body goes on if its length says so; a head that is
//! not whole loses the thread, which is taken up where the next message begins.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use super::seen::Side;
use super::stream::{How, Listener, Place};
use body::{Body, Eaten};
use head::{Head, Whole};

mod body;
mod head;
pub mod report;
#[cfg(test)]
mod tests;

/// Requests of a connection that wait for their answers.
const MAX_WAITING: usize = 256;
/// Of all connections: bytes of heads that are not whole yet, and of requests
/// that wait for their answers.
const MAX_KEPT_BYTES: usize = 128 << 20;

/// A request and its answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exchange {
    /// The conversation's number.
    pub stream: u32,
    /// Which request of its connection, from 1.
    pub number: u32,
    /// Method; None if the request is not in the capture.
    pub method: Option<String>,
    /// Target, as it stands in the request.
    pub target: Option<String>,
    /// The Host field.
    pub host: Option<String>,
    /// The minor version: 0 or 1.
    pub minor_version: u8,
    /// Status; None if the answer is not in the capture.
    pub status: Option<u16>,
    /// Of the answer.
    pub content_type: Option<String>,
    /// Of the answer: codings, as it says.
    pub content_encoding: Option<String>,
    /// Bytes of the request's head, and of its body without its framing.
    pub request_head_bytes: u64,
    /// As above.
    pub request_body_bytes: u64,
    /// Bytes of the answer's head, and of its body without its framing.
    pub response_head_bytes: u64,
    /// As above.
    pub response_body_bytes: u64,
    /// Nanoseconds since 1970: the request's first byte.
    pub request_first_ns: Option<i64>,
    /// Its last byte.
    pub request_last_ns: Option<i64>,
    /// The answer's first byte.
    pub response_first_ns: Option<i64>,
    /// Its last byte.
    pub response_last_ns: Option<i64>,
    /// Whether both are whole.
    pub is_whole: bool,
    /// The number of the packet in which it begins.
    pub packet: u64,
}

impl Exchange {
    /// From the request's last byte to the answer's first, in nanoseconds.
    pub fn first_byte_ns(&self) -> Option<u64> {
        between(self.request_last_ns, self.response_first_ns)
    }

    /// From the request's first byte to the answer's last, in nanoseconds.
    pub fn total_ns(&self) -> Option<u64> {
        between(self.request_first_ns, self.response_last_ns)
    }
}

/// An answer may begin before its request has ended: that is no time.
fn between(from: Option<i64>, to: Option<i64>) -> Option<u64> {
    u64::try_from(to?.saturating_sub(from?)).ok()
}

/// Hears of exchanges.
pub trait Audience {
    /// A body's next bytes, its framing taken away.
    fn body(&mut self, _exchange: &Exchange, _from: Side, _bytes: &[u8]) {}
    /// A body is over; whether it is whole.
    fn body_ends(&mut self, _exchange: &Exchange, _from: Side, _is_whole: bool) {}
    /// An exchange is over, or its connection is.
    fn exchange(&mut self, exchange: &Exchange);
    /// A connection carries something else.
    fn other(&mut self, _stream: u32, _what: Other) {}
    /// Whether it wants to hear no more.
    fn is_over(&self) -> bool {
        false
    }
}

/// What a connection carries that is no HTTP/1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Other {
    /// TLS records (RFC 8446 §5.1).
    Tls,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.4).
    Http2,
    /// What an upgrade or CONNECT led to.
    Tunnel,
}

impl Other {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Other::Tls => "TLS",
            Other::Http2 => "HTTP/2",
            Other::Tunnel => "a tunnel or an upgrade",
        }
    }
}

/// Reads the exchanges of all connections.
pub struct Http<'a> {
    talks: HashMap<u32, Talk, foldhash::fast::RandomState>,
    kept_bytes: usize,
    audience: &'a mut dyn Audience,
}

impl<'a> Http<'a> {
    /// `audience` hears of them.
    pub fn new(audience: &'a mut dyn Audience) -> Http<'a> {
        Http {
            talks: HashMap::default(),
            kept_bytes: 0,
            audience,
        }
    }

    fn with(&mut self, stream: u32, read: impl FnOnce(&mut Talk, &mut dyn Audience)) {
        let talk = self
            .talks
            .entry(stream)
            .or_insert_with(|| Talk::new(stream));
        self.kept_bytes -= talk.kept_bytes();
        read(talk, self.audience);
        if talk.is_over() {
            self.talks.remove(&stream);
            return;
        }
        if self.kept_bytes + talk.kept_bytes() > MAX_KEPT_BYTES {
            talk.give_up(self.audience);
        }
        self.kept_bytes += talk.kept_bytes();
    }
}

impl Listener for Http<'_> {
    fn data(&mut self, place: Place, bytes: &[u8]) {
        self.with(place.stream, |talk, audience| {
            talk.data(place, bytes, audience);
        });
    }

    fn gap(&mut self, place: Place, missing: u64) {
        self.with(place.stream, |talk, audience| {
            talk.gap(place, missing, audience);
        });
    }

    fn end(&mut self, stream: u32, from: Side, at_ns: i64, how: How) {
        self.with(stream, |talk, audience| {
            talk.end(from, at_ns, how, audience);
        });
    }

    fn is_over(&self) -> bool {
        self.audience.is_over()
    }
}

/// A connection.
struct Talk {
    stream: u32,
    halves: [Half; 2],
    /// Requests without their whole answers, oldest first. The last one may not
    /// be whole itself.
    waiting: VecDeque<Exchange>,
    /// What those keep of their requests.
    waiting_bytes: usize,
    requests: u32,
    is_other: bool,
    ended: [bool; 2],
}

/// Where a direction is.
enum Half {
    /// Within a head, or between messages.
    Head(Head),
    /// Within a body.
    Body(Body),
    /// Somewhere: the next message is looked for.
    Lost,
}

impl Talk {
    fn new(stream: u32) -> Talk {
        Talk {
            stream,
            halves: [Half::Head(Head::default()), Half::Head(Head::default())],
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            requests: 0,
            is_other: false,
            ended: [false; 2],
        }
    }

    fn is_over(&self) -> bool {
        self.ended == [true; 2]
    }

    fn kept_bytes(&self) -> usize {
        let of_head = |half: &Half| match half {
            Half::Head(head) => head.len(),
            _ => 0,
        };
        self.halves.iter().map(of_head).sum::<usize>() + self.waiting_bytes
    }

    fn data(&mut self, place: Place, bytes: &[u8], audience: &mut dyn Audience) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_other {
            rest = match &mut self.halves[place.from.index()] {
                Half::Head(_) => self.head(place, rest, audience),
                Half::Body(_) => self.body(place, rest, audience),
                Half::Lost if head::begins(place.from, rest) => {
                    self.halves[place.from.index()] = Half::Head(Head::default());
                    rest
                }
                Half::Lost => return,
            };
        }
    }

    /// Reads on in a head. What is left of the bytes.
    fn head<'b>(&mut self, place: Place, bytes: &'b [u8], audience: &mut dyn Audience) -> &'b [u8] {
        let Half::Head(head) = &mut self.halves[place.from.index()] else {
            unreachable!("the caller looked");
        };
        let (head, rest) = match head.take(place, bytes) {
            head::Taken::All => return &[],
            head::Taken::Whole(head, rest) => (head, rest),
            head::Taken::Other(what) => {
                self.turn_other(what, audience);
                return &[];
            }
            head::Taken::NoMessage => {
                self.lose(place.from, audience);
                return &[];
            }
        };
        match place.from {
            Side::Client => self.request(place, &head, audience),
            Side::Server => self.response(place, &head, audience),
        }
        rest
    }

    fn request(&mut self, place: Place, head: &Whole<'_>, audience: &mut dyn Audience) {
        let Some(request) = head.request() else {
            return self.lose(Side::Client, audience);
        };
        if self.waiting.len() == MAX_WAITING {
            return self.lose(Side::Client, audience);
        }
        self.requests = self.requests.saturating_add(1);
        let exchange = Exchange {
            stream: self.stream,
            number: self.requests,
            request_first_ns: Some(head.first_ns()),
            request_head_bytes: head.len(),
            packet: head.packet(),
            ..request.exchange
        };
        self.waiting_bytes += exchange.request_bytes();
        self.waiting.push_back(exchange);
        self.halves[Side::Client.index()] = Half::Body(request.body);
        self.body(place, &[], audience);
    }

    fn response(&mut self, place: Place, head: &Whole<'_>, audience: &mut dyn Audience) {
        if self.waiting.is_empty() {
            let exchange = Exchange {
                stream: self.stream,
                packet: head.packet(),
                ..Exchange::default()
            };
            self.waiting_bytes += exchange.request_bytes();
            self.waiting.push_back(exchange);
        }
        let exchange = &mut self.waiting[0];
        let Some(response) = head.response(exchange.method.as_deref()) else {
            return self.lose(Side::Server, audience);
        };
        if response.is_interim {
            return;
        }
        exchange.response_first_ns = Some(head.first_ns());
        exchange.status = Some(response.status);
        exchange.content_type = response.content_type;
        exchange.content_encoding = response.content_encoding;
        exchange.response_head_bytes = head.len();
        self.halves[Side::Server.index()] = Half::Body(response.body);
        self.body(place, &[], audience);
        if response.is_tunnel {
            self.turn_other(Other::Tunnel, audience);
        }
    }

    /// Reads on in a body. What is left of the bytes.
    fn body<'b>(&mut self, place: Place, bytes: &'b [u8], audience: &mut dyn Audience) -> &'b [u8] {
        let Half::Body(body) = &mut self.halves[place.from.index()] else {
            unreachable!("the caller looked");
        };
        let exchange = match place.from {
            Side::Client => self.waiting.back_mut(),
            Side::Server => self.waiting.front_mut(),
        };
        // The answer may have come, and the exchange gone, before its request
        // was whole; then the bytes are only stepped over.
        let mut exchange = exchange
            .filter(|exchange| place.from == Side::Server || exchange.request_last_ns.is_none());
        let mut rest = bytes;
        loop {
            match body.take(rest) {
                Eaten::Data(data, left) => {
                    rest = left;
                    if let Some(exchange) = exchange.as_deref_mut() {
                        exchange.count(place.from, data.len() as u64);
                        audience.body(exchange, place.from, data);
                    }
                }
                Eaten::Wants => return &[],
                Eaten::Over(left) => {
                    rest = left;
                    break;
                }
                Eaten::Wrong => {
                    self.lose(place.from, audience);
                    return &[];
                }
            }
        }
        self.message_ends(place.from, place.at_ns, true, audience);
        rest
    }

    /// A message is over: the next one of that side begins.
    fn message_ends(
        &mut self,
        from: Side,
        at_ns: i64,
        is_whole: bool,
        audience: &mut dyn Audience,
    ) {
        let had_gap =
            match std::mem::replace(&mut self.halves[from.index()], Half::Head(Head::default())) {
                Half::Body(body) => body.had_gap(),
                _ => false,
            };
        let is_whole = is_whole && !had_gap;
        match from {
            Side::Client => {
                if let Some(exchange) = self.waiting.back_mut()
                    && exchange.request_last_ns.is_none()
                {
                    exchange.request_last_ns = Some(at_ns);
                    exchange.is_whole = is_whole;
                    audience.body_ends(exchange, from, is_whole);
                }
            }
            Side::Server => {
                if let Some(mut exchange) = self.waiting.pop_front() {
                    self.waiting_bytes -= exchange.request_bytes();
                    exchange.response_last_ns = Some(at_ns);
                    exchange.is_whole &= is_whole;
                    audience.body_ends(&exchange, from, is_whole);
                    audience.exchange(&exchange);
                }
            }
        }
    }

    fn gap(&mut self, place: Place, missing: u64, audience: &mut dyn Audience) {
        if self.is_other {
            return;
        }
        let is_known = match &mut self.halves[place.from.index()] {
            Half::Body(body) => body.skip(missing),
            _ => false,
        };
        match is_known {
            true => {
                self.body(place, &[], audience);
            }
            false => self.lose(place.from, audience),
        }
    }

    /// The thread is lost: which answer is whose is not known any more, but for
    /// the one that is being read.
    fn lose(&mut self, from: Side, audience: &mut dyn Audience) {
        self.halves[from.index()] = Half::Lost;
        let server = &self.halves[Side::Server.index()];
        let kept = usize::from(matches!(server, Half::Body(_)));
        self.tell_waiting(kept, audience);
    }

    /// Too much is kept, of this connection and others.
    fn give_up(&mut self, audience: &mut dyn Audience) {
        self.lose(Side::Client, audience);
        if let Half::Head(_) = self.halves[Side::Server.index()] {
            self.lose(Side::Server, audience);
        }
    }

    /// Tells of the requests that wait behind the first `kept`: nothing more is
    /// known of them.
    fn tell_waiting(&mut self, kept: usize, audience: &mut dyn Audience) {
        for mut exchange in self.waiting.drain(kept.min(self.waiting.len())..) {
            self.waiting_bytes -= exchange.request_bytes();
            exchange.is_whole = false;
            audience.exchange(&exchange);
        }
    }

    fn turn_other(&mut self, what: Other, audience: &mut dyn Audience) {
        self.is_other = true;
        self.halves = [Half::Lost, Half::Lost];
        audience.other(self.stream, what);
    }

    fn end(&mut self, from: Side, at_ns: i64, how: How, audience: &mut dyn Audience) {
        if std::mem::replace(&mut self.ended[from.index()], true) {
            return;
        }
        if let Half::Body(body) = &self.halves[from.index()] {
            let is_whole = body.ends_with_connection() && how == How::Fin;
            self.message_ends(from, at_ns, is_whole, audience);
        }
        if self.is_over() {
            self.tell_waiting(0, audience);
        }
    }
}

impl Exchange {
    /// What is kept of a request until its answer has come.
    fn request_bytes(&self) -> usize {
        let texts = [&self.method, &self.target, &self.host];
        let texts = texts.into_iter().flatten().map(String::len);
        size_of::<Exchange>() + texts.sum::<usize>()
    }

    fn count(&mut self, from: Side, bytes: u64) {
        match from {
            Side::Client => self.request_body_bytes += bytes,
            Side::Server => self.response_body_bytes += bytes,
        }
    }
}
