//! A leader's lease: for how long nobody else can have been elected, by this leader's clock alone.
//!
//! Thesis, section 6.4.1. A member that answers a round has heard the leader after the round was *sent*, and from then on
//! votes for no other for `election_min` by its own clock (also across a restart, a change of term, and at the leader
//! itself). So the lease runs from the sending, and is shorter by the share that clocks may differ. It ends when
//! leadership is handed on, since that campaign is not refused, and when the clock was seen to go back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::Round;

#[derive(Default)]
pub(crate) struct Lease {
    /// When each round that is not confirmed was sent.
    sent: VecDeque<(Round, Duration)>,
    /// When the newest confirmed round was sent.
    from: Option<Duration>,
    /// None is granted in this term any more.
    revoked: bool,
}

impl Lease {
    /// A round begins.
    pub(crate) fn begin(&mut self, round: Round, sent: Duration) {
        self.sent.push_back((round, sent));
    }

    /// A majority answered this round.
    pub(crate) fn confirm(&mut self, round: Round) {
        while let Some((_, sent)) = self.sent.pop_front_if(|(begun, _)| *begun <= round) {
            self.from = Some(sent);
        }
    }

    /// When it ends, if it lasts for `length`.
    pub(crate) fn end(&self, length: Duration) -> Option<Duration> {
        self.from.filter(|_| !self.revoked).map(|from| from + length)
    }

    /// Leadership may pass to another at any time from here on.
    pub(crate) fn revoke(&mut self) {
        self.revoked = true;
    }

    /// The clock cannot be trusted: times noted before mean nothing.
    pub(crate) fn forget(&mut self) {
        self.sent.clear();
        self.from = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Lease {
        fn runs(&self, now: Duration, length: Duration) -> bool {
            self.end(length).is_some_and(|end| now < end)
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_lease_runs_from_the_sending_of_the_newest_confirmed_round() {
        let mut lease = Lease::default();
        lease.begin(Round(1), 100 * MS);
        lease.begin(Round(2), 140 * MS);
        assert!(!lease.runs(150 * MS, 100 * MS));
        lease.confirm(Round(1));
        assert!(lease.runs(199 * MS, 100 * MS));
        assert!(!lease.runs(200 * MS, 100 * MS));
        lease.confirm(Round(2));
        assert!(lease.runs(239 * MS, 100 * MS));
        lease.begin(Round(3), 180 * MS);
        lease.forget();
        lease.confirm(Round(3));
        assert!(!lease.runs(181 * MS, 100 * MS), "sent by a clock that jumped");
        lease.begin(Round(4), 190 * MS);
        lease.confirm(Round(4));
        assert!(lease.runs(191 * MS, 100 * MS));
        lease.revoke();
        assert!(!lease.runs(191 * MS, 100 * MS));
    }
}
