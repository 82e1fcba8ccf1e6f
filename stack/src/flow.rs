//! Flows: the 4-tuple that names one, and the slots that hold their state.
//!
//! The table from 4-tuple to slot is a `HashMap` with std's keyed hasher
//! (SipHash with a random key), so a peer that chooses its ports cannot choose
//! its bucket. An IPv4 key hashes 12 bytes, an IPv6 key 36.
//!
//! A slot is named by its index and a generation. The generation counts the
//! slot's users, so that a descriptor that outlived its connection names
//! nothing ([`Fd`]).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::Fd;
use crate::conn::Conn;
use crate::listen::Listener;

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
    fn hash<H: Hasher>(&self, state: &mut H) {
        for addr in [self.local.0, self.remote.0] {
            match addr {
                IpAddr::V4(a) => state.write_u32(a.to_bits()),
                IpAddr::V6(a) => state.write(&a.octets()),
            }
        }
        state.write_u32(u32::from(self.local.1) << 16 | u32::from(self.remote.1));
    }
}

/// 4-tuple to slot.
pub(crate) type FlowTable = HashMap<FlowKey, u32>;

/// What a slot holds.
pub(crate) enum Entry {
    Free,
    Conn(Box<Conn>),
    Listener(Box<Listener>),
}

struct Slot {
    generation: u32,
    entry: Entry,
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
                    generation: 1,
                    entry: Entry::Free,
                });
                u32::try_from(self.slots.len() - 1).expect("slots are bounded by MAX_SLOTS")
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        slot.entry = make(Fd::new(self.shard, index, slot.generation));
        Some(index)
    }

    /// Empties a slot and ends its generation.
    pub(crate) fn remove(&mut self, index: u32) -> Entry {
        let slot = &mut self.slots[index as usize];
        let entry = std::mem::replace(&mut slot.entry, Entry::Free);
        if !matches!(entry, Entry::Free) {
            // Generation 0 is skipped, so that no descriptor is all zero.
            slot.generation = slot.generation.checked_add(1).unwrap_or(1);
            self.free.push(index);
        }
        entry
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
