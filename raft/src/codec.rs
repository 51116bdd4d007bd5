//! Messages and entries as bytes.
//!
//! Written by hand, because a message is seven shapes of numbers and a list of byte strings, and because the decoder
//! must stand any bytes: every length is checked against what is left before it is used. Numbers are LEB128; the first
//! byte is the format version. It knows nothing of what a message does.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Error;
use crate::ids::{Index, MemberId, Round, Term};
use crate::message::{
    Append, AppendReply, Body, Checkpoint, Conflict, Entry, Install, Message, Outcome, Payload,
    Position,
};

const VERSION: u8 = 1;
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

const NOOP: u8 = 0;
const COMMAND: u8 = 1;

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
    };
    out.put_u8(kind);
    put(&mut out, message.from.0);
    put(&mut out, message.to.0);
    put(&mut out, message.term.0);
    put_body(&mut out, &message.body);
    out.freeze()
}

/// Reads a message; commands and checkpoints are slices of `bytes`, not copies.
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
    64 + match body {
        Body::Append(append) => append.entries.iter().map(|e| e.payload.size() + 20).sum(),
        Body::Install(install) => install.checkpoint.data.len(),
        _ => 0,
    }
}

fn put_body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::PreVote { last } | Body::Vote { last } => put_position(out, *last),
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
        Body::AppendReply(reply) => {
            put(out, reply.round.0);
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
        Body::Install(install) => {
            put(out, install.round.0);
            put_position(out, install.checkpoint.last);
            put_bytes(out, &install.checkpoint.data);
        }
    }
}

fn take_body(kind: u8, bytes: &mut Bytes) -> Result<Body, Error> {
    Ok(match kind {
        PRE_VOTE => Body::PreVote { last: take_position(bytes)? },
        PRE_VOTE_REPLY => Body::PreVoteReply { granted: take_bool(bytes)? },
        VOTE => Body::Vote { last: take_position(bytes)? },
        VOTE_REPLY => Body::VoteReply { granted: take_bool(bytes)? },
        APPEND => Body::Append(take_append(bytes)?),
        ACCEPTED => {
            let round = Round(take(bytes)?);
            let outcome = Outcome::Accepted { matched: Index(take(bytes)?) };
            Body::AppendReply(AppendReply { round, outcome })
        }
        REJECTED => {
            let round = Round(take(bytes)?);
            let prev = Index(take(bytes)?);
            let term = Some(Term(take(bytes)?)).filter(|term| *term > Term::ZERO);
            let conflict = Conflict { term, first: Index(take(bytes)?) };
            Body::AppendReply(AppendReply { round, outcome: Outcome::Rejected { prev, conflict } })
        }
        INSTALL => {
            let round = Round(take(bytes)?);
            let last = take_position(bytes)?;
            let data = take_bytes(bytes)?;
            Body::Install(Install { checkpoint: Checkpoint { last, data }, round })
        }
        _ => return Err(Error::Malformed("unknown kind")),
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
    }
}

fn take_entry(bytes: &mut Bytes, index: Index) -> Result<Entry, Error> {
    let term = Term(take(bytes)?);
    let payload = match byte(bytes)? {
        NOOP => Payload::Noop,
        COMMAND => Payload::Command(take_bytes(bytes)?),
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
