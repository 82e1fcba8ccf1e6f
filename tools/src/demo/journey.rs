//! One request's way through the fourteen stages, told from trace events.

use std::fmt;

use serde::Serialize;
use wirepath_driver::trace::{Event, Kind};
use wirepath_driver::{Nanos, QueueInfo};

/// The events that one request owns: of each stage, the first that belongs to
/// it.
///
/// The request owns a range of its connection's stream in, and its response one
/// of the stream out. Events without a byte range
/// (readiness, scheduling) belong to it by the flow, the goroutine and the
/// order in time.
pub struct Journey {
    steps: Vec<(Kind, Option<Event>)>,
    /// When the frame with the request was first seen.
    start: Nanos,
    sees_nic_rx: bool,
    sees_nic_done: bool,
    device: String,
}

/// A stage of a journey, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The stage's number.
    #[serde(skip)]
    pub number: u8,
    /// When, since the request was first seen; None where it cannot be seen.
    pub at: Option<String>,
    /// How long after the stage before.
    pub after: Option<String>,
    /// What happened, or why that is not known.
    pub what: String,
    /// Goroutine, P and M.
    pub who: String,
}

impl Journey {
    /// Its stages, by number.
    pub fn steps(&self) -> Vec<Step> {
        let mut last = self.start;
        let mut told = Vec::with_capacity(self.steps.len());
        for (stage, event) in &self.steps {
            told.push(match event {
                None => Step {
                    number: *stage as u8,
                    at: None,
                    after: None,
                    what: self.absence(*stage),
                    who: String::new(),
                },
                Some(event) => self.step(*stage, event, &mut last),
            });
        }
        told
    }

    fn step(&self, stage: Kind, event: &Event, last: &mut Nanos) -> Step {
        // The handler's end is no step of the way: it spans 8 and 9.
        let after = (stage != Kind::HttpHandler).then(|| {
            let before = std::mem::replace(last, event.at);
            micros(event.at.0.saturating_sub(before.0))
        });
        Step {
            number: stage as u8,
            at: Some(micros(event.at.0.saturating_sub(self.start.0))),
            after,
            what: words(event),
            who: who(event),
        }
    }

    /// The journey of the request of `flow` whose first byte is at `offset` of
    /// the stream in, among `events` (by time); None when the trace does not
    /// hold it.
    pub fn of_request(
        events: &[Event],
        flow: u64,
        offset: u64,
        device: &QueueInfo,
    ) -> Option<Journey> {
        let find = |stage: Kind, from: Nanos, fits: &dyn Fn(&Event) -> bool| {
            events
                .iter()
                .find(|e| e.kind == stage && e.at >= from && fits(e))
                .copied()
        };
        let mine = |e: &Event| e.flow == flow;
        let my_bytes = |e: &Event| e.flow == flow && e.len > 0;

        let carried = |e: &Event| my_bytes(e) && e.offset == offset;
        let ingress = find(Kind::TcpIngress, Nanos::ZERO, &carried)?;
        let ready = find(Kind::FdReady, ingress.at, &mine)?;
        let g_ready = find(Kind::GReady, ready.at, &mine)?;
        let runs = |e: &Event| e.actor.g == g_ready.target();
        let read = find(Kind::ConnRead, g_ready.at, &carried)?;
        let write = find(Kind::ConnWrite, read.at, &my_bytes)?;
        let out = |e: &Event| my_bytes(e) && e.offset == write.offset;
        let at = |stage| match stage {
            Kind::NicRx | Kind::DriverPoll | Kind::FlowLookup => find(stage, Nanos::ZERO, &carried),
            Kind::TcpIngress => Some(ingress),
            Kind::FdReady => Some(ready),
            Kind::GReady => Some(g_ready),
            Kind::GRun => find(stage, g_ready.at, &runs),
            Kind::ConnRead => Some(read),
            Kind::ConnWrite => Some(write),
            Kind::TcpSegment | Kind::NicTx | Kind::DriverKick | Kind::NicDone => {
                find(stage, write.at, &out)
            }
            Kind::HttpHandler => find(stage, read.at, &mine),
            _ => None,
        };
        let steps: Vec<_> = Kind::STAGES
            .iter()
            .map(|stage| (*stage, at(*stage)))
            .collect();
        let start = steps.iter().find_map(|(_, event)| event.map(|e| e.at))?;
        Some(Journey {
            steps,
            start,
            sees_nic_rx: device.sees_nic_rx,
            sees_nic_done: device.sees_nic_done,
            device: device.name.clone(),
        })
    }

    /// The journey whose stages were at these times, nanoseconds, by number less
    /// one, in a trace.
    pub fn of_times(
        events: &[Event],
        times: &[Option<u64>; 14],
        start: u64,
        device: &QueueInfo,
    ) -> Journey {
        let find = |stage: Kind, at: u64| events.iter().find(|e| e.kind == stage && e.at.0 == at);
        let steps = Kind::STAGES.iter().zip(times);
        Journey {
            steps: steps
                .map(|(&stage, at)| (stage, at.and_then(|at| find(stage, at).copied())))
                .collect(),
            start: Nanos(start),
            sees_nic_rx: device.sees_nic_rx,
            sees_nic_done: device.sees_nic_done,
            device: device.name.clone(),
        }
    }

    /// Why a stage has no event.
    fn absence(&self, stage: Kind) -> String {
        let kind = self.device.split(' ').next().unwrap_or("device");
        let kind = if kind == "tap" { "a TAP" } else { kind };
        match stage {
            Kind::NicRx if !self.sees_nic_rx => {
                format!("not visible on {kind}: a frame is first seen when read(2) returns it")
            }
            Kind::NicDone if !self.sees_nic_done => {
                format!("not visible on {kind}: write(2) is kick and completion in one")
            }
            _ => "not in the trace".to_owned(),
        }
    }
}

/// What a stage did, in a few words.
fn words(event: &Event) -> String {
    let bytes = |what: &str| {
        let end = event.offset + u64::from(event.len);
        format!("bytes {}..{end} {what}", event.offset)
    };
    match event.kind {
        Kind::NicRx => format!("frame of {} bytes in the RX ring", event.frame_len),
        Kind::DriverPoll => format!("frame of {} bytes taken off the ring", event.frame_len),
        Kind::FlowLookup => format!("4-tuple is fd {}", event.fd_number()),
        Kind::TcpIngress => bytes("of the stream processed by smoltcp"),
        Kind::FdReady => format!(
            "fd {} readable, {} bytes queued",
            event.fd_number(),
            event.len
        ),
        Kind::GReady => format!("netpoll made goroutine {} runnable", event.target()),
        Kind::GRun => "picked and run".to_owned(),
        Kind::ConnRead => bytes("copied to the goroutine"),
        Kind::ConnWrite => bytes("into the send buffer"),
        Kind::TcpSegment => bytes("cut into a segment"),
        Kind::NicTx => format!("frame of {} bytes in the TX ring", event.frame_len),
        Kind::DriverKick => format!("frame of {} bytes handed to the device", event.frame_len),
        Kind::NicDone => format!("frame of {} bytes back in the pool", event.frame_len),
        Kind::HttpHandler => {
            format!(
                "from head parsed to last byte written: {}",
                micros(event.dur_ns)
            )
        }
        other => other.name().to_owned(),
    }
}

fn micros(ns: u64) -> String {
    format!("{}.{:01} µs", ns / 1_000, ns % 1_000 / 100)
}

/// Who ran: goroutine, P and M, as far as known.
fn who(event: &Event) -> String {
    let actor = event.actor;
    let part = |letter: char, n: u64| {
        if n == 0 {
            "-".to_owned()
        } else {
            format!("{letter}{n}")
        }
    };
    // P and M count from 0, and 0 in a trace says «none».
    let small = |letter: char, n: u16| match n.checked_sub(1) {
        Some(n) => format!("{letter}{n}"),
        None => "-".to_owned(),
    };
    format!(
        "{:<5}{:<4}{:<4}",
        part('G', actor.g),
        small('P', actor.p),
        small('M', actor.m)
    )
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "     {:<13}{:>11}{:>11}   {:<13}",
            "stage", "at", "step", "G    P   M"
        )?;
        for (step, (stage, _)) in self.steps().iter().zip(&self.steps) {
            let after = step
                .after
                .as_ref()
                .map_or(String::new(), |after| format!("+{after}"));
            let (at, who) = (step.at.as_deref().unwrap_or_default(), &step.who);
            write!(f, "{:>3}  {:<13}", step.number, stage.name())?;
            writeln!(f, "{at:>11}{after:>11}   {who:<13}{}", step.what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirepath_driver::trace::Actor;

    const FLOW: u64 = 1 << 32 | 3;

    fn info(sees: bool) -> QueueInfo {
        QueueInfo {
            name: "TAP wp0".into(),
            mtu: 1500,
            sees_nic_rx: sees,
            sees_nic_done: sees,
        }
    }

    fn events() -> Vec<Event> {
        let g = Actor { g: 7, p: 1, m: 1 };
        let on = |at, stage| Event::new(Nanos(at), stage, FLOW);
        vec![
            // The handshake: no bytes of the stream.
            on(1_000, Kind::DriverPoll),
            on(1_100, Kind::TcpIngress),
            // Somebody else.
            Event::new(Nanos(1_500), Kind::TcpIngress, 99).bytes(0, 5),
            on(2_000, Kind::DriverPoll).bytes(0, 80).frame(134),
            on(2_200, Kind::FlowLookup).bytes(0, 80),
            on(2_700, Kind::TcpIngress).bytes(0, 80),
            on(2_900, Kind::FdReady),
            on(3_000, Kind::GReady).to(7),
            Event {
                actor: g,
                ..Event::new(Nanos(3_200), Kind::GRun, 0)
            },
            Event {
                actor: g,
                ..on(3_400, Kind::ConnRead).bytes(0, 80)
            },
            Event {
                actor: g,
                ..on(4_400, Kind::ConnWrite).bytes(0, 130)
            },
            Event {
                actor: g,
                dur_ns: 900,
                ..on(4_500, Kind::HttpHandler)
            },
            on(5_000, Kind::TcpSegment).bytes(0, 130),
            on(5_100, Kind::NicTx).bytes(0, 130).frame(184),
            on(9_100, Kind::DriverKick).bytes(0, 130).frame(184),
        ]
    }

    #[test]
    fn a_journey_owns_its_events_and_invents_none() {
        let journey = Journey::of_request(&events(), FLOW, 0, &info(false)).unwrap();
        assert_eq!(journey.start, Nanos(2_000));
        let ingress = journey.steps[3].1.expect("an event of tcp.ingress");
        assert_eq!(ingress.at, Nanos(2_700));
        let text = journey.to_string();
        assert!(
            text.contains("not visible on TAP: a frame is first seen"),
            "{text}"
        );
        assert!(
            text.contains("write(2) is kick and completion in one"),
            "{text}"
        );
        assert!(text.contains("G7   P0  M0"), "{text}");
        assert!(text.contains("+4.0 µs"), "{text}");
        assert_eq!(text.lines().count(), 15);
    }

    #[test]
    fn a_flow_without_a_request_has_no_journey() {
        assert!(Journey::of_request(&events()[..2], FLOW, 0, &info(true)).is_none());
        assert!(Journey::of_request(&events(), 5, 0, &info(true)).is_none());
        assert!(Journey::of_request(&events(), FLOW, 80, &info(true)).is_none());
    }
}
