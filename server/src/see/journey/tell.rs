//! One connection's requests, told from its events.
//!
//! Each request is told by a [`Path`] that goes from moment to moment: a hop is
//! added when the next moment is later than the present one, so hops cannot
//! overlap or leave a gap, whatever the events say; a moment that the trace does
//! not have adds none, and its time goes to the hop after it.

use wirepath_runtime::trace::{Event, Kind, PROTECTED, fd_number};

use super::index::{FlowEvents, Index, between, text};
use super::{Hop, HopKind, Journey};
use crate::see::recording::Names;

/// A silence of a peer that had something to acknowledge, from which on it is
/// called a delayed ACK, nanoseconds: Linux delays by 40 ms, others by up to 200
/// (RFC 1122 §4.2.3.2 allows 500).
const DELAYED_ACK_NS: u64 = 30_000_000;

/// A wait in a run queue from which on somebody must have had the P for most of
/// it, nanoseconds, or else its thread had no processor.
const NO_CPU_NS: u64 = 1_000_000;
const NO_CPU: &str = "nobody had the P: its thread waited for a processor, or was being woken";

/// The hops of one request.
struct Path {
    start: u64,
    now: u64,
    hops: Vec<Hop>,
}

impl Path {
    fn new(start: u64) -> Path {
        Path {
            start,
            now: start,
            hops: Vec::new(),
        }
    }

    /// Goes on to `to`, if that is later.
    fn go(&mut self, kind: HopKind, to: u64, note: impl FnOnce() -> String) {
        if to <= self.now {
            return;
        }
        let note = note();
        let from_ns = std::mem::replace(&mut self.now, to);
        match self.hops.last_mut() {
            Some(last) if last.kind == kind && last.note == note => last.to_ns = to,
            _ => self.hops.push(Hop {
                kind,
                from_ns,
                to_ns: to,
                note,
            }),
        }
    }
}

/// Tells the requests of one flow.
pub(super) struct Teller<'a> {
    index: &'a Index,
    names: &'a Names,
    flow: u64,
    of_flow: &'a FlowEvents,
    events: &'a [Event],
}

/// What is known of a request before its path is told.
struct Request<'a> {
    head: &'a Event,
    /// The end of its handler.
    handled: Option<&'a Event>,
    /// The head of the next.
    next: Option<&'a Event>,
    /// When the handler of the one before ended.
    before_ended: u64,
}

impl Request<'_> {
    /// Until when what happens is its own.
    fn until(&self, index: &Index) -> u64 {
        self.handled.map_or(index.last_ns, |e| e.at.0)
    }

    fn g(&self) -> u64 {
        self.head.actor.g
    }

    /// The response's bytes of the stream out.
    fn out(&self) -> Option<(u64, u64)> {
        let handled = self.handled?;
        (handled.len > 0).then(|| (handled.offset, handled.end()))
    }
}

/// Whether an event's bytes hold the one at `offset`.
fn holds(e: &Event, offset: u64) -> bool {
    e.offset <= offset && offset < e.end()
}

/// The first arrival of the byte at `offset`. Segments come in the order of their
/// bytes but for a few that were lost or sent twice, so the search begins a
/// little before the place where the byte is due.
fn first_with(ingress: &[Event], offset: u64) -> Option<&Event> {
    const SLACK: usize = 256;
    let due = ingress.partition_point(|e| e.end() <= offset);
    let near = &ingress[due.saturating_sub(SLACK)..];
    let found = near.iter().find(|e| holds(e, offset));
    found.or_else(|| ingress.iter().find(|e| holds(e, offset)))
}

impl<'a> Teller<'a> {
    pub fn new(
        index: &'a Index,
        names: &'a Names,
        flow: u64,
        of_flow: &'a FlowEvents,
        events: &'a [Event],
    ) -> Teller<'a> {
        Teller {
            index,
            names,
            flow,
            of_flow,
            events,
        }
    }

    /// All of the flow's.
    pub fn requests(&self) -> Vec<Journey> {
        let heads = self.of_flow.of(Kind::HttpHead);
        // The trace has the connection from its beginning.
        let is_whole = !self.of_flow.of(Kind::FlowOpen).is_empty()
            || heads
                .first()
                .is_some_and(|head| head.offset & !PROTECTED == 0);
        let mut before_ended = 0;
        let mut told = Vec::with_capacity(heads.len());
        for (i, head) in heads.iter().enumerate() {
            let next = heads.get(i + 1);
            let until = next.map_or(u64::MAX, |next| next.at.0);
            let ends = self.of_flow.between(Kind::HttpHandler, head.at.0, until);
            let request = Request {
                head,
                handled: ends.first(),
                next,
                before_ended,
            };
            before_ended = request.until(self.index);
            let nth = is_whole.then_some(i as u64 + 1);
            told.push(self.tell(&request, nth));
        }
        told
    }

    fn tell(&self, request: &Request<'_>, nth: Option<u64>) -> Journey {
        let mut stages = [None; 14];
        let mut path = self.arrive(request, &mut stages);
        self.wake(request, &mut path, &mut stages);
        path.go(HopKind::Parse, request.head.at.0, String::new);
        self.handle(request, &mut path);
        self.depart(request, &mut path, &mut stages);
        let (head, handled) = (request.head, request.handled);
        let bytes_in = self.bytes_in(request);
        let peer = self.names.flow(self.flow).map_or("", |(_, peer)| peer);
        Journey {
            flow: self.flow,
            fd: fd_number(self.flow),
            nth,
            offset: head.offset & !PROTECTED,
            request: self.request_text(head),
            route: handled.map_or(String::new(), |e| self.names.label(e.route()).to_owned()),
            status: handled.map_or(0, Event::status),
            bytes_in,
            bytes_out: handled.map_or(0, |e| e.len.into()),
            peer: peer.to_owned(),
            goroutine: request.g(),
            start: path.start,
            end: path.now,
            hops: path.hops,
            stages,
        }
    }

    fn request_text(&self, head: &Event) -> String {
        let from = self.events.partition_point(|e| e.at < head.at);
        let here = self.events[from..].iter().take_while(|e| e.at == head.at);
        let place = here.take_while(|e| *e != head).count();
        text(head, &self.events[from + place + 1..])
    }

    /// Up to the next request, or what was read until it was handled.
    fn bytes_in(&self, request: &Request<'_>) -> u64 {
        let end = match request.next {
            Some(next) => next.offset,
            None => {
                let until = request.until(self.index);
                let read = self.of_flow.last(Kind::ConnRead, until, |_| true);
                read.map_or(0, Event::end).max(request.head.end())
            }
        };
        end.saturating_sub(request.head.offset)
    }

    /// From the wire to the socket buffer.
    fn arrive(&self, request: &Request<'_>, stages: &mut [Option<u64>; 14]) -> Path {
        let head = request.head;
        let before = head.at.0;
        let ingress = self.of_flow.of(Kind::TcpIngress);
        let until = ingress.partition_point(|e| e.at.0 <= before);
        let came = |offset: u64| first_with(&ingress[..until], offset);
        let Some(first) = came(head.offset) else {
            return Path::new(self.first_sign(request));
        };
        let same = |e: &Event| (e.offset, e.len) == (first.offset, first.len);
        let mut stage = |kind: Kind| {
            let event = self.of_flow.last(kind, first.at.0 + 1, same);
            stages[kind as usize - 1] = event.map(|e| e.at.0);
            event.map(|e| e.at.0)
        };
        let ring = stage(Kind::NicRx);
        let polled = stage(Kind::DriverPoll);
        stage(Kind::FlowLookup);
        stage(Kind::TcpIngress);
        let mut path = Path::new(ring.or(polled).unwrap_or(first.at.0));
        path.go(HopKind::RxRing, polled.unwrap_or(0), String::new);
        path.go(HopKind::Stack, first.at.0, || self.ring_note());
        let last = came(head.end().saturating_sub(1)).unwrap_or(first);
        let gaps = self.of_flow.between(Kind::TcpGap, path.now, last.at.0);
        let (kind, note) = match gaps.len() {
            0 => (HopKind::Receiving, String::new()),
            n => (HopKind::LostInbound, format!("{n} segments came before it")),
        };
        path.go(kind, last.at.0, || note);
        path
    }

    /// Of a device that does not show its RX ring.
    fn ring_note(&self) -> String {
        if self.names.sees_nic_rx() {
            return String::new();
        }
        "the time in the RX ring is not visible on this device".to_owned()
    }

    /// The first that is known of a request whose segments are not: over the
    /// kernel's sockets, with TLS, or where the trace has lost them.
    fn first_sign(&self, request: &Request<'_>) -> u64 {
        let at = request.head.at.0;
        let ready = self.of_flow.last(Kind::GReady, at, |_| true);
        let ready = ready
            .map(|e| e.at.0)
            .filter(|at| *at >= request.before_ended);
        ready.unwrap_or(at).min(at)
    }

    /// From the socket buffer to a goroutine that runs.
    fn wake(&self, request: &Request<'_>, path: &mut Path, stages: &mut [Option<u64>; 14]) {
        let parsed = request.head.at.0;
        path.go(
            HopKind::Pipelined,
            request.before_ended.min(parsed),
            String::new,
        );
        let mine = |e: &Event| e.target() == request.g();
        let ready = self.of_flow.last(Kind::GReady, parsed, mine);
        let ready = ready.filter(|e| e.at.0 >= path.start);
        let Some(ready) = ready.or_else(|| self.made(request, path.now)) else {
            return self.note_read(request, stages);
        };
        let is_marked = |e: &&Event| e.at.0 >= path.start;
        let marked = self.of_flow.last(Kind::FdReady, ready.at.0 + 1, |_| true);
        stages[4] = marked.filter(is_marked).map(|e| e.at.0);
        stages[5] = Some(ready).filter(is_marked).map(|e| e.at.0);
        let from = path.now;
        path.go(HopKind::Readiness, ready.at.0, || match ready.kind {
            Kind::GoCreate => self.accepted(from, ready),
            _ => String::new(),
        });
        let own = between(self.index.goroutine(request.g()), ready.at.0, parsed);
        if let Some(run) = own.iter().find(|e| e.kind == Kind::GRun) {
            stages[6] = Some(run.at.0);
            let from = path.now;
            path.go(HopKind::RunQueue, run.at.0, || self.behind(run, from));
        }
        self.note_read(request, stages);
    }

    /// When the request's goroutine was made, if it had not run by `now`: bytes
    /// may be there before their connection's goroutine is.
    fn made(&self, request: &Request<'_>, now: u64) -> Option<&Event> {
        let own = between(self.index.goroutine(request.g()), 0, request.head.at.0);
        let run = own.iter().find(|e| e.kind == Kind::GRun)?;
        let made = own.iter().find(|e| e.kind == Kind::GoCreate)?;
        (made.at <= run.at && now < run.at.0).then_some(made)
    }

    fn note_read(&self, request: &Request<'_>, stages: &mut [Option<u64>; 14]) {
        let head = request.head;
        let read = self
            .of_flow
            .last(Kind::ConnRead, head.at.0, |e| holds(e, head.offset));
        stages[7] = read.map(|e| e.at.0);
    }

    /// Whom a goroutine that ran at last was queued behind since `from`.
    fn behind(&self, run: &Event, from: u64) -> String {
        let waited = run.at.0.saturating_sub(from);
        let ahead = self
            .index
            .ran_instead(run.actor.p, from, run.at.0, run.actor.g);
        // What ran for a small part of the time is not why it was long.
        let ahead = ahead.filter(|(_, ran)| waited < NO_CPU_NS || ran * 2 >= waited);
        if let Some((g, ran)) = ahead {
            let (who, ran) = (self.who(g, run.at.0), duration(ran));
            return format!("behind {who}, which had the P for {ran}");
        }
        if waited < NO_CPU_NS {
            return String::new();
        }
        let meanwhile = self.meanwhile(from, run.at.0, run.actor.g);
        meanwhile.unwrap_or_else(|| NO_CPU.to_owned())
    }

    /// Who had a P for most of a long time, but for `not`.
    fn meanwhile(&self, from: u64, to: u64, not: u64) -> Option<String> {
        let waited = to.saturating_sub(from);
        let (g, ran) = self.index.ran_meanwhile(from, to, not)?;
        let is_why = waited >= NO_CPU_NS && ran * 2 >= waited;
        is_why.then(|| format!("while {} had a P for {}", self.who(g, to), duration(ran)))
    }

    /// Why a connection's goroutine was made no earlier.
    fn accepted(&self, from: u64, made: &Event) -> String {
        let what = "its connection waited to be accepted";
        match self.meanwhile(from, made.at.0, made.actor.g) {
            Some(meanwhile) => format!("{what}, {meanwhile}"),
            None => what.to_owned(),
        }
    }

    /// A goroutine, and what it was about at some time.
    fn who(&self, g: u64, at: u64) -> String {
        match (self.index.request_of(g, at), self.names.goroutine(g)) {
            (Some(request), _) => format!("goroutine {g} ({request})"),
            (None, Some(name)) => {
                let name = name.name.as_deref().unwrap_or(&name.site);
                format!("goroutine {g} ({name})")
            }
            (None, None) => format!("goroutine {g}"),
        }
    }

    /// In the handler: running, or waiting for something.
    fn handle(&self, request: &Request<'_>, path: &mut Path) {
        let until = request.until(self.index);
        let own = between(self.index.goroutine(request.g()), request.head.at.0, until);
        let mut doing = (HopKind::Handler, String::new());
        for e in own {
            let next = match e.kind {
                Kind::GoBlock => Some(self.wait(e, until)),
                Kind::GoBlocking => Some((HopKind::Blocking, String::new())),
                Kind::GReady | Kind::GoUnblock | Kind::GoYield => {
                    Some((HopKind::RunQueue, String::new()))
                }
                Kind::GRun | Kind::GoUnblocked => Some((HopKind::Handler, String::new())),
                _ => None,
            };
            let Some(next) = next else { continue };
            let (kind, mut note) = std::mem::replace(&mut doing, next);
            if kind == HopKind::RunQueue && e.kind == Kind::GRun {
                note = self.behind(e, path.now);
            }
            path.go(kind, e.at.0, || note);
        }
        let (kind, note) = doing;
        path.go(kind, until, || note);
    }

    /// What a goroutine waited for in its handler from `blocked` on.
    fn wait(&self, blocked: &Event, until: u64) -> (HopKind, String) {
        let reason = self.names.label(blocked.label());
        if blocked.flow != self.flow {
            let fd = fd_number(blocked.flow);
            let what = match blocked.flow {
                0 => reason.to_owned(),
                _ => format!("{reason} on fd {fd}"),
            };
            return (HopKind::HandlerWait, what);
        }
        let (from, g) = (blocked.at.0, blocked.actor.g);
        let next = |kind| {
            let e = self.of_flow.first(kind, from, |e| e.actor.g == g);
            e.map_or(u64::MAX, |e| e.at.0)
        };
        let (read, written) = (next(Kind::ConnRead), next(Kind::ConnWrite));
        if read < written {
            return (HopKind::BodyWait, String::new());
        }
        (
            HopKind::WindowWait,
            self.why_unsent(from, written.min(until)),
        )
    }

    /// Why bytes waited to be sent or acknowledged. A wait may end by its deadline
    /// just before the retransmission that it was for: what the peer's next
    /// segment answers counts too.
    fn why_unsent(&self, from: u64, to: u64) -> String {
        let answer = self.of_flow.first(Kind::TcpIngress, to, |_| true);
        let until = answer.map_or(to, |e| e.at.0);
        let again = self.of_flow.between(Kind::TcpRetransmit, from, until).len();
        let windows = self.of_flow.between(Kind::TcpWindow, 0, to);
        let shut = windows.last().is_some_and(|e| e.len == 0)
            || between(windows, from, to).iter().any(|e| e.len == 0);
        let silence = self.longest_silence(from, to);
        match (again, shut) {
            (1.., _) if silence >= DELAYED_ACK_NS => {
                format!("{} after {}", sent_again(again, ""), duration(silence))
            }
            (1.., _) => sent_again(again, ""),
            (_, true) => "the peer's window was shut".to_owned(),
            _ if silence >= DELAYED_ACK_NS => {
                format!("an ACK came after {} (a delayed ACK?)", duration(silence))
            }
            _ => "for the peer's ACKs".to_owned(),
        }
    }

    /// The longest time between two segments of the peer.
    fn longest_silence(&self, from: u64, to: u64) -> u64 {
        let came = self.of_flow.between(Kind::TcpIngress, from, to);
        let times = [from].into_iter().chain(came.iter().map(|e| e.at.0));
        let times: Vec<u64> = times.chain([to]).collect();
        let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        gaps.max().unwrap_or(0)
    }

    /// From the send buffer to the device.
    fn depart(&self, request: &Request<'_>, path: &mut Path, stages: &mut [Option<u64>; 14]) {
        let handled = request.handled.map(|e| e.at.0);
        stages[13] = handled;
        let Some((start, end)) = request.out() else {
            return;
        };
        let parsed = request.head.at.0;
        let mut first = |kind: Kind, offset: u64| {
            let e = self.of_flow.first(kind, parsed, |e| holds(e, offset));
            stages[kind as usize - 1] = e.map(|e| e.at.0);
        };
        first(Kind::ConnWrite, start);
        first(Kind::TcpSegment, start);
        first(Kind::NicTx, start);
        first(Kind::DriverKick, start);
        first(Kind::NicDone, end - 1);
        let last = |kind: Kind| {
            let e = self.of_flow.first(kind, parsed, |e| holds(e, end - 1));
            e.map(|e| e.at.0)
        };
        let cut = last(Kind::TcpSegment).unwrap_or(0);
        let (kind, note) = self.egress(path.now, cut);
        path.go(kind, cut, || note);
        path.go(HopKind::Egress, last(Kind::NicTx).unwrap_or(0), String::new);
        path.go(HopKind::TxRing, last(Kind::DriverKick).unwrap_or(0), || {
            if self.names.sees_nic_done() {
                return String::new();
            }
            "the kick and the completion are one on this device".to_owned()
        });
        self.send_again(start, end, path);
    }

    /// What kept the last byte from being cut into a segment.
    fn egress(&self, from: u64, cut: u64) -> (HopKind, String) {
        let news = self.of_flow.between(Kind::TcpIngress, from, cut);
        let acks = news.iter().any(|e| e.acked() > 0);
        let again = self.of_flow.between(Kind::TcpRetransmit, from, cut).len();
        match (again, acks) {
            (0, false) => (HopKind::Egress, String::new()),
            (0, true) => (HopKind::WindowWait, self.why_unsent(from, cut)),
            (n, _) => (HopKind::Retransmission, sent_again(n, "")),
        }
    }

    /// The response is with the peer only after what was lost of it was sent
    /// again.
    fn send_again(&self, start: u64, end: u64, path: &mut Path) {
        let again = self
            .of_flow
            .between(Kind::TcpRetransmit, path.now, u64::MAX);
        let mine = again.iter().filter(|e| e.offset < end && start < e.end());
        let mine: Vec<&Event> = mine.collect();
        let Some(last) = mine.last() else { return };
        let kicked = self
            .of_flow
            .first(Kind::DriverKick, last.at.0, |e| e.offset == last.offset);
        let until = kicked.map_or(last.at.0, |e| e.at.0);
        let note = sent_again(mine.len(), " of it");
        path.go(HopKind::Retransmission, until, || note);
    }
}

fn sent_again(segments: usize, of: &str) -> String {
    match segments {
        1 => format!("a segment{of} was sent again"),
        n => format!("{n} segments{of} were sent again"),
    }
}

/// A duration in the unit that fits it: `180 ms`, `12.3 µs`.
pub(super) fn duration(ns: u64) -> String {
    let scaled = |unit: u64, name: &str| {
        let whole = ns / unit;
        match whole {
            100.. => format!("{whole} {name}"),
            _ => format!("{whole}.{} {name}", ns % unit * 10 / unit),
        }
    };
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ => scaled(1_000_000_000, "s"),
    }
}
