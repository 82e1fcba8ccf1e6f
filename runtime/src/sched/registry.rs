//! The goroutines that have not ended.
//!
//! A list in parts, each a slab under a lock of its own: a goroutine is entered
//! in the part of the P that starts it, so P's seldom meet at a lock. It leaves
//! some time after its end: an M takes out many at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::Phase;
use crate::g::G;

const PARTS: usize = 16;

/// Goroutines that a slab of memory has room for at first.
const FIRST: usize = 256;

#[derive(Default)]
struct Slab {
    entries: Vec<Option<Arc<G>>>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Part(Mutex<Slab>);

impl Part {
    fn lock(&self) -> MutexGuard<'_, Slab> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list.
#[derive(Default)]
pub(crate) struct Registry {
    parts: [Part; PARTS],
}

/// Where a goroutine is in the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    part: u32,
    index: u32,
}

impl Place {
    /// One number for both, for a field that is set after the goroutine exists.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.part) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> Place {
        Place {
            part: (bits >> 32) as u32,
            index: bits as u32,
        }
    }
}

fn is_live(g: &&Arc<G>) -> bool {
    g.state.phase() != Phase::Done
}

impl Registry {
    /// Enters a goroutine; `hint` chooses the part.
    pub(crate) fn insert(&self, hint: usize, g: &Arc<G>) {
        let number = hint % PARTS;
        let mut slab = self.parts[number].lock();
        let index = match slab.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(slab.entries.len()).expect("memory ends before");
                if index == 0 {
                    slab.entries.reserve(FIRST);
                }
                slab.entries.push(None);
                index
            }
        };
        let place = Place {
            part: number as u32,
            index,
        };
        g.set_place(place);
        slab.entries[index as usize] = Some(g.clone());
    }

    /// Takes out goroutines that ended, each once. The caller holds a count of
    /// each.
    pub(crate) fn remove(&self, ended: &[Arc<G>]) {
        let mut rest = ended;
        while let Some(first) = rest.first() {
            let number = first.place().part;
            let same = rest.iter().take_while(|g| g.place().part == number);
            let (gone, others) = rest.split_at(same.count());
            let mut slab = self.parts[number as usize].lock();
            for g in gone {
                let index = g.place().index;
                let taken = slab.entries[index as usize].take();
                debug_assert!(taken.is_some(), "a goroutine ends once");
                slab.free.push(index);
            }
            rest = others;
        }
    }

    /// The goroutines that have not ended.
    pub(crate) fn live(&self) -> Vec<Arc<G>> {
        self.map(Arc::clone)
    }

    /// The goroutine at a place that it had while it lived.
    pub(crate) fn get(&self, place: Place) -> Option<Arc<G>> {
        let slab = self.parts.get(place.part as usize)?.lock();
        slab.entries.get(place.index as usize)?.clone()
    }

    /// Calls `f` with each that lives, under the lock of its part.
    pub(crate) fn each(&self, mut f: impl FnMut(&Arc<G>)) {
        for part in &self.parts {
            part.lock()
                .entries
                .iter()
                .flatten()
                .filter(is_live)
                .for_each(&mut f);
        }
    }

    /// What `each` gives for the goroutines that have not ended. No memory is
    /// asked for under a lock.
    pub(crate) fn map<T>(&self, each: impl Fn(&Arc<G>) -> T) -> Vec<T> {
        let mut seen = Vec::new();
        for part in &self.parts {
            loop {
                let wanted = part.lock().entries.len();
                seen.reserve(wanted + wanted / 8);
                let slab = part.lock();
                if slab.entries.len() <= seen.capacity() - seen.len() {
                    seen.extend(slab.entries.iter().flatten().filter(is_live).map(&each));
                    break;
                }
            }
        }
        seen
    }

    /// Whether every goroutine that has not ended is as `is` says. Stops at the
    /// first that is not.
    pub(crate) fn all(&self, is: impl Fn(&G) -> bool) -> bool {
        let entries = |part: &Part| {
            let slab = part.lock();
            slab.entries.iter().flatten().filter(is_live).all(|g| is(g))
        };
        self.parts.iter().all(entries)
    }

    /// How many goroutines have not ended.
    pub(crate) fn len(&self) -> usize {
        let count = |part: &Part| part.lock().entries.iter().flatten().filter(is_live).count();
        self.parts.iter().map(count).sum()
    }

    /// Whether all have ended.
    pub(crate) fn is_empty(&self) -> bool {
        let any = |part: &Part| part.lock().entries.iter().flatten().any(|g| is_live(&g));
        !self.parts.iter().any(any)
    }
}
