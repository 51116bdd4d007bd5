//! Which blocks go from whom to whom so that the members of a chain become equal, as a pure
//! function. Whoever has everything acknowledged decides (CRAQ's and GFS's in-sync replicas): what
//! the others have besides, or lack, is replaced, discarded blocks included. Only where all started
//! anew does the highest version of each block count.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bug::{self, Bug},
    link::Standing,
    message::Swept,
    place::{BlockId, BlockVersion},
};

/// What one member has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Holding {
    /// Its blocks, and their versions.
    pub(crate) blocks: BTreeMap<BlockId, BlockVersion>,
    /// Discards that may not be on all members: what they left nothing of is in no list.
    pub(crate) swept: Vec<Swept>,
}

impl Holding {
    /// The mutation that changed a block last, as far as the member can tell; zero: none.
    fn version(&self, block: BlockId) -> BlockVersion {
        self.blocks.get(&block).copied().unwrap_or_else(|| {
            let swept = self.swept.iter().filter(|swept| swept.touches(block));
            swept.map(|swept| swept.version).max().unwrap_or_default()
        })
    }
}

/// A block to be brought to members that have another version of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bring {
    pub(crate) block: BlockId,
    /// What all are to have; zero: no such block. There may be none as of another version, too.
    pub(crate) version: BlockVersion,
    /// Places of members that have it, best first.
    pub(crate) from: Vec<usize>,
    /// Places of members that need it.
    pub(crate) to: Vec<usize>,
}

/// The places of the members that decide: all that have everything; if there is none, those that
/// started anew. None at all: nobody has the data.
pub(crate) fn judges(standings: &[Standing]) -> Vec<usize> {
    let of = |wanted: &[Standing]| -> Vec<usize> {
        let places = standings.iter().enumerate();
        places.filter(|(_, standing)| wanted.contains(standing)).map(|(place, _)| place).collect()
    };
    if bug::on(Bug::HighestWins) {
        return (0..standings.len()).collect();
    }
    let fresh = of(&[Standing::Serving, Standing::Leaving]);
    if fresh.is_empty() { of(&[Standing::Stale]) } else { fresh }
}

/// What is to be brought, in order of blocks. `standings` and `holdings` are by place in the chain.
pub(crate) fn plan(standings: &[Standing], holdings: &[Holding]) -> Vec<Bring> {
    let judges = judges(standings);
    let blocks: BTreeSet<BlockId> =
        holdings.iter().flat_map(|holding| holding.blocks.keys().copied()).collect();
    let has = |place: usize, block: BlockId| holdings[place].version(block);
    let mut plan = Vec::new();
    for block in blocks {
        let Some(version) = judges.iter().map(|place| has(*place, block)).max() else { break };
        let places = 0..standings.len();
        let to: Vec<usize> = places
            .clone()
            .filter(|place| standings[*place] != Standing::Leaving && has(*place, block) != version)
            .filter(|place| standings[*place] != Standing::Syncing || !bug::on(Bug::JoinEmpty))
            .collect();
        if to.is_empty() {
            continue;
        }
        let mut from: Vec<usize> = places.filter(|place| has(*place, block) == version).collect();
        from.sort_by_key(|place| !judges.contains(place));
        plan.push(Bring { block, version, from, to });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{ChainVersion, Order, Volume};

    fn block(block: u64) -> BlockId {
        BlockId { volume: Volume(1), block }
    }

    fn version(chain: u64, order: u64) -> BlockVersion {
        BlockVersion { chain: ChainVersion(chain), order: Order(order) }
    }

    fn holding(blocks: &[(u64, BlockVersion)]) -> Holding {
        let blocks = blocks.iter().map(|(id, version)| (block(*id), *version)).collect();
        Holding { blocks, swept: Vec::new() }
    }

    #[test]
    fn what_one_fresh_member_applied_goes_to_all() {
        let all = [Standing::Serving, Standing::Serving];
        let plan = plan(
            &all,
            &[holding(&[(1, version(3, 9)), (2, version(1, 1))]), holding(&[(2, version(1, 1))])],
        );
        let expected =
            Bring { block: block(1), version: version(3, 9), from: vec![0], to: vec![1] };
        assert_eq!(plan, [expected]);
    }

    #[test]
    fn a_restarted_member_brings_no_discarded_block_back() {
        let all = [Standing::Serving, Standing::Stale];
        let plan = plan(&all, &[holding(&[]), holding(&[(1, version(3, 9))])]);
        let expected =
            Bring { block: block(1), version: BlockVersion::default(), from: vec![0], to: vec![1] };
        assert_eq!(plan, [expected]);
    }

    #[test]
    fn a_discard_that_one_fresh_member_applied_goes_to_all_but_not_over_what_came_later() {
        let (old, gone, later) = (version(3, 7), version(3, 8), version(3, 9));
        let (volume, last) = (Volume(1), 2 * crate::disk::BLOCK + 5);
        let swept = vec![Swept { volume, first: 0, last, version: gone }];
        let first = Holding { swept, ..holding(&[(2, later)]) };
        let second = holding(&[(0, old), (1, old), (2, later), (3, old)]);
        let plan = plan(&[Standing::Serving, Standing::Serving], &[first, second]);
        let expected = |id| Bring { block: block(id), version: gone, from: vec![0], to: vec![1] };
        let back = Bring { block: block(3), version: old, from: vec![1], to: vec![0] };
        assert_eq!(plan, [expected(0), expected(1), back]);
    }

    #[test]
    fn a_stale_replica_with_a_higher_version_is_replaced() {
        // It had applied what the others never did, and was cut off.
        let all = [Standing::Serving, Standing::Syncing];
        let plan = plan(&all, &[holding(&[(1, version(3, 8))]), holding(&[(1, version(3, 9))])]);
        assert_eq!(plan[0].version, version(3, 8));
        assert_eq!((&plan[0].from[..], &plan[0].to[..]), (&[0][..], &[1][..]));
    }

    #[test]
    fn where_all_started_anew_the_highest_version_counts_but_never_a_new_members() {
        let all = [Standing::Stale, Standing::Stale, Standing::Syncing];
        let plan = plan(
            &all,
            &[
                holding(&[(1, version(3, 8))]),
                holding(&[(1, version(3, 9))]),
                holding(&[(1, version(9, 9))]),
            ],
        );
        assert_eq!(plan[0].version, version(3, 9));
        assert_eq!((&plan[0].from[..], &plan[0].to[..]), (&[1][..], &[0, 2][..]));
    }

    #[test]
    fn who_leaves_gives_and_takes_nothing() {
        let all = [Standing::Syncing, Standing::Leaving];
        let plan = plan(&all, &[holding(&[(2, version(1, 1))]), holding(&[(1, version(3, 9))])]);
        assert_eq!(plan.len(), 2);
        assert!(plan.iter().all(|bring| bring.to == [0] && bring.from == [1]));
    }

    #[test]
    fn nothing_is_taken_from_members_that_are_all_new() {
        assert!(plan(&[Standing::Syncing], &[holding(&[(1, version(1, 1))])]).is_empty());
        assert!(judges(&[Standing::Syncing]).is_empty());
    }
}
