//! Who votes, and what a majority of them agrees on.
//!
//! Every "a majority has ..." of the protocol goes through [`Voters::agreed`], so that a change of the group (joint
//! consensus) has one place to be made. Knows nothing of logs or roles.

use crate::ids::MemberId;

/// The voting members of a group.
#[derive(Clone, Debug)]
pub(crate) struct Voters {
    members: Vec<MemberId>,
}

impl Voters {
    /// Members in the order of their ids, so that no behaviour depends on how a configuration was written.
    pub(crate) fn new(mut members: Vec<MemberId>) -> Self {
        members.sort_unstable();
        Self { members }
    }

    pub(crate) fn contains(&self, id: MemberId) -> bool {
        self.members.binary_search(&id).is_ok()
    }

    /// Whether there is nobody else to ask.
    pub(crate) fn alone(&self) -> bool {
        self.members.len() == 1
    }

    /// All but `id`.
    pub(crate) fn others(&self, id: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        self.members.iter().copied().filter(move |m| *m != id)
    }

    /// The largest value that a majority has reached.
    pub(crate) fn agreed<T: Ord>(&self, value: impl Fn(MemberId) -> T) -> T {
        let mut values: Vec<T> = self.members.iter().map(|m| value(*m)).collect();
        values.sort_unstable();
        let minority = (values.len() - 1) / 2;
        values.swap_remove(minority)
    }

    /// Whether a majority says yes.
    pub(crate) fn carried(&self, yes: impl Fn(MemberId) -> bool) -> bool {
        self.agreed(yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(n: u64) -> Voters {
        Voters::new((1..=n).map(MemberId).collect())
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
}
