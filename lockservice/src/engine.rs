//! What the server needs of whatever replicates the table: propose, barrier, look. It knows
//! neither raft nor disk. [`Replicated`] is a hosted table; [`Direct`] is one in memory, for tests.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use world::Time;

use replica::{Host, Role};

use crate::{error::Error, message::Command, table::Table};

/// A replicated table.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Commits a command and answers what the table replied.
    async fn propose(&self, command: Command, deadline: Time) -> Result<Bytes, Error>;
    /// On return this replica led after the call, and has applied all that was committed before.
    async fn barrier(&self, deadline: Time) -> Result<(), Error>;
    /// Shows the table of this replica.
    fn look(&self, look: &mut dyn FnMut(&mut Table));
    /// The term, if this replica leads and has applied an entry of it.
    fn leading(&self) -> Option<u64>;
    /// Moves when something was applied or the role changed.
    fn moves(&self) -> BoxStream<'static, ()>;
}

/// A table in memory that is always the leader.
pub struct Direct {
    table: Mutex<Table>,
    applied: watch::Sender<u64>,
}

impl Default for Direct {
    fn default() -> Self {
        Self { table: Mutex::new(Table::new()), applied: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Engine for Direct {
    async fn propose(&self, command: Command, _: Time) -> Result<Bytes, Error> {
        let reply = self.table.lock().handle(command);
        self.applied.send_modify(|applied| *applied += 1);
        Ok(reply.encode().into())
    }

    async fn barrier(&self, _: Time) -> Result<(), Error> {
        Ok(())
    }

    fn look(&self, look: &mut dyn FnMut(&mut Table)) {
        look(&mut self.table.lock());
    }

    fn leading(&self) -> Option<u64> {
        Some(1)
    }

    fn moves(&self) -> BoxStream<'static, ()> {
        WatchStream::from_changes(self.applied.subscribe()).map(|_| ()).boxed()
    }
}

/// A table on this node of its raft group.
pub struct Replicated {
    host: Host<Table>,
    role: watch::Receiver<Role>,
}

impl Replicated {
    /// The table of `host`.
    #[must_use]
    pub fn new(host: Host<Table>) -> Self {
        let role = host.role();
        Self { host, role }
    }
}

fn failed(error: replica::Error) -> Error {
    match error {
        replica::Error::NotLeader { leader } => {
            Error::NotLeader { leader: leader.map(|node| node.0) }
        }
        error => {
            tracing::debug!(%error, "the lock group could not answer");
            Error::Unreachable
        }
    }
}

#[async_trait]
impl Engine for Replicated {
    async fn propose(&self, command: Command, deadline: Time) -> Result<Bytes, Error> {
        self.host.propose(command.encode().into(), deadline).await.map_err(failed)
    }

    async fn barrier(&self, deadline: Time) -> Result<(), Error> {
        self.host.barrier(deadline).await.map_err(failed)
    }

    fn look(&self, look: &mut dyn FnMut(&mut Table)) {
        self.host.with(|table| look(table));
    }

    fn leading(&self) -> Option<u64> {
        match *self.role.borrow() {
            Role::Leader { term, ready: true } => Some(term.0),
            _ => None,
        }
    }

    fn moves(&self) -> BoxStream<'static, ()> {
        let role = WatchStream::from_changes(self.host.role()).map(|_| ());
        let applied = WatchStream::from_changes(self.host.applied()).map(|_| ());
        futures_util::stream::select(role, applied).boxed()
    }
}
