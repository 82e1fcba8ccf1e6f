//! `wirepath replay`: a capture's clients talk to the server once more.
//!
//! The client's packets of a capture go into a stack as from a NIC, on virtual
//! time, and a server of ours answers ([`player`]). What it sends is compared
//! with what the capture's server sent ([`tape`]). A bug report is a capture: it
//! happens again, the same each time, and can be stopped at any packet.
//!
//! What can be replayed is the connections to one port whose opening is in the
//! capture ([`plan`]); the others are named with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use jiff::tz::TimeZone;
use serde::Serialize;
use wirepath::runtime::net::Network;
use wirepath::see::Scene;

use crate::capture::filter::Filter;
use crate::failure::Failure;
use crate::inspect::flow::{Flows, When};
use crate::inspect::list::Lines;
use crate::inspect::packet::Net;
use crate::inspect::seen::Side;
use crate::trace::duration;
use crate::{goroutines, site, ss};
use frames::ETHERNET;
use plan::{Plan, Refused};
use player::Event;
use tape::{Compared, Tape};

mod acks;
mod frames;
mod plan;
mod player;
mod tape;
#[cfg(test)]
mod tests;

/// Link type of IP without a link's header.
const RAW: u32 = 101;

/// Options of `wirepath replay`.
#[derive(Args)]
pub struct Options {
    /// The capture: pcap or pcapng, also packed with gzip or zstd.
    file: PathBuf,
    /// Only packets that this filter takes, as `wirepath inspect` knows it.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// The server of the capture whose clients are replayed, where there are
    /// several.
    #[arg(long, value_name = "ADDR:PORT")]
    server: Option<SocketAddr>,
    /// Serve the files of this directory instead of the demo site, as the server
    /// of the capture did.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print every packet that goes in, and what the server sends then.
    #[arg(short, long)]
    packets: bool,
    /// Stop after this packet of the capture.
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Show sockets and goroutines as they are after this packet of the capture
    /// (if the server sent it, after the last before it that a client sent); can
    /// be given several times.
    #[arg(long, value_name = "N")]
    at: Vec<u64>,
    /// Stop at each packet and ask what to do.
    #[arg(long, conflicts_with = "json")]
    step: bool,
    /// Print JSON: an object for each packet, state and connection, and one for
    /// the outcome, a line each.
    #[arg(long)]
    json: bool,
}

/// Replays and compares.
pub fn run(options: &Options) -> Result<(), Failure> {
    let filter = options.filter()?;
    let site = site::of(Network::Stack, options.root.as_deref())?;
    let mut plan = Plan::read(&options.file, filter.as_ref(), options.server)?;
    let stops = Stops::of(options, &plan)?;
    if !options.step {
        plan.halts = Some(stops.at.keys().copied().chain(stops.to).collect());
    }
    let plan = Arc::new(plan);
    if !options.json {
        options.announce(&plan);
    }
    let teller = Arc::new(Mutex::new(Teller::new(options, stops)));
    let heard = {
        let teller = teller.clone();
        move |at_ns: u64, event: Event<'_>| lock(&teller).hear(at_ns, event)
    };
    let elapsed = player::play(plan.clone(), site, Box::new(heard))?;
    let mut teller = lock(&teller);
    let replayed = std::mem::replace(&mut teller.tape, Tape::new());
    let outcome = Outcome::of(&plan, teller.last, replayed, elapsed.as_nanos() as u64);
    outcome.print(options.json, &plan)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Options {
    fn filter(&self) -> Result<Option<Filter>, Failure> {
        crate::inspect::filter_of(&self.filter)
    }

    fn announce(&self, plan: &Plan) {
        let clients = plan
            .packets
            .iter()
            .filter(|packet| packet.from == Side::Client)
            .count();
        say!(
            "{} connections to {}, {clients} packets of their clients",
            plan.streams.len(),
            plan.names()
        );
        for refused in &plan.refused {
            say!(
                "not replayed: stream {} of {}: {}",
                refused.stream,
                refused.client,
                refused.why
            );
        }
    }
}

/// Packets of clients after which a replay is looked at, or ends.
struct Stops {
    /// With the numbers that were asked for, which may be the server's.
    at: BTreeMap<u64, u64>,
    to: Option<u64>,
}

impl Stops {
    fn of(options: &Options, plan: &Plan) -> Result<Stops, Failure> {
        let at = options.at.iter();
        Ok(Stops {
            at: at
                .map(|&asked| Ok((plan.up_to(asked)?, asked)))
                .collect::<Result<_, Failure>>()?,
            to: options.to.map(|asked| plan.up_to(asked)).transpose()?,
        })
    }
}

/// Prints a replay as it goes, and keeps what the server sends.
struct Teller {
    tape: Tape,
    /// For the numbers of the list.
    flows: Flows,
    lines: Lines,
    packets: bool,
    json: bool,
    is_stepping: bool,
    stops: Stops,
    /// The last packet that went in.
    last: u64,
    frames: u64,
}

/// A frame in JSON.
#[derive(Serialize)]
struct FrameRow<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<u64>,
    at_ns: u64,
    from: &'a str,
    line: &'a str,
}

impl Teller {
    fn new(options: &Options, stops: Stops) -> Teller {
        Teller {
            tape: Tape::new(),
            flows: Flows::new(i64::MAX),
            lines: Lines::new(TimeZone::UTC, true),
            packets: options.packets || options.step,
            json: options.json,
            is_stepping: options.step,
            stops,
            last: 0,
            frames: 0,
        }
    }

    fn hear(&mut self, at_ns: u64, event: Event<'_>) -> bool {
        match event {
            Event::Sent { number, .. } if self.stops.to.is_some_and(|to| number > to) => {
                return false;
            }
            Event::Sent { number, frames } => {
                self.last = number;
                for frame in frames {
                    self.frame(at_ns, Some(number), frame);
                }
            }
            Event::Answered(frame) => self.frame(at_ns, None, frame),
            Event::Settled { number, scene } => {
                if self.stops.at.contains_key(&number) {
                    self.state(number, scene);
                }
                return !self.is_stepping || self.ask(number, scene);
            }
        }
        true
    }

    /// A frame that crosses the cable: of the client with its number in the file.
    fn frame(&mut self, at_ns: u64, number: Option<u64>, frame: &[u8]) {
        self.frames += 1;
        self.tape.take(self.frames, at_ns as i64, frame, false);
        if !self.packets {
            return;
        }
        let net = Net::of(ETHERNET, frame, frame.len() as u32);
        let when = When {
            packet: self.frames,
            at_ns: at_ns as i64,
            bytes: frame.len() as u32,
        };
        let bases = self
            .flows
            .take(&net, when)
            .and_then(|belongs| belongs.bases);
        let line = self.lines.of(at_ns as i64, &net, bases);
        let line = String::from_utf8_lossy(line);
        if self.json {
            let from = if number.is_some() { "client" } else { "server" };
            print_json(&FrameRow {
                packet: number,
                at_ns,
                from,
                line: line.trim_end(),
            });
            return;
        }
        match number {
            Some(number) => say!("{number:>8} → {}", line.trim_end()),
            None => say!("{:>8} ← {}", "", line.trim_end()),
        }
    }

    fn state(&self, number: u64, scene: &Scene) {
        let state = player::state(scene);
        if self.json {
            print_json(&serde_json::json!({
                "state_after_packet": number,
                "flows": state.flows,
                "goroutines": state.goroutines,
            }));
            return;
        }
        match self.stops.at.get(&number) {
            Some(&asked) if asked != number => {
                say!("after packet {number}, the last of a client up to {asked}:");
            }
            _ => say!("after packet {number}:"),
        }
        let flows: Vec<_> = state.flows.iter().collect();
        say!("{}", ss::table(&flows, true, 0).trim_end());
        for g in &state.goroutines {
            say!("{}", goroutines::line(g));
        }
        say!("");
    }

    /// Asks a person what to do. False ends the replay.
    fn ask(&mut self, number: u64, scene: &Scene) -> bool {
        loop {
            print!("packet {number}; Enter next, s state, c continue, q quit: ");
            let _ = io::stdout().flush();
            let mut answer = String::new();
            match io::stdin().lock().read_line(&mut answer) {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
            match answer.trim() {
                "" | "n" => return true,
                "s" => self.state(number, scene),
                "c" => {
                    self.is_stepping = false;
                    return true;
                }
                "q" => return false,
                other => say!("«{}» is none of these", other.escape_debug()),
            }
        }
    }
}

fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => say!("{text}"),
        Err(err) => eprintln!("wirepath replay: {err}"),
    }
}

/// What came of a replay.
#[derive(Serialize)]
struct Outcome {
    servers: BTreeSet<SocketAddr>,
    /// The last packet that went in.
    to_packet: u64,
    virtual_ns: u64,
    connections: Vec<Told>,
    refused: Vec<Refused>,
    is_as_captured: bool,
}

/// A connection's comparison.
#[derive(Serialize)]
struct Told {
    stream: u32,
    #[serde(flatten)]
    compared: Compared,
}

impl Outcome {
    fn of(plan: &Plan, last: u64, mut replayed: Tape, virtual_ns: u64) -> Outcome {
        replayed.finish();
        let mut captured = Tape::new();
        let next = plan
            .packets
            .iter()
            .find(|p| p.number > last && p.from == Side::Client);
        let end = next.map_or(u64::MAX, |packet| packet.number);
        for packet in plan.packets.iter().filter(|packet| packet.number < end) {
            captured.take_of(RAW, packet.number, packet.at_ns, &packet.ip, packet.is_cut);
        }
        captured.finish();
        let compared = captured.compare(replayed);
        let connections: Vec<Told> = plan
            .streams
            .iter()
            .zip(compared)
            .map(|(&stream, compared)| Told { stream, compared })
            .collect();
        Outcome {
            servers: plan.servers.clone(),
            to_packet: last,
            virtual_ns,
            is_as_captured: connections.iter().all(|told| told.compared.bytes.is_none()),
            connections,
            refused: plan.refused.clone(),
        }
    }

    fn print(&self, json: bool, plan: &Plan) -> Result<(), Failure> {
        if json {
            print_json(self);
        } else {
            for told in &self.connections {
                told.print();
            }
            say!(
                "{} of virtual time, to packet {}",
                duration(self.virtual_ns),
                self.to_packet
            );
        }
        match self.is_as_captured {
            true => Ok(()),
            false => Err(Failure::running(format!(
                "the server's bytes are not those of the capture of {}",
                plan.names()
            ))),
        }
    }
}

impl Told {
    fn print(&self) {
        let (stream, compared) = (self.stream, &self.compared);
        match &compared.bytes {
            None => say!(
                "stream {stream}: {} bytes of the server as captured",
                compared.captured_bytes
            ),
            Some(parting) => {
                let packet = parting
                    .packet
                    .map_or("no packet".to_string(), |packet| format!("packet {packet}"));
                say!(
                    "stream {stream}: the bytes part after {} ({packet})",
                    parting.offset
                );
                say!("  captured: {}", parting.captured);
                say!("  now:      {}", parting.replayed);
            }
        }
        if let Some(parting) = &compared.segments {
            let packet = parting
                .packet
                .map_or(String::new(), |packet| format!(" (packet {packet})"));
            say!(
                "  segments part after {}{packet}: captured {}, now {}",
                parting.after,
                parting.captured,
                parting.replayed
            );
        }
    }
}
