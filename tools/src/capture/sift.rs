//! Filters and comments of a capture, on its writer's thread.
//!
//! A frame crosses before what explains it is told: its request is parsed and
//! answered later. So frames wait for [`SETTLE`], unless the filter asks
//! nothing of the trace and no comments are wanted. Those of which a filter by
//! status, route or descriptor cannot say more by then wait with their connection
//! until it is known. What waits is bounded in bytes and time; a frame that does
//! not fit is given up and counted by its cause.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wirepath_driver::capture::{Captured, Direction, Sift, Sifted};
use wirepath_driver::trace;
use wirepath_driver::{Nanos, clock};

use super::comment;
use super::filter::{Connection, Filter, Verdict};
use super::packet::{FlowKey, Packet};
use super::told::{Flow, Told};

/// How long a frame waits for what explains it.
const SETTLE: Duration = Duration::from_millis(150);
/// Bytes that wait so at most; beyond that the oldest go with what is known.
const SETTLE_BYTES: usize = 16 << 20;
/// How often events are read while frames come.
const READ_EVERY: Duration = Duration::from_millis(10);

/// How long a frame waits for its connection's status.
const HOLD: Duration = Duration::from_secs(60);
/// Bytes that wait so at most: of a connection, and of all.
const HOLD_BYTES_FLOW: usize = 4 << 20;
const HOLD_BYTES: usize = 64 << 20;

/// Why a frame was given up.
const TOO_LATE: &str = "held for a minute, and the filter's answer was not known";
const FLOW_FULL: &str = "more of one connection than is held for the filter (4 MiB)";
const ALL_FULL: &str = "more than is held for the filter (64 MiB)";

/// Connections whose sequence numbers are kept.
const MOST_STREAMS: usize = 65_536;

/// Events of the rings that are made for a capture's sake, where nobody traces
/// yet: for each thread.
const TRACE_EVENTS: usize = 1 << 16;

/// What a sift tells while it works.
#[derive(Debug, Default)]
pub struct Notes {
    /// Events that were overwritten before they were read: frames of theirs have
    /// no comment, and a filter does not see their statuses.
    pub events_lost: AtomicU64,
}

/// A frame and what it is.
struct Waiting {
    frame: Captured,
    packet: Packet,
}

impl Waiting {
    fn weight(&self) -> usize {
        self.frame.bytes.capacity() + size_of::<Waiting>()
    }
}

/// Frames of a connection that wait for its status.
#[derive(Default)]
struct Held {
    frames: VecDeque<Waiting>,
    bytes: usize,
}

/// A filter and comments.
pub struct TraceSift {
    filter: Option<Filter>,
    has_comments: bool,
    asks_trace: bool,
    told: Told,
    read_at: Nanos,
    /// Frames that wait for [`SETTLE`], in their order, and their bytes.
    settling: VecDeque<Waiting>,
    settling_bytes: usize,
    held: HashMap<u64, Held>,
    held_bytes: usize,
    /// When frames of which connection were held, the oldest first; some are
    /// gone.
    held_order: VecDeque<(Nanos, u64)>,
    /// Initial sequence numbers of the peers.
    isns: HashMap<FlowKey, u32>,
    /// How much of its stream each connection had sent.
    sent: HashMap<u64, u64>,
    notes: Arc<Notes>,
}

impl TraceSift {
    /// A sift for `filter`, with comments or without; None when there is nothing
    /// to do. Has the trace written, if what it does needs that.
    pub fn new(filter: Option<Filter>, has_comments: bool) -> Option<(TraceSift, Arc<Notes>)> {
        if filter.is_none() && !has_comments {
            return None;
        }
        let asks_trace = has_comments || filter.as_ref().is_some_and(Filter::asks_trace);
        if asks_trace && !trace::enabled() {
            trace::enable(TRACE_EVENTS);
        }
        let notes = Arc::new(Notes::default());
        let sift = TraceSift {
            filter,
            has_comments,
            asks_trace,
            told: Told::default(),
            read_at: Nanos::ZERO,
            settling: VecDeque::new(),
            settling_bytes: 0,
            held: HashMap::new(),
            held_bytes: 0,
            held_order: VecDeque::new(),
            isns: HashMap::new(),
            sent: HashMap::new(),
            notes: notes.clone(),
        };
        Some((sift, notes))
    }

    /// Takes note of what places later frames in their streams.
    fn note(&mut self, waiting: &Waiting) {
        let Some((key, segment)) = waiting.packet.flow().zip(waiting.packet.tcp) else {
            return;
        };
        let direction = waiting.frame.direction;
        if direction == Direction::In && segment.is_syn {
            if self.isns.len() >= MOST_STREAMS {
                self.isns.clear();
            }
            self.isns.insert(key, segment.seq);
        }
        let id = waiting.frame.tag.flow;
        if direction == Direction::Out && id != 0 {
            self.told.learn(&key, id);
        }
    }

    fn read(&mut self, now: Nanos) {
        self.read_at = now;
        self.told.read(now);
        self.notes
            .events_lost
            .store(self.told.lost, Ordering::Relaxed);
    }

    /// Lets frames go that waited long enough, and looks again at those whose
    /// connections are better known.
    fn advance(&mut self, now: Nanos, out: &mut Sifted) {
        while let Some(first) = self.settling.front()
            && (first.frame.at + SETTLE <= now || self.settling_bytes > SETTLE_BYTES)
        {
            self.settle_first(false, out);
        }
        self.look_again(out);
        self.let_go_of_old(now, out);
    }

    fn settle_first(&mut self, is_end: bool, out: &mut Sifted) {
        if let Some(first) = self.settling.pop_front() {
            self.settling_bytes -= first.weight();
            self.decide(first, is_end, out);
        }
    }

    fn look_again(&mut self, out: &mut Sifted) {
        for id in self.told.news() {
            if let Some(held) = self.held.remove(&id) {
                self.held_bytes -= held.bytes;
                for waiting in held.frames {
                    self.decide(waiting, false, out);
                }
            }
        }
    }

    /// Keeps a frame, refuses it, or holds it.
    fn decide(&mut self, waiting: Waiting, is_end: bool, out: &mut Sifted) {
        let flow = find(&self.told, &waiting);
        let verdict = match (&self.filter, flow) {
            (None, _) => Verdict::Yes,
            (Some(filter), None) => filter.judge(&waiting.packet, None),
            (Some(filter), Some(flow)) if is_end => {
                filter.judge(&waiting.packet, Some(&Ended(flow)))
            }
            (Some(filter), Some(flow)) => filter.judge(&waiting.packet, Some(flow)),
        };
        match (verdict, flow.map(|flow| flow.id)) {
            (Verdict::Yes, _) => self.keep(waiting, out),
            (Verdict::NotYet, Some(id)) => self.hold(id, waiting, out),
            _ => out.refuse(&waiting.frame),
        }
    }

    fn keep(&mut self, mut waiting: Waiting, out: &mut Sifted) {
        if self.has_comments {
            waiting.frame.comment = self.comment(&waiting);
        }
        out.keep(waiting.frame);
    }

    fn comment(&mut self, waiting: &Waiting) -> String {
        let (Some(flow), Some(segment)) = (find(&self.told, waiting), waiting.packet.tcp) else {
            return String::new();
        };
        let key = waiting.packet.flow().expect("it has a segment");
        let isn = self.isns.get(&key).copied();
        let bytes = comment::place(&waiting.frame, &segment, flow, isn);
        let mut is_repeat = false;
        if waiting.frame.direction == Direction::Out && !bytes.is_empty() {
            if self.sent.len() >= MOST_STREAMS {
                self.sent.clear();
            }
            let sent = self.sent.entry(flow.id).or_default();
            is_repeat = bytes.start < *sent;
            *sent = bytes.end.max(*sent);
        }
        comment::comment(&waiting.frame, &bytes, flow, is_repeat)
    }

    fn hold(&mut self, id: u64, waiting: Waiting, out: &mut Sifted) {
        let weight = waiting.weight();
        self.held_order.push_back((waiting.frame.at, id));
        let held = self.held.entry(id).or_default();
        held.bytes += weight;
        held.frames.push_back(waiting);
        self.held_bytes += weight;
        while self
            .held
            .get(&id)
            .is_some_and(|h| h.bytes > HOLD_BYTES_FLOW)
        {
            self.lose_first_of(id, FLOW_FULL, out);
        }
        while self.held_bytes > HOLD_BYTES {
            self.lose_oldest(ALL_FULL, out);
        }
    }

    fn let_go_of_old(&mut self, now: Nanos, out: &mut Sifted) {
        while let Some((at, _)) = self.held_order.front()
            && *at + HOLD <= now
        {
            self.lose_oldest(TOO_LATE, out);
        }
    }

    /// Gives up the oldest frame that is held, unless that is gone already.
    fn lose_oldest(&mut self, cause: &'static str, out: &mut Sifted) {
        let Some((at, id)) = self.held_order.pop_front() else {
            return;
        };
        let first = self.held.get(&id).and_then(|held| held.frames.front());
        if first.is_some_and(|first| first.frame.at <= at) {
            self.lose_first_of(id, cause, out);
        }
    }

    fn lose_first_of(&mut self, id: u64, cause: &'static str, out: &mut Sifted) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        if let Some(first) = held.frames.pop_front() {
            held.bytes -= first.weight();
            self.held_bytes -= first.weight();
            out.lose(&first.frame, cause);
        }
        if held.frames.is_empty() {
            self.held.remove(&id);
        }
    }
}

fn find<'a>(told: &'a Told, waiting: &Waiting) -> Option<&'a Flow> {
    let tagged = told.flow(waiting.frame.tag.flow);
    let is_syn = waiting.packet.tcp.is_some_and(|s| s.is_syn && !s.is_ack);
    let key = waiting.packet.flow();
    tagged.or_else(|| told.find(&key?, waiting.frame.at, is_syn))
}

/// A connection of which nothing more will be told.
struct Ended<'a>(&'a Flow);

impl Connection for Ended<'_> {
    fn fd(&self) -> Option<u32> {
        self.0.fd()
    }
    fn was_answered(&self, statuses: &RangeInclusive<u16>) -> bool {
        self.0.was_answered(statuses)
    }
    fn had_route(&self, pattern: &str) -> bool {
        self.0.had_route(pattern)
    }
    fn is_over(&self) -> bool {
        true
    }
}

impl Sift for TraceSift {
    fn frame(&mut self, frame: Captured, out: &mut Sifted) {
        let packet = Packet::of(&frame);
        let waiting = Waiting { frame, packet };
        self.note(&waiting);
        let refuses = |filter: &Filter| filter.judge_alone(&waiting.packet) == Verdict::No;
        if self.filter.as_ref().is_some_and(refuses) {
            out.refuse(&waiting.frame);
            return;
        }
        if !self.asks_trace {
            out.keep(waiting.frame);
            return;
        }
        self.settling_bytes += waiting.weight();
        self.settling.push_back(waiting);
        let now = clock::now();
        if now.since(self.read_at) >= READ_EVERY {
            self.read(now);
            self.advance(now, out);
        }
    }

    fn tick(&mut self, now: Nanos, out: &mut Sifted) {
        if self.asks_trace {
            self.read(now);
            self.advance(now, out);
        }
    }

    fn end(&mut self, out: &mut Sifted) {
        self.told.read_all();
        self.look_again(out);
        while !self.settling.is_empty() {
            self.settle_first(true, out);
        }
        let held = std::mem::take(&mut self.held).into_values();
        let mut held: Vec<Waiting> = held.flat_map(|held| held.frames).collect();
        held.sort_by_key(|waiting| waiting.frame.at);
        self.held_bytes = 0;
        for waiting in held {
            self.decide(waiting, true, out);
        }
        self.notes
            .events_lost
            .store(self.told.lost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
