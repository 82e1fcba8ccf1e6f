//! The part of a trace that tells its last requests.
//!
//! A recorder holds some hundred thousand events, and telling all of their
//! requests takes longer than the time between two looks at a live page. The
//! last few are told from the last events, and from those earlier ones that
//! belong to a request which ended among the last but began long before.

use std::collections::HashMap;

use wirepath_runtime::trace::{self, Event, Kind};

/// Events that the last requests are looked for in: what some four hundred have.
const TAIL_EVENTS: usize = 1 << 13;

/// How long before its head was parsed a request's first byte is looked for,
/// nanoseconds: a head that comes in parts, a wait in a run queue.
const ARRIVAL_NS: u64 = 1_000_000_000;

/// How long before its head was parsed everybody's events are kept, nanoseconds:
/// whom the request was queued behind.
const QUEUED_NS: u64 = 5_000_000;

/// Of events by time: those that tell the last request whose method and target
/// have `needle` in the same event as they were written in; nothing if there is
/// none.
pub(super) fn of_request(events: &[Event], needle: &str) -> Vec<Event> {
    let has = |text: &[u8]| memchr::memmem::find(text, needle.as_bytes()).is_some();
    let is_text = |e: &&Event| matches!(e.kind, Kind::HttpHead | Kind::HttpText);
    let mut texts = events.iter().rev().filter(is_text);
    let Some(text) = texts.find(|e| has(&e.text())) else {
        return Vec::new();
    };
    let is_head = |e: &&Event| e.kind == Kind::HttpHead && (e.at, e.flow) == (text.at, text.flow);
    let Some(head) = events.iter().rfind(is_head) else {
        return Vec::new();
    };
    let [began, queued] = [ARRIVAL_NS, QUEUED_NS].map(|ns| head.at.0.saturating_sub(ns));
    let g = head.actor.g;
    let belongs = |e: &&Event| {
        let wakes = woken(e) == Some(g);
        let is_own = e.flow == head.flow || e.actor.g == g || wakes;
        let is_near = (queued..=head.at.0).contains(&e.at.0);
        e.at.0 >= began && is_own || is_near
    };
    events.iter().filter(belongs).copied().collect()
}

/// The goroutine that an event makes runnable.
fn woken(e: &Event) -> Option<u64> {
    matches!(e.kind, Kind::GReady | Kind::GoUnblock | Kind::GoCreate).then(|| e.target())
}

/// The last events of all, and earlier ones of long requests, by time.
pub(super) fn recent() -> Vec<Event> {
    let mut tail = trace::pick(TAIL_EVENTS, |_| true);
    tail.drain(..tail.len().saturating_sub(TAIL_EVENTS));
    with_long(tail, |is_wanted| trace::pick(usize::MAX, is_wanted))
}

/// The tail, and before it what the requests began with that ended in it and
/// began long before. `pick` gives what is wanted of all.
fn with_long(
    tail: Vec<Event>,
    pick: impl FnOnce(&dyn Fn(&Event) -> bool) -> Vec<Event>,
) -> Vec<Event> {
    let long = long_requests(&tail);
    let Some(start) = tail.first().map(|e| e.at).filter(|_| !long.is_empty()) else {
        return tail;
    };
    let keys = |e: &Event| [e.flow, e.actor.g, woken(e).unwrap_or_default()];
    let mut kept = pick(&|e| keys(e).iter().any(|key| long.contains_key(key)));
    let since = |key: &u64| long.get(key).copied();
    kept.retain(|e| e.at < start && keys(e).iter().filter_map(since).any(|from| e.at.0 >= from));
    kept.extend(tail);
    kept
}

/// The flows and goroutines of requests that ended in `tail` and began before
/// it, and from when on they matter. A flow's identity has its generation above
/// 32 bits and a goroutine's number has not, so the two do not meet.
fn long_requests(tail: &[Event]) -> HashMap<u64, u64> {
    let start = tail.first().map_or(0, |e| e.at.0);
    let mut long = HashMap::new();
    for e in tail.iter().filter(|e| e.kind == Kind::HttpHandler) {
        let began = e.at.0.saturating_sub(e.dur_ns);
        if began < start {
            let from = began.saturating_sub(ARRIVAL_NS);
            long.insert(e.flow, from);
            long.insert(e.actor.g, from);
        }
    }
    long.remove(&0);
    long
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirepath_runtime::Nanos;
    use wirepath_runtime::trace::Actor;

    const SLOW: u64 = 1 << 32 | 1;
    const QUICK: u64 = 1 << 32 | 2;
    const SECOND: u64 = 1_000_000_000;

    fn event(at: u64, kind: Kind, flow: u64, g: u64) -> Event {
        let mut event = Event::new(Nanos(at), kind, flow);
        event.actor = Actor { g, p: 1, m: 1 };
        event
    }

    /// A slow request of goroutine 7 among quick ones of goroutine 8.
    fn trace() -> Vec<Event> {
        let mut events = vec![
            event(SECOND, Kind::TcpIngress, SLOW, 0),
            event(3 * SECOND, Kind::TcpIngress, SLOW, 0),
            event(3 * SECOND + 1, Kind::GReady, SLOW, 0).to(7),
            event(3 * SECOND + 2, Kind::GRun, 0, 7),
            event(3 * SECOND + 3, Kind::HttpHead, SLOW, 7),
        ];
        let quick = |i| event(4 * SECOND + i, Kind::HttpHead, QUICK, 8);
        events.extend((0..100).map(quick));
        let mut handled = event(5 * SECOND, Kind::HttpHandler, SLOW, 7);
        handled.dur_ns = 2 * SECOND - 3;
        events.push(handled);
        events
    }

    /// Of a trace, the last `most` and what is told with them.
    fn last_of(events: &[Event], most: usize) -> Vec<Event> {
        let tail = events[events.len().saturating_sub(most)..].to_vec();
        with_long(tail, |is_wanted| {
            let wanted = events.iter().filter(|e| is_wanted(e));
            wanted.copied().collect()
        })
    }

    #[test]
    fn a_short_trace_is_kept_whole() {
        assert_eq!(last_of(&trace(), TAIL_EVENTS), trace());
        assert_eq!(last_of(&[], TAIL_EVENTS), []);
    }

    #[test]
    fn of_a_long_one_the_last_and_what_they_began_with() {
        let kept = last_of(&trace(), 10);
        let told: Vec<_> = kept.iter().map(|e| (e.at.0, e.kind)).collect();
        let began = &told[..kept.len() - 10];
        let want = [
            (3 * SECOND, Kind::TcpIngress),
            (3 * SECOND + 1, Kind::GReady),
            (3 * SECOND + 2, Kind::GRun),
            (3 * SECOND + 3, Kind::HttpHead),
        ];
        assert_eq!(began, want, "not what is a second and more before it");
        assert!(kept.is_sorted_by_key(|e| e.at));
    }

    #[test]
    fn one_request_is_found_by_its_text() {
        let mut events = trace();
        let text = event(3 * SECOND + 3, Kind::HttpText, SLOW, 0);
        events.insert(5, text.with_text(b"/hello?abcde HTTP"));
        let kept = of_request(&events, "hello?abcde");
        assert!(kept.iter().all(|e| e.flow == SLOW || e.actor.g == 7));
        let kinds: Vec<_> = kept.iter().map(|e| e.kind).collect();
        assert!(kinds.contains(&Kind::GRun) && kinds.ends_with(&[Kind::HttpHandler]));
        assert_eq!(kept[0].at.0, 3 * SECOND);
        assert_eq!(of_request(&events, "hello?other"), []);
    }

    #[test]
    fn nothing_earlier_is_kept_where_all_began_late() {
        let mut events = trace();
        events.last_mut().unwrap().dur_ns = 10;
        assert_eq!(last_of(&events, 50).len(), 50);
    }
}
