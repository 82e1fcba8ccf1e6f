//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", 2014): 64 bits of state, any seed is as good as another.

/// A sequence of numbers that a seed determines.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with the chance given. Draws no number for a chance of nothing, so
    /// that an impairment that is off does not change the others.
    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        // The high 53 bits are a fraction of 1 that an f64 holds exactly.
        chance > 0.0 && ((self.next() >> 11) as f64) < chance * (1u64 << 53) as f64
    }

    /// A number below `limit`; 0 when that is 0 or 1. Even to within
    /// `limit / 2^64`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        if limit <= 1 {
            return 0;
        }
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}
