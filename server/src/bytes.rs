//! Sets of bytes, for what may stand where.

/// A set of bytes, as a table.
pub(crate) struct ByteSet([bool; 256]);

impl ByteSet {
    /// The letters and digits of ASCII, and `others`.
    pub const fn alphanumeric_and(others: &[u8]) -> ByteSet {
        let mut table = [false; 256];
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        let mut byte = 0;
        while byte < 128 {
            table[byte as usize] |= (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        ByteSet(table)
    }

    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    pub fn has_all(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| self.has(byte))
    }
}
