//! No leader beside a lease: while a leader has a lease, by its own clock, nobody becomes leader of a newer term (thesis,
//! section 6.4.1). One of an older term, who hears late that he won, can commit nothing and answer nobody.
//!
//! A read by lease that shows the past needs a second leader, a command and a read in that very moment; this looks at what
//! makes it possible. Leadership that is handed on ends the lease first.

use super::{Invariant, Step};

/// Leases exclude other leaders.
#[derive(Debug)]
pub struct SoleLease;

impl Invariant for SoleLease {
    fn name(&self) -> &'static str {
        "no leader beside a lease"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let Some(new) = step.leads().filter(|_| step.led().is_none()) else { return Ok(false) };
        for (member, status) in step.members.iter().zip(step.statuses) {
            let Some(status) = status.as_ref().filter(|s| s.term < new.term) else { continue };
            let now = member.local(step.now);
            if let Some(end) = status.lease.filter(|end| now < *end) {
                let (id, term, by) = (new.id, new.term, status.id);
                return Err(format!(
                    "{id:?} leads in {term:?}; {by:?} has a lease to {end:?}, its time is {now:?}"
                ));
            }
        }
        Ok(true)
    }
}
