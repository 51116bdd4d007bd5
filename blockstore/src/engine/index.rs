//! RocksDB: its options, and the scan at the start. What rows mean to a commit or a read is theirs.

use std::{collections::BTreeMap, path::Path};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode,
    LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{
    rows::{self, Entry},
    slots::Slots,
};
use crate::store::{StoreError, overlay::Key};

const MEMTABLE: usize = 8 << 20;
const CACHE: usize = 16 << 20;

/// Blocks that have patch rows, and how many.
pub(crate) type Patches = BTreeMap<Key, u32>;

pub(crate) fn stop(error: &rocksdb::Error) -> StoreError {
    StoreError::Stopped(format!("the index failed: {error}"))
}

/// Opens the index, or makes it.
pub(crate) fn open(path: &Path) -> Result<DB, StoreError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(MEMTABLE);
    options.set_max_write_buffer_number(3);
    options.set_max_total_wal_size(4 * MEMTABLE as u64);
    options.set_max_background_jobs(2);
    options.set_max_open_files(64);
    options.set_max_file_opening_threads(1);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_keep_log_file_num(2);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_paranoid_checks(true);
    // A torn tail after a power loss is normal: what was acknowledged as durable was synced before.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE));
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    options.set_block_based_table_factory(&table);
    DB::open(&options, path).map_err(|error| {
        StoreError::Unusable(format!("cannot open the index {}: {error}", path.display()))
    })
}

/// Reads the allocation bitmaps and notes which blocks have patches.
pub(crate) fn scan(db: &DB) -> Result<(Slots, Patches), StoreError> {
    let mut units = BTreeMap::new();
    let start = rows::unit_key(0);
    for row in db.iterator(IteratorMode::From(&start, Direction::Forward)) {
        let (key, value) = row.map_err(|error| stop(&error))?;
        match rows::unit_of(&key, &value) {
            Some((unit, bits)) => units.insert(unit, bits),
            None => break,
        };
    }
    let mut patches = Patches::new();
    let mut range = ReadOptions::default();
    range.set_iterate_upper_bound(rows::PATCH_END);
    let mode = IteratorMode::From(&rows::PATCH_START, Direction::Forward);
    for row in db.iterator_opt(mode, range) {
        let (key, _) = row.map_err(|error| stop(&error))?;
        if let Some(key) = rows::key_of(&key) {
            *patches.entry(key).or_default() += 1;
        }
    }
    Ok((Slots::new(units), patches))
}

/// The row of a block.
pub(crate) fn entry(db: &DB, key: Key) -> Result<Option<Entry>, StoreError> {
    match db.get_pinned(rows::block_key(key)).map_err(|error| stop(&error))? {
        None => Ok(None),
        Some(value) => match Entry::decode(&value) {
            Some(entry) => Ok(Some(entry)),
            None => Err(StoreError::Damaged { offset: key.id.start() }),
        },
    }
}

/// Calls `each` with the block rows of `from..=to` until it says that it has enough.
pub(crate) fn each_entry(
    db: &DB,
    (from, to): (Key, Key),
    mut each: impl FnMut(Key, Entry) -> bool,
) -> Result<(), StoreError> {
    let mut range = ReadOptions::default();
    let mut end = rows::block_key(to).to_vec();
    end.push(0);
    range.set_iterate_upper_bound(end);
    let start = rows::block_key(from);
    for row in db.iterator_opt(IteratorMode::From(&start, Direction::Forward), range) {
        let (key, value) = row.map_err(|error| stop(&error))?;
        let (Some(key), Some(entry)) = (rows::key_of(&key), Entry::decode(&value)) else {
            return Err(StoreError::Stopped("a row of the index has an unknown form".to_owned()));
        };
        if !each(key, entry) {
            break;
        }
    }
    Ok(())
}

/// Writes a batch and syncs the write-ahead log, once.
pub(crate) fn write(db: &DB, batch: WriteBatch) -> Result<(), StoreError> {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.write_opt(batch, &options).map_err(|error| stop(&error))
}
