//! TIME-WAIT (RFC 9293 §3.3.2, §3.10.7.8): flows that closed on our side first
//! and still answer, without a socket or buffers.
//!
//! An entry lives for 60 s (Linux's choice for twice the segment lifetime). The
//! table is bounded; when it is full the oldest entry goes. An entry
//! * answers a FIN that comes again, or any segment that occupies sequence
//!   space, with the last acknowledgment, and a FIN starts the 60 s anew;
//! * gives way to a SYN that is newer than the old connection, by its
//!   timestamp or its sequence number (RFC 6191 §2, RFC 9293 §3.6.1);
//! * ignores resets, so that no one can end it early (RFC 1337 §3).

use std::collections::VecDeque;
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::MacAddr;
use crate::flow::{FlowKey, FlowMap};
use crate::ip::{Segment, TcpFlags};
use crate::segment::{self, Ack};

/// How long a flow stays in TIME-WAIT.
pub(crate) const TIME_WAIT: Duration = Duration::from_secs(60);
/// Entries of one shard, at most.
pub(crate) const MAX_ENTRIES: usize = 65_536;
/// Entries whose time is up that one turn removes.
const PURGE_BATCH: usize = 64;

/// What a flow in TIME-WAIT remembers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The sequence number after our FIN.
    pub(crate) snd_nxt: u32,
    /// The sequence number after the peer's FIN.
    pub(crate) rcv_nxt: u32,
    /// The window last announced, as on the wire.
    pub(crate) window: u16,
    /// The peer's last timestamp.
    pub(crate) peer_timestamp: Option<u32>,
    /// The peer's station.
    pub(crate) mac: MacAddr,
}

struct Waiting {
    entry: Entry,
    expires: Nanos,
    /// Tells this use of the flow from an earlier one in `order`.
    serial: u64,
}

/// What to do about a segment of a flow in TIME-WAIT.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Send this.
    Answer(MacAddr, Ack),
    /// Nothing.
    Ignore,
    /// A new connection may begin; its initial sequence number must be at
    /// least this.
    Reuse(u32),
}

/// The table of one shard.
#[derive(Default)]
pub(crate) struct TimeWait {
    flows: FlowMap<Waiting>,
    /// When to look at each flow, about in order.
    order: VecDeque<(Nanos, FlowKey, u64)>,
    serial: u64,
}

impl TimeWait {
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn contains(&self, key: &FlowKey) -> bool {
        self.flows.contains_key(key)
    }

    /// Puts a flow in; true when another had to go for it.
    pub(crate) fn insert(&mut self, now: Nanos, key: FlowKey, entry: Entry) -> bool {
        let is_full = self.order.len() >= MAX_ENTRIES;
        let evicted = is_full && self.pop_front();
        self.serial += 1;
        let expires = now + TIME_WAIT;
        self.order.push_back((expires, key, self.serial));
        let serial = self.serial;
        let waiting = Waiting {
            entry,
            expires,
            serial,
        };
        self.flows.insert(key, waiting);
        evicted
    }

    /// Takes the first in line out; true when its flow was still waiting.
    fn pop_front(&mut self) -> bool {
        let Some((_, key, serial)) = self.order.pop_front() else {
            return false;
        };
        let is_current = self.flows.get(&key).is_some_and(|w| w.serial == serial);
        if is_current {
            self.flows.remove(&key);
        }
        is_current
    }

    /// Removes some entries whose time is up.
    pub(crate) fn purge(&mut self, now: Nanos) {
        for _ in 0..PURGE_BATCH {
            match self.order.front() {
                Some(&(due, key, serial)) if due <= now => {
                    let current = self.flows.get(&key).filter(|w| w.serial == serial);
                    match current.map(|w| w.expires).filter(|expires| *expires > now) {
                        // A FIN came again and gave it more time.
                        Some(expires) => {
                            self.order.pop_front();
                            self.order.push_back((expires, key, serial));
                        }
                        None => {
                            self.pop_front();
                        }
                    }
                }
                _ => return,
            }
        }
    }

    /// What to do about a segment of `key`; None when the flow is not in
    /// TIME-WAIT. `timestamp` is the segment's own. A flow that gives way is
    /// taken out.
    pub(crate) fn segment(
        &mut self,
        now: Nanos,
        key: &FlowKey,
        segment: &Segment,
        timestamp: Option<u32>,
    ) -> Option<Verdict> {
        let waiting = self.flows.get_mut(key)?;
        if waiting.expires <= now {
            self.flows.remove(key);
            return None;
        }
        let entry = waiting.entry;
        let flags = segment.flags;
        if flags.contains(TcpFlags::RST) {
            return Some(Verdict::Ignore);
        }
        if flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK) {
            if entry.gives_way_to(segment.seq, timestamp) {
                self.flows.remove(key);
                // Linux's step: beyond what the old connection can have used.
                return Some(Verdict::Reuse(entry.snd_nxt.wrapping_add(65_537)));
            }
        } else if flags.contains(TcpFlags::FIN) {
            waiting.expires = now + TIME_WAIT;
        } else if segment.payload_len == 0 {
            // An answer to a bare ACK could go back and forth for ever.
            return Some(Verdict::Ignore);
        }
        Some(Verdict::Answer(entry.mac, entry.ack(*key)))
    }
}

impl Entry {
    /// Whether a SYN begins a newer connection (RFC 6191 §2).
    fn gives_way_to(&self, seq: u32, timestamp: Option<u32>) -> bool {
        match (self.peer_timestamp, timestamp) {
            (Some(old), Some(new)) if new != old => segment::after(new, old),
            _ => segment::after(seq, self.rcv_nxt),
        }
    }

    fn ack(&self, key: FlowKey) -> Ack {
        Ack {
            key,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            window: self.window,
            echo: self.peer_timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn key(port: u16) -> FlowKey {
        FlowKey {
            local: ("10.0.0.1".parse().unwrap(), 80),
            remote: ("10.0.0.2".parse().unwrap(), port),
        }
    }

    fn entry(peer_timestamp: Option<u32>) -> Entry {
        Entry {
            snd_nxt: 1_000,
            rcv_nxt: 2_000,
            window: 64,
            peer_timestamp,
            mac: PEER,
        }
    }

    fn segment(flags: TcpFlags, seq: u32, payload_len: usize) -> Segment {
        Segment {
            src_mac: PEER,
            src: key(0).remote.0,
            dst: key(0).local.0,
            src_port: 1,
            dst_port: 80,
            seq,
            ack: 1_000,
            flags,
            window: 10,
            payload_len,
            ip: 0..0,
            options: 0..0,
        }
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn verdicts() {
        let (syn, fin) = (TcpFlags::SYN, TcpFlags::FIN | TcpFlags::ACK);
        let ack = TcpFlags::ACK;
        // (old timestamp, segment, its timestamp, want)
        let table = [
            (None, segment(TcpFlags::RST, 2_000, 0), None, "ignore"),
            (None, segment(ack, 2_000, 0), None, "ignore"),
            (None, segment(ack, 1_990, 10), None, "answer"),
            (None, segment(fin, 1_999, 0), None, "answer"),
            (None, segment(syn, 2_001, 0), None, "reuse"),
            (None, segment(syn, 2_000, 0), None, "answer"),
            (None, segment(syn, 1_000, 0), Some(7), "answer"),
            (Some(50), segment(syn, 1_000, 0), Some(51), "reuse"),
            (Some(50), segment(syn, 9_000, 0), Some(49), "answer"),
            (Some(50), segment(syn, 9_000, 0), Some(50), "reuse"),
            (Some(50), segment(syn, 1_000, 0), Some(50), "answer"),
            (Some(u32::MAX), segment(syn, 1_000, 0), Some(3), "reuse"),
            (None, segment(syn | ack, 9_000, 0), None, "ignore"),
        ];
        for (i, (old, segment, timestamp, want)) in table.into_iter().enumerate() {
            let mut table = TimeWait::default();
            table.insert(Nanos(0), key(1), entry(old));
            let got = table.segment(Nanos(1), &key(1), &segment, timestamp);
            let got = match got.unwrap() {
                Verdict::Answer(mac, ack) => {
                    assert_eq!((mac, ack.seq, ack.ack), (PEER, 1_000, 2_000));
                    "answer"
                }
                Verdict::Ignore => "ignore",
                Verdict::Reuse(isn) => {
                    assert!(segment::after(isn, 1_000));
                    "reuse"
                }
            };
            assert_eq!(got, want, "row {i}");
            assert_eq!(table.contains(&key(1)), want != "reuse");
        }
    }

    #[test]
    fn entries_expire_and_a_fin_gives_them_more_time() {
        let mut table = TimeWait::default();
        table.insert(Nanos(0), key(1), entry(None));
        table.insert(Nanos(0), key(2), entry(None));
        let fin = segment(TcpFlags::FIN, 1_999, 0);
        table.segment(Nanos(50 * SECOND), &key(2), &fin, None);
        table.purge(Nanos(60 * SECOND));
        assert!(!table.contains(&key(1)) && table.contains(&key(2)));
        table.purge(Nanos(110 * SECOND));
        assert_eq!((table.len(), table.order.len()), (0, 0));
        assert!(table.segment(Nanos(0), &key(2), &fin, None).is_none());
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let mut table = TimeWait::default();
        for i in 0..MAX_ENTRIES + 10 {
            let mut k = key(i as u16);
            k.local.1 = (i >> 16) as u16 + 1;
            assert_eq!(
                table.insert(Nanos(i as u64), k, entry(None)),
                i >= MAX_ENTRIES
            );
        }
        assert_eq!((table.len(), table.order.len()), (MAX_ENTRIES, MAX_ENTRIES));
        let mut oldest = key(0);
        oldest.local.1 = 1;
        assert!(!table.contains(&oldest));
    }
}
