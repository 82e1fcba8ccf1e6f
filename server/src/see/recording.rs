//! A recording: what the flight recorder of a process held at a moment, in a
//! file.
//!
//! The file is a line that names the format, a line of JSON ([`Meta`]) that says
//! what follows and what the numbers in it mean, the events as words of 8 bytes,
//! least significant first ([`Event::encode`]), and perhaps frames as a pcapng
//! file. Whoever cannot read the events can still read the second line.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use wirepath_runtime::Handle;
use wirepath_runtime::clock;
use wirepath_runtime::trace::{self, EVENT_WORDS, Event, Kind, Label};

/// The first line of a recording.
const MAGIC: &str = "wirepath-trace 1\n";
/// Bytes of the second line at most: labels, goroutines and flows have bounds.
const MAX_META_BYTES: u64 = 256 << 20;
/// Events of a recording at most: 14 GiB of them.
const MAX_EVENTS: u64 = 1 << 28;
/// Bytes of frames at most.
const MAX_FRAME_BYTES: u64 = 16 << 30;
/// Goroutines that are named at most.
const MOST_GOROUTINES: usize = 100_000;
/// Flows whose addresses are told at most, besides those that the events tell.
const MOST_FLOWS: usize = 100_000;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first line is another.
    #[error("this is no recording of wirepath, or one of another version: its first line is {0:?}")]
    Magic(String),
    /// The second line is not what it should be.
    #[error("the recording's second line cannot be understood: {0}")]
    Meta(String),
    /// A number in it is out of all proportion.
    #[error("the recording claims {what} {claimed}, more than the {most} that one can have")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        claimed: u64,
        /// How many it may be.
        most: u64,
    },
    /// It ends too early.
    #[error("the recording ends after {got} of {claimed} {what}; it was not written whole")]
    Short {
        /// Of what.
        what: &'static str,
        /// How many there are.
        got: u64,
        /// How many there should be.
        claimed: u64,
    },
    /// Reading failed.
    #[error("the recording cannot be read")]
    Io(#[from] io::Error),
}

/// What a recording is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The process.
    pub pid: u32,
    /// Why it was taken: `asked`, `latency`, ….
    pub why: String,
    /// When, on the clock of the events, nanoseconds.
    pub taken_ns: u64,
    /// What to add to a time for nanoseconds since the Unix epoch.
    pub wall_offset_ns: u64,
    /// Events that follow.
    pub events: u64,
    /// Events that were overwritten before.
    pub lost: u64,
    /// Bytes of frames that follow, as pcapng.
    pub frame_bytes: u64,
    /// What events name by number: that of n is at n - 1.
    pub labels: Vec<String>,
    /// Goroutines.
    pub goroutines: Vec<GoroutineName>,
    /// Flows, besides those whose opening is among the events.
    pub flows: Vec<FlowName>,
    /// Queues; none over the kernel's sockets.
    pub queues: Vec<QueueName>,
}

/// A goroutine that lived when the recording was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GoroutineName {
    /// Its number.
    pub g: u64,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it was started.
    pub site: String,
}

/// A flow that was open when the recording was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowName {
    /// Its identity.
    pub flow: u64,
    /// Our address.
    pub local: String,
    /// The peer's.
    pub peer: String,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueName {
    /// As `tap wp0 queue 0`.
    pub name: String,
    /// Whether it tells when a frame came into its ring.
    pub sees_nic_rx: bool,
    /// Whether it tells the TX ring, the kick and the completion apart.
    pub sees_nic_done: bool,
}

/// What the numbers of events mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    labels: Vec<String>,
    goroutines: HashMap<u64, GoroutineName>,
    flows: HashMap<u64, (String, String)>,
    /// The queues.
    pub queues: Vec<QueueName>,
}

impl Names {
    /// Of this process, of whose rings `events` are.
    pub fn of(events: &[Event], runtime: &Handle) -> Names {
        Names::new(events, &meta_of(runtime))
    }

    /// As a recording has them.
    pub fn new(events: &[Event], meta: &Meta) -> Names {
        let mut names = Names {
            labels: meta.labels.clone(),
            goroutines: meta.goroutines.iter().map(|g| (g.g, g.clone())).collect(),
            flows: HashMap::new(),
            queues: meta.queues.clone(),
        };
        for flow in &meta.flows {
            let addrs = (flow.local.clone(), flow.peer.clone());
            names.flows.insert(flow.flow, addrs);
        }
        for e in events {
            names.learn(e);
        }
        names
    }

    fn learn(&mut self, e: &Event) {
        match e.kind {
            Kind::FlowOpen => {
                let (local, peer) = e.addrs();
                let addrs = (local.to_string(), peer.to_string());
                self.flows.insert(e.flow, addrs);
            }
            Kind::GoCreate if !self.goroutines.contains_key(&e.target()) => {
                let site = self.label(e.label()).to_owned();
                let name = GoroutineName {
                    g: e.target(),
                    name: None,
                    site,
                };
                self.goroutines.insert(e.target(), name);
            }
            _ => {}
        }
    }

    /// What a label stands for; empty for none.
    pub fn label(&self, label: Label) -> &str {
        let at = usize::from(label.0).checked_sub(1);
        at.and_then(|at| self.labels.get(at))
            .map_or("", String::as_str)
    }

    /// A goroutine, if it is known.
    pub fn goroutine(&self, g: u64) -> Option<&GoroutineName> {
        self.goroutines.get(&g)
    }

    /// Our address and the peer's, if they are known.
    pub fn flow(&self, flow: u64) -> Option<(&str, &str)> {
        let (local, peer) = self.flows.get(&flow)?;
        Some((local, peer))
    }

    /// Whether all queues tell when a frame came into their rings.
    pub fn sees_nic_rx(&self) -> bool {
        self.queues.iter().all(|q| q.sees_nic_rx)
    }

    /// Whether all queues tell kick and completion apart.
    pub fn sees_nic_done(&self) -> bool {
        self.queues.iter().all(|q| q.sees_nic_done)
    }
}

/// The meaning of this process's numbers.
fn meta_of(runtime: &Handle) -> Meta {
    let goroutines = runtime.look_at_goroutines(MOST_GOROUTINES).list;
    let (flows, _) = runtime.look_at_flows(MOST_FLOWS);
    let queues = runtime.look_at_queues();
    Meta {
        pid: std::process::id(),
        taken_ns: clock::now().0,
        wall_offset_ns: clock::wall_offset_ns(),
        labels: trace::labels().iter().map(ToString::to_string).collect(),
        goroutines: goroutines
            .iter()
            .map(|g| GoroutineName {
                g: g.g,
                name: g.name.as_deref().map(str::to_owned),
                site: format!("{}:{}", g.site.file(), g.site.line()),
            })
            .collect(),
        flows: flows
            .iter()
            .map(|flow| FlowName {
                flow: flow.fd.raw(),
                local: flow.info.local.to_string(),
                peer: flow.info.peer.to_string(),
            })
            .collect(),
        queues: queues
            .iter()
            .map(|queue| QueueName {
                name: queue.queue.clone(),
                sees_nic_rx: queue.sees_nic_rx,
                sees_nic_done: queue.sees_nic_done,
            })
            .collect(),
        ..Meta::default()
    }
}

/// What a flight recorder held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// What it is about.
    pub meta: Meta,
    /// By time.
    pub events: Vec<Event>,
    /// A pcapng file with the last frames, if they were asked for.
    pub frames: Option<Vec<u8>>,
}

impl Recording {
    /// Of this process, now. `why` is one of those in [`Meta::why`].
    pub fn take(runtime: &Handle, why: &str) -> Recording {
        let snapshot = trace::snapshot();
        let meta = Meta {
            why: why.to_owned(),
            lost: snapshot.lost,
            events: snapshot.events.len() as u64,
            ..meta_of(runtime)
        };
        Recording {
            meta,
            events: snapshot.events,
            frames: None,
        }
    }

    /// With the last frames, as a pcapng file.
    #[must_use]
    pub fn with_frames(mut self, frames: Vec<u8>) -> Recording {
        self.meta.frame_bytes = frames.len() as u64;
        self.frames = Some(frames);
        self
    }

    /// What its numbers mean.
    pub fn names(&self) -> Names {
        Names::new(&self.events, &self.meta)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write(&self, sink: &mut impl Write) -> io::Result<()> {
        sink.write_all(MAGIC.as_bytes())?;
        serde_json::to_writer(&mut *sink, &self.meta)?;
        sink.write_all(b"\n")?;
        let mut block = Vec::with_capacity(64 << 10);
        for events in self.events.chunks(1024) {
            block.clear();
            let words = events.iter().flat_map(Event::encode);
            words.for_each(|word| block.extend_from_slice(&word.to_le_bytes()));
            sink.write_all(&block)?;
        }
        sink.write_all(self.frames.as_deref().unwrap_or_default())
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.write(&mut bytes);
        written.expect("a vector takes everything, and the meta line is of plain types");
        bytes
    }

    /// Reads one. Events of kinds that this version does not know are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(source: impl Read) -> Result<Recording, ReadError> {
        let mut source = BufReader::new(source);
        let magic = line(&mut source, MAGIC.len() as u64)?;
        if magic != MAGIC.as_bytes() {
            let magic = String::from_utf8_lossy(&magic).trim_end().to_owned();
            return Err(ReadError::Magic(magic));
        }
        let text = line(&mut source, MAX_META_BYTES)?;
        let meta: Meta =
            serde_json::from_slice(&text).map_err(|e| ReadError::Meta(e.to_string()))?;
        bound("events", meta.events, MAX_EVENTS)?;
        bound("bytes of frames", meta.frame_bytes, MAX_FRAME_BYTES)?;
        let events = read_events(&mut source, meta.events)?;
        let frames = match meta.frame_bytes {
            0 => None,
            len => Some(read_frames(source, len)?),
        };
        Ok(Recording {
            meta,
            events,
            frames,
        })
    }
}

/// A line with its end, of `most` bytes at most.
fn line(source: &mut impl BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    source.take(most).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn bound(what: &'static str, claimed: u64, most: u64) -> Result<(), ReadError> {
    if claimed > most {
        return Err(ReadError::TooLarge {
            what,
            claimed,
            most,
        });
    }
    Ok(())
}

/// Memory is taken as events come, whatever their number is said to be.
fn read_events(source: &mut impl Read, claimed: u64) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    let mut block = [0; 8 * EVENT_WORDS];
    for got in 0..claimed {
        match source.read_exact(&mut block) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let what = "events";
                return Err(ReadError::Short { what, got, claimed });
            }
            Err(e) => return Err(e.into()),
        }
        let (words, _) = block.as_chunks::<8>();
        let words = std::array::from_fn(|i| u64::from_le_bytes(words[i]));
        events.extend(Event::decode(words));
    }
    Ok(events)
}

fn read_frames(source: impl Read, claimed: u64) -> Result<Vec<u8>, ReadError> {
    let mut frames = Vec::new();
    source.take(claimed).read_to_end(&mut frames)?;
    let got = frames.len() as u64;
    if got < claimed {
        let what = "bytes of frames";
        return Err(ReadError::Short { what, got, claimed });
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use wirepath_runtime::Nanos;

    use super::*;

    fn recording() -> Recording {
        let local = "192.0.2.1:80".parse().unwrap();
        let peer = "192.0.2.7:50000".parse().unwrap();
        let events = vec![
            Event::new(Nanos(5), Kind::FlowOpen, 9).with_addrs(local, peer),
            Event::new(Nanos(6), Kind::GoCreate, 0)
                .to(4)
                .labelled(Label(1)),
            Event::new(Nanos(7), Kind::TcpIngress, 9)
                .bytes(3, 4)
                .frame(60),
        ];
        let meta = Meta {
            pid: 12,
            why: "asked".to_owned(),
            events: events.len() as u64,
            labels: vec!["src/main.rs:7".to_owned()],
            ..Meta::default()
        };
        let recording = Recording {
            meta,
            events,
            frames: None,
        };
        recording.with_frames(b"frames".to_vec())
    }

    #[test]
    fn a_recording_is_read_as_it_was_written() {
        let recording = recording();
        let read = Recording::read(&recording.to_bytes()[..]).unwrap();
        assert_eq!(read, recording);
        let names = read.names();
        assert_eq!(names.flow(9), Some(("192.0.2.1:80", "192.0.2.7:50000")));
        assert_eq!(names.goroutine(4).unwrap().site, "src/main.rs:7");
        assert_eq!(names.label(Label(2)), "");
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let bytes = recording().to_bytes();
        for len in 0..bytes.len() {
            let error = Recording::read(&bytes[..len]).unwrap_err();
            assert!(!error.to_string().is_empty(), "{len}");
        }
        let cut = Recording::read(&bytes[..bytes.len() - 7]).unwrap_err();
        let says = "the recording ends after 2 of 3 events; it was not written whole";
        assert_eq!(cut.to_string(), says);
        let cut = Recording::read(&bytes[..bytes.len() - 1]).unwrap_err();
        assert!(cut.to_string().contains("5 of 6 bytes of frames"), "{cut}");
    }

    #[test]
    fn other_files_and_wild_numbers_are_refused() {
        let says = |bytes: &[u8]| Recording::read(bytes).unwrap_err().to_string();
        assert!(says(b"\xa1\xb2\xc3\xd4 a capture").contains("no recording of wirepath"));
        assert!(says(b"wirepath-trace 2\n{}\n").contains("another version"));
        assert!(says(b"wirepath-trace 1\nnonsense\n").contains("second line"));
        let wild = b"wirepath-trace 1\n{\"events\":18446744073709551615}\n";
        assert!(says(wild).contains("claims events 18446744073709551615"));
        let many = b"wirepath-trace 1\n{\"events\":200000000}\n";
        assert!(says(many).contains("after 0 of 200000000 events"));
    }
}
