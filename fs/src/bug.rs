//! Bugs that can be switched on, to show that the simulation of whole clusters finds them. Without the feature
//! `seeded-bugs` there is none, and the compiler removes every trace of the question. What finds them is not known here.

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A lock goes before the metadata under it is in place.
    ReleaseUnflushed,
    /// A lock goes before the data under it is written back.
    ReleaseUnwritten,
    /// What was read is kept although a revocation overtook it.
    KeepOldLoads,
    /// Replay does not ask under which grant a change was made.
    ReplayAnyGrant,
    /// Replay does not ask whether the block is newer.
    ReplayAnyVersion,
    /// Nobody fences a dead session before its log is replayed.
    RecoverUnfenced,
    /// Recovery does not mark segments whose free runs may hold bytes.
    SkipMark,
    /// The kernel is not told when a lock goes.
    KernelKeeps,
    /// A freed run is used again without having been discarded.
    ReuseUndiscarded,
    /// A run is discarded before the record that makes it unreachable is in the log.
    FreeBeforeLog,
    /// The log is cut before what it describes is flushed in place.
    TrimEarly,
    /// A sync is answered before the log is pushed.
    SyncUnlogged,
    /// Runs and sizes are told before the data is on stable storage.
    ExposeUnflushed,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ReleaseUnflushed,
        Self::ReleaseUnwritten,
        Self::KeepOldLoads,
        Self::ReplayAnyGrant,
        Self::ReplayAnyVersion,
        Self::RecoverUnfenced,
        Self::SkipMark,
        Self::KernelKeeps,
        Self::ReuseUndiscarded,
        Self::FreeBeforeLog,
        Self::TrimEarly,
        Self::SyncUnlogged,
        Self::ExposeUnflushed,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// What it does.
    #[must_use]
    pub fn what(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ReleaseUnflushed => {
                ("release-unflushed", "a lock goes before the metadata under it is in place")
            }
            Self::ReleaseUnwritten => {
                ("release-unwritten", "a lock goes before the data under it is written back")
            }
            Self::KeepOldLoads => {
                ("keep-old-loads", "what was read is kept although a revocation overtook it")
            }
            Self::ReplayAnyGrant => {
                ("replay-any-grant", "replay does not ask under which grant a change was made")
            }
            Self::ReplayAnyVersion => {
                ("replay-any-version", "replay does not ask whether the block is newer")
            }
            Self::RecoverUnfenced => {
                ("recover-unfenced", "nobody fences a dead session before its log is replayed")
            }
            Self::SkipMark => {
                ("skip-mark", "recovery does not mark segments whose free runs may hold bytes")
            }
            Self::KernelKeeps => ("kernel-keeps", "the kernel is not told when a lock goes"),
            Self::ReuseUndiscarded => {
                ("reuse-undiscarded", "a freed run is used again without having been discarded")
            }
            Self::FreeBeforeLog => (
                "free-before-log",
                "a run is discarded before the record that makes it unreachable is in the log",
            ),
            Self::TrimEarly => {
                ("trim-early", "the log is cut before what it describes is flushed in place")
            }
            Self::SyncUnlogged => ("sync-unlogged", "a sync is answered before the log is pushed"),
            Self::ExposeUnflushed => {
                ("expose-unflushed", "runs and sizes are told before the data is on stable storage")
            }
        }
    }
}

#[cfg(feature = "seeded-bugs")]
std::thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Switches a bug on for this thread, or none.
#[cfg(feature = "seeded-bugs")]
pub fn seed(bug: Option<Bug>) {
    ON.set(bug);
}

#[cfg(feature = "seeded-bugs")]
pub(crate) fn on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn on(_: Bug) -> bool {
    false
}
