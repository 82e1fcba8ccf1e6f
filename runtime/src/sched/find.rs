//! Where an M looks for its next goroutine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wirepath_driver::Nanos;

use crate::g::G;
use crate::m::Local;
use crate::p::{P, QUEUE, count};
use crate::park::Parker;

/// Every so many runs the global queue and wanting M's come first, so that
/// they are served although local work never ends (Go's number).
const FAIR_TICK: u32 = 61;

/// Runs after which a busy P flushes what it dirtied and polls its queue.
const POLL_TICK: u32 = 64;

/// Runs between two looks at the clock for due timers on a busy P.
const TIMER_TICK: u32 = 8;

/// Frames taken in one poll of a shard.
const POLL_BUDGET: usize = 64;

/// Runs in a row that `runnext` may give before the queue's turn comes.
const MAX_NEXTS: u32 = 16;

/// Rounds over all P's before giving up stealing; the last takes `runnext`.
const STEAL_ROUNDS: usize = 4;

impl Local {
    /// The next goroutine to run; sleeps while there is none. None: exit.
    pub(crate) fn find(&self) -> Option<Arc<G>> {
        loop {
            if self.shared.exiting() {
                return None;
            }
            if self.m.own {
                return self.find_own();
            }
            let p = self.p().expect("an M looks for work with a P");
            if self.shared.is_over(p) {
                self.retire(p);
                if !self.rest() {
                    return None;
                }
                continue;
            }
            let found = self.busy(p).or_else(|| self.look_around(p));
            if let Some(g) = found {
                if self.spinning.get() {
                    self.stop_spinning();
                }
                self.leave_watch(p);
                return Some(g);
            }
            // A P that was given up to a wanting M, or nothing anywhere.
            if (self.p().is_none() || !self.progress.take()) && !self.rest() {
                return None;
            }
        }
    }

    /// What a P with work does: bounded chores, then its own queues.
    fn busy(&self, p: &P) -> Option<Arc<G>> {
        let tick = p.tick.load(Ordering::Relaxed);
        if tick.is_multiple_of(TIMER_TICK) && p.timers.next() != Nanos::MAX {
            self.fire_timers(p, self.shared.now());
        }
        if p.since_poll.load(Ordering::Relaxed) >= POLL_TICK {
            self.flush();
            self.poll(p);
        }
        if tick.is_multiple_of(FAIR_TICK)
            && let Some(g) = self.shared.global.take(0, |_| {})
        {
            return Some(g);
        }
        // At another tick, so that neither keeps the other from its turn.
        if tick % FAIR_TICK == FAIR_TICK / 2 && self.shared.is_wanted() && self.serve_wanting() {
            return None;
        }
        self.own(p, tick)
    }

    /// The M's bound goroutines and the P's free ones, taking turns.
    fn own(&self, p: &P, tick: u32) -> Option<Arc<G>> {
        if tick.is_multiple_of(2) {
            self.pop_bound().or_else(|| self.pop_free(p))
        } else {
            self.pop_free(p).or_else(|| self.pop_bound())
        }
    }

    fn pop_free(&self, p: &P) -> Option<Arc<G>> {
        if self.nexts.get() < MAX_NEXTS
            && let Some(g) = p.queue.pop_next()
        {
            self.nexts.set(self.nexts.get() + 1);
            return Some(g);
        }
        self.nexts.set(0);
        p.queue.pop().or_else(|| p.queue.pop_next())
    }

    /// The rest of Go's order, once the P's own queues are empty.
    fn look_around(&self, p: &P) -> Option<Arc<G>> {
        // Given up just now to an M that wants one?
        self.p()?;
        let share = (self.shared.global.len() / self.shared.procs()).min(QUEUE / 2);
        let more = |g| p.queue.push(g, |half| self.shared.global.extend(half));
        if let Some(g) = self.shared.global.take(share, more) {
            return Some(g);
        }
        self.flush();
        if self.fire_timers(p, self.shared.now()) | self.poll(p) {
            self.progress.set(true);
            return self.own(p, 0);
        }
        if self.shared.is_wanted() && self.serve_wanting() {
            return None;
        }
        self.steal(p)
    }

    pub(super) fn fire_timers(&self, p: &P, now: Nanos) -> bool {
        if p.timers.next() > now {
            return false;
        }
        let mut woken = self.woken.take();
        let fired = p.timers.fire(now, &mut woken);
        super::unpark_batch(&mut woken);
        self.woken.set(woken);
        fired
    }

    /// Sends what this P's goroutines gave the stack to send.
    pub(crate) fn flush(&self) {
        let Some(p) = self.p() else { return };
        let mut now = None;
        p.take_dirty(|shard| {
            let now = *now.get_or_insert_with(|| self.shared.now());
            self.shared.netpoll.flush(shard, now);
        });
    }

    /// Polls the network. True: frames came or goroutines were woken.
    pub(super) fn poll(&self, p: &P) -> bool {
        p.since_poll.store(0, Ordering::Relaxed);
        let mut woken = self.woken.take();
        self.poll_kernel(p, &mut woken);
        let any = self.poll_shards(p, &mut woken) | !woken.is_empty();
        super::unpark_batch(&mut woken);
        self.woken.set(woken);
        any
    }

    /// Looks for descriptors of the kernel that are ready, unless the poller,
    /// which is told of them, sleeps.
    fn poll_kernel(&self, p: &P, woken: &mut Vec<Parker>) {
        let netpoll = &self.shared.netpoll;
        if netpoll.kernel.registered() > 0 && !self.shared.sleeper.vigil.is_kept() {
            count(&p.polls);
            netpoll.poll_kernel(self.shared.now(), woken);
        }
    }

    /// Polls the P's shards, or all of them after a sleep. True: frames came.
    fn poll_shards(&self, p: &P, woken: &mut Vec<Parker>) -> bool {
        let shards = self.shared.netpoll.shards();
        if shards == 0 {
            return false;
        }
        let (first, step) = if self.poll_all.take() {
            (0, 1)
        } else if p.id < self.shared.procs() {
            (p.id, self.shared.procs())
        } else {
            return false;
        };
        let now = self.shared.now();
        count(&p.polls);
        let mut any = false;
        for shard in (first..shards).step_by(step) {
            let turn = self.shared.netpoll.poll(shard, now, POLL_BUDGET, woken);
            self.shared.last_polls[shard].store(now.0, Ordering::Relaxed);
            self.shared.rearm(shard);
            if turn.others {
                self.shared.events_moved();
            }
            // Timers of the stack may have made something to send as well.
            p.mark_dirty(shard);
            any |= turn.frames > 0 || turn.more;
        }
        any
    }

    /// Takes half of another P's queue, or fires its late timers.
    fn steal(&self, p: &P) -> Option<Arc<G>> {
        let ps = self.shared.used_ps();
        if ps.len() == 1 || !self.start_spinning() {
            return None;
        }
        let mut batch = Vec::new();
        for round in 0..STEAL_ROUNDS {
            let last = round + 1 == STEAL_ROUNDS;
            let start = self.random();
            for i in 0..ps.len() {
                let victim = &ps[(start + i) % ps.len()];
                if victim.id == p.id {
                    continue;
                }
                if last && self.fire_timers(victim, self.shared.now()) {
                    self.progress.set(true);
                    return self.own(p, 0);
                }
                if victim.queue.steal(last, &mut batch) {
                    count(&p.steals);
                    let first = batch.pop();
                    for g in batch {
                        p.queue.push(g, |half| self.shared.global.extend(half));
                    }
                    return first;
                }
            }
        }
        None
    }
}
