//! Messages and entries as bytes.
//!
//! Written by hand, because a message is a dozen shapes of numbers and a list of byte strings, and because the decoder
//! must stand any bytes: every length is checked against what is left before it is used. Numbers are LEB128; the first
//! byte is the format version. It knows nothing of what a message does.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Error;
use crate::configuration::Configuration;
use crate::ids::{Index, MemberId, Round, Serial, Term};
use crate::message::{
    Append, AppendReply, Body, Checkpoint, Chunk, Conflict, Entry, Install, InstallReply, Message,
    Outcome, Payload, Position, ReadMode,
};

const VERSION: u8 = 2;
/// Larger indexes, terms and rounds come from no honest sender; below it, counting on cannot overflow.
const MAX: u64 = 1 << 60;

const PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const APPEND: u8 = 5;
const ACCEPTED: u8 = 6;
const REJECTED: u8 = 7;
const INSTALL: u8 = 8;
const INSTALL_REPLY: u8 = 9;
const TIMEOUT_NOW: u8 = 10;
const READ_INDEX: u8 = 11;
const READ_INDEX_REPLY: u8 = 12;
const REBUILT: u8 = 13;

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

/// Turns a message into bytes.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let mut out = BytesMut::with_capacity(size(&message.body));
    out.put_u8(VERSION);
    let kind = match &message.body {
        Body::PreVote { .. } => PRE_VOTE,
        Body::PreVoteReply { .. } => PRE_VOTE_REPLY,
        Body::Vote { .. } => VOTE,
        Body::VoteReply { .. } => VOTE_REPLY,
        Body::Append(_) => APPEND,
        Body::AppendReply(AppendReply { outcome: Outcome::Accepted { .. }, .. }) => ACCEPTED,
        Body::AppendReply(AppendReply { outcome: Outcome::Rejected { .. }, .. }) => REJECTED,
        Body::Install(_) => INSTALL,
        Body::InstallReply(_) => INSTALL_REPLY,
        Body::TimeoutNow => TIMEOUT_NOW,
        Body::ReadIndex { .. } => READ_INDEX,
        Body::ReadIndexReply { .. } => READ_INDEX_REPLY,
        Body::Rebuilt { .. } => REBUILT,
    };
    out.put_u8(kind);
    put(&mut out, message.from.0);
    put(&mut out, message.to.0);
    put(&mut out, message.term.0);
    put_body(&mut out, &message.body);
    out.freeze()
}

/// Reads a message; commands and chunks are slices of `bytes`, not copies.
///
/// # Errors
/// [`Error::Malformed`] if the bytes are not exactly one message.
pub fn decode(mut bytes: Bytes) -> Result<Message, Error> {
    if byte(&mut bytes)? != VERSION {
        return Err(Error::Malformed("unknown format version"));
    }
    let kind = byte(&mut bytes)?;
    let from = MemberId(any(&mut bytes)?);
    let to = MemberId(any(&mut bytes)?);
    let term = Term(take(&mut bytes)?);
    let body = take_body(kind, &mut bytes)?;
    if bytes.has_remaining() {
        return Err(Error::Malformed("bytes after its end"));
    }
    Ok(Message { from, to, term, body })
}

/// Adds one entry, index included, to `out` (for logs on disk).
pub fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    put(out, entry.index.0);
    put_entry(out, entry);
}

/// Takes one entry off the front of `bytes`; its command is a slice, not a copy.
///
/// # Errors
/// [`Error::Malformed`] if the bytes do not begin with an entry.
pub fn decode_entry(bytes: &mut Bytes) -> Result<Entry, Error> {
    let index = Index(take(bytes)?);
    take_entry(bytes, index)
}

/// About how many bytes a message takes.
fn size(body: &Body) -> usize {
    96 + match body {
        Body::Append(append) => append.entries.iter().map(|e| e.payload.size() + 20).sum(),
        Body::Install(install) => {
            install.chunk.data.len() + install.chunk.checkpoint.configuration.size()
        }
        _ => 0,
    }
}

fn put_body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::PreVote { last } => put_position(out, *last),
        Body::Vote { last, transfer } => {
            put_position(out, *last);
            out.put_u8(u8::from(*transfer));
        }
        Body::PreVoteReply { granted } | Body::VoteReply { granted } => {
            out.put_u8(u8::from(*granted));
        }
        Body::Append(append) => {
            put_position(out, append.prev);
            put(out, append.commit.0);
            put(out, append.round.0);
            put(out, append.entries.len() as u64);
            for entry in &append.entries {
                put_entry(out, entry);
            }
        }
        Body::AppendReply(reply) => put_reply(out, reply),
        Body::Install(install) => {
            put(out, install.round.0);
            put_checkpoint(out, &install.chunk.checkpoint);
            put(out, install.chunk.offset);
            put_bytes(out, &install.chunk.data);
        }
        Body::InstallReply(reply) => {
            put(out, reply.round.0);
            put_position(out, reply.last);
            put(out, reply.digest);
            put(out, reply.received);
            out.put_u8(u8::from(reply.again));
        }
        Body::TimeoutNow => {}
        Body::ReadIndex { serial, mode } => {
            put(out, serial.0);
            out.put_u8(u8::from(*mode == ReadMode::Lease));
        }
        Body::ReadIndexReply { serial, index } => {
            put(out, serial.0);
            out.put_u8(u8::from(index.is_some()));
            put(out, index.unwrap_or_default().0);
        }
        Body::Rebuilt { upto, life } => {
            put(out, upto.0);
            put(out, life.0);
        }
    }
}

fn put_reply(out: &mut BytesMut, reply: &AppendReply) {
    put(out, reply.round.0);
    out.put_u8(u8::from(reply.rebuilding.is_some()));
    if let Some(life) = reply.rebuilding {
        put(out, life.0);
    }
    match &reply.outcome {
        Outcome::Accepted { matched } => put(out, matched.0),
        Outcome::Rejected { prev, conflict } => {
            put(out, prev.0);
            // Terms of entries are above zero, so zero can say "none".
            put(out, conflict.term.map_or(0, |term| term.0));
            put(out, conflict.first.0);
        }
    }
}

fn take_body(kind: u8, bytes: &mut Bytes) -> Result<Body, Error> {
    Ok(match kind {
        PRE_VOTE => Body::PreVote { last: take_position(bytes)? },
        PRE_VOTE_REPLY => Body::PreVoteReply { granted: take_bool(bytes)? },
        VOTE => Body::Vote { last: take_position(bytes)?, transfer: take_bool(bytes)? },
        VOTE_REPLY => Body::VoteReply { granted: take_bool(bytes)? },
        APPEND => Body::Append(take_append(bytes)?),
        ACCEPTED | REJECTED => take_reply(kind, bytes)?,
        INSTALL => {
            let round = Round(take(bytes)?);
            let checkpoint = take_checkpoint(bytes)?;
            let chunk = Chunk { checkpoint, offset: take(bytes)?, data: take_bytes(bytes)? };
            Body::Install(Install { chunk, round })
        }
        INSTALL_REPLY => Body::InstallReply(InstallReply {
            round: Round(take(bytes)?),
            last: take_position(bytes)?,
            digest: any(bytes)?,
            received: take(bytes)?,
            again: take_bool(bytes)?,
        }),
        TIMEOUT_NOW => Body::TimeoutNow,
        READ_INDEX => Body::ReadIndex {
            serial: Serial(any(bytes)?),
            mode: if take_bool(bytes)? { ReadMode::Lease } else { ReadMode::Quorum },
        },
        READ_INDEX_REPLY => {
            let serial = Serial(any(bytes)?);
            let known = take_bool(bytes)?;
            let index = Index(take(bytes)?);
            if !known && index > Index::ZERO {
                return Err(Error::Malformed("an index that is not known"));
            }
            Body::ReadIndexReply { serial, index: known.then_some(index) }
        }
        REBUILT => Body::Rebuilt { upto: Index(take(bytes)?), life: Serial(any(bytes)?) },
        _ => return Err(Error::Malformed("unknown kind")),
    })
}

fn take_reply(kind: u8, bytes: &mut Bytes) -> Result<Body, Error> {
    let round = Round(take(bytes)?);
    let rebuilding = if take_bool(bytes)? { Some(Serial(any(bytes)?)) } else { None };
    let outcome = if kind == ACCEPTED {
        Outcome::Accepted { matched: Index(take(bytes)?) }
    } else {
        let prev = Index(take(bytes)?);
        let term = Some(Term(take(bytes)?)).filter(|term| *term > Term::ZERO);
        let conflict = Conflict { term, first: Index(take(bytes)?) };
        Outcome::Rejected { prev, conflict }
    };
    Ok(Body::AppendReply(AppendReply { round, outcome, rebuilding }))
}

/// Adds a configuration to `out` (for checkpoints on disk).
pub fn encode_configuration(configuration: &Configuration, out: &mut BytesMut) {
    for list in [&configuration.voters, &configuration.outgoing, &configuration.learners] {
        put(out, list.len() as u64);
        for id in list {
            put(out, id.0);
        }
    }
}

/// Takes a configuration off the front of `bytes`.
///
/// # Errors
/// [`Error::Malformed`] if the bytes do not begin with one that a group can have.
pub fn decode_configuration(bytes: &mut Bytes) -> Result<Configuration, Error> {
    let configuration = Configuration {
        voters: take_members(bytes)?,
        outgoing: take_members(bytes)?,
        learners: take_members(bytes)?,
    };
    configuration.check().map_err(Error::Malformed)?;
    Ok(configuration)
}

fn take_members(bytes: &mut Bytes) -> Result<Vec<MemberId>, Error> {
    let count = take(bytes)?;
    // An id takes a byte at least.
    if count > bytes.remaining() as u64 {
        return Err(Error::Malformed("more members than bytes"));
    }
    let mut members = Vec::with_capacity(count as usize);
    for _ in 0..count {
        members.push(MemberId(any(bytes)?));
    }
    Ok(members)
}

fn put_checkpoint(out: &mut BytesMut, checkpoint: &Checkpoint) {
    put_position(out, checkpoint.last);
    put(out, checkpoint.size);
    put(out, checkpoint.digest);
    encode_configuration(&checkpoint.configuration, out);
}

fn take_checkpoint(bytes: &mut Bytes) -> Result<Checkpoint, Error> {
    Ok(Checkpoint {
        last: take_position(bytes)?,
        size: take(bytes)?,
        digest: any(bytes)?,
        configuration: Arc::new(decode_configuration(bytes)?),
    })
}

fn take_append(bytes: &mut Bytes) -> Result<Append, Error> {
    let prev = take_position(bytes)?;
    let commit = Index(take(bytes)?);
    let round = Round(take(bytes)?);
    let count = take(bytes)?;
    // An entry takes two bytes at least.
    if count > bytes.remaining() as u64 / 2 {
        return Err(Error::Malformed("more entries than bytes"));
    }
    let mut entries = Vec::with_capacity(count as usize);
    for index in (prev.index.0 + 1..).take(count as usize) {
        entries.push(take_entry(bytes, Index(index))?);
    }
    Ok(Append { prev, entries, commit, round })
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put(out, entry.term.0);
    match &entry.payload {
        Payload::Noop => out.put_u8(NOOP),
        Payload::Command(command) => {
            out.put_u8(COMMAND);
            put_bytes(out, command);
        }
        Payload::Configuration(configuration) => {
            out.put_u8(CONFIGURATION);
            encode_configuration(configuration, out);
        }
    }
}

fn take_entry(bytes: &mut Bytes, index: Index) -> Result<Entry, Error> {
    let term = Term(take(bytes)?);
    let payload = match byte(bytes)? {
        NOOP => Payload::Noop,
        COMMAND => Payload::Command(take_bytes(bytes)?),
        CONFIGURATION => Payload::Configuration(Arc::new(decode_configuration(bytes)?)),
        _ => return Err(Error::Malformed("unknown payload")),
    };
    if term == Term::ZERO {
        return Err(Error::Malformed("an entry without a term"));
    }
    Ok(Entry { index, term, payload })
}

fn put_position(out: &mut BytesMut, position: Position) {
    put(out, position.index.0);
    put(out, position.term.0);
}

fn take_position(bytes: &mut Bytes) -> Result<Position, Error> {
    Ok(Position { index: Index(take(bytes)?), term: Term(take(bytes)?) })
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    put(out, bytes.len() as u64);
    out.put_slice(bytes);
}

fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, Error> {
    let length = take(bytes)?;
    if length > bytes.remaining() as u64 {
        return Err(Error::Malformed("a length beyond its end"));
    }
    Ok(bytes.split_to(length as usize))
}

fn take_bool(bytes: &mut Bytes) -> Result<bool, Error> {
    match byte(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::Malformed("neither yes nor no")),
    }
}

fn put(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// A number that is counted with.
fn take(bytes: &mut Bytes) -> Result<u64, Error> {
    let number = any(bytes)?;
    if number > MAX { Err(Error::Malformed("a number out of range")) } else { Ok(number) }
}

/// Any number.
fn any(bytes: &mut Bytes) -> Result<u64, Error> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = byte(bytes)?;
        if shift == 63 && byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Error::Malformed("a number too long"))
}

fn byte(bytes: &mut Bytes) -> Result<u8, Error> {
    bytes.try_get_u8().map_err(|_| Error::Malformed("it ends too early"))
}
