//! Names and numbers of the virtual disk: volumes, blocks, chunks, groups, servers, versions, and
//! the arithmetic between them. Which servers keep a group is the volume map's business.

use std::fmt;

use crate::disk::{BLOCK, CHUNK};

/// A volume: one virtual disk of 2^64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Volume(pub u64);

/// A block server, by the number that its config gives it. Not zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ServerId(pub u64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One start of a block server; the map gives each start a higher number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Incarnation(pub u64);

/// A group of chunks that share a chain of servers: the top bits of the chunk's hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Group(pub u32);

/// The version of a group's chain: raised by every change of its members or their incarnations.
/// Zero: none known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ChainVersion(pub u64);

/// The number that a head gives a mutation, counted within one chain version from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Order(pub u64);

/// The version of a block: the mutation that changed it last. A later one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct BlockVersion {
    /// The chain version that the mutation was ordered under.
    pub chain: ChainVersion,
    /// Its number there.
    pub order: Order,
}

/// The number that a client gives a mutation, growing from 1; a retry carries the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Sequence(pub u64);

/// A block of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct BlockId {
    /// The volume.
    pub volume: Volume,
    /// The block's number: its first byte divided by [`BLOCK`].
    pub block: u64,
}

impl BlockId {
    /// The block that holds byte `offset` of `volume`.
    #[must_use]
    pub fn holding(volume: Volume, offset: u64) -> Self {
        Self { volume, block: offset / BLOCK }
    }

    /// Its first byte.
    #[must_use]
    pub fn start(self) -> u64 {
        self.block.wrapping_mul(BLOCK)
    }

    /// The hash of its chunk, which decides the group.
    #[must_use]
    pub fn hash(self) -> u64 {
        chunk_hash(self.volume, self.block / (CHUNK / BLOCK))
    }
}

/// The hash of a chunk (`chunk` is its first byte divided by [`CHUNK`]). It is part of the format:
/// it decides where bytes lie.
#[must_use]
pub fn chunk_hash(volume: Volume, chunk: u64) -> u64 {
    // Twice the finalizer of splitmix64: neighbouring chunks fall on unrelated groups.
    mix(mix(volume.0.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ chunk)
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How many groups there are: 2 to the power of this, at most 24. More bits split every group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupBits(pub u8);

impl GroupBits {
    /// The number of groups.
    #[must_use]
    pub fn groups(self) -> u32 {
        1 << self.0
    }

    /// The group of a chunk hash: its top bits, so that the index rows of a group lie together.
    #[must_use]
    pub fn of_hash(self, hash: u64) -> Group {
        if self.0 == 0 {
            return Group(0);
        }
        Group(u32::try_from(hash >> (64 - u32::from(self.0))).expect("at most 24 bits are left"))
    }

    /// The group of the chunk that holds byte `offset` of `volume`.
    #[must_use]
    pub fn of(self, volume: Volume, offset: u64) -> Group {
        self.of_hash(chunk_hash(volume, offset / CHUNK))
    }

    /// The first and the last chunk hash of a group.
    #[must_use]
    pub fn hashes(self, group: Group) -> (u64, u64) {
        if self.0 == 0 {
            return (0, u64::MAX);
        }
        let shift = 64 - u32::from(self.0);
        let first = u64::from(group.0) << shift;
        (first, first | ((1 << shift) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_range_of_hashes_that_it_says() {
        for bits in [0, 1, 6, 24] {
            let bits = GroupBits(bits);
            for chunk in 0..200 {
                let hash = chunk_hash(Volume(7), chunk);
                let (first, last) = bits.hashes(bits.of_hash(hash));
                assert!(first <= hash && hash <= last);
            }
        }
    }

    #[test]
    fn neighbouring_chunks_spread_over_all_groups() {
        let bits = GroupBits(6);
        let mut seen = std::collections::BTreeMap::new();
        for chunk in 0..6400 {
            *seen.entry(bits.of(Volume(1), chunk * CHUNK)).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 64);
        assert!(seen.values().all(|count| (50..160).contains(count)), "{seen:?}");
    }
}
