//! The scheduler in one line, every so often: Go's `schedtrace`.
//!
//! ```text
//! SCHED 1004ms: gomaxprocs=2 idleprocs=0 threads=5 spinningthreads=0 needspinning=0 idlethreads=2 runqueue=3 [ 12 0 ] schedticks=[ 61 99 ] boundwaiting=1 wanting=0 blocking=0 spareprocs=0 longruns=0
//! ```
//!
//! Up to `schedticks` the fields are Go's in Go's order, so that what reads
//! Go's lines reads these. `threads` counts the M's and sysmon, as Go does;
//! `needspinning` is a flag of Go's that this scheduler has no use for. What
//! follows is only here: `boundwaiting`, goroutines that are ready and wait for
//! the one thread that may run them; `wanting`, threads among them without a P;
//! `blocking`, threads in `blocking`; `spareprocs`, P's in use beyond the
//! configured ones; `longruns`, runs of more than 10 ms so far.
//!
//! With detail (`WIREPATH_SCHEDDETAIL=1`) a line follows for each P, each M, and
//! the first hundred goroutines, with Go's words and numbers where they apply.
//!
//! The line is written by sysmon in one call. Where nobody reads stderr and its
//! pipe is full sysmon waits, and with it compensation, as in Go.

use std::fmt::{Display, Write};
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::g::{FREE, G};
use crate::m::Status;
use crate::sched::Shared;
use crate::sched::state::Phase;
use crate::sched::view::{MView, PView, View};
use crate::see::Wishes;

/// Goroutines listed with detail.
const MOST_GOROUTINES: usize = 100;

/// When the next line is due.
pub(crate) struct Schedule {
    period: Option<Duration>,
    detailed: bool,
    started: Nanos,
    next: Nanos,
}

impl Schedule {
    pub(crate) fn new(wishes: Wishes, now: Nanos) -> Schedule {
        Schedule {
            period: wishes.schedtrace,
            detailed: wishes.detailed,
            started: now,
            // The first at once, as Go's.
            next: wishes.schedtrace.map_or(Nanos::MAX, |_| now),
        }
    }

    /// When a line is due; never, unless it was asked for.
    pub(crate) fn next(&self) -> Nanos {
        self.next
    }

    /// Prints the line if it is due.
    pub(crate) fn print_if_due(&mut self, shared: &Shared, now: Nanos) {
        let Some(period) = self.period.filter(|_| self.next <= now) else {
            return;
        };
        // From now, not from when it was due: a late line is not made up for.
        self.next = now + period;
        eprint!("{}", text(shared, now.since(self.started), self.detailed));
    }
}

fn list(numbers: impl Iterator<Item = impl Display>) -> String {
    let mut text = String::from("[ ");
    for n in numbers {
        let _ = write!(text, "{n} ");
    }
    text + "]"
}

/// A number, or Go's word for none.
fn or_nil<T: Display>(n: Option<T>) -> String {
    n.map_or_else(|| "nil".into(), |n| n.to_string())
}

/// What the scheduler does, `since` its start.
pub(crate) fn text(shared: &Shared, since: Duration, detailed: bool) -> String {
    let view = shared.view();
    let mut text = format!("SCHED {}ms: ", since.as_millis());
    summary(&mut text, &view);
    if !detailed {
        let configured = || view.ps[..view.procs].iter();
        let _ = write!(
            text,
            " {} schedticks={}",
            list(configured().map(|p| p.queue)),
            list(configured().map(|p| p.tick)),
        );
    }
    ours(&mut text, &view, shared.long_runs.total());
    if detailed {
        details(&mut text, shared, &view);
    }
    text
}

fn summary(text: &mut String, view: &View) {
    let _ = write!(
        text,
        "gomaxprocs={} idleprocs={} threads={} spinningthreads={} needspinning=0 idlethreads={} \
         runqueue={}",
        view.procs,
        view.idle_ps,
        view.threads().count() + 1,
        view.spinning,
        view.idle_ms,
        view.global,
    );
}

fn ours(text: &mut String, view: &View, long_runs: u64) {
    let _ = writeln!(
        text,
        " boundwaiting={} wanting={} blocking={} spareprocs={} longruns={long_runs}",
        view.bound_waiting(),
        view.wanting,
        view.blocking(),
        view.spares_used,
    );
}

fn details(text: &mut String, shared: &Shared, view: &View) {
    for p in &view.ps {
        // A spare P is worth a line only while it is used.
        if p.id < view.procs || p.m.is_some() {
            p_line(text, p, shared.ps[p.id].timers.len());
        }
    }
    for m in view.threads() {
        m_line(text, m);
    }
    for g in &shared.first_live(MOST_GOROUTINES).0 {
        g_line(text, view, g);
    }
}

fn p_line(text: &mut String, p: &PView, timers: usize) {
    // Go's `_Pidle` and `_Prunning`.
    let status = u8::from(p.m.is_some());
    let _ = writeln!(
        text,
        "  P{}: status={status} schedtick={} m={} runqsize={} timerslen={timers}",
        p.id,
        p.tick,
        or_nil(p.m),
        p.queue,
    );
}

fn m_line(text: &mut String, m: &MView) {
    let _ = writeln!(
        text,
        "  M{}: p={} curg={} blocked={} blocking={} boundwaiting={} bound={} locked={} tid={}",
        m.index,
        or_nil(m.p),
        or_nil(m.current),
        m.status == Status::Idle,
        m.status == Status::Blocking,
        m.ready,
        m.bound,
        m.own,
        m.tid,
    );
}

fn g_line(text: &mut String, view: &View, g: &G) {
    let runs_on = view.ms.iter().find(|m| m.current == Some(g.id));
    let in_blocking = runs_on.is_some_and(|m| m.status == Status::Blocking);
    // Go's `_Grunnable`, `_Grunning`, `_Gsyscall`, `_Gwaiting`, `_Gdead`.
    let status = match g.state.phase() {
        Phase::Runnable => 1,
        Phase::Running if in_blocking => 3,
        Phase::Running => 2,
        Phase::Parked => 4,
        Phase::Done => 6,
    };
    let _ = writeln!(
        text,
        "  G{}: status={status}({}) m={} lockedm={}",
        g.id,
        g.reason().map_or("", |reason| reason.name()),
        or_nil(runs_on.map(|m| m.index)),
        or_nil(Some(g.home()).filter(|m| *m != FREE)),
    );
}
