//! Bytes that tell where in a stream they belong, so that a byte lost, doubled
//! or swapped anywhere in 100 MiB is found, without keeping them.

use std::io::{self, Write};

/// The pattern's block: each is the hash of its index.
const BLOCK: usize = 8;

/// The finalizer of SplitMix64, a bijection: no two blocks are alike.
fn block(index: u64) -> [u8; BLOCK] {
    let mut x = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).to_le_bytes()
}

/// Fills `buf` with the pattern's bytes from `offset` on.
pub fn fill(offset: u64, buf: &mut [u8]) {
    let mut at = offset;
    let mut rest = buf;
    while !rest.is_empty() {
        let skip = (at % BLOCK as u64) as usize;
        let bytes = &block(at / BLOCK as u64)[skip..];
        let n = bytes.len().min(rest.len());
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&bytes[..n]);
        rest = later;
        at += n as u64;
    }
}

/// Writes `length` bytes of the pattern to `to`.
///
/// # Errors
/// Those of `to`.
pub fn send(length: u64, to: &mut impl Write) -> io::Result<()> {
    let mut buf = vec![0; 64 * 1024];
    let mut sent = 0;
    while sent < length {
        let n = usize::try_from(length - sent).map_or(buf.len(), |left| left.min(buf.len()));
        fill(sent, &mut buf[..n]);
        to.write_all(&buf[..n])?;
        sent += n as u64;
    }
    Ok(())
}

/// Takes the pattern in, and fails at the first byte that is not its own.
#[derive(Debug, Default)]
pub struct Check {
    seen: u64,
    want: Vec<u8>,
}

impl Check {
    /// Bytes taken in so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

impl Write for Check {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.want.resize(buf.len(), 0);
        fill(self.seen, &mut self.want);
        if let Some(at) = buf
            .iter()
            .zip(&self.want)
            .position(|(got, want)| got != want)
        {
            let at = self.seen + at as u64;
            return Err(io::Error::other(format!(
                "byte {at} of the body is not what was sent"
            )));
        }
        self.seen += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_two_bytes_is_found() {
        let mut bytes = Vec::new();
        send(1000, &mut bytes).unwrap();
        let mut check = Check::default();
        check.write_all(&bytes[..333]).unwrap();
        check.write_all(&bytes[333..]).unwrap();
        assert_eq!(check.seen(), 1000);

        bytes.swap(500, 508);
        let err = Check::default().write_all(&bytes).unwrap_err();
        assert_eq!(err.to_string(), "byte 500 of the body is not what was sent");
    }
}
