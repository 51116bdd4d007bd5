//! Bugs that a simulation seeds to see whether it would notice them: each changes one condition of
//! this room. Without the feature `seeded-bugs` there are none, and asking costs nothing. One is in
//! force on a thread at a time; what finds it is no business of this room.

/// A bug of the table, of the server or of the clerk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A range that is split loses its right part.
    SplitLosesRange,
    /// Whoever is given a lock is not told who waits for it already.
    RevokeForgotten,
    /// Shared holders do not stand in the way of an exclusive wish.
    SharedIgnored,
    /// A dead recoverer's dead go to another one before it has been recovered itself.
    RecoveryReassigned,
    /// A session that dies is forgotten at once.
    NotRecovered,
    /// A new leader grants nobody a lease before it expires them.
    NoFirstLease,
    /// A holder that does not answer loses its locks before its lease is over.
    DoomedAtOnce,
    /// A leader answers renewals without a quorum, so a deposed one does too.
    RenewalByDeposed,
    /// A stream is opened without a quorum, so at a deposed leader too.
    ListenAtDeposed,
    /// The client counts its lease from the answer of the renewal.
    LeaseFromAnswer,
    /// A client that was paused uses what it holds before it looks at the clock.
    PausedUsesGrant,
    /// A lock is released before the holder is done with its flush.
    ReleaseBeforeFlush,
    /// A revocation does not wait for operations that use the lock.
    PinIgnored,
    /// What is just being given up is handed to whoever asks.
    GoingIsPinned,
    /// The service is told of a recovery before the recoverer is done.
    RecoveredEarly,
    /// A repeated change of the registry happens again.
    ChangeTwice,
    /// A repeated batch of asks is done again.
    BatchTwice,
    /// A shard believes late news of sessions, also of some that are long gone.
    LateNewsBelieved,
    /// The gaining shard of a move begins its numbers where it was.
    NumbersFallOverAMove,
    /// Whoever waited for a lock of a group that moves is forgotten.
    WaitersLostInAMove,
    /// A shard does not go past the numbers that its clients have seen.
    SeenIgnored,
    /// A clerk believes a shard that has lost a group.
    LoserBelieved,
    /// A recoverer is told only of the locks at home.
    EstateOfHomeOnly,
}

#[cfg(feature = "seeded-bugs")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(feature = "seeded-bugs")]
impl Bug {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::SplitLosesRange,
        Self::RevokeForgotten,
        Self::SharedIgnored,
        Self::RecoveryReassigned,
        Self::NotRecovered,
        Self::NoFirstLease,
        Self::DoomedAtOnce,
        Self::RenewalByDeposed,
        Self::ListenAtDeposed,
        Self::LeaseFromAnswer,
        Self::PausedUsesGrant,
        Self::ReleaseBeforeFlush,
        Self::PinIgnored,
        Self::GoingIsPinned,
        Self::RecoveredEarly,
        Self::ChangeTwice,
        Self::BatchTwice,
        Self::LateNewsBelieved,
        Self::NumbersFallOverAMove,
        Self::WaitersLostInAMove,
        Self::SeenIgnored,
        Self::LoserBelieved,
        Self::EstateOfHomeOnly,
    ];

    /// Puts a bug in force on this thread, or none.
    pub fn choose(bug: Option<Self>) {
        CHOSEN.set(bug);
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
            Self::SplitLosesRange => {
                ("split-loses-range", "a range that is split loses its right part")
            }
            Self::RevokeForgotten => {
                ("revoke-forgotten", "a new holder is not told who waits already")
            }
            Self::SharedIgnored => {
                ("shared-ignored", "shared holders do not stand in a writer's way")
            }
            Self::RecoveryReassigned => {
                ("recovery-reassigned", "a dead recoverer's dead pass on before it is recovered")
            }
            Self::NotRecovered => ("not-recovered", "a session that dies is forgotten at once"),
            Self::NoFirstLease => {
                ("no-first-lease", "a new leader expires whom it has not heard yet")
            }
            Self::DoomedAtOnce => {
                ("doomed-at-once", "a holder that does not answer loses its locks before its lease")
            }
            Self::RenewalByDeposed => ("renewal-by-deposed", "a deposed leader answers renewals"),
            Self::ListenAtDeposed => {
                ("listen-at-deposed", "a deposed leader opens a session's stream")
            }
            Self::LeaseFromAnswer => {
                ("lease-from-answer", "the client counts its lease from the answer")
            }
            Self::PausedUsesGrant => {
                ("paused-uses-grant", "a client uses what it holds without a look at the clock")
            }
            Self::ReleaseBeforeFlush => {
                ("release-before-flush", "a lock is released before the flush is done")
            }
            Self::PinIgnored => ("pin-ignored", "a revocation does not wait for who uses the lock"),
            Self::GoingIsPinned => {
                ("going-is-pinned", "what is just being given up is handed to whoever asks")
            }
            Self::RecoveredEarly => {
                ("recovered-early", "the service is told of a recovery that is not done")
            }
            Self::ChangeTwice => {
                ("change-twice", "a repeated change of the registry happens again")
            }
            Self::BatchTwice => ("batch-twice", "a repeated batch of asks is done again"),
            Self::LateNewsBelieved => {
                ("late-news-believed", "a shard brings back a session that is long gone")
            }
            Self::NumbersFallOverAMove => {
                ("numbers-fall-over-a-move", "the gaining shard goes on with its own numbers")
            }
            Self::WaitersLostInAMove => {
                ("waiters-lost-in-a-move", "whoever waits for a group that moves is forgotten")
            }
            Self::SeenIgnored => {
                ("seen-ignored", "a shard does not go past the numbers that clients have seen")
            }
            Self::LoserBelieved => {
                ("loser-believed", "a clerk believes a shard that has lost a group")
            }
            Self::EstateOfHomeOnly => {
                ("estate-of-home-only", "a recoverer is told only of the locks at home")
            }
        }
    }
}

#[cfg(feature = "seeded-bugs")]
pub(crate) fn seeded(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}

#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn seeded(_: Bug) -> bool {
    false
}
