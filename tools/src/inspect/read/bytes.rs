//! Numbers in the byte order of a file.

/// Of the machine that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }

    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }

    pub fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        }
    }

    /// # Panics
    ///
    /// If the bytes end before it, as the other two.
    pub fn u16_at(self, bytes: &[u8], at: usize) -> u16 {
        self.u16(bytes[at..at + 2].try_into().expect("two bytes"))
    }

    pub fn u32_at(self, bytes: &[u8], at: usize) -> u32 {
        self.u32(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    /// A time or a counter of pcapng's old kind: its upper half first.
    pub fn halves_at(self, bytes: &[u8], at: usize) -> u64 {
        u64::from(self.u32_at(bytes, at)) << 32 | u64::from(self.u32_at(bytes, at + 4))
    }
}
