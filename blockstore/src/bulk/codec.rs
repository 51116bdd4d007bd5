//! Requests and replies as bytes: a kind, a small head, and a body that is not copied. Version 1 of
//! the format is the transport's protocol version 1. Decoders bound every length by the bytes that
//! are there, reject what they do not know, and never panic.

use bytes::Bytes;

use crate::{
    disk::{Fence, Space},
    message::{
        BlockContent, Change, Discard, Freshness, MAX_BODY, Refusal, Reply, Request, Seen,
        ServerStatus, Swept, Ticket, Write, Writer,
    },
    place::{
        BlockId, BlockVersion, ChainVersion, Group, Incarnation, Order, Sequence, ServerId, Volume,
    },
};

/// The bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed block message")]
pub struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// Writes numbers, little-endian.
#[derive(Default)]
struct Pen(Vec<u8>);

impl Pen {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A list: its length, then each item.
    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.u32(u32::try_from(items.len()).expect("lists are far shorter than 2^32"));
        for item in items {
            each(self, item);
        }
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.list(text.as_bytes(), |pen, byte| {
            pen.u8(*byte);
        })
    }

    fn chain(&mut self, group: Group, chain: ChainVersion) -> &mut Self {
        self.u32(group.0).u64(chain.0)
    }

    fn version(&mut self, version: BlockVersion) -> &mut Self {
        self.u64(version.chain.0).u64(version.order.0)
    }

    fn block(&mut self, block: BlockId) -> &mut Self {
        self.u64(block.volume.0).u64(block.block)
    }

    fn ticket(&mut self, ticket: &Ticket) -> &mut Self {
        self.u64(ticket.writer.session.0).u64(ticket.writer.client);
        self.u64(ticket.sequence.0).u64(ticket.floor.0)
    }

    fn sums(&mut self, sums: &[u32]) -> &mut Self {
        self.list(sums, |pen, sum| {
            pen.u32(*sum);
        })
    }

    fn seen(&mut self, seen: &[Seen]) -> &mut Self {
        self.list(seen, |pen, seen| {
            pen.u64(seen.writer.session.0).u64(seen.writer.client).u64(seen.floor.0);
            pen.list(&seen.done, |pen, sequence| {
                pen.u64(sequence.0);
            });
        })
    }

    /// A change; returns its body.
    fn change(&mut self, change: &Change) -> Bytes {
        match change {
            Change::Write(write) => {
                self.u8(0).u64(write.volume.0).u64(write.offset).u8(u8::from(write.durable));
                self.u8(u8::from(write.condition.is_some()));
                if let Some(version) = write.condition {
                    self.version(version);
                }
                self.sums(&write.sums);
                write.body.clone()
            }
            Change::Discard(discard) => {
                self.u8(1).u64(discard.volume.0).u64(discard.offset).u64(discard.length);
                Bytes::new()
            }
        }
    }

    fn content(&mut self, content: &BlockContent) -> Bytes {
        self.version(content.version).u32(u32::from(content.pages) | u32::from(content.lost) << 16);
        self.sums(&content.sums);
        content.body.clone()
    }
}

/// Reads what a [`Pen`] wrote.
struct Eye<'a>(&'a [u8]);

impl Eye<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// A list of items that have at least `least` bytes each.
    fn list<T>(
        &mut self,
        least: usize,
        mut each: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.u32()? as usize;
        if count > self.0.len() / least {
            return Err(Malformed);
        }
        (0..count).map(|_| each(self)).collect()
    }

    fn text(&mut self) -> Result<String> {
        let bytes = self.list(1, Self::u8)?;
        String::from_utf8(bytes).map_err(|_| Malformed)
    }

    fn chain(&mut self) -> Result<ChainVersion> {
        self.u64().map(ChainVersion)
    }

    fn group(&mut self) -> Result<(Group, ChainVersion)> {
        Ok((Group(self.u32()?), self.chain()?))
    }

    fn version(&mut self) -> Result<BlockVersion> {
        Ok(BlockVersion { chain: self.chain()?, order: Order(self.u64()?) })
    }

    fn block(&mut self) -> Result<BlockId> {
        Ok(BlockId { volume: Volume(self.u64()?), block: self.u64()? })
    }

    fn writer(&mut self) -> Result<Writer> {
        Ok(Writer { session: Fence(self.u64()?), client: self.u64()? })
    }

    fn ticket(&mut self) -> Result<Ticket> {
        let writer = self.writer()?;
        Ok(Ticket { writer, sequence: Sequence(self.u64()?), floor: Sequence(self.u64()?) })
    }

    fn sums(&mut self) -> Result<Vec<u32>> {
        self.list(4, Self::u32)
    }

    fn seen(&mut self) -> Result<Vec<Seen>> {
        self.list(28, |eye| {
            let writer = eye.writer()?;
            let floor = Sequence(eye.u64()?);
            let done = eye.list(8, |eye| eye.u64().map(Sequence))?;
            Ok(Seen { writer, floor, done })
        })
    }

    fn change(&mut self, body: Bytes) -> Result<Change> {
        match self.u8()? {
            0 => {
                let (volume, offset) = (Volume(self.u64()?), self.u64()?);
                let durable = self.flag()?;
                let condition = if self.flag()? { Some(self.version()?) } else { None };
                let sums = self.sums()?;
                Ok(Change::Write(Write { volume, offset, durable, condition, sums, body }))
            }
            1 => Ok(Change::Discard(Discard {
                volume: Volume(self.u64()?),
                offset: self.u64()?,
                length: self.u64()?,
            })),
            _ => Err(Malformed),
        }
    }

    fn content(&mut self, body: Bytes) -> Result<BlockContent> {
        let version = self.version()?;
        let masks = self.u32()?;
        let (pages, lost) = (masks as u16, (masks >> 16) as u16);
        Ok(BlockContent { version, pages, lost, sums: self.sums()?, body })
    }

    /// All was read.
    fn end<T>(self, value: T) -> Result<T> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed) }
    }
}

/// A request as kind, head and body.
#[must_use]
pub fn encode_request(request: &Request) -> (u16, Bytes, Bytes) {
    let mut pen = Pen::default();
    let mut body = Bytes::new();
    let kind = match request {
        Request::Read { group, chain, volume, offset, length, freshness } => {
            pen.chain(*group, *chain).u64(volume.0).u64(*offset).u32(*length);
            pen.u8(u8::from(*freshness == Freshness::Any));
            1
        }
        Request::Mutate { group, chain, ticket, change } => {
            body = pen.chain(*group, *chain).ticket(ticket).change(change);
            2
        }
        Request::Flush { groups } => {
            pen.list(groups, |pen, (group, chain)| {
                pen.chain(*group, *chain);
            });
            3
        }
        Request::Forward { group, chain, order, ticket, change } => {
            body = pen.chain(*group, *chain).u64(order.0).ticket(ticket).change(change);
            4
        }
        Request::Applied { group, chain } => {
            pen.chain(*group, *chain);
            5
        }
        Request::List { group, chain, after } => {
            pen.chain(*group, *chain).u8(u8::from(after.is_some()));
            pen.block(after.unwrap_or_default());
            6
        }
        Request::Fetch { group, chain, block } => {
            pen.chain(*group, *chain).block(*block);
            7
        }
        Request::Install { group, chain, block, content } => {
            body = pen.chain(*group, *chain).block(*block).content(content);
            8
        }
        Request::Serve { group, chain, seen } => {
            pen.chain(*group, *chain).seen(seen);
            9
        }
        Request::Status => 10,
    };
    (kind, pen.0.into(), body)
}

/// Reads [`encode_request`].
///
/// # Errors
/// [`Malformed`].
pub fn decode_request(kind: u16, head: &[u8], body: Bytes) -> Result<Request> {
    if body.len() > MAX_BODY {
        return Err(Malformed);
    }
    let mut eye = Eye(head);
    if kind == 3 {
        let groups = eye.list(12, Eye::group)?;
        return eye.end(Request::Flush { groups });
    }
    if kind == 10 {
        return eye.end(Request::Status);
    }
    let (group, chain) = eye.group()?;
    let request = match kind {
        1 => {
            let (volume, offset, length) = (Volume(eye.u64()?), eye.u64()?, eye.u32()?);
            let freshness = if eye.flag()? { Freshness::Any } else { Freshness::Strong };
            Request::Read { group, chain, volume, offset, length, freshness }
        }
        2 => Request::Mutate { group, chain, ticket: eye.ticket()?, change: eye.change(body)? },
        4 => {
            let order = Order(eye.u64()?);
            let (ticket, change) = (eye.ticket()?, eye.change(body)?);
            Request::Forward { group, chain, order, ticket, change }
        }
        5 => Request::Applied { group, chain },
        6 => {
            let some = eye.flag()?;
            let block = eye.block()?;
            Request::List { group, chain, after: some.then_some(block) }
        }
        7 => Request::Fetch { group, chain, block: eye.block()? },
        8 => {
            let (block, content) = (eye.block()?, eye.content(body)?);
            Request::Install { group, chain, block, content }
        }
        9 => Request::Serve { group, chain, seen: eye.seen()? },
        _ => return Err(Malformed),
    };
    eye.end(request)
}

/// A reply as kind, head and body.
#[must_use]
pub fn encode_reply(reply: &Reply) -> (u16, Bytes, Bytes) {
    let mut pen = Pen::default();
    let mut out = Bytes::new();
    let kind = match reply {
        Reply::Data { chain, sums, body } => {
            pen.u64(chain.0).sums(sums);
            out = body.clone();
            101
        }
        Reply::Done { chain } => {
            pen.u64(chain.0);
            102
        }
        Reply::Applied { chain, order } => {
            pen.u64(chain.0).u64(order.0);
            103
        }
        Reply::Blocks { chain, blocks, more, seen, swept } => {
            pen.u64(chain.0).u8(u8::from(*more));
            pen.list(blocks, |pen, (block, version)| {
                pen.block(*block).version(*version);
            });
            pen.seen(seen).list(swept, |pen, one| {
                pen.u64(one.volume.0).u64(one.first).u64(one.last).version(one.version);
            });
            104
        }
        Reply::Block { chain, content } => {
            out = pen.u64(chain.0).content(content);
            105
        }
        Reply::Status(status) => {
            pen.u64(status.server.0).u64(status.incarnation.0);
            pen.u32(status.chains).u32(status.serving);
            pen.u64(status.space.total).u64(status.space.free).u64(status.used_slots);
            pen.u64(status.dirty_bytes).u64(status.lease_left_ms);
            106
        }
        Reply::Refused(refusal) => {
            encode_refusal(&mut pen, refusal);
            107
        }
    };
    (kind, pen.0.into(), out)
}

fn encode_refusal(pen: &mut Pen, refusal: &Refusal) {
    match refusal {
        Refusal::Stale(chain) => pen.u8(1).u64(chain.0),
        Refusal::NotReady => pen.u8(2),
        Refusal::Misplaced => pen.u8(3),
        Refusal::Fenced(session) => pen.u8(4).u64(session.0),
        Refusal::Answered => pen.u8(5),
        Refusal::Changed(version) => pen.u8(6).version(*version),
        Refusal::Waiting(server) => pen.u8(7).u64(server.0),
        Refusal::Damaged { offset } => pen.u8(8).u64(*offset),
        Refusal::Garbled => pen.u8(9),
        Refusal::NoSpace(server) => pen.u8(10).u64(server.0),
        Refusal::Stopped(server) => pen.u8(11).u64(server.0),
        Refusal::Invalid(text) => pen.u8(12).text(text),
    };
}

/// Reads [`encode_reply`].
///
/// # Errors
/// [`Malformed`].
pub fn decode_reply(kind: u16, head: &[u8], body: Bytes) -> Result<Reply> {
    if body.len() > MAX_BODY {
        return Err(Malformed);
    }
    let mut eye = Eye(head);
    let reply = match kind {
        101 => Reply::Data { chain: eye.chain()?, sums: eye.sums()?, body },
        102 => Reply::Done { chain: eye.chain()? },
        103 => Reply::Applied { chain: eye.chain()?, order: Order(eye.u64()?) },
        104 => {
            let (chain, more) = (eye.chain()?, eye.flag()?);
            let blocks = eye.list(32, |eye| Ok((eye.block()?, eye.version()?)))?;
            let seen = eye.seen()?;
            let swept = eye.list(40, |eye| {
                let (volume, first, last) = (Volume(eye.u64()?), eye.u64()?, eye.u64()?);
                Ok(Swept { volume, first, last, version: eye.version()? })
            })?;
            Reply::Blocks { chain, blocks, more, seen, swept }
        }
        105 => Reply::Block { chain: eye.chain()?, content: eye.content(body)? },
        106 => Reply::Status(ServerStatus {
            server: ServerId(eye.u64()?),
            incarnation: Incarnation(eye.u64()?),
            chains: eye.u32()?,
            serving: eye.u32()?,
            space: Space { total: eye.u64()?, free: eye.u64()? },
            used_slots: eye.u64()?,
            dirty_bytes: eye.u64()?,
            lease_left_ms: eye.u64()?,
        }),
        107 => Reply::Refused(decode_refusal(&mut eye)?),
        _ => return Err(Malformed),
    };
    eye.end(reply)
}

fn decode_refusal(eye: &mut Eye<'_>) -> Result<Refusal> {
    Ok(match eye.u8()? {
        1 => Refusal::Stale(eye.chain()?),
        2 => Refusal::NotReady,
        3 => Refusal::Misplaced,
        4 => Refusal::Fenced(Fence(eye.u64()?)),
        5 => Refusal::Answered,
        6 => Refusal::Changed(eye.version()?),
        7 => Refusal::Waiting(ServerId(eye.u64()?)),
        8 => Refusal::Damaged { offset: eye.u64()? },
        9 => Refusal::Garbled,
        10 => Refusal::NoSpace(ServerId(eye.u64()?)),
        11 => Refusal::Stopped(ServerId(eye.u64()?)),
        12 => Refusal::Invalid(eye.text()?),
        _ => return Err(Malformed),
    })
}
