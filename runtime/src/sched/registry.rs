//! The goroutines that have not ended.
//!
//! A list in parts, each a slab under a lock of its own: a goroutine is entered
//! in the part of the P that starts it, so P's seldom meet at a lock, and keeps
//! its place until it ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
struct Part {
    slab: Mutex<Slab>,
    /// Goroutines in it; changed under the lock.
    len: AtomicUsize,
}

impl Part {
    fn lock(&self) -> MutexGuard<'_, Slab> {
        self.slab.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Registry {
    /// Enters a goroutine; `hint` chooses the part.
    pub(crate) fn insert(&self, hint: usize, g: &Arc<G>) {
        let number = hint % PARTS;
        let part = &self.parts[number];
        let mut slab = part.lock();
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
        part.len
            .store(part.len.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Takes out what `insert` put in, once.
    pub(crate) fn remove(&self, place: Place) {
        let part = &self.parts[place.part as usize];
        let mut slab = part.lock();
        let gone = slab.entries[place.index as usize].take();
        debug_assert!(gone.is_some(), "a goroutine ends once");
        slab.free.push(place.index);
        part.len
            .store(part.len.load(Ordering::Relaxed) - 1, Ordering::Release);
        drop(slab);
        drop(gone);
    }

    /// How many goroutines there are.
    pub(crate) fn len(&self) -> usize {
        let lens = self.parts.iter();
        lens.map(|part| part.len.load(Ordering::Acquire)).sum()
    }

    /// The goroutines.
    pub(crate) fn all(&self) -> Vec<Arc<G>> {
        let mut all = Vec::with_capacity(self.len());
        for part in &self.parts {
            all.extend(part.lock().entries.iter().flatten().cloned());
        }
        all
    }
}
