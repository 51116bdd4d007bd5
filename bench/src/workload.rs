//! What is done to a directory and timed: it is the same for every file system.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Creates `count` files of 4 KiB in the new directory `dir`, one after the other.
pub(crate) fn create(dir: &Path, count: usize) -> Result<Duration> {
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    let content = [0x5a; 4096];
    let begun = Instant::now();
    for number in 0..count {
        let path = dir.join(format!("file-{number:06}"));
        let mut file =
            fs::File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        file.write_all(&content)?;
    }
    Ok(begun.elapsed())
}

/// Unpacks the tar file `tar` into the new directory `dir`.
pub(crate) fn untar(tar: &Path, dir: &Path) -> Result<Duration> {
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    let begun = Instant::now();
    let status =
        Command::new("tar").arg("-C").arg(dir).arg("-xf").arg(tar).status().context("start tar")?;
    let took = begun.elapsed();
    if !status.success() {
        bail!("tar ended with {status}");
    }
    Ok(took)
}
