//! The events of a trace by what they are about: flow, goroutine, P.

use std::collections::HashMap;

use wirepath_runtime::trace::{Event, Kind};

/// The events of one flow, of each kind by time.
#[derive(Default)]
pub(super) struct FlowEvents {
    kinds: HashMap<Kind, Vec<Event>>,
}

impl FlowEvents {
    /// Those of a kind.
    pub fn of(&self, kind: Kind) -> &[Event] {
        self.kinds.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Those of a kind from `from` to before `to`.
    pub fn between(&self, kind: Kind, from: u64, to: u64) -> &[Event] {
        between(self.of(kind), from, to)
    }

    /// The first of a kind from `from` on that `fits`.
    pub fn first(&self, kind: Kind, from: u64, fits: impl Fn(&Event) -> bool) -> Option<&Event> {
        let later = self.between(kind, from, u64::MAX);
        later.iter().find(|e| fits(e))
    }

    /// The last of a kind before `to` that `fits`.
    pub fn last(&self, kind: Kind, to: u64, fits: impl Fn(&Event) -> bool) -> Option<&Event> {
        let earlier = self.between(kind, 0, to);
        earlier.iter().rev().find(|e| fits(e))
    }
}

/// Those of a list by time that are from `from` to before `to`.
pub(super) fn between(events: &[Event], from: u64, to: u64) -> &[Event] {
    let start = events.partition_point(|e| e.at.0 < from);
    let end = events.partition_point(|e| e.at.0 < to);
    &events[start..end.max(start)]
}

/// All of a trace.
pub(super) struct Index {
    flows: HashMap<u64, FlowEvents>,
    /// What goroutines did, and what was done to them.
    goroutines: HashMap<u64, Vec<Event>>,
    /// `g.run` of each P, by its number plus one.
    runs: HashMap<u16, Vec<Event>>,
    /// Requests by goroutine: when their heads were parsed, and their text.
    requests: HashMap<u64, Vec<(u64, String)>>,
    pub last_ns: u64,
}

impl Index {
    /// Of events by time.
    pub fn new(events: &[Event]) -> Index {
        let mut index = Index {
            flows: HashMap::new(),
            goroutines: HashMap::new(),
            runs: HashMap::new(),
            requests: HashMap::new(),
            last_ns: events.last().map_or(0, |e| e.at.0),
        };
        for (i, e) in events.iter().enumerate() {
            index.add(e);
            if e.kind == Kind::HttpHead {
                let text = text(e, &events[i + 1..]);
                let requests = index.requests.entry(e.actor.g).or_default();
                requests.push((e.at.0, text));
            }
        }
        index
    }

    fn add(&mut self, e: &Event) {
        match e.kind {
            Kind::FlowOpen | Kind::HttpText => {}
            Kind::GReady | Kind::GoUnblock | Kind::GoCreate => {
                self.goroutines.entry(e.target()).or_default().push(*e);
            }
            Kind::GRun => {
                self.goroutines.entry(e.actor.g).or_default().push(*e);
                self.runs.entry(e.actor.p).or_default().push(*e);
            }
            Kind::GoBlock | Kind::GoYield | Kind::GoBlocking | Kind::GoUnblocked | Kind::GoEnd => {
                self.goroutines.entry(e.actor.g).or_default().push(*e);
            }
            _ => {}
        }
        if e.flow != 0 && e.kind != Kind::HttpText {
            let flow = self.flows.entry(e.flow).or_default();
            flow.kinds.entry(e.kind).or_default().push(*e);
        }
    }

    /// Flows, and their events.
    pub fn flows(&self) -> impl Iterator<Item = (u64, &FlowEvents)> {
        self.flows.iter().map(|(flow, events)| (*flow, events))
    }

    /// What a goroutine did and what was done to it.
    pub fn goroutine(&self, g: u64) -> &[Event] {
        self.goroutines.get(&g).map_or(&[], Vec::as_slice)
    }

    /// Who had P number `p` less one from `from` to `to` the longest, but for
    /// `not`, and for how many nanoseconds of that.
    pub fn ran_instead(&self, p: u16, from: u64, to: u64, not: u64) -> Option<(u64, u64)> {
        let runs = self.runs.get(&p)?;
        // The one that ran already is the one before.
        let start = runs.partition_point(|e| e.at.0 <= from).saturating_sub(1);
        let end = runs.partition_point(|e| e.at.0 < to);
        let mut most: HashMap<u64, u64> = HashMap::new();
        for (i, run) in runs[..end].iter().enumerate().skip(start) {
            let until = runs.get(i + 1).map_or(to, |next| next.at.0.min(to));
            let ended = self.stopped_at(run.actor.g, run.at.0).min(until);
            let ran = ended.saturating_sub(run.at.0.max(from));
            *most.entry(run.actor.g).or_default() += ran;
        }
        most.remove(&not);
        let (g, ran) = most.into_iter().max_by_key(|(g, ran)| (*ran, *g))?;
        (ran > 0).then_some((g, ran))
    }

    /// As above, on any P.
    pub fn ran_meanwhile(&self, from: u64, to: u64, not: u64) -> Option<(u64, u64)> {
        let on_each = self
            .runs
            .keys()
            .filter_map(|p| self.ran_instead(*p, from, to, not));
        on_each.max_by_key(|(g, ran)| (*ran, *g))
    }

    /// When a run that began at `at` ended, as far as the goroutine itself says.
    fn stopped_at(&self, g: u64, at: u64) -> u64 {
        let own = self.goroutine(g);
        let later = &own[own.partition_point(|e| e.at.0 <= at)..];
        let stops = |e: &&Event| matches!(e.kind, Kind::GoBlock | Kind::GoYield | Kind::GoEnd);
        later.iter().find(stops).map_or(u64::MAX, |e| e.at.0)
    }

    /// The request that goroutine `g` was in at some time from `from` to `to`:
    /// the last whose head was parsed before `to`.
    pub fn request_of(&self, g: u64, to: u64) -> Option<&str> {
        let requests = self.requests.get(&g)?;
        let end = requests.partition_point(|(at, _)| *at < to);
        let (_, text) = requests.get(end.checked_sub(1)?)?;
        Some(text)
    }
}

/// Method and target of a head: what is right behind it in the trace.
pub(super) fn text(head: &Event, after: &[Event]) -> String {
    let mut text = head.text();
    let rest = after
        .iter()
        .take_while(|e| e.at == head.at)
        .filter(|e| e.kind == Kind::HttpText && e.flow == head.flow);
    rest.for_each(|e| text.extend_from_slice(&e.text()));
    String::from_utf8_lossy(&text).into_owned()
}
