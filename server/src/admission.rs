//! Who may connect: connections are counted, in all and by client address.
//!
//! A client has an IPv6 network of 64 bits at the least (RFC 6177), so that is
//! what counts as one address there; an IPv4 address that is mapped into IPv6
//! counts as itself. One connection too many costs a look at two numbers, and a
//! reset: no memory, and nothing that stays behind.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6([u16; 4]),
}

impl Client {
    fn of(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V4(address) => Client::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Client::V6([a, b, c, d])
            }
        }
    }
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are too many.
    Full,
    /// There are too many from its address.
    FullForAddress,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_client: HashMap<Client, usize>,
}

/// How many connections there are, and may be.
pub(crate) struct Gate {
    max: usize,
    max_per_address: usize,
    counts: Mutex<Counts>,
}

impl Gate {
    pub fn new(max: usize, max_per_address: usize) -> Gate {
        Gate {
            max,
            max_per_address,
            counts: Mutex::default(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection from `address` in, until what is returned is dropped.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, Refusal> {
        let client = Client::of(address);
        let mut counts = self.counts();
        if counts.all >= self.max {
            return Err(Refusal::Full);
        }
        let has = counts.by_client.get(&client).copied().unwrap_or(0);
        if has >= self.max_per_address {
            return Err(Refusal::FullForAddress);
        }
        counts.by_client.insert(client, has + 1);
        counts.all += 1;
        let gate = self.clone();
        Ok(Ticket { gate, client })
    }

    fn leave(&self, client: Client) {
        let mut counts = self.counts();
        counts.all -= 1;
        let has = counts.by_client.get_mut(&client);
        let has = has.expect("it was counted when it was let in");
        *has -= 1;
        if *has == 0 {
            counts.by_client.remove(&client);
        }
    }
}

/// A connection that was let in.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    client: Client,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.leave(self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max: usize, max_per_address: usize) -> Arc<Gate> {
        Arc::new(Gate::new(max, max_per_address))
    }

    #[test]
    fn connections_are_counted_by_address_and_in_all() {
        let gate = gate(3, 2);
        let admit = |address: &str| gate.admit(address.parse().unwrap());
        let first = admit("10.0.0.1").unwrap();
        let _second = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(admit("10.0.0.1").err(), Some(Refusal::FullForAddress));
        let third = admit("10.0.0.2").unwrap();
        assert_eq!(admit("10.0.0.3").err(), Some(Refusal::Full));
        drop(third);
        assert_eq!(admit("10.0.0.1").err(), Some(Refusal::FullForAddress));
        drop(first);
        assert!(admit("10.0.0.1").is_ok());
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_of_ipv6() {
        let gate = gate(9, 1);
        let admit = |address: &str| gate.admit(address.parse().unwrap());
        let _first = admit("2001:db8:1:2::1").unwrap();
        let same = admit("2001:db8:1:2:ffff::9").err();
        assert_eq!(same, Some(Refusal::FullForAddress));
        let _other = admit("2001:db8:1:3::1").unwrap();
    }

    #[test]
    fn who_has_left_takes_no_memory() {
        let gate = gate(9, 9);
        for last in 0..9 {
            let _ticket = gate.admit(Ipv4Addr::new(10, 0, 0, last).into()).unwrap();
        }
        assert!(gate.counts().by_client.is_empty());
        assert_eq!(gate.counts().all, 0);
    }
}
