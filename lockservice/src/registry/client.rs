//! The registry's client: calls that take effect in the order in which they are made, also when
//! nobody waits between them, and that never show the past.
//!
//! One task sends what is asked, neighbouring changes together. A call answers only when every
//! watch of this client has been told of all that the answer may show.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use world::{Time, World};

use super::{
    message::{Done, Make, Node, Op, Question, Refusal, Revision, Scope, Stat, Watching, What},
    path::NodePath,
    store::{MOST_ASKED, Store},
    watch::Watch,
};
use crate::{error::Error, message::Seq, name::SessionId};

/// Calls that may wait to be sent.
const QUEUE: usize = 4096;
/// The most bytes of data of one batch.
const BATCH_BYTES: usize = 4 << 20;
/// Before something that failed is tried again.
pub(super) const BACK_OFF: Duration = Duration::from_millis(20);

/// A client of the registry, in the name of one session. Clones are the same client.
#[derive(Clone)]
pub struct Registry {
    pub(super) core: Arc<Core>,
    jobs: mpsc::Sender<Job>,
}

pub(super) struct Core {
    pub(super) world: World,
    /// The leader, wherever it is.
    changes: Arc<dyn Store>,
    /// Whom questions are put to.
    pub(super) reads: watch::Sender<Arc<dyn Store>>,
    pub(super) session: SessionId,
    patience: Duration,
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    seen: Revision,
    seq: Seq,
    /// Until where each watch was told everything.
    tides: BTreeMap<u64, Revision>,
    next: u64,
}

type Tell<T> = oneshot::Sender<Result<T, Error>>;

enum Job {
    Change(Op, Tell<Done>),
    Read(Question, Tell<Node>),
    Sync(Tell<()>),
}

impl Registry {
    /// A client in the name of `session`: its ephemeral nodes end with that. Questions go to the
    /// leader until [`Registry::read_from`]. One client a session: their changes are numbered.
    #[must_use]
    pub fn new(
        world: World,
        store: Arc<dyn Store>,
        session: SessionId,
        patience: Duration,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let core = Arc::new(Core {
            world,
            changes: Arc::clone(&store),
            reads: watch::Sender::new(store),
            session,
            patience,
            state: Mutex::default(),
            moved: Notify::new(),
        });
        // It ends when the last client is dropped, and with it the queue.
        let _ = core.world.spawn("registry", work(Arc::clone(&core), queue));
        Self { core, jobs }
    }

    /// From now on questions and watches go to `store`. What was seen at the old one is seen there.
    pub fn read_from(&self, store: Arc<dyn Store>) {
        self.core.reads.send_replace(store);
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.core.session
    }

    /// The world that it lives in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.core.world
    }

    /// How long a call takes at the most.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.core.patience
    }

    /// The last change that this client has seen or may have seen.
    #[must_use]
    pub fn seen(&self) -> Revision {
        self.core.state.lock().seen
    }

    /// Makes a change. It is in order when this returns, not when the future is awaited.
    pub fn change(&self, op: Op) -> impl Future<Output = Result<Done, Error>> + Send + 'static {
        self.ask(|tell| Job::Change(op, tell))
    }

    /// Asks a question, in order as [`Registry::change`].
    pub fn read(
        &self,
        question: Question,
    ) -> impl Future<Output = Result<Node, Error>> + Send + 'static {
        self.ask(|tell| Job::Read(question, tell))
    }

    /// On return all questions asked later see what was changed, by anybody, before the call.
    pub fn sync(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        self.ask(Job::Sync)
    }

    /// Creates a node; its path, which for a sequential one has the number.
    pub fn create(
        &self,
        path: &NodePath,
        data: impl Into<Bytes>,
        make: Make,
    ) -> impl Future<Output = Result<NodePath, Error>> + Send + 'static {
        let op = Op::Create { path: path.clone(), data: data.into(), make, version: None };
        let done = self.change(op);
        async move { done.await.map(|done| done.path) }
    }

    /// Creates a node and whatever is missing above it; nothing if it is there.
    ///
    /// # Errors
    /// As any call.
    pub async fn ensure(&self, path: &NodePath) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut at = Some(path.clone());
        while let Some(path) = at.filter(|path| path.parent().is_some()) {
            at = path.parent();
            missing.push(path);
        }
        while let Some(path) = missing.pop() {
            match self.create(&path, Bytes::new(), Make::default()).await {
                Ok(_) | Err(Error::Node { why: Refusal::Exists, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes a node, if it has the given version.
    pub fn delete(
        &self,
        path: &NodePath,
        version: Option<u64>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let done = self.change(Op::Delete { path: path.clone(), version });
        async move { done.await.map(|_| ()) }
    }

    /// Changes a node's data, if it has the given version.
    pub fn set(
        &self,
        path: &NodePath,
        data: impl Into<Bytes>,
        version: Option<u64>,
    ) -> impl Future<Output = Result<Stat, Error>> + Send + 'static {
        let done = self.change(Op::Set { path: path.clone(), data: data.into(), version });
        async move { done.await.map(|done| done.stat) }
    }

    /// A node with its data; `None` if there is none.
    pub fn get(
        &self,
        path: &NodePath,
    ) -> impl Future<Output = Result<Option<Node>, Error>> + Send + 'static {
        let question = Question { path: path.clone(), what: What::Data, version: None };
        let node = self.read(question);
        async move { there(node.await) }
    }

    /// What is known of a node; `None` if there is none.
    pub fn exists(
        &self,
        path: &NodePath,
    ) -> impl Future<Output = Result<Option<Stat>, Error>> + Send + 'static {
        let question = Question { path: path.clone(), what: What::Stat, version: None };
        let node = self.read(question);
        async move { Ok(there(node.await)?.map(|node| node.stat)) }
    }

    /// The names of a node's children, in order; none if there is no such node.
    pub fn children(
        &self,
        path: &NodePath,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send + 'static {
        let question = Question { path: path.clone(), what: What::Children, version: None };
        let node = self.read(question);
        async move { Ok(there(node.await)?.map(|node| node.children).unwrap_or_default()) }
    }

    /// Watches from now on. For one change take one from it and drop it. Whatever changes after
    /// this returned, it tells before any call of this client answers with it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no server took it.
    pub async fn watch(&self, path: &NodePath, scope: Scope) -> Result<Watch, Error> {
        Watch::open(Arc::clone(&self.core), path, scope).await
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Tell<T>) -> Job,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let (tell, told) = oneshot::channel();
        let taken = self.jobs.try_send(job(tell)).is_ok();
        async move {
            if !taken {
                return Err(Error::Full);
            }
            told.await.unwrap_or(Err(Error::Closed))
        }
    }
}

fn there(node: Result<Node, Error>) -> Result<Option<Node>, Error> {
    match node {
        Ok(node) => Ok(Some(node)),
        Err(Error::Node { why: Refusal::NoNode, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does what is asked, in order.
async fn work(core: Arc<Core>, mut queue: mpsc::Receiver<Job>) {
    let mut next = queue.recv().await;
    while let Some(job) = next.take() {
        match job {
            Job::Change(op, tell) => {
                let (mut ops, mut tells) = (vec![op], vec![tell]);
                let mut bytes = weight(&ops[0]);
                while ops.len() < MOST_ASKED && bytes < BATCH_BYTES && next.is_none() {
                    match queue.try_recv() {
                        Ok(Job::Change(op, tell)) => {
                            bytes += weight(&op);
                            ops.push(op);
                            tells.push(tell);
                        }
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                let paths: Vec<NodePath> = ops.iter().map(|op| place(op).clone()).collect();
                answer(core.change(&ops).await, paths, tells);
            }
            Job::Read(question, tell) => {
                let (mut questions, mut tells) = (vec![question], vec![tell]);
                while questions.len() < MOST_ASKED && next.is_none() {
                    match queue.try_recv() {
                        Ok(Job::Read(question, tell)) => {
                            questions.push(question);
                            tells.push(tell);
                        }
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                let paths = questions.iter().map(|question| question.path.clone()).collect();
                answer(core.read(&questions).await, paths, tells);
            }
            Job::Sync(tell) => {
                // Nobody may wait any more.
                let _ = tell.send(core.sync().await);
            }
        }
        if next.is_none() {
            next = queue.recv().await;
        }
    }
}

fn place(op: &Op) -> &NodePath {
    match op {
        Op::Create { path, .. } | Op::Delete { path, .. } | Op::Set { path, .. } => path,
    }
}

fn weight(op: &Op) -> usize {
    match op {
        Op::Create { data, .. } | Op::Set { data, .. } => data.len(),
        Op::Delete { .. } => 0,
    }
}

fn answer<T>(
    results: Result<Vec<Result<T, Refusal>>, Error>,
    paths: Vec<NodePath>,
    tells: Vec<Tell<T>>,
) {
    let mut results = match results {
        Ok(results) => results.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => tells.iter().map(|_| Err(error.clone())).collect(),
    }
    .into_iter();
    for (tell, path) in tells.into_iter().zip(paths) {
        let result = match results.next() {
            Some(Ok(Ok(done))) => Ok(done),
            Some(Ok(Err(why))) => Err(Error::Node { path, why }),
            Some(Err(error)) => Err(error),
            None => Err(Error::Protocol("fewer answers than questions".to_owned())),
        };
        // Nobody may wait any more.
        let _ = tell.send(result);
    }
}

impl Core {
    pub(super) fn deadline(&self) -> Time {
        self.world.clock.now() + self.patience
    }

    /// Calls until there is an answer, or the deadline.
    pub(super) async fn persist<T, F>(
        &self,
        deadline: Time,
        call: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            match self.world.until(deadline, call()).await {
                Ok(Err(Error::Unreachable | Error::NotLeader { .. })) => {
                    if self.world.clock.now() >= deadline {
                        return Err(Error::Unreachable);
                    }
                    self.world.clock.sleep(BACK_OFF).await;
                }
                Ok(result) => return result,
                Err(_) => return Err(Error::Unreachable),
            }
        }
    }

    async fn change(&self, ops: &[Op]) -> Result<Vec<Result<Done, Refusal>>, Error> {
        let deadline = self.deadline();
        let seq = {
            let mut state = self.state.lock();
            state.seq.0 += 1;
            state.seq
        };
        let call = || self.changes.change(self.session, seq, ops, deadline);
        let changed = self.persist(deadline, call).await?;
        self.show(changed.revision, deadline).await?;
        Ok(changed.results)
    }

    async fn read(&self, questions: &[Question]) -> Result<Vec<Result<Node, Refusal>>, Error> {
        let deadline = self.deadline();
        let seen = self.state.lock().seen;
        let call = || {
            let reads = self.reads.borrow().clone();
            async move { reads.read(questions, seen, deadline).await }
        };
        let answers = self.persist(deadline, call).await?;
        self.show(answers.revision, deadline).await?;
        Ok(answers.results)
    }

    async fn sync(&self) -> Result<(), Error> {
        let deadline = self.deadline();
        let revision = self.persist(deadline, || self.changes.sync(deadline)).await?;
        self.show(revision, deadline).await
    }

    /// Notes that an answer shows `revision`, and waits until every watch was told of all of it.
    async fn show(&self, revision: Revision, deadline: Time) -> Result<(), Error> {
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.state.lock();
                state.seen = state.seen.max(revision);
                if state.tides.values().all(|tide| *tide >= revision) {
                    return Ok(());
                }
            }
            if self.world.until(deadline, moved).await.is_err() {
                return Err(Error::Unreachable);
            }
        }
    }

    /// A new watch that has been told everything until `tide`.
    pub(super) fn enter(&self, tide: Revision) -> u64 {
        let mut state = self.state.lock();
        state.next += 1;
        let number = state.next;
        state.tides.insert(number, tide);
        state.seen = state.seen.max(tide);
        number
    }

    /// A watch has been told everything until `tide`.
    pub(super) fn rise(&self, number: u64, tide: Revision) {
        {
            let mut state = self.state.lock();
            if let Some(known) = state.tides.get_mut(&number) {
                *known = tide.max(*known);
            }
        }
        self.moved.notify_waiters();
    }

    /// A watch is gone.
    pub(super) fn leave(&self, number: u64) {
        self.state.lock().tides.remove(&number);
        self.moved.notify_waiters();
    }

    /// What a watch must not be older than.
    pub(super) fn floor(&self) -> Revision {
        self.state.lock().seen
    }

    /// What a watch is opened with.
    pub(super) fn watching(path: &NodePath, scope: Scope, since: Option<Revision>) -> Watching {
        Watching { path: path.clone(), scope, since }
    }
}
