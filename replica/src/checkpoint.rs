//! The checkpoint file of one node: the state machine's own encoding under a header with format
//! version, owner, position and checksum; replaced whole. What the encoding says is not known here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{Checkpoint, Index, Position, Term};
use world::Disk;

use crate::{
    error::{Error, REBUILD},
    log::Owner,
};

const MAGIC: &[u8; 8] = b"PLMRCKPT";
const VERSION: u32 = 1;
const HEADER: usize = 80;

/// The file. Clones share it; an older checkpoint never replaces a newer one.
#[derive(Clone)]
pub(crate) struct CheckpointFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    owner: Owner,
    newest: Arc<Mutex<Index>>,
}

impl CheckpointFile {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, owner: Owner) -> Self {
        Self {
            disk: disk.clone(),
            path: dir.join("checkpoint"),
            owner,
            newest: Arc::new(Mutex::new(Index::ZERO)),
        }
    }

    /// Replaces the file, durably, unless it is newer already.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let mut newest = self.newest.lock();
        if checkpoint.last.index <= *newest {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(HEADER + checkpoint.data.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.owner.cluster.0.to_le_bytes());
        bytes.extend_from_slice(&self.owner.group.0.to_le_bytes());
        bytes.extend_from_slice(&self.owner.node.0.to_le_bytes());
        bytes.extend_from_slice(&checkpoint.last.index.0.to_le_bytes());
        bytes.extend_from_slice(&checkpoint.last.term.0.to_le_bytes());
        bytes.extend_from_slice(&(checkpoint.data.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&checkpoint.data);
        let crc = crc_fast::crc32_iscsi(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let written = self.disk.replace(&self.path, &bytes);
        written.map_err(|error| Error::file(&self.path, &error))?;
        *newest = checkpoint.last.index;
        Ok(())
    }

    /// What the file holds; `None` if there is none yet.
    pub(crate) fn read(&self) -> Result<Option<Checkpoint>, Error> {
        if !self.disk.exists(&self.path) {
            return Ok(None);
        }
        let bytes = self.disk.read(&self.path).map_err(|error| Error::file(&self.path, &error))?;
        let checkpoint = self.decode(bytes).map_err(|reason| Error::damaged(&self.path, reason))?;
        *self.newest.lock() = checkpoint.last.index;
        Ok(Some(checkpoint))
    }

    fn decode(&self, bytes: Vec<u8>) -> Result<Checkpoint, String> {
        if bytes.len() < HEADER || &bytes[..8] != MAGIC {
            return Err("it is not a checkpoint".to_owned());
        }
        let word = |at: usize| crate::log::u64_at(&bytes, at);
        let version = word(8) as u32;
        if version != VERSION {
            return Err(format!(
                "it has format version {version} and this program reads version {VERSION}: run \
                 the release that wrote it"
            ));
        }
        if crc_fast::crc32_iscsi(&bytes[16..]) != (word(8) >> 32) as u32 {
            return Err(format!("it fails its checksum; {REBUILD}"));
        }
        let cluster = u128::from(word(16)) | u128::from(word(24)) << 64;
        let owner = &self.owner;
        if (cluster, word(32), word(40)) != (owner.cluster.0, owner.group.0, owner.node.0) {
            return Err("it belongs to another cluster, group or node: check the directory".into());
        }
        if word(64) != (bytes.len() - HEADER) as u64 {
            return Err(format!("its length is wrong; {REBUILD}"));
        }
        let last = Position { index: Index(word(48)), term: Term(word(56)) };
        Ok(Checkpoint { last, data: Bytes::from(bytes).slice(HEADER..) })
    }
}
