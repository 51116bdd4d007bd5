//! The index of an engine, as commits and reads see it: ordered rows, changed by batches that are
//! durable when they are done. RocksDB is behind it, or what stands in for it on a simulated disk.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    rows::{self, Entry},
    slots::Slots,
};
use crate::store::{StoreError, overlay::Key};

/// Blocks that have patch rows, and how many.
pub(crate) type Patches = BTreeMap<Key, u32>;

/// Rows that are put (or deleted, without a value), in this order, all of them or none.
#[derive(Default, Debug)]
pub struct Batch(pub Vec<(Vec<u8>, Option<Bytes>)>);

impl Batch {
    pub(crate) fn put(&mut self, key: &[u8], value: impl Into<Bytes>) {
        self.0.push((key.to_vec(), Some(value.into())));
    }

    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.0.push((key.to_vec(), None));
    }
}

/// Ordered rows on stable storage. An error ends the engine; nothing is tried again.
pub trait Index: Send + Sync {
    /// The value of a row.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `each` with the rows from `from` on and before `before`, in order of their keys, until
    /// it says that it has enough.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn each(
        &self,
        from: &[u8],
        before: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Makes a batch true and durable, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn write(&self, batch: Batch) -> Result<(), StoreError>;
}

/// Reads the allocation bitmaps and notes which blocks have patches.
pub(crate) fn scan(index: &dyn Index) -> Result<(Slots, Patches), StoreError> {
    let mut units = BTreeMap::new();
    let (first, last) = (rows::unit_key(0), rows::unit_key(u32::MAX));
    index.each(&first, &last, &mut |key, value| {
        let unit = rows::unit_of(key, value);
        units.extend(unit);
        unit.is_some()
    })?;
    let mut patches = Patches::new();
    index.each(&rows::PATCH_START, &rows::PATCH_END, &mut |key, _| {
        if let Some(key) = rows::key_of(key) {
            *patches.entry(key).or_default() += 1;
        }
        true
    })?;
    Ok((Slots::new(units), patches))
}

/// The row of a block.
pub(crate) fn entry(index: &dyn Index, key: Key) -> Result<Option<Entry>, StoreError> {
    match index.get(&rows::block_key(key))? {
        None => Ok(None),
        Some(value) => match Entry::decode(&value) {
            Some(entry) => Ok(Some(entry)),
            None => Err(StoreError::Damaged { offset: key.id.start() }),
        },
    }
}

/// Calls `each` with the block rows of `from..=to` until it says that it has enough.
pub(crate) fn each_entry(
    index: &dyn Index,
    (from, to): (Key, Key),
    mut each: impl FnMut(Key, Entry) -> bool,
) -> Result<(), StoreError> {
    let mut end = rows::block_key(to).to_vec();
    end.push(0);
    let mut known = true;
    index.each(&rows::block_key(from), &end, &mut |key, value| match (
        rows::key_of(key),
        Entry::decode(value),
    ) {
        (Some(key), Some(entry)) => each(key, entry),
        _ => {
            known = false;
            false
        }
    })?;
    if known {
        Ok(())
    } else {
        Err(StoreError::Stopped("a row of the index has an unknown form".to_owned()))
    }
}
