//! Which groups a table serves. A group is served at one shard at a time: the loser stops before the
//! gainer has all of its state, and each step of a move names the move, whose number only grows, so
//! that a late step of an old move does nothing.
//!
//! It does not know who drives a move, nor where else a group lies.

use std::collections::BTreeMap;

use super::queue::Waiter;
use crate::{
    group::{self, LockGroup, MoveId, Shard},
    message::Ask,
    name::{Name, Span},
};

/// How a group stands at a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is served elsewhere.
    Away,
    /// It is served here.
    Here,
    /// It is served no more, and its state is still here.
    Frozen,
    /// Its state arrives: all before `next` is there. Waiters have their places of the shard before.
    Arriving { next: Name, waiters: BTreeMap<u64, Waiter> },
}

/// A group and the last move of which the table knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) by: MoveId,
    pub(crate) standing: Standing,
}

/// The groups of a table.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Slots {
    pub(crate) shard: Shard,
    /// Those that a move has touched; all others are at home.
    pub(crate) moved: BTreeMap<LockGroup, Slot>,
}

/// A group that is not served here, and the move that took it away or is about to.
pub(crate) type Missing = (LockGroup, MoveId);

impl Slots {
    /// Whether all names were always served here.
    pub(crate) fn is_plain(&self) -> bool {
        self.moved.is_empty() && self.shard == Shard::HOME
    }

    pub(crate) fn get(&self, group: LockGroup) -> Slot {
        self.moved.get(&group).cloned().unwrap_or(Slot {
            by: MoveId(0),
            standing: if self.shard == Shard::HOME { Standing::Here } else { Standing::Away },
        })
    }

    pub(crate) fn set(&mut self, group: LockGroup, by: MoveId, standing: Standing) {
        self.moved.insert(group, Slot { by, standing });
    }

    fn is_here(&self, group: LockGroup) -> bool {
        self.moved
            .get(&group)
            .map_or(self.shard == Shard::HOME, |slot| slot.standing == Standing::Here)
    }

    fn missing_of(&self, group: LockGroup) -> Option<Missing> {
        (!self.is_here(group)).then(|| (group, self.get(group).by))
    }

    /// Whether all of `span` is served here.
    pub(crate) fn serves(&self, span: Span) -> bool {
        self.missing(span).is_none()
    }

    /// A group of `span` that is not served here.
    pub(crate) fn missing(&self, span: Span) -> Option<Missing> {
        if self.is_plain() {
            return None;
        }
        match LockGroup::only(span) {
            Some(group) => self.missing_of(group),
            None => LockGroup::touched(span).into_iter().find_map(|group| self.missing_of(group)),
        }
    }

    /// A group that these asks are about and that is not served here; or that is, but by another move
    /// than whoever asks has heard of.
    pub(crate) fn missing_for(&self, asks: &[Ask]) -> Option<Missing> {
        if self.is_plain() {
            return None;
        }
        let at = |ask: &Ask| if let Ask::At(group, by) = ask { Some((*group, *by)) } else { None };
        let heard: BTreeMap<LockGroup, MoveId> = asks.iter().filter_map(at).collect();
        let missing = |group: LockGroup| {
            let slot = self.get(group);
            let known = heard.get(&group).copied().unwrap_or_default() == slot.by;
            (slot.standing != Standing::Here || !known).then_some((group, slot.by))
        };
        let missing_of = |span: Span| match LockGroup::only(span) {
            Some(group) => missing(group),
            None => LockGroup::touched(span).into_iter().find_map(missing),
        };
        asks.iter().find_map(|ask| match ask {
            Ask::Acquire(acquire) => missing_of(acquire.need),
            Ask::Release(held) | Ask::Downgrade(held) => missing_of(held.span),
            Ask::Hint { names, .. } => names.iter().find_map(|name| missing(LockGroup::of(*name))),
            Ask::Cancel(_) | Ask::Able | Ask::Claim { .. } | Ask::Seen(_) | Ask::At(..) => None,
        })
    }

    /// What of a wish can be given with its need: once groups were moved, nothing beyond its segments.
    pub(crate) fn clip(&self, need: Span, wish: Span) -> Span {
        if self.is_plain() { wish } else { group::clip(need, wish) }
    }

    /// The groups that are served here, and the moves that brought them.
    pub(crate) fn here(&self) -> Vec<(LockGroup, MoveId)> {
        LockGroup::all()
            .map(|group| (group, self.get(group)))
            .filter(|(_, slot)| slot.standing == Standing::Here)
            .map(|(group, slot)| (group, slot.by))
            .collect()
    }
}
