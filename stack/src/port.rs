//! Ports for what we open ourselves: connections, and sockets bound to port 0.
//!
//! The range is the upper half of all ports: RFC 6056 §3.2 asks for as many as
//! one can have, and services seldom listen there. Ports of connections follow
//! RFC 6056 §3.3.4 (double hash): one keyed hash of the destination says where
//! to begin, another picks one of [`COUNTERS`] counters that moves on with each
//! connection. Nobody who sees our ports toward one destination can tell those
//! toward another, and a destination gets the whole range before one returns, so
//! that TIME-WAIT is seldom in the way. Datagram sockets and name lookups, whose
//! port is a part of their safety (RFC 5452 §9.2), take a random one.

use std::hash::Hash;

use crate::isn::Secret;

/// The first of the ports that we choose from.
pub(crate) const FIRST: u16 = 32_768;
/// How many of them there are.
const PORTS: u16 = 32_768;
/// Counters of the double hash; RFC 6056 §3.3.4 takes ten for its example.
const COUNTERS: usize = 256;

/// Chooses ports.
pub(crate) struct Ports {
    counters: Box<[u16; COUNTERS]>,
}

impl Ports {
    pub(crate) fn new() -> Ports {
        Ports {
            counters: Box::new([0; COUNTERS]),
        }
    }

    /// A port toward `destination` (both addresses and the peer's port) that
    /// `is_free` takes; None when there is none.
    pub(crate) fn toward(
        &mut self,
        secret: &Secret,
        destination: impl Hash,
        is_free: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        let index = secret.hash(("port counter", &destination)) as usize % COUNTERS;
        let offset = secret.hash(("port offset", &destination)) as u16;
        let counter = &mut self.counters[index];
        let start = offset.wrapping_add(*counter);
        let (port, steps) = search(start, is_free)?;
        *counter = counter.wrapping_add(steps);
        Some(port)
    }

    /// A random port that `is_free` takes; `draw` is a random number.
    pub(crate) fn random(draw: u64, is_free: impl FnMut(u16) -> bool) -> Option<u16> {
        search(draw as u16, is_free).map(|(port, _)| port)
    }
}

/// The first free port from `start` on, and how many were looked at.
fn search(start: u16, mut is_free: impl FnMut(u16) -> bool) -> Option<(u16, u16)> {
    (0..PORTS)
        .map(|i| (FIRST + start.wrapping_add(i) % PORTS, i + 1))
        .find(|(port, _)| is_free(*port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_destination_gets_every_port_before_one_returns() {
        let (secret, mut ports) = (Secret::random(), Ports::new());
        let mut seen = HashSet::new();
        for _ in 0..PORTS {
            let port = ports.toward(&secret, "there", |_| true).unwrap();
            assert!(port >= FIRST && seen.insert(port));
        }
        assert!(!seen.insert(ports.toward(&secret, "there", |_| true).unwrap()));
    }

    #[test]
    fn taken_ports_are_passed_over_and_none_is_left_when_all_are() {
        let (secret, mut ports) = (Secret::random(), Ports::new());
        let only = |port| port == 40_000;
        assert_eq!(ports.toward(&secret, 1, only), Some(40_000));
        assert_eq!(ports.toward(&secret, 1, only), Some(40_000));
        assert_eq!(ports.toward(&secret, 1, |_| false), None);
        assert_eq!(Ports::random(77, only), Some(40_000));
    }

    #[test]
    fn destinations_and_keys_begin_elsewhere() {
        let start = |secret: &Secret, to: u32| Ports::new().toward(secret, to, |_| true).unwrap();
        let secret = Secret::random();
        let starts: HashSet<u16> = (0..64).map(|to| start(&secret, to)).collect();
        assert!(starts.len() > 48, "{} of 64", starts.len());
        let other = Secret::random();
        let same = (0..64).filter(|to| start(&secret, *to) == start(&other, *to));
        assert!(same.count() < 16);
    }
}
