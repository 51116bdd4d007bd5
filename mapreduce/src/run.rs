//! Sorted runs of records, how they are written, read back and merged. A record is (key, count); a run
//! has each key once, in byte order. Whose records they are is not known here.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use bytes::Bytes;
use world::File;

use crate::error::Error;

/// The longest key that is believed when it is read back.
const KEY_LIMIT: u64 = 1 << 31;
/// How much of a run on disk is read at once.
const READ: u64 = 256 << 10;

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a record.
pub(crate) fn put(key: &[u8], count: u64, out: &mut Vec<u8>) {
    put_varint(key.len() as u64, out);
    out.extend_from_slice(key);
    put_varint(count, out);
}

/// The number at the start of `bytes` and its length; `None` if it is cut off.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Error> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at as u32).min(63);
        if byte & 0x80 == 0 {
            return Ok(Some((number, at + 1)));
        }
    }
    if bytes.len() >= 10 { Err(Error::Damaged("a number that does not end")) } else { Ok(None) }
}

/// Where a run lies.
pub(crate) enum Place {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    File {
        /// The file.
        file: Arc<dyn File>,
        /// Where the run begins in it.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
}

/// Reads a run record by record. Reading blocks if it lies in a file.
pub(crate) struct Reader {
    place: Place,
    buffer: Bytes,
    key: Vec<u8>,
    count: u64,
}

impl Reader {
    pub(crate) fn new(place: Place) -> Self {
        let (place, buffer) = match place {
            Place::Memory(bytes) => (Place::Memory(Bytes::new()), bytes),
            file @ Place::File { .. } => (file, Bytes::new()),
        };
        Self { place, buffer, key: Vec::new(), count: 0 }
    }

    /// Gets more bytes behind those that are there; `false` at the end.
    fn refill(&mut self, want: u64) -> Result<bool, Error> {
        let Place::File { file, offset, length } = &mut self.place else { return Ok(false) };
        if *length == 0 {
            return Ok(false);
        }
        let take = want.max(READ).min(*length);
        let kept = self.buffer.len();
        let mut bytes = vec![0; kept + take as usize];
        bytes[..kept].copy_from_slice(&self.buffer);
        file.read_exact_at(&mut bytes[kept..], *offset)
            .map_err(|error| Error::disk("reading a run of map output", error))?;
        *offset += take;
        *length -= take;
        self.buffer = bytes.into();
        Ok(true)
    }

    /// Goes to the next record; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        loop {
            if self.buffer.is_empty() && !self.refill(0)? {
                return Ok(false);
            }
            let mut missing = 0;
            if let Some((length, head)) = varint(&self.buffer)? {
                if length > KEY_LIMIT {
                    return Err(Error::Damaged("a key that is too long"));
                }
                let end = head + length as usize;
                if let Some(rest) = self.buffer.get(end..)
                    && let Some((count, tail)) = varint(rest)?
                {
                    self.key.clear();
                    self.key.extend_from_slice(&self.buffer[head..end]);
                    self.count = count;
                    self.buffer = self.buffer.slice(end + tail..);
                    return Ok(true);
                }
                missing = length + 20;
            }
            if !self.refill(missing)? {
                return Err(Error::Damaged("it ends within a record"));
            }
        }
    }
}

/// Merges runs into one, adding the counts of equal keys.
pub(crate) struct Merge {
    readers: Vec<Reader>,
    heap: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    /// Records read.
    pub(crate) records: u64,
}

impl Merge {
    pub(crate) fn new(places: Vec<Place>) -> Result<Self, Error> {
        let mut merge = Self {
            readers: places.into_iter().map(Reader::new).collect(),
            heap: BinaryHeap::new(),
            records: 0,
        };
        for at in 0..merge.readers.len() {
            merge.pull(at, Vec::new())?;
        }
        Ok(merge)
    }

    /// Puts the next key of reader `at` on the heap, in the memory of `key`.
    fn pull(&mut self, at: usize, key: Vec<u8>) -> Result<(), Error> {
        let reader = &mut self.readers[at];
        if reader.advance()? {
            self.records += 1;
            let mut key = key;
            std::mem::swap(&mut key, &mut reader.key);
            self.heap.push(Reverse((key, at)));
        }
        Ok(())
    }

    /// The next key and its count, summed over all runs.
    pub(crate) fn next(&mut self, key: &mut Vec<u8>) -> Result<Option<u64>, Error> {
        let Some(Reverse((first, at))) = self.heap.pop() else { return Ok(None) };
        let mut count = self.readers[at].count;
        let spare = std::mem::replace(key, first);
        self.pull(at, spare)?;
        while let Some(Reverse((same, at))) = self.heap.peek()
            && same == key
        {
            let at = *at;
            count = count.saturating_add(self.readers[at].count);
            if let Some(Reverse((spare, _))) = self.heap.pop() {
                self.pull(at, spare)?;
            }
        }
        Ok(Some(count))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Merge, Place, Reader, put};

    proptest! {
        #[test]
        fn merged_runs_are_the_sum_of_the_runs(
            runs in prop::collection::vec(
                prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..4), 1_u64..1000, 0..50), 0..6),
        ) {
            let mut sum = BTreeMap::new();
            let mut places = Vec::new();
            for run in &runs {
                let mut bytes = Vec::new();
                for (key, count) in run {
                    put(key, *count, &mut bytes);
                    *sum.entry(key.clone()).or_insert(0) += *count;
                }
                places.push(Place::Memory(bytes.into()));
            }
            let mut merge = Merge::new(places).unwrap();
            let mut merged = Vec::new();
            let mut key = Vec::new();
            while let Some(count) = merge.next(&mut key).unwrap() {
                merged.push((key.clone(), count));
            }
            prop_assert_eq!(merged, sum.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut reader = Reader::new(Place::Memory(Bytes::from(bytes)));
            while let Ok(true) = reader.advance() {}
        }
    }
}
