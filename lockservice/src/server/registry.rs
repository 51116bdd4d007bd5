//! The registry of one coordinator: changes through the log, questions from this replica's state.

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use world::Time;

use super::Server;
use crate::{
    error::Error,
    message::{Command, Reply, Seq},
    name::SessionId,
    registry::{Answers, Changed, Op, Question, Revision, Store, TidingsStream, Watching},
};

impl Server {
    /// Waits until this replica's registry is at `seen` or later.
    async fn catch_up(&self, seen: Revision, deadline: Time) -> Result<(), Error> {
        loop {
            let changed = self.changed.notified();
            if self.look(|table| table.tree().revision()) >= seen {
                return Ok(());
            }
            if self.world.until(deadline, changed).await.is_err() {
                return Err(Error::Unreachable);
            }
        }
    }
}

#[async_trait]
impl Store for Server {
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        deadline: Time,
    ) -> Result<Changed, Error> {
        let command = Command::Tree { session, seq, ops: ops.to_vec() };
        match self.propose(command, deadline).await? {
            Reply::Tree(changed) => Ok(changed),
            other => Err(Error::Protocol(format!("{other:?} to changes of the registry"))),
        }
    }

    async fn read(
        &self,
        questions: &[Question],
        seen: Revision,
        deadline: Time,
    ) -> Result<Answers, Error> {
        self.catch_up(seen, deadline).await?;
        Ok(self.look(|table| {
            let tree = table.tree();
            let results = questions.iter().map(|question| tree.read(question)).collect();
            Answers { revision: tree.revision(), results }
        }))
    }

    async fn sync(&self, deadline: Time) -> Result<Revision, Error> {
        self.engine.barrier(deadline).await?;
        Ok(self.look(|table| table.tree().revision()))
    }

    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        deadline: Time,
    ) -> Result<TidingsStream, Error> {
        self.catch_up(seen, deadline).await?;
        let mut inner = self.inner.lock();
        let mut stream = None;
        self.engine.look(&mut |table| {
            stream = inner.watchers.add(table.tree_mut(), watching.clone());
        });
        stream.map(|receiver| ReceiverStream::new(receiver).boxed()).ok_or(Error::Full)
    }
}
