//! netpoll, the mechanism over our own stack: a turn of a shard, whose edges
//! go to the table of poll descriptors.

use std::os::fd::OwnedFd;

use wirepath_driver::Nanos;
use wirepath_stack::Stack;
use wirepath_stack::syscall::{Event, Turn};

use crate::model::{Mutex, lock};
use crate::netpoll::Table;
use crate::park::Parker;

/// The stack as a source of readiness.
pub(crate) struct StackPoll {
    pub(crate) stack: Stack,
    /// For each shard the list that its last turn filled, kept for its memory.
    /// The lock is not held during a turn: who finds the list taken by another
    /// poller of the shard starts with an empty one.
    events: Box<[Mutex<Vec<Event>>]>,
}

impl StackPoll {
    pub(crate) fn new(stack: Stack) -> StackPoll {
        let events = (0..stack.shards()).map(|_| Mutex::default()).collect();
        StackPoll { stack, events }
    }

    /// One turn of a shard. The waiters of its edges are appended to `woken`,
    /// to be unparked by the caller.
    pub(crate) fn poll(
        &self,
        table: &Table,
        shard: usize,
        now: Nanos,
        budget: usize,
        woken: &mut Vec<Parker>,
    ) -> Turn {
        let mut events = std::mem::take(&mut *lock(&self.events[shard]));
        let turn = self.stack.poll(shard, now, budget, &mut events);
        for event in events.drain(..) {
            table.notify(event.token, event.fd, event.ready, now, woken);
        }
        *lock(&self.events[shard]) = events;
        turn
    }

    pub(crate) fn wakeup_fds(&self) -> Vec<OwnedFd> {
        let shards = 0..self.stack.shards();
        shards
            .filter_map(|shard| self.stack.wakeup(shard))
            .collect()
    }
}
