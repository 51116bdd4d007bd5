//! What people see of the table.

use super::{State, Table, pieces::Hold};
use crate::{
    message::{LockRow, LockRows, SessionRow, WaiterRow},
    name::Grant,
};
use std::time::Duration;

impl Table {
    /// The most rows of each kind that [`Table::list_locks`] shows.
    pub const MOST_ROWS: usize = 10_000;

    /// The sessions, dead ones too; what only the leader knows is left empty.
    #[must_use]
    pub fn list_sessions(&self) -> Vec<SessionRow> {
        self.sessions
            .iter()
            .filter(|(_, row)| row.state != State::Over)
            .map(|(&session, row)| {
                let (spans, names) = self.pieces.count(session);
                SessionRow {
                    session,
                    client: row.client.clone(),
                    live: row.state == State::Live,
                    recoverer: match row.state {
                        State::Live | State::Over => None,
                        State::Dead { recoverer } => recoverer,
                    },
                    lease_left: Duration::ZERO,
                    report: String::new(),
                    spans,
                    names,
                    waiting: self.queue.count(session) as u64,
                    flushing: 0,
                }
            })
            .collect()
    }

    /// Who holds what and who waits for whom. How long the waiter at a place has waited, and how
    /// long a number has been given, the caller knows.
    #[must_use]
    pub fn list_locks(
        &self,
        waited: &dyn Fn(u64) -> Duration,
        held: &dyn Fn(Grant) -> Duration,
    ) -> LockRows {
        let mut rows = LockRows::default();
        for (span, hold) in self.pieces.iter() {
            if rows.locks.len() == Self::MOST_ROWS {
                rows.cut = true;
                break;
            }
            rows.locks.push(LockRow {
                span,
                owners: hold.owners(),
                held: match hold {
                    Hold::Exclusive(_, grant) => Some(held(*grant)),
                    Hold::Shared(_) => None,
                },
            });
        }
        for (place, waiter) in self.queue.iter() {
            if rows.waiters.len() == Self::MOST_ROWS {
                rows.cut = true;
                break;
            }
            rows.waiters.push(WaiterRow {
                session: waiter.session,
                need: waiter.ask.need,
                mode: waiter.ask.mode,
                on: self.waits_on(waiter),
                waited: waited(place),
            });
        }
        let most = Self::MOST_ROWS;
        rows.claims = self.advisory.list().take(most + 1).collect();
        rows.cut |= rows.claims.len() > most;
        rows.claims.truncate(most);
        rows
    }
}
