//! Which key comes first, and which partition a key belongs to. Pure.

use std::{cmp::Ordering, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{fields::Fields, tally};
use crate::error::Error;

/// The order of keys within a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// As their bytes.
    #[default]
    Bytes,
    /// By parts of them.
    Fields(Fields),
}

impl Order {
    pub(crate) fn compare(&self, one: &[u8], other: &[u8]) -> Ordering {
        match self {
            Self::Bytes => one.cmp(other),
            Self::Fields(fields) => fields.compare(one, other),
        }
    }

    /// A number that never contradicts the order: most comparisons are decided by it.
    pub(crate) fn prefix(&self, key: &[u8]) -> u64 {
        match self {
            Self::Bytes => tally::prefix(key),
            Self::Fields(_) => 0,
        }
    }
}

/// Chooses partitions.
pub(crate) trait Partition: Send + Sync {
    /// The partition of a key, below `partitions` (at least one).
    fn of(&self, key: &[u8], partitions: u32) -> Result<u32, Error>;

    /// The same if [`tally::hash`] of the key is known.
    fn of_hashed(&self, key: &[u8], hash: u64, partitions: u32) -> Result<u32, Error> {
        let _ = hash;
        self.of(key, partitions)
    }
}

impl Partition for Partitioner {
    fn of(&self, key: &[u8], partitions: u32) -> Result<u32, Error> {
        Ok(self.choose(key, partitions))
    }

    fn of_hashed(&self, key: &[u8], hash: u64, partitions: u32) -> Result<u32, Error> {
        match self {
            Self::Hash => Ok(tally::partition(hash, partitions)),
            other => other.of(key, partitions),
        }
    }
}

/// How records get from maps to reduces, on a worker.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) order: Order,
    pub(crate) partition: Arc<dyn Partition>,
}

/// Which partition a key belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Partitioner {
    /// By a good hash of the key.
    #[default]
    Hash,
    /// By Hadoop's hash of a Text key: the same partitions as Hadoop makes.
    Hadoop,
    /// By Hadoop's hash of parts of the key (KeyFieldBasedPartitioner).
    Fields(Fields),
    /// By ranges: the keys with which the second and later partitions begin, sorted. The parts are then in
    /// total order.
    Ranges(Vec<Vec<u8>>),
}

impl Partitioner {
    /// The partition of a key, below `partitions` (at least one).
    pub(crate) fn choose(&self, key: &[u8], partitions: u32) -> u32 {
        let modulo = |hash: i32| (hash & i32::MAX) as u32 % partitions;
        match self {
            _ if partitions == 1 => 0,
            Self::Hash => tally::partition(tally::hash(key), partitions),
            Self::Hadoop => {
                let next = |hash: i32, byte: &u8| {
                    hash.wrapping_mul(31).wrapping_add(i32::from(*byte as i8))
                };
                modulo(key.iter().fold(1, next))
            }
            Self::Fields(fields) => modulo(fields.hash(key)),
            Self::Ranges(begins) => {
                (begins.partition_point(|begin| begin.as_slice() <= key) as u32).min(partitions - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::{Order, Partitioner};

    #[test]
    fn the_hadoop_partitioner_gives_hadoop_s_partitions() {
        // Text("hello").hashCode() in Java: WritableComparator.hashBytes.
        let expected = b"hello".iter().fold(1_i32, |hash, byte| hash * 31 + i32::from(*byte));
        assert_eq!(Partitioner::Hadoop.choose(b"hello", 7), expected as u32 % 7);
        // Bytes are signed there.
        let negative = 31_i32 - 1;
        assert_eq!(Partitioner::Hadoop.choose(&[0xff], 7), negative as u32 % 7);
    }

    #[test]
    fn ranges_put_smaller_keys_in_smaller_partitions() {
        let ranges = Partitioner::Ranges(vec![b"f".to_vec(), b"m".to_vec()]);
        let of = |key: &str| ranges.choose(key.as_bytes(), 3);
        assert_eq!([of("a"), of("f"), of("g"), of("m"), of("z")], [0, 1, 1, 2, 2]);
    }

    proptest! {
        #[test]
        fn every_partition_exists_and_prefixes_agree_with_the_order(
            one in prop::collection::vec(any::<u8>(), 0..20),
            other in prop::collection::vec(any::<u8>(), 0..20),
            partitions in 1_u32..50,
        ) {
            for partitioner in [Partitioner::Hash, Partitioner::Hadoop, Partitioner::Ranges(vec![vec![7]; 60])] {
                prop_assert!(partitioner.choose(&one, partitions) < partitions);
            }
            let (a, b) = (Order::Bytes.prefix(&one), Order::Bytes.prefix(&other));
            prop_assert!(a == b || a.cmp(&b) == Order::Bytes.compare(&one, &other));
        }
    }
}
