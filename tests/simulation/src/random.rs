//! Numbers from a seed: SplitMix64.

/// A stream of numbers that looks random.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A waiting time until something that happens `rate` times a second, in seconds; for ever at a rate of 0.
    pub fn wait(&mut self, rate: f64) -> f64 {
        if rate <= 0.0 { f64::INFINITY } else { -(1.0 - self.share()).ln() / rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_the_mean_of_their_rate() {
        let mut random = Random::new(1);
        let mean = (0..100_000).map(|_| random.wait(4.0)).sum::<f64>() / 100_000.0;
        assert!((0.245..0.255).contains(&mean), "{mean}");
        assert!(random.wait(0.0).is_infinite());
    }
}
