//! The checkpoint files of one group: the one in use, one being made from the machine, one being
//! received from a leader. Each is a header (format version, owner, position, configuration, size
//! and digest of the rest) and the encoding of sessions and machine, of which no more than a piece is
//! ever in memory. What the encoding says is not known here.
//!
//! A file gets its place by a rename, after a sync of the whole: what is in use is always whole. What
//! is being received stays over a restart, so that a broken transfer goes on; its digest is checked
//! at the end.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use parking_lot::Mutex;
use raft::{Checkpoint, Chunk, Configuration, Index, Position, Term, codec};
use world::{Disk, File, OpenMode};

use crate::{
    config::GroupId,
    error::{Error, REBUILD},
    log::Owner,
    log::u64_at,
};

const MAGIC: &[u8; 8] = b"PLMRCKPT";
const VERSION: u32 = 2;
/// Room for the header; the encoding begins behind it.
const HEADER: usize = 1024;
/// The fixed part of the header.
const FIXED: usize = 84;
/// Files are read and written in pieces of this size.
const PIECE: usize = 256 << 10;

/// The files. Clones share them; an older checkpoint never replaces a newer one.
#[derive(Clone)]
pub(crate) struct Files(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    group: GroupId,
    current: Mutex<Option<Current>>,
    /// The one before, which the core may still ask for until it was told of the newer.
    previous: Mutex<Option<Current>>,
    incoming: Mutex<Option<Incoming>>,
    /// The group has stopped: the files may be another host's by now.
    closed: AtomicBool,
}

/// The checkpoint in use.
#[derive(Clone)]
struct Current {
    checkpoint: Checkpoint,
    file: Arc<dyn File>,
}

/// The checkpoint that is being received.
struct Incoming {
    checkpoint: Checkpoint,
    file: Arc<dyn File>,
}

impl Files {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, owner: Owner, group: GroupId) -> Self {
        Self(Arc::new(Inner {
            disk: disk.clone(),
            dir: dir.to_owned(),
            owner,
            group,
            current: Mutex::default(),
            previous: Mutex::default(),
            incoming: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.0.dir.join(format!("group-{}-{kind}", self.0.group))
    }

    /// Finds the checkpoint in use, whose bytes are compared with its digest.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is one that cannot be used.
    pub(crate) fn find(&self) -> Result<Option<Checkpoint>, Error> {
        let path = self.path("checkpoint");
        if !self.0.disk.exists(&path) {
            return Ok(None);
        }
        let failed = |error: io::Error| Error::file(&path, &error);
        let file = self.0.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let checkpoint = self.header(file.as_ref()).map_err(|odd| Error::damaged(&path, odd))?;
        if !is_sound(file.as_ref(), &checkpoint).map_err(failed)? {
            return Err(Error::damaged(&path, format!("it fails its checksum; {REBUILD}")));
        }
        *self.0.current.lock() = Some(Current { checkpoint: checkpoint.clone(), file });
        Ok(Some(checkpoint))
    }

    /// Finds what was received of a checkpoint, and how many bytes of it.
    pub(crate) fn find_incoming(&self) -> Option<(Checkpoint, u64)> {
        let path = self.path("incoming");
        let file = self.0.disk.open(&path, OpenMode::Write).ok()?;
        let checkpoint = self.header(file.as_ref()).ok()?;
        let received = file.size().ok()?.checked_sub(HEADER as u64)?;
        if received > checkpoint.size {
            return None;
        }
        *self.0.incoming.lock() = Some(Incoming { checkpoint: checkpoint.clone(), file });
        Some((checkpoint, received))
    }

    /// Makes the checkpoint at `last` from what `encode` writes, and puts it in use unless a newer
    /// one is.
    pub(crate) fn make(
        &self,
        last: Position,
        configuration: Arc<Configuration>,
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Checkpoint, Error> {
        let path = self.path("making");
        let make = || {
            // Not into a file that a host which was here before may still be writing.
            if self.0.disk.exists(&path) {
                self.0.disk.remove(&path)?;
            }
            let file = self.0.disk.open(&path, OpenMode::Create)?;
            file.set_size(0)?;
            let mut out = Writer::new(file.clone());
            encode(&mut out)?;
            let (size, digest) = out.finish()?;
            let checkpoint = Checkpoint { last, configuration, size, digest };
            file.write_all_at(&self.encode_header(&checkpoint), 0)?;
            file.sync()?;
            Ok((checkpoint, file))
        };
        let (checkpoint, file) = make().map_err(|error| Error::file(&path, &error))?;
        self.adopt(&path, checkpoint.clone(), file)?;
        Ok(checkpoint)
    }

    /// Nothing is put in use after this.
    pub(crate) fn close(&self) {
        let _current = self.0.current.lock();
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Puts the file at `path` in use, unless a newer one is.
    fn adopt(&self, path: &Path, checkpoint: Checkpoint, file: Arc<dyn File>) -> Result<(), Error> {
        let mut current = self.0.current.lock();
        if self.0.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        if current.as_ref().is_some_and(|c| c.checkpoint.last.index >= checkpoint.last.index) {
            return Ok(());
        }
        let place = self.path("checkpoint");
        let renamed = self.0.disk.rename(path, &place);
        let synced = renamed.and_then(|()| self.0.disk.sync_dir(&self.0.dir));
        synced.map_err(|error| Error::file(&place, &error))?;
        *self.0.previous.lock() = current.replace(Current { checkpoint, file });
        Ok(())
    }

    /// Writes pieces of a checkpoint that is being received, durably. `false`: all are there, and
    /// they do not have the digest that was announced.
    pub(crate) fn receive(&self, chunks: &[Chunk]) -> Result<bool, Error> {
        let path = self.path("incoming");
        let mut incoming = self.0.incoming.lock();
        self.write_chunks(&path, &mut incoming, chunks).map_err(|error| Error::file(&path, &error))
    }

    fn write_chunks(
        &self,
        path: &Path,
        incoming: &mut Option<Incoming>,
        chunks: &[Chunk],
    ) -> io::Result<bool> {
        let mut whole = false;
        for chunk in chunks {
            if chunk.offset == 0 {
                let file = self.0.disk.open(path, OpenMode::Create)?;
                file.set_size(0)?;
                file.write_all_at(&self.encode_header(&chunk.checkpoint), 0)?;
                *incoming = Some(Incoming { checkpoint: chunk.checkpoint.clone(), file });
            }
            let Some(Incoming { file, .. }) =
                incoming.as_ref().filter(|incoming| incoming.checkpoint == chunk.checkpoint)
            else {
                return Err(io::Error::other("a piece of a checkpoint follows no other"));
            };
            file.write_all_at(&chunk.data, HEADER as u64 + chunk.offset)?;
            whole = chunk.offset + chunk.data.len() as u64 == chunk.checkpoint.size;
        }
        let Some(Incoming { file, checkpoint }) = incoming.as_ref() else { return Ok(true) };
        file.sync()?;
        if chunks.iter().any(|chunk| chunk.offset == 0) {
            self.0.disk.sync_dir(&self.0.dir)?;
        }
        Ok(!whole || is_sound(file.as_ref(), checkpoint)?)
    }

    /// Puts the received checkpoint in use.
    pub(crate) fn install(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let path = self.path("incoming");
        let incoming = self.0.incoming.lock().take();
        match incoming.filter(|incoming| incoming.checkpoint == *checkpoint) {
            Some(incoming) => self.adopt(&path, incoming.checkpoint, incoming.file),
            None => Err(Error::damaged(&path, "it is not the checkpoint that was received")),
        }
    }

    /// A piece of the checkpoint in use or of the one before; `None` if it is neither.
    pub(crate) fn piece(
        &self,
        checkpoint: &Checkpoint,
        offset: u64,
        limit: u64,
    ) -> Result<Option<Chunk>, Error> {
        let both = [self.0.current.lock().clone(), self.0.previous.lock().clone()];
        let mut both = both.into_iter().flatten();
        let Some(current) = both.find(|current| current.checkpoint == *checkpoint) else {
            return Ok(None);
        };
        let limit = limit.min(checkpoint.size.saturating_sub(offset));
        let mut data = vec![0; usize::try_from(limit).unwrap_or(0)];
        let read = current.file.read_exact_at(&mut data, HEADER as u64 + offset);
        read.map_err(|error| Error::file(&self.path("checkpoint"), &error))?;
        Ok(Some(Chunk { checkpoint: checkpoint.clone(), offset, data: data.into() }))
    }

    /// The encoding of the checkpoint in use.
    pub(crate) fn read(&self) -> Option<Reader> {
        let current = self.0.current.lock().clone()?;
        Some(Reader::new(current.file, current.checkpoint.size))
    }

    /// Moves what cannot be used out of the way.
    pub(crate) fn set_aside(&self) -> Result<(), Error> {
        let path = self.path("checkpoint");
        if !self.0.disk.exists(&path) {
            return Ok(());
        }
        let aside = self.path("damaged");
        // Or the one that takes its place could be taken for no newer.
        (*self.0.current.lock(), *self.0.previous.lock()) = (None, None);
        self.0.disk.rename(&path, &aside).map_err(|error| Error::file(&path, &error))
    }

    fn encode_header(&self, checkpoint: &Checkpoint) -> BytesMut {
        let mut out = BytesMut::with_capacity(HEADER);
        out.put_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u128_le(self.0.owner.cluster.0);
        out.put_u64_le(self.0.group.0);
        out.put_u64_le(checkpoint.last.index.0);
        out.put_u64_le(checkpoint.last.term.0);
        out.put_u64_le(checkpoint.size);
        out.put_u64_le(checkpoint.digest);
        out.put_u64_le(self.0.owner.node.0);
        out.put_u32_le(0);
        codec::encode_configuration(&checkpoint.configuration, &mut out);
        let configuration = (out.len() - FIXED) as u32;
        out[FIXED - 4..FIXED].copy_from_slice(&configuration.to_le_bytes());
        out.resize(HEADER, 0);
        let crc = crc_fast::crc32_iscsi(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn header(&self, file: &dyn File) -> Result<Checkpoint, String> {
        let mut bytes = vec![0; HEADER];
        file.read_exact_at(&mut bytes, 0).map_err(|error| format!("no header: {error}"))?;
        if &bytes[..8] != MAGIC {
            return Err("it is not a checkpoint".to_owned());
        }
        let word = |at: usize| u64_at(&bytes, at);
        let version = word(8) as u32;
        if version != VERSION {
            return Err(format!(
                "it has format version {version} and this program reads version {VERSION}: run \
                 the release that wrote it"
            ));
        }
        if crc_fast::crc32_iscsi(&bytes[16..]) != (word(8) >> 32) as u32 {
            return Err(format!("its header fails its checksum; {REBUILD}"));
        }
        let cluster = u128::from(word(16)) | u128::from(word(24)) << 64;
        let owner = self.0.owner;
        if (cluster, word(32), word(72)) != (owner.cluster.0, self.0.group.0, owner.node.0) {
            return Err("it belongs to another cluster, group or node: check the directory".into());
        }
        let length = (word(FIXED - 4) as u32) as usize;
        let encoded = bytes.get(FIXED..FIXED + length).ok_or("its header is cut off")?;
        let mut encoded = Bytes::copy_from_slice(encoded);
        let configuration =
            codec::decode_configuration(&mut encoded).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint {
            last: Position { index: Index(word(40)), term: Term(word(48)) },
            configuration: Arc::new(configuration),
            size: word(56),
            digest: word(64),
        };
        Ok(checkpoint)
    }
}

fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Nvme)
}

/// Whether the bytes of a checkpoint have its size and digest.
fn is_sound(file: &dyn File, checkpoint: &Checkpoint) -> io::Result<bool> {
    if file.size()? != HEADER as u64 + checkpoint.size {
        return Ok(false);
    }
    let mut digest = digest();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < checkpoint.size {
        let length = (checkpoint.size - at).min(PIECE as u64) as usize;
        file.read_exact_at(&mut piece[..length], HEADER as u64 + at)?;
        digest.update(&piece[..length]);
        at += length as u64;
    }
    Ok(digest.finalize() == checkpoint.digest)
}

/// Writes an encoding behind the header, in large pieces, and counts and digests it.
struct Writer {
    file: Arc<dyn File>,
    piece: Vec<u8>,
    size: u64,
    digest: Digest,
}

impl Writer {
    fn new(file: Arc<dyn File>) -> Self {
        Self { file, piece: Vec::with_capacity(PIECE), size: 0, digest: digest() }
    }

    fn finish(mut self) -> io::Result<(u64, u64)> {
        self.flush()?;
        Ok((self.size, self.digest.finalize()))
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        let length = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.piece, HEADER as u64 + self.size)?;
        self.digest.update(&self.piece);
        self.size += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

/// Reads an encoding, a piece at a time.
pub(crate) struct Reader {
    file: Arc<dyn File>,
    at: u64,
    size: u64,
    piece: Bytes,
}

impl Reader {
    fn new(file: Arc<dyn File>, size: u64) -> Self {
        Self { file, at: 0, size, piece: Bytes::new() }
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let mut piece = vec![0; (self.size - self.at).min(PIECE as u64) as usize];
            self.file.read_exact_at(&mut piece, HEADER as u64 + self.at)?;
            self.at += piece.len() as u64;
            self.piece = piece.into();
        }
        let length = out.len().min(self.piece.len());
        self.piece.split_to(length).copy_to_slice(&mut out[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
