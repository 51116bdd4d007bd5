//! The leases that a leader keeps in its memory, by its own clock. A session that it decided to
//! expire is never renewed again by it: the command may already be on its way. It does not know
//! the table.

use std::{collections::BTreeMap, time::Duration};

use world::Time;

use crate::{
    bug::{Bug, seeded},
    message::{Renewal, SessionRow},
    name::SessionId,
};

/// When to expire a session again whose expiry did not take effect.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Lease {
    until: Time,
    renewed: Time,
    said: Renewal,
    expiring: bool,
}

impl Lease {
    fn new(until: Time) -> Self {
        Self { until, renewed: Time::ZERO, said: Renewal::default(), expiring: false }
    }
}

/// Leases by session.
#[derive(Default)]
pub struct Leases(BTreeMap<SessionId, Lease>);

impl Leases {
    /// Forgets all: another term begins.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A session that has just been opened.
    pub fn begin(&mut self, session: SessionId, until: Time) {
        self.0.entry(session).or_insert_with(|| Lease::new(until));
    }

    /// `now` is after the renewal arrived. Whether the session may go on.
    pub fn renew(&mut self, session: SessionId, now: Time, lease: Duration, said: Renewal) -> bool {
        let until = now + lease;
        self.begin(session, until);
        match self.0.get_mut(&session) {
            Some(held) if !held.expiring => {
                *held = Lease { until, renewed: now, said, expiring: false };
                true
            }
            Some(_) | None => false,
        }
    }

    /// Gives a full lease to each of `living` that has none, forgets all others, and tells whose
    /// lease is over.
    pub fn sweep(&mut self, now: Time, lease: Duration, living: &[SessionId]) -> Vec<SessionId> {
        let mut over = Vec::new();
        let mut old = std::mem::take(&mut self.0);
        for &session in living {
            let first = if seeded(Bug::NoFirstLease) { Duration::ZERO } else { lease };
            let mut held = old.remove(&session).unwrap_or_else(|| Lease::new(now + first));
            if held.until < now {
                held.expiring = true;
                // Asks again after a while, should the command get lost.
                held.until = now + lease.min(AGAIN);
                over.push(session);
            }
            self.0.insert(session, held);
        }
        over
    }

    /// Decides that `session` is to expire although it renews: when the lease is over that it has, because until
    /// then it may use what it holds.
    pub fn doom(&mut self, session: SessionId, now: Time) {
        if let Some(lease) = self.0.get_mut(&session).filter(|lease| !lease.expiring) {
            lease.expiring = true;
            if seeded(Bug::DoomedAtOnce) {
                lease.until = now;
            }
        }
    }

    /// Whether `session` renewed after `since` without knowing of any revocation.
    pub fn deaf(&self, session: SessionId, since: Time) -> bool {
        self.0.get(&session).is_some_and(|lease| lease.renewed > since && lease.said.flushing == 0)
    }

    /// Whether all of `sessions` have renewed since then.
    pub fn all_renewed(&self, sessions: &[SessionId], since: Time) -> bool {
        sessions.iter().all(|session| self.0.get(session).is_none_or(|l| l.renewed >= since))
    }

    /// Adds what is known here to the rows of a list.
    pub fn show(&self, rows: &mut [SessionRow], now: Time) {
        for row in rows {
            if let Some(lease) = self.0.get(&row.session).filter(|lease| !lease.expiring) {
                row.lease_left = lease.until.since(now);
                row.report.clone_from(&lease.said.report);
                row.flushing = lease.said.flushing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Leases;
    use crate::{message::Renewal, name::SessionId};
    use std::time::Duration;
    use world::Time;

    const LEASE: Duration = Duration::from_secs(30);
    const ONE: SessionId = SessionId(1);

    #[test]
    fn a_new_leader_grants_every_session_one_full_lease_before_it_expires_any() {
        let mut leases = Leases::default();
        let start = Time(1_000_000_000_000);
        assert!(leases.sweep(start, LEASE, &[ONE]).is_empty());
        assert!(leases.sweep(start + LEASE, LEASE, &[ONE]).is_empty());
        let after = start + LEASE + Duration::from_nanos(1);
        assert_eq!(leases.sweep(after, LEASE, &[ONE]), [ONE]);
    }

    #[test]
    fn a_doomed_session_is_not_renewed_and_expires_with_the_lease_that_it_has() {
        let mut leases = Leases::default();
        let start = Time(1_000_000_000_000);
        assert!(leases.renew(ONE, start, LEASE, Renewal::default()));
        leases.doom(ONE, start);
        assert!(!leases.renew(ONE, start + LEASE / 2, LEASE, Renewal::default()));
        assert!(leases.sweep(start + LEASE, LEASE, &[ONE]).is_empty());
        let after = start + LEASE + Duration::from_nanos(1);
        assert_eq!(leases.sweep(after, LEASE, &[ONE]), [ONE]);
    }

    #[test]
    fn a_session_whose_expiry_was_decided_is_not_renewed_again() {
        let mut leases = Leases::default();
        let start = Time(1_000_000_000_000);
        assert!(leases.renew(ONE, start, LEASE, Renewal::default()));
        assert_eq!(leases.sweep(start + LEASE * 2, LEASE, &[ONE]), [ONE]);
        assert!(!leases.renew(ONE, start + LEASE * 2, LEASE, Renewal::default()));
    }
}
