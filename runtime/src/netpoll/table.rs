//! The table of poll descriptors: from the token in a readiness event to the
//! descriptor that it is for.
//!
//! A slot is used by one descriptor after another and is never freed, so the
//! timer entries that a closed descriptor leaves behind serve the next one
//! instead of piling up: the timer heap is bounded by the slots, not by how
//! fast peers connect. An event for a slot's former user is told by its `Fd`,
//! which carries a generation, or for one of the kernel by the generation of
//! the slot, which is in the token.
//!
//! Slots live in chunks that double in size and never move, so that a lookup
//! takes the lock of its slot and no other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use wirepath_driver::Nanos;
use wirepath_stack::Fd;
use wirepath_stack::syscall::Ready;

use super::deadline::{Entry, NEVER};
use super::{Dir, PollDesc, Source};
use crate::model::{Mutex, lock};
use crate::park::Parker;
use crate::timer::{TimerTarget, add_timer};

/// Slots of the first chunk; each next chunk has twice as many.
const FIRST_SLOTS: usize = 256;
/// Enough for 33 million descriptors.
const CHUNKS: usize = 17;
const MAX_SLOTS: usize = FIRST_SLOTS * ((1 << CHUNKS) - 1);

/// A place for a descriptor, and the timer entries of whoever is in it.
pub(crate) struct Slot {
    pub(super) token: u64,
    desc: Mutex<Option<Arc<PollDesc>>>,
    /// How many had it.
    users: AtomicU32,
    entries: [Entry; 2],
}

impl Slot {
    fn new(index: usize) -> Arc<Slot> {
        Arc::new(Slot {
            token: index as u64,
            desc: Mutex::new(None),
            users: AtomicU32::new(0),
            entries: [Entry::new(), Entry::new()],
        })
    }

    /// A token for its next user, whose generation is from 1 to 2³¹ - 1.
    fn next_token(&self) -> u64 {
        let user = self.users.fetch_add(1, Ordering::Relaxed);
        u64::from(user % (u32::MAX / 2) + 1) << 32 | self.token
    }

    /// Sees to it that a timer fires for `dir` at `deadline` or before.
    pub(super) fn cover(self: &Arc<Self>, dir: Dir, deadline: u64) {
        self.entries[dir as usize].cover(deadline, |at, seq| self.queue(dir, at, seq));
    }

    /// The timer's number tells the direction in its lowest bit.
    fn queue(self: &Arc<Self>, dir: Dir, at: u64, seq: u64) {
        add_timer(Nanos(at), seq << 1 | dir as u64, self.clone());
    }

    fn deadline(&self, dir: Dir) -> u64 {
        lock(&self.desc).as_ref().map_or(NEVER, |d| d.deadline(dir))
    }
}

impl TimerTarget for Slot {
    fn fire(self: Arc<Self>, now: Nanos, number: u64, woken: &mut Vec<Parker>) {
        let dir = if number & 1 == 0 {
            Dir::Read
        } else {
            Dir::Write
        };
        let passed = self.entries[dir as usize].fired(
            now.0,
            number >> 1,
            || self.deadline(dir),
            |at, seq| self.queue(dir, at, seq),
        );
        if passed && let Some(desc) = &*lock(&self.desc) {
            desc.expire(dir, woken);
        }
    }
}

#[derive(Default)]
struct Free {
    /// Slots that were used before, the last one on top: its lines are warm.
    slots: Vec<usize>,
    /// The first slot that was never used.
    next: usize,
}

/// The table.
pub(crate) struct Table {
    chunks: [OnceLock<Box<[Arc<Slot>]>>; CHUNKS],
    free: Mutex<Free>,
}

/// The chunk of a slot, and its place there.
fn place(index: usize) -> (usize, usize) {
    let chunk = ((index / FIRST_SLOTS) + 1).ilog2() as usize;
    (chunk, index - FIRST_SLOTS * ((1 << chunk) - 1))
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            chunks: [const { OnceLock::new() }; CHUNKS],
            free: Mutex::new(Free::default()),
        }
    }

    fn slot(&self, index: usize) -> Option<&Arc<Slot>> {
        let (chunk, at) = place(index);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// The slot, made with its whole chunk when it is the first there.
    fn slot_or_make(&self, index: usize) -> &Arc<Slot> {
        let (chunk, at) = place(index);
        let first = index - at;
        let make = || (first..first + (FIRST_SLOTS << chunk)).map(Slot::new);
        &self.chunks[chunk].get_or_init(|| make().collect())[at]
    }

    /// Puts a descriptor in. `None`: the table is full.
    pub(crate) fn open(&self, source: Source, what: &'static str) -> Option<Arc<PollDesc>> {
        let index = {
            let mut free = lock(&self.free);
            match free.slots.pop() {
                Some(index) => index,
                None if free.next == MAX_SLOTS => return None,
                None => {
                    free.next += 1;
                    free.next - 1
                }
            }
        };
        let slot = self.slot_or_make(index);
        let desc = PollDesc::new(source, what, slot.next_token(), slot.clone());
        let desc = Arc::new(desc);
        *lock(&slot.desc) = Some(desc.clone());
        Some(desc)
    }

    /// Calls `each` for every descriptor, under the lock of its slot.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Arc<PollDesc>)) {
        let chunks = self.chunks.iter().map_while(OnceLock::get);
        for slot in chunks.flatten() {
            if let Some(desc) = &*lock(&slot.desc) {
                each(desc);
            }
        }
    }

    /// Takes a descriptor out. Called once, by whoever closed it.
    pub(crate) fn release(&self, desc: &PollDesc) {
        let gone = lock(&desc.slot.desc).take();
        drop(gone);
        let index = usize::try_from(desc.slot.token).expect("it was made from a usize");
        lock(&self.free).slots.push(index);
    }

    /// An edge on `fd`, which was registered under `token`.
    pub(crate) fn notify(&self, token: u64, fd: Fd, ready: Ready, woken: &mut Vec<Parker>) {
        let index = usize::try_from(token).unwrap_or(usize::MAX / 2);
        let Some(slot) = self.slot(index) else {
            return;
        };
        if let Some(desc) = &*lock(&slot.desc)
            && desc.source.owns(fd)
        {
            desc.notify(ready, woken);
        }
    }

    /// An edge on a descriptor of the kernel that was registered under `token`.
    pub(crate) fn notify_kernel(&self, token: u64, ready: Ready, woken: &mut Vec<Parker>) {
        let index = token as u32 as usize;
        let Some(slot) = self.slot(index) else {
            return;
        };
        if let Some(desc) = &*lock(&slot.desc)
            && desc.token == token
        {
            desc.notify(ready, woken);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_fill_their_chunks() {
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(FIRST_SLOTS - 1), (0, FIRST_SLOTS - 1));
        assert_eq!(place(FIRST_SLOTS), (1, 0));
        assert_eq!(place(3 * FIRST_SLOTS - 1), (1, 2 * FIRST_SLOTS - 1));
        assert_eq!(place(3 * FIRST_SLOTS), (2, 0));
        let (chunk, at) = place(MAX_SLOTS - 1);
        assert_eq!((chunk, at), (CHUNKS - 1, (FIRST_SLOTS << chunk) - 1));
        let table = Table::new();
        for index in [0, 255, 256, 767, 768, 5000] {
            assert_eq!(table.slot_or_make(index).token, index as u64);
        }
    }
}
