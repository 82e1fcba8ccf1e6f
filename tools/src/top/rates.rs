//! What grew between two states, for each second.
//!
//! A counter that fell belongs to a server that began anew, or to a list that
//! was cut elsewhere: its rate is 0 rather than a wrong number.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use wirepath::see::state::{Flow, Queue, State};

/// The rates between two states of one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds between the two.
    pub seconds: f64,
    /// Requests a second.
    pub requests: f64,
    /// Responses with 5xx a second.
    pub errors: f64,
    /// Connections taken in, a second.
    pub connections: f64,
    /// Of each queue, in its order.
    pub queues: Vec<QueueRates>,
    /// Requests a second of each route.
    pub routes: BTreeMap<String, f64>,
    /// Bytes a second of each flow, both ways, by its identity.
    pub flows: HashMap<u64, f64>,
    /// Goroutines that each P ran a second.
    pub procs: Vec<f64>,
    /// The scheduler's counters.
    pub sched: BTreeMap<String, f64>,
}

/// The rates of a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueRates {
    /// Frames in.
    pub rx_frames: f64,
    /// Bytes in.
    pub rx_bytes: f64,
    /// Frames out.
    pub tx_frames: f64,
    /// Bytes out.
    pub tx_bytes: f64,
    /// Frames dropped, of all causes.
    pub drops: f64,
    /// Segments sent again.
    pub retransmits: f64,
}

impl Rates {
    /// From `before` to `now`; None if they are of two servers, or no time passed.
    pub fn between(before: &State, now: &State) -> Option<Rates> {
        if before.pid != now.pid || now.at_ns <= before.at_ns {
            return None;
        }
        let seconds = (now.at_ns - before.at_ns) as f64 / 1e9;
        let rate = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        let http = |name: &str| rate(count(&before.http, name), count(&now.http, name));
        let queues = before.queues.iter().zip(&now.queues);
        let procs = before.procs.iter().zip(&now.procs);
        let sched = now.sched.iter();
        Some(Rates {
            seconds,
            requests: http("requests"),
            errors: http("responses_5xx"),
            connections: http("connections_accepted"),
            queues: queues.map(|(old, new)| queue(old, new, &rate)).collect(),
            routes: routes(before, now, &rate),
            flows: flows(before, now, &rate),
            // Ticks are u32 and wrap.
            procs: procs
                .map(|(old, new)| f64::from(new.tick.wrapping_sub(old.tick)) / seconds)
                .collect(),
            sched: sched
                .map(|(name, new)| (name.clone(), rate(count(&before.sched, name), *new)))
                .collect(),
        })
    }
}

/// A counter by its name; 0 for one that is not there.
pub fn count(list: &BTreeMap<String, u64>, name: &str) -> u64 {
    list.get(name).copied().unwrap_or_default()
}

fn queue(old: &Queue, new: &Queue, rate: &impl Fn(u64, u64) -> f64) -> QueueRates {
    QueueRates {
        rx_frames: rate(old.rx_frames, new.rx_frames),
        rx_bytes: rate(old.rx_bytes, new.rx_bytes),
        tx_frames: rate(old.tx_frames, new.tx_frames),
        tx_bytes: rate(old.tx_bytes, new.tx_bytes),
        drops: rate(old.drops.values().sum(), new.drops.values().sum()),
        retransmits: rate(old.retransmits, new.retransmits),
    }
}

fn routes(before: &State, now: &State, rate: &impl Fn(u64, u64) -> f64) -> BTreeMap<String, f64> {
    let old: BTreeMap<&str, u64> = before
        .routes
        .iter()
        .map(|route| (route.pattern.as_str(), route.count))
        .collect();
    let of_route = |pattern: &str| old.get(pattern).copied().unwrap_or_default();
    let now = now.routes.iter();
    now.map(|route| {
        (
            route.pattern.clone(),
            rate(of_route(&route.pattern), route.count),
        )
    })
    .collect()
}

/// A flow that was not listed before has no rate: what it moved may be old.
fn flows(before: &State, now: &State, rate: &impl Fn(u64, u64) -> f64) -> HashMap<u64, f64> {
    let moved = |flow: &Flow| flow.bytes_in + flow.bytes_out;
    let old: HashMap<u64, u64> = before.flows.iter().map(|f| (f.flow, moved(f))).collect();
    let of_flow = |flow: &Flow| Some((flow.flow, rate(*old.get(&flow.flow)?, moved(flow))));
    now.flows.iter().filter_map(of_flow).collect()
}

#[cfg(test)]
mod tests {
    use wirepath::see::state::{Proc, Route};

    use super::*;

    fn at(seconds: u64, requests: u64) -> State {
        State {
            pid: 7,
            at_ns: seconds * 1_000_000_000 + 1,
            http: [("requests".to_owned(), requests)].into(),
            queues: vec![Queue {
                rx_frames: requests * 2,
                drops: [("checksum".to_owned(), requests / 10)].into(),
                ..Queue::default()
            }],
            routes: vec![Route {
                pattern: "/".to_owned(),
                count: requests,
                ..Route::default()
            }],
            procs: vec![Proc {
                tick: u32::MAX.wrapping_add(requests as u32),
                ..Proc::default()
            }],
            flows: vec![Flow {
                flow: 1,
                bytes_in: requests * 100,
                ..Flow::default()
            }],
            ..State::default()
        }
    }

    #[test]
    fn what_grew_is_divided_by_the_time() {
        let rates = Rates::between(&at(10, 0), &at(12, 500)).unwrap();
        assert_eq!((rates.seconds, rates.requests), (2.0, 250.0));
        assert_eq!(rates.queues[0].rx_frames, 500.0);
        assert_eq!(rates.queues[0].drops, 25.0);
        assert_eq!(rates.routes["/"], 250.0);
        assert_eq!(rates.flows[&1], 25_000.0);
        assert_eq!(rates.procs, [250.0]);
    }

    #[test]
    fn a_counter_that_fell_has_no_rate() {
        let rates = Rates::between(&at(10, 500), &at(12, 1)).unwrap();
        assert_eq!((rates.requests, rates.routes["/"]), (0.0, 0.0));
    }

    #[test]
    fn two_servers_have_no_rates_and_nor_has_no_time() {
        let other = State {
            pid: 8,
            ..at(12, 1)
        };
        assert_eq!(Rates::between(&at(10, 0), &other), None);
        assert_eq!(Rates::between(&at(10, 0), &at(10, 5)), None);
    }

    #[test]
    fn a_flow_that_came_has_no_rate_yet() {
        let before = State {
            flows: Vec::new(),
            ..at(10, 0)
        };
        assert!(
            Rates::between(&before, &at(12, 5))
                .unwrap()
                .flows
                .is_empty()
        );
    }
}
