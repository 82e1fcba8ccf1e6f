//! A shard: one queue, its interface, flows, listeners and connections.
//!
//! Everything here runs under the shard's lock, which [`crate::syscall`] takes.
//! A turn is [`Shard::turn`]: take frames in, run timers, then work out who is
//! ready, *after* the last ingress, or a wake-up would be lost. What TCP has to
//! say waits for [`Shard::flush`], so that an ACK rides on the answer that the
//! woken goroutine writes.
//!
//! Two lists carry the work between the steps, each connection in them at most
//! once (a mark in the connection says so): `touched`, whose readiness may have
//! changed, and `dirty`, which may have something to send. A slot in a list may
//! have been freed or reused since; the mark tells.

mod egress;
mod fate;
mod ingress;
mod lookup;
mod stray;
pub(crate) mod timeouts;
mod udp;
mod user;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use wirepath_driver::trace::{self, Kind};
use wirepath_driver::{BURST_FRAMES, Frame, Nanos, Queue};

use crate::buffer::Arena;
use crate::conn::{Conn, Marks, Phase};
use crate::flow::{Entry, FlowTable, Slots};
use crate::icmp::RateLimit;
use crate::ip::{DropCause, Local};
use crate::isn::{self, Given, Secret};
use crate::neighbor::Neighbors;
use crate::phy::{Line, Outbox, Phy};
use crate::port::Ports;
use crate::segment::{self, Sent};
use crate::stats::{Counters, Gauges, Ledger, ShardStats};
use crate::syscall::{Config, Event, Turn};
use crate::time_wait::{self, TimeWait};
use crate::udp::Bound;
use crate::wheel::Timers;
use crate::{Errno, Fd};
use fate::Fates;
pub(crate) use stray::Stray;
use stray::Strays;

/// How long a queue that takes no more frames is left alone.
const RING_FULL_RETRY: Duration = Duration::from_millis(1);
/// Resets, unreachables and echoes that a shard answers in a second, at most.
const ANSWERS_PER_SECOND: u32 = 1_000;
/// How many of them may come at once.
const ANSWERS_BURST: u32 = 100;

/// What one queue's frames meet.
pub(crate) struct Shard {
    queue: Box<dyn Queue>,
    iface: Interface,
    /// Where smoltcp finds no socket, and so answers with a reset.
    empty: SocketSet<'static>,
    pub(crate) outbox: Outbox,
    pub(crate) slots: Slots,
    pub(crate) flows: FlowTable,
    /// Slots of listeners.
    listeners: Vec<u32>,
    pub(crate) time_wait: TimeWait,
    pub(crate) timers: Timers,
    pub(crate) arena: Arena,
    pub(crate) neighbors: Neighbors,
    pub(crate) local: Local,
    pub(crate) gateways: Vec<IpAddr>,
    name_servers: Vec<SocketAddr>,
    pub(crate) secret: Secret,
    /// Numbers of a capture, in a replay.
    pub(crate) given: Option<Given>,
    /// What the timestamp clock is offset by.
    timestamp_origin: u32,
    touched: Vec<u32>,
    dirty: Vec<u32>,
    /// Connections that wait for their next hop's station.
    pub(crate) resolving: Vec<u32>,
    half_open: u64,
    orphans: u64,
    /// Ports of connections that we open.
    pub(crate) ports: Ports,
    /// Random numbers drawn so far, each the hash of its number.
    draws: u64,
    /// Who has which UDP port.
    bound: Bound,
    /// UDP sockets, and name lookups under way.
    udp_sockets: u64,
    lookups: u64,
    /// Datagrams that wait for their next hop's station.
    unresolved: VecDeque<udp::Unresolved>,
    /// UDP sockets that met a full ring.
    senders: Vec<u32>,
    /// Frames that other shards may know.
    strays: Strays,
    /// Frames of the burst at hand.
    burst: Vec<Frame>,
    answers: RateLimit,
    /// Where an ICMP answer is put together.
    reply: Vec<u8>,
    pub(crate) counters: Counters,
    drops: [u64; DropCause::COUNT],
    fates: Fates,
    /// The ring took no more, or the pool gave no more: when to try again.
    blocked_until: Option<Nanos>,
    /// The last flush left connections with something to send.
    has_leftover: bool,
    pub(crate) is_down: bool,
}

/// The time as smoltcp counts it.
pub(crate) fn instant(now: Nanos) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// A line to nobody: of the interface itself.
fn no_line(sent: &mut Sent) -> Line<'_> {
    Line {
        mac: crate::MacAddr::BROADCAST,
        flow: 0,
        written: (0, 0),
        window_shift: 0,
        sent,
    }
}

impl Shard {
    pub(crate) fn new(index: u8, config: &Config, queue: Box<dyn Queue>) -> Shard {
        let mut outbox = Outbox::new(config.mac, &*queue);
        let secret = Secret::given_or_random(config.given.as_ref());
        let mut counters = Counters::default();
        let mut sent = Sent::default();
        let mut phy = Phy {
            rx: None,
            outbox: &mut outbox,
            line: no_line(&mut sent),
            counters: &mut counters,
        };
        let draw = secret.hash("interface") as u32;
        let iface = isn::interface(&mut phy, draw, Instant::ZERO);
        let local = Local {
            mac: config.mac,
            cidrs: config.addrs.clone(),
            is_shared: config.shared_addrs,
        };
        Shard {
            queue,
            iface,
            empty: SocketSet::new(Vec::new()),
            outbox,
            slots: Slots::new(index),
            flows: FlowTable::default(),
            listeners: Vec::new(),
            time_wait: TimeWait::default(),
            timers: Timers::default(),
            arena: Arena::new(),
            neighbors: Neighbors::new(&local, secret.hash("neighbors")),
            local,
            gateways: config.gateways.clone(),
            name_servers: config.name_servers.clone(),
            timestamp_origin: secret.hash("timestamps") as u32,
            secret,
            given: config.given.clone(),
            touched: Vec::new(),
            dirty: Vec::new(),
            resolving: Vec::new(),
            half_open: 0,
            orphans: 0,
            ports: Ports::new(),
            draws: 0,
            bound: Bound::default(),
            udp_sockets: 0,
            lookups: 0,
            unresolved: VecDeque::new(),
            senders: Vec::new(),
            strays: Strays::new(),
            burst: Vec::with_capacity(BURST_FRAMES),
            answers: RateLimit::new(ANSWERS_PER_SECOND, ANSWERS_BURST),
            reply: Vec::new(),
            counters,
            drops: [0; DropCause::COUNT],
            fates: Fates::default(),
            blocked_until: None,
            has_leftover: false,
            is_down: false,
        }
    }

    /// One turn: at most about `budget` frames in, due timers, readiness.
    pub(crate) fn turn(&mut self, now: Nanos, budget: usize, events: &mut Vec<Event>) -> Turn {
        segment::set_timestamp_clock(now, self.timestamp_origin);
        self.queue.reclaim(now);
        let mut turn = Turn::default();
        if self.has_leftover {
            turn.sent = self.flush(now);
        }
        while turn.frames < budget && !self.is_down {
            let taken = self.take_burst(now);
            turn.frames += taken;
            turn.more = taken >= BURST_FRAMES;
            if !turn.more {
                break;
            }
        }
        self.counters.busy_turns += u64::from(turn.frames > 0);
        self.run_neighbors(now);
        self.run_timers(now);
        self.time_wait.purge(now);
        self.let_senders_go_on(now);
        self.tell(events);
        turn.sent += self.transmit(now);
        turn
    }

    /// Reports what has become ready.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            if let Some(conn) = self.slots.conn(slot) {
                if !conn.marks.contains(Marks::TOUCHED) {
                    continue;
                }
                conn.marks.remove(Marks::TOUCHED);
                // Before it is registered, `register` itself tells.
                let Some(token) = conn.token else { continue };
                let ready = conn.take_edges();
                if !ready.is_empty() {
                    let fd = conn.fd;
                    if trace::enabled() {
                        let at = conn.received();
                        let waiting = conn.socket.get().recv_queue();
                        let event = trace::Event::new(trace::stamp(), Kind::FdReady, fd.raw());
                        trace::emit(event.bytes(at - waiting as u64, waiting));
                    }
                    events.push(Event { fd, token, ready });
                }
            } else {
                events.extend(self.slots.take_edges(slot));
            }
        }
        // The list keeps its memory; nothing was added while it was read.
        self.touched = touched;
    }

    /// Puts a connection on the list of those whose readiness may have changed.
    fn touch(&mut self, slot: u32) {
        if let Some(conn) = self.slots.conn(slot)
            && !conn.marks.contains(Marks::TOUCHED)
        {
            conn.marks.insert(Marks::TOUCHED);
            self.touched.push(slot);
        }
    }

    /// Puts a connection on the list of those that may have something to send.
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        if let Some(conn) = self.slots.conn(slot)
            && !conn.marks.intersects(Marks::DIRTY | Marks::DETACHED)
            && !matches!(conn.phase, Phase::Resolving { .. })
        {
            conn.marks.insert(Marks::DIRTY);
            self.dirty.push(slot);
        }
    }

    /// Whether `flush` has anything to do.
    pub(crate) fn has_egress(&self) -> bool {
        !self.dirty.is_empty() || !self.outbox.frames.is_empty()
    }

    /// When a turn is due at the latest.
    pub(crate) fn next_event(&self) -> Option<Nanos> {
        let egress = (self.has_egress() || !self.senders.is_empty())
            .then(|| self.blocked_until.unwrap_or(Nanos::ZERO));
        [
            egress,
            self.timers.next(),
            self.neighbors.next_event(),
            self.queue.next_event(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Answers ARP and NDP in time, and lets connections go on whose next hop
    /// answered.
    fn run_neighbors(&mut self, now: Nanos) {
        if self.neighbors.next_event().is_some_and(|at| at <= now) {
            let (outbox, counters) = (&mut self.outbox, &mut self.counters);
            self.neighbors.poll(now, &mut |frame| {
                counters.tx_no_frame += u64::from(!outbox.push(frame));
            });
        }
        if !self.resolving.is_empty() {
            self.retry_resolving(now);
        }
        if !self.unresolved.is_empty() {
            self.retry_unresolved(now);
        }
    }

    /// A random number that nobody can foresee.
    fn draw(&mut self) -> u64 {
        self.draws += 1;
        self.secret.hash(("draw", self.draws))
    }

    /// Fails a connection: tells its user, and is done with the network.
    pub(crate) fn fail(&mut self, slot: u32, error: Errno) {
        if let Some(conn) = self.slots.conn(slot) {
            conn.error.get_or_insert(error);
            self.touch(slot);
        }
    }

    /// The network is done with a connection: takes its flow out of the table,
    /// and frees it when its user is done too.
    pub(crate) fn finish(&mut self, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        let key = conn.key;
        conn.marks.insert(Marks::DETACHED);
        conn.marks.remove(Marks::DIRTY);
        conn.deadline = None;
        let is_free = conn.is_orphan() || matches!(conn.phase, Phase::HalfOpen { .. });
        if self.flows.get(&key) == Some(&slot) {
            self.flows.remove(&key);
        }
        self.timers.disarm(slot);
        if is_free {
            self.free(slot);
        } else {
            self.touch(slot);
        }
    }

    /// Frees a connection's slot and buffers.
    fn free(&mut self, slot: u32) {
        let Entry::Conn(conn) = self.slots.remove(slot) else {
            return;
        };
        if trace::enabled() {
            let event = trace::Event::new(trace::stamp(), Kind::FlowClose, conn.fd.raw());
            trace::emit(event);
        }
        if self.flows.get(&conn.key) == Some(&slot) {
            self.flows.remove(&conn.key);
        }
        self.timers.disarm(slot);
        self.orphans -= u64::from(conn.is_orphan());
        if let Phase::HalfOpen { listener } = conn.phase {
            self.half_open -= 1;
            if let Some(listener) = self.slots.listener(listener) {
                listener.half_open -= 1;
            }
        }
    }

    /// Moves a connection whose both FINs are acknowledged to the TIME-WAIT
    /// table, where it needs no socket.
    fn enter_time_wait(&mut self, now: Nanos, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        let entry = time_wait::Entry {
            // After our FIN, and after the peer's.
            snd_nxt: conn.written_end().0.wrapping_add(1),
            rcv_nxt: conn.rcv_nxt(),
            window: conn.sent.window,
            peer_timestamp: conn.sent.timestamp.map(|(_, echo)| echo),
            mac: conn.mac,
        };
        let key = conn.key;
        self.counters.time_wait_entered += 1;
        self.finish(slot);
        let evicted = self.time_wait.insert(now, key, entry);
        self.counters.time_wait_evicted += u64::from(evicted);
    }

    /// Follows a connection whose socket may have changed its state, after
    /// ingress or egress. `was_reset`: the segment that came was a reset.
    fn settle(&mut self, now: Nanos, slot: u32, was_reset: bool) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        match conn.state() {
            State::Established | State::CloseWait => match conn.phase {
                Phase::HalfOpen { listener } => self.promote(slot, listener),
                Phase::Connecting => {
                    conn.phase = Phase::Open;
                    conn.deadline = None;
                    conn.marks.insert(Marks::CONNECT_NEWS);
                    self.counters.established += 1;
                }
                _ => {}
            },
            // smoltcp goes back to listening when a reset ends the handshake.
            State::Listen => {
                self.counters.half_open_reset += 1;
                self.finish(slot);
            }
            // Without endpoint: nothing more to send, not even a reset.
            State::Closed if conn.socket.get().local_endpoint().is_none() => {
                if was_reset {
                    let refused = conn.phase == Phase::Connecting;
                    let error = if refused {
                        Errno::ConnectionRefused
                    } else {
                        Errno::ConnectionReset
                    };
                    self.counters.resets_received += 1;
                    self.fail(slot, error);
                }
                self.finish(slot);
            }
            State::FinWait2 if conn.is_orphan() && conn.deadline.is_none() => {
                conn.deadline = Some(now + timeouts::ORPHAN_FIN_WAIT);
            }
            _ => {}
        }
    }

    /// Moves an established connection to its listener's accept queue.
    fn promote(&mut self, slot: u32, listener_slot: u32) {
        self.half_open -= 1;
        self.counters.established += 1;
        if let Some(conn) = self.slots.conn(slot) {
            conn.phase = Phase::Queued;
            conn.deadline = None;
        }
        let listener = self
            .slots
            .listener(listener_slot)
            .expect("a listener's close frees its half-open connections");
        listener.half_open -= 1;
        listener.accept_queue.push_back(slot);
        if !std::mem::replace(&mut listener.has_news, true) {
            self.touched.push(listener_slot);
        }
    }

    /// The device is gone: every connection fails, and so does accepting.
    fn go_down(&mut self) {
        self.is_down = true;
        for &slot in &self.listeners {
            let listener = self.slots.listener(slot);
            let listener = listener.expect("a closed listener leaves the list");
            if !std::mem::replace(&mut listener.has_news, true) {
                self.touched.push(slot);
            }
        }
        let slots: Vec<u32> = self.slots.conns().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.fail(slot, Errno::NetworkDown);
            self.finish(slot);
        }
        self.datagrams_go_down();
        self.dirty.clear();
        self.fates.lost_with_device += self.outbox.frames.len() as u64;
        self.outbox.frames.clear();
    }

    /// Other stations that were seen to claim an address of ours, since asked
    /// last.
    pub(crate) fn conflicts(&mut self) -> Vec<(IpAddr, crate::MacAddr)> {
        let taken = std::iter::from_fn(|| self.neighbors.take_conflict());
        taken
            .map(|conflict| (conflict.addr, conflict.mac))
            .collect()
    }

    /// Whether `addr` is an address of the stack.
    pub(crate) fn owns(&self, addr: IpAddr) -> bool {
        self.local.owns(addr)
    }

    pub(crate) fn queue(&mut self) -> &mut dyn Queue {
        &mut *self.queue
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            from_ring: self.queue.stats().rx_frames,
            from_other_shards: self.fates.from_other_shards,
            fates: self.fates.named(),
            dropped: self.drops.iter().sum(),
            made: self.outbox.made,
            to_ring: self.fates.to_ring,
            waiting: self.outbox.frames.len() as u64,
            lost_with_device: self.fates.lost_with_device,
        }
    }

    pub(crate) fn stats(&self) -> ShardStats {
        let mut counters = self.counters;
        counters.dropped = self.drops.iter().sum();
        counters.answers_rate_limited = self.answers.refused();
        let neighbors = self.neighbors.stats();
        ShardStats {
            queue: self.queue.info().name.clone(),
            ring: self.queue.stats(),
            counters,
            gauges: Gauges {
                connections: self.slots.conns().count() as u64,
                half_open: self.half_open,
                orphans: self.orphans,
                delivering: self
                    .slots
                    .conns()
                    .filter(|(_, c)| c.is_delivering())
                    .count() as u64,
                time_wait: self.time_wait.len() as u64,
                udp_sockets: self.udp_sockets,
                lookups: self.lookups,
            },
            neighbors: [
                ("arp_received", neighbors.arp_received),
                ("ndp_received", neighbors.ndp_received),
                ("neighbor_answered", neighbors.answered),
                ("neighbor_announced", neighbors.announced),
                ("neighbor_asked", neighbors.asked),
                ("neighbor_learned", neighbors.learned),
                ("neighbor_failed", neighbors.failed),
                ("neighbor_contradictions", neighbors.contradictions),
                ("neighbor_evicted", neighbors.evicted),
                ("address_conflicts", neighbors.conflicts),
                ("address_duplicates", neighbors.duplicates),
                ("listener_reports", neighbors.reports),
                ("neighbor_ignored", neighbors.ignored),
            ]
            .to_vec(),
            ledger: self.ledger(),
            mtu: self.queue.info().mtu,
            sees_nic_rx: self.queue.info().sees_nic_rx,
            sees_nic_done: self.queue.info().sees_nic_done,
            rings: self.queue.rings(),
            pool: (self.queue.pool().slots(), self.queue.pool().free()),
            drops: DropCause::ALL
                .iter()
                .map(|cause| (cause.name(), self.drops[cause.index()]))
                .collect(),
        }
    }

    fn open_conn(&mut self, fd: Fd) -> Result<&mut Conn, Errno> {
        match self.slots.open(fd) {
            Some(Entry::Conn(conn)) => Ok(conn),
            Some(_) => Err(Errno::Invalid),
            None => Err(Errno::BadFd),
        }
    }
}
