//! Who belongs to a group: voters, the voters that are being replaced, learners.
//!
//! A configuration is an entry of the log (section 6). It knows which lists make sense; what a majority of it agrees on
//! is `quorum`'s business, how one follows another `membership`'s.

use crate::ids::MemberId;

/// The most voters that a group may have.
pub(crate) const MOST_VOTERS: usize = 7;
/// The most learners.
const MOST_LEARNERS: usize = 16;

/// The members of a group. Lists are sorted and name nobody twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Those whose majority decides. Empty only at a member that was told nothing yet.
    pub voters: Vec<MemberId>,
    /// While the group changes (*joint*), the voters of before, whose majority is needed too; else empty.
    pub outgoing: Vec<MemberId>,
    /// Those that get everything and decide nothing. One who is an outgoing voter votes until the change is done.
    pub learners: Vec<MemberId>,
}

impl Configuration {
    /// A group of these voters. Sorts them.
    #[must_use]
    pub fn of(mut voters: Vec<MemberId>) -> Self {
        voters.sort_unstable();
        Self { voters, ..Self::default() }
    }

    /// Whether two majorities are needed.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the vote of `id` counts.
    #[must_use]
    pub fn votes(&self, id: MemberId) -> bool {
        self.voters.binary_search(&id).is_ok() || self.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` is a member in any way.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.votes(id) || self.learners.binary_search(&id).is_ok()
    }

    /// All members, each once, in order.
    #[must_use]
    pub fn members(&self) -> Vec<MemberId> {
        let lists = [&self.voters, &self.outgoing, &self.learners];
        let mut all: Vec<MemberId> = lists.into_iter().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Bytes that it takes in memory and on the wire, about.
    #[must_use]
    pub fn size(&self) -> usize {
        (self.voters.len() + self.outgoing.len() + self.learners.len()) * 8
    }

    /// Refuses what no leader may append.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        let lists = [&self.voters, &self.outgoing, &self.learners];
        if lists.iter().any(|list| !list.windows(2).all(|pair| pair[0] < pair[1])) {
            Err("a list of members must be sorted and name each once")
        } else if self.voters.is_empty() {
            Err("a group needs a voter")
        } else if self.voters.len() > MOST_VOTERS || self.outgoing.len() > MOST_VOTERS {
            Err("a group has 7 voters at most")
        } else if self.learners.len() > MOST_LEARNERS {
            Err("a group has 16 learners at most")
        } else if self.learners.iter().any(|id| self.voters.binary_search(id).is_ok()) {
            Err("a member is either a voter or a learner")
        } else {
            Ok(())
        }
    }
}
