//! Deliberate bugs: each changes one condition of this room, so that the simulator can show that it would find it.
//!
//! They exist only with the feature `seeded-bugs`, which no real program turns on; without it [`on`] is a constant and
//! nothing of this file is left. One bug is in force on a thread at a time. This file says what each does; what finds
//! it is no business of this room.

/// Something that an author of a consensus core might get wrong. Most have been got wrong, in this or another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "seeded-bugs"),
    expect(unreachable_pub, reason = "shown with the feature")
)]
pub enum Bug {
    /// Commits an older term's entry by counting.
    CommitOldTerm,
    /// The leader counts its own entries before its sync.
    CountUnsynced,
    /// A follower acknowledges entries before its sync.
    AckUnsynced,
    /// A vote is told before it is on disk.
    VoteUnsynced,
    /// A candidate asks for votes and counts its own before that is on disk.
    OwnVoteUnsynced,
    /// A second candidate gets a vote in the same term.
    VoteTwice,
    /// A restarted member forgets for whom it voted.
    ForgetVote,
    /// A vote does not ask how up to date the candidate is.
    ShortLogElected,
    /// Logs are compared by length, not by the term of their last entry.
    LongestLogElected,
    /// An append cuts the log even where it agrees.
    TruncateAlways,
    /// An append fits if there is an entry before it, of whatever term.
    MatchByIndex,
    /// A follower commits what the leader did, also beyond what it was sent.
    CommitUnmatched,
    /// Answers of an older term count.
    StaleAnswers,
    /// Half of an even number of voters is taken for a majority.
    HalfIsMost,
    /// A quorum read is answered without a round.
    ReadUnproven,
    /// A read joins a round that is under way.
    ReadJoinsRound,
    /// A new leader answers reads before an entry of its own term is committed.
    ReadBeforeNoop,
    /// A checkpoint is taken that is older than what was committed here.
    OlderCheckpoint,
    /// A chunk is taken at whatever offset it comes.
    WrongOffset,
    /// A checkpoint drops the entries after it that were there.
    ForgetTail,
    /// A joint group asks the new voters only.
    NewMajorityOnly,
    /// A checkpoint is restored before it is on disk.
    RestoreEarly,
    /// A follower answers a read before it has restored the checkpoint that it took.
    ReadBeforeRestore,
    /// A lease read is served however long ago the lease was confirmed, so after a pause too.
    LeaseWithoutEnd,
    /// A lease lasts as long as the longest election timeout.
    LongLease,
    /// A member votes though it hears its leader.
    DisregardLeader,
    /// The group goes to the new voters at once.
    NoJoint,
    /// The old voters are dropped before the joint group is committed.
    LeaveJointEarly,
    /// Learners count for a majority.
    LearnerCounted,
    /// A member that was emptied votes at once.
    EmptiedVotes,
}

/// Whether this bug is in force.
#[cfg(not(feature = "seeded-bugs"))]
#[inline]
pub(crate) const fn on(_: Bug) -> bool {
    false
}

/// Whether this bug is in force on this thread.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn on(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}

#[cfg(feature = "seeded-bugs")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(feature = "seeded-bugs")]
impl Bug {
    /// Every bug.
    pub const ALL: [Self; 30] = [
        Self::CommitOldTerm,
        Self::CountUnsynced,
        Self::AckUnsynced,
        Self::VoteUnsynced,
        Self::OwnVoteUnsynced,
        Self::VoteTwice,
        Self::ForgetVote,
        Self::ShortLogElected,
        Self::LongestLogElected,
        Self::TruncateAlways,
        Self::MatchByIndex,
        Self::CommitUnmatched,
        Self::StaleAnswers,
        Self::HalfIsMost,
        Self::ReadUnproven,
        Self::ReadJoinsRound,
        Self::ReadBeforeNoop,
        Self::OlderCheckpoint,
        Self::WrongOffset,
        Self::ForgetTail,
        Self::NewMajorityOnly,
        Self::RestoreEarly,
        Self::ReadBeforeRestore,
        Self::LeaseWithoutEnd,
        Self::LongLease,
        Self::DisregardLeader,
        Self::NoJoint,
        Self::LeaveJointEarly,
        Self::LearnerCounted,
        Self::EmptiedVotes,
    ];

    /// Puts a bug in force for the nodes of this thread, or none.
    pub fn choose(bug: Option<Self>) {
        CHOSEN.set(bug);
    }

    /// The bug of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.told().0
    }

    /// What it does, in a few words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        self.told().1
    }

    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::CommitOldTerm => ("commit-old-term", "commits an older term's entry by counting"),
            Self::CountUnsynced => {
                ("count-unsynced", "the leader counts its own entries before its sync")
            }
            Self::AckUnsynced => {
                ("ack-unsynced", "a follower acknowledges entries before its sync")
            }
            Self::VoteUnsynced => ("vote-unsynced", "a vote is told before it is on disk"),
            Self::OwnVoteUnsynced => (
                "own-vote-unsynced",
                "a candidate asks for votes and counts its own before that is on disk",
            ),
            Self::VoteTwice => ("vote-twice", "a second candidate gets a vote in the same term"),
            Self::ForgetVote => ("forget-vote", "a restarted member forgets for whom it voted"),
            Self::ShortLogElected => {
                ("short-log-elected", "a vote does not ask how up to date the candidate is")
            }
            Self::LongestLogElected => (
                "longest-log-elected",
                "logs are compared by length, not by the term of their last entry",
            ),
            Self::TruncateAlways => {
                ("truncate-always", "an append cuts the log even where it agrees")
            }
            Self::MatchByIndex => (
                "match-by-index",
                "an append fits if there is an entry before it, of whatever term",
            ),
            Self::CommitUnmatched => (
                "commit-unmatched",
                "a follower commits what the leader did, also beyond what it was sent",
            ),
            Self::StaleAnswers => ("stale-answers", "answers of an older term count"),
            Self::HalfIsMost => {
                ("half-is-most", "half of an even number of voters is taken for a majority")
            }
            Self::ReadUnproven => ("read-unproven", "a quorum read is answered without a round"),
            Self::ReadJoinsRound => ("read-joins-round", "a read joins a round that is under way"),
            Self::ReadBeforeNoop => (
                "read-before-no-op",
                "a new leader answers reads before an entry of its own term is committed",
            ),
            Self::OlderCheckpoint => (
                "older-checkpoint",
                "a checkpoint is taken that is older than what was committed here",
            ),
            Self::WrongOffset => ("wrong-offset", "a chunk is taken at whatever offset it comes"),
            Self::ForgetTail => {
                ("forget-tail", "a checkpoint drops the entries after it that were there")
            }
            Self::NewMajorityOnly => {
                ("new-majority-only", "a joint group asks the new voters only")
            }
            Self::RestoreEarly => {
                ("restore-early", "a checkpoint is restored before it is on disk")
            }
            Self::ReadBeforeRestore => (
                "read-before-restore",
                "a follower answers a read before it has restored the checkpoint that it took",
            ),
            Self::LeaseWithoutEnd => (
                "lease-without-end",
                "a lease read is served however long ago the lease was confirmed, so after a pause too",
            ),
            Self::LongLease => {
                ("long-lease", "a lease lasts as long as the longest election timeout")
            }
            Self::DisregardLeader => {
                ("disregard-leader", "a member votes though it hears its leader")
            }
            Self::NoJoint => ("no-joint", "the group goes to the new voters at once"),
            Self::LeaveJointEarly => (
                "leave-joint-early",
                "the old voters are dropped before the joint group is committed",
            ),
            Self::LearnerCounted => ("learner-counted", "learners count for a majority"),
            Self::EmptiedVotes => ("emptied-votes", "a member that was emptied votes at once"),
        }
    }
}
