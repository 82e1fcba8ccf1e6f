//! The scheduler's part of a trace, as Go's tracer has it: goroutines created,
//! run, blocked with a reason, made runnable and by whom, and P's taken up and
//! put down.
//!
//! Each function is to be called behind [`trace::enabled`]. What is blocked on a
//! descriptor names its flow; who is woken by netpoll has `g.ready` there, and
//! no `go.unblock` of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::OnceLock;

use wirepath_driver::trace::{self, Actor, Event, Kind, Label};

use crate::g::G;
use crate::park::WaitReason;

/// An event of a goroutine, by whoever runs on this thread.
fn event(kind: Kind, flow: u64) -> Event {
    Event::new(trace::stamp(), kind, flow)
}

/// An M runs a goroutine on a P, from now on.
#[inline(never)]
pub(crate) fn run(g: u64, p: usize, m: usize) {
    let actor = Actor {
        g,
        p: p as u16 + 1,
        m: m as u16 + 1,
    };
    trace::set_actor(actor);
    trace::emit(event(Kind::GRun, 0));
}

/// The goroutine that was in `blocking` on an M goes on, with a P unless the
/// runtime is gone.
#[inline(never)]
pub(crate) fn resume(g: u64, p: Option<usize>, m: usize) {
    let actor = Actor {
        g,
        p: p.map_or(0, |p| p as u16 + 1),
        m: m as u16 + 1,
    };
    trace::set_actor(actor);
    trace::emit(event(Kind::GoUnblocked, 0));
}

/// It runs it no longer; it goes on with the P.
#[inline(never)]
pub(crate) fn leave() {
    trace::set_actor(Actor::default());
}

/// A goroutine was started.
#[inline(never)]
pub(crate) fn create(g: &G) {
    trace::emit(event(Kind::GoCreate, 0).to(g.id).labelled(site(g.site)));
}

/// The goroutine that runs here waits.
#[inline(never)]
pub(crate) fn block(reason: WaitReason, flow: u64) {
    trace::emit(event(Kind::GoBlock, flow).labelled(self::reason(reason)));
}

/// A goroutine that waited for something else than a descriptor is runnable, or
/// one whose time has come.
#[inline(never)]
pub(crate) fn unblock(g: &G) {
    trace::emit(event(Kind::GoUnblock, 0).to(g.id));
}

/// Something of the goroutine that runs here, or of the P.
#[inline(never)]
pub(crate) fn plain(kind: Kind) {
    trace::emit(event(kind, 0));
}

/// An M takes a P up, or puts it down.
#[inline(never)]
pub(crate) fn proc(kind: Kind, p: usize, m: usize) {
    let mut event = event(kind, 0);
    event.actor = Actor {
        g: 0,
        p: p as u16 + 1,
        m: m as u16 + 1,
    };
    trace::emit(event);
}

fn reason(reason: WaitReason) -> Label {
    static LABELS: OnceLock<Vec<Label>> = OnceLock::new();
    let all = || WaitReason::ALL.iter().map(|r| trace::label(r.name()));
    LABELS.get_or_init(|| all().collect())[reason as usize]
}

/// The label of a place in a program; kept, since it takes a lock to find.
fn site(site: &'static Location<'static>) -> Label {
    thread_local!(static SITES: RefCell<HashMap<usize, Label>> = RefCell::default());
    let find = || trace::label(&format!("{}:{}", site.file(), site.line()));
    let key = std::ptr::from_ref(site).addr();
    SITES
        .try_with(|sites| *sites.borrow_mut().entry(key).or_insert_with(find))
        .unwrap_or_default()
}
