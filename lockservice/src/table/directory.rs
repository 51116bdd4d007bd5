//! The assignment of groups to shards, as home records it. It does not know what a shard holds; a move
//! that is recorded here is what the leader's driver then carries out, step by step, until it is done.

use std::collections::BTreeMap;

use crate::{
    group::{LockGroup, MoveId, Shard},
    message::{Assignment, GroupReply, GroupRow},
};

/// Where a group lies, and where it goes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) shard: Shard,
    pub(crate) by: MoveId,
    pub(crate) moving: Option<(Shard, MoveId)>,
}

/// Where every group lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Directory {
    pub(crate) shards: u32,
    pub(crate) newest: MoveId,
    /// Those that were ever moved; all others are at home.
    pub(crate) places: BTreeMap<LockGroup, Place>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { shards: 1, newest: MoveId(0), places: BTreeMap::new() }
    }
}

impl Directory {
    /// There are so many shards. When that is more than before, the groups spread over all of them.
    pub(crate) fn grow(&mut self, shards: u32) -> GroupReply {
        if shards < self.shards || shards > Shard::MOST {
            return GroupReply::Refused;
        }
        if shards > self.shards {
            self.shards = shards;
            for group in LockGroup::all() {
                // What is under way goes on to where it goes.
                self.begin(group, Shard(u32::from(group.number()) % shards));
            }
        }
        GroupReply::Done
    }

    /// A group is to be moved.
    pub(crate) fn begin(&mut self, group: LockGroup, to: Shard) -> GroupReply {
        let place = self.places.get(&group).copied().unwrap_or_default();
        match place.moving {
            Some((under_way, _)) if under_way == to => GroupReply::Done,
            None if place.shard == to => GroupReply::Done,
            None if to.0 < self.shards => {
                self.newest.0 += 1;
                let moving = Some((to, self.newest));
                self.places.insert(group, Place { moving, ..place });
                GroupReply::Done
            }
            Some(_) | None => GroupReply::Refused,
        }
    }

    /// A move is done.
    pub(crate) fn placed(&mut self, group: LockGroup, by: MoveId) -> GroupReply {
        match self.places.get(&group).copied() {
            Some(Place { moving: Some((to, under_way)), .. }) if under_way == by => {
                self.places.insert(group, Place { shard: to, by, moving: None });
                GroupReply::Done
            }
            Some(place) if place.by >= by => GroupReply::Done,
            Some(_) | None => GroupReply::Refused,
        }
    }

    /// Every group.
    pub(crate) fn rows(&self) -> Assignment {
        let row = |group| {
            let place = self.places.get(&group).copied().unwrap_or_default();
            GroupRow { group, shard: place.shard, by: place.by, moving: place.moving }
        };
        let groups = LockGroup::all().map(row).collect();
        Assignment { shards: self.shards, newest: self.newest, groups }
    }
}
