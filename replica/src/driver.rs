//! Drives one [`raft::Node`]: events go in under one lock, effects come out in order. Persists go
//! to the runtime's thread, messages to the transport, everything that touches the state machine or
//! answers a caller to the apply queue.
//!
//! No lock is held while a message is sent or a command is applied. What callers ask for waits in
//! a queue while the disk is busy with this group's last batch, and then goes in as one batch:
//! one persist, one append per follower. What the disk or the machine does is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{Checkpoint, Effect, Event, Index, Message, Node, ReadMode, Sequence, Term, Ticket};
use tokio::sync::{oneshot, watch};
use wire::NodeId;
use world::{Time, World};

use crate::{
    apply::{Machine, Step},
    checkpoint::Files,
    command::Command,
    config::{GroupConfig, member, node},
    error::Error,
    machine::StateMachine,
    members::Change,
    runtime::{Member, Runtime, Work},
    session::{Caller, LogTime},
    status::{Follower, Role, Status},
    transport::Transport,
};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Everything that the handles of one host share.
pub(crate) struct Shared<M> {
    pub(crate) world: World,
    pub(crate) config: GroupConfig,
    pub(crate) runtime: Runtime,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) core: Mutex<Core>,
    /// What callers ask for.
    pub(crate) requests: Mutex<Requests>,
    /// Messages on their way to the transport, in order.
    pub(crate) outgoing: Mutex<VecDeque<Message>>,
    /// Held by whoever hands them over.
    pub(crate) sending: Mutex<()>,
    /// What is to be done with the machine, in order.
    pub(crate) steps: Mutex<VecDeque<Step>>,
    pub(crate) machine: Mutex<Machine<M>>,
    pub(crate) files: Files,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) applied: watch::Sender<Index>,
    /// The newest stamp that was applied, in milliseconds of log time.
    pub(crate) log_time: AtomicU64,
    /// A checkpoint is to be taken although few entries came since the last.
    pub(crate) crowded: AtomicBool,
    /// When the timer is to wake this group.
    pub(crate) due: Arc<AtomicU64>,
    /// For work that outlives a call.
    pub(crate) itself: Weak<Self>,
}

/// What waits for the node.
#[derive(Default)]
pub(crate) struct Requests {
    /// Commands: while the disk is busy they wait, and become one batch.
    commands: Vec<Request>,
    /// All others: a read does not wait for a disk.
    others: Vec<Request>,
}

impl Requests {
    fn clear(&mut self) {
        self.commands.clear();
        self.others.clear();
    }
}

/// What a caller asks for.
pub(crate) enum Request {
    Plain(Bytes, Reply<Bytes>),
    Once(Caller, Bytes, Reply<Bytes>),
    Enrol(Reply<Bytes>),
    /// Notes where nodes are reached.
    Book(BTreeMap<NodeId, String>, Reply<Bytes>),
    Read {
        mode: ReadMode,
        /// Only to be answered by the leader.
        leader: bool,
        reply: Reply<()>,
    },
    Change(Change, Reply<()>),
    Transfer(NodeId, Reply<()>),
}

/// The node and those who wait for it.
pub(crate) struct Core {
    pub(crate) node: Node,
    next_ticket: u64,
    proposals: BTreeMap<Ticket, Reply<Bytes>>,
    reads: BTreeMap<Ticket, (Reply<()>, bool)>,
    orders: BTreeMap<Ticket, Reply<()>>,
    /// Proposals that have their place in the log.
    placed: BTreeMap<Index, Waiter>,
    /// Where this node, as leader, began to count log time.
    counting: (LogTime, Time),
    role: raft::Role,
    /// The last persists given out and reported: the disk is busy while they differ.
    issued: Sequence,
    stored: Sequence,
    /// Nothing is let in: another node takes this one's place.
    pub(crate) paused: bool,
    pub(crate) stopped: Option<String>,
}

/// A caller who waits for the entry of this term at an index.
pub(crate) struct Waiter {
    pub(crate) term: Term,
    pub(crate) reply: Reply<Bytes>,
}

impl Core {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            next_ticket: 1,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            orders: BTreeMap::new(),
            placed: BTreeMap::new(),
            counting: (LogTime::default(), Time::ZERO),
            role: raft::Role::Follower { leader: None },
            issued: Sequence::default(),
            stored: Sequence::default(),
            paused: false,
            stopped: None,
        }
    }

    /// Goes on with another node, which has nothing under way.
    pub(crate) fn replace(&mut self, node: Node) {
        self.node = node;
        (self.issued, self.stored) = (Sequence::default(), Sequence::default());
        self.paused = false;
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// The stamp of a command that is proposed now.
    fn stamp(&self, now: Time) -> LogTime {
        let (from, since) = self.counting;
        let counted = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        LogTime(from.0.saturating_add(counted))
    }

    /// Whether the disk is at work for this group.
    fn is_busy(&self) -> bool {
        self.issued > self.stored
    }

    fn leads(&self) -> bool {
        matches!(self.role, raft::Role::Leader { .. })
    }

    fn leader(&self) -> Option<NodeId> {
        match self.role {
            raft::Role::Follower { leader } => leader.map(node),
            _ => None,
        }
    }

    fn propose(&mut self, now: Time, command: &Command, reply: Reply<Bytes>) {
        let ticket = self.ticket();
        self.proposals.insert(ticket, reply);
        let command = command.encode();
        self.node.handle(now.as_duration(), Event::Propose { ticket, command });
    }

    fn take(&mut self, now: Time, request: Request, steps: &mut Vec<Step>) {
        let at = now.as_duration();
        match request {
            Request::Plain(command, reply) => self.propose(now, &Command::Plain(command), reply),
            Request::Once(caller, command, reply) => {
                self.propose(now, &Command::Call(self.stamp(now), caller, command), reply);
            }
            Request::Enrol(reply) => self.propose(now, &Command::Enrol(self.stamp(now)), reply),
            Request::Book(book, reply) => self.propose(now, &Command::Book(book), reply),
            Request::Read { leader: true, reply, .. } if !self.leads() => {
                let leader = self.leader();
                steps.push(Step::Answer(reply, Err(Error::NotLeader { leader })));
            }
            Request::Read { mode, leader, reply } => {
                let ticket = self.ticket();
                self.reads.insert(ticket, (reply, leader));
                self.node.handle(at, Event::Read { ticket, mode });
            }
            Request::Change(change, reply) => {
                let ticket = self.ticket();
                self.orders.insert(ticket, reply);
                let target = change.target(&self.node.status().configuration);
                self.node.handle(at, Event::Change { ticket, target });
            }
            Request::Transfer(to, reply) => {
                let ticket = self.ticket();
                self.orders.insert(ticket, reply);
                self.node.handle(at, Event::Transfer { ticket, to: member(to) });
            }
        }
    }
}

impl<M: StateMachine> Shared<M> {
    /// Tells the node what happened and does what follows.
    pub(crate) fn event(&self, event: Event) {
        self.with_core(|core, now| core.node.handle(now.as_duration(), event));
    }

    /// Asks for something; the answer comes by the request's channel.
    pub(crate) fn submit(&self, request: Request) {
        {
            let mut requests = self.requests.lock();
            match request {
                Request::Plain(..) | Request::Once(..) | Request::Enrol(_) => {
                    requests.commands.push(request);
                }
                Request::Book(..)
                | Request::Read { .. }
                | Request::Change(..)
                | Request::Transfer(..) => requests.others.push(request),
            }
        }
        self.serve();
    }

    /// Takes what was asked for, unless the disk is busy or another thread is at it; both look
    /// again when they are done.
    fn serve(&self) {
        loop {
            let (commands, others) = {
                let requests = self.requests.lock();
                (!requests.commands.is_empty(), !requests.others.is_empty())
            };
            if !commands && !others {
                return;
            }
            {
                let Some(mut core) = self.core.try_lock() else { return };
                if core.stopped.is_some() {
                    // Dropped, which those who wait will notice.
                    self.requests.lock().clear();
                    return;
                }
                if core.paused || (core.is_busy() && !others) {
                    return;
                }
                self.pump(&mut core);
            }
            self.drain();
        }
    }

    /// Runs `act` and then all effects. After a stop nothing is run.
    fn with_core(&self, act: impl FnOnce(&mut Core, Time)) {
        {
            let mut core = self.core.lock();
            if core.stopped.is_some() || core.paused {
                return;
            }
            act(&mut core, self.world.clock.now());
            self.pump(&mut core);
        }
        self.drain();
        self.serve();
    }

    fn pump(&self, core: &mut Core) {
        let mut steps = Vec::new();
        self.effects(core, &mut steps);
        if core.stopped.is_none() {
            let (mut taken, commands) = {
                let mut requests = self.requests.lock();
                let others = std::mem::take(&mut requests.others);
                let commands = if core.is_busy() {
                    Vec::new()
                } else {
                    std::mem::take(&mut requests.commands)
                };
                (others, commands)
            };
            taken.extend(commands);
            if !taken.is_empty() {
                let now = self.world.clock.now();
                for request in taken {
                    core.take(now, request, &mut steps);
                }
                self.effects(core, &mut steps);
            }
        }
        if !steps.is_empty() {
            self.steps.lock().extend(steps);
        }
        let due = core.node.deadline().map_or(Time::NEVER, |due| self.rounded(core, time(due)));
        self.due.store(due.0, Ordering::SeqCst);
        self.runtime.arm(due);
    }

    /// Wake-ups on a common grid: all groups that lead beat at the same moments, so that their
    /// messages travel together and the process sleeps in between.
    fn rounded(&self, core: &Core, due: Time) -> Time {
        let beat = self.config.heartbeat;
        // A little more than the beat, so that a group that beat a moment late is not put off by a
        // whole step. Elections keep their own moments: they must not coincide.
        let grid = if core.leads() { beat + beat / 10 } else { beat / 16 };
        let grid = u64::try_from(grid.as_nanos()).unwrap_or(1).max(1);
        Time(due.0.div_ceil(grid).saturating_mul(grid))
    }

    fn effects(&self, core: &mut Core, steps: &mut Vec<Step>) {
        while let Some(effect) = core.node.poll() {
            if let Effect::Halted(reason) = effect {
                return self.stop_core(core, reason, steps);
            }
            self.effect(core, effect, steps);
        }
    }

    fn effect(&self, core: &mut Core, effect: Effect, steps: &mut Vec<Step>) {
        let group = self.config.group;
        match effect {
            Effect::Persist(persist) => {
                core.issued = persist.sequence;
                self.runtime.push(group, Work::Persist(persist));
            }
            Effect::Trim(index) => self.runtime.push(group, Work::Trim(index)),
            Effect::Send(message) => self.outgoing.lock().push_back(message),
            Effect::Apply(entries) => {
                let placed = &mut core.placed;
                let entries = entries.into_iter().map(|entry| {
                    let waiter = placed.remove(&entry.index);
                    (entry, waiter)
                });
                steps.push(Step::Apply(entries.collect()));
            }
            Effect::Restore(checkpoint) => {
                let later = core.placed.split_off(&checkpoint.last.index.next());
                let covered = std::mem::replace(&mut core.placed, later);
                steps.push(Step::Restore(checkpoint));
                let covered = covered.into_values();
                steps.extend(covered.map(|waiter| Step::Reply(waiter.reply, Error::Covered)));
            }
            Effect::ReadChunk { to, checkpoint, offset, limit } => {
                self.read_chunk(to, checkpoint, offset, limit);
            }
            Effect::Accepted { ticket, index, term } => {
                if let Some(reply) = core.proposals.remove(&ticket) {
                    let before = core.placed.insert(index, Waiter { term, reply });
                    // The place was another leader's before; its entry is gone for good.
                    let lost = Error::NotLeader { leader: None };
                    steps.extend(before.map(|waiter| Step::Reply(waiter.reply, lost)));
                }
            }
            Effect::ProposalRefused { ticket, leader, why } => {
                let reply = core.proposals.remove(&ticket);
                steps.extend(reply.map(|reply| Step::Reply(reply, Error::refused(why, leader))));
            }
            Effect::ReadReady { ticket, .. } => {
                if let Some((reply, leader)) = core.reads.remove(&ticket) {
                    let deposed = leader && !core.leads();
                    let not = Error::NotLeader { leader: core.leader() };
                    steps.push(Step::Answer(reply, if deposed { Err(not) } else { Ok(()) }));
                }
            }
            Effect::ReadRefused { ticket, leader } => {
                let leader = leader.map(node);
                if let Some((reply, _)) = core.reads.remove(&ticket) {
                    steps.push(Step::Answer(reply, Err(Error::NotLeader { leader })));
                }
            }
            Effect::Changed { ticket, .. } | Effect::Transferred { ticket } => {
                steps.extend(core.orders.remove(&ticket).map(|reply| Step::Answer(reply, Ok(()))));
            }
            Effect::ChangeRefused { ticket, leader, why }
            | Effect::TransferRefused { ticket, leader, why } => {
                let answer = Err(Error::refused(why, leader));
                steps.extend(core.orders.remove(&ticket).map(|reply| Step::Answer(reply, answer)));
            }
            Effect::Role { term, role } => steps.push(Step::Role(self.role(core, term, role))),
            Effect::Halted(_) => {}
        }
    }

    fn role(&self, core: &mut Core, term: Term, role: raft::Role) -> Role {
        core.role = role;
        if role == (raft::Role::Leader { ready: false }) {
            let reached = LogTime(self.log_time.load(Ordering::Relaxed));
            core.counting = (reached, self.world.clock.now());
        }
        match role {
            raft::Role::Follower { leader } => Role::Follower { leader: leader.map(node) },
            raft::Role::Candidate => Role::Candidate,
            raft::Role::Leader { ready } => Role::Leader { term, ready },
        }
    }

    /// Reads a piece of the checkpoint in use for a member that lags, on another thread.
    fn read_chunk(&self, to: raft::MemberId, checkpoint: Checkpoint, offset: u64, limit: u64) {
        let Some(shared) = self.itself.upgrade() else { return };
        self.world.tasks.blocking(Box::new(move || {
            match shared.files.piece(&checkpoint, offset, limit) {
                Ok(Some(chunk)) => shared.event(Event::ChunkRead { to, chunk }),
                Ok(None) => shared.event(Event::ChunkGone { to, checkpoint }),
                Err(error) => {
                    tracing::error!(group = %shared.config.group, %error, "cannot send a checkpoint");
                    shared.event(Event::ChunkGone { to, checkpoint });
                }
            }
        }));
    }

    /// Takes no part any more, and says why: to those who wait, in the role, in the status.
    pub(crate) fn stop(&self, reason: &str) {
        {
            let mut core = self.core.lock();
            if core.stopped.is_some() {
                return;
            }
            let mut steps = Vec::new();
            self.stop_core(&mut core, reason, &mut steps);
            self.steps.lock().extend(steps);
        }
        self.drain();
    }

    fn stop_core(&self, core: &mut Core, reason: &str, steps: &mut Vec<Step>) {
        core.stopped = Some(reason.to_owned());
        let stopped = || Error::Stopped(reason.to_owned());
        let replies = std::mem::take(&mut core.proposals).into_values();
        let placed = std::mem::take(&mut core.placed).into_values().map(|waiter| waiter.reply);
        steps.extend(replies.chain(placed).map(|reply| Step::Reply(reply, stopped())));
        let reads = std::mem::take(&mut core.reads).into_values().map(|(reply, _)| reply);
        let orders = std::mem::take(&mut core.orders).into_values();
        steps.extend(reads.chain(orders).map(|reply| Step::Answer(reply, Err(stopped()))));
        steps.push(Step::Role(Role::Stopped));
        // Dropped, which those who wait will notice.
        self.requests.lock().clear();
        self.outgoing.lock().clear();
        self.transport.detach(self.config.group);
        self.runtime.detach(self.config.group);
        self.files.close();
    }

    /// Why the host has stopped.
    pub(crate) fn stopped(&self) -> Error {
        let reason = self.core.lock().stopped.clone();
        Error::Stopped(reason.unwrap_or_else(|| "it is being dropped".to_owned()))
    }

    /// Hands messages to the transport, unless another thread is at it, which then looks again.
    pub(crate) fn send(&self) {
        while !self.outgoing.lock().is_empty() {
            let Some(_sending) = self.sending.try_lock() else { return };
            // One at a time: an answer that comes back on this thread finds the queue free.
            let next = || self.outgoing.lock().pop_front();
            while let Some(message) = next() {
                let to = node(message.to);
                self.transport.send(self.config.group, to, message);
            }
        }
    }

    pub(crate) fn status(&self) -> Status {
        let core = self.core.lock();
        let status = core.node.status();
        let mut role = *self.role.borrow();
        if core.stopped.is_some() {
            role = Role::Stopped;
        }
        let nodes = |members: &[raft::MemberId]| members.iter().copied().map(node).collect();
        Status {
            group: self.config.group,
            me: self.config.me,
            role,
            term: status.term,
            leader: status.leader.map(node).filter(|_| core.stopped.is_none()),
            voters: nodes(&status.configuration.voters),
            outgoing: nodes(&status.configuration.outgoing),
            learners: nodes(&status.configuration.learners),
            last: status.last,
            commit: status.commit,
            applied: *self.applied.borrow(),
            checkpoint: status.checkpoint,
            log_bytes: self.runtime.bytes(),
            rebuilding: status.rebuilding,
            followers: status
                .followers
                .iter()
                .map(|follower| Follower {
                    node: node(follower.id),
                    voter: follower.voter,
                    matched: follower.matched,
                    chunks: follower.chunks,
                    rebuilding: follower.rebuilding,
                })
                .collect(),
            stopped: core.stopped.clone(),
        }
    }
}

impl<M: StateMachine> Member for Shared<M> {
    fn persisted(&self, sequence: Sequence) {
        self.with_core(|core, now| {
            core.stored = core.stored.max(sequence);
            core.node.handle(now.as_duration(), Event::Persisted(sequence));
        });
    }

    fn damaged(&self, checkpoint: Checkpoint) {
        self.event(Event::CheckpointDamaged(checkpoint));
    }

    fn failed(&self, error: &Error) {
        self.stop(&error.to_string());
    }

    fn crowded(&self) {
        self.crowded.store(true, Ordering::Relaxed);
        // An idle group applies nothing that would have it look.
        self.steps.lock().push_back(Step::Look);
        self.drain();
    }

    fn wake(&self) {
        self.event(Event::Wake);
    }
}

fn time(since_origin: Duration) -> Time {
    Time::ZERO + since_origin
}
