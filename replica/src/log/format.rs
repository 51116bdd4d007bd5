//! The bytes of a segment, pure: header, records, parts. All little-endian. Lengths in the bytes
//! are bounded by what is there before anything is allocated.
//!
//! ```text
//! header (64):  magic 8 | version u32 | CRC32C of the rest u32 | cluster u128 | node u64
//!               | segment u64 | zeros
//! record (32):  magic u32 | payload length u32 | record number u64 | segment u64
//!               | CRC32C of the payload u32 | CRC32C of the 28 bytes before u32
//! part:         kind u8 | group u64 | length u32 | bytes; padding is kind 0 and nothing else
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use raft::{Entry, HardState, Index, MemberId, Position, Term, codec};
use wire::{ClusterId, NodeId};

use super::Owner;
use crate::config::GroupId;

pub(crate) const HEADER: usize = 64;
pub(crate) const RECORD: usize = 32;
const MAGIC: &[u8; 8] = b"PLMRLOG\0";
pub(crate) const VERSION: u32 = 2;
const RECORD_MAGIC: u32 = 0x4352_4c50;

const HARD: u8 = 1;
const TRUNCATE: u8 = 2;
const ENTRY: u8 = 3;
const RESET: u8 = 4;
const FOUNDED: u8 = 5;
/// Kind, group and length of a part.
const PART: usize = 13;

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) fn header(owner: Owner, segment: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&owner.cluster.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&owner.node.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32c(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks a header.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn check_header(bytes: &[u8], owner: Owner, segment: u64) -> Result<(), String> {
    if bytes.len() < HEADER || &bytes[0..8] != MAGIC {
        return Err("it is not a log segment".to_owned());
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(format!(
            "it has format version {version} and this program reads version {VERSION}: run the \
             release that wrote it"
        ));
    }
    if crc32c(&bytes[16..HEADER]) != u32_at(bytes, 12) {
        return Err("its header fails its checksum".to_owned());
    }
    let cluster = u128::from(u64_at(bytes, 16)) | u128::from(u64_at(bytes, 24)) << 64;
    let found = Owner { cluster: ClusterId(cluster), node: NodeId(u64_at(bytes, 32)) };
    if found != owner {
        return Err(format!(
            "it belongs to node {} of cluster {}, this is node {} of cluster {}: check the \
             directory",
            found.node, found.cluster, owner.node, owner.cluster
        ));
    }
    if u64_at(bytes, 40) != segment {
        return Err("its name and its header give different segment numbers".to_owned());
    }
    Ok(())
}

/// Fills in the head of a record whose payload stands in `buffer` behind it.
pub(crate) fn seal(buffer: &mut [u8], segment: u64, number: u64) {
    let payload = crc32c(&buffer[RECORD..]);
    let length = (buffer.len() - RECORD) as u32;
    buffer[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
    buffer[4..8].copy_from_slice(&length.to_le_bytes());
    buffer[8..16].copy_from_slice(&number.to_le_bytes());
    buffer[16..24].copy_from_slice(&segment.to_le_bytes());
    buffer[24..28].copy_from_slice(&payload.to_le_bytes());
    let crc = crc32c(&buffer[..28]);
    buffer[28..32].copy_from_slice(&crc.to_le_bytes());
}

/// A whole and valid record at the front of `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) number: u64,
    pub(crate) payload: &'a [u8],
}

/// The record at the front of `bytes`, if there is a valid one of this segment.
pub(crate) fn record(bytes: &[u8], segment: u64) -> Option<Record<'_>> {
    let head = bytes.get(..RECORD)?;
    if u32_at(head, 0) != RECORD_MAGIC
        || crc32c(&head[..28]) != u32_at(head, 28)
        || u64_at(head, 16) != segment
    {
        return None;
    }
    let length = u32_at(head, 4) as usize;
    let payload = bytes.get(RECORD..RECORD.checked_add(length)?)?;
    let sound = crc32c(payload) == u32_at(head, 24);
    sound.then_some(Record { number: u64_at(head, 8), payload })
}

/// One thing that a record says of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Hard(HardState),
    Truncate(Index),
    Entry(Entry),
    /// All entries are gone; the next one follows this position.
    Reset(Position),
    /// This node takes part, and these were the voters when the group began (none: it joined later).
    Founded(Vec<NodeId>),
}

/// Adds a part whose bytes `fill` adds.
fn put(kind: u8, group: GroupId, out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    out.put_u64_le(group.0);
    let at = out.len();
    out.put_u32_le(0);
    fill(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

pub(crate) fn encode_entry(group: GroupId, entry: &Entry, out: &mut BytesMut) {
    put(ENTRY, group, out, |out| codec::encode_entry(entry, out));
}

impl Part {
    pub(crate) fn encode(&self, group: GroupId, out: &mut BytesMut) {
        match self {
            Self::Hard(hard) => put(HARD, group, out, |out| {
                out.put_u64_le(hard.term.0);
                out.put_u8(u8::from(hard.rebuilding));
                if let Some(vote) = hard.vote {
                    out.put_u64_le(vote.0);
                }
            }),
            Self::Truncate(index) => put(TRUNCATE, group, out, |out| out.put_u64_le(index.0)),
            Self::Entry(entry) => encode_entry(group, entry, out),
            Self::Reset(at) => put(RESET, group, out, |out| {
                out.put_u64_le(at.index.0);
                out.put_u64_le(at.term.0);
            }),
            Self::Founded(voters) => put(FOUNDED, group, out, |out| {
                voters.iter().for_each(|voter| out.put_u64_le(voter.0));
            }),
        }
    }
}

/// The parts of a record's payload.
///
/// # Errors
/// If it is not exactly a sequence of parts.
pub(crate) fn parts(mut payload: &[u8]) -> Result<Vec<(GroupId, Part)>, &'static str> {
    let mut parts = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        if *kind == 0 {
            payload = rest;
            continue;
        }
        if payload.len() < PART {
            return Err("a part is cut off");
        }
        let group = GroupId(u64_at(payload, 1));
        let length = u32_at(payload, 9) as usize;
        let bytes = payload[PART..].get(..length).ok_or("a part is longer than its record")?;
        payload = &payload[PART + length..];
        parts.push((group, part(*kind, bytes)?));
    }
    Ok(parts)
}

fn part(kind: u8, bytes: &[u8]) -> Result<Part, &'static str> {
    match (kind, bytes.len()) {
        (HARD, 9 | 17) if bytes[8] <= 1 => Ok(Part::Hard(HardState {
            term: Term(u64_at(bytes, 0)),
            vote: (bytes.len() == 17).then(|| MemberId(u64_at(bytes, 9))),
            rebuilding: bytes[8] == 1,
        })),
        (TRUNCATE, 8) => Ok(Part::Truncate(Index(u64_at(bytes, 0)))),
        (RESET, 16) => {
            let position =
                Position { index: Index(u64_at(bytes, 0)), term: Term(u64_at(bytes, 8)) };
            Ok(Part::Reset(position))
        }
        (FOUNDED, length) if length % 8 == 0 => {
            Ok(Part::Founded((0..length).step_by(8).map(|at| NodeId(u64_at(bytes, at))).collect()))
        }
        (ENTRY, _) => {
            // A copy of its own, so that a small entry in memory does not keep a segment there.
            let mut bytes = Bytes::copy_from_slice(bytes);
            let entry = codec::decode_entry(&mut bytes).map_err(|_| "an entry cannot be read")?;
            if bytes.is_empty() { Ok(Part::Entry(entry)) } else { Err("an entry has a tail") }
        }
        _ => Err("unknown part"),
    }
}
