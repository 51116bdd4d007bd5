//! Adding up numbers by key while they come: an open-addressing table with a fixed hash. The standard map is
//! slower and begins each run with another seed. What is counted is not known here.

use crate::error::Error;

/// A hash that is the same in every process: it also chooses the partition of a key.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        state = mix(state, u64::from_le_bytes(eight));
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = 0_u64;
        for byte in rest {
            last = last << 8 | u64::from(*byte);
        }
        state = mix(state, last);
    }
    state ^ state >> 32
}

fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ 0xA076_1D64_78BD_642F)
        * u128::from(0xE703_7ED1_A0B4_28DB_u64 ^ word.rotate_left(29));
    (product as u64) ^ ((product >> 64) as u64) ^ state.rotate_left(17)
}

/// The partition of a key with hash `hash`. The table uses the low bits; this uses the high ones.
pub(crate) fn partition(hash: u64, partitions: u32) -> u32 {
    ((u128::from(hash) * u128::from(partitions)) >> 64) as u32
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    count: u64,
    /// Where the key lies; [`FREE`]: nowhere.
    at: u32,
    length: u32,
}

const FREE: u32 = u32::MAX;
const EMPTY: Slot = Slot { hash: 0, count: 0, at: FREE, length: 0 };

/// Keys, each with the sum of what was added.
pub(crate) struct Tally {
    slots: Vec<Slot>,
    used: usize,
    keys: Vec<u8>,
}

/// One key with its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) count: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { slots: vec![EMPTY; 1 << 12], used: 0, keys: Vec::new() }
    }

    /// Adds `amount` to what `key` has. Keys may take up to 4 GiB, less one byte: see [`Tally::bytes`].
    pub(crate) fn add(&mut self, key: &[u8], amount: u64) {
        let hash = hash(key);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.at == FREE {
                break;
            }
            if slot.hash == hash && slot.length as usize == key.len() {
                let from = slot.at as usize;
                if &self.keys[from..from + key.len()] == key {
                    slot.count = slot.count.saturating_add(amount);
                    return;
                }
            }
            at = (at + 1) & mask;
        }
        self.slots[at] =
            Slot { hash, count: amount, at: self.keys.len() as u32, length: key.len() as u32 };
        self.keys.extend_from_slice(key);
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![EMPTY; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for slot in self.slots.iter().filter(|slot| slot.at != FREE) {
            let mut at = slot.hash as usize & mask;
            while slots[at].at != FREE {
                at = (at + 1) & mask;
            }
            slots[at] = *slot;
        }
        self.slots = slots;
    }

    /// Memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() + self.slots.len() * size_of::<Slot>()
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// The keys of each of `partitions` partitions, as `of` spreads them by key and hash; each sorted by bytes.
    pub(crate) fn sorted(
        &self,
        partitions: u32,
        of: impl Fn(&[u8], u64) -> Result<u32, Error>,
    ) -> Result<Vec<Vec<Counted<'_>>>, Error> {
        let mut parts = vec![Vec::new(); partitions as usize];
        for slot in self.slots.iter().filter(|slot| slot.at != FREE) {
            let from = slot.at as usize;
            let key = &self.keys[from..from + slot.length as usize];
            let counted = Counted { key, count: slot.count };
            parts[of(key, slot.hash)? as usize].push((prefix(key), counted));
        }
        // Most comparisons are decided by the first eight bytes, without going to the key.
        for part in &mut parts {
            part.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.key.cmp(b.1.key)));
        }
        let bare = |part: Vec<(u64, _)>| part.into_iter().map(|(_, counted)| counted).collect();
        Ok(parts.into_iter().map(bare).collect())
    }
}

/// The first eight bytes as a number that is ordered as they are.
pub(crate) fn prefix(key: &[u8]) -> u64 {
    let mut eight = [0; 8];
    let length = key.len().min(8);
    eight[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(eight)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Tally, hash, partition};

    proptest! {
        #[test]
        fn it_counts_what_a_simple_map_counts_and_sorts_each_partition(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 0..400),
            partitions in 1_u32..5,
        ) {
            let mut tally = Tally::new();
            let mut simple = BTreeMap::new();
            for word in &words {
                tally.add(word, 1);
                *simple.entry(word.clone()).or_insert(0_u64) += 1;
            }
            let parts = tally.sorted(partitions, |_, hash| Ok(partition(hash, partitions))).unwrap();
            let mut all = BTreeMap::new();
            for (at, part) in parts.iter().enumerate() {
                prop_assert!(part.windows(2).all(|pair| pair[0].key < pair[1].key));
                for counted in part {
                    prop_assert_eq!(partition(hash(counted.key), partitions) as usize, at);
                    all.insert(counted.key.to_vec(), counted.count);
                }
            }
            prop_assert_eq!(all, simple);
        }
    }

    #[test]
    fn many_different_words_are_all_counted_and_spread_evenly() {
        let mut tally = Tally::new();
        for round in 0..2 {
            for number in 0..200_000_u32 {
                tally.add(format!("word-{number}").as_bytes(), 1);
            }
            assert_eq!(tally.len(), 200_000, "round {round}");
        }
        let parts = tally.sorted(4, |_, hash| Ok(partition(hash, 4))).unwrap();
        for part in &parts {
            assert!((40_000..60_000).contains(&part.len()), "{}", part.len());
            assert!(part.iter().all(|counted| counted.count == 2));
        }
    }
}
