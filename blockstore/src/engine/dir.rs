//! The data directory of a block server: its format version, whose it is, its lock, and the mark
//! of a clean stop. What lies in it besides is not known here.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use world::{File, OpenMode, World};

use crate::{place::ServerId, store::StoreError};

/// The version of everything in the directory: this file, the index rows, the extent files.
const FORMAT: u32 = 1;

/// A locked data directory.
pub(crate) struct Dir {
    pub(crate) path: PathBuf,
    pub(crate) directory: u128,
    pub(crate) was_clean: bool,
    // Held for as long as the directory is used.
    _lock: Arc<dyn File>,
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unusable(format!("cannot use {}: {error}", path.display()))
}

impl Dir {
    /// Opens the directory of server `server` of cluster `cluster`, or makes it.
    pub(crate) fn open(
        world: &World,
        path: &Path,
        cluster: u128,
        server: ServerId,
    ) -> Result<Self, StoreError> {
        let disk = &world.disk;
        disk.create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let lock_path = path.join("lock");
        let lock =
            disk.open(&lock_path, OpenMode::Create).map_err(|error| unusable(path, &error))?;
        lock.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StoreError::Unusable(format!(
                "{} is in use by another block server; stop that one first",
                path.display()
            )),
            _ => unusable(path, &error),
        })?;
        let format = path.join("format");
        let directory = if disk.exists(&format) {
            let bytes = disk.read(&format).map_err(|error| unusable(&format, &error))?;
            read_format(path, &bytes, cluster, server)?
        } else {
            if disk.exists(&path.join("index")) {
                return Err(StoreError::Unusable(format!(
                    "{} holds data but no format file; it is not a block server's directory, or \
                     it is damaged",
                    path.display()
                )));
            }
            let directory = fresh(world);
            let text = format!(
                "plumeria block server\nformat {FORMAT}\ncluster {cluster:032x}\nserver {server}\n\
                 directory {directory:032x}\n"
            );
            disk.replace(&format, text.as_bytes()).map_err(|error| unusable(&format, &error))?;
            directory
        };
        let clean = path.join("clean");
        let was_clean = disk.exists(&clean) || !disk.exists(&path.join("index"));
        Ok(Self { path: path.to_owned(), directory, was_clean, _lock: lock })
    }

    /// Takes the mark of the clean stop away: from now on there may be something to lose.
    pub(crate) fn begin(&self, world: &World) -> Result<(), StoreError> {
        let clean = self.path.join("clean");
        if world.disk.exists(&clean) {
            world.disk.remove(&clean).map_err(|error| unusable(&clean, &error))?;
            world.disk.sync_dir(&self.path).map_err(|error| unusable(&self.path, &error))?;
        }
        Ok(())
    }

    /// Marks the stop as clean.
    pub(crate) fn end(&self, world: &World) -> Result<(), StoreError> {
        let clean = self.path.join("clean");
        world.disk.replace(&clean, b"stopped\n").map_err(|error| unusable(&clean, &error))
    }
}

fn fresh(world: &World) -> u128 {
    let mut bytes = [0; 16];
    world.dice.fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

fn read_format(
    path: &Path,
    bytes: &[u8],
    cluster: u128,
    server: ServerId,
) -> Result<u128, StoreError> {
    let path = path.display();
    let text = String::from_utf8_lossy(bytes);
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("")
    };
    if text.lines().next() != Some("plumeria block server") {
        return Err(StoreError::Unusable(format!("{path} is not a block server's directory")));
    }
    if field("format") != FORMAT.to_string() {
        return Err(StoreError::Unusable(format!(
            "{path} has format version {}, this program knows version {FORMAT}: use the release \
             that wrote it",
            field("format")
        )));
    }
    if field("cluster") != format!("{cluster:032x}") {
        return Err(StoreError::Unusable(format!(
            "{path} belongs to cluster {}, not to {cluster:032x}: check the data directory",
            field("cluster")
        )));
    }
    if field("server") != server.to_string() {
        return Err(StoreError::Unusable(format!(
            "{path} belongs to block server {}, not to {server}: check the data directory",
            field("server")
        )));
    }
    u128::from_str_radix(field("directory"), 16)
        .map_err(|_| StoreError::Unusable(format!("the format file of {path} is damaged")))
}
