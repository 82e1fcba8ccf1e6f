//! A recording as a file for Perfetto: the JSON trace event format, which
//! ui.perfetto.dev, its trace processor and chrome://tracing read.
//!
//! Tracks stand in groups, which are processes to the format: queues, flows,
//! P's, M's, goroutines. A request is a slice on its flow's track with a slice
//! for each hop inside; its handler is one on its goroutine's. Arrows join the
//! frame on the queue's track with the flow, with the handler that it woke, and
//! the handler with the frame that left.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use serde_json::{Value, json};
use wirepath::runtime::trace::{Event, Kind, fd_number};
use wirepath::see::Recording;
use wirepath::see::journey::Journey;
use wirepath::see::recording::Names;

/// The groups of tracks, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// The frames of a request that its arrow joins: on which queue, and when.
struct Frames {
    came: Option<u64>,
    left: Option<u64>,
}

struct Output<'w, W> {
    sink: &'w mut W,
    is_first: bool,
    /// Numbers and names of the tracks that have something on them. Perfetto
    /// wants a number to be one track's in all groups.
    tracks: BTreeMap<(Group, u64), (usize, String)>,
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

    fn track(&mut self, group: Group, id: u64, name: impl FnOnce() -> String) {
        let number = self.tracks.len() + 1;
        let entry = self.tracks.entry((group, id));
        entry.or_insert_with(|| (number, name()));
    }

    /// The number of a track that has been named.
    fn tid(&self, group: Group, id: u64) -> usize {
        self.tracks
            .get(&(group, id))
            .map_or(0, |(number, _)| *number)
    }

    fn slice(
        &mut self,
        at: (Group, u64),
        name: &str,
        from: u64,
        to: u64,
        args: &Value,
    ) -> io::Result<()> {
        self.put(&json!({
            "ph": "X", "name": name, "cat": "wirepath", "pid": at.0 as u8,
            "tid": self.tid(at.0, at.1), "ts": micros(from), "dur": micros(to.saturating_sub(from)), "args": args,
        }))
    }

    fn instant(&mut self, at: (Group, u64), name: &str, when: u64) -> io::Result<()> {
        self.put(&json!({
            "ph": "i", "s": "t", "name": name, "cat": "wirepath", "pid": at.0 as u8,
            "tid": self.tid(at.0, at.1), "ts": micros(when),
        }))
    }

    /// An arrow from a slice to another, by moments that lie in them.
    fn arrow(&mut self, from: (Group, u64, u64), to: (Group, u64, u64)) -> io::Result<()> {
        self.arrows += 1;
        let id = self.arrows;
        for (phase, (group, id_there, at)) in [("s", from), ("f", to)] {
            self.put(&json!({
                "ph": phase, "bp": "e", "id": id, "name": "path", "cat": "wirepath",
                "pid": group as u8, "tid": self.tid(group, id_there), "ts": micros(at),
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
                    self.flow_track(e.flow, names);
                    self.instant((Group::Flows, e.flow), e.kind.name(), e.at.0)?;
                }
                Kind::TcpWindow => {
                    self.flow_track(e.flow, names);
                    let what = if e.len == 0 {
                        "peer's window shut"
                    } else {
                        "peer's window open"
                    };
                    self.instant((Group::Flows, e.flow), what, e.at.0)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn frame(&mut self, e: &Event, from: Option<u64>, way: &str, names: &Names) -> io::Result<()> {
        let queue = queue_of(e.flow);
        let known = names.queues.get(queue as usize);
        self.track(Group::Queues, queue, || {
            known.map_or_else(|| format!("queue {queue}"), |q| q.name.clone())
        });
        let name = format!("{way} fd {}", fd_number(e.flow));
        let args = json!({ "offset": e.offset, "bytes": e.len, "frame": e.frame_len });
        let from = from.unwrap_or(e.at.0);
        self.slice((Group::Queues, queue), &name, from, e.at.0, &args)
    }

    fn flow_track(&mut self, flow: u64, names: &Names) {
        self.track(Group::Flows, flow, || {
            let peer = names.flow(flow).map_or("", |(_, peer)| peer);
            format!("fd {} {peer}", fd_number(flow))
        });
    }

    fn goroutine_track(&mut self, g: u64, names: &Names) {
        self.track(Group::Goroutines, g, || goroutine_name(g, names));
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
        self.slice((Group::Goroutines, g), what, from, to, &json!({}))?;
        if what != "running" {
            return Ok(());
        }
        let name = goroutine_name(g, names);
        for (group, number, letter) in [(Group::Ps, p, 'P'), (Group::Ms, m, 'M')] {
            if let Some(number) = number.checked_sub(1) {
                self.track(group, number.into(), || format!("{letter}{number}"));
                self.slice((group, number.into()), &name, from, to, &json!({ "g": g }))?;
            }
        }
        Ok(())
    }

    /// A request, its hops, its handler, and its arrows.
    fn request(&mut self, journey: &Journey, names: &Names) -> io::Result<()> {
        self.flow_track(journey.flow, names);
        let track = (Group::Flows, journey.flow);
        let args = json!({
            "status": journey.status, "route": journey.route, "goroutine": journey.goroutine,
            "bytes_in": journey.bytes_in, "bytes_out": journey.bytes_out,
        });
        self.slice(track, &journey.request, journey.start, journey.end, &args)?;
        for hop in &journey.hops {
            let args = json!({ "note": hop.note });
            self.slice(track, hop.kind.words(), hop.from_ns, hop.to_ns, &args)?;
        }
        self.arrows_of(journey)
    }

    fn arrows_of(&mut self, journey: &Journey) -> io::Result<()> {
        let at = |kind: Kind| journey.stages[kind as usize - 1];
        let frames = Frames {
            came: at(Kind::DriverPoll),
            left: at(Kind::DriverKick),
        };
        let queue = queue_of(journey.flow);
        let flow = (Group::Flows, journey.flow, journey.start);
        if let Some(came) = frames.came {
            self.arrow((Group::Queues, queue, came), flow)?;
        }
        let Some(run) = at(Kind::GRun).or(at(Kind::ConnRead)) else {
            return Ok(());
        };
        let goroutine = (Group::Goroutines, journey.goroutine);
        self.arrow(flow, (goroutine.0, goroutine.1, run))?;
        let written = at(Kind::ConnWrite);
        if let (Some(written), Some(left)) = (written, frames.left) {
            self.arrow(
                (goroutine.0, goroutine.1, written),
                (Group::Queues, queue, left),
            )?;
        }
        Ok(())
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
        for ((group, _), (tid, name)) in std::mem::take(&mut self.tracks) {
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
