//! Trace events: the fourteen stages of a request's path, in one ring for
//! each thread.
//!
//! A thread writes its own ring without locks or allocation; a reader copies
//! events out and leaves out the few that are overwritten under its hands
//! (each slot carries the number of the event in it, checked before and after
//! the copy, as a seqlock does). With tracing off, [`emit`] is one relaxed
//! load.
//!
//! Times are those at which a thing happened, not those at which it was
//! written down. What a device cannot show is not an event: see
//! [`crate::QueueInfo`].

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Nanos;

/// The stages of the path, numbered as in the architecture's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Frame in the RX ring.
    NicRx = 1,
    /// A burst taken off the ring.
    DriverPoll = 2,
    /// 4-tuple to connection.
    FlowLookup = 3,
    /// smoltcp processed the segment.
    TcpIngress = 4,
    /// The socket buffer has data, the fd is marked.
    FdReady = 5,
    /// netpoll made the goroutine runnable.
    GReady = 6,
    /// A P picked it, an M runs it.
    GRun = 7,
    /// Bytes copied to the goroutine.
    ConnRead = 8,
    /// Bytes in the socket send buffer.
    ConnWrite = 9,
    /// smoltcp cut a segment from the send buffer.
    TcpSegment = 10,
    /// Frame in the TX ring.
    NicTx = 11,
    /// Ring handed to the device.
    DriverKick = 12,
    /// Frame back in the pool.
    NicDone = 13,
    /// From head parsed to last byte written; has a duration.
    HttpHandler = 14,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 14] = [
        Stage::NicRx,
        Stage::DriverPoll,
        Stage::FlowLookup,
        Stage::TcpIngress,
        Stage::FdReady,
        Stage::GReady,
        Stage::GRun,
        Stage::ConnRead,
        Stage::ConnWrite,
        Stage::TcpSegment,
        Stage::NicTx,
        Stage::DriverKick,
        Stage::NicDone,
        Stage::HttpHandler,
    ];

    /// The stage's name: `nic.rx`, …
    pub fn name(self) -> &'static str {
        match self {
            Stage::NicRx => "nic.rx",
            Stage::DriverPoll => "driver.poll",
            Stage::FlowLookup => "flow.lookup",
            Stage::TcpIngress => "tcp.ingress",
            Stage::FdReady => "fd.ready",
            Stage::GReady => "g.ready",
            Stage::GRun => "g.run",
            Stage::ConnRead => "conn.read",
            Stage::ConnWrite => "conn.write",
            Stage::TcpSegment => "tcp.segment",
            Stage::NicTx => "nic.tx",
            Stage::DriverKick => "driver.kick",
            Stage::NicDone => "nic.done",
            Stage::HttpHandler => "http.handler",
        }
    }

    fn from_number(n: u8) -> Option<Stage> {
        Stage::ALL.get(usize::from(n).checked_sub(1)?).copied()
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who ran when an event happened: put by the runtime at each switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The goroutine; 0 for none (the scheduler itself, or a plain thread).
    pub g: u64,
    /// The P, plus one; 0 for none.
    pub p: u16,
    /// The M, plus one; 0 for none.
    pub m: u16,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: Nanos,
    /// What happened.
    pub stage: Stage,
    /// Who ran.
    pub actor: Actor,
    /// The flow and its fd, which are one identity ([`Event::fd_number`]); 0
    /// where none is known.
    pub flow: u64,
    /// Offset in the stream of the flow (of its direction) of the first byte.
    pub offset: u64,
    /// Bytes of the stream.
    pub len: u32,
    /// Bytes of the frame, for stages that have one.
    pub frame_len: u32,
    /// How long it took, where the stage has a duration.
    pub dur_ns: u64,
}

impl Event {
    /// An event of `stage` at `at` on `flow`, nothing else known.
    pub fn new(at: Nanos, stage: Stage, flow: u64) -> Event {
        Event {
            at,
            stage,
            actor: Actor::default(),
            flow,
            offset: 0,
            len: 0,
            frame_len: 0,
            dur_ns: 0,
        }
    }

    /// The same event about `len` bytes of the stream from `offset`.
    #[must_use]
    pub fn bytes(mut self, offset: u64, len: usize) -> Event {
        self.offset = offset;
        self.len = u32::try_from(len).unwrap_or(u32::MAX);
        self
    }

    /// The same event about a frame of `len` bytes.
    #[must_use]
    pub fn frame(mut self, len: usize) -> Event {
        self.frame_len = u32::try_from(len).unwrap_or(u32::MAX);
        self
    }

    /// The number that people see for the flow's fd: its slot, the low 24 bits.
    pub fn fd_number(&self) -> u32 {
        u32::try_from(self.flow & 0xff_ffff).expect("24 bits fit")
    }

    fn encode(&self) -> [u64; WORDS] {
        let actor = self.actor;
        let who = u64::from(actor.p) << 16 | u64::from(actor.m) | u64::from(self.stage as u8) << 32;
        let lens = u64::from(self.len) << 32 | u64::from(self.frame_len);
        [
            self.at.0,
            who,
            actor.g,
            self.flow,
            self.offset,
            lens,
            self.dur_ns,
        ]
    }

    fn decode(words: [u64; WORDS]) -> Option<Event> {
        let [at, who, g, flow, offset, lens, dur_ns] = words;
        Some(Event {
            at: Nanos(at),
            stage: Stage::from_number((who >> 32) as u8)?,
            actor: Actor {
                g,
                p: (who >> 16) as u16,
                m: who as u16,
            },
            flow,
            offset,
            len: (lens >> 32) as u32,
            frame_len: lens as u32,
            dur_ns,
        })
    }
}

const WORDS: usize = 7;

/// A slot: the number of the event in it plus one (0 while it is written), and
/// the event.
struct Slot {
    number: AtomicU64,
    words: [AtomicU64; WORDS],
}

struct Ring {
    slots: Box<[Slot]>,
    written: AtomicU64,
}

impl Ring {
    fn new(capacity: usize) -> Ring {
        let slot = || Slot {
            number: AtomicU64::new(0),
            words: Default::default(),
        };
        Ring {
            slots: (0..capacity).map(|_| slot()).collect(),
            written: AtomicU64::new(0),
        }
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[usize::try_from(number).expect("64-bit") & (self.slots.len() - 1)]
    }

    /// Called by the owning thread only.
    fn push(&self, event: &Event) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.number.store(0, Ordering::Relaxed);
        // A reader that sees any of the words below sees the 0 above when it
        // checks the number again.
        fence(Ordering::Release);
        for (word, value) in slot.words.iter().zip(event.encode()) {
            word.store(value, Ordering::Relaxed);
        }
        slot.number.store(number + 1, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    fn read(&self, into: &mut Vec<Event>) -> u64 {
        let written = self.written.load(Ordering::Acquire);
        let first = written.saturating_sub(self.slots.len() as u64);
        let before = into.len();
        for number in first..written {
            let slot = self.slot(number);
            if slot.number.load(Ordering::Acquire) != number + 1 {
                continue;
            }
            let words = std::array::from_fn(|i| slot.words[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if slot.number.load(Ordering::Relaxed) == number + 1 {
                into.extend(Event::decode(words));
            }
        }
        written - (into.len() - before) as u64
    }
}

static ENABLED: AtomicBool = AtomicBool::new(false);
static CAPACITY: AtomicUsize = AtomicUsize::new(4096);
static RINGS: Mutex<Vec<Arc<Ring>>> = Mutex::new(Vec::new());

thread_local! {
    static RING: OnceCell<Arc<Ring>> = const { OnceCell::new() };
    static ACTOR: Cell<Actor> = const { Cell::new(Actor { g: 0, p: 0, m: 0 }) };
}

/// Whether events are written down.
#[inline]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Starts writing events down. Rings of threads that write their first event
/// from now on hold `capacity` events, rounded up to a power of two.
pub fn enable(capacity: usize) {
    CAPACITY.store(capacity.max(1).next_power_of_two(), Ordering::Relaxed);
    ENABLED.store(true, Ordering::Relaxed);
}

/// Stops writing events down; what was written can still be read.
pub fn disable() {
    ENABLED.store(false, Ordering::Relaxed);
}

/// Says who runs on this thread from now on. Called by the runtime at each
/// switch, on the thread that switches.
#[inline(never)]
pub fn set_actor(actor: Actor) {
    ACTOR.with(|a| a.set(actor));
}

/// Writes an event down, when tracing is on. Its actor is what the runtime
/// last told of this thread, unless the event names one.
#[inline]
pub fn emit(event: Event) {
    if enabled() {
        emit_slow(event);
    }
}

#[cold]
#[inline(never)]
fn emit_slow(mut event: Event) {
    if event.actor == Actor::default() {
        event.actor = ACTOR.with(Cell::get);
    }
    // A thread that is ending has no ring any more, and its last events are lost.
    let _ = RING.try_with(|ring| {
        let ring = ring.get_or_init(|| {
            let ring = Arc::new(Ring::new(CAPACITY.load(Ordering::Relaxed)));
            rings().push(ring.clone());
            ring
        });
        ring.push(&event);
    });
}

fn rings() -> std::sync::MutexGuard<'static, Vec<Arc<Ring>>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the rings of all threads hold.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Events, by time.
    pub events: Vec<Event>,
    /// Events that were written but are gone, overwritten by later ones.
    pub lost: u64,
}

/// Copies what the rings of all threads hold now.
pub fn snapshot() -> Snapshot {
    let rings = rings().clone();
    let mut snapshot = Snapshot::default();
    for ring in rings {
        snapshot.lost += ring.read(&mut snapshot.events);
    }
    snapshot.events.sort_by_key(|e| e.at);
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_its_ring() {
        let ring = Ring::new(4);
        let event = Event {
            actor: Actor { g: 9, p: 2, m: 3 },
            dur_ns: 77,
            ..Event::new(Nanos(5), Stage::HttpHandler, 0x1_0000_0003)
                .bytes(6, 7)
                .frame(8)
        };
        ring.push(&event);
        let mut out = Vec::new();
        assert_eq!(ring.read(&mut out), 0);
        assert_eq!(out, [event]);
        assert_eq!(event.fd_number(), 3);
    }

    #[test]
    fn the_ring_keeps_the_last_and_counts_the_rest() {
        let ring = Ring::new(4);
        for i in 0..10 {
            ring.push(&Event::new(Nanos(i), Stage::NicRx, 0));
        }
        let mut out = Vec::new();
        assert_eq!(ring.read(&mut out), 6);
        assert_eq!(out.iter().map(|e| e.at.0).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn a_reader_never_sees_half_an_event() {
        let ring = Arc::new(Ring::new(8));
        let writer = ring.clone();
        let thread = std::thread::spawn(move || {
            for i in 0..2_000 {
                let mut e = Event::new(Nanos(i), Stage::ConnRead, i).bytes(i, 0);
                e.dur_ns = i;
                writer.push(&e);
            }
        });
        let mut out = Vec::new();
        while !thread.is_finished() {
            out.clear();
            ring.read(&mut out);
            for e in &out {
                assert!(e.at.0 == e.flow && e.flow == e.offset && e.offset == e.dur_ns);
            }
        }
        thread.join().unwrap();
    }
}
