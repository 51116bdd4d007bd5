//! Who votes, and what a majority of them agrees on.
//!
//! Every "a majority has ..." of the protocol goes through [`Voters::agreed`], so that joint consensus (section 6: both
//! majorities, the old and the new) has one place. Knows nothing of logs or roles.

use crate::bug::{self, Bug};
use crate::configuration::{Configuration, MOST_VOTERS};
use crate::ids::MemberId;

/// The voting members of a group, in the order of their ids, so that no behaviour depends on how a configuration was
/// written.
#[derive(Clone, Debug)]
pub(crate) struct Voters {
    voters: Vec<MemberId>,
    /// Empty, unless the group changes.
    outgoing: Vec<MemberId>,
}

impl Voters {
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let Configuration { mut voters, outgoing, learners } = configuration.clone();
        if bug::on(Bug::LearnerCounted) {
            voters.extend(learners);
            voters.sort_unstable();
        }
        Self { voters, outgoing }
    }

    pub(crate) fn contains(&self, id: MemberId) -> bool {
        self.voters.binary_search(&id).is_ok() || self.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` needs nobody else.
    pub(crate) fn alone(&self, id: MemberId) -> bool {
        self.voters == [id] && self.outgoing.is_empty()
    }

    /// All but `id`, each once.
    pub(crate) fn others(&self, id: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        let only_old = self.outgoing.iter().filter(|m| self.voters.binary_search(m).is_err());
        self.voters.iter().chain(only_old).copied().filter(move |m| *m != id)
    }

    /// The largest value that a majority has reached, of the old and of the new group. Nobody agrees on nothing.
    pub(crate) fn agreed<T: Ord + Default + Copy>(&self, value: impl Fn(MemberId) -> T) -> T {
        let new = majority(&self.voters, &value);
        if self.outgoing.is_empty() || bug::on(Bug::NewMajorityOnly) {
            new
        } else {
            new.min(majority(&self.outgoing, &value))
        }
    }

    /// Whether a majority says yes.
    pub(crate) fn carried(&self, yes: impl Fn(MemberId) -> bool) -> bool {
        self.agreed(yes)
    }
}

fn majority<T: Ord + Default + Copy>(members: &[MemberId], value: impl Fn(MemberId) -> T) -> T {
    // In place, because this is done for every answer of a follower.
    let mut all = [T::default(); MOST_VOTERS];
    let mut count = 0;
    for (slot, id) in all.iter_mut().zip(members) {
        *slot = value(*id);
        count += 1;
    }
    let values = &mut all[..count];
    values.sort_unstable();
    let half = if bug::on(Bug::HalfIsMost) { count } else { count.saturating_sub(1) };
    values.get(half / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(n: u64) -> Voters {
        Voters::new(&Configuration::of((1..=n).map(MemberId).collect()))
    }

    fn joint(voters: &[u64], outgoing: &[u64]) -> Voters {
        let ids = |list: &[u64]| list.iter().copied().map(MemberId).collect();
        let (voters, outgoing) = (ids(voters), ids(outgoing));
        Voters::new(&Configuration { voters, outgoing, ..Configuration::default() })
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (n, need) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            for yes in 0..=n {
                assert_eq!(voters(n).carried(|m| m.0 <= yes), yes >= need, "{yes} of {n}");
            }
        }
    }

    #[test]
    fn agreed_is_the_value_that_a_majority_reached() {
        assert_eq!(voters(3).agreed(|m| m.0 * 10), 20);
        assert_eq!(voters(5).agreed(|m| m.0 * 10), 30);
        assert_eq!(voters(4).agreed(|m| m.0 * 10), 20);
        assert_eq!(voters(1).agreed(|m| m.0 * 10), 10);
    }

    #[test]
    fn a_joint_group_needs_both_majorities() {
        let group = joint(&[3, 4, 5], &[1, 2, 3]);
        assert!(!group.carried(|m| m.0 >= 3), "the new majority alone");
        assert!(!group.carried(|m| m.0 <= 3), "the old majority alone");
        assert!(group.carried(|m| [2, 3, 4].contains(&m.0)));
        assert_eq!(group.agreed(|m| m.0), 2);
        let others: Vec<u64> = group.others(MemberId(3)).map(|m| m.0).collect();
        assert_eq!(others, [4, 5, 1, 2]);
    }

    #[test]
    fn nobody_agrees_on_nothing() {
        assert!(!voters(0).carried(|_| true));
        assert_eq!(voters(0).agreed(|m| m.0), 0);
    }
}
