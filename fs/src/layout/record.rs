//! A record of the log: changes of metadata blocks that happen together or not at all.
//!
//! Each [`Change`] names the lock it was made under and the grant of that lock, and the version it
//! gives the block, so that replay judges each alone. A record says its own place in the log, its
//! session and its checksum: what is left of older rounds or other sessions is never taken for
//! one. Where the log lies and when it is written are not known here.

use blockstore::{Offset, PAGE};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm::Crc32Iscsi, checksum};
use lockservice::{Grant, Name, SessionId};

use super::{
    Damaged,
    bytes::{Cursor, get_u32, get_u64, put_u32, put_u64},
    geometry::Block,
    version::{HEAD, Version},
};

const MAGIC: u32 = 0x504c_4c52;
const HEADER: usize = 32;
/// The largest record; a transaction that would be larger is cut by whoever makes it.
pub const MAX_RECORD: usize = 4 << 20;
/// Bytes of the head of a block that changes do not carry in their ranges: the version.
const VERSION_BYTES: std::ops::Range<usize> = 8..HEAD;
/// Equal bytes between two changed ranges that are cheaper to carry than a new range.
const GAP: usize = 8;

/// A place in the stream of a session's log: bytes from its start, growing for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lsn(pub u64);

/// A changed range of bytes: where it begins in the block, and the new bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    /// Offset in the block.
    pub at: u16,
    /// The bytes.
    pub bytes: Bytes,
}

/// A change of one metadata block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where the block begins.
    pub address: Offset,
    /// The lock under which it was changed.
    pub lock: Name,
    /// The number of the grant of that lock.
    pub grant: Grant,
    /// The version that the change gives the block.
    pub version: Version,
    /// What changed besides the version.
    pub ranges: Vec<Range>,
}

impl Change {
    /// The change that turns `old` into `new`, blocks of the same length. An `old` without a version
    /// is what a block that was never written decodes to; on the disk it is zeros.
    #[must_use]
    pub fn between(address: Offset, lock: Name, grant: Grant, old: &[u8], new: &[u8]) -> Self {
        let version = Version { grant: get_u64(new, 8), counter: get_u64(new, 16) };
        let blank = get_u64(old, 8) == 0 && get_u64(old, 16) == 0;
        let ranges = if blank {
            differences(&[0; PAGE as usize][..new.len()], new)
        } else {
            differences(old, new)
        };
        Self { address, lock, grant, version, ranges }
    }

    /// The change that writes all of `new`, whatever was there.
    #[must_use]
    pub fn whole(address: Offset, lock: Name, grant: Grant, new: &[u8]) -> Self {
        let version = Version { grant: get_u64(new, 8), counter: get_u64(new, 16) };
        let head = Range { at: 0, bytes: Bytes::copy_from_slice(&new[..VERSION_BYTES.start]) };
        let rest =
            Range { at: HEAD as u16, bytes: Bytes::copy_from_slice(&new[VERSION_BYTES.end..]) };
        Self { address, lock, grant, version, ranges: vec![head, rest] }
    }

    /// Makes the change in `block`, which has the length that the address tells.
    ///
    /// # Errors
    /// If it has not.
    pub fn apply(&self, block: &mut [u8]) -> Result<(), Damaged> {
        for range in &self.ranges {
            let at = range.at as usize;
            block
                .get_mut(at..at + range.bytes.len())
                .ok_or(Damaged("log record: a change outside its block"))?
                .copy_from_slice(&range.bytes);
        }
        if block.len() < HEAD {
            return Err(Damaged("log record: a block without a head"));
        }
        put_u64(block, 8, self.version.grant);
        put_u64(block, 16, self.version.counter);
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.address.0.to_le_bytes());
        out.extend_from_slice(&self.lock.0.to_le_bytes());
        out.extend_from_slice(&self.grant.0.to_le_bytes());
        out.extend_from_slice(&self.version.grant.to_le_bytes());
        out.extend_from_slice(&self.version.counter.to_le_bytes());
        out.extend_from_slice(&(self.ranges.len() as u16).to_le_bytes());
        for range in &self.ranges {
            out.extend_from_slice(&range.at.to_le_bytes());
            out.extend_from_slice(&(range.bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(&range.bytes);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Damaged> {
        let address = Offset(cursor.u64()?);
        let lock = Name(cursor.u64()?);
        let grant = Grant(cursor.u64()?);
        let version = Version { grant: cursor.u64()?, counter: cursor.u64()? };
        let size = Block::at(address).ok_or(Damaged("log record: no metadata block"))?.bytes();
        let mut ranges = Vec::new();
        for _ in 0..cursor.u16()? {
            let at = cursor.u16()?;
            let length = cursor.u16()? as usize;
            if at as usize + length > size {
                return Err(Damaged("log record: a change outside its block"));
            }
            ranges.push(Range { at, bytes: Bytes::copy_from_slice(cursor.take(length)?) });
        }
        Ok(Self { address, lock, grant, version, ranges })
    }
}

/// The ranges in which `new` differs from `old`, the version aside.
fn differences(old: &[u8], new: &[u8]) -> Vec<Range> {
    assert!(old.len() == new.len() && new.len() <= PAGE as usize, "blocks of one length");
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < new.len() {
        let words = old[at..].chunks_exact(8).zip(new[at..].chunks_exact(8));
        at += 8 * words.take_while(|(a, b)| a == b).count();
        while at < new.len() && old[at] == new[at] {
            at += 1;
        }
        if VERSION_BYTES.contains(&at) {
            at = VERSION_BYTES.end;
            continue;
        }
        let (start, mut end) = (at, at);
        while at < new.len() && at - end < GAP && !VERSION_BYTES.contains(&at) {
            if old[at] != new[at] {
                end = at + 1;
            }
            at += 1;
        }
        if start < end {
            let bytes = Bytes::copy_from_slice(&new[start..end]);
            ranges.push(Range { at: start as u16, bytes });
        }
    }
    ranges
}

/// A record: changes that happen together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The changes, in order; a block may appear once.
    pub changes: Vec<Change>,
}

impl Record {
    /// Bytes that the record takes in the log.
    #[must_use]
    pub fn length(&self) -> usize {
        let changes: usize = self
            .changes
            .iter()
            .map(|change| 42 + change.ranges.iter().map(|r| 4 + r.bytes.len()).sum::<usize>())
            .sum();
        (HEADER + changes).next_multiple_of(8)
    }

    /// Appends the record to `out`, as the one at `lsn` of the log of `session`.
    ///
    /// # Panics
    /// If it is larger than [`MAX_RECORD`].
    pub fn encode(&self, session: SessionId, lsn: Lsn, out: &mut Vec<u8>) {
        let (start, length) = (out.len(), self.length());
        assert!(length <= MAX_RECORD, "a transaction of {length} bytes is too large for the log");
        out.resize(start + HEADER, 0);
        for change in &self.changes {
            change.encode(out);
        }
        out.resize(start + length, 0);
        let record = &mut out[start..];
        put_u32(record, 0, MAGIC);
        put_u32(record, 8, length as u32);
        put_u32(record, 12, self.changes.len() as u32);
        put_u64(record, 16, lsn.0);
        put_u64(record, 24, session.0);
        let crc = checksum(Crc32Iscsi, &record[8..]) as u32;
        put_u32(record, 4, crc);
    }

    /// The length of the record of `session` at `lsn` that `bytes` begin with, by its header alone;
    /// `None` if there is no such record.
    #[must_use]
    pub fn length_at(bytes: &[u8], session: SessionId, lsn: Lsn) -> Option<usize> {
        if bytes.len() < HEADER || get_u32(bytes, 0) != MAGIC {
            return None;
        }
        let length = get_u32(bytes, 8) as usize;
        let sane = (HEADER..=MAX_RECORD).contains(&length) && length.is_multiple_of(8);
        let ours = get_u64(bytes, 16) == lsn.0 && get_u64(bytes, 24) == session.0;
        (sane && ours).then_some(length)
    }

    /// The record of `session` at `lsn` that `bytes` begin with; `None` if there is none, or only
    /// a part of one: the end of the log.
    ///
    /// # Errors
    /// If its checksum is right and yet it makes no sense.
    pub fn decode(bytes: &[u8], session: SessionId, lsn: Lsn) -> Result<Option<Self>, Damaged> {
        let Some(length) = Self::length_at(bytes, session, lsn) else { return Ok(None) };
        let Some(record) = bytes.get(..length) else { return Ok(None) };
        if get_u32(record, 4) != checksum(Crc32Iscsi, &record[8..]) as u32 {
            return Ok(None);
        }
        let mut cursor = Cursor::new(&record[HEADER..], "log record: cut short");
        let mut changes = Vec::new();
        for _ in 0..get_u32(record, 12) {
            changes.push(Change::decode(&mut cursor)?);
        }
        if cursor.rest().len() >= 8 || cursor.rest().iter().any(|byte| *byte != 0) {
            return Err(Damaged("log record: bytes left over"));
        }
        Ok(Some(Self { changes }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::{
        geometry::InodeNo,
        version::{Kind, put_head},
    };

    const SESSION: SessionId = SessionId(9);
    const AT: Lsn = Lsn(4096);

    fn record(images: &[Vec<u8>]) -> Record {
        let root = InodeNo::ROOT;
        let changes = images
            .iter()
            .map(|new| Change::between(root.address(), root.lock(), Grant(3), &[0; 512], new));
        Record { changes: changes.collect() }
    }

    fn image(noise: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 512];
        image[512 - noise.len()..].copy_from_slice(noise);
        put_head(&mut image, Kind::Inode, Version { grant: 3, counter: 8 });
        image
    }

    #[test]
    fn only_the_right_session_and_place_reads_a_record() {
        let mut out = Vec::new();
        let record = record(&[image(b"abc")]);
        record.encode(SESSION, AT, &mut out);
        assert_eq!(out.len(), record.length());
        assert_eq!(Record::decode(&out, SESSION, AT), Ok(Some(record)));
        assert_eq!(Record::decode(&out, SessionId(8), AT), Ok(None));
        assert_eq!(Record::decode(&out, SESSION, Lsn(0)), Ok(None));
        assert_eq!(Record::decode(&out[..out.len() - 1], SESSION, AT), Ok(None));
        for at in 0..out.len() {
            let mut bad = out.clone();
            bad[at] ^= 1;
            assert_eq!(Record::decode(&bad, SESSION, AT), Ok(None), "byte {at}");
        }
    }

    #[test]
    fn the_first_change_of_a_page_makes_it_from_zeros() {
        use crate::layout::{bitmap::Bitmap, geometry::SegmentNo};
        let (blank, segment) = (Bitmap::decode(&[0; PAGE as usize]).unwrap(), SegmentNo::default());
        let mut map = blank.clone();
        map.put(9, true);
        map.set_version(Version { grant: 1, counter: 1 });
        let (at, lock) = (segment.inode_map(), segment.inode_map_lock());
        let mut disk = [0; PAGE as usize];
        Change::between(at, lock, Grant(1), blank.bytes(), map.bytes()).apply(&mut disk).unwrap();
        assert_eq!(Bitmap::decode(&disk).unwrap(), map);
    }

    proptest! {
        #[test]
        fn a_change_turns_the_old_block_into_the_new(
            old in prop::collection::vec(0..3_u8, 512), new in prop::collection::vec(0..3_u8, 512),
            same in 0..512_usize,
        ) {
            let (mut old, mut new) = (old, new);
            new[same..].copy_from_slice(&old[same..]);
            old[8] = 1;
            let root = InodeNo::ROOT;
            let change = Change::between(root.address(), root.lock(), Grant(1), &old, &new);
            let mut block = old;
            change.apply(&mut block).unwrap();
            prop_assert_eq!(&block, &new);
            let mut block = vec![7; 512];
            Change::whole(root.address(), root.lock(), Grant(1), &new).apply(&mut block).unwrap();
            prop_assert_eq!(&block, &new);
        }

        #[test]
        fn records_come_back(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..480), 0..9)) {
            let images: Vec<_> = noise.iter().map(|noise| image(noise)).collect();
            let record = record(&images);
            let mut out = Vec::new();
            record.encode(SESSION, AT, &mut out);
            prop_assert_eq!(Record::decode(&out, SESSION, AT), Ok(Some(record)));
        }

        #[test]
        fn foreign_bytes_with_a_good_checksum_never_panic(noise in prop::collection::vec(any::<u8>(), 0..300), count: u8) {
            let mut out = vec![0; HEADER];
            out.extend_from_slice(&noise);
            out.resize(out.len().next_multiple_of(8), 0);
            let length = out.len() as u32;
            put_u32(&mut out, 0, MAGIC);
            put_u32(&mut out, 8, length);
            put_u32(&mut out, 12, u32::from(count));
            put_u64(&mut out, 16, AT.0);
            put_u64(&mut out, 24, SESSION.0);
            let crc = checksum(Crc32Iscsi, &out[8..]) as u32;
            put_u32(&mut out, 4, crc);
            let _ = Record::decode(&out, SESSION, AT);
            let _ = Record::decode(&noise, SESSION, AT);
        }
    }
}
