//! Randomness: seeds for the pure machines and fresh identifiers. What they identify is not known here.

/// Where random numbers come from.
pub trait Dice: Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn roll(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
