//! The log of one node on disk, shared by all its groups: what [`raft::Persist`] says, one write and
//! one sync per batch whichever groups it is of, in segments of preallocated (zeroed) space, so that
//! a sync changes no file-system metadata.
//!
//! A segment begins with a header (format version, cluster, node, number). Records follow, one per
//! sync, each with its CRC32C and a number that grows by one; the first record of a segment repeats
//! term and vote of every group, so that older segments can be dropped whole. Zeros end it.
//!
//! A record is written only after the one before it was synced. So at a start, an unreadable
//! record with a readable later one behind it is damage, which is refused; without one it is the
//! tail of a write that was never acknowledged, which is cut. (A rotted *last* record cannot be
//! told from a torn one.)
//!
//! A segment goes when no group needs an entry of it. A group that is idle could hold a segment for
//! ever; it is then asked for a checkpoint. What the entries say is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::BytesMut;
use raft::{Entry, HardState, Index, Persist, Position};
use wire::{ClusterId, NodeId};
use world::{Disk, File, OpenMode};

use crate::{config::GroupId, error::Error};

mod format;
mod recover;
#[cfg(test)]
mod tests;

use format::{HEADER, RECORD};
pub(crate) use format::{Part, u64_at};

/// Segments are made this large; one larger record makes its segment longer.
pub(crate) const SEGMENT: u64 = 4 << 20;
/// With more segments than this, those who hold the oldest are asked for a checkpoint.
const MANY: usize = 16;

/// Whose log it is; part of every segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

/// What a start found of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) hard: HardState,
    /// `None` if this node never took part in the group.
    pub(crate) founded: Option<Vec<NodeId>>,
    pub(crate) entries: Vec<Entry>,
}

/// What the head of each segment repeats of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Head {
    hard: HardState,
    founded: Option<Vec<NodeId>>,
}

/// Up to where a group's entries are no longer needed.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    /// By the protocol, for followers that lag a little.
    trimmed: Index,
    /// For a restart: a checkpoint stands for these.
    covered: Index,
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
    heads: BTreeMap<GroupId, Head>,
    needs: BTreeMap<GroupId, Needs>,
    buffer: BytesMut,
}

struct Segment {
    number: u64,
    path: PathBuf,
    size: u64,
    /// The highest index of an entry of each group ever written to it.
    highest: BTreeMap<GroupId, Index>,
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}"))
}

impl Log {
    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    fn current(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has at least one segment")
    }

    /// Makes the parts of `persists` durable, in order, with one write and one sync. Their
    /// checkpoints and chunks are not written here: they must be durable already.
    pub(crate) fn append<'a>(
        &mut self,
        persists: impl IntoIterator<Item = (GroupId, &'a Persist)>,
    ) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(RECORD, 0);
        let mut highest = BTreeMap::new();
        let mut hards = Vec::new();
        for (group, persist) in persists {
            if let Some(state) = persist.hard {
                hards.push((group, state));
                Part::Hard(state).encode(group, &mut buffer);
            }
            if let Some(checkpoint) = &persist.checkpoint {
                Part::Reset(checkpoint.last).encode(group, &mut buffer);
            }
            if let Some(index) = persist.truncate {
                Part::Truncate(index).encode(group, &mut buffer);
            }
            for entry in &persist.entries {
                format::encode_entry(group, entry, &mut buffer);
            }
            if let Some(last) = persist.entries.last() {
                let seen = highest.entry(group).or_insert(last.index);
                *seen = last.index.max(*seen);
            }
        }
        let written = self.write_record(&mut buffer);
        self.buffer = buffer;
        written?;
        for (group, hard) in hards {
            self.heads.entry(group).or_default().hard = hard;
        }
        let segment = self.current();
        for (group, last) in highest {
            let seen = segment.highest.entry(group).or_insert(last);
            *seen = last.max(*seen);
        }
        Ok(())
    }

    /// Notes durably that this node takes part in a group, with nothing stored of it yet.
    pub(crate) fn found(
        &mut self,
        group: GroupId,
        voters: Vec<NodeId>,
        hard: HardState,
    ) -> Result<(), Error> {
        let mut buffer = BytesMut::zeroed(RECORD);
        Part::Founded(voters.clone()).encode(group, &mut buffer);
        Part::Hard(hard).encode(group, &mut buffer);
        Part::Reset(Position::default()).encode(group, &mut buffer);
        self.write_record(&mut buffer)?;
        self.heads.insert(group, Head { hard, founded: Some(voters) });
        Ok(())
    }

    /// Drops all entries of a group: its log goes on after `position`, which a checkpoint covers.
    pub(crate) fn reset(&mut self, group: GroupId, position: Position) -> Result<(), Error> {
        let mut buffer = BytesMut::zeroed(RECORD);
        Part::Reset(position).encode(group, &mut buffer);
        self.write_record(&mut buffer)
    }

    /// Writes one record; `buffer` begins with room for its head.
    fn write_record(&mut self, buffer: &mut BytesMut) -> Result<(), Error> {
        let padded = buffer.len().next_multiple_of(8);
        buffer.resize(padded, 0);
        let length = buffer.len() as u64;
        if self.offset + length > SEGMENT && self.offset > HEADER as u64 {
            let number = self.current().number + 1;
            self.begin_segment(number)?;
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

    /// Makes a segment: zeros, header and a first record with what is known of each group, all
    /// synced before the file gets its name, so that a segment with a bad header is always damage.
    fn begin_segment(&mut self, number: u64) -> Result<(), Error> {
        let path = segment_path(&self.dir, number);
        let (file, offset) = make_segment(
            self.disk.as_ref(),
            &path,
            format::header(self.owner, number),
            &first_record(&self.heads, number, self.next_record),
        )
        .map_err(|error| Error::file(&path, &error))?;
        self.file = file;
        self.offset = offset;
        self.next_record += 1;
        let size = SEGMENT.max(offset);
        self.segments.push(Segment { number, path, size, highest: BTreeMap::new() });
        Ok(())
    }

    /// The protocol needs no entries of a group up to `index` any more.
    pub(crate) fn trim(&mut self, group: GroupId, index: Index) {
        let needs = self.needs.entry(group).or_default();
        needs.trimmed = needs.trimmed.max(index);
    }

    /// A durable checkpoint of a group stands for its entries up to `index`.
    pub(crate) fn cover(&mut self, group: GroupId, index: Index) {
        let needs = self.needs.entry(group).or_default();
        needs.covered = needs.covered.max(index);
    }

    /// Drops the segments that nobody needs. Tells which groups hold up the dropping of too many
    /// old ones; each should take a checkpoint.
    pub(crate) fn sweep(&mut self) -> Result<BTreeSet<GroupId>, Error> {
        while self.segments.len() > 1 {
            let many = self.segments.len() > MANY;
            let needed = |(group, highest): (&GroupId, &Index)| {
                let needs = self.needs.get(group).copied().unwrap_or_default();
                let upto = if many { needs.covered.max(needs.trimmed) } else { needs.trimmed };
                (*highest > upto).then_some(*group)
            };
            let holders: BTreeSet<_> = self.segments[0].highest.iter().filter_map(needed).collect();
            if !holders.is_empty() {
                return Ok(if many { holders } else { BTreeSet::new() });
            }
            let segment = self.segments.remove(0);
            let removed = self.disk.remove(&segment.path);
            // One by one and in order, so that what remains after a crash has no gap.
            let synced = removed.and_then(|()| self.disk.sync_dir(&self.dir));
            synced.map_err(|error| Error::file(&segment.path, &error))?;
        }
        Ok(BTreeSet::new())
    }
}

fn first_record(heads: &BTreeMap<GroupId, Head>, segment: u64, record: u64) -> BytesMut {
    let mut buffer = BytesMut::zeroed(RECORD);
    for (group, head) in heads {
        if let Some(voters) = &head.founded {
            Part::Founded(voters.clone()).encode(*group, &mut buffer);
        }
        Part::Hard(head.hard).encode(*group, &mut buffer);
    }
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
    let end = HEADER + first.len();
    let mut bytes = vec![0; end.max(SEGMENT as usize)];
    bytes[..HEADER].copy_from_slice(&header);
    bytes[HEADER..end].copy_from_slice(first);
    file.write_all_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&beside, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok((file, end as u64))
}
