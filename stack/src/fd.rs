//! Descriptors.

use std::fmt;

/// A descriptor of the stack: a listener or a connection.
///
/// The low 24 bits are the slot, the number that people see; then 8 bits of
/// shard; the high 32 bits are the generation, another for each user of any slot
/// of the process, so that a descriptor kept past its close is refused and never
/// names the slot's next user. The same number is the flow's identity in the
/// trace, in which several stacks may tell of themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fd(u64);

impl Fd {
    /// Slots of one shard at most.
    pub const MAX_SLOTS: usize = 1 << 24;

    pub(crate) fn new(shard: u8, slot: u32, generation: u32) -> Fd {
        debug_assert!((slot as usize) < Fd::MAX_SLOTS);
        Fd(u64::from(generation) << 32 | u64::from(shard) << 24 | u64::from(slot))
    }

    /// The shard that the descriptor lives in.
    pub fn shard(self) -> usize {
        (self.0 >> 24 & 0xff) as usize
    }

    /// The slot in the shard: the number that people see.
    pub fn slot(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }

    /// The generation.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// All of it in one word, as in the trace's `flow`.
    pub fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Fd({}/{}#{})",
            self.shard(),
            self.slot(),
            self.generation()
        )
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.slot())
    }
}
