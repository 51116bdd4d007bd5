//! The map output that a worker keeps on its local disk until the job is over: one file for each map, with
//! an index of its partitions. It can be made again, so nothing is synced. What the records are is not known here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use world::{File, OpenMode, Time, World};

use crate::{
    error::Error,
    history,
    proto::{Attempt, JobRow, Log},
    shuffle::run::{Packer, Place},
    task::Gauge,
};

/// A job whose coordinator was not heard of for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(900);
const PREFIX: &str = "plumeria-map-";
/// Logs of one job that a worker keeps in the file system at most.
const KEPT: u32 = 200;
const HOME: &str = "plumeria-job-";

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
    packer: Packer,
    written: u64,
    begun: u64,
}

impl Writer {
    /// Appends a record to the partition.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.packer.put(key, value);
        if self.packer.packed().len() >= 1 << 20 { self.flush() } else { Ok(()) }
    }

    /// Appends bytes that are blocks already: a part fetched from elsewhere.
    pub(crate) fn append(&mut self, blocks: &[u8]) -> Result<(), Error> {
        self.packer.packed().extend_from_slice(blocks);
        if self.packer.packed().len() >= 1 << 20 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let packed = self.packer.packed();
        self.output.file.write_all_at(packed, self.written).map_err(|error| {
            Error::disk(format!("writing {}", self.output.path.display()), error)
        })?;
        self.written += packed.len() as u64;
        packed.clear();
        Ok(())
    }

    /// The partition is complete.
    pub(crate) fn end_partition(&mut self) {
        self.packer.end_block();
        let end = self.written + self.packer.packed().len() as u64;
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
    /// Set once its files are in its home.
    pub(crate) shipped: tokio::sync::OnceCell<()>,
    outputs: Mutex<BTreeMap<(u32, u32), Arc<Output>>>,
    /// Attempts under way, by kind (reduce or not), number and attempt; those that have ended are gone.
    running: Mutex<BTreeMap<(bool, u32, u32), Weak<Gauge>>>,
    heard: Mutex<Time>,
    /// The coordinator's account of the job.
    view: Mutex<Vec<u8>>,
    killed: AtomicBool,
    /// Logs that were kept in the file system.
    kept: AtomicU32,
    /// Of the newest coordinator that was heard of.
    term: Mutex<u64>,
}

impl JobStore {
    /// Whether a coordinator may give orders. A newer one is the only one from then on, and what an older one had
    /// begun ends.
    pub(crate) fn admit(&self, term: u64) -> bool {
        let mut known = self.term.lock();
        if term > *known {
            *known = term;
            self.cancel();
        }
        term == *known
    }

    /// The newest coordinator that was heard of.
    pub(crate) fn term(&self) -> u64 {
        *self.term.lock()
    }

    /// A gauge for an attempt that begins.
    pub(crate) fn begin(&self, attempt: (bool, u32, u32)) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        let mut running = self.running.lock();
        running.retain(|_, gauge| gauge.strong_count() > 0);
        running.insert(attempt, Arc::downgrade(&gauge));
        gauge
    }

    /// The gauge of an attempt under way.
    pub(crate) fn gauge(&self, attempt: (bool, u32, u32)) -> Option<Arc<Gauge>> {
        self.running.lock().get(&attempt).and_then(Weak::upgrade)
    }

    /// The attempts under way.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        let running = self.running.lock();
        let row = |((reduce, number, attempt), gauge): (&(bool, u32, u32), &Weak<Gauge>)| {
            let gauge = gauge.upgrade()?;
            Some(Attempt {
                reduce: *reduce,
                number: *number,
                attempt: *attempt,
                read: gauge.read.load(Ordering::Relaxed),
                all: gauge.all.load(Ordering::Relaxed),
            })
        };
        running.iter().filter_map(row).collect()
    }

    /// Keeps the coordinator's account of the job.
    pub(crate) fn show(&self, view: Vec<u8>) {
        *self.view.lock() = view;
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Stops what runs.
    fn cancel(&self) {
        self.running.lock().values().filter_map(Weak::upgrade).for_each(|gauge| gauge.cancel());
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
            } else if name.starts_with(HOME) {
                world.disk.remove_all(&path).map_err(failed)?;
            }
        }
        let (jobs, number) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { world: world.clone(), dir: dir.to_owned(), jobs, number })
    }

    pub(crate) fn writer(&self, job: u64, compress: bool) -> Result<Writer, Error> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{PREFIX}{job:016x}-{number}"));
        let file = self
            .world
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| Error::disk(format!("making {}", path.display()), error))?;
        let output = Output { file, path, world: self.world.clone(), index: Vec::new() };
        Ok(Writer { output, packer: Packer::new(compress), written: 0, begun: 0 })
    }

    /// The job's part; jobs not heard of for long are dropped on the way.
    pub(crate) fn job(&self, job: u64) -> Arc<JobStore> {
        let now = self.world.clock.now();
        let mut jobs = self.jobs.lock();
        jobs.retain(|_, known| now.since(*known.heard.lock()) < FORGOTTEN);
        let known = jobs.entry(job).or_insert_with(|| {
            Arc::new(JobStore {
                shipped: tokio::sync::OnceCell::new(),
                outputs: Mutex::default(),
                running: Mutex::default(),
                heard: Mutex::new(now),
                view: Mutex::default(),
                killed: AtomicBool::new(false),
                kept: AtomicU32::new(0),
                term: Mutex::default(),
            })
        });
        *known.heard.lock() = now;
        known.clone()
    }

    /// The directory of a job's files, working directories and logs.
    pub(crate) fn home(&self, job: u64) -> PathBuf {
        self.dir.join(format!("{HOME}{job:016x}"))
    }

    /// The job is over.
    pub(crate) fn end(&self, job: u64) {
        let Some(known) = self.jobs.lock().remove(&job) else { return };
        known.cancel();
        let home = self.home(job);
        if self.world.disk.exists(&home)
            && let Err(error) = self.world.disk.remove_all(&home)
        {
            tracing::warn!(home = %home.display(), %error, "the files of a job stay behind");
        }
    }

    /// The jobs that run.
    pub(crate) fn rows(&self) -> Vec<JobRow> {
        let now = self.world.clock.now();
        let jobs = self.jobs.lock();
        let row = |(job, known): (&u64, &Arc<JobStore>)| JobRow {
            job: *job,
            view: known.view.lock().clone(),
            over: false,
            age_ms: now.since(*known.heard.lock()).as_millis() as u64,
        };
        jobs.iter().map(row).collect()
    }

    /// Wants a job to end; tells whether it is known here.
    pub(crate) fn kill(&self, job: u64) -> bool {
        let jobs = self.jobs.lock();
        let known = jobs.get(&job);
        known.inspect(|known| known.killed.store(true, Ordering::Relaxed)).is_some()
    }

    fn logs_of(&self, job: u64) -> PathBuf {
        self.home(job).join("logs")
    }

    /// What an attempt that has ended said on standard error; none if it said nothing, or enough of its job is kept.
    pub(crate) fn log(&self, job: u64, label: &str) -> Option<Vec<u8>> {
        let known = self.jobs.lock().get(&job).cloned()?;
        let text = self.world.disk.read(&self.logs_of(job).join(label)).ok()?;
        let keep = !text.is_empty() && known.kept.fetch_add(1, Ordering::Relaxed) < KEPT;
        keep.then_some(text)
    }

    /// What the programs of a job said on standard error here, the end of it if it was much.
    pub(crate) fn logs(&self, job: u64) -> Result<Vec<Log>, Error> {
        let dir = self.logs_of(job);
        if !self.world.disk.exists(&dir) {
            return Ok(Vec::new());
        }
        let failed = |error| Error::disk(format!("reading the logs in {}", dir.display()), error);
        let mut logs = Vec::new();
        let mut left = history::ALL_LOGS;
        for path in self.world.disk.list(&dir).map_err(failed)? {
            let text = self.world.disk.read(&path).map_err(failed)?;
            let text = history::tail(&text);
            let text = text[text.len() - text.len().min(left)..].to_vec();
            left -= text.len();
            let label = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let (label, place) = (label.unwrap_or_default(), String::new());
            logs.push(Log { label, text, place });
        }
        logs.retain(|log| !log.text.is_empty());
        Ok(logs)
    }
}
