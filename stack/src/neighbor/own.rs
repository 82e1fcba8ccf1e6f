//! An address of ours: made sure of, announced, defended.
//!
//! An IPv6 address is tentative until duplicate address detection has passed
//! (RFC 4862 §5.4): it answers nothing, and whoever else has or wants it takes
//! it. An IPv4 address is taken as ours at once, as every server's is, and only
//! announced (RFC 5227 §2.3). Once ours, an address is not given up: another that
//! claims it is reported, and answered with an announcement at most every
//! [`DEFEND_INTERVAL`] (RFC 5227 §2.4 c).

use std::net::IpAddr;
use std::time::Duration;

use wirepath_driver::Nanos;

use super::Random;
use super::table::ASK_INTERVAL;

/// Announcements of a new address (RFC 5227 §1.1, ANNOUNCE_NUM).
pub(super) const ANNOUNCEMENTS: u8 = 2;
/// Time between announcements (RFC 5227 §1.1, ANNOUNCE_INTERVAL).
pub(super) const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// Least time between two defences (RFC 5227 §1.1, DEFEND_INTERVAL).
pub(super) const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// The first probe comes at a random time within this, so that a network of hosts
/// that start at once is not flooded (RFC 4862 §5.4.2).
const MAX_PROBE_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Tentative, with nothing done yet.
    Fresh,
    /// Tentative, to be probed for.
    Delayed { due: Nanos },
    /// Tentative; ours if nobody objects until `due`. DupAddrDetectTransmits is 1.
    Probed { due: Nanos },
    /// Ours, with announcements to come.
    Announcing { left: u8, due: Nanos },
    /// Ours.
    Settled,
    /// Another's; never used.
    Duplicate,
}

/// What is to be said of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// «Has anybody this address?»
    Probe,
    /// «I have this address.»
    Announce,
}

/// One address of ours.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) addr: IpAddr,
    state: State,
    defended_at: Option<Nanos>,
}

impl Own {
    /// An address, to be checked for duplicates before use if `tentative`.
    pub(super) fn new(addr: IpAddr, tentative: bool) -> Own {
        let state = match tentative {
            true => State::Fresh,
            false => State::Announcing {
                left: ANNOUNCEMENTS,
                due: Nanos::ZERO,
            },
        };
        Own {
            addr,
            state,
            defended_at: None,
        }
    }

    /// The host has made sure of the address, and speaks for it.
    pub(super) fn settle(&mut self) {
        self.state = State::Settled;
    }

    /// Whether the address may be used.
    pub(super) fn is_usable(&self) -> bool {
        matches!(self.state, State::Announcing { .. } | State::Settled)
    }

    /// Whether nobody knows yet whose the address is.
    pub(super) fn is_tentative(&self) -> bool {
        !self.is_usable() && !self.is_given_up()
    }

    /// Whether the address is another's.
    pub(super) fn is_given_up(&self) -> bool {
        self.state == State::Duplicate
    }

    /// Another station has the tentative address.
    pub(super) fn give_up(&mut self) {
        self.state = State::Duplicate;
    }

    /// Another station claims the address: whether to object now.
    pub(super) fn defend(&mut self, now: Nanos) -> bool {
        let is_time = self
            .defended_at
            .is_none_or(|last| now >= last + DEFEND_INTERVAL);
        if is_time {
            self.defended_at = Some(now);
        }
        is_time
    }

    /// When [`Own::poll`] has something to do.
    pub(super) fn due(&self) -> Option<Nanos> {
        match self.state {
            State::Fresh => Some(Nanos::ZERO),
            State::Delayed { due } | State::Probed { due } | State::Announcing { due, .. } => {
                Some(due)
            }
            State::Settled | State::Duplicate => None,
        }
    }

    /// Goes a step on, if it is time; what to say at it.
    pub(super) fn poll(&mut self, now: Nanos, random: &mut Random) -> Option<Say> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let announce = |left: u8| match left {
            1 => State::Settled,
            _ => State::Announcing {
                left: left - 1,
                due: now + ANNOUNCE_INTERVAL,
            },
        };
        let (state, say) = match self.state {
            State::Fresh => {
                let due = now + random.within(MAX_PROBE_DELAY);
                (State::Delayed { due }, None)
            }
            State::Delayed { .. } => {
                let due = now + ASK_INTERVAL;
                (State::Probed { due }, Some(Say::Probe))
            }
            State::Probed { .. } => (announce(ANNOUNCEMENTS), Some(Say::Announce)),
            State::Announcing { left, .. } => (announce(left), Some(Say::Announce)),
            same @ (State::Settled | State::Duplicate) => (same, None),
        };
        self.state = state;
        say
    }
}
