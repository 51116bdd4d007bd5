//! What must be true of a table between any two commands.

use super::{State, Table, pieces::Hold};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock table is broken: {0}")]
pub struct Broken(pub String);

impl Table {
    /// L1 and its kin: pieces are disjoint, not empty and owned by sessions that exist; numbers
    /// are in the past; waiters live and cannot be served now; recoverers make sense.
    ///
    /// # Errors
    /// Names the first rule that does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_saved()?;
        if !self.pieces.counted() {
            return Err(Broken("a session is said to hold what no piece says".to_owned()));
        }
        Ok(())
    }

    /// Those of the rules that a checkpoint can break: what is counted while it is read need not be counted again.
    pub(super) fn check_saved(&self) -> Result<(), Broken> {
        let mut last_end = None;
        for (span, hold) in self.pieces.iter() {
            if last_end.is_some_and(|end| end > span.start()) {
                return Err(Broken(format!("{span:?} overlaps the piece before it")));
            }
            last_end = Some(span.end());
            if matches!(hold, Hold::Shared(owners) if owners.is_empty()) {
                return Err(Broken(format!("{span:?} is shared by nobody")));
            }
            for owner in hold.owners() {
                if !self.is_known(owner.session) {
                    return Err(Broken(format!("{span:?} is held by no session: {owner:?}")));
                }
                if owner.grant > self.newest {
                    return Err(Broken(format!("{span:?} has a number of the future: {owner:?}")));
                }
            }
        }
        for (place, waiter) in self.queue.iter() {
            if self.live(waiter.session).is_none() {
                return Err(Broken(format!("{waiter:?} waits for a dead session")));
            }
            if self.slots.serves(waiter.ask.need) && self.could_go(place, waiter) {
                return Err(Broken(format!("{waiter:?} waits for nothing")));
            }
        }
        self.advisory.check(|session| self.lives(session)).map_err(Broken)?;
        self.tree.check(|session| self.lives(session)).map_err(Broken)?;
        let able = self.sessions.values().any(|row| row.state == State::Live && row.client.able);
        for (session, row) in &self.sessions {
            match row.state {
                State::Dead { recoverer: Some(by) } if !self.is_known(by) => {
                    return Err(Broken(format!("{session:?} is left to a recoverer that is gone")));
                }
                State::Dead { recoverer: None } if able => {
                    return Err(Broken(format!("{session:?} is not being recovered")));
                }
                State::Live | State::Dead { .. } | State::Over => {}
            }
        }
        Ok(())
    }
}
