//! The handle of a hosted state machine: start, propose, read, look, change the group, stop. The
//! protocol is the raft room's, the commands are the machine's.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use raft::{Configuration, Event, Index, Node, ReadMode, Stored};
use tokio::sync::{oneshot, watch};
use wire::NodeId;
use world::{Time, World};

use crate::{
    apply::Machine,
    checkpoint::Files,
    config::{GroupConfig, member},
    driver::{Core, Reply, Request, Shared},
    error::Error,
    founding,
    log::Recovered,
    machine::StateMachine,
    members::Change,
    runtime::{Member, Runtime, Work},
    session::{Caller, ClientId},
    status::{Role, Status},
    transport::{Inbox, Order, Transport},
};

/// A state machine on this node of its group. Cheap to clone; when the last clone is dropped the
/// node stops as if it had crashed, which loses nothing.
pub struct Host<M: StateMachine>(Arc<Handle<M>>);

struct Handle<M: StateMachine> {
    shared: Arc<Shared<M>>,
    /// The runtime is this group's alone, and stops with it.
    alone: bool,
}

impl<M: StateMachine> Clone for Host<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: StateMachine> Drop for Handle<M> {
    fn drop(&mut self) {
        self.shared.stop("it was dropped");
    }
}

impl<M: StateMachine> Host<M> {
    /// Starts this node of the group from what its directory holds, with a log and a thread of its
    /// own.
    ///
    /// # Errors
    /// As [`Host::open_on`].
    pub async fn open(
        world: &World,
        config: GroupConfig,
        machine: M,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        let (cluster, me) = (config.cluster, config.me);
        let runtime = Runtime::open(world, cluster, me, &config.dir, config.has_peers()).await?;
        Self::start(world, &runtime, config, machine, transport, true).await
    }

    /// Starts this node of the group from what the runtime's log and directory hold: the machine is
    /// restored from the checkpoint, and gets the commands behind it as soon as they are known to be
    /// committed. A group can be opened once on a runtime.
    ///
    /// A node whose log or checkpoint is damaged starts empty, takes no part in any majority, and is
    /// rebuilt by the others; one that is alone in its group is refused.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::File`] name the file, [`Error::Refused`] the setting.
    pub async fn open_on(
        world: &World,
        runtime: &Runtime,
        config: GroupConfig,
        machine: M,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        Self::start(world, runtime, config, machine, transport, false).await
    }

    async fn start(
        world: &World,
        runtime: &Runtime,
        config: GroupConfig,
        machine: M,
        transport: Arc<dyn Transport>,
        alone: bool,
    ) -> Result<Self, Error> {
        let files = Files::new(&world.disk, runtime.dir(), runtime.owner(), config.group);
        let opened = open_group(world, runtime, &config, &files).await?;
        let configuration = Configuration::of(opened.voters.iter().copied().map(member).collect());
        let mut machine = Machine::new(machine, configuration);
        if let Some(checkpoint) = &opened.stored.checkpoint {
            machine.restore(checkpoint, &files).map_err(|damaged| {
                Error::damaged(&runtime.dir().join("checkpoint"), damaged.to_string())
            })?;
        }
        let refused =
            |error: raft::Error| Error::Refused(format!("{}: {error}", config.dir.display()));
        let settings = config.raft(&opened.voters);
        let rebuilding = opened.stored.hard.rebuilding;
        let node = Node::new(settings, world.dice.roll(), opened.stored).map_err(refused)?;
        let shared = Arc::new_cyclic(|itself: &Weak<Shared<M>>| {
            let group: Weak<dyn Member> = itself.clone();
            Shared {
                world: world.clone(),
                runtime: runtime.clone(),
                transport: transport.clone(),
                core: Mutex::new(Core::new(node)),
                requests: Mutex::default(),
                outgoing: Mutex::default(),
                sending: Mutex::default(),
                steps: Mutex::new(VecDeque::new()),
                role: watch::Sender::new(Role::Follower { leader: None }),
                applied: watch::Sender::new(machine.applied.index),
                log_time: AtomicU64::new(machine.sessions.now().0),
                machine: Mutex::new(machine),
                crowded: AtomicBool::new(false),
                due: runtime.attach(config.group, group, files.clone()),
                files,
                itself: itself.clone(),
                config,
            }
        });
        shared.reached(&shared.machine.lock());
        transport.attach(shared.config.group, Arc::new(Arrivals(Arc::downgrade(&shared))));
        if rebuilding {
            let asks = founding::run(world.clone(), Arc::downgrade(&shared), opened.voters);
            world.spawn("raft founding", asks);
        }
        shared.event(Event::Wake);
        Ok(Self(Arc::new(Handle { shared, alone })))
    }

    /// Has `command` applied on all nodes; returns the machine's reply. Proposed twice, it is
    /// applied twice.
    ///
    /// # Errors
    /// [`Error::NotLeader`] and [`Error::Busy`] if it has not happened and will not; the other
    /// errors leave it open.
    pub async fn propose(&self, command: Bytes, deadline: Time) -> Result<Bytes, Error> {
        self.shared().ask(deadline, |reply| Request::Plain(command, reply)).await
    }

    /// Has `command` applied on all nodes, once however often the same call is proposed and to
    /// whomever; returns the machine's reply to the first.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Busy`], [`Error::Expired`] and [`Error::Spent`] if this try
    /// has not happened and will not; the other errors leave it open: try again, with the same
    /// number.
    pub async fn propose_once(
        &self,
        caller: Caller,
        command: Bytes,
        deadline: Time,
    ) -> Result<Bytes, Error> {
        self.shared().ask(deadline, |reply| Request::Once(caller, command, reply)).await
    }

    /// Begins a session for a client that calls [`Host::propose_once`]. Tried again after an
    /// unknown outcome it may leave a session that nobody uses, which ends by itself.
    ///
    /// # Errors
    /// As [`Host::propose`].
    pub async fn enrol(&self, deadline: Time) -> Result<ClientId, Error> {
        let mut reply = self.shared().ask(deadline, Request::Enrol).await?;
        Ok(ClientId(reply.get_u64_le()))
    }

    /// Ready when this node, as the leader, has applied everything that was acknowledged by any
    /// leader before the call: [`Host::with`] then shows no past. One round for all that wait.
    ///
    /// # Errors
    /// [`Error::NotLeader`] says whom to ask.
    pub async fn barrier(&self, deadline: Time) -> Result<(), Error> {
        let read = |reply| Request::Read { mode: ReadMode::Quorum, leader: true, reply };
        self.shared().ask(deadline, read).await
    }

    /// Ready when this node, whatever it is, has applied everything that was acknowledged by any
    /// leader before the call. By [`ReadMode::Lease`] it costs no round at a leader that was heard
    /// lately, and trusts the clocks of the group to keep to the stated drift.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if no leader is known here, or it could not answer.
    pub async fn read(&self, mode: ReadMode, deadline: Time) -> Result<(), Error> {
        let read = |reply| Request::Read { mode, leader: false, reply };
        self.shared().ask(deadline, read).await
    }

    /// Changes the group by one node. Ready when the change is committed: a new node has caught up
    /// then. Asked twice it is done once.
    ///
    /// # Errors
    /// [`Error::NotLeader`] says whom to ask, [`Error::Unchanged`] why it was given up.
    pub async fn change(&self, change: Change, deadline: Time) -> Result<(), Error> {
        self.shared().change(change, deadline).await
    }

    /// Hands leadership to another voter. Ready when it was told to take over.
    ///
    /// # Errors
    /// As [`Host::change`].
    pub async fn transfer(&self, to: NodeId, deadline: Time) -> Result<(), Error> {
        self.shared().ask(deadline, |reply| Request::Transfer(to, reply)).await
    }

    /// A look at this node's machine, as far as it has applied. `look` must be short, and must not
    /// call this host's `with`. It may change what is no replicated state (an outbox of notices).
    pub fn with<R>(&self, look: impl FnOnce(&mut M) -> R) -> R {
        let result = look(&mut self.shared().machine.lock().machine);
        // Steps that came meanwhile were left to us.
        self.shared().drain();
        result
    }

    /// What this node is, from now on.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.shared().role.subscribe()
    }

    /// How far the machine is; moves after each applied batch.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Index> {
        self.shared().applied.subscribe()
    }

    /// A look at the node.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared().status()
    }

    /// Stops the node. If the log is its own, waits until its files are closed.
    pub async fn stop(&self) {
        self.shared().stop("it was stopped");
        if self.0.alone {
            self.shared().runtime.stop().await;
        }
    }

    fn shared(&self) -> &Shared<M> {
        &self.0.shared
    }
}

impl<M: StateMachine> Shared<M> {
    /// Asks for something and waits for the answer.
    async fn ask<T>(
        &self,
        deadline: Time,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.submit(request(reply));
        match self.world.until(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.stopped()),
            Err(_) => Err(Error::Deadline),
        }
    }

    async fn change(&self, change: Change, deadline: Time) -> Result<(), Error> {
        // The addresses first: who learns of a member must know where it is.
        let mut book = self.transport.addresses();
        book.append(&mut self.machine.lock().book.clone());
        self.drain();
        match &change {
            Change::Add { node, address } => book.insert(*node, address.clone()),
            Change::Remove(node) => book.remove(node),
        };
        if let Change::Add { node, address } = &change {
            self.ask(deadline, |reply| Request::Book(book, reply)).await?;
            self.transport.learn(*node, address);
            return self.ask(deadline, |reply| Request::Change(change, reply)).await;
        }
        self.ask(deadline, |reply| Request::Change(change, reply)).await?;
        // The one that is gone is forgotten; a leader that removed itself leaves that to the next.
        match self.ask(deadline, |reply| Request::Book(book, reply)).await {
            Ok(_) | Err(Error::NotLeader { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Receives for a host without keeping it alive.
struct Arrivals<M>(Weak<Shared<M>>);

impl<M: StateMachine> Inbox for Arrivals<M> {
    fn receive(&self, message: raft::Message) {
        if let Some(shared) = self.0.upgrade() {
            shared.event(Event::Received(message));
        }
    }

    fn status(&self) -> Option<Status> {
        self.0.upgrade().map(|shared| shared.status())
    }

    fn book(&self) -> BTreeMap<NodeId, String> {
        let Some(shared) = self.0.upgrade() else { return BTreeMap::new() };
        let book = shared.machine.lock().book.clone();
        shared.drain();
        book
    }

    fn order(&self, order: Order, deadline: Time) -> BoxFuture<'static, Result<(), Error>> {
        let shared = self.0.upgrade();
        Box::pin(async move {
            let shared = shared.ok_or_else(|| Error::Stopped("it is gone".to_owned()))?;
            match order {
                Order::Change(change) => shared.change(change, deadline).await,
                Order::Transfer(to) => {
                    shared.ask(deadline, |reply| Request::Transfer(to, reply)).await
                }
            }
        })
    }
}

/// What a group starts from.
struct Opened {
    stored: Stored,
    /// The voters when the group began; none if this node joined later.
    voters: Vec<NodeId>,
}

/// Reads what is stored of a group, and brings it into a state that can be gone on from.
async fn open_group(
    world: &World,
    runtime: &Runtime,
    config: &GroupConfig,
    files: &Files,
) -> Result<Opened, Error> {
    let group = config.group;
    let Recovered { mut hard, founded, mut entries } = runtime.take(group)?;
    let place = files.clone();
    let found = world.blocking(move || place.find()).await;
    let (checkpoint, mut damaged) = match found {
        Ok(checkpoint) => (checkpoint, runtime.damage().map(str::to_owned)),
        Err(error @ Error::Damaged { .. }) if config.has_peers() => {
            files.set_aside()?;
            (None, Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let mut checkpoint = checkpoint;
    if runtime.damage().is_some() && checkpoint.is_some() {
        // Sound, but the log behind it is not: all or nothing.
        files.set_aside()?;
        checkpoint = None;
    }
    if founded.is_some() && checkpoint.is_none() && entries.first().is_some_and(|e| e.index.0 > 1) {
        damaged = damaged.or_else(|| Some("the checkpoint is missing".to_owned()));
    }
    if let Some(reason) = &damaged {
        if !config.has_peers() {
            return Err(Error::damaged(runtime.dir(), reason.clone()));
        }
        tracing::error!(%group, reason, "this node starts empty and is rebuilt by its peers");
        (hard, entries) = (raft::HardState { rebuilding: true, ..hard }, Vec::new());
    }
    let voters = founded.clone().unwrap_or_else(|| config.founders());
    if founded.is_none() && voters.len() != 1 {
        // Perhaps the first start of all or a node that joins, perhaps one that was emptied: see `founding`.
        hard.rebuilding = true;
    }
    if founded.is_none() || damaged.is_some() {
        let founders = voters.clone();
        runtime.prepare(group, |reply| Work::Found(founders, hard, reply)).await?;
    }
    if let Some(covered) = checkpoint.as_ref().map(|checkpoint| checkpoint.last) {
        // A crash between a received checkpoint and the record that empties the log leaves
        // entries that end before it or contradict it.
        let at = entries.iter().find(|entry| entry.index == covered.index);
        let contradicts = at.is_some_and(|entry| entry.term != covered.term);
        let behind = entries.last().is_some_and(|last| last.index < covered.index);
        if contradicts || behind {
            runtime.prepare(group, |reply| Work::Reset(covered, reply)).await?;
            entries.clear();
        }
        runtime.push(group, Work::Cover(covered.index));
    }
    let place = files.clone();
    let partial = world.blocking(move || place.find_incoming()).await;
    Ok(Opened { stored: Stored { hard, checkpoint, partial, entries }, voters })
}
