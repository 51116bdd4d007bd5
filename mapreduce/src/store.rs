//! The map output that a worker keeps on its local disk until the job is over: one file for each map, with
//! an index of its partitions. It can be made again, so nothing is synced. What the records are is not known here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use world::{File, OpenMode, Time, World};

use crate::{error::Error, run::Place};

/// A job whose coordinator was not heard of for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(900);
const PREFIX: &str = "plumeria-map-";

/// One finished map.
pub(crate) struct Output {
    file: Arc<dyn File>,
    path: PathBuf,
    world: World,
    /// For each partition its offset and length.
    pub(crate) index: Vec<(u64, u64)>,
}

impl Output {
    pub(crate) fn place(&self, partition: usize) -> Place {
        let (offset, length) = self.index.get(partition).copied().unwrap_or_default();
        Place::File { file: self.file.clone(), offset, length }
    }

    pub(crate) fn read(&self, partition: u32, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let (begin, whole) = self.index.get(partition as usize).copied().unwrap_or_default();
        let length = length.min(whole.saturating_sub(offset));
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, begin + offset)
            .map_err(|error| Error::disk(format!("reading {}", self.path.display()), error))?;
        Ok(bytes)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Err(error) = self.world.disk.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "map output stays behind");
        }
    }
}

/// Writes an output, partition after partition.
pub(crate) struct Writer {
    output: Output,
    buffer: Vec<u8>,
    written: u64,
    begun: u64,
}

impl Writer {
    /// Where the next record goes; call [`Writer::flush_if_large`] now and then.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    pub(crate) fn flush_if_large(&mut self) -> Result<(), Error> {
        if self.buffer.len() >= 1 << 20 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.output.file.write_all_at(&self.buffer, self.written).map_err(|error| {
            Error::disk(format!("writing {}", self.output.path.display()), error)
        })?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The partition is complete.
    pub(crate) fn end_partition(&mut self) {
        let end = self.written + self.buffer.len() as u64;
        self.output.index.push((self.begun, end - self.begun));
        self.begun = end;
    }

    pub(crate) fn finish(mut self) -> Result<Output, Error> {
        self.flush()?;
        Ok(self.output)
    }
}

/// What a job left here.
pub(crate) struct JobStore {
    outputs: Mutex<BTreeMap<(u32, u32), Arc<Output>>>,
    /// Input bytes that its running maps have read.
    pub(crate) reading: AtomicU64,
    heard: Mutex<Time>,
    over: std::sync::atomic::AtomicBool,
}

impl JobStore {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, map: u32, attempt: u32, output: Output) {
        self.outputs.lock().insert((map, attempt), Arc::new(output));
    }

    pub(crate) fn get(&self, map: u32, attempt: u32) -> Option<Arc<Output>> {
        self.outputs.lock().get(&(map, attempt)).cloned()
    }
}

pub(crate) struct Store {
    world: World,
    dir: PathBuf,
    jobs: Mutex<BTreeMap<u64, Arc<JobStore>>>,
    number: AtomicU64,
}

impl Store {
    /// Takes `dir` for its own; what an earlier worker left in it is removed.
    pub(crate) fn open(world: &World, dir: &Path) -> Result<Self, Error> {
        let failed = |error| Error::disk(format!("preparing {}", dir.display()), error);
        world.disk.create_dir_all(dir).map_err(failed)?;
        for path in world.disk.list(dir).map_err(failed)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(PREFIX) {
                world.disk.remove(&path).map_err(failed)?;
            }
        }
        let (jobs, number) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { world: world.clone(), dir: dir.to_owned(), jobs, number })
    }

    pub(crate) fn writer(&self, job: u64) -> Result<Writer, Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{PREFIX}{job:016x}-{number}"));
        let file = self
            .world
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| Error::disk(format!("making {}", path.display()), error))?;
        let output = Output { file, path, world: self.world.clone(), index: Vec::new() };
        Ok(Writer { output, buffer: Vec::new(), written: 0, begun: 0 })
    }

    /// The job's part; jobs not heard of for long are dropped on the way.
    pub(crate) fn job(&self, job: u64) -> Arc<JobStore> {
        let now = self.world.clock.now();
        let mut jobs = self.jobs.lock();
        jobs.retain(|_, known| now.since(*known.heard.lock()) < FORGOTTEN);
        let known = jobs.entry(job).or_insert_with(|| {
            Arc::new(JobStore {
                outputs: Mutex::default(),
                reading: AtomicU64::new(0),
                heard: Mutex::new(now),
                over: false.into(),
            })
        });
        *known.heard.lock() = now;
        known.clone()
    }

    pub(crate) fn end(&self, job: u64) {
        if let Some(known) = self.jobs.lock().remove(&job) {
            known.over.store(true, Ordering::Relaxed);
        }
    }
}
