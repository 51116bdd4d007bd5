//! A buffer of records that are sorted by partition and key, equal keys in the order in which they came. Pure.

use std::ops::Range;

use super::{groups::Sorted, order::Order};
use crate::error::Error;

/// A record in the arena. Sorting moves these, not the bytes.
#[derive(Clone, Copy)]
struct Entry {
    /// Decides most comparisons.
    prefix: u64,
    partition: u32,
    at: u32,
    key: u32,
    value: u32,
}

/// The buffer.
pub(crate) struct SortBuffer {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    order: Order,
}

impl SortBuffer {
    pub(crate) fn new(order: &Order) -> Self {
        Self { bytes: Vec::new(), entries: Vec::new(), order: order.clone() }
    }

    /// Whether a record of `length` bytes still fits into what the entries can address.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.bytes.len() + length <= u32::MAX as usize
    }

    /// Adds a record. One that [`SortBuffer::has_room`] denies must not be added.
    pub(crate) fn put(&mut self, partition: u32, key: &[u8], value: &[u8]) {
        let prefix = self.order.prefix(key);
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let (key, value) = (key.len() as u32, value.len() as u32);
        self.entries.push(Entry { prefix, partition, at, key, value });
    }

    /// Memory in use, about.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Sorts; the records of a partition can then be read.
    pub(crate) fn sort(&mut self) {
        let Self { bytes, entries, order } = self;
        let key = |entry: &Entry| &bytes[entry.at as usize..(entry.at + entry.key) as usize];
        entries.sort_unstable_by(|a, b| {
            (a.partition, a.prefix)
                .cmp(&(b.partition, b.prefix))
                .then_with(|| order.compare(key(a), key(b)))
                .then(a.at.cmp(&b.at))
                // Records without bytes share their place.
                .then_with(|| (a.key + a.value).cmp(&(b.key + b.value)))
        });
    }

    /// The records of a partition; sorted only after [`SortBuffer::sort`].
    pub(crate) fn partition(&self, number: u32) -> Cursor<'_> {
        let begin = self.entries.partition_point(|entry| entry.partition < number);
        let end = begin + self.entries[begin..].partition_point(|entry| entry.partition == number);
        Cursor { buffer: self, rest: begin..end, current: None }
    }
}

/// Reads the records of a partition.
pub(crate) struct Cursor<'a> {
    buffer: &'a SortBuffer,
    rest: Range<usize>,
    current: Option<Entry>,
}

impl Sorted for Cursor<'_> {
    fn advance(&mut self) -> Result<bool, Error> {
        self.current = self.rest.next().map(|at| self.buffer.entries[at]);
        Ok(self.current.is_some())
    }

    fn key(&self) -> &[u8] {
        self.current.map_or(&[], |entry| {
            &self.buffer.bytes[entry.at as usize..(entry.at + entry.key) as usize]
        })
    }

    fn value(&self) -> &[u8] {
        self.current.map_or(&[], |entry| {
            let begin = (entry.at + entry.key) as usize;
            &self.buffer.bytes[begin..begin + entry.value as usize]
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::SortBuffer;
    use crate::shuffle::{groups::Sorted as _, order::Order};

    proptest! {
        #[test]
        fn each_partition_is_a_stable_sort_of_its_records(
            records in prop::collection::vec((0_u32..3, prop::collection::vec(0_u8..3, 0..10), any::<u8>()), 0..200),
        ) {
            let mut buffer = SortBuffer::new(&Order::Bytes);
            for (partition, key, value) in &records {
                buffer.put(*partition, key, &[*value]);
            }
            buffer.sort();
            for number in 0..4 {
                let mut expected: Vec<_> =
                    records.iter().filter(|record| record.0 == number).map(|(_, key, value)| (key.clone(), *value)).collect();
                expected.sort_by(|a, b| a.0.cmp(&b.0));
                let mut cursor = buffer.partition(number);
                let mut sorted = Vec::new();
                while cursor.advance().unwrap() {
                    sorted.push((cursor.key().to_vec(), cursor.value()[0]));
                }
                prop_assert_eq!(sorted, expected);
            }
        }
    }
}
