//! The bytes of a segment, pure: header, records, parts. All little-endian. Lengths in the bytes
//! are bounded by what is there before anything is allocated.
//!
//! ```text
//! header (64):  magic 8 | version u32 | CRC32C of the rest u32 | cluster u128 | group u64
//!               | node u64 | segment u64 | zeros
//! record (32):  magic u32 | payload length u32 | record number u64 | segment u64
//!               | CRC32C of the payload u32 | CRC32C of the 28 bytes before u32
//! part:         kind u8 | length u32 | bytes; padding is kind 0 without length
//! ```

use bytes::{Bytes, BytesMut};
use raft::{Entry, HardState, Index, MemberId, Position, Term, codec};
use wire::{ClusterId, NodeId};

use super::Owner;
use crate::config::GroupId;

pub(crate) const HEADER: usize = 64;
pub(crate) const RECORD: usize = 32;
const MAGIC: &[u8; 8] = b"PLMRLOG\0";
pub(crate) const VERSION: u32 = 1;
const RECORD_MAGIC: u32 = 0x4352_4c50;

const HARD: u8 = 1;
const TRUNCATE: u8 = 2;
const ENTRY: u8 = 3;
const RESET: u8 = 4;

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
    bytes[32..40].copy_from_slice(&owner.group.0.to_le_bytes());
    bytes[40..48].copy_from_slice(&owner.node.0.to_le_bytes());
    bytes[48..56].copy_from_slice(&segment.to_le_bytes());
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
    let found = Owner {
        cluster: ClusterId(cluster),
        group: GroupId(u64_at(bytes, 32)),
        node: NodeId(u64_at(bytes, 40)),
    };
    if found != owner {
        return Err(format!(
            "it belongs to node {} in group {} of cluster {}, this is node {} in group {} of \
             cluster {}: check the directory",
            found.node, found.group, found.cluster, owner.node, owner.group, owner.cluster
        ));
    }
    if u64_at(bytes, 48) != segment {
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

/// One thing that a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Hard(HardState),
    Truncate(Index),
    Entry(Entry),
    /// All entries are gone; the next one follows this position.
    Reset(Position),
}

fn put(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let mut bytes = BytesMut::with_capacity(entry.payload.size() + 32);
    codec::encode_entry(entry, &mut bytes);
    put(ENTRY, &bytes, out);
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    bytes
}

impl Part {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hard(hard) => {
                let mut bytes = hard.term.0.to_le_bytes().to_vec();
                if let Some(vote) = hard.vote {
                    bytes.extend_from_slice(&vote.0.to_le_bytes());
                }
                if hard.rebuilding {
                    bytes.push(1);
                }
                put(HARD, &bytes, out);
            }
            Self::Truncate(index) => put(TRUNCATE, &index.0.to_le_bytes(), out),
            Self::Entry(entry) => encode_entry(entry, out),
            Self::Reset(at) => put(RESET, &pair(at.index.0, at.term.0), out),
        }
    }
}

/// The parts of a record's payload.
///
/// # Errors
/// If it is not exactly a sequence of parts.
pub(crate) fn parts(mut payload: &[u8]) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        if *kind == 0 {
            payload = rest;
            continue;
        }
        if rest.len() < 4 {
            return Err("a part is cut off");
        }
        let length = u32_at(rest, 0) as usize;
        let bytes = rest[4..].get(..length).ok_or("a part is longer than its record")?;
        payload = &rest[4 + length..];
        parts.push(part(*kind, bytes)?);
    }
    Ok(parts)
}

fn part(kind: u8, bytes: &[u8]) -> Result<Part, &'static str> {
    match (kind, bytes.len()) {
        // A byte behind term and vote: the node does not vote until it has been rebuilt.
        (HARD, 8 | 9 | 16 | 17) => Ok(Part::Hard(HardState {
            term: Term(u64_at(bytes, 0)),
            vote: (bytes.len() >= 16).then(|| MemberId(u64_at(bytes, 8))),
            rebuilding: bytes.len() % 8 == 1,
        })),
        (TRUNCATE, 8) => Ok(Part::Truncate(Index(u64_at(bytes, 0)))),
        (RESET, 16) => {
            let position =
                Position { index: Index(u64_at(bytes, 0)), term: Term(u64_at(bytes, 8)) };
            Ok(Part::Reset(position))
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
