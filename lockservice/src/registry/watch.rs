//! A watch of a client: what it was told and nobody has taken yet, and the task that listens.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt, future::Either};
use parking_lot::Mutex;
use tokio::sync::Notify;
use world::{Task, Time};

use super::{
    client::{BACK_OFF, Core},
    message::{Change, Happened, Revision, Scope, Tidings},
    path::NodePath,
    store::{Store, TidingsStream},
};
use crate::error::Error;

/// How many changes wait to be taken before they are summed up as one [`Happened::Resumed`].
const MOST_WAITING: usize = 1024;

/// Tells of changes of the registry. It ends when it is dropped.
pub struct Watch {
    core: Arc<Core>,
    inbox: Arc<Inbox>,
    number: u64,
    task: Task,
}

struct Inbox {
    path: NodePath,
    changes: Mutex<VecDeque<Change>>,
    arrived: Notify,
}

impl Inbox {
    fn put(&self, tidings: Tidings) {
        if tidings.changes.is_empty() {
            return;
        }
        let mut changes = self.changes.lock();
        changes.extend(tidings.changes);
        if changes.len() > MOST_WAITING {
            changes.clear();
            let (revision, path) = (tidings.tide, self.path.clone());
            changes.push_back(Change { revision, path, happened: Happened::Resumed });
        }
        drop(changes);
        self.arrived.notify_one();
    }
}

impl Watch {
    pub(super) async fn open(
        core: Arc<Core>,
        path: &NodePath,
        scope: Scope,
    ) -> Result<Self, Error> {
        let deadline = core.deadline();
        let call = || async {
            let store = core.reads.borrow().clone();
            let mut stream = listen(&core, &store, (path, scope, None), deadline).await?;
            let first = stream.next().await.ok_or(Error::Unreachable)?;
            Ok((stream, first))
        };
        let (stream, first) = core.persist(deadline, call).await?;
        let (changes, arrived) = (Mutex::default(), Notify::new());
        let inbox = Arc::new(Inbox { path: path.clone(), changes, arrived });
        let number = core.enter(first.tide);
        let follow =
            follow(Arc::clone(&core), Arc::clone(&inbox), (number, scope), (stream, first.tide));
        let task = core.world.spawn("registry-watch", follow);
        Ok(Self { core, inbox, number, task })
    }

    /// The next change; waits for it until `deadline`.
    ///
    /// # Errors
    /// [`Error::Deadline`] if there was none.
    pub async fn next(&self, deadline: Time) -> Result<Change, Error> {
        loop {
            let arrived = self.inbox.arrived.notified();
            if let Some(change) = self.ready() {
                return Ok(change);
            }
            if self.core.world.until(deadline, arrived).await.is_err() {
                return Err(Error::Deadline);
            }
        }
    }

    /// The next change, if it was told already.
    #[must_use]
    pub fn ready(&self) -> Option<Change> {
        self.inbox.changes.lock().pop_front()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
        self.core.leave(self.number);
    }
}

async fn listen(
    core: &Core,
    store: &Arc<dyn Store>,
    (path, scope, since): (&NodePath, Scope, Option<Revision>),
    deadline: Time,
) -> Result<TidingsStream, Error> {
    let watching = Core::watching(path, scope, since);
    store.watch(watching, core.floor().max(since.unwrap_or_default()), deadline).await
}

/// Listens, and listens again when the stream ends or the client moves to another server.
async fn follow(
    core: Arc<Core>,
    inbox: Arc<Inbox>,
    (number, scope): (u64, Scope),
    (mut stream, mut tide): (TidingsStream, Revision),
) {
    let mut reads = core.reads.subscribe();
    loop {
        loop {
            let moved = std::pin::pin!(reads.changed());
            match futures_util::future::select(stream.next(), moved).await {
                Either::Left((Some(tidings), _)) => {
                    tide = tide.max(tidings.tide);
                    inbox.put(tidings);
                    core.rise(number, tide);
                }
                Either::Left((None, _)) | Either::Right(_) => break,
            }
        }
        stream = loop {
            let store = reads.borrow_and_update().clone();
            let deadline = core.deadline();
            let again = listen(&core, &store, (&inbox.path, scope, Some(tide)), deadline);
            match core.world.until(deadline, again).await {
                Ok(Ok(stream)) => break stream,
                Ok(Err(error)) => tracing::debug!(%error, "cannot watch the registry yet"),
                Err(_) => {}
            }
            core.world.clock.sleep(BACK_OFF).await;
        };
    }
}
