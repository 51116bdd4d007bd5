//! The one source of chance in a schedule.
//!
//! SplitMix64: small, and the same everywhere. Whoever needs a stream of its own forks one, so that a change in one
//! part of a schedule does not move all others.

use std::time::Duration;

/// Seeded chance.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A stream that depends on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.roll();
        dice
    }

    /// 64 random bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another stream.
    pub fn fork(&mut self) -> Self {
        Self::new(self.roll())
    }

    /// A number in `from..to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll() % (to - from).max(1)
    }

    /// A place in a list of this length, which must not be empty.
    pub fn pick(&mut self, length: usize) -> usize {
        self.between(0, length as u64) as usize
    }

    /// Milliseconds in `from..to`, to the microsecond.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from * 1000, to * 1000))
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }
}
