//! What clients and block servers say to each other: requests about one chunk, mutations on their
//! way down a chain, and the messages that make members of a chain equal. How they travel (a
//! function call or `wire::bulk` frames) is not known here; their bytes are in `codec`.

use async_trait::async_trait;
use bytes::Bytes;
use world::{Address, Time};

use crate::{
    disk::{BLOCK, CHUNK, Fence, PAGE, SECTOR, Space},
    place::{
        BlockId, BlockVersion, ChainVersion, Group, Incarnation, Order, Sequence, ServerId, Volume,
    },
};

/// The most bytes that one request or reply carries as its body.
pub const MAX_BODY: usize = 4 << 20;

/// Who mutates: the session, which can be fenced, and the client object within it, which numbers
/// its mutations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Writer {
    /// The session.
    pub session: Fence,
    /// A random number of this client object: its sequences start from 1.
    pub client: u64,
}

/// What every mutation states besides what it changes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ticket {
    /// Who mutates.
    pub writer: Writer,
    /// Its number; the same in every retry.
    pub sequence: Sequence,
    /// The writer's lowest sequence without an answer (this one, if it is the only one): everything
    /// below is answered, and is refused should it still come.
    pub floor: Sequence,
}

/// Bytes to be written to one chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// The volume.
    pub volume: Volume,
    /// The first byte; a multiple of a sector.
    pub offset: u64,
    /// Whether it must be on stable storage before the answer, with everything before it in the chunk.
    pub durable: bool,
    /// Only if the (one) block that it touches has this version.
    pub condition: Option<BlockVersion>,
    /// CRC32C of the part that falls in each page, in order: see [`page_sums`].
    pub sums: Vec<u32>,
    /// Whole sectors, within one chunk.
    pub body: Bytes,
}

/// A range of whole pages that becomes zeros; of it, the chunks of the request's group. It may
/// span any number of chunks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Discard {
    /// The volume.
    pub volume: Volume,
    /// The first byte.
    pub offset: u64,
    /// How many bytes; at most to the end of the volume.
    pub length: u64,
}

/// A change of bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A write.
    Write(Write),
    /// A discard.
    Discard(Discard),
}

/// How new the bytes of a read must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Every write that completed before the read began.
    Strong,
    /// Whatever the replica has.
    Any,
}

/// A request. `group` and `chain` say which chain the sender means; a server that knows another
/// version refuses with [`Refusal::Stale`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Bytes of one chunk, from any member. Answer: [`Reply::Data`].
    Read {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
        /// The volume.
        volume: Volume,
        /// The first byte; a multiple of a sector.
        offset: u64,
        /// How many; whole sectors, within one chunk, at most [`MAX_BODY`].
        length: u32,
        /// How new.
        freshness: Freshness,
    },
    /// A mutation, to the head. Answer: [`Reply::Done`].
    Mutate {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
        /// Who and which.
        ticket: Ticket,
        /// What.
        change: Change,
    },
    /// To every member of the groups: bring to stable storage all that you acknowledged for them.
    /// Answer: [`Reply::Done`] for all, or the refusal of the first that is refused.
    Flush {
        /// The groups, each with the version that the sender's writes were acknowledged under.
        groups: Vec<(Group, ChainVersion)>,
    },
    /// From a member to its successor: a mutation that the head has ordered. Answered with
    /// [`Reply::Done`] when this member and all after it have it.
    Forward {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
        /// The head's number.
        order: Order,
        /// The client's.
        ticket: Ticket,
        /// What.
        change: Change,
    },
    /// From a member to the tail: up to which mutation are you? Answer: [`Reply::Applied`].
    Applied {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
    },
    /// From the head to members of a chain whose version is new: which blocks have you?
    /// Answer: [`Reply::Blocks`].
    List {
        /// The group.
        group: Group,
        /// Its new chain version; from now on the member refuses older ones.
        chain: ChainVersion,
        /// Blocks after this one, in order of (hash, volume, block).
        after: Option<BlockId>,
    },
    /// The content of a block, for members that lack it. Answer: [`Reply::Block`].
    Fetch {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
        /// Which.
        block: BlockId,
    },
    /// Take this content for a block. Answer: [`Reply::Done`].
    Install {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
        /// Which.
        block: BlockId,
        /// Its content.
        content: BlockContent,
    },
    /// From the head: all members are equal, serve this chain version. Answer: [`Reply::Done`],
    /// once what was installed is on stable storage.
    Serve {
        /// The group.
        group: Group,
        /// Its chain version.
        chain: ChainVersion,
        /// The sequences that any member has seen.
        seen: Vec<Seen>,
    },
    /// What are you doing? Answer: [`Reply::Status`].
    Status,
}

/// The content of a block: valid pages, one after the other, and their checksums.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BlockContent {
    /// Its version.
    pub version: BlockVersion,
    /// Bit i: page i is there; the others are zeros, or lost.
    pub pages: u16,
    /// Bit i: page i was there, and nobody has a good copy of it: reads of it fail, until it is written.
    pub lost: u16,
    /// CRC32C of each page that is there.
    pub sums: Vec<u32>,
    /// The pages that are there.
    pub body: Bytes,
}

impl BlockContent {
    /// Takes the pages that are lost here from another copy of the same version, as far as they are
    /// good there. Both are well formed.
    pub fn complete(&mut self, other: &Self) {
        if other.version != self.version || other.pages & self.lost == 0 {
            return;
        }
        *self = self.completed(other);
    }

    fn completed(&self, other: &Self) -> Self {
        let page = usize::try_from(PAGE).expect("a page is small");
        let mut taken = Self { version: self.version, ..Self::default() };
        let mut body = Vec::new();
        let (mut mine, mut theirs) = (self.good(page), other.good(page));
        for bit in (0..16).map(|place| 1_u16 << place) {
            let (own, found) = (
                if self.pages & bit == 0 { None } else { mine.next() },
                if other.pages & bit == 0 { None } else { theirs.next() },
            );
            let found = found.filter(|_| self.lost & bit != 0);
            if let Some((sum, bytes)) = own.or(found) {
                taken.pages |= bit;
                taken.sums.push(sum);
                body.extend_from_slice(bytes);
            }
        }
        taken.lost = self.lost & !taken.pages;
        taken.body = body.into();
        taken
    }

    fn good(&self, page: usize) -> impl Iterator<Item = (u32, &[u8])> {
        self.sums.iter().copied().zip(self.body.chunks(page))
    }

    /// Whether it is well formed and its pages match their checksums.
    #[must_use]
    pub fn check(&self) -> bool {
        let count = usize::try_from(self.pages.count_ones()).expect("at most sixteen");
        let page = usize::try_from(PAGE).expect("a page is small");
        self.pages & self.lost == 0
            && self.sums.len() == count
            && self.body.len() == count * page
            && self.body.chunks(page).map(checksum).eq(self.sums.iter().copied())
    }
}

impl Change {
    /// Whether it is well formed and whole: aligned, within its bounds, checksums right.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] or [`Refusal::Garbled`].
    pub fn check(&self) -> Result<(), Refusal> {
        let invalid = |what: &str| Err(Refusal::Invalid(what.to_owned()));
        match self {
            Self::Write(write) => {
                let length = write.body.len() as u64;
                if length == 0 || write.body.len() > MAX_BODY {
                    return invalid("a write has between one sector and 4 MiB");
                }
                if !write.offset.is_multiple_of(SECTOR) || !length.is_multiple_of(SECTOR) {
                    return invalid("a write is whole sectors");
                }
                if write.offset / CHUNK != write.offset.saturating_add(length - 1) / CHUNK {
                    return invalid("a write stays within one chunk");
                }
                if write.condition.is_some()
                    && write.offset / BLOCK != (write.offset + length - 1) / BLOCK
                {
                    return invalid("a conditional write stays within one block");
                }
                if write.sums != page_sums(write.offset, &write.body) {
                    return Err(Refusal::Garbled);
                }
                Ok(())
            }
            Self::Discard(discard) => {
                let whole =
                    discard.offset.is_multiple_of(PAGE) && discard.length.is_multiple_of(PAGE);
                if !whole || discard.length == 0 {
                    return invalid("a discard is whole pages");
                }
                if discard.offset.checked_add(discard.length - 1).is_none() {
                    return invalid("a discard ends within the volume");
                }
                Ok(())
            }
        }
    }
}

/// What a chain remembers of a writer, so that a retry happens once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Seen {
    /// The writer.
    pub writer: Writer,
    /// Below it everything was answered.
    pub floor: Sequence,
    /// Those from the floor on that were done.
    pub done: Vec<Sequence>,
}

/// A discard that a member applied under an older version of the chain, and that the tail was not
/// known to have: a block in its range that is not there is gone since that version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swept {
    /// The volume.
    pub volume: Volume,
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
    /// The discard.
    pub version: BlockVersion,
}

impl Swept {
    /// Whether it changed bytes of this block, if there were any.
    #[must_use]
    pub fn touches(&self, block: BlockId) -> bool {
        let first = block.start();
        let last = first.saturating_add(BLOCK - 1);
        self.volume == block.volume && self.first <= last && first <= self.last
    }
}

/// An answer. Those that matter to the caller's knowledge of the chain carry its version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Bytes read.
    Data {
        /// The chain version.
        chain: ChainVersion,
        /// CRC32C of the part that falls in each page, in order; empty if `body` is.
        sums: Vec<u32>,
        /// The bytes; empty if all of the range is zeros.
        body: Bytes,
    },
    /// It is done.
    Done {
        /// The chain version (for a flush: of its last group).
        chain: ChainVersion,
    },
    /// The tail is there.
    Applied {
        /// The chain version.
        chain: ChainVersion,
        /// The last mutation that it has.
        order: Order,
    },
    /// Blocks of a group.
    Blocks {
        /// The chain version.
        chain: ChainVersion,
        /// Blocks and their versions, in order.
        blocks: Vec<(BlockId, BlockVersion)>,
        /// Whether there are more after the last.
        more: bool,
        /// What the member remembers of writers; only with the last blocks.
        seen: Vec<Seen>,
        /// Discards that it may have applied alone; only with the last blocks.
        swept: Vec<Swept>,
    },
    /// The content of a block.
    Block {
        /// The chain version.
        chain: ChainVersion,
        /// The content; no pages if there is no such block.
        content: BlockContent,
    },
    /// What the server is doing.
    Status(ServerStatus),
    /// It was not done.
    Refused(Refusal),
}

/// Why a request was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The server knows another version of the chain, this one; look at the map again if it is
    /// newer, try again later if it is older. Zero: it is no member.
    #[error("the server has chain version {} of this group", .0.0)]
    Stale(ChainVersion),
    /// The chain is not serving yet (its members are being made equal), or the server has no valid
    /// lease. Try again.
    #[error("the chain is not ready")]
    NotReady,
    /// A mutation came to a server that is not the chain's head, or a forward to none of its successors.
    #[error("the server has another place in the chain")]
    Misplaced,
    /// The session is fenced: for good.
    #[error("session {} is fenced", .0.0)]
    Fenced(Fence),
    /// The sequence is below the writer's floor: it was answered before.
    #[error("the sequence was answered before")]
    Answered,
    /// The block has another version than the condition says.
    #[error("the block has another version")]
    Changed(BlockVersion),
    /// A member of the chain does not answer; the mutation is not complete. Try again.
    #[error("block server {0} does not answer")]
    Waiting(ServerId),
    /// The bytes at this offset fail their checksum on this server. Ask another member.
    #[error("damaged data at byte {offset}")]
    Damaged {
        /// Where in the volume.
        offset: u64,
    },
    /// The bytes of the request do not match their checksums: damaged on the way. Send them again.
    #[error("the request was damaged on its way")]
    Garbled,
    /// The server has no space.
    #[error("no space on block server {0}")]
    NoSpace(ServerId),
    /// The server has stopped serving, for instance after a failed sync.
    #[error("block server {0} has stopped")]
    Stopped(ServerId),
    /// The request makes no sense.
    #[error("invalid request: {0}")]
    Invalid(String),
}

/// What a block server tells of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ServerStatus {
    /// Who.
    pub server: ServerId,
    /// Its start.
    pub incarnation: Incarnation,
    /// Chains that it is a member of.
    pub chains: u32,
    /// Those of them that are serving.
    pub serving: u32,
    /// Bytes of its disk.
    pub space: Space,
    /// Blocks that have a slot.
    pub used_slots: u64,
    /// Bytes acknowledged and not yet on stable storage.
    pub dirty_bytes: u64,
    /// Milliseconds until its lease ends.
    pub lease_left_ms: u64,
}

/// A call had no answer: not sent, lost, or later than its deadline. It may have happened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no answer: {0}")]
pub struct Unanswered(pub String);

/// A block server, as clients and other block servers see it.
#[async_trait]
pub trait Service: Send + Sync {
    /// Asks and waits, at the longest until `deadline` of the caller's clock.
    async fn call(&self, request: Request, deadline: Time) -> Result<Reply, Unanswered>;
}

/// How to reach block servers: in this process or over the wire.
pub trait Dial: Send + Sync {
    /// The server with this number, which the map says is at `address`. Never waits: the first
    /// call connects. A new dial for the same server may return the same object.
    fn dial(&self, server: ServerId, address: &Address) -> std::sync::Arc<dyn Service>;
}

/// CRC32C, the checksum of pages.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksums of the parts of `bytes`, which begin at `offset` of a volume, that fall in each page.
#[must_use]
pub fn page_sums(offset: u64, bytes: &[u8]) -> Vec<u32> {
    let first = usize::try_from(PAGE - offset % PAGE).expect("a page is small").min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let pages = rest.chunks(usize::try_from(PAGE).expect("a page is small"));
    let mut sums = Vec::with_capacity(1 + pages.len());
    if !head.is_empty() {
        sums.push(checksum(head));
    }
    sums.extend(pages.map(checksum));
    sums
}
