//! Bugs that a simulation seeds to see whether it would notice them. Without the feature
//! `seeded-bugs` there are none, and asking costs nothing.

/// A bug of the table or of the leases.
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
    /// A new leader grants nobody a lease before it expires them.
    NoFirstLease,
}

#[cfg(feature = "seeded-bugs")]
thread_local! {
    static SEEDED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Puts `bug` into all tables of this thread, or none.
#[cfg(feature = "seeded-bugs")]
pub fn seed(bug: Option<Bug>) {
    SEEDED.set(bug);
}

#[cfg(feature = "seeded-bugs")]
pub(crate) fn seeded(bug: Bug) -> bool {
    SEEDED.get() == Some(bug)
}

#[cfg(not(feature = "seeded-bugs"))]
pub(crate) const fn seeded(_: Bug) -> bool {
    false
}
