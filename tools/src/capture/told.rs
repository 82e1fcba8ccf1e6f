//! What the trace tells of connections and their requests, kept for as long as
//! frames of them may come.
//!
//! Events are read as they are written and taken up in the order of their times,
//! a little late, so that those of several threads fall into it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use wirepath_driver::Nanos;
use wirepath_driver::trace::{self, Event, Kind, Label, Reader, fd_number};

use super::filter::Connection;
use super::packet::FlowKey;

/// An event older than this is taken up: those of all threads that are older
/// are there.
const LATENESS: Duration = Duration::from_millis(5);

/// What is known of a connection is forgotten so long after its end.
const MEMORY: Duration = Duration::from_secs(10);

/// Connections that are known at a time, and of each the last requests, writes
/// and arrivals: bounds the memory. What is older has no comment.
const MOST_FLOWS: usize = 65_536;
const MOST_REQUESTS: usize = 64;
const MOST_PARTS: usize = 64;

/// Bytes of method and target that are kept.
const MOST_TEXT: usize = 128;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its head's bytes in the stream in.
    pub head: Range<u64>,
    /// Its method and target.
    pub text: Vec<u8>,
    /// The goroutine that runs its handler.
    pub goroutine: u64,
    /// How long that was runnable before it ran.
    pub queued: Option<Duration>,
    /// The end, when there is one.
    pub answer: Option<Answer>,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response's bytes in the stream out.
    pub bytes: Range<u64>,
    /// 0 for none.
    pub status: u16,
    /// The pattern; empty for none.
    pub route: Arc<str>,
    /// From head parsed to last byte written; None for a request that was
    /// refused before any handler.
    pub took: Option<Duration>,
}

/// Bytes of a stream, and when something happened to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bytes.
    pub bytes: Range<u64>,
    /// When.
    pub at: Nanos,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its identity, with its descriptor.
    pub id: u64,
    /// When it came to be.
    pub opened: Nanos,
    /// When the network was done with it.
    pub closed: Option<Nanos>,
    /// Its last requests.
    pub requests: VecDeque<Request>,
    /// What the handler wrote last.
    pub writes: VecDeque<Part>,
    /// What came in last.
    pub arrivals: VecDeque<Part>,
    /// All statuses, and all routes, that its requests had.
    statuses: BTreeSet<u16>,
    routes: BTreeSet<Arc<str>>,
    /// Nothing more can be told of it.
    is_over: bool,
}

impl Flow {
    fn new(id: u64, opened: Nanos) -> Flow {
        Flow {
            id,
            opened,
            closed: None,
            requests: VecDeque::new(),
            writes: VecDeque::new(),
            arrivals: VecDeque::new(),
            statuses: BTreeSet::new(),
            routes: BTreeSet::new(),
            is_over: false,
        }
    }
}

impl Connection for Flow {
    fn fd(&self) -> Option<u32> {
        Some(fd_number(self.id))
    }

    fn was_answered(&self, statuses: &RangeInclusive<u16>) -> bool {
        self.statuses.range(statuses.clone()).next().is_some()
    }

    fn had_route(&self, pattern: &str) -> bool {
        self.routes.contains(pattern)
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

/// What a trace has told so far.
#[derive(Default)]
pub struct Told {
    reader: Reader,
    /// Events that are too young to be taken up.
    young: Vec<Event>,
    flows: HashMap<u64, Flow>,
    /// The connections of a pair of addresses, the latest last.
    by_key: HashMap<FlowKey, Vec<u64>>,
    keys: HashMap<u64, FlowKey>,
    /// Connections, the oldest first; those that are forgotten may be among them.
    order: VecDeque<u64>,
    /// Goroutines that were made runnable, and when.
    ready: HashMap<u64, Nanos>,
    /// Goroutines that ran since: when, and how long they had been runnable.
    queued: HashMap<u64, (Nanos, Duration)>,
    labels: Vec<Arc<str>>,
    /// Connections whose answers, or whose end, are new.
    news: Vec<u64>,
    forgotten: Nanos,
    /// Events that were overwritten before they could be read.
    pub lost: u64,
}

fn push<T>(to: &mut VecDeque<T>, most: usize, value: T) {
    if to.len() >= most {
        to.pop_front();
    }
    to.push_back(value);
}

impl Told {
    /// Takes up everything that was told, however young.
    pub fn read_all(&mut self) {
        let snapshot = self.reader.read();
        self.lost += snapshot.lost;
        self.take(snapshot.events, Nanos::MAX);
    }

    /// Reads what the trace has, at `now`.
    pub fn read(&mut self, now: Nanos) {
        let snapshot = self.reader.read();
        self.lost += snapshot.lost;
        self.take(
            snapshot.events,
            Nanos(now.0.saturating_sub(nanos_of(LATENESS))),
        );
        self.forget(now);
    }

    /// Takes up events that are older than `until`.
    fn take(&mut self, events: Vec<Event>, until: Nanos) {
        self.young.extend(events);
        self.young.sort_by_key(|e| e.at);
        let old = self.young.partition_point(|e| e.at < until);
        let rest = self.young.split_off(old);
        for event in std::mem::replace(&mut self.young, rest) {
            self.one(&event);
        }
    }

    /// Connections of which something new was told since the last call.
    pub fn news(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.news)
    }

    /// The connection of a frame that crossed at `at`; `is_syn` for one that
    /// opens it, and so comes before it.
    pub fn find(&self, key: &FlowKey, at: Nanos, is_syn: bool) -> Option<&Flow> {
        let ids = self.by_key.get(key)?;
        let mut flows = ids.iter().filter_map(|id| self.flows.get(id));
        let next = flows.clone().find(|flow| flow.opened >= at);
        if is_syn && next.is_some() {
            return next;
        }
        flows.rfind(|flow| flow.opened <= at).or(next)
    }

    /// A connection by its identity.
    pub fn flow(&self, id: u64) -> Option<&Flow> {
        self.flows.get(&id)
    }

    fn one(&mut self, event: &Event) {
        match event.kind {
            Kind::FlowOpen => self.open(event),
            Kind::GReady | Kind::GoCreate | Kind::GoUnblock => {
                self.ready.insert(event.target(), event.at);
            }
            Kind::GRun => self.ran(event),
            Kind::GoEnd => {
                self.queued.remove(&event.actor.g);
            }
            _ if event.flow != 0 => self.on_flow(event),
            _ => {}
        }
    }

    fn open(&mut self, event: &Event) {
        let key: (SocketAddr, SocketAddr) = event.addrs();
        self.meet(event.flow, event.at);
        self.learn(&key, event.flow);
    }

    /// Knows a connection from now on.
    fn meet(&mut self, id: u64, opened: Nanos) {
        if self.flows.contains_key(&id) {
            return;
        }
        while self.flows.len() >= MOST_FLOWS
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(oldest);
        }
        self.order.push_back(id);
        self.flows.insert(id, Flow::new(id, opened));
    }

    /// Knows the addresses of a connection, as a frame that it sent has them: it
    /// may have been opened before there was a trace.
    pub fn learn(&mut self, key: &FlowKey, id: u64) {
        if self.keys.contains_key(&id) {
            return;
        }
        self.meet(id, Nanos::ZERO);
        self.by_key.entry(*key).or_default().push(id);
        self.keys.insert(id, *key);
    }

    fn ran(&mut self, event: &Event) {
        let g = event.actor.g;
        if let Some(at) = self.ready.remove(&g) {
            self.queued.insert(g, (event.at, event.at.since(at)));
        }
    }

    fn on_flow(&mut self, event: &Event) {
        let route = match event.kind {
            Kind::HttpHandler | Kind::HttpRefused => self.label(event),
            _ => Arc::default(),
        };
        if event.kind == Kind::HttpHead {
            self.meet(event.flow, Nanos::ZERO);
        }
        let queued = match event.kind {
            // Only the first request since it ran waited for that.
            Kind::HttpHead => self.queued.remove(&event.actor.g),
            _ => None,
        };
        let Some(flow) = self.flows.get_mut(&event.flow) else {
            return;
        };
        let part = || Part {
            bytes: event.offset..event.end(),
            at: event.at,
        };
        match event.kind {
            Kind::ConnWrite => push(&mut flow.writes, MOST_PARTS, part()),
            Kind::TcpIngress if event.len > 0 => push(&mut flow.arrivals, MOST_PARTS, part()),
            Kind::HttpHead => flow.head(event, queued.map(|(_, queued)| queued)),
            Kind::HttpText => flow.text(event),
            Kind::HttpHandler => flow.answered(event, route),
            Kind::HttpRefused => flow.refused(event, &route),
            Kind::FlowClose => {
                flow.closed = Some(event.at);
                flow.is_over = true;
            }
            _ => return,
        }
        if matches!(
            event.kind,
            Kind::HttpHandler | Kind::HttpRefused | Kind::FlowClose
        ) {
            self.news.push(event.flow);
        }
    }

    /// The route of an answer, or the reason of a refusal.
    fn label(&mut self, event: &Event) -> Arc<str> {
        let Label(number) = match event.kind {
            Kind::HttpRefused => event.label(),
            _ => event.route(),
        };
        let Some(at) = usize::from(number).checked_sub(1) else {
            return Arc::default();
        };
        if at >= self.labels.len() {
            self.labels = trace::labels();
        }
        self.labels.get(at).cloned().unwrap_or_default()
    }

    /// Lets go of connections that have been over for some time, a few times a
    /// second.
    fn forget(&mut self, now: Nanos) {
        if now.since(self.forgotten) < MEMORY / 10 {
            return;
        }
        self.forgotten = now;
        let is_old = |flow: &Flow| flow.closed.is_some_and(|at| now.since(at) > MEMORY);
        let old: Vec<u64> = self
            .flows
            .values()
            .filter(|f| is_old(f))
            .map(|f| f.id)
            .collect();
        for id in old {
            self.remove(id);
        }
        if self.order.len() > 2 * MOST_FLOWS {
            let flows = &self.flows;
            self.order.retain(|id| flows.contains_key(id));
        }
        // Goroutines whose run was not told.
        self.ready.retain(|_, at| now.since(*at) < MEMORY);
        self.queued.retain(|_, (at, _)| now.since(*at) < MEMORY);
    }

    fn remove(&mut self, id: u64) {
        self.flows.remove(&id);
        if let Some(key) = self.keys.remove(&id)
            && let Some(ids) = self.by_key.get_mut(&key)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Flow {
    fn head(&mut self, event: &Event, queued: Option<Duration>) {
        let request = Request {
            head: event.offset..event.end(),
            text: event.text(),
            goroutine: event.actor.g,
            queued,
            answer: None,
        };
        push(&mut self.requests, MOST_REQUESTS, request);
    }

    fn text(&mut self, event: &Event) {
        if let Some(request) = self.requests.back_mut()
            && request.text.len() < MOST_TEXT
        {
            request.text.extend(event.text());
        }
    }

    fn answered(&mut self, event: &Event, route: Arc<str>) {
        self.statuses.insert(event.status());
        if !route.is_empty() {
            self.routes.insert(route.clone());
        }
        let open = self.requests.iter_mut().find(|r| r.answer.is_none());
        if let Some(request) = open {
            request.answer = Some(Answer {
                bytes: event.offset..event.end(),
                status: event.status(),
                route,
                took: Some(Duration::from_nanos(event.dur_ns)),
            });
        }
    }

    /// A refusal says which bytes it refused as little as which it answered with:
    /// all that come after those that are known.
    fn refused(&mut self, event: &Event, reason: &str) {
        self.statuses.insert(event.status());
        let last = self.requests.back();
        let head = last.map_or(0, |r| r.head.end);
        let out = last
            .and_then(|r| r.answer.as_ref())
            .map_or(0, |answer| answer.bytes.end);
        let request = Request {
            head: head..u64::MAX,
            text: format!("refused ({reason})").into_bytes(),
            goroutine: event.actor.g,
            queued: None,
            answer: Some(Answer {
                bytes: out..u64::MAX,
                status: event.status(),
                route: Arc::default(),
                took: None,
            }),
        };
        push(&mut self.requests, MOST_REQUESTS, request);
    }

    /// The request that bytes of the stream in are of: of its head, or of the
    /// body behind it.
    pub fn request_in(&self, bytes: &Range<u64>) -> Option<&Request> {
        let begun = |r: &&Request| r.head.start < bytes.end;
        self.requests.iter().rev().find(begun)
    }

    /// The request that bytes of the stream out answer.
    pub fn request_out(&self, bytes: &Range<u64>) -> Option<&Request> {
        let holds = |r: &&Request| match &r.answer {
            Some(answer) => answer.bytes.start < bytes.end && bytes.start < answer.bytes.end,
            None => true,
        };
        self.requests.iter().find(holds)
    }

    /// When the handler wrote the first of these bytes.
    pub fn written_at(&self, bytes: &Range<u64>) -> Option<Nanos> {
        let holds = |part: &&Part| part.bytes.contains(&bytes.start);
        self.writes.iter().find(holds).map(|part| part.at)
    }
}

#[cfg(test)]
pub mod testing {
    //! Events of a request, as a server would emit them.

    use wirepath_driver::trace::Actor;

    use super::*;

    /// What is told of nothing else than these events.
    pub fn told(events: Vec<Event>) -> Told {
        let mut told = Told::default();
        told.take(events, Nanos::MAX);
        told
    }

    /// The key of the connection of [`request`].
    pub fn key() -> FlowKey {
        (
            "10.0.0.2:80".parse().unwrap(),
            "10.0.0.1:50000".parse().unwrap(),
        )
    }

    /// The events of connection 3's only request, answered with `status`, from
    /// 1 µs to 9 µs.
    pub fn request(status: u16) -> Vec<Event> {
        let flow = 0x1_0000_0003;
        let by = |mut event: Event| {
            event.actor = Actor { g: 7, p: 1, m: 1 };
            event
        };
        let (local, peer) = key();
        let event = |at, kind| Event::new(Nanos(at), kind, flow);
        let mut handler = by(event(8_000, Kind::HttpHandler).bytes(0, 120));
        handler = handler.answered(status, trace::label("/users/{id}"));
        handler.dur_ns = 4_000;
        vec![
            event(1_000, Kind::FlowOpen).with_addrs(local, peer),
            event(2_000, Kind::TcpIngress).bytes(0, 40),
            event(2_500, Kind::GReady).to(7),
            by(Event::new(Nanos(3_000), Kind::GRun, 0)),
            by(event(4_000, Kind::HttpHead)
                .bytes(0, 40)
                .with_head_text(b"GET /users/1")),
            event(4_000, Kind::HttpText).with_text(b"7"),
            by(event(7_000, Kind::ConnWrite).bytes(0, 120)),
            handler,
            event(9_000, Kind::FlowClose),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{key, request, told};
    use super::*;

    #[test]
    fn a_request_is_put_together() {
        let mut told = told(request(503));
        let flow = told.find(&key(), Nanos(1_500), false).unwrap();
        assert_eq!(flow.fd(), Some(3));
        let asked = flow.request_in(&(0..40)).unwrap();
        assert_eq!(asked.text, b"GET /users/17");
        assert_eq!(asked.goroutine, 7);
        assert_eq!(asked.queued, Some(Duration::from_nanos(500)));
        let answer = asked.answer.as_ref().unwrap();
        assert_eq!((answer.status, &*answer.route), (503, "/users/{id}"));
        assert_eq!(answer.took, Some(Duration::from_micros(4)));
        assert_eq!(flow.request_out(&(0..120)), Some(asked));
        assert_eq!(flow.written_at(&(0..120)), Some(Nanos(7_000)));
        assert!(flow.is_over() && flow.was_answered(&(500..=599)));
        assert!(flow.had_route("/users/{id}") && !flow.had_route("/"));
        let id = flow.id;
        assert_eq!(told.news(), [id, id]);
    }

    #[test]
    fn young_events_wait_for_older_ones_of_other_threads() {
        let mut told = Told::default();
        let (late, early): (Vec<_>, Vec<_>) =
            request(200).into_iter().partition(|e| e.kind == Kind::GRun);
        told.take(late, Nanos(2_000));
        told.take(early, Nanos::MAX);
        let flow = told.find(&key(), Nanos(1_500), false).unwrap();
        assert!(flow.requests[0].queued.is_some());
    }

    #[test]
    fn a_pair_of_addresses_that_is_used_again_is_another_connection() {
        let (local, peer) = key();
        let open = |at, id| Event::new(Nanos(at), Kind::FlowOpen, id).with_addrs(local, peer);
        let told = told(vec![open(100, 1), open(200, 2)]);
        for (at, is_syn, want) in [
            (90, true, 1),
            (150, false, 1),
            (150, true, 2),
            (250, false, 2),
            (250, true, 2),
        ] {
            let found = told.find(&key(), Nanos(at), is_syn).map(|flow| flow.id);
            assert_eq!(found, Some(want), "{at} {is_syn}");
        }
    }

    #[test]
    fn what_is_over_is_forgotten_and_memory_is_bounded() {
        let mut told = told(request(200));
        told.forget(Nanos(9_000) + MEMORY * 2);
        assert!(told.find(&key(), Nanos(1_500), false).is_none());
        assert!(told.flows.is_empty() && told.by_key.is_empty() && told.keys.is_empty());
        let (local, peer) = key();
        let open = |n| Event::new(Nanos(n), Kind::FlowOpen, n).with_addrs(local, peer);
        let most = MOST_FLOWS as u64;
        told.take((1..=most + 2).map(open).collect(), Nanos::MAX);
        assert_eq!(told.flows.len(), MOST_FLOWS);
        assert!(told.flow(2).is_none() && told.flow(3).is_some());
    }

    #[test]
    fn a_refusal_owns_what_comes_after() {
        let flow = 0x1_0000_0003;
        let mut events = request(200);
        events.pop();
        let refused = Event::new(Nanos(9_500), Kind::HttpRefused, flow);
        let refused = refused.labelled(trace::label("bad_header"));
        events.push(refused.answered(400, Label::default()));
        let told = told(events);
        let flow = told.find(&key(), Nanos(1_500), false).unwrap();
        let asked = flow.request_in(&(40..60)).unwrap();
        assert_eq!(asked.text, b"refused (bad_header)");
        assert_eq!(flow.request_out(&(120..300)), Some(asked));
        assert!(flow.was_answered(&(400..=400)));
    }
}
