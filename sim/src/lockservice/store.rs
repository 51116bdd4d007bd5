//! What the locks protect: a shared store of one value a name, which refuses fenced sessions, and one log a session.

use std::collections::{BTreeMap, BTreeSet};

use lockservice::{Grant, Held, Mode, Name, SessionId};

/// The store, the logs, and what they should say.
#[derive(Default)]
pub(super) struct Store {
    values: BTreeMap<Name, u64>,
    fenced: BTreeSet<SessionId>,
    logs: BTreeMap<SessionId, BTreeMap<Name, (u64, Grant)>>,
    /// The last value written under a lock, wherever it lies now.
    truth: BTreeMap<Name, u64>,
    /// Writes by session and number.
    landed: BTreeSet<(SessionId, u64)>,
    next: u64,
}

impl Store {
    /// A session writes under an exclusive lock: into its log, and into its cache.
    pub(super) fn write(&mut self, session: SessionId, name: Name, grant: Grant) -> u64 {
        self.next += 1;
        self.truth.insert(name, self.next);
        self.logs.entry(session).or_default().insert(name, (self.next, grant));
        self.next
    }

    pub(super) fn read(&self, name: Name) -> u64 {
        self.values.get(&name).copied().unwrap_or_default()
    }

    pub(super) fn truth(&self, name: Name) -> u64 {
        self.truth.get(&name).copied().unwrap_or_default()
    }

    /// A write in place arrives, perhaps once more: by its number it happens once. Whether it was taken, now or before.
    pub(super) fn land(&mut self, session: SessionId, number: u64, values: &[(Name, u64)]) -> bool {
        if self.fenced.contains(&session) {
            return false;
        }
        if !self.landed.insert((session, number)) {
            return true;
        }
        for &(name, value) in values {
            self.values.insert(name, value);
            if let Some(log) = self.logs.get_mut(&session)
                && log.get(&name).is_some_and(|(logged, _)| *logged == value)
            {
                log.remove(&name);
            }
        }
        true
    }

    pub(super) fn fence(&mut self, session: SessionId) {
        self.fenced.insert(session);
    }

    pub(super) fn is_fenced(&self, session: SessionId) -> bool {
        self.fenced.contains(&session)
    }

    /// Whether nothing of the session's log is left to replay.
    pub(super) fn is_replayed(&self, session: SessionId) -> bool {
        self.logs.get(&session).is_none_or(BTreeMap::is_empty)
    }

    /// `by` replays the log of `dead`: what was written under a grant that `dead` still held. Whether it could.
    pub(super) fn replay(&mut self, dead: SessionId, held: &[Held], by: SessionId) -> bool {
        if self.fenced.contains(&by) {
            return false;
        }
        for (name, (value, grant)) in self.logs.remove(&dead).unwrap_or_default() {
            let still = |held: &Held| {
                held.span.contains(name) && held.mode == Mode::Exclusive && held.grant == grant
            };
            if held.iter().any(still) {
                self.values.insert(name, value);
            }
        }
        true
    }
}
