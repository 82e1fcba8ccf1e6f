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
//! [`crate::QueueInfo`]. An event's time is what [`stamp`] gave, or nanoseconds
//! of the clock; a reader gets nanoseconds.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Nanos;
use crate::frame::FrameMeta;

mod event;
mod reader;
mod ticks;

pub use event::{Actor, EVENT_WORDS, Event, Kind, Label, fd_number};
pub use event::{HEAD_TEXT_LEN, PROTECTED, TEXT_LEN};
pub use reader::Reader;
pub use ticks::{is_virtual, set_virtual, stamp};

use ticks::{Anchor, Scale};

/// A slot: the number of the event in it plus one (0 while it is written), and
/// the event.
struct Slot {
    number: AtomicU64,
    words: [AtomicU64; EVENT_WORDS],
}

/// Events between two anchors of a ring at most. A power of two.
const ANCHOR_EVENTS: u64 = 1024;
/// Ticks of the counter between them at most, about a second, as far as there
/// are events.
const ANCHOR_TICKS: u64 = 1 << 31;
/// What is written in place of a kind, for an anchor and for three stages of a
/// segment in one slot.
const ANCHOR_KIND: u64 = 0xff << 32;
const ARRIVAL_KIND: u64 = 0xfe << 32;
const DEPARTURE_KIND: u64 = 0xfd << 32;
const KIND_MASK: u64 = 0xff << 32;
const ARRIVAL_STAGES: [Kind; 3] = [Kind::DriverPoll, Kind::FlowLookup, Kind::TcpIngress];
const DEPARTURE_STAGES: [Kind; 3] = [Kind::TcpSegment, Kind::NicTx, Kind::DriverKick];

/// The three events of a slot that has the time of the last, and in place of a
/// goroutine how long before it the others were.
fn unpack(words: [u64; EVENT_WORDS], kinds: [Kind; 3], mut each: impl FnMut(Event)) {
    let [at, _, before, flow, offset, lens, acked] = words;
    let ago = [before >> 32, before & 0xffff_ffff, 0];
    for (kind, ago) in kinds.into_iter().zip(ago) {
        let mut event = Event::new(Nanos(at - ago), kind, flow);
        (event.offset, event.len, event.frame_len) = (offset, (lens >> 32) as u32, lens as u32);
        if kind == Kind::TcpIngress {
            event.dur_ns = acked;
        }
        each(event);
    }
}

/// As `unpack` takes it.
#[inline]
fn pack(first: Nanos, second: Nanos, last: Nanos) -> u64 {
    let ago = |at: Nanos| last.0.saturating_sub(at.0).min(0xffff_ffff);
    ago(first) << 32 | ago(second)
}

struct Ring {
    slots: Box<[Slot]>,
    written: AtomicU64,
    /// The counter at the last anchor; the writer's.
    anchored: AtomicU64,
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
            anchored: AtomicU64::new(0),
        }
    }

    #[inline]
    fn slot(&self, number: u64) -> &Slot {
        // Capacities are powers of two, and `usize` has 64 bits.
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Called by the owning thread only.
    #[inline]
    fn push(&self, words: [u64; EVENT_WORDS]) {
        if let Some(counter) = ticks::counter_of(Nanos(words[0])) {
            self.anchor(counter);
        }
        self.push_words(words);
    }

    #[inline]
    fn push_words(&self, words: [u64; EVENT_WORDS]) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = self.slot(number);
        slot.number.store(0, Ordering::Relaxed);
        // A reader that sees any of the words below sees the 0 above when it
        // checks the number again.
        fence(Ordering::Release);
        for (word, value) in slot.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        slot.number.store(number + 1, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    /// Notes clock and counter together if that was not done for some time.
    #[inline]
    fn anchor(&self, counter: u64) {
        let since = counter.wrapping_sub(self.anchored.load(Ordering::Relaxed));
        let is_due = self.written.load(Ordering::Relaxed) & (ANCHOR_EVENTS - 1) == 0;
        if is_due || since > ANCHOR_TICKS {
            self.anchor_now();
        }
    }

    #[cold]
    #[inline(never)]
    fn anchor_now(&self) {
        if let Some(anchor) = Anchor::now() {
            self.anchored.store(anchor.counter, Ordering::Relaxed);
            self.push_words([anchor.clock.0, ANCHOR_KIND, 0, 0, anchor.counter, 0, 0]);
        }
    }

    /// Copies what it holds, and says how many events are gone.
    fn read(&self, into: &mut Vec<Event>, anchors: &mut Vec<Anchor>) -> u64 {
        self.read_from(0, into, anchors).1
    }

    /// Copies what it holds from the event numbered `from` on, and says which
    /// is the next, and how many of those between are gone.
    fn read_from(&self, from: u64, into: &mut Vec<Event>, anchors: &mut Vec<Anchor>) -> (u64, u64) {
        self.each_from(from, anchors, |event| into.push(event))
    }

    /// As above, without copying.
    #[inline]
    fn each_from(
        &self,
        from: u64,
        anchors: &mut Vec<Anchor>,
        mut each: impl FnMut(Event),
    ) -> (u64, u64) {
        let written = self.written.load(Ordering::Acquire);
        let first = written.saturating_sub(self.slots.len() as u64).max(from);
        let mut read = 0;
        for number in first..written {
            let slot = self.slot(number);
            if slot.number.load(Ordering::Acquire) != number + 1 {
                continue;
            }
            let words = std::array::from_fn(|i| slot.words[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if slot.number.load(Ordering::Relaxed) != number + 1 {
                continue;
            }
            read += 1;
            match words[1] & KIND_MASK {
                ANCHOR_KIND => anchors.push(Anchor {
                    counter: words[4],
                    clock: Nanos(words[0]),
                }),
                ARRIVAL_KIND => unpack(words, ARRIVAL_STAGES, &mut each),
                DEPARTURE_KIND => unpack(words, DEPARTURE_STAGES, &mut each),
                _ => Event::decode(words).into_iter().for_each(&mut each),
            }
        }
        (written, written - from - read)
    }
}

static ENABLED: AtomicBool = AtomicBool::new(false);
static CAPACITY: AtomicUsize = AtomicUsize::new(4096);
static RINGS: Mutex<Rings> = Mutex::new(Rings {
    all: Vec::new(),
    idle: Vec::new(),
});

/// The rings of the process.
struct Rings {
    all: Vec<Arc<Ring>>,
    /// Those whose threads have ended: the next threads go on with them, so that
    /// there are no more than threads at a time.
    idle: Vec<Arc<Ring>>,
}

/// What a thread writes with.
struct Local {
    ring: OnceCell<Arc<Ring>>,
    /// Who runs: the goroutine, and P and M as an event has them.
    g: Cell<u64>,
    p_and_m: Cell<u64>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            ring: OnceCell::new(),
            g: Cell::new(0),
            p_and_m: Cell::new(0),
        }
    };
}

impl Local {
    #[inline]
    fn push(&self, words: [u64; EVENT_WORDS]) {
        self.ring.get_or_init(new_ring).push(words);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(ring) = self.ring.take() {
            rings().idle.push(ring);
        }
    }
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
    let _ = LOCAL.try_with(|local| {
        local.g.set(actor.g);
        local
            .p_and_m
            .set(u64::from(actor.p) << 16 | u64::from(actor.m));
    });
}

/// Makes this thread's ring, if tracing is on: the first event would else wait
/// for its memory. The runtime calls it when a thread starts.
pub fn prepare() {
    if enabled() {
        let _ = LOCAL.try_with(|local| {
            local.ring.get_or_init(new_ring);
        });
    }
}

/// Writes an event down, when tracing is on. Its time is [`stamp`]'s, or
/// nanoseconds of the clock; its actor is what the runtime last told of this
/// thread, unless the event names one.
#[inline]
pub fn emit(event: Event) {
    if !enabled() {
        return;
    }
    if event.names_actor() {
        return record_words(event.encode());
    }
    let kind = u64::from(event.kind as u8) << 32;
    let lens = event.lens();
    record(event.at, kind, event.flow, event.offset, lens, event.dur_ns);
}

/// A segment of a flow came in: stages `driver.poll`, `flow.lookup` and
/// `tcp.ingress` in one, told by the shard once it was processed.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The flow.
    pub flow: u64,
    /// When the frame was polled, and its flow found.
    pub polled: Nanos,
    /// When its flow was found.
    pub found: Nanos,
    /// When it had been processed.
    pub processed: Nanos,
    /// Its bytes of the stream in.
    pub offset: u64,
    /// How many.
    pub len: usize,
    /// Bytes of the frame.
    pub frame_len: usize,
    /// Bytes of our stream that the peer has acknowledged.
    pub acked: u64,
}

/// Writes an arrival down, when tracing is on.
#[inline]
pub fn arrived(a: &Arrival) {
    if enabled() {
        let before = pack(a.polled, a.found, a.processed);
        let lens = (a.len as u64) << 32 | a.frame_len as u64 & 0xffff_ffff;
        record_words([
            a.processed.0,
            ARRIVAL_KIND,
            before,
            a.flow,
            a.offset,
            lens,
            a.acked,
        ]);
    }
}

/// Writes down that a frame with a part of a stream was handed to the device at
/// `kicked`: stages `tcp.segment`, `nic.tx` and `driver.kick` in one, when
/// tracing is on.
#[inline]
pub fn departed(meta: &FrameMeta, frame_len: usize, kicked: Nanos) {
    let tag = meta.tag;
    if enabled() && tag.flow != 0 {
        let before = pack(meta.stamp, meta.ring_stamp, kicked);
        let lens = u64::from(tag.len) << 32 | frame_len as u64 & 0xffff_ffff;
        record_words([
            kicked.0,
            DEPARTURE_KIND,
            before,
            tag.flow,
            tag.offset,
            lens,
            0,
        ]);
    }
}

/// [`stamp`], or nothing when nobody traces.
#[inline]
pub fn stamp_if_enabled() -> Nanos {
    if enabled() { stamp() } else { Nanos::ZERO }
}

/// Writes an event of whoever runs here. Out of line, since the address of a
/// thread-local must not be kept over a switch.
#[inline(never)]
fn record(at: Nanos, kind: u64, flow: u64, offset: u64, lens: u64, dur: u64) {
    // A thread that is ending has no ring any more, and its last events are lost.
    let _ = LOCAL.try_with(|local| {
        let who = kind | local.p_and_m.get();
        local.push([at.0, who, local.g.get(), flow, offset, lens, dur]);
    });
}

#[inline(never)]
fn record_words(words: [u64; EVENT_WORDS]) {
    let _ = LOCAL.try_with(|local| local.push(words));
}

#[cold]
fn new_ring() -> Arc<Ring> {
    let mut rings = rings();
    if let Some(ring) = rings.idle.pop() {
        return ring;
    }
    let ring = Arc::new(Ring::new(CAPACITY.load(Ordering::Relaxed)));
    rings.all.push(ring.clone());
    ring
}

fn rings() -> std::sync::MutexGuard<'static, Rings> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Strings that events refer to by number. Bounded, since numbers have 16 bits.
#[derive(Default)]
struct Labels {
    numbers: HashMap<Arc<str>, u16>,
    texts: Vec<Arc<str>>,
}

static LABELS: Mutex<Option<Labels>> = Mutex::new(None);

/// The number of `text` in the trace's table, where it is put if it is not
/// there. Takes a lock: ask once for each string and keep the answer. Past
/// 65,535 strings, and for the empty one, it is none.
pub fn label(text: &str) -> Label {
    if text.is_empty() {
        return Label::default();
    }
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    let labels = labels.get_or_insert_default();
    if let Some(number) = labels.numbers.get(text) {
        return Label(*number);
    }
    let Ok(number) = u16::try_from(labels.texts.len() + 1) else {
        return Label::default();
    };
    let text: Arc<str> = text.into();
    labels.texts.push(text.clone());
    labels.numbers.insert(text, number);
    Label(number)
}

/// All labels: that of number n is at n - 1.
pub fn labels() -> Vec<Arc<str>> {
    let labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    labels.as_ref().map_or_else(Vec::new, |l| l.texts.clone())
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
    let rings = rings().all.clone();
    let mut snapshot = Snapshot::default();
    let mut anchors = Vec::new();
    for ring in rings {
        snapshot.lost += ring.read(&mut snapshot.events, &mut anchors);
    }
    anchors.extend(Anchor::now());
    snapshot.put_in_order(anchors);
    snapshot
}

/// Copies what is wanted of the last `most` entries of each ring, by time: much
/// less than a [`snapshot`] where little is. `is_wanted` does not see an event's
/// time in nanoseconds yet.
pub fn pick(most: usize, is_wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let rings = rings().all.clone();
    let mut snapshot = Snapshot::default();
    let mut anchors = Vec::new();
    for ring in rings {
        let written = ring.written.load(Ordering::Relaxed);
        ring.each_from(written.saturating_sub(most as u64), &mut anchors, |event| {
            if is_wanted(&event) {
                snapshot.events.push(event);
            }
        });
    }
    anchors.extend(Anchor::now());
    snapshot.put_in_order(anchors);
    snapshot.events
}

impl Snapshot {
    /// Makes nanoseconds of counters, and sorts by them.
    fn put_in_order(&mut self, anchors: Vec<Anchor>) {
        let scale = Scale::new(anchors);
        for event in &mut self.events {
            event.at = scale.clock(event.at);
            if event.kind == Kind::HttpHandler {
                let began = scale.clock(Nanos(event.dur_ns));
                event.dur_ns = event.at.0.saturating_sub(began.0);
            }
        }
        self.events.sort_by_key(|e| e.at);
    }
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
            ..Event::new(Nanos(5), Kind::HttpHandler, 0x1_0000_0003)
                .bytes(6, 7)
                .frame(8)
        };
        ring.push(event.encode());
        let mut out = Vec::new();
        assert_eq!(ring.read(&mut out, &mut Vec::new()), 0);
        assert_eq!(out, [event]);
        assert_eq!(event.fd_number(), 3);
    }

    #[test]
    fn text_and_addresses_survive() {
        let ring = Ring::new(4);
        let text = b"GET /a-path-of-just-32-bytes-abc";
        let local = "192.0.2.1:80".parse().unwrap();
        let peer = "[2001:db8::7]:50000".parse().unwrap();
        ring.push((Event::new(Nanos(1), Kind::HttpText, 3).with_text(text)).encode());
        ring.push((Event::new(Nanos(2), Kind::FlowOpen, 3).with_addrs(local, peer)).encode());
        let mut out = Vec::new();
        ring.read(&mut out, &mut Vec::new());
        assert_eq!(out[0].text(), text);
        assert_eq!(out[1].addrs(), (local, peer));
    }

    #[test]
    fn a_label_is_one_number() {
        let (a, b) = (label("a label of this test"), label("another"));
        assert!(a != b && a == label("a label of this test"));
        assert_eq!(&*labels()[usize::from(a.0) - 1], "a label of this test");
        assert_eq!(label(""), Label::default());
    }

    #[test]
    fn the_ring_keeps_the_last_and_counts_the_rest() {
        let ring = Ring::new(4);
        for i in 0..10 {
            ring.push((Event::new(Nanos(i), Kind::NicRx, 0)).encode());
        }
        let mut out = Vec::new();
        assert_eq!(ring.read(&mut out, &mut Vec::new()), 6);
        assert_eq!(out.iter().map(|e| e.at.0).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn a_reader_never_sees_half_an_event() {
        let ring = Arc::new(Ring::new(8));
        let writer = ring.clone();
        let thread = std::thread::spawn(move || {
            for i in 0..2_000 {
                let mut e = Event::new(Nanos(i), Kind::ConnRead, i).bytes(i, 0);
                e.dur_ns = i;
                writer.push(e.encode());
            }
        });
        let mut out = Vec::new();
        while !thread.is_finished() {
            out.clear();
            ring.read(&mut out, &mut Vec::new());
            for e in &out {
                assert!(e.at.0 == e.flow && e.flow == e.offset && e.offset == e.dur_ns);
            }
        }
        thread.join().unwrap();
    }
}
