//! Flows: the 4-tuple that names one, and the slots that hold their state.
//!
//! The table from 4-tuple to slot is a `HashMap` with SipHash-1-3 under a
//! random key, so a peer that chooses its ports cannot choose its bucket. An
//! IPv4 key hashes 12 bytes, an IPv6 key 36, in one call ([`FlowHasher`]): std's
//! hasher, which is made for pieces, takes twice as long for each frame.
//!
//! A slot is named by its index and a generation. Generations are drawn from
//! one counter of the process, so that a descriptor that outlived its
//! connection names nothing ([`Fd`]), and the flows of two stacks in one
//! process, whose slots have the same numbers, are told apart in a trace.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use siphasher::sip::SipHasher13;

use crate::conn::Conn;
use crate::dns::Lookup;
use crate::listen::Listener;
use crate::udp::UdpSocket;
use crate::{Event, Fd, Ready};

/// The 4-tuple of a connection. IPv4 and IPv6 are equal here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    /// Our address and port.
    pub(crate) local: (IpAddr, u16),
    /// The peer's.
    pub(crate) remote: (IpAddr, u16),
}

impl FlowKey {
    /// The flow as its peer names it.
    pub(crate) fn reversed(&self) -> FlowKey {
        FlowKey {
            local: self.remote,
            remote: self.local,
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local.into()
    }

    pub(crate) fn remote_addr(&self) -> SocketAddr {
        self.remote.into()
    }
}

impl Hash for FlowKey {
    /// One write of all bytes, as [`FlowHasher`] wants it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (local_port, remote_port) = (self.local.1.to_be_bytes(), self.remote.1.to_be_bytes());
        if let (IpAddr::V4(local), IpAddr::V4(remote)) = (self.local.0, self.remote.0) {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&local.octets());
            bytes[4..8].copy_from_slice(&remote.octets());
            bytes[8..10].copy_from_slice(&local_port);
            bytes[10..].copy_from_slice(&remote_port);
            state.write(&bytes);
        } else {
            let mut bytes = [0; 36];
            bytes[..16].copy_from_slice(&v6_octets(self.local.0));
            bytes[16..32].copy_from_slice(&v6_octets(self.remote.0));
            bytes[32..34].copy_from_slice(&local_port);
            bytes[34..].copy_from_slice(&remote_port);
            state.write(&bytes);
        }
    }
}

fn v6_octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// Hashes the one write of a [`FlowKey`].
pub(crate) struct FlowHasher {
    sip: SipHasher13,
    hash: u64,
}

impl Hasher for FlowHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.hash = self.sip.hash(bytes);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

/// The key of a table of flows, random for each.
#[derive(Clone)]
pub(crate) struct FlowHash(SipHasher13);

impl Default for FlowHash {
    fn default() -> FlowHash {
        // Two outputs of SipHash under std's random key are a random key.
        let random = RandomState::new();
        FlowHash(SipHasher13::new_with_keys(
            random.hash_one(0),
            random.hash_one(1),
        ))
    }
}

impl BuildHasher for FlowHash {
    type Hasher = FlowHasher;

    #[inline]
    fn build_hasher(&self) -> FlowHasher {
        FlowHasher {
            sip: self.0,
            hash: 0,
        }
    }
}

/// What is known by 4-tuple.
pub(crate) type FlowMap<T> = HashMap<FlowKey, T, FlowHash>;

/// 4-tuple to slot.
pub(crate) type FlowTable = FlowMap<u32>;

/// What a slot holds.
pub(crate) enum Entry {
    Free,
    Conn(Box<Conn>),
    Listener(Box<Listener>),
    Udp(Box<UdpSocket>),
    Lookup(Box<Lookup>),
}

struct Slot {
    /// Of the present user, or of the last one.
    generation: u32,
    entry: Entry,
}

/// A generation that no slot of this process has, but for one that was drawn
/// 2^32 opens ago. Never 0, so that no descriptor is all zero.
fn next_generation() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let generation = NEXT.fetch_add(1, Ordering::Relaxed);
        if generation != 0 {
            return generation;
        }
    }
}

/// The slots of one shard. The slot freed last is used next.
pub(crate) struct Slots {
    shard: u8,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    pub(crate) fn new(shard: u8) -> Slots {
        Slots {
            shard,
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Takes a slot and fills it with what `make` makes of its descriptor;
    /// None when all are taken.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Fd) -> Entry) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < Fd::MAX_SLOTS => {
                self.slots.push(Slot {
                    generation: 0,
                    entry: Entry::Free,
                });
                u32::try_from(self.slots.len() - 1).expect("slots are bounded by MAX_SLOTS")
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        slot.generation = next_generation();
        slot.entry = make(Fd::new(self.shard, index, slot.generation));
        Some(index)
    }

    /// Empties a slot.
    pub(crate) fn remove(&mut self, index: u32) -> Entry {
        let slot = &mut self.slots[index as usize];
        let entry = std::mem::replace(&mut slot.entry, Entry::Free);
        if !matches!(entry, Entry::Free) {
            self.free.push(index);
        }
        entry
    }

    /// How many there are, free ones too.
    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn conn(&mut self, index: u32) -> Option<&mut Conn> {
        match &mut self.slots.get_mut(index as usize)?.entry {
            Entry::Conn(conn) => Some(conn),
            _ => None,
        }
    }

    pub(crate) fn listener(&mut self, index: u32) -> Option<&mut Listener> {
        match &mut self.slots.get_mut(index as usize)?.entry {
            Entry::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    pub(crate) fn udp(&mut self, index: u32) -> Option<&mut UdpSocket> {
        match &mut self.slots.get_mut(index as usize)?.entry {
            Entry::Udp(socket) => Some(socket),
            _ => None,
        }
    }

    pub(crate) fn lookup(&mut self, index: u32) -> Option<&mut Lookup> {
        match &mut self.slots.get_mut(index as usize)?.entry {
            Entry::Lookup(lookup) => Some(lookup),
            _ => None,
        }
    }

    /// What has become true of a listener, a UDP socket or a lookup since it was
    /// last told. Before it is registered, `register` itself tells.
    pub(crate) fn take_edges(&mut self, index: u32) -> Option<Event> {
        let (fd, token, ready) = match &mut self.slots.get_mut(index as usize)?.entry {
            Entry::Listener(listener) => {
                let has_news = std::mem::take(&mut listener.has_news);
                (listener.fd, listener.token, Ready::read_if(has_news))
            }
            Entry::Udp(socket) => {
                socket.is_touched = false;
                (socket.fd, socket.token, socket.take_edges())
            }
            Entry::Lookup(lookup) => {
                lookup.is_touched = false;
                let has_news = std::mem::take(&mut lookup.has_news);
                (lookup.fd, lookup.token, Ready::read_if(has_news))
            }
            Entry::Conn(_) | Entry::Free => return None,
        };
        let token = token.filter(|_| !ready.is_empty())?;
        Some(Event { fd, token, ready })
    }

    /// What `fd` names, when it is still open.
    pub(crate) fn open(&mut self, fd: Fd) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(fd.slot() as usize)?;
        if slot.generation != fd.generation() {
            return None;
        }
        match &slot.entry {
            Entry::Free => None,
            Entry::Conn(conn) if conn.is_orphan() => None,
            _ => Some(&mut slot.entry),
        }
    }

    /// Indices of all UDP sockets and lookups.
    pub(crate) fn datagram_users(&self) -> Vec<u32> {
        let used = (0..).zip(&self.slots);
        used.filter(|(_, slot)| matches!(slot.entry, Entry::Udp(_) | Entry::Lookup(_)))
            .map(|(index, _)| index)
            .collect()
    }

    /// Indices of all connections.
    pub(crate) fn conns(&self) -> impl Iterator<Item = (u32, &Conn)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(i, slot)| match &slot.entry {
                Entry::Conn(conn) => Some((i, &**conn)),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn listener(fd: Fd) -> Entry {
        let addr = "10.0.0.1:80".parse().unwrap();
        Entry::Listener(Box::new(Listener::new(fd, addr, Default::default())))
    }

    #[test]
    fn no_two_users_of_slots_share_a_descriptor() {
        let mut seen = HashSet::new();
        // As in two stacks of one process: the same shard, the same slots.
        for mut slots in [Slots::new(0), Slots::new(0)] {
            let mut last = None;
            for _ in 0..100 {
                let index = slots.insert(listener).unwrap();
                let fd = slots.listener(index).unwrap().fd;
                assert_eq!(fd.slot(), 0);
                assert!(seen.insert(fd.raw()));
                assert!(slots.open(fd).is_some());
                assert!(last.is_none_or(|last| slots.open(last).is_none()));
                slots.remove(index);
                assert!(slots.open(fd).is_none());
                last = Some(fd);
            }
        }
    }

    #[test]
    fn every_part_of_a_key_counts_and_tables_hash_differently() {
        let key = |local: &str, remote: &str| {
            let (local, remote): (SocketAddr, SocketAddr) =
                (local.parse().unwrap(), remote.parse().unwrap());
            FlowKey {
                local: (local.ip(), local.port()),
                remote: (remote.ip(), remote.port()),
            }
        };
        let keys = [
            key("10.0.0.1:80", "10.0.0.2:4000"),
            key("10.0.0.1:81", "10.0.0.2:4000"),
            key("10.0.0.1:80", "10.0.0.2:4001"),
            key("10.0.0.3:80", "10.0.0.2:4000"),
            key("10.0.0.1:80", "10.0.0.3:4000"),
            key("[fd00::1]:80", "[fd00::2]:4000"),
            key("[fd00::3]:80", "[fd00::2]:4000"),
            key("[fd00::1]:80", "[fd00::3]:4000"),
            key("[fd00::1]:81", "[fd00::2]:4000"),
            key("[fd00::1]:80", "[fd00::2]:4001"),
        ];
        let (one, other) = (FlowHash::default(), FlowHash::default());
        let hashes: HashSet<u64> = keys.iter().map(|key| one.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
        assert!(
            keys.iter()
                .all(|key| one.hash_one(key) != other.hash_one(key))
        );
    }
}
