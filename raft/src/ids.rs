//! The numbers that cross the border of this room, each with a type of its own.
//!
//! Why: a term passed where an index belongs is a data loss that no test of the happy path finds. This file knows
//! nothing of what the numbers are used for.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $mark:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The one before this; zero stays zero.
            #[must_use]
            pub const fn back(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($mark, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A period with at most one leader. Zero before the first election.
    Term, "t"
);
number!(
    /// The place of an entry in the log. The first entry has index 1; zero is the place before it.
    Index, "i"
);
number!(
    /// A member of the group, by the number that the configuration gives it.
    MemberId, "n"
);
number!(
    /// Numbers the [`Persist`](crate::Persist) effects of one node since its start; the first is 1.
    Sequence, "s"
);
number!(
    /// Numbers the quorum rounds of one leader in one term.
    Round, "r"
);
number!(
    /// What a member draws so that nothing said to an earlier life of it is taken for its own: names its questions about
    /// reads, and its rebuilding.
    Serial, "q"
);
number!(
    /// The driver's own name for a proposal or a read; it comes back in the effect that answers it.
    Ticket, "#"
);
