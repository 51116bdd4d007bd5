//! Bugs that can be switched on, to show that the simulation finds them. Without the feature
//! `seeded-bugs` there is none, and the compiler removes every trace of the question.

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The head answers before the members after it have the write.
    AnswerBeforeTail,
    /// A flush is answered without a commit.
    FlushNothing,
    /// A server that lost its memory says that it has everything.
    RestartAsInSync,
    /// A fence is confirmed with a write of its session under way.
    ConfirmAtOnce,
    /// A replica shows what the tail may not have yet.
    ShowUncommitted,
    /// A retry is taken for a new mutation.
    ForgetSequences,
    /// A server goes on without a lease.
    IgnoreLease,
    /// The map cuts a server off before its lease ran out.
    CutTooEarly,
    /// Requests of another chain version are served.
    IgnoreVersion,
    /// The highest version of a block wins, whoever has it.
    HighestWins,
    /// A new member serves without what it lacks.
    JoinEmpty,
    /// The sessions that are fenced are not looked up.
    AdmitFenced,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AnswerBeforeTail,
        Self::FlushNothing,
        Self::RestartAsInSync,
        Self::ConfirmAtOnce,
        Self::ShowUncommitted,
        Self::ForgetSequences,
        Self::IgnoreLease,
        Self::CutTooEarly,
        Self::IgnoreVersion,
        Self::HighestWins,
        Self::JoinEmpty,
        Self::AdmitFenced,
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
            Self::AnswerBeforeTail => (
                "answer-before-tail",
                "the head answers before the members after it have the write",
            ),
            Self::FlushNothing => ("flush-nothing", "a flush is answered without a commit"),
            Self::RestartAsInSync => {
                ("restart-as-in-sync", "a server that lost its memory says that it has everything")
            }
            Self::ConfirmAtOnce => {
                ("confirm-at-once", "a fence is confirmed with a write of its session under way")
            }
            Self::ShowUncommitted => {
                ("show-uncommitted", "a replica shows what the tail may not have yet")
            }
            Self::ForgetSequences => ("forget-sequences", "a retry is taken for a new mutation"),
            Self::IgnoreLease => ("ignore-lease", "a server goes on without a lease"),
            Self::CutTooEarly => {
                ("cut-too-early", "the map cuts a server off before its lease ran out")
            }
            Self::IgnoreVersion => {
                ("ignore-version", "requests of another chain version are served")
            }
            Self::HighestWins => {
                ("highest-wins", "the highest version of a block wins, whoever has it")
            }
            Self::JoinEmpty => ("join-empty", "a new member serves without what it lacks"),
            Self::AdmitFenced => ("admit-fenced", "the sessions that are fenced are not looked up"),
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
