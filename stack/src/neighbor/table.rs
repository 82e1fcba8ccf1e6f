//! Who is where on the link: the table of neighbours that we talk to.
//!
//! An entry is **asking** (with or without an address that still serves),
//! **reachable** for a while after an answer, **stale** after that or when learned
//! unasked, or **failed** for a while when nobody answered (the states of
//! RFC 4861 §7.3.2, for ARP too). A stale address is used at once and asked for
//! again beside it, first of the station itself, then of all.
//!
//! Nobody can replace what is known by saying so: a different Ethernet address
//! makes us ask, and the answer decides. The table is bounded. Its timers are
//! one for each entry that is asking, so that a silent peer delays nobody else;
//! all other states change when they are looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use wirepath_driver::Nanos;

use super::{NeighborStats, Random, Resolution};
use crate::MacAddr;

/// Neighbours, at most. Far more than a server dials; a flood of requests from
/// forged addresses only turns over entries that were never used.
pub(super) const MAX_ENTRIES: usize = 512;
/// Entries looked at to find one to evict.
const EVICTION_SAMPLE: usize = 8;
/// Asks for an address before giving up (RFC 4861 §10, MAX_MULTICAST_SOLICIT).
pub(super) const MAX_ASKS: u8 = 3;
/// Time between asks (RFC 4861 §10, RETRANS_TIMER).
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer holds (RFC 4861 §10, REACHABLE_TIME), before it is spread
/// to between half and three halves of it.
const REACHABLE: Duration = Duration::from_secs(30);
/// How long nobody is asked again after nobody answered.
pub(super) const FAILED_HOLD: Duration = Duration::from_secs(3);

/// A question to put on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// Whose Ethernet address is wanted.
    pub(super) addr: IpAddr,
    /// The station to ask; none for everybody.
    pub(super) of: Option<MacAddr>,
}

/// What someone says of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// The address.
    pub(super) addr: IpAddr,
    /// Where it is said to be; none for «where you think».
    pub(super) mac: Option<MacAddr>,
    /// It answers a question of ours, so that the neighbour hears us too.
    pub(super) solicited: bool,
    /// It may replace another address (RFC 4861 §4.4, the override flag).
    pub(super) overrides: bool,
    /// It came with a question to us, which we will have to answer more of.
    pub(super) may_insert: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Asking {
        /// Address that serves meanwhile.
        mac: Option<MacAddr>,
        asks_left: u8,
        /// When to ask again or give up.
        due: Nanos,
    },
    Reachable {
        mac: MacAddr,
        until: Nanos,
    },
    Stale {
        mac: MacAddr,
    },
    Failed {
        until: Nanos,
    },
}

#[derive(Debug)]
struct Entry {
    addr: IpAddr,
    state: State,
    /// When we last wanted the address; none if never.
    used_at: Option<Nanos>,
}

impl Entry {
    /// How much would be lost with it, to find one to evict.
    fn worth(&self) -> (u8, Option<Nanos>) {
        let rank = match self.state {
            State::Failed { .. } => 0,
            State::Stale { .. } if self.used_at.is_none() => 1,
            State::Stale { .. } => 2,
            State::Reachable { .. } => 3,
            State::Asking { .. } => 4,
        };
        (rank, self.used_at)
    }
}

/// The table. Questions that its changes call for are returned, not sent.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Position in `entries` of each address.
    index: HashMap<IpAddr, usize>,
    /// Not later than the first `due` of an entry.
    next_due: Option<Nanos>,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            entries: Vec::new(),
            index: HashMap::new(),
            next_due: None,
        }
    }

    /// When [`Table::poll`] has something to do.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.next_due
    }

    /// Where `addr` is, and what to ask for that.
    pub(super) fn resolve(
        &mut self,
        now: Nanos,
        addr: IpAddr,
        random: &mut Random,
        stats: &mut NeighborStats,
    ) -> (Resolution, Option<Ask>) {
        let Some(&at) = self.index.get(&addr) else {
            let state = self.start_asking(now, None);
            let used_at = Some(now);
            self.insert(
                Entry {
                    addr,
                    state,
                    used_at,
                },
                true,
                random,
                stats,
            );
            return (Resolution::Pending, Some(Ask { addr, of: None }));
        };
        self.entries[at].used_at = Some(now);
        match self.entries[at].state {
            State::Reachable { mac, until } if now < until => (Resolution::Known(mac), None),
            State::Reachable { mac, .. } | State::Stale { mac } => {
                self.entries[at].state = self.start_asking(now, Some(mac));
                let ask = Ask {
                    addr,
                    of: Some(mac),
                };
                (Resolution::Known(mac), Some(ask))
            }
            State::Asking { mac: Some(mac), .. } => (Resolution::Known(mac), None),
            State::Asking { mac: None, .. } => (Resolution::Pending, None),
            State::Failed { until } if now < until => (Resolution::Failed, None),
            State::Failed { .. } => {
                self.entries[at].state = self.start_asking(now, None);
                (Resolution::Pending, Some(Ask { addr, of: None }))
            }
        }
    }

    /// Takes in what someone says. Whether an address that was awaited is known
    /// now, and what to ask to settle a contradiction.
    pub(super) fn claim(
        &mut self,
        now: Nanos,
        claim: Claim,
        random: &mut Random,
        stats: &mut NeighborStats,
    ) -> (bool, Option<Ask>) {
        let Claim { addr, .. } = claim;
        let Some(&at) = self.index.get(&addr) else {
            if let (Some(mac), true) = (claim.mac, claim.may_insert) {
                let state = State::Stale { mac };
                let used_at = None;
                self.insert(
                    Entry {
                        addr,
                        state,
                        used_at,
                    },
                    false,
                    random,
                    stats,
                );
            }
            return (false, None);
        };
        let known = |mac: MacAddr, random: &mut Random| match claim.solicited {
            true => {
                let spread = random.within(REACHABLE);
                let until = now + REACHABLE / 2 + spread;
                State::Reachable { mac, until }
            }
            false => State::Stale { mac },
        };
        match (self.entries[at].state, claim.mac) {
            (State::Asking { mac: None, .. } | State::Failed { .. }, Some(mac)) => {
                self.entries[at].state = known(mac, random);
                stats.learned += 1;
                return (true, None);
            }
            (State::Asking { mac: Some(old), .. }, mac) => {
                let mac = mac.unwrap_or(old);
                let confirms = mac == old && claim.solicited;
                if confirms || (mac != old && claim.overrides) {
                    self.entries[at].state = known(mac, random);
                    stats.learned += u64::from(mac != old);
                }
            }
            (State::Reachable { mac: old, .. } | State::Stale { mac: old }, Some(mac))
                if mac != old && claim.overrides =>
            {
                stats.contradictions += 1;
                self.entries[at].state = self.start_asking(now, Some(old));
                return (false, Some(Ask { addr, of: None }));
            }
            _ => {}
        }
        (false, None)
    }

    /// Asks again whatever is due, and gives up what was asked for in vain.
    pub(super) fn poll(
        &mut self,
        now: Nanos,
        stats: &mut NeighborStats,
        ask: &mut dyn FnMut(Ask, &mut NeighborStats),
    ) {
        if self.next_due.is_none_or(|due| now < due) {
            return;
        }
        self.next_due = None;
        for entry in &mut self.entries {
            let State::Asking { asks_left, due, .. } = &mut entry.state else {
                continue;
            };
            if *due <= now && *asks_left == 0 {
                stats.failed += 1;
                let until = now + FAILED_HOLD;
                entry.state = State::Failed { until };
                continue;
            }
            if *due <= now {
                *asks_left -= 1;
                *due = now + ASK_INTERVAL;
                let addr = entry.addr;
                ask(Ask { addr, of: None }, stats);
            }
            self.next_due = Some(self.next_due.map_or(*due, |next| next.min(*due)));
        }
    }

    /// The state after a first ask.
    fn start_asking(&mut self, now: Nanos, mac: Option<MacAddr>) -> State {
        let due = now + ASK_INTERVAL;
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        let asks_left = MAX_ASKS - 1;
        State::Asking {
            mac,
            asks_left,
            due,
        }
    }

    /// Adds an entry whose address has none, in the place of another when the
    /// table is full: of any with `at_any_cost`, else of one of no use.
    fn insert(
        &mut self,
        entry: Entry,
        at_any_cost: bool,
        random: &mut Random,
        stats: &mut NeighborStats,
    ) {
        if self.entries.len() == MAX_ENTRIES {
            let sample = (0..EVICTION_SAMPLE).map(|_| random.below(MAX_ENTRIES as u64) as usize);
            let victim = sample.min_by_key(|at| self.entries[*at].worth());
            let victim = victim.expect("the sample is not empty");
            if !at_any_cost && self.entries[victim].worth().1.is_some() {
                stats.ignored += 1;
                return;
            }
            stats.evicted += 1;
            self.index.remove(&self.entries[victim].addr);
            self.index.insert(entry.addr, victim);
            self.entries[victim] = entry;
            return;
        }
        self.index.insert(entry.addr, self.entries.len());
        self.entries.push(entry);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.index.len(), self.entries.len());
        self.entries.len()
    }
}
