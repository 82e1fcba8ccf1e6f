//! The Internet checksum (RFC 1071), as partial sums that can be put together.
//!
//! A partial sum is the sum of a buffer's 16-bit words in the machine's own
//! byte order, kept in 64 bits with its carries unfolded: one's-complement
//! addition commutes with swapping bytes (RFC 1071 §2.B), so only the folded
//! result is ever put in network order. The sum of a whole packet with its
//! checksum field is all ones exactly when the checksum is right.

/// A partial sum. Buffers that are summed apart must each have an even length,
/// but for the last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// The sum of `data`, as if a zero byte followed an odd length.
    ///
    /// A buffer is at most a frame of 64 KiB, so the 64 bits cannot overflow.
    #[inline]
    pub(crate) fn of(data: &[u8]) -> Sum {
        let (words, rest) = data.as_chunks::<4>();
        let mut sum: u64 = words
            .iter()
            .map(|w| u64::from(u32::from_ne_bytes(*w)))
            .sum();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        sum += u64::from(u32::from_ne_bytes(last));
        Sum(sum)
    }

    /// This sum and `other`'s.
    #[inline]
    pub(crate) fn and(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }

    /// This sum and that of a pseudo-header's protocol and length (RFC 9293
    /// §3.1, RFC 8200 §8.1), whose addresses are summed apart.
    #[inline]
    pub(crate) fn and_protocol(self, protocol: u8, len: usize) -> Sum {
        let [.., b0, b1, b2, b3] = (len as u64).to_be_bytes();
        let words = Sum::of(&[b0, b1, b2, b3, 0, protocol]);
        self.and(words)
    }

    /// The 16-bit sum, in the machine's byte order.
    #[inline]
    fn fold(self) -> u16 {
        let wide = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let wide = (wide & 0xffff_ffff) + (wide >> 32);
        let narrow = (wide & 0xffff) + (wide >> 16);
        let narrow = (narrow & 0xffff) + (narrow >> 16);
        narrow as u16
    }

    /// Whether a sum over data and its checksum says that it arrived whole.
    #[inline]
    pub(crate) fn is_valid(self) -> bool {
        self.fold() == u16::MAX
    }

    /// Whether `field` is this sum as it is, which is what a sender leaves in the
    /// checksum field whose card is to finish it: the sum of the pseudo-header.
    pub(crate) fn is_left_in(self, field: [u8; 2]) -> bool {
        self.fold() == u16::from_ne_bytes(field)
    }

    /// The two bytes to put in the checksum field, which was summed as zero.
    pub(crate) fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{IpProtocol, checksum};

    use super::*;
    use crate::neighbor::Random;

    #[test]
    fn sums_equal_those_of_smoltcp() {
        let mut random = Random::new(0x5eed);
        for round in 0..3000 {
            let len = if round < 200 {
                round
            } else {
                random.below(2000) as usize
            };
            let data: Vec<u8> = (0..len)
                .map(|_| match random.below(3) {
                    0 => 0xff,
                    _ => random.next() as u8,
                })
                .collect();
            let want = !checksum::data(&data);
            assert_eq!(Sum::of(&data).checksum(), want.to_be_bytes(), "{data:x?}");
        }
    }

    #[test]
    fn the_pseudo_header_equals_that_of_smoltcp() {
        let mut random = Random::new(0x5eed);
        for _ in 0..500 {
            let (src, dst) = (random.next() as u32, random.next() as u32);
            let len = random.below(65_536) as u32;
            let want = checksum::pseudo_header_v4(&src.into(), &dst.into(), IpProtocol::Tcp, len);
            let sum = Sum::of(&src.to_be_bytes())
                .and(Sum::of(&dst.to_be_bytes()))
                .and_protocol(6, len as usize);
            assert_eq!(sum.checksum(), (!want).to_be_bytes());
        }
    }

    #[test]
    fn long_runs_of_ones_keep_their_carries() {
        let data = vec![0xff; 65_535];
        assert_eq!(Sum::of(&data).fold().to_be(), 0xff00);
        assert!(Sum::of(&data[..65_534]).is_valid());
        assert!(!Sum::of(&[0; 64]).is_valid());
    }
}
