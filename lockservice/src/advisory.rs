//! Advisory locks: what flock and fcntl say, between the processes of all clients. They protect
//! nothing by themselves, and nothing here flushes or is revoked: who has one keeps it until it gives
//! it up, or until its session ends.
//!
//! Only the words are here; who gets what is in `table::advisory`. It does not know what a file is,
//! nor which of the two calls a claim came by.

use crate::name::Mode;

/// Whoever can hold one: a process, or an open file, as its client numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claimant(pub u64);

/// Bytes of a file from `first` to `last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stretch {
    first: u64,
    last: u64,
}

impl Stretch {
    /// All of a file.
    pub const WHOLE: Self = Self { first: 0, last: u64::MAX };

    /// From `first` to `last`; `None` if that is the wrong way round.
    #[must_use]
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The first byte.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The last byte.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// Whether both have a byte in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// What somebody wants to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The file, by a number that all clients share.
    pub file: u64,
    /// Who.
    pub by: Claimant,
    /// The process, by its number where it runs: only to be shown.
    pub process: u32,
    /// Of what.
    pub stretch: Stretch,
    /// How; `None` to give it up. What is held already becomes this.
    pub mode: Option<Mode>,
}

/// What to do if others are in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Wait for them, in turn.
    Wait,
    /// Answer [`Claimed::Busy`].
    Try,
    /// As [`Patience::Try`], and hold nothing either way.
    Test,
}

/// Who is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InTheWay {
    /// Of what.
    pub stretch: Stretch,
    /// How.
    pub mode: Mode,
    /// The process, if it is of the same client; else 0.
    pub process: u32,
}

/// What became of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It is so. For a test: it could be so.
    Done,
    /// Somebody is in the way.
    Busy(InTheWay),
    /// To wait would be to wait for oneself.
    Deadlock,
    /// It waited, and was taken back before it was its turn.
    Cancelled,
    /// The session holds, or waits for, as many as one may.
    Full,
}

/// An advisory lock as `plumeria locks` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClaimRow {
    /// Whose session.
    pub session: crate::SessionId,
    /// What.
    pub claim: Claim,
    /// Whether it waits for others.
    pub waits: bool,
}
