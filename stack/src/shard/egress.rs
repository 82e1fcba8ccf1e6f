//! Egress: what the dirty connections have to send, and the ring.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;
use wirepath_driver::{BURST_FRAMES, Nanos};

use super::timeouts::SOON;
use super::{RING_FULL_RETRY, Shard, instant};
use crate::Errno;
use crate::conn::Marks;
use crate::phy::{Line, Phy};
use crate::segment;

/// Segments of one connection in one flush, at most, so that a large window
/// does not hold up the others.
const SEGMENTS_PER_CONN: usize = BURST_FRAMES;
/// Segments of one flush, at most: bounds how long it holds the lock.
const SEGMENTS_PER_FLUSH: usize = 16 * BURST_FRAMES;

/// How far a connection's egress came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// smoltcp has nothing more to send now.
    Done,
    /// It has, and its share is used up.
    More,
    /// It has, and there is no room for it.
    Blocked,
}

impl Shard {
    /// Sends what dirty connections have to send; returns how many frames went
    /// into the ring.
    pub(crate) fn flush(&mut self, now: Nanos) -> usize {
        if !self.has_egress() || self.is_down {
            return 0;
        }
        segment::set_timestamp_clock(now, self.timestamp_origin);
        let mut sent = self.transmit(now);
        let mut budget = SEGMENTS_PER_FLUSH;
        while !self.dirty.is_empty() && budget > 0 && self.outbox.has_room() {
            let before = budget;
            sent += self.flush_round(now, &mut budget);
            if budget == before {
                break;
            }
        }
        self.has_leftover = !self.dirty.is_empty();
        sent + self.transmit(now)
    }

    /// Gives each dirty connection its share once.
    fn flush_round(&mut self, now: Nanos, budget: &mut usize) -> usize {
        let mut sent = 0;
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut blocked = false;
        for slot in dirty.drain(..) {
            let Some(conn) = self.slots.conn(slot) else {
                continue;
            };
            if !conn.marks.contains(Marks::DIRTY) {
                continue;
            }
            conn.marks.remove(Marks::DIRTY);
            if blocked || *budget == 0 {
                self.mark_dirty(slot);
                continue;
            }
            let mut progress = self.send_segments(now, slot, budget);
            if progress == Progress::Blocked {
                // Frames may only wait to be taken back.
                self.queue.reclaim(now);
                sent += self.transmit(now);
                progress = self.send_segments(now, slot, budget);
            }
            match progress {
                Progress::Done => self.after_egress(now, slot),
                Progress::More => self.mark_dirty(slot),
                Progress::Blocked => {
                    self.mark_dirty(slot);
                    self.blocked_until = Some(now + RING_FULL_RETRY);
                    blocked = true;
                }
            }
        }
        // What was marked meanwhile went to the new list; keep the larger
        // memory for the next time.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
        sent
    }

    /// Lets smoltcp cut segments from one connection's send buffer.
    pub(super) fn send_segments(&mut self, now: Nanos, slot: u32, budget: &mut usize) -> Progress {
        let Some(conn) = self.slots.conn(slot) else {
            return Progress::Done;
        };
        if conn.is_detached() {
            return Progress::Done;
        }
        self.outbox.refused = false;
        for _ in 0..SEGMENTS_PER_CONN.min(*budget) {
            if !self.outbox.has_room() {
                return Progress::Blocked;
            }
            conn.limit_flight();
            conn.end_if_sent();
            let mut phy = Phy {
                rx: None,
                outbox: &mut self.outbox,
                line: Line {
                    mac: conn.mac,
                    flow: conn.fd.raw(),
                    written: conn.written_end(),
                    window_shift: conn.window_shift,
                    sent: &mut conn.sent,
                },
                counters: &mut self.counters,
            };
            let set = conn.socket.set_mut();
            let iface = &mut self.iface;
            let polled = catch_unwind(AssertUnwindSafe(|| {
                iface.poll_egress(instant(now), &mut phy, set)
            }));
            match polled {
                Ok(PollResult::SocketStateChanged) => *budget -= 1,
                Ok(PollResult::None) if self.outbox.refused => return Progress::Blocked,
                Ok(PollResult::None) => return Progress::Done,
                Err(_) => {
                    self.tcp_panicked(slot);
                    return Progress::Done;
                }
            }
            if let Some(shift) = conn.sent.window_scale {
                conn.window_shift = shift;
            }
            if conn.has_sent_all() && !conn.marks.contains(Marks::FIN_DUE) {
                return Progress::Done;
            }
        }
        Progress::More
    }

    /// Follows a connection that has nothing more to send now.
    fn after_egress(&mut self, now: Nanos, slot: u32) {
        let Some(conn) = self.slots.conn(slot) else {
            return;
        };
        match conn.state() {
            State::Established => {}
            // The ACK of the peer's FIN has left.
            State::TimeWait => return self.enter_time_wait(now, slot),
            _ => self.settle(now, slot, false),
        }
        self.rearm(now, slot);
    }

    /// Makes sure that the connection's timer entry comes up in time.
    pub(super) fn rearm(&mut self, now: Nanos, slot: u32) {
        // smoltcp starts no timer that is shorter than this, so an entry that
        // comes up sooner needs no look at the rest.
        if self.timers.when(slot).is_some_and(|at| at <= now + SOON) {
            return;
        }
        let mut tcp = self.tcp_deadline(now, slot);
        let Some(conn) = self.slots.conn(slot).filter(|c| !c.is_detached()) else {
            return;
        };
        if tcp.is_none() && conn.awaits_ack_of_data() {
            self.revive(now, slot);
            tcp = self.tcp_deadline(now, slot);
        }
        let own = self.slots.conn(slot).and_then(|conn| conn.next_deadline());
        // A deadline in the past means that smoltcp would send and cannot yet.
        if let Some(at) = [tcp, own].into_iter().flatten().min() {
            self.timers.arm(slot, at.max(now + RING_FULL_RETRY));
        }
    }

    /// When smoltcp wants to look at a connection again.
    pub(super) fn tcp_deadline(&mut self, now: Nanos, slot: u32) -> Option<Nanos> {
        let conn = self.slots.conn(slot).filter(|c| !c.is_detached())?;
        let at = self.iface.poll_at(instant(now), conn.socket.set())?;
        Some(Nanos(u64::try_from(at.total_micros()).unwrap_or(0) * 1_000))
    }

    /// Ends a connection on which smoltcp panicked. Its sequence arithmetic
    /// panics on an underflow, which must not take the server with it.
    pub(super) fn tcp_panicked(&mut self, slot: u32) {
        self.counters.tcp_panics += 1;
        self.fail(slot, Errno::ConnectionAborted);
        self.finish(slot);
    }

    /// Hands queued frames to the ring, and the ring to the device.
    pub(super) fn transmit(&mut self, now: Nanos) -> usize {
        let mut sent = 0;
        while !self.outbox.frames.is_empty() && !self.is_down {
            match self.queue.tx_burst(now, &mut self.outbox.frames) {
                Ok(0) => {
                    self.blocked_until = Some(now + RING_FULL_RETRY);
                    break;
                }
                Ok(taken) => {
                    self.blocked_until = None;
                    self.fates.to_ring += taken as u64;
                    sent += taken;
                }
                Err(_) => self.go_down(),
            }
        }
        if sent > 0 && self.queue.kick(now).is_err() {
            self.go_down();
        }
        sent
    }
}
