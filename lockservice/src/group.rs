//! Lock groups: the parts into which all names are divided, each of which lies at one shard, that is
//! in one replicated table, and can be moved to another (Frangipani, section 6). All names of one
//! segment are in one group, so that whoever owns a segment deals with one shard.
//!
//! It does not know which group lies where; that is in `table::directory` and `table::slots`.

use std::collections::BTreeSet;

use crate::name::{Name, Span};

/// A part of all names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LockGroup(u8);

/// A replicated table that serves some of the groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Shard(pub u32);

/// The number of a move of a group: later moves, of any group, have larger ones. 0 stands for where
/// a group was from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MoveId(pub u64);

impl Shard {
    /// Where the sessions, the registry and the assignment of groups live; also all groups at first.
    pub const HOME: Self = Self(0);
    /// The most shards of a cluster: more than one for each group would have nothing to do.
    pub const MOST: u32 = LockGroup::COUNT as u32;
}

/// Segments of a span that are looked at one by one; of a longer one every group is taken to be part.
const MOST_SEGMENTS: u64 = 4096;

fn segment(name: Name) -> u64 {
    name.0 >> Name::INDEX_BITS
}

impl LockGroup {
    /// How many there are (100 in the paper).
    pub const COUNT: u8 = 100;

    /// The group with a number below [`LockGroup::COUNT`].
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// The group of a name: by its kind and segment, scattered so that neighbours spread.
    #[must_use]
    pub const fn of(name: Name) -> Self {
        // The finalizer of splitmix64: part of the format of every table, never to be changed.
        let mut mixed = (name.0 >> Name::INDEX_BITS).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(((mixed ^ (mixed >> 31)) % Self::COUNT as u64) as u8)
    }

    /// The groups that have a name in `span`.
    #[must_use]
    pub fn touched(span: Span) -> BTreeSet<Self> {
        let (first, last) = segments(span);
        if last - first >= MOST_SEGMENTS {
            return Self::all().collect();
        }
        (first..=last).map(|segment| Self::of(Name(segment << Name::INDEX_BITS))).collect()
    }

    /// The only group that has names in `span`, if there is but one segment in it.
    #[must_use]
    pub fn only(span: Span) -> Option<Self> {
        let (first, last) = segments(span);
        (first == last).then(|| Self::of(span.start()))
    }
}

fn segments(span: Span) -> (u64, u64) {
    (segment(span.start()), segment(Name(span.end().0 - 1)))
}

/// The part of `wish` that lies in the segments of `need`.
#[must_use]
pub(crate) fn clip(need: Span, wish: Span) -> Span {
    let (first, last) = segments(need);
    let start = first << Name::INDEX_BITS;
    let end = (last + 1).saturating_mul(1 << Name::INDEX_BITS);
    let hull = Span::new(Name(start), Name(end)).and_then(|hull| hull.intersection(wish));
    hull.unwrap_or(need)
}

/// Whether two spans meet where one segment ends and another begins.
pub(crate) const fn is_border(name: Name) -> bool {
    name.index() == 0
}

#[cfg(test)]
mod tests {
    use super::{LockGroup, clip, is_border};
    use crate::name::{Name, Span};

    #[test]
    fn all_names_of_a_segment_are_in_one_group_and_segments_spread_evenly() {
        let mut counts = [0_u32; LockGroup::COUNT as usize];
        for segment in 0..10_000 {
            let group = LockGroup::of(Name::new(1, segment, 0));
            assert_eq!(group, LockGroup::of(Name::new(1, segment, (1 << 24) - 1)));
            assert_eq!(LockGroup::only(Span::segment(1, segment, 1 << 24)), Some(group));
            counts[group.number() as usize] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 60 && *most < 150, "{least}..{most}");
    }

    #[test]
    fn the_group_of_a_name_never_changes() {
        let groups = [(1, 0), (1, 1), (2, 0), (3, 77)]
            .map(|(kind, segment)| LockGroup::of(Name::new(kind, segment, 0)).number());
        assert_eq!(groups, [56, 67, 82, 43], "a table on disk is divided by this");
    }

    #[test]
    fn a_span_over_several_segments_touches_their_groups() {
        let (one, two) = (Name::new(1, 5, 3), Name::new(1, 6, 3));
        let span = Span::new(one, two).unwrap();
        assert_eq!(LockGroup::only(span), None);
        assert_eq!(LockGroup::touched(span), [one, two].map(LockGroup::of).into());
        let all = Span::new(Name(0), Name(u64::MAX)).unwrap();
        assert_eq!(LockGroup::touched(all).len(), 100);
        assert!(LockGroup::new(100).is_none());
    }

    #[test]
    fn a_wish_is_clipped_to_the_segments_of_its_need() {
        let need = Span::one(Name::new(1, 5, 3));
        let all = Span::new(Name(0), Name(u64::MAX)).unwrap();
        assert_eq!(clip(need, all), Span::segment(1, 5, 1 << 24));
        let part = Span::segment(1, 5, 10);
        assert_eq!(clip(need, part), part);
        let last = Span::one(Name(u64::MAX - 1));
        assert_eq!(clip(last, all).end(), Name(u64::MAX));
        assert!(is_border(Name::new(1, 6, 0)) && !is_border(Name::new(1, 6, 1)));
    }
}
