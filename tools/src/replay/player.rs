//! Plays the client's side to a server on virtual time.
//!
//! The server's stack has one end of a cable; the other is in the hands of the
//! player, a goroutine. For each captured packet of the client it lets the
//! virtual clock come to the packet's time, puts the packet on the cable, and
//! waits until nothing more can happen at that moment ([`simulation::wait`]).
//! What the server sent until then is its answer. So the same capture gives the
//! same answers each time: nothing depends on how fast the machine is, one
//! goroutine runs at a time, in an order that a fixed seed gives, and keys and
//! initial sequence numbers are given ([`wirepath_stack::Given`]).
//!
//! A queue of its own that delivers frames by their times was the other design:
//! then nothing could be looked at between two packets.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use wirepath::runtime::net::TcpListener;
use wirepath::runtime::{self, Runtime, go, simulation};
use wirepath::see::{Scene, Wanted, state::State};
use wirepath::{ServeMux, Server};
use wirepath_driver::cable::{CableEnd, CableOptions, cable};
use wirepath_driver::{Nanos, Queue};
use wirepath_stack::{Cidr, Config, Given, MacAddr, Stack};

use super::acks::Acks;
use super::frames::{self, ETHERNET, SERVER_MAC};
use super::plan::{Packet, Plan};
use crate::failure::Failure;
use crate::inspect::packet::{Net, TcpOption, TcpOptions};

/// The order of goroutines is drawn from this: any number does, and it stays.
const SEED: u64 = 1;
/// The key of the stack's hashes, as fixed.
const KEY: [u8; 16] = *b"wirepath replay.";
/// Frames on the cable between two looks: more than the largest window holds.
const RING_FRAMES: usize = 8192;
/// A longer pause of the capture is cut to this: a file's times may be wild.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
/// An IPv6 address is used once nobody claimed it (RFC 4862 §5.4): seconds.
const COMES_UP: Duration = Duration::from_secs(10);
/// After the capture's last packet the server is watched for so long.
const AFTERWARDS: Duration = Duration::from_millis(100);
/// What is left of connections then is ended within this, virtual, time.
const GRACE: Duration = Duration::from_secs(1);
/// Stack of the player's goroutine: what prints is called on it.
const STACK_BYTES: usize = 1 << 20;

/// Something that happened in a replay.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// A packet of the client went in: its frames.
    Sent {
        /// Its number in the file.
        number: u64,
        /// Its frames.
        frames: &'a [Vec<u8>],
    },
    /// The server sent a frame.
    Answered(&'a [u8]),
    /// Nothing more happens at the moment of a client's packet.
    Settled {
        /// That packet's number.
        number: u64,
        /// What shows the server's state.
        scene: &'a Scene,
    },
}

/// What hears of a replay; times are nanoseconds since its beginning. False ends
/// it.
pub type Heard = dyn FnMut(u64, Event<'_>) -> bool + Send;

/// Plays it. How long it took, in virtual time.
///
/// # Errors
///
/// The server's side cannot be set up, or panics.
pub fn play(plan: Arc<Plan>, site: ServeMux, heard: Box<Heard>) -> Result<Duration, Failure> {
    let broke = |err: &dyn std::fmt::Display| Failure::running(format!("cannot replay: {err}"));
    let options = CableOptions {
        name: "replay".into(),
        mtu: plan.mtu,
        ring_frames: RING_FRAMES,
        slots: 2 * RING_FRAMES as u32,
    };
    let (near, far) = cable(options).map_err(|err| broke(&err))?;
    let stack = Stack::new(config(&plan)?, vec![Box::new(near)]).map_err(|err| broke(&err))?;
    let server = Server::new(site);
    let run = Runtime::builder()
        .stack(stack)
        .stack_size(STACK_BYTES)
        .simulate(SEED, move || Player::new(plan, far, server, heard).run())
        .map_err(|err| broke(&err))?;
    run.value.map_err(|err| broke(&err))
}

fn config(plan: &Plan) -> Result<Config, Failure> {
    let cidrs: Result<Vec<Cidr>, Failure> = plan.servers.iter().map(cidr).collect();
    let mut config = Config::new(MacAddr(SERVER_MAC), cidrs?);
    let isns = plan.isns.clone();
    config.given = Some(Given {
        key: KEY,
        isn: Arc::new(move |_, peer, seq| isns.get(&(peer, seq)).copied()),
    });
    Ok(config)
}

fn cidr(server: &SocketAddr) -> Result<Cidr, Failure> {
    let addr = server.ip();
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    format!("{addr}/{bits}")
        .parse()
        .map_err(|err| Failure::refused(format!("{addr} cannot be a server's address: {err}")))
}

/// A connection: its client and its server.
type Ends = (SocketAddr, SocketAddr);

struct Player {
    plan: Arc<Plan>,
    acks: HashMap<Ends, Acks>,
    /// What clients say as soon as they can.
    owed: Vec<Vec<u8>>,
    cable: CableEnd,
    server: Server,
    heard: Box<Heard>,
    began: Nanos,
}

impl Player {
    fn new(plan: Arc<Plan>, cable: CableEnd, server: Server, heard: Box<Heard>) -> Player {
        Player {
            plan,
            acks: HashMap::new(),
            owed: Vec::new(),
            cable,
            server,
            heard,
            began: runtime::now(),
        }
    }

    fn run(mut self) -> io::Result<Duration> {
        let port = self.plan.servers.first().map_or(0, SocketAddr::port);
        // Of both families.
        let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        let server = self.server.clone();
        let serving = go(move || server.serve(listener));
        let scene = Scene::new(runtime::Handle::current().expect("on a goroutine"))
            .server(self.server.clone());
        // What the stack says when it comes up is no answer.
        runtime::sleep(COMES_UP);
        simulation::wait();
        self.answers(false)?;
        self.began = runtime::now();
        let outcome = self.packets(&scene);
        let took = runtime::now().since(self.began);
        self.server.close();
        let _ = serving.join();
        runtime::sleep(GRACE);
        outcome.map(|()| took)
    }

    fn packets(&mut self, scene: &Scene) -> io::Result<()> {
        let plan = self.plan.clone();
        let Some(first) = plan.packets.first() else {
            return Ok(());
        };
        let mut at = Duration::ZERO;
        let mut last_ns = first.at_ns;
        let mut rest = &plan.packets[..];
        while let Some(packet) = rest.first() {
            let pause = packet.at_ns.saturating_sub(last_ns).max(0).unsigned_abs();
            at += Duration::from_nanos(pause).min(MAX_PAUSE);
            last_ns = last_ns.max(packet.at_ns);
            let count = plan.burst(rest);
            let (together, later) = rest.split_at(count.max(1));
            rest = later;
            if count > 0 && !(self.wait_until(at)? && self.burst(together, scene)?) {
                return Ok(());
            }
        }
        self.wait_until(at + AFTERWARDS)?;
        Ok(())
    }

    /// Sends packets that came off the ring together, and hears what the server
    /// does then. False if nobody wants more.
    fn burst(&mut self, packets: &[Packet], scene: &Scene) -> io::Result<bool> {
        let mut together = Vec::new();
        for packet in packets {
            let frames = self.frames_of(packet);
            let number = packet.number;
            if !self.tell(Event::Sent {
                number,
                frames: &frames,
            }) {
                return Ok(false);
            }
            together.extend(frames);
        }
        self.send(&together)?;
        let number = packets.last().map_or(0, |packet| packet.number);
        Ok(self.settle()? && self.tell(Event::Settled { number, scene }))
    }

    /// A client's packet as frames that fit what the server has sent.
    fn frames_of(&mut self, packet: &Packet) -> Vec<Vec<u8>> {
        let mut fitting = Vec::new();
        for frame in frames::of(&packet.ip, self.plan.mtu) {
            let net = Net::of(ETHERNET, &frame, frame.len() as u32);
            let Some((client, server, tcp)) = net.tcp() else {
                continue;
            };
            if tcp.flags.syn() {
                let scale = TcpOptions(tcp.options).find_map(|option| match option {
                    TcpOption::WindowScale(scale) => Some(scale.min(14)),
                    _ => None,
                });
                self.acks
                    .insert((client, server), Acks::new(scale.unwrap_or(0)));
            }
            let acks = self.acks.entry((client, server)).or_default();
            let mut adapted = Vec::new();
            if acks.adapt(tcp, &frame, &mut adapted) {
                fitting.push(adapted);
            }
        }
        fitting
    }

    /// Until nothing more happens at this moment. False if nobody wants more.
    fn settle(&mut self) -> io::Result<bool> {
        loop {
            simulation::wait();
            if !self.answers(true)? {
                return Ok(false);
            }
            if self.owed.is_empty() {
                return Ok(true);
            }
            let owed = std::mem::take(&mut self.owed);
            self.send(&owed)?;
        }
    }

    /// Lets the clock come there, and hears what the server does by itself.
    fn wait_until(&mut self, at: Duration) -> io::Result<bool> {
        let left = at.saturating_sub(runtime::now().since(self.began));
        if !left.is_zero() {
            runtime::sleep(left);
        }
        self.settle()
    }

    fn send(&mut self, frames: &[Vec<u8>]) -> io::Result<()> {
        let now = runtime::now();
        let mut offered = VecDeque::with_capacity(frames.len());
        for bytes in frames {
            let mut frame = self
                .cable
                .pool()
                .take_tx()
                .ok_or_else(|| io::Error::other("no free frame for a packet"))?;
            if !frame.fill(bytes) {
                return Err(io::Error::other("a packet longer than a frame"));
            }
            offered.push_back(frame);
        }
        self.cable.tx_burst(now, &mut offered)?;
        self.cable.kick(now)
    }

    /// Takes what the server sent. False if nobody wants more.
    fn answers(&mut self, tell: bool) -> io::Result<bool> {
        let mut frames = Vec::new();
        loop {
            let taken = self.cable.rx_burst(runtime::now(), &mut frames)?;
            for frame in frames.drain(..) {
                let at = frame
                    .meta
                    .rx_at
                    .unwrap_or_else(runtime::now)
                    .since(self.began)
                    .as_nanos() as u64;
                if !tell {
                    continue;
                }
                self.note_answer(&frame);
                if !(self.heard)(at, Event::Answered(&frame)) {
                    return Ok(false);
                }
            }
            if taken == 0 {
                return Ok(true);
            }
        }
    }

    fn note_answer(&mut self, frame: &[u8]) {
        let net = Net::of(ETHERNET, frame, frame.len() as u32);
        if let Some((server, client, tcp)) = net.tcp()
            && let Some(acks) = self.acks.get_mut(&(client, server))
        {
            self.owed.extend(acks.answered(tcp));
        }
    }

    fn tell(&mut self, event: Event<'_>) -> bool {
        let at = runtime::now().since(self.began).as_nanos() as u64;
        (self.heard)(at, event)
    }
}

/// The server's state, as far as it is the same each time.
pub fn state(scene: &Scene) -> State {
    let most = 10_000;
    let mut state = scene.state(&Wanted {
        flows: most,
        goroutines: most,
        requests: 0,
    });
    state
        .flows
        .sort_by(|a, b| (a.fd, &a.peer).cmp(&(b.fd, &b.peer)));
    state
}
