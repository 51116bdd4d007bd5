//! The only chance in this room: election timeouts, drawn from the seed.
//!
//! SplitMix64, because it is five lines, and the same seed must give the same run on every machine and version.

use std::time::Duration;

pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time in `from..to`, to the microsecond.
    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX).max(1);
        from + Duration::from_micros(self.roll() % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_times_again_and_two_seeds_do_not() {
        let (from, to) = (Duration::from_millis(150), Duration::from_millis(300));
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.between(from, to)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        let differ = draw(1).iter().zip(draw(2)).filter(|(a, b)| **a != *b).count();
        assert!(differ > 95, "{differ} of 100 differ");
        assert!(draw(3).iter().all(|time| (from..to).contains(time)));
        let late = draw(4).iter().filter(|time| **time > (from + to) / 2).count();
        assert!((30..70).contains(&late), "{late} of 100 in the second half");
    }
}
