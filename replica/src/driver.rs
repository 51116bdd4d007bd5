//! Drives one [`raft::Node`]: events go in under one lock, effects come out in order. Persists go
//! to the writer thread, messages to the transport, everything that touches the state machine or
//! answers a caller to the apply queue. What the disk or the machine does is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{Chunk, Effect, Event, Index, Message, Node, ReadMode, Term, Ticket};
use tokio::sync::{Notify, oneshot, watch};
use world::{Time, World};

use crate::{
    apply::{Machine, Step},
    checkpoint::CheckpointFile,
    command::Command,
    config::{GroupConfig, node},
    error::Error,
    machine::StateMachine,
    session::LogTime,
    status::{Follower, Role, Status},
    transport::{Inbox, Transport},
    writer::{Job, Writer},
};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Everything that the handles of one host share.
pub(crate) struct Shared<M> {
    pub(crate) world: World,
    pub(crate) config: GroupConfig,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) core: Mutex<Core>,
    pub(crate) writer: Writer,
    pub(crate) file: CheckpointFile,
    /// What is to be done with the machine, in order.
    pub(crate) steps: Mutex<VecDeque<Step>>,
    pub(crate) machine: Mutex<Machine<M>>,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) applied: watch::Sender<Index>,
    pub(crate) timer: Notify,
    pub(crate) log_bytes: AtomicU64,
    /// The newest stamp that was applied, in milliseconds of log time.
    pub(crate) log_time: AtomicU64,
    /// For work that outlives a call.
    pub(crate) itself: Weak<Self>,
}

/// The node and those who wait for it.
pub(crate) struct Core {
    node: Node,
    next_ticket: u64,
    proposals: BTreeMap<Ticket, Reply<Bytes>>,
    reads: BTreeMap<Ticket, Reply<()>>,
    /// Proposals that have their place in the log.
    placed: BTreeMap<Index, Waiter>,
    /// Where this node, as leader, began to count log time.
    counting: (LogTime, Time),
    /// When the timer task will wake.
    armed: Time,
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
            placed: BTreeMap::new(),
            counting: (LogTime::default(), Time::ZERO),
            armed: Time::NEVER,
            stopped: None,
        }
    }

    /// The stamp of a command that is proposed now.
    fn stamp(&self, now: Time) -> LogTime {
        let (from, since) = self.counting;
        let counted = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        LogTime(from.0.saturating_add(counted))
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }
}

impl<M: StateMachine> Shared<M> {
    /// Tells the node what happened and does what follows.
    pub(crate) fn event(&self, event: Event) {
        self.with_core(|core| core.node.handle(self.now(), event));
    }

    /// Proposes a command; the answer comes by the channel.
    pub(crate) fn propose(&self, command: impl FnOnce(LogTime) -> Command, reply: Reply<Bytes>) {
        self.with_core(|core| {
            let ticket = core.ticket();
            let command = command(core.stamp(self.world.clock.now())).encode();
            core.proposals.insert(ticket, reply);
            core.node.handle(self.now(), Event::Propose { ticket, command });
        });
    }

    /// Asks for a linearizable look; the answer comes by the channel.
    pub(crate) fn read(&self, reply: Reply<()>) {
        self.with_core(|core| {
            let ticket = core.ticket();
            core.reads.insert(ticket, reply);
            core.node.handle(self.now(), Event::Read { ticket, mode: ReadMode::Quorum });
        });
    }

    fn now(&self) -> Duration {
        self.world.clock.now().as_duration()
    }

    /// Runs `act` and then all effects. After a stop nothing is run; what `act` holds is dropped,
    /// which its caller notices.
    fn with_core(&self, act: impl FnOnce(&mut Core)) {
        {
            let mut core = self.core.lock();
            if core.stopped.is_some() {
                return;
            }
            act(&mut core);
            self.pump(&mut core);
        }
        self.drain();
    }

    fn pump(&self, core: &mut Core) {
        let mut steps = Vec::new();
        while let Some(effect) = core.node.poll() {
            if let Effect::Halted(reason) = effect {
                self.stop_core(core, reason, &mut steps);
                break;
            }
            self.effect(core, effect, &mut steps);
        }
        if !steps.is_empty() {
            self.steps.lock().extend(steps);
        }
        let due = core.node.deadline().map_or(Time::NEVER, time);
        if due < core.armed {
            core.armed = due;
            self.timer.notify_one();
        }
    }

    fn effect(&self, core: &mut Core, effect: Effect, steps: &mut Vec<Step>) {
        match effect {
            Effect::Persist(persist) => self.writer.push(Job::Persist(persist)),
            Effect::Trim(index) => self.writer.push(Job::Trim(index)),
            Effect::Send(message) => {
                let to = node(message.to);
                self.transport.send(self.config.group, to, message);
            }
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
                steps.extend(covered.into_values().map(|waiter| Step::Covered(waiter.reply)));
            }
            Effect::Accepted { ticket, index, term } => {
                if let Some(reply) = core.proposals.remove(&ticket) {
                    let before = core.placed.insert(index, Waiter { term, reply });
                    // The place was another leader's before; its entry is gone for good.
                    steps.extend(before.map(|waiter| Step::Lost(waiter.reply)));
                }
            }
            Effect::ReadChunk { to, checkpoint, offset, limit } => {
                let event = match self.file.chunk(&checkpoint, offset, limit) {
                    Some(data) => {
                        Event::ChunkRead { to, chunk: Chunk { checkpoint, offset, data } }
                    }
                    None => Event::ChunkGone { to, checkpoint },
                };
                core.node.handle(self.now(), event);
            }
            Effect::ProposalRefused { ticket, leader, .. } => {
                if let Some(reply) = core.proposals.remove(&ticket) {
                    steps.push(Step::Refused(reply, leader.map(node)));
                }
            }
            Effect::ReadReady { ticket, .. } => {
                steps.extend(core.reads.remove(&ticket).map(Step::Read));
            }
            Effect::ReadRefused { ticket, leader } => {
                let reply = core.reads.remove(&ticket);
                steps.extend(reply.map(|reply| Step::ReadRefused(reply, leader.map(node))));
            }
            Effect::Role { term, role } => {
                if role == (raft::Role::Leader { ready: false }) {
                    let reached = LogTime(self.log_time.load(Ordering::Relaxed));
                    core.counting = (reached, self.world.clock.now());
                }
                steps.push(Step::Role(match role {
                    raft::Role::Follower { leader } => Role::Follower { leader: leader.map(node) },
                    raft::Role::Candidate => Role::Candidate,
                    raft::Role::Leader { ready } => Role::Leader { term, ready },
                }));
            }
            Effect::Halted(_)
            | Effect::Changed { .. }
            | Effect::ChangeRefused { .. }
            | Effect::Transferred { .. }
            | Effect::TransferRefused { .. } => {}
        }
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
        steps.extend(replies.chain(placed).map(|reply| Step::Failed(reply, stopped())));
        let reads = std::mem::take(&mut core.reads).into_values();
        steps.extend(reads.map(|reply| Step::ReadFailed(reply, stopped())));
        steps.push(Step::Role(Role::Stopped));
        self.transport.detach(self.config.group);
        self.writer.stop();
        self.timer.notify_one();
    }

    /// Why the host has stopped.
    pub(crate) fn stopped(&self) -> Error {
        let reason = self.core.lock().stopped.clone();
        Error::Stopped(reason.unwrap_or_else(|| "it is being dropped".to_owned()))
    }

    /// Wakes the node when its time has come, until the host stops.
    pub(crate) async fn run_timer(&self) {
        loop {
            let due = {
                let mut core = self.core.lock();
                if core.stopped.is_some() {
                    return;
                }
                core.armed = core.node.deadline().map_or(Time::NEVER, time);
                core.armed
            };
            let sleep = self.world.clock.sleep_until(due);
            let notified = std::pin::pin!(self.timer.notified());
            futures_util::future::select(sleep, notified).await;
            if self.world.clock.now() >= due {
                self.event(Event::Wake);
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
        Status {
            group: self.config.group,
            me: self.config.me,
            role,
            term: status.term,
            leader: status.leader.map(node).filter(|_| core.stopped.is_none()),
            voters: self.config.voters(),
            last: status.last,
            commit: status.commit,
            applied: *self.applied.borrow(),
            checkpoint: status.checkpoint,
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            followers: status
                .followers
                .iter()
                .map(|follower| Follower { node: node(follower.id), matched: follower.matched })
                .collect(),
            stopped: core.stopped.clone(),
        }
    }
}

impl<M: StateMachine> Inbox for Shared<M> {
    fn receive(&self, message: Message) {
        self.event(Event::Received(message));
    }

    fn status(&self) -> Option<Status> {
        Some(Shared::status(self))
    }
}

fn time(since_origin: Duration) -> Time {
    Time::ZERO + since_origin
}
