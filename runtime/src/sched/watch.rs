//! What sysmon sees of goroutines that keep their P.
//!
//! A P's tick moves when it starts to run another goroutine, so one that stood
//! still between two looks belongs to a run that lasted at least that long. The
//! time is counted from the first of the looks, and so is short by up to a
//! period. Goroutines that are free to move then get a spare P; for those that
//! are bound to the thread nothing can be done but to say who keeps them.
//!
//! # Asleep with a P
//!
//! A thread that runs a goroutine and is asleep, as /proc shows it, at two looks
//! of the same run waits for something that the scheduler does not know of: a
//! `std` lock whose holder is a goroutine that parked, or a call that should be
//! in [`crate::blocking`]. That is looked up only for runs of more than a
//! period.

use std::time::Duration;

use wirepath_driver::Nanos;

use super::Shared;
use super::sysmon::PERIOD;
use super::view::MView;
use crate::long_runs::Seen;
use crate::m::Status;

/// Runs of more than this are told in the log.
const WARN_AFTER: Duration = Duration::from_millis(100);

/// The least time between two such lines.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// What was seen of a P at the last look.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Its tick, if a goroutine ran there.
    tick: Option<u32>,
    /// When that tick was first seen.
    since: Nanos,
    /// Whether the run was counted.
    counted: bool,
    /// Looks at which the thread was asleep.
    sleeps: u32,
    /// Whether it is out for the log already.
    told: bool,
}

/// What sysmon remembers from look to look.
pub(super) struct Watch {
    /// For each P, the spare ones too.
    runs: Vec<Run>,
    warned: Option<Nanos>,
}

/// Whether a thread of this process sleeps, and does not compute or wait for a
/// CPU (proc(5): the field after the name).
fn sleeps(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
    let state = stat.ok().and_then(|text| {
        let (_, rest) = text.rsplit_once(')')?;
        rest.trim_start().chars().next()
    });
    matches!(state, Some('S' | 'D'))
}

impl Watch {
    pub(super) fn new(shared: &Shared) -> Watch {
        Watch {
            runs: vec![Run::default(); shared.ps.len()],
            warned: None,
        }
    }

    /// All P's were idle since.
    pub(super) fn forget(&mut self) {
        self.runs.fill(Run::default());
    }

    /// Looks at every P: counts the runs that go on since the last look, and
    /// compensates for them where free goroutines wait.
    pub(super) fn look(&mut self, shared: &Shared, now: Nanos) {
        let ms = shared.view_ms();
        let waiting = shared.any_work() && shared.census.idle() == 0;
        let covered = shared.covered();
        let mut spares = true;
        for p in shared.used_ps() {
            let tick = p.tick.load(std::sync::atomic::Ordering::Relaxed);
            let holder = ms.iter().find(|m| m.p == Some(p.id));
            let stuck = self.goes_on(p.id, tick, now);
            let configured = p.id < shared.procs();
            if waiting && stuck && configured && spares && !covered.contains(&p.id) {
                spares = shared.compensate(p.id, tick);
            }
            let runs = |m: &&MView| m.current.is_some() && m.status == Status::Running;
            if let Some(m) = holder.filter(runs).filter(|_| stuck) {
                self.long_run(shared, p.id, m, now);
            }
        }
    }

    /// Whether the P is still at the tick of the last look.
    fn goes_on(&mut self, p: usize, tick: u32, now: Nanos) -> bool {
        let run = &mut self.runs[p];
        if run.tick == Some(tick) {
            return true;
        }
        *run = Run {
            tick: Some(tick),
            since: now,
            ..Run::default()
        };
        false
    }

    fn long_run(&mut self, shared: &Shared, p: usize, m: &MView, now: Nanos) {
        let run = &mut self.runs[p];
        let lasted = now.since(run.since);
        let Some(g) = shared.runs_on(m).filter(|_| lasted >= PERIOD) else {
            return;
        };
        run.sleeps = if sleeps(m.tid) { run.sleeps + 1 } else { 0 };
        let seen = Seen {
            goroutine: g.id,
            site: g.site,
            name: g.name.clone(),
            lasted,
            waiting: m.ready,
            is_new: !std::mem::replace(&mut run.counted, true),
            fell_asleep: run.sleeps == 2,
        };
        shared.long_runs.note(&seen);
        let late = self.warned.is_none_or(|at| now.since(at) >= WARN_EVERY);
        if lasted > WARN_AFTER && late && !std::mem::replace(&mut run.told, true) {
            self.warned = Some(now);
            warn(&seen, run.sleeps >= 2, m.index);
        }
    }
}

fn warn(seen: &Seen, asleep: bool, m: usize) {
    let name = seen.name.as_deref().unwrap_or("without a name");
    let what = match (asleep, seen.waiting) {
        (true, 1..) => {
            "sleeps in the middle of user code while goroutines that are bound to its thread \
             wait: a std lock held across a park? or a call that belongs into blocking()?"
        }
        (true, 0) => {
            "sleeps in the middle of user code and keeps its thread: a call that belongs into \
             blocking()?"
        }
        (false, _) => "keeps its thread by computing; yield_now() lets others run",
    };
    tracing::warn!(
        goroutine = seen.goroutine,
        name,
        created_at = %seen.site,
        lasted_ms = seen.lasted.as_millis() as u64,
        bound_waiting = seen.waiting,
        thread = m,
        "a goroutine {what}"
    );
}
