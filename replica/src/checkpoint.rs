//! The checkpoint file of one node: the state machine's own encoding under a header with format
//! version, owner, position, configuration and checksum; replaced whole. Beside it, the chunks of a
//! leader's checkpoint are collected until it is whole. What the encoding says is not known here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use raft::{Checkpoint, Chunk, Index, Position, Term, codec};
use world::{Disk, OpenMode};

use crate::{
    error::{Error, REBUILD},
    log::Owner,
};

const MAGIC: &[u8; 8] = b"PLMRCKPT";
const VERSION: u32 = 2;
const HEADER: usize = 80;

/// The file. Clones share it; an older checkpoint never replaces a newer one.
#[derive(Clone)]
pub(crate) struct CheckpointFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    owner: Owner,
    newest: Arc<Mutex<Option<Checkpoint>>>,
}

/// What tells one encoding of a state from another, and a damaged one from a sound one.
pub(crate) fn digest(data: &[u8]) -> u64 {
    u64::from(crc_fast::crc32_iscsi(data))
}

impl CheckpointFile {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, owner: Owner) -> Self {
        Self { disk: disk.clone(), path: dir.join("checkpoint"), owner, newest: Arc::default() }
    }

    /// Replaces the file, durably, unless it is newer already.
    pub(crate) fn write(&self, checkpoint: &Checkpoint, data: &[u8]) -> Result<(), Error> {
        let mut newest = self.newest.lock();
        if newest.as_ref().is_some_and(|newest| checkpoint.last.index <= newest.last.index) {
            return Ok(());
        }
        let mut configuration = BytesMut::new();
        codec::encode_configuration(&checkpoint.configuration, &mut configuration);
        let mut bytes = Vec::with_capacity(HEADER + configuration.len() + data.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.owner.cluster.0.to_le_bytes());
        bytes.extend_from_slice(&self.owner.group.0.to_le_bytes());
        bytes.extend_from_slice(&self.owner.node.0.to_le_bytes());
        bytes.extend_from_slice(&checkpoint.last.index.0.to_le_bytes());
        bytes.extend_from_slice(&checkpoint.last.term.0.to_le_bytes());
        bytes.extend_from_slice(&(data.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(configuration.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&configuration);
        bytes.extend_from_slice(data);
        let crc = crc_fast::crc32_iscsi(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let written = self.disk.replace(&self.path, &bytes);
        written.map_err(|error| Error::file(&self.path, &error))?;
        *newest = Some(checkpoint.clone());
        Ok(())
    }

    /// What the file holds; `None` if there is none yet.
    pub(crate) fn read(&self) -> Result<Option<(Checkpoint, Bytes)>, Error> {
        if !self.disk.exists(&self.path) {
            return Ok(None);
        }
        let bytes = self.disk.read(&self.path).map_err(|error| Error::file(&self.path, &error))?;
        let found = self.decode(bytes).map_err(|reason| Error::damaged(&self.path, reason))?;
        *self.newest.lock() = Some(found.0.clone());
        Ok(Some(found))
    }

    /// A piece of this checkpoint; `None` if the file holds another one, or cannot be read.
    pub(crate) fn chunk(&self, checkpoint: &Checkpoint, offset: u64, limit: u64) -> Option<Bytes> {
        let newest = self.newest.lock();
        newest.as_ref().filter(|newest| *newest == checkpoint)?;
        let file = self.disk.open(&self.path, OpenMode::Read).ok()?;
        let begin = file.size().ok()?.checked_sub(checkpoint.size)?;
        let mut data = vec![0; usize::try_from(limit).ok()?];
        file.read_exact_at(&mut data, begin + offset).ok()?;
        Some(data.into())
    }

    fn part(&self) -> PathBuf {
        self.path.with_extension("part")
    }

    /// Adds a leader's chunk to those collected, durably. False if it was the last one and the
    /// whole is not what it should be.
    pub(crate) fn collect(&self, chunk: &Chunk) -> Result<bool, Error> {
        let path = self.part();
        let failed = |error: std::io::Error| Error::file(&path, &error);
        let file = self.disk.open(&path, OpenMode::Create).map_err(failed)?;
        if chunk.offset == 0 {
            file.set_size(0).map_err(failed)?;
        }
        file.write_all_at(&chunk.data, chunk.offset).map_err(failed)?;
        file.sync().map_err(failed)?;
        let Checkpoint { size, digest: right, .. } = chunk.checkpoint;
        if chunk.offset + (chunk.data.len() as u64) < size {
            return Ok(true);
        }
        let data = self.disk.read(&path).map_err(failed)?;
        Ok(data.len() as u64 == size && digest(&data) == right)
    }

    /// Makes the collected checkpoint the one in use.
    pub(crate) fn install(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let path = self.part();
        let failed = |error: std::io::Error| Error::file(&path, &error);
        let data = self.disk.read(&path).map_err(failed)?;
        self.write(checkpoint, &data)?;
        self.disk.remove(&path).map_err(failed)
    }

    fn decode(&self, bytes: Vec<u8>) -> Result<(Checkpoint, Bytes), String> {
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
        let (size, lists) = (word(64), word(72));
        let rest = (bytes.len() - HEADER) as u64;
        if lists > rest || size != rest - lists {
            return Err(format!("its length is wrong; {REBUILD}"));
        }
        let last = Position { index: Index(word(48)), term: Term(word(56)) };
        let mut data = Bytes::from(bytes).slice(HEADER..);
        let configuration = codec::decode_configuration(&mut data.split_to(lists as usize));
        let configuration = Arc::new(configuration.map_err(|error| error.to_string())?);
        Ok((Checkpoint { last, configuration, size, digest: digest(&data) }, data))
    }
}
