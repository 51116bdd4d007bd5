//! What people see of the table.

use super::{State, Table};
use crate::{
    message::{LockRow, LockRows, SessionRow, WaiterRow},
    name::SessionId,
};
use std::{collections::BTreeMap, time::Duration};

impl Table {
    /// The most rows of each kind that [`Table::list_locks`] shows.
    pub const MOST_ROWS: usize = 10_000;

    /// The sessions, dead ones too; what only the leader knows is left empty.
    #[must_use]
    pub fn list_sessions(&self) -> Vec<SessionRow> {
        let mut counts: BTreeMap<SessionId, (u64, u64)> = BTreeMap::new();
        for (span, hold) in self.pieces.iter() {
            for owner in hold.owners() {
                let count = counts.entry(owner.session).or_default();
                count.0 += 1;
                count.1 = count.1.saturating_add(span.end().0 - span.start().0);
            }
        }
        self.sessions
            .iter()
            .map(|(&session, row)| {
                let (spans, names) = counts.get(&session).copied().unwrap_or_default();
                SessionRow {
                    session,
                    client: row.client.clone(),
                    live: row.state == State::Live,
                    recoverer: match row.state {
                        State::Live => None,
                        State::Dead { recoverer } => recoverer,
                    },
                    lease_left: Duration::ZERO,
                    report: String::new(),
                    spans,
                    names,
                    waiting: self.waiters.values().filter(|w| w.session == session).count() as u64,
                }
            })
            .collect()
    }

    /// Who holds what and who waits for whom.
    #[must_use]
    pub fn list_locks(&self) -> LockRows {
        let mut rows = LockRows::default();
        for (span, hold) in self.pieces.iter() {
            if rows.locks.len() == Self::MOST_ROWS {
                rows.cut = true;
                break;
            }
            rows.locks.push(LockRow { span, owners: hold.owners() });
        }
        for waiter in self.waiters.values() {
            if rows.waiters.len() == Self::MOST_ROWS {
                rows.cut = true;
                break;
            }
            rows.waiters.push(WaiterRow {
                session: waiter.session,
                need: waiter.ask.need,
                mode: waiter.ask.mode,
                on: self.waits_on(waiter),
            });
        }
        rows
    }
}
