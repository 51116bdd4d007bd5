//! What the server needs of whatever replicates the table: propose, barrier, look. It knows
//! neither raft nor disk. [`Direct`] is a table in memory, for tests.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use world::Time;

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
