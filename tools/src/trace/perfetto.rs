//! A recording as a file for Perfetto: the JSON trace event format, which
//! ui.perfetto.dev, its trace processor and chrome://tracing read.
//!
//! Tracks stand in groups, which are processes to the format: queues, flows,
//! P's, M's, goroutines. A request is a slice on its flow's track with a slice
//! for each hop inside; its handler is one on its goroutine's. Arrows join the
//! frame on the queue's track with the flow, with the handler that it woke, and
//! the handler with the frame that left.
//!
//! The format asks that slices of a track nest, and viewers drop those that do
//! not. Frames of one batch overlap, and so do pipelined requests: what overlaps
//! goes to another track of the same name with a number, a lane.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use serde_json::{Value, json};
use wirepath::runtime::trace::{Event, Kind, fd_number};
use wirepath::see::Recording;
use wirepath::see::journey::Journey;
use wirepath::see::recording::Names;

/// The groups of tracks, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Group {
    Queues = 1,
    Flows = 2,
    Ps = 3,
    Ms = 4,
    Goroutines = 5,
}

impl Group {
    const ALL: [(Group, &str); 5] = [
        (Group::Queues, "queues"),
        (Group::Flows, "flows"),
        (Group::Ps, "P's"),
        (Group::Ms, "M's"),
        (Group::Goroutines, "goroutines"),
    ];
}

/// A track: of which group, of what in it, and which lane.
type Track = (Group, u64, usize);

/// Where the slice of a frame is, and when it begins.
type Drawn = (Track, u64);

struct Output<'w, W> {
    sink: &'w mut W,
    is_first: bool,
    /// Numbers and names of the tracks that have something on them. Perfetto
    /// wants a number to be one track's in all groups.
    tracks: BTreeMap<Track, (usize, String)>,
    /// When the last slice of each lane ended.
    lanes: HashMap<(Group, u64), Vec<u64>>,
    /// The frames by their queue and when they came, and when they left.
    came: HashMap<(u64, u64), Drawn>,
    left: HashMap<(u64, u64), Drawn>,
    arrows: u64,
}

/// Writes a recording and its requests.
pub fn write(recording: &Recording, told: &[Journey], sink: &mut impl Write) -> io::Result<()> {
    let names = recording.names();
    sink.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")?;
    let mut out = Output {
        sink,
        is_first: true,
        tracks: BTreeMap::new(),
        lanes: HashMap::new(),
        came: HashMap::new(),
        left: HashMap::new(),
        arrows: 0,
    };
    out.frames(&recording.events, &names)?;
    out.goroutines(&recording.events, &names)?;
    for journey in told {
        out.request(journey, &names)?;
    }
    out.name_tracks()?;
    let other = json!({ "pid": recording.meta.pid, "why": recording.meta.why });
    write!(out.sink, "\n],\"otherData\":{other}}}\n")
}

/// The queue that a flow's frames use: its shard, of which an identity has the
/// number above the slot's.
fn queue_of(flow: u64) -> u64 {
    flow >> 24 & 0xff
}

/// The format's times are microseconds.
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

impl<W: Write> Output<'_, W> {
    fn put(&mut self, event: &Value) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.sink.write_all(b",\n")?;
        }
        Ok(serde_json::to_writer(&mut *self.sink, event)?)
    }

    fn track(&mut self, track: Track, name: impl FnOnce() -> String) {
        let number = self.tracks.len() + 1;
        let entry = self.tracks.entry(track);
        entry.or_insert_with(|| match track.2 {
            0 => (number, name()),
            lane => (number, format!("{} ({})", name(), lane + 1)),
        });
    }

    /// A lane in which a slice overlaps no other. Slices come by their ends.
    fn lane(&mut self, group: Group, id: u64, from: u64, to: u64) -> Track {
        let ends = self.lanes.entry((group, id)).or_default();
        let free = ends.iter().position(|end| *end <= from);
        let lane = free.unwrap_or(ends.len());
        ends.resize(ends.len().max(lane + 1), 0);
        ends[lane] = to;
        (group, id, lane)
    }

    /// The number of a track that has been named.
    fn tid(&self, track: Track) -> usize {
        self.tracks.get(&track).map_or(0, |(number, _)| *number)
    }

    fn slice(&mut self, at: Track, name: &str, from: u64, to: u64, args: &Value) -> io::Result<()> {
        self.put(&json!({
            "ph": "X", "name": name, "cat": "wirepath", "pid": at.0 as u8,
            "tid": self.tid(at), "ts": micros(from), "dur": micros(to.saturating_sub(from)), "args": args,
        }))
    }

    fn instant(&mut self, at: Track, name: &str, when: u64) -> io::Result<()> {
        self.put(&json!({
            "ph": "i", "s": "t", "name": name, "cat": "wirepath", "pid": at.0 as u8,
            "tid": self.tid(at), "ts": micros(when),
        }))
    }

    /// An arrow from a slice to another, by moments that lie in them.
    fn arrow(&mut self, from: Drawn, to: Drawn) -> io::Result<()> {
        self.arrows += 1;
        let id = self.arrows;
        for (phase, (track, at)) in [("s", from), ("f", to)] {
            self.put(&json!({
                "ph": phase, "bp": "e", "id": id, "name": "path", "cat": "wirepath",
                "pid": track.0 as u8, "tid": self.tid(track), "ts": micros(at),
            }))?;
        }
        Ok(())
    }

    /// The frames of each queue, and what is out of the ordinary about a flow.
    fn frames(&mut self, events: &[Event], names: &Names) -> io::Result<()> {
        let mut polled: HashMap<(u64, u64, u32), u64> = HashMap::new();
        let mut cut: HashMap<(u64, u64, u32), u64> = HashMap::new();
        for e in events.iter().filter(|e| e.flow != 0) {
            let key = (e.flow, e.offset, e.len);
            match e.kind {
                Kind::DriverPoll => drop(polled.insert(key, e.at.0)),
                Kind::TcpSegment => drop(cut.insert(key, e.at.0)),
                Kind::TcpIngress => self.frame(e, polled.remove(&key), "in", names)?,
                Kind::DriverKick => self.frame(e, cut.remove(&key), "out", names)?,
                Kind::TcpRetransmit | Kind::TcpGap | Kind::TcpRepeat | Kind::TcpReset => {
                    self.flow_track((Group::Flows, e.flow, 0), names);
                    self.instant((Group::Flows, e.flow, 0), e.kind.name(), e.at.0)?;
                }
                Kind::TcpWindow => {
                    self.flow_track((Group::Flows, e.flow, 0), names);
                    let what = if e.len == 0 {
                        "peer's window shut"
                    } else {
                        "peer's window open"
                    };
                    self.instant((Group::Flows, e.flow, 0), what, e.at.0)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn frame(&mut self, e: &Event, from: Option<u64>, way: &str, names: &Names) -> io::Result<()> {
        let queue = queue_of(e.flow);
        let known = names.queues.get(queue as usize);
        let from = from.unwrap_or(e.at.0);
        let track = self.lane(Group::Queues, queue, from, e.at.0);
        self.track(track, || {
            known.map_or_else(|| format!("queue {queue}"), |q| q.name.clone())
        });
        let name = format!("{way} fd {}", fd_number(e.flow));
        let args = json!({ "offset": e.offset, "bytes": e.len, "frame": e.frame_len });
        self.came.insert((queue, from), (track, from));
        self.left.insert((queue, e.at.0), (track, from));
        self.slice(track, &name, from, e.at.0, &args)
    }

    fn flow_track(&mut self, track: Track, names: &Names) {
        let flow = track.1;
        self.track(track, || {
            let peer = names.flow(flow).map_or("", |(_, peer)| peer);
            format!("fd {} {peer}", fd_number(flow))
        });
    }

    fn goroutine_track(&mut self, g: u64, names: &Names) {
        self.track((Group::Goroutines, g, 0), || goroutine_name(g, names));
    }

    /// What each goroutine did, and who ran on each P and M.
    fn goroutines(&mut self, events: &[Event], names: &Names) -> io::Result<()> {
        // Of each goroutine what it does, since when, and on which P and M.
        let mut doing: HashMap<u64, (String, u64, u16, u16)> = HashMap::new();
        for e in events {
            let (g, next) = match e.kind {
                Kind::GRun | Kind::GoUnblocked => (e.actor.g, Some("running".to_owned())),
                Kind::GReady | Kind::GoUnblock => (e.target(), Some("runnable".to_owned())),
                Kind::GoYield => (e.actor.g, Some("runnable".to_owned())),
                Kind::GoBlock => (e.actor.g, Some(names.label(e.label()).to_owned())),
                Kind::GoBlocking => (e.actor.g, Some("blocking".to_owned())),
                Kind::GoEnd => (e.actor.g, None),
                _ => continue,
            };
            let before = match next {
                Some(next) => doing.insert(g, (next, e.at.0, e.actor.p, e.actor.m)),
                None => doing.remove(&g),
            };
            if let Some((what, since, p, m)) = before {
                self.did(g, &what, since, e.at.0, (p, m), names)?;
            }
        }
        let end = events.last().map_or(0, |e| e.at.0);
        for (g, (what, since, p, m)) in doing {
            self.did(g, &what, since, end, (p, m), names)?;
        }
        Ok(())
    }

    fn did(
        &mut self,
        g: u64,
        what: &str,
        from: u64,
        to: u64,
        (p, m): (u16, u16),
        names: &Names,
    ) -> io::Result<()> {
        self.goroutine_track(g, names);
        self.slice((Group::Goroutines, g, 0), what, from, to, &json!({}))?;
        if what != "running" {
            return Ok(());
        }
        let name = goroutine_name(g, names);
        for (group, number, letter) in [(Group::Ps, p, 'P'), (Group::Ms, m, 'M')] {
            if let Some(number) = number.checked_sub(1) {
                let track = (group, number.into(), 0);
                self.track(track, || format!("{letter}{number}"));
                self.slice(track, &name, from, to, &json!({ "g": g }))?;
            }
        }
        Ok(())
    }

    /// A request, its hops, its handler, and its arrows.
    fn request(&mut self, journey: &Journey, names: &Names) -> io::Result<()> {
        let track = self.lane(Group::Flows, journey.flow, journey.start, journey.end);
        self.flow_track(track, names);
        let args = json!({
            "status": journey.status, "route": journey.route, "goroutine": journey.goroutine,
            "bytes_in": journey.bytes_in, "bytes_out": journey.bytes_out,
        });
        self.slice(track, &journey.request, journey.start, journey.end, &args)?;
        for hop in &journey.hops {
            let args = json!({ "note": hop.note });
            self.slice(track, hop.kind.words(), hop.from_ns, hop.to_ns, &args)?;
        }
        self.arrows_of(journey, track)
    }

    /// Joins what has been drawn of a request: an arrow binds to the slice that
    /// its moment lies in.
    fn arrows_of(&mut self, journey: &Journey, track: Track) -> io::Result<()> {
        let at = |kind: Kind| journey.stages[kind as usize - 1];
        let queue = queue_of(journey.flow);
        let came = at(Kind::DriverPoll).and_then(|at| self.came.get(&(queue, at)).copied());
        let left = at(Kind::DriverKick).and_then(|at| self.left.get(&(queue, at)).copied());
        let flow = (track, journey.start);
        if let Some(came) = came {
            self.arrow(came, flow)?;
        }
        let goroutine = (Group::Goroutines, journey.goroutine, 0);
        let run = at(Kind::GRun).or(at(Kind::ConnRead));
        let Some(run) = run.filter(|_| self.tracks.contains_key(&goroutine)) else {
            return Ok(());
        };
        self.arrow(flow, (goroutine, run))?;
        match (at(Kind::ConnWrite), left) {
            (Some(written), Some(left)) => self.arrow((goroutine, written), left),
            _ => Ok(()),
        }
    }

    fn name_tracks(&mut self) -> io::Result<()> {
        for (group, name) in Group::ALL {
            let pid = group as u8;
            self.put(
                &json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": name } }),
            )?;
            self.put(&json!({
                "ph": "M", "name": "process_sort_index", "pid": pid, "args": { "sort_index": pid },
            }))?;
        }
        for ((group, ..), (tid, name)) in std::mem::take(&mut self.tracks) {
            self.put(&json!({
                "ph": "M", "name": "thread_name", "pid": group as u8, "tid": tid,
                "args": { "name": name },
            }))?;
        }
        Ok(())
    }
}

/// `G7 server.rs:245`, or by its name.
fn goroutine_name(g: u64, names: &Names) -> String {
    let Some(known) = names.goroutine(g) else {
        return format!("G{g}");
    };
    let site = known.site.rsplit('/').next().unwrap_or(&known.site);
    format!("G{g} {}", known.name.as_deref().unwrap_or(site))
}

#[cfg(test)]
mod tests {
    use wirepath::runtime::Nanos;

    use super::*;

    const FLOW: u64 = 1 << 32 | 3;

    fn frame_in(at: u64, offset: u64, kind: Kind) -> Event {
        Event::new(Nanos(at), kind, FLOW).bytes(offset, 10)
    }

    fn request(start: u64, end: u64, offset: u64) -> Journey {
        Journey {
            flow: FLOW,
            fd: 3,
            nth: None,
            offset,
            request: "GET /".to_owned(),
            route: "GET /{$}".to_owned(),
            status: 200,
            bytes_in: 10,
            bytes_out: 10,
            peer: String::new(),
            goroutine: 7,
            start,
            end,
            hops: Vec::new(),
            stages: [None; 14],
        }
    }

    /// The slices of each track, by number, in whole nanoseconds.
    fn slices(json: &Value) -> BTreeMap<u64, Vec<(u64, u64)>> {
        let mut all: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        let events = json["traceEvents"].as_array().unwrap();
        for e in events.iter().filter(|e| e["ph"] == "X") {
            let ns = |field: &str| (e[field].as_f64().unwrap() * 1e3).round() as u64;
            let slices = all.entry(e["tid"].as_u64().unwrap()).or_default();
            slices.push((ns("ts"), ns("ts") + ns("dur")));
        }
        all
    }

    #[test]
    fn frames_of_a_batch_and_pipelined_requests_do_not_overlap_on_a_track() {
        // Two frames are polled before the first is in its buffer.
        let events = vec![
            frame_in(1_000, 0, Kind::DriverPoll),
            frame_in(1_100, 10, Kind::DriverPoll),
            frame_in(1_500, 0, Kind::TcpIngress),
            frame_in(1_600, 10, Kind::TcpIngress),
            frame_in(2_000, 20, Kind::DriverPoll),
            frame_in(2_100, 20, Kind::TcpIngress),
        ];
        let recording = Recording {
            meta: wirepath::see::recording::Meta::default(),
            events,
            frames: None,
        };
        let mut second = request(1_100, 4_000, 10);
        second.stages[Kind::DriverPoll as usize - 1] = Some(1_100);
        let told = [request(1_000, 3_000, 0), second, request(5_000, 6_000, 20)];
        let mut out = Vec::new();
        write(&recording, &told, &mut out).unwrap();
        let json: Value = serde_json::from_slice(&out).unwrap();
        let tracks: Vec<_> = slices(&json).into_values().collect();
        assert_eq!(
            tracks,
            [
                vec![(1_000, 1_500), (2_000, 2_100)],
                vec![(1_100, 1_600)],
                vec![(1_000, 3_000), (5_000, 6_000)],
                vec![(1_100, 4_000)],
            ]
        );
        // The arrow leaves from the lane in which the second frame is.
        let events = json["traceEvents"].as_array().unwrap();
        let of = |phase: &str| events.iter().find(|e| e["ph"] == phase).unwrap()["tid"].clone();
        assert_eq!((of("s"), of("f")), (2.into(), 4.into()));
        let second_lane = |e: &&Value| e["args"]["name"] == "queue 0 (2)";
        assert_eq!(events.iter().filter(second_lane).count(), 1);
    }
}
