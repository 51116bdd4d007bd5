//! What `plumeria status` shows of each role, as table cells and as JSON.

use std::time::Duration;

use blockstore::map::{ServerInfo, ServerState};
use serde_json::{Value, json};

use crate::output;

/// A coordinator's replica of one group.
pub(crate) struct CoordinatorRow {
    pub(crate) node: u64,
    pub(crate) address: String,
    pub(crate) group: String,
    /// `None` if the coordinator does not answer.
    pub(crate) status: Option<replica::Status>,
}

impl CoordinatorRow {
    fn state(&self) -> &'static str {
        match self.status.as_ref().map(|status| status.role) {
            Some(replica::Role::Leader { .. }) => "leader",
            Some(_) if self.status.as_ref().is_some_and(|status| status.rebuilding) => "rebuilding",
            Some(replica::Role::Follower { .. }) => "follower",
            Some(replica::Role::Candidate) => "candidate",
            Some(replica::Role::Stopped) | None => "down",
        }
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let number = |of: &dyn Fn(&replica::Status) -> u64| {
            self.status.as_ref().map_or_else(|| "-".to_owned(), |status| of(status).to_string())
        };
        vec![
            self.node.to_string(),
            self.group.clone(),
            self.state().to_owned(),
            number(&|status| status.term.0),
            number(&|status| status.applied.0),
            self.address.clone(),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let status = self.status.as_ref();
        json!({
            "node": self.node,
            "group": self.group,
            "address": self.address,
            "state": self.state(),
            "leader": status.and_then(|status| status.leader).map(|node| node.0),
            "term": status.map(|status| status.term.0),
            "commit": status.map(|status| status.commit.0),
            "applied": status.map(|status| status.applied.0),
            "stopped": status.and_then(|status| status.stopped.clone()),
        })
    }
}

/// A block server.
pub(crate) struct ServerRow(pub(crate) ServerInfo);

impl ServerRow {
    fn state(&self) -> &'static str {
        match self.0.state {
            ServerState::Expected => "never seen",
            ServerState::Up => "up",
            ServerState::Equalizing => "equalizing",
            ServerState::Suspect => "suspect",
            ServerState::Draining => "draining",
            ServerState::Down => "down",
        }
    }

    fn address(&self) -> String {
        self.0.address.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let space = self.0.space;
        vec![
            self.0.server.0.to_string(),
            self.state().to_owned(),
            output::bytes(space.free),
            output::bytes(space.total),
            output::seconds(self.0.lease_left),
            self.0.incarnation.0.to_string(),
            self.address(),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "node": self.0.server.0,
            "address": self.address(),
            "state": self.state(),
            "incarnation": self.0.incarnation.0,
            "lease_left_ms": millis(self.0.lease_left),
            "total_bytes": self.0.space.total,
            "free_bytes": self.0.space.free,
            "dirty_bytes": self.0.dirty_bytes,
            "groups": self.0.groups,
            "unequal_groups": self.0.unequal,
            "missing_groups": self.0.missing,
            "missing_bytes": self.0.owed,
            "bytes_per_second": self.0.pace,
            "weight": self.0.weight,
            "domain": self.0.domain,
        })
    }

    /// What it keeps and what is on its way to it.
    pub(crate) fn placement(&self) -> Vec<String> {
        let (owed, pace) = (self.0.owed, self.0.pace);
        let eta = match (owed, pace) {
            (0, _) => "-".to_owned(),
            (_, 0) => "?".to_owned(),
            (owed, pace) => output::seconds(Duration::from_secs_f64(owed as f64 / pace as f64)),
        };
        vec![
            self.0.server.0.to_string(),
            self.state().to_owned(),
            self.0.groups.to_string(),
            self.0.missing.to_string(),
            output::bytes(owed),
            eta,
            self.0.weight.to_string(),
            if self.0.domain.is_empty() { "-".to_owned() } else { self.0.domain.clone() },
            output::bytes(self.0.space.free),
            output::bytes(self.0.space.total),
            self.address(),
        ]
    }
}

/// A session of the lock service: a mount, a worker or a tool.
pub(crate) struct SessionRow {
    pub(crate) session: u64,
    pub(crate) kind: String,
    /// Host and mount point.
    pub(crate) place: String,
    pub(crate) live: bool,
    pub(crate) lease_left: Duration,
    pub(crate) locks: u64,
    /// What the session reported of itself.
    pub(crate) numbers: Value,
}

impl From<lockservice::message::SessionRow> for SessionRow {
    fn from(row: lockservice::message::SessionRow) -> Self {
        let numbers: Value = serde_json::from_str(&row.report).unwrap_or(Value::Null);
        let at = numbers["mountpoint"].as_str().unwrap_or(&row.client.owner);
        Self {
            session: row.session.0,
            kind: row.client.kind.to_string(),
            place: format!("{}:{at}", row.client.host),
            live: row.live,
            lease_left: row.lease_left,
            locks: row.spans,
            numbers,
        }
    }
}

impl SessionRow {
    fn state(&self) -> &'static str {
        match (self.live, self.lease_left.is_zero()) {
            (true, false) => "live",
            (true, true) => "silent",
            (false, _) => "expired",
        }
    }

    /// Whether it is a mount that may still have something to write back.
    pub(crate) fn is_live_mount(&self) -> bool {
        self.live && self.kind == "mount"
    }

    /// Whether `plumeria dev` started it and so stops it.
    pub(crate) fn belongs_to_dev(&self) -> bool {
        self.numbers["dev"].as_bool().unwrap_or(false)
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let dirty = self.numbers["dirty_bytes"].as_u64();
        vec![
            self.session.to_string(),
            self.state().to_owned(),
            output::seconds(self.lease_left),
            dirty.map_or_else(|| "-".to_owned(), output::bytes),
            self.locks.to_string(),
            self.place.clone(),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "session": self.session,
            "kind": self.kind,
            "place": self.place,
            "state": self.state(),
            "lease_left_ms": millis(self.lease_left),
            "locks": self.locks,
            "numbers": self.numbers,
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
