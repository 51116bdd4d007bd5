//! A real source tree: crates of the Cargo cache, in order of name, until there are enough files.
//! Crates with few large files are passed over, so that the tree is one of many small files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// Bytes that a crate may have to be taken: beyond, it holds generated or binary data.
const CRATE_BYTES_MAX: u64 = 2_500_000;
/// Bytes that a file of it may have on average.
const FILE_BYTES_MAX: u64 = 24_000;

/// What was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tree {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// Packs at least `files` files into the tar file `out`.
pub(crate) fn pack(out: &Path, files: usize) -> Result<Tree> {
    let source = source()?;
    let mut chosen = Vec::new();
    let mut total = Tree::default();
    for one in sorted(&source)? {
        let size = measure(&one)?;
        if size.files == 0
            || size.bytes > CRATE_BYTES_MAX
            || size.bytes / size.files as u64 > FILE_BYTES_MAX
        {
            continue;
        }
        total.files += size.files;
        total.bytes += size.bytes;
        chosen.push(one);
        if total.files >= files {
            break;
        }
    }
    if total.files < files {
        bail!("the Cargo cache has only {} suitable files: run `cargo fetch` first", total.files);
    }
    let names = chosen.iter().filter_map(|path| path.file_name());
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&source).arg("--sort=name").arg("-cf").arg(out).args(names);
    let status = tar.status().context("start tar")?;
    if !status.success() {
        bail!("tar ended with {status}");
    }
    Ok(total)
}

/// The directory in which cargo keeps the sources of crates.
fn source() -> Result<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let registries = home.join("registry/src");
    let mut best = None;
    for registry in sorted(&registries)? {
        let count = sorted(&registry)?.len();
        if best.as_ref().is_none_or(|(most, _)| *most < count) {
            best = Some((count, registry));
        }
    }
    best.map(|(_, registry)| registry)
        .with_context(|| format!("{} is empty: build the project first", registries.display()))
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn measure(path: &Path) -> Result<Tree> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(Tree { files: usize::from(meta.is_file()), bytes: meta.len() });
    }
    let mut total = Tree::default();
    for one in sorted(path)? {
        let size = measure(&one)?;
        total.files += size.files;
        total.bytes += size.bytes;
    }
    Ok(total)
}
