//! Goroutines that ended are used again, as Go does: an allocation and the
//! filling of its memory are a good part of what a short goroutine costs.
//!
//! An M collects the goroutines that ended on it, and from time to time sweeps
//! them: it takes them out of the registry, many under one lock, and keeps those
//! that nothing refers to any more, no handle, no waker, no entry of a timer.
//! What it has too many of goes to a list of all, from where an M that starts
//! more than it ends takes them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::state::Phase;
use crate::g::G;
use crate::m::{self, Local};
use crate::p::count;

/// Goroutines that end on an M between two sweeps.
const SWEEP: usize = 64;

/// Ended goroutines that an M keeps at most, after a sweep.
const OWN: usize = 128;

/// How many move between an M and the common list at a time.
const MOVED: usize = OWN / 2;

/// Ended goroutines that the common list keeps at most, about 4 MiB.
const COMMON: usize = 16 * 1024;

/// The common list.
#[derive(Default)]
pub(super) struct Dead(Mutex<List>);

#[derive(Default)]
struct List {
    gs: Vec<Arc<G>>,
    /// The runtime ends: its goroutines, which refer to it, are not kept.
    closed: bool,
}

impl Dead {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, gs: impl Iterator<Item = Arc<G>>) {
        let mut list = self.lock();
        if !list.closed && list.gs.len() < COMMON {
            list.gs.extend(gs);
        }
    }

    fn take(&self, into: &mut Vec<Arc<G>>) {
        let mut list = self.lock();
        let from = list.gs.len().saturating_sub(MOVED);
        into.extend(list.gs.drain(from..));
    }

    /// Keeps none from now on.
    pub(super) fn close(&self) {
        let mut list = self.lock();
        list.closed = true;
        let gone = std::mem::take(&mut list.gs);
        drop(list);
        drop(gone);
    }
}

impl Local {
    /// The goroutine that this M runs has ended.
    pub(crate) fn finished(&self, g: Arc<G>) {
        self.dismiss(&g);
        g.state.finish();
        count(&self.m.ended);
        let mut ended = self.ended.borrow_mut();
        ended.push(g);
        if ended.len() == SWEEP {
            drop(ended);
            self.sweep();
        }
    }

    /// Takes the goroutines that ended here out of the registry.
    pub(super) fn sweep(&self) {
        let mut ended = self.ended.take();
        self.shared.registry.remove(&ended);
        let mut dead = self.dead.borrow_mut();
        for mut g in ended.drain(..) {
            if Arc::get_mut(&mut g).is_some() {
                dead.push(g);
            }
        }
        if dead.len() > OWN {
            let from = dead.len() - MOVED;
            self.shared.dead.put(dead.drain(from..));
        }
        self.ended.replace(ended);
    }
}

impl Shared {
    /// A `G` that ended and that nobody refers to.
    pub(super) fn reuse_g(&self) -> Option<Arc<G>> {
        m::with_local(|local| {
            let local = local.filter(|l| std::ptr::eq(&*l.shared, self))?;
            let mut dead = local.dead.borrow_mut();
            if dead.is_empty() {
                self.dead.take(&mut dead);
            }
            let g = dead.pop()?;
            debug_assert_eq!(g.state.phase(), Phase::Done);
            Some(g)
        })
    }
}
