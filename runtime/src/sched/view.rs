//! What others may see of a runtime: numbers for metrics and schedtrace, and
//! the goroutines for a dump.
//!
//! Everything here is read while the scheduler goes on, so the parts of a view
//! need not fit together exactly, as in Go. Nothing waits for a goroutine: the
//! locks taken are those of the idle lists, of the list of M's and of the parts
//! of the registry, each for a few instructions a thing seen and one at a time,
//! and no memory is asked for under the registry's, which every start and end
//! of a goroutine takes. So a view can be had of a scheduler that is stuck.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::Shared;
use super::registry::Place;
use crate::g::G;
use crate::m::{NO_P, Status};

/// An M, seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct MView {
    pub(crate) index: usize,
    pub(crate) tid: i32,
    pub(crate) p: Option<usize>,
    /// The goroutine that it runs.
    pub(crate) current: Option<u64>,
    place: Place,
    pub(crate) status: Status,
    /// It belongs to one goroutine (`go_locked`).
    pub(crate) own: bool,
    /// Bound goroutines that are ready, and those that wait.
    pub(crate) ready: usize,
    pub(crate) bound: usize,
}

/// A P, seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct PView {
    pub(crate) id: usize,
    /// The M that holds it.
    pub(crate) m: Option<usize>,
    pub(crate) tick: u32,
    /// Goroutines in its ring (without `runnext`, as Go counts).
    pub(crate) queue: usize,
    /// As `queue`, with `runnext`.
    pub(crate) runnable: usize,
}

/// A runtime, seen from outside.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) procs: usize,
    pub(crate) idle_ps: usize,
    pub(crate) spares_used: usize,
    pub(crate) spinning: usize,
    pub(crate) wanting: usize,
    /// M's that sleep without a P.
    pub(crate) idle_ms: usize,
    /// Goroutines in the global queue.
    pub(crate) global: usize,
    /// By index, those that are gone too.
    pub(crate) ms: Vec<MView>,
    /// The configured P's, and then the spare ones.
    pub(crate) ps: Vec<PView>,
}

/// Goroutines by what they do. Read one after another, so they need not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) created: u64,
    pub(crate) live: u64,
    pub(crate) running: u64,
    pub(crate) runnable: u64,
    pub(crate) waiting: u64,
    /// In `blocking`.
    pub(crate) not_in_go: u64,
}

impl View {
    /// M's whose threads have not ended.
    pub(crate) fn threads(&self) -> impl Iterator<Item = &MView> {
        self.ms.iter().filter(|m| m.status != Status::Gone)
    }

    /// Bound goroutines that are ready.
    pub(crate) fn bound_waiting(&self) -> usize {
        self.ms.iter().map(|m| m.ready).sum()
    }

    pub(crate) fn blocking(&self) -> usize {
        let ms = self.ms.iter();
        ms.filter(|m| m.status == Status::Blocking).count()
    }

    /// M's whose goroutine runs.
    pub(crate) fn running(&self) -> usize {
        let runs = |m: &&MView| m.current.is_some() && m.status != Status::Blocking;
        self.ms.iter().filter(runs).count()
    }

    pub(crate) fn runnable(&self) -> usize {
        let queued: usize = self.ps.iter().map(|p| p.runnable).sum();
        queued + self.global + self.bound_waiting()
    }
}

impl Shared {
    /// What each M does now.
    pub(crate) fn view_ms(&self) -> Vec<MView> {
        let see = |m: &Arc<crate::m::M>| MView {
            index: m.index,
            tid: m.tid.load(Ordering::Relaxed),
            p: Some(m.p.load(Ordering::Relaxed)).filter(|p| *p != NO_P),
            current: Some(m.current.load(Ordering::Relaxed)).filter(|g| *g != 0),
            place: m.place(),
            status: m.status(),
            own: m.own,
            ready: m.bound_ready(),
            bound: m.bound.load(Ordering::Relaxed),
        };
        let mut seen = Vec::with_capacity(self.m_count() + 8);
        let ms = self.ms.read().unwrap_or_else(PoisonError::into_inner);
        seen.extend(ms.iter().map(see));
        seen
    }

    /// What the scheduler does now.
    pub(crate) fn view(&self) -> View {
        let ms = self.view_ms();
        let holder = |p: usize| ms.iter().find(|m| m.p == Some(p)).map(|m| m.index);
        let see = |p: &crate::p::P| PView {
            id: p.id,
            m: holder(p.id),
            tick: p.tick.load(Ordering::Relaxed),
            queue: p.queue.len(),
            runnable: p.queue.len() + usize::from(p.queue.has_next()),
        };
        let procs = self.procs();
        let used = self.used_ps().len().max(procs);
        let ps = self.ps[..used].iter().map(see).collect();
        let idle = self.count_idle();
        View {
            procs,
            idle_ps: idle.ps,
            spares_used: idle.spares_used,
            spinning: self.census.spinning(),
            wanting: self.wanting.load(Ordering::Relaxed),
            idle_ms: idle.ms,
            global: self.global.len(),
            ms,
            ps,
        }
    }

    /// Goroutines that have not ended.
    pub(crate) fn live_count(&self) -> u64 {
        // Read in this order, so that it is never less than nothing.
        let ended = self.ended();
        self.created().saturating_sub(ended)
    }

    /// Goroutines that have ended.
    pub(crate) fn ended(&self) -> u64 {
        let ms = self.ms.read().unwrap_or_else(PoisonError::into_inner);
        ms.iter().map(|m| m.ended.load(Ordering::SeqCst)).sum()
    }

    /// Goroutines by state, from counters: no goroutine is looked at.
    pub(crate) fn counts(&self, view: &View) -> Counts {
        let live = self.live_count();
        let running = view.running() as u64;
        let runnable = view.runnable() as u64;
        let not_in_go = view.blocking() as u64;
        Counts {
            created: self.created(),
            live,
            running,
            runnable,
            waiting: live.saturating_sub(running + runnable + not_in_go),
            not_in_go,
        }
    }

    /// The goroutine that the M runs, if that is the one of this number.
    pub(crate) fn runs_on(&self, m: &MView) -> Option<Arc<G>> {
        let g = self.registry.get(m.place)?;
        (Some(g.id) == m.current).then_some(g)
    }

    /// Calls `f` with each goroutine that has not ended, under a lock: it is to be
    /// quick.
    pub(crate) fn each_live(&self, mut f: impl FnMut(&G)) {
        self.registry.each(|g| f(g));
    }

    /// The first `most` of the goroutines that have not ended, by number, and
    /// how many there are.
    pub(crate) fn first_live(&self, most: usize) -> (Vec<Arc<G>>, usize) {
        let mut all = self.registry.map(|g| (g.id, g.place()));
        all.sort_unstable_by_key(|(id, _)| *id);
        let find = |&(id, place)| self.registry.get(place).filter(|g| g.id == id);
        let first = all.iter().take(most).filter_map(find).collect();
        (first, all.len())
    }
}
