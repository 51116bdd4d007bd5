//! The log of one node on disk: what [`raft::Persist`] says, one write and one sync per batch, in
//! segments of preallocated (zeroed) space, so that a sync changes no file-system metadata.
//!
//! A segment begins with a header (format version, cluster, group, node, number). Records follow,
//! one per sync, each with its CRC32C and a number that grows by one; the first record of a
//! segment repeats term and vote, so that older segments can be dropped whole. Zeros end it.
//!
//! A record is written only after the one before it was synced. So at a start, an unreadable
//! record with a readable later one behind it is damage, which is refused; without one it is the
//! tail of a write that was never acknowledged, which is cut. (A rotted *last* record cannot be
//! told from a torn one.) Which entries are needed is not known here.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use raft::{Entry, HardState, Index, Persist, Position};
use wire::{ClusterId, NodeId};
use world::{Disk, File, OpenMode};

use crate::{config::GroupId, error::Error};

mod format;
mod recover;
#[cfg(test)]
mod tests;

pub(crate) use format::u64_at;
use format::{HEADER, Part, RECORD};

/// Segments are made this large; one larger record makes its segment longer.
pub(crate) const SEGMENT: u64 = 4 << 20;

/// Whose log it is; part of every segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) hard: HardState,
    pub(crate) entries: Vec<Entry>,
}

/// The log, open for writing. One thread owns it.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    owner: Owner,
    /// Oldest first; the last is being written.
    segments: Vec<Segment>,
    file: Arc<dyn File>,
    offset: u64,
    next_record: u64,
    hard: HardState,
    buffer: Vec<u8>,
    /// Keeps other processes out of the directory.
    lock: Option<Arc<dyn File>>,
}

struct Segment {
    number: u64,
    path: PathBuf,
    size: u64,
    /// The highest index of an entry ever written to it.
    highest: Index,
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}"))
}

impl Log {
    /// Keeps the directory's lock for as long as the log is open.
    pub(crate) fn hold(&mut self, lock: Arc<dyn File>) {
        self.lock = Some(lock);
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    fn current(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has at least one segment")
    }

    /// Makes the parts of `persists` durable, in order, with one write and one sync. Their
    /// checkpoints are not written here: they must be durable already.
    pub(crate) fn append(&mut self, persists: &[Persist]) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(RECORD, 0);
        let (mut highest, mut hard) = (Index::ZERO, self.hard);
        for persist in persists {
            if let Some(state) = persist.hard {
                hard = state;
                Part::Hard(state).encode(&mut buffer);
            }
            if let Some(checkpoint) = &persist.checkpoint {
                Part::Reset(checkpoint.last).encode(&mut buffer);
            }
            if let Some(index) = persist.truncate {
                Part::Truncate(index).encode(&mut buffer);
            }
            for entry in &persist.entries {
                highest = highest.max(entry.index);
                format::encode_entry(entry, &mut buffer);
            }
        }
        let written = self.write_record(&mut buffer);
        self.buffer = buffer;
        written?;
        self.hard = hard;
        let segment = self.current();
        segment.highest = segment.highest.max(highest);
        Ok(())
    }

    /// Drops all entries: the log goes on after `position`, which a checkpoint covers.
    fn reset(&mut self, position: Position) -> Result<(), Error> {
        let mut buffer = vec![0; RECORD];
        Part::Reset(position).encode(&mut buffer);
        self.write_record(&mut buffer)
    }

    /// Writes one record; `buffer` begins with room for its head.
    fn write_record(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let padded = buffer.len().next_multiple_of(8);
        buffer.resize(padded, 0);
        let length = buffer.len() as u64;
        if self.offset + length > SEGMENT && self.offset > HEADER as u64 {
            self.roll()?;
        }
        let (number, record) = (self.current().number, self.next_record);
        format::seal(buffer, number, record);
        let path = segment_path(&self.dir, number);
        let failed = |error: io::Error| Error::file(&path, &error);
        self.file.write_all_at(buffer, self.offset).map_err(failed)?;
        self.file.sync().map_err(failed)?;
        self.offset += length;
        self.next_record += 1;
        let end = self.offset;
        let segment = self.current();
        segment.size = segment.size.max(end);
        Ok(())
    }

    /// Begins the next segment.
    fn roll(&mut self) -> Result<(), Error> {
        let number = self.current().number + 1;
        self.begin_segment(number)
    }

    /// Makes a segment: zeros, header and a first record with term and vote, all synced before
    /// the file gets its name, so that a segment with a bad header is always damage.
    fn begin_segment(&mut self, number: u64) -> Result<(), Error> {
        let path = segment_path(&self.dir, number);
        let (file, offset) = make_segment(
            self.disk.as_ref(),
            &path,
            format::header(self.owner, number),
            &first_record(self.hard, number, self.next_record),
        )
        .map_err(|error| Error::file(&path, &error))?;
        self.file = file;
        self.offset = offset;
        self.next_record += 1;
        self.segments.push(Segment { number, path, size: SEGMENT, highest: Index::ZERO });
        Ok(())
    }

    /// Drops the segments that hold only entries up to `index`.
    pub(crate) fn trim(&mut self, index: Index) -> Result<(), Error> {
        while self.segments.len() > 1 && self.segments[0].highest <= index {
            let segment = self.segments.remove(0);
            let removed = self.disk.remove(&segment.path);
            // One by one and in order, so that what remains after a crash has no gap.
            let synced = removed.and_then(|()| self.disk.sync_dir(&self.dir));
            synced.map_err(|error| Error::file(&segment.path, &error))?;
        }
        Ok(())
    }
}

fn first_record(hard: HardState, segment: u64, record: u64) -> Vec<u8> {
    let mut buffer = vec![0; RECORD];
    Part::Hard(hard).encode(&mut buffer);
    buffer.resize(buffer.len().next_multiple_of(8), 0);
    format::seal(&mut buffer, segment, record);
    buffer
}

/// Returns the file and the offset behind its first record.
fn make_segment(
    disk: &dyn Disk,
    path: &Path,
    header: [u8; HEADER],
    first: &[u8],
) -> io::Result<(Arc<dyn File>, u64)> {
    let beside = path.with_extension("new");
    let file = disk.open(&beside, OpenMode::Create)?;
    file.set_size(0)?;
    let mut bytes = vec![0; SEGMENT as usize];
    bytes[..HEADER].copy_from_slice(&header);
    bytes[HEADER..HEADER + first.len()].copy_from_slice(first);
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&beside, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok((file, (HEADER + first.len()) as u64))
}
