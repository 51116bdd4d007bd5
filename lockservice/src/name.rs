//! What can be locked and what a lock says: names, spans of names, modes, sessions, grant numbers.
//!
//! A name is 64 bits: a kind, a segment of that kind and an index in the segment, most significant
//! first, so that a segment is one contiguous span and one grant can cover all of it. What a kind
//! stands for is the client's business and not known here.

use std::fmt;

/// One mount, or another client, that holds a lease. Ids grow and are never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SessionId(pub u64);

/// The number of an exclusive grant: every later exclusive grant of the service has a larger one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Grant(pub u64);

/// A thing that can be locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(pub u64);

impl Name {
    /// Bits of the index part.
    pub const INDEX_BITS: u32 = 24;
    /// Bits of the segment part.
    pub const SEGMENT_BITS: u32 = 32;

    /// The name of item `index` of `segment` of `kind`.
    ///
    /// # Panics
    /// If `index` does not fit in 24 bits.
    #[must_use]
    pub const fn new(kind: u8, segment: u32, index: u32) -> Self {
        assert!(index < 1 << Self::INDEX_BITS, "the index does not fit in a name");
        Self(((kind as u64) << 56) | ((segment as u64) << 24) | index as u64)
    }

    /// The kind.
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The segment.
    #[must_use]
    pub const fn segment(self) -> u32 {
        ((self.0 >> Self::INDEX_BITS) & 0xffff_ffff) as u32
    }

    /// The index in the segment.
    #[must_use]
    pub const fn index(self) -> u32 {
        (self.0 & 0x00ff_ffff) as u32
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.kind(), self.segment(), self.index())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A non-empty range of names, `start` included, `end` not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    start: Name,
    end: Name,
}

impl Span {
    /// The names from `start` up to, not including, `end`; `None` if there are none.
    #[must_use]
    pub const fn new(start: Name, end: Name) -> Option<Self> {
        if start.0 < end.0 { Some(Self { start, end }) } else { None }
    }

    /// One name. The very last name of all (`u64::MAX`) cannot be locked.
    ///
    /// # Panics
    /// For that last name.
    #[must_use]
    pub const fn one(name: Name) -> Self {
        assert!(name.0 < u64::MAX, "the last name cannot be locked");
        Self { start: name, end: Name(name.0 + 1) }
    }

    /// All `count` first items of a segment.
    ///
    /// # Panics
    /// If `count` is zero or does not fit in a name.
    #[must_use]
    pub const fn segment(kind: u8, segment: u32, count: u32) -> Self {
        assert!(count > 0 && count <= 1 << Name::INDEX_BITS, "a segment has 1 to 2^24 items");
        let start = Name::new(kind, segment, 0);
        Self { start, end: Name(start.0 + count as u64) }
    }

    /// The first name.
    #[must_use]
    pub const fn start(self) -> Name {
        self.start
    }

    /// The name after the last.
    #[must_use]
    pub const fn end(self) -> Name {
        self.end
    }

    /// Whether `name` is in it.
    #[must_use]
    pub const fn contains(self, name: Name) -> bool {
        self.start.0 <= name.0 && name.0 < self.end.0
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end.0 <= self.end.0
    }

    /// What both have.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Whether they have a name in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.intersection(other).is_some()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}, {:?})", self.start, self.end)
    }
}

/// How a lock is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// Many may hold it.
    Shared,
    /// One holds it.
    Exclusive,
}
