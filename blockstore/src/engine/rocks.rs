//! The index in RocksDB: its options, and rows. What they mean is not known here.

use std::path::Path;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode,
    LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::index::{Batch, Index};
use crate::store::StoreError;

const MEMTABLE: usize = 8 << 20;
const CACHE: usize = 16 << 20;

/// An open database.
pub(super) struct Rocks(DB);

fn stop(error: &rocksdb::Error) -> StoreError {
    StoreError::Stopped(format!("the index failed: {error}"))
}

impl Rocks {
    /// Opens the index, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
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
        let db = DB::open(&options, path).map_err(|error| {
            StoreError::Unusable(format!("cannot open the index {}: {error}", path.display()))
        })?;
        Ok(Self(db))
    }
}

impl Index for Rocks {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).map_err(|error| stop(&error))?.map(Bytes::from))
    }

    fn each(
        &self,
        from: &[u8],
        before: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut range = ReadOptions::default();
        range.set_iterate_upper_bound(before);
        let mode = IteratorMode::From(from, Direction::Forward);
        for row in self.0.iterator_opt(mode, range) {
            let (key, value) = row.map_err(|error| stop(&error))?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut rows = WriteBatch::default();
        for (key, value) in batch.0 {
            match value {
                Some(value) => rows.put(key, value),
                None => rows.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.0.write_opt(rows, &options).map_err(|error| stop(&error))
    }
}
