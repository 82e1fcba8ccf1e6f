//! Timers: one entry for each connection at most, lazily moved.
//!
//! A busy connection's retransmission deadline moves with each segment. Its
//! entry does not: an entry is moved only when the deadline becomes earlier,
//! and one that comes up early is armed again by its owner. A connection thus
//! costs the timers something once a second at most, whatever its traffic.
//!
//! The entries are a binary heap that knows where each slot's entry is. A
//! hashed wheel was rejected: with one lazy entry a connection the heap is
//! touched too seldom to show in a profile, it needs no tick, and it tells the
//! earliest deadline exactly, which virtual time needs.

use wirepath_driver::Nanos;

/// No entry.
const NONE: u32 = u32::MAX;

/// The timers of one shard, by slot.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<(Nanos, u32)>,
    /// Where in `heap` each slot's entry is.
    at: Vec<u32>,
}

impl Timers {
    /// When the slot's entry comes up.
    pub(crate) fn when(&self, slot: u32) -> Option<Nanos> {
        let at = *self.at.get(slot as usize)?;
        (at != NONE).then(|| self.heap[at as usize].0)
    }

    /// The earliest entry.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.heap.first().map(|(when, _)| *when)
    }

    /// Makes sure that the slot's entry comes up at `when` or before.
    pub(crate) fn arm(&mut self, slot: u32, when: Nanos) {
        if self.at.len() <= slot as usize {
            self.at.resize(slot as usize + 1, NONE);
        }
        let at = match self.at[slot as usize] {
            NONE => {
                self.heap.push((when, slot));
                self.heap.len() - 1
            }
            at if when < self.heap[at as usize].0 => {
                self.heap[at as usize].0 = when;
                at as usize
            }
            _ => return,
        };
        self.up(at);
    }

    /// Takes the slot's entry out.
    pub(crate) fn disarm(&mut self, slot: u32) {
        match self.at.get(slot as usize) {
            Some(&at) if at != NONE => self.remove(at as usize),
            _ => {}
        }
    }

    /// Takes out an entry that is due.
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<u32> {
        let &(when, slot) = self.heap.first()?;
        if when > now {
            return None;
        }
        self.remove(0);
        Some(slot)
    }

    fn remove(&mut self, at: usize) {
        let (_, slot) = self.heap.swap_remove(at);
        self.at[slot as usize] = NONE;
        if at < self.heap.len() {
            self.place(at);
            self.up(at);
            self.down(at);
        }
    }

    fn place(&mut self, at: usize) {
        let slot = self.heap[at].1;
        self.at[slot as usize] = u32::try_from(at).expect("no more entries than slots");
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.heap.swap(at, (at - 1) / 2);
            self.place(at);
            at = (at - 1) / 2;
        }
        self.place(at);
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let least = [2 * at + 1, 2 * at + 2]
                .into_iter()
                .filter(|child| *child < self.heap.len())
                .min_by_key(|child| self.heap[*child]);
            match least {
                Some(child) if self.heap[child] < self.heap[at] => {
                    self.heap.swap(at, child);
                    self.place(at);
                    at = child;
                }
                _ => break,
            }
        }
        self.place(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_only_moves_earlier() {
        let mut timers = Timers::default();
        timers.arm(3, Nanos(50));
        timers.arm(3, Nanos(70));
        assert_eq!(timers.when(3), Some(Nanos(50)));
        timers.arm(3, Nanos(20));
        assert_eq!(timers.next(), Some(Nanos(20)));
        assert_eq!(timers.pop_due(Nanos(19)), None);
        assert_eq!(timers.pop_due(Nanos(20)), Some(3));
        assert_eq!((timers.next(), timers.when(3)), (None, None));
    }

    #[test]
    fn entries_come_up_in_order_whatever_was_taken_out() {
        let mut timers = Timers::default();
        let mut state = 1u64;
        let mut want = Vec::new();
        for slot in 0..500 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let when = Nanos(state >> 40);
            timers.arm(slot, when);
            if slot % 3 == 0 {
                timers.disarm(slot);
            } else {
                want.push((when, slot));
            }
        }
        want.sort();
        let mut got = Vec::new();
        while let Some(when) = timers.next() {
            got.push((when, timers.pop_due(Nanos::MAX).unwrap()));
        }
        got.sort();
        assert_eq!(got, want);
    }
}
