//! What goroutines there are, for people: the dump, and the report of what is
//! left at the end.
//!
//! The form is Go's: number, state or wait reason, minutes waiting, and where
//! it was started. There are no frames, since nothing here walks a suspended
//! stack; instead a goroutine that waits for a descriptor shows the connection.
//!
//! A dump may be asked for while the scheduler is stuck. It is put together
//! from [`crate::sched::view`] and the table of poll descriptors, under one
//! short lock at a time, and it does not wait for a connection's shard: a shard
//! that stays locked is said to be busy. Goroutines go on meanwhile, so a line
//! may be older than the next.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use crate::g::{FREE, G};
use crate::m::Status;
use crate::netpoll::{Patience, Waits};
use crate::park::WaitReason;
use crate::sched::Shared;
use crate::sched::state::Phase;
use crate::sched::view::MView;

/// What the goroutines of a dump have around them.
struct Scene {
    procs: usize,
    ms: Vec<MView>,
    /// From a goroutine to the place of the M that runs it.
    runs_on: HashMap<u64, usize>,
    waits: Waits,
    patience: Patience,
}

impl Scene {
    fn of(shared: &Shared, shown: &[Arc<G>]) -> Scene {
        let ms = shared.view_ms();
        let runs_on = ms.iter().filter_map(|m| Some((m.current?, m.index)));
        let runs_on = runs_on.collect();
        let io = |g: &&Arc<G>| g.reason() == Some(WaitReason::IoWait);
        let waits = shared.netpoll.waits_of(shown.iter().filter(io));
        Scene {
            procs: shared.procs(),
            ms,
            runs_on,
            waits,
            patience: Patience::new(),
        }
    }

    fn m_of(&self, g: &G) -> Option<&MView> {
        self.runs_on.get(&g.id).and_then(|m| self.ms.get(*m))
    }

    /// `running`, and where.
    fn running(&self, g: &G) -> String {
        let Some(m) = self.m_of(g) else {
            return "running".into();
        };
        let on = m.index;
        match (m.status, m.p) {
            (Status::Blocking, _) => format!("syscall, blocking M{on}"),
            (_, Some(p)) if p >= self.procs => format!("running, M{on} with spare P{p}"),
            (_, Some(p)) => format!("running, M{on} with P{p}"),
            (_, None) => format!("running, M{on}"),
        }
    }

    /// `, bound to M2`, and whom it waits behind when it could run; Go's `,
    /// locked to thread` for one with a thread of its own.
    fn bound(&self, g: &G, phase: Phase) -> String {
        let home = g.home();
        if home == FREE || phase == Phase::Running {
            return String::new();
        }
        let home_m = self.ms.get(home);
        if home_m.is_some_and(|m| m.own) {
            return format!(", locked to thread M{home}");
        }
        let ahead = home_m.and_then(|m| m.current);
        match ahead.filter(|_| phase == Phase::Runnable) {
            Some(other) => format!(", bound to M{home} behind goroutine {other}"),
            None => format!(", bound to M{home}"),
        }
    }

    fn state(&self, g: &G) -> String {
        let phase = g.state.phase();
        let mut text = match phase {
            Phase::Running => self.running(g),
            _ => plain_state(g).into(),
        };
        if phase == Phase::Parked {
            text += &minutes(g.waited_secs());
        }
        text + &self.bound(g, phase)
    }

    fn goroutine(&self, text: &mut String, shared: &Shared, g: &G) {
        let _ = write!(text, "goroutine {} [{}]:", g.id, self.state(g));
        if let Some(name) = &g.name {
            let _ = write!(text, " {name}");
        }
        text.push('\n');
        if let Some(wait) = self.waits.get(&std::ptr::from_ref(g).addr()) {
            let _ = writeln!(text, "\t{}", shared.netpoll.describe(wait, &self.patience));
        }
        let stack = g.stack_high_water();
        if stack > 0 {
            let _ = writeln!(text, "\t{} KiB of stack", stack / 1024);
        }
        let _ = write!(text, "created at {}:{}", g.site.file(), g.site.line());
        if g.creator != 0 {
            let _ = write!(text, " by goroutine {}", g.creator);
        }
        text.push('\n');
    }
}

/// As Go: whole minutes, and nothing below one.
fn minutes(secs: u32) -> String {
    match secs / 60 {
        0 => String::new(),
        n => format!(", {n} minutes"),
    }
}

/// The goroutines that live, by number: at most `most` of them, and how many
/// more there are.
pub(crate) fn dump(shared: &Shared, most: usize) -> String {
    let (shown, all) = shared.first_live(most);
    let scene = Scene::of(shared, &shown);
    let mut text = String::new();
    for (i, g) in shown.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        scene.goroutine(&mut text, shared, g);
    }
    if all > most {
        let _ = writeln!(text, "\n… and {} more goroutines", all - most);
    }
    text
}

/// How many goroutines there are, by where they were started and what they do:
/// the form of Go's goroutine profiles, with the most first.
///
/// Go's `goroutineleak` profile lists those that can never be woken, which its
/// collector proves; here it is all that have not ended.
pub(crate) fn left(shared: &Shared) -> Option<String> {
    let mut groups: BTreeMap<(&str, u32, &str), (usize, u32)> = BTreeMap::new();
    let mut all = 0;
    for g in shared.live() {
        let key = (g.site.file(), g.site.line(), plain_state(&g));
        let group = groups.entry(key).or_default();
        group.0 += 1;
        if g.state.phase() == Phase::Parked {
            group.1 = group.1.max(g.waited_secs());
        }
        all += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    let mut text = format!("goroutines left at the end: {all}\n");
    for ((file, line, state), (n, secs)) in groups {
        let longest = minutes(secs);
        let _ = writeln!(text, "{n} [{state}{longest}] created at {file}:{line}");
    }
    (all > 0).then_some(text)
}

/// The state in one word or Go's few.
pub(crate) fn plain_state(g: &G) -> &'static str {
    match (g.state.phase(), g.reason()) {
        (_, Some(reason)) => reason.name(),
        (Phase::Runnable, _) => "runnable",
        (Phase::Running, _) => "running",
        (Phase::Parked, _) => "waiting",
        (Phase::Done, _) => "dead",
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_whole_and_none_below_one() {
        assert_eq!(minutes(59), "");
        assert_eq!(minutes(60), ", 1 minutes");
        assert_eq!(minutes(185), ", 3 minutes");
    }
}
