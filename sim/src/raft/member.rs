//! One member: a node, its disk, its state machine, its clock.
//!
//! It is the driver that a host must be: it does the effects in order, reports syncs, takes checkpoints. It knows
//! nothing of faults; the schedule tells it to stop and start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::raft::{
    Checkpoint, Config, Configuration, Effect, Error, Event, Index, MemberId, Message, Node,
    Payload, Position, Role, Term, Ticket,
};

use super::disk::{Disk, Job};
use super::machine::Machine;
use crate::check::{Acknowledgement, Seen};

/// One member of the group.
pub struct Member {
    /// Its id: its place + 1.
    pub id: MemberId,
    /// The node, while it is up.
    pub node: Option<Node>,
    /// Grows with each start.
    pub life: u64,
    /// The index at which this life's state machine began.
    pub began: Index,
    /// What it would find after a crash.
    pub disk: Disk,
    /// The replicated state.
    pub machine: Machine,
    /// The group as of the last entry applied.
    configuration: Arc<Configuration>,
    config: Config,
    /// Its clock's speed, in thousandths.
    rate: u64,
    /// It does nothing before.
    pub(super) paused: Duration,
    /// When a wake is under way.
    pub(super) wake: Option<Duration>,
    /// A poll is under way.
    pub(super) lazy: bool,
    /// Crashes after so many effects.
    pub(super) doom: Option<u64>,
    /// Proposals that wait for their entry.
    pending: BTreeMap<Index, (Term, Ticket)>,
    checkpoint_every: u64,
    /// A checkpoint of this index was made or is being written.
    checkpointed: Index,
}

/// What the schedule must do for an effect.
pub(super) enum Ask {
    Write(Job),
    Send(Message),
    /// A piece of a checkpoint, for a member.
    Read {
        to: MemberId,
        checkpoint: Checkpoint,
        offset: u64,
        limit: u64,
    },
    /// The leader, as far as this member knows.
    Hint(Option<MemberId>),
    Elected,
    Wrong(&'static str),
}

impl Member {
    pub(super) fn new(config: Config, rate: u64, checkpoint_every: u64) -> Self {
        Self {
            id: config.id,
            node: None,
            life: 0,
            began: Index::ZERO,
            disk: Disk::default(),
            machine: Machine::default(),
            configuration: Arc::new(Configuration::of(config.voters.clone())),
            config,
            rate,
            paused: Duration::ZERO,
            wake: None,
            lazy: false,
            doom: None,
            pending: BTreeMap::new(),
            checkpoint_every,
            checkpointed: Index::ZERO,
        }
    }

    /// Starts from what the disk holds.
    pub(super) fn start(&mut self, seed: u64) -> Result<(), Error> {
        let stored = self.disk.stored();
        self.machine = self.disk.data().and_then(|d| Machine::restore(d)).unwrap_or_default();
        let first = || Arc::new(Configuration::of(self.config.voters.clone()));
        self.configuration =
            stored.checkpoint.as_ref().map_or_else(first, |c| c.configuration.clone());
        self.began = self.machine.index;
        self.checkpointed = self.machine.index;
        self.life += 1;
        self.node = Some(Node::new(self.config.clone(), seed, stored)?);
        Ok(())
    }

    /// Stops without any farewell.
    pub(super) fn stop(&mut self) {
        self.node = None;
        self.wake = None;
        self.lazy = false;
        self.doom = None;
        self.paused = Duration::ZERO;
        self.pending.clear();
    }

    pub(super) fn leads(&self) -> bool {
        self.node.as_ref().is_some_and(|n| matches!(n.status().role, Role::Leader { .. }))
    }

    /// The time on its own clock.
    fn local(&self, now: Duration) -> Duration {
        now * u32::try_from(self.rate).unwrap_or(1000) / 1000
    }

    /// When to wake it, by the schedule's clock.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let local = self.node.as_ref()?.deadline()?;
        let rate = u32::try_from(self.rate).unwrap_or(1000);
        Some(local * 1000 / rate + Duration::from_micros(1))
    }

    pub(super) fn handle(&mut self, now: Duration, event: Event) {
        let now = self.local(now);
        if let Some(node) = &mut self.node {
            node.handle(now, event);
        }
    }

    /// The next thing to do, with what concerns only this member done.
    pub(super) fn poll(&mut self, seen: &mut Seen) -> Option<(Effect, Vec<Ask>)> {
        let effect = self.node.as_mut()?.poll()?;
        let asks = match effect.clone() {
            Effect::Persist(persist) => vec![Ask::Write(Job::Persist(persist))],
            Effect::Send(message) => vec![Ask::Send(message)],
            Effect::Apply(entries) => {
                for entry in &entries {
                    self.machine.apply(entry);
                    if let Payload::Configuration(configuration) = &entry.payload {
                        self.configuration = configuration.clone();
                    }
                    self.acknowledge(entry.position(), seen);
                }
                let term = entries.last().map_or(Term::ZERO, |e| e.term);
                seen.applied.extend(entries);
                self.checkpoint(term).into_iter().collect()
            }
            Effect::Restore(checkpoint) => {
                let wrong = self.restore(&checkpoint);
                seen.restored = Some(checkpoint);
                wrong.into_iter().collect()
            }
            Effect::ReadChunk { to, checkpoint, offset, limit } => {
                vec![Ask::Read { to, checkpoint, offset, limit }]
            }
            Effect::Trim(index) => {
                self.disk.trim(index);
                Vec::new()
            }
            Effect::Accepted { ticket, index, term } => {
                self.pending.insert(index, (term, ticket));
                Vec::new()
            }
            Effect::ReadReady { ticket, index } => {
                seen.answered.push((ticket, self.machine.index));
                let early = index > self.machine.index;
                early.then_some(Ask::Wrong("a read was ready too early")).into_iter().collect()
            }
            Effect::ProposalRefused { leader, .. } | Effect::ReadRefused { leader, .. } => {
                vec![Ask::Hint(leader)]
            }
            Effect::Role { role, .. } => match role {
                Role::Leader { ready: false } => vec![Ask::Hint(Some(self.id)), Ask::Elected],
                _ => Vec::new(),
            },
            Effect::Changed { .. }
            | Effect::ChangeRefused { .. }
            | Effect::Transferred { .. }
            | Effect::TransferRefused { .. } => Vec::new(),
            Effect::Halted(why) => vec![Ask::Wrong(why)],
        };
        Some((effect, asks))
    }

    fn acknowledge(&mut self, at: Position, seen: &mut Seen) {
        // With another term the proposal was lost, and its client learns nothing.
        if let Some((term, ticket)) = self.pending.remove(&at.index)
            && term == at.term
        {
            let told = Acknowledgement { ticket, index: at.index, term };
            seen.acknowledged.push(told);
        }
    }

    fn checkpoint(&mut self, term: Term) -> Option<Ask> {
        let index = self.machine.index;
        if index.0 < self.checkpointed.0 + self.checkpoint_every {
            return None;
        }
        self.checkpointed = index;
        let data = self.machine.checkpoint();
        let last = Position { index, term };
        let configuration = self.configuration.clone();
        let (size, digest) = (data.len() as u64, self.machine.digest);
        let checkpoint = Checkpoint { last, configuration, size, digest };
        Some(Ask::Write(Job::Checkpoint(checkpoint, data)))
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Option<Ask> {
        let Some(machine) = self.disk.data().and_then(|data| Machine::restore(data)) else {
            return Some(Ask::Wrong("a checkpoint was damaged on its way"));
        };
        if machine.index != checkpoint.last.index || machine.index < self.machine.index {
            return Some(Ask::Wrong("a checkpoint goes back, or is not what it says"));
        }
        self.machine = machine;
        self.configuration = checkpoint.configuration.clone();
        self.checkpointed = self.machine.index;
        // Whether these were committed cannot be known.
        self.pending.retain(|index, _| *index > checkpoint.last.index);
        None
    }
}
