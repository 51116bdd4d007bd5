//! What outlives the workers of a job: its last account of itself and what its programs said on standard error, in the file
//! system, where any worker finds it. When a job is over, or an attempt, is not known here.
//!
//! Each worker keeps logs in a directory of its own, so that no two of them wait for each other's locks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fs::{InodeNo, Kind};
use world::{Wall, World};

use crate::{
    files::{Files, Stat},
    proto::{JobRow, Log},
};

/// Directories of the file system; hidden, as its name begins with a dot.
const OVER: &str = "/.plumeria/jobs/over";
const LOGS: &str = "/.plumeria/jobs/logs";
/// Jobs that are remembered when they are over.
const JOBS: usize = 50;
/// Bytes of one log, and of all logs of a job, that are handed out.
pub(crate) const LOG: usize = 16 << 10;
pub(crate) const ALL_LOGS: usize = 512 << 10;
/// Bytes of an account that are read; none is longer.
const VIEW: u64 = 1 << 20;
/// What is before the place of the worker in the first line of a log.
const ON: &str = "on ";

/// Jobs that are over and logs of attempts that have ended, in the file system.
#[derive(Clone)]
pub(crate) struct History {
    world: World,
    files: Arc<dyn Files>,
}

impl History {
    pub(crate) fn new(world: &World, files: &Arc<dyn Files>) -> Self {
        Self { world: world.clone(), files: files.clone() }
    }

    /// Keeps what an attempt on the worker at `place` said.
    pub(crate) async fn keep_log(
        &self,
        (job, label): (u64, &str),
        place: &str,
        text: &[u8],
    ) -> Result<(), fs::Error> {
        let own = crc_fast::crc32_iscsi(place.as_bytes());
        let directory = format!("{LOGS}/{job:016x}/{own:08x}");
        let text = [ON.as_bytes(), place.as_bytes(), b"\n", tail(text)].concat();
        self.write(&directory, label, text).await
    }

    /// Keeps the last account of a job that ends now; the oldest ones are forgotten.
    pub(crate) async fn keep(&self, job: u64, view: Vec<u8>) -> Result<(), fs::Error> {
        // The names are in the order of time.
        let name = format!("{:015}-{job:016x}", millis(self.world.clock.wall()));
        self.write(OVER, &name, view).await?;
        let mut known = self.known().await?;
        // A coordinator that was lost right after this has left one too.
        for (_, _, twice, _) in known.extract_if(.., |one| one.1 == job && one.2 != name) {
            self.files.remove(&format!("{OVER}/{twice}")).await?;
        }
        for (_, job, name, _) in known.iter().rev().skip(JOBS) {
            self.files.remove(&format!("{OVER}/{name}")).await?;
            match self.files.remove(&format!("{LOGS}/{job:016x}")).await {
                Ok(()) | Err(fs::Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The jobs that are over, the latest last.
    pub(crate) async fn rows(&self) -> Result<Vec<JobRow>, fs::Error> {
        let now = millis(self.world.clock.wall());
        let mut rows = Vec::new();
        for (ended, job, _, stat) in self.known().await? {
            let view = self.read(stat, VIEW).await?;
            rows.push(JobRow { job, view, over: true, age_ms: now.saturating_sub(ended) });
        }
        Ok(rows)
    }

    /// What the programs of a job said in attempts that have ended.
    pub(crate) async fn logs(&self, job: u64) -> Result<Vec<Log>, fs::Error> {
        let mut logs = Vec::new();
        let mut left = ALL_LOGS;
        for (_, own) in self.list(&format!("{LOGS}/{job:016x}")).await? {
            for line in self.files.list(own.ino).await? {
                if left == 0 {
                    return Ok(logs);
                }
                let text = self.read(line.stat, (LOG + VIEW as usize) as u64).await?;
                let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
                let first = String::from_utf8_lossy(&text[..end]);
                let place = first.strip_prefix(ON).unwrap_or_default().to_owned();
                let text = &text[text.len().min(end + 1)..];
                let text = text[text.len() - text.len().min(left)..].to_vec();
                left -= text.len();
                let label = String::from_utf8_lossy(&line.name).into_owned();
                logs.push(Log { label, text, place });
            }
        }
        Ok(logs)
    }

    /// When jobs ended, their numbers, and the names of their files, the latest last.
    async fn known(&self) -> Result<Vec<(u64, u64, String, Stat)>, fs::Error> {
        let parse = |(name, stat): (String, Stat)| {
            let (ended, job) = name.split_once('-')?;
            let (ended, job) = (ended.parse().ok()?, u64::from_str_radix(job, 16).ok()?);
            Some((ended, job, name, stat))
        };
        Ok(self.list(OVER).await?.into_iter().filter_map(parse).collect())
    }

    /// The names in a directory, sorted; none if it is not there.
    async fn list(&self, path: &str) -> Result<Vec<(String, Stat)>, fs::Error> {
        let Some(Stat { ino, kind: Kind::Directory, .. }) = self.files.stat(path).await? else {
            return Ok(Vec::new());
        };
        let lines = self.files.list(ino).await?.into_iter();
        let name = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
        let mut names: Vec<_> = lines.map(|line| (name(&line.name), line.stat)).collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    async fn read(&self, Stat { ino, size, .. }: Stat, most: u64) -> Result<Vec<u8>, fs::Error> {
        if size == 0 {
            return Ok(Vec::new());
        }
        Ok(self.files.read(ino, 0, size.min(most)).await?.concat())
    }

    async fn write(&self, directory: &str, name: &str, text: Vec<u8>) -> Result<(), fs::Error> {
        self.files.make_directories(directory).await?;
        let ino: InodeNo = self.files.create(&format!("{directory}/{name}")).await?;
        let written = self.files.write(ino, 0, text.into()).await;
        let finished = self.files.finish(ino).await;
        written.and(finished)
    }
}

/// The end of a log.
pub(crate) fn tail(text: &[u8]) -> &[u8] {
    &text[text.len() - text.len().min(LOG)..]
}

fn millis(wall: Wall) -> u64 {
    Duration::new(wall.seconds.max(0) as u64, wall.nanos).as_millis() as u64
}
