//! What the machine does by itself, and what this process uses of it: the measures beside which numbers stand.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// A scratch directory that is gone afterwards.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(beside: &Path) -> Result<Self> {
        let dir = beside.join(format!("plumeria-bench.{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One thread that appends and syncs, as the log does: into zeroed space, 64 bytes at a time.
pub(crate) fn append_stream(path: &Path, time: Duration) -> Result<f64> {
    let file = fs::File::options().write(true).create_new(true).open(path)?;
    let size = 4 << 20;
    file.write_all_at(&vec![0; size as usize], 0)?;
    file.sync_all()?;
    let record = [7; 64];
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        file.write_all_at(&record, count * 64 % size)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Memory of this process, in bytes.
pub(crate) fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 =
        line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?.parse()?;
    Ok(kib << 10)
}

/// Processor time of this process.
pub(crate) fn used() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
