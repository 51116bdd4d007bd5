//! One member: a node, its disk, its state machine, its clock.
//!
//! It is the driver that a host must be: it does the effects in order, reports syncs, takes checkpoints, reads chunks. It
//! knows nothing of faults; the schedule tells it to stop and start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::raft::{
    Body, Checkpoint, Chunk, Config, Configuration, Effect, Entry, Error, Event, Index, MemberId,
    Message, Node, Outcome, Payload, Position, Role, Term, Ticket,
};

use super::disk::{Disk, Job, Saved, digest};
use super::machine::{Applied, StateMachine};
use crate::check::{Acknowledgement, Answer, Executed, Promise, Seen};

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
    pub machine: Box<dyn StateMachine>,
    pub(crate) config: Config,
    /// The group, as of what the machine applied.
    configuration: Arc<Configuration>,
    /// Its clock's speed, in thousandths.
    rate: u64,
    /// It does nothing before.
    pub(crate) paused: Duration,
    /// When a wake is under way.
    pub(crate) wake: Option<Duration>,
    /// A poll is under way.
    pub(crate) lazy: bool,
    /// Crashes after so many effects.
    pub(crate) doom: Option<u64>,
    /// Proposals that wait for their entry.
    pending: BTreeMap<Index, (Term, Ticket)>,
    /// The keys that open reads are about.
    pub(crate) reading: BTreeMap<Ticket, u8>,
    checkpoint_every: u64,
    /// A checkpoint of this index was made or is being written.
    checkpointed: Index,
}

/// What the schedule must do for an effect.
pub(crate) enum Ask {
    Write(Job),
    Send(Message),
    /// Report this after a while.
    Read(Event),
    /// The leader, as far as this member knows.
    Hint(Option<MemberId>),
    Elected,
    Wrong(&'static str),
}

impl Member {
    pub(crate) fn new(
        config: Config,
        rate: u64,
        checkpoint_every: u64,
        machine: Box<dyn StateMachine>,
    ) -> Self {
        Self {
            id: config.id,
            node: None,
            life: 0,
            began: Index::ZERO,
            disk: Disk::default(),
            machine,
            configuration: Arc::new(Configuration::of(config.voters.clone())),
            config,
            rate,
            paused: Duration::ZERO,
            wake: None,
            lazy: false,
            doom: None,
            pending: BTreeMap::new(),
            reading: BTreeMap::new(),
            checkpoint_every,
            checkpointed: Index::ZERO,
        }
    }

    /// Starts from what the disk holds.
    pub(crate) fn start(&mut self, seed: u64) -> Result<(), Error> {
        let stored = self.disk.stored();
        self.configuration = Arc::new(Configuration::of(self.config.voters.clone()));
        let saved = self.disk.checkpoint();
        if !self.machine.restore(saved.map(|saved| &saved.bytes[..])) {
            return Err(Error::Stored("a damaged checkpoint was installed"));
        }
        if let Some(saved) = saved {
            self.configuration = saved.name.configuration.clone();
        }
        self.began = self.machine.index();
        self.checkpointed = self.machine.index();
        self.life += 1;
        self.node = Some(Node::new(self.config.clone(), seed, stored)?);
        Ok(())
    }

    /// Stops without any farewell.
    pub(crate) fn stop(&mut self) {
        self.node = None;
        self.wake = None;
        self.lazy = false;
        self.doom = None;
        self.paused = Duration::ZERO;
        self.pending.clear();
        self.reading.clear();
    }

    /// The time on its own clock.
    #[must_use]
    pub fn local(&self, now: Duration) -> Duration {
        now * u32::try_from(self.rate).unwrap_or(1000) / 1000
    }

    /// When to wake it, by the schedule's clock.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let local = self.node.as_ref()?.deadline()?;
        let rate = u32::try_from(self.rate).unwrap_or(1000);
        Some(local * 1000 / rate + Duration::from_micros(1))
    }

    pub(crate) fn handle(&mut self, now: Duration, event: Event) {
        let now = self.local(now);
        if let Some(node) = &mut self.node {
            node.handle(now, event);
        }
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.node.as_mut()?.poll()
    }

    /// Does what concerns only this member; asks for the rest.
    pub(crate) fn perform(&mut self, effect: Effect, seen: &mut Seen) -> Vec<Ask> {
        match effect {
            Effect::Persist(persist) => return vec![Ask::Write(Job::Persist(persist))],
            Effect::Send(message) => {
                self.promise(&message, seen);
                return vec![Ask::Send(message)];
            }
            Effect::Apply(entries) => return self.apply(entries, seen).into_iter().collect(),
            Effect::Restore(checkpoint) => {
                let wrong = self.restore(&checkpoint);
                seen.restored = Some(checkpoint);
                return wrong.into_iter().collect();
            }
            Effect::ReadChunk { to, checkpoint, offset, limit } => {
                return vec![Ask::Read(self.chunk(to, checkpoint, offset, limit))];
            }
            Effect::Trim(index) => self.disk.trim(index),
            Effect::Accepted { ticket, index, term } => {
                self.pending.insert(index, (term, ticket));
            }
            Effect::ReadReady { ticket, index } => {
                let value = self.reading.remove(&ticket).map(|key| self.machine.get(key));
                seen.answered.push(Answer { ticket, index: self.machine.index(), value });
                if index > self.machine.index() {
                    return vec![Ask::Wrong("a read was ready too early")];
                }
            }
            Effect::ProposalRefused { ticket, leader, .. }
            | Effect::ReadRefused { ticket, leader } => {
                self.reading.remove(&ticket);
                seen.refused.push((ticket, leader));
                return vec![Ask::Hint(leader)];
            }
            Effect::Changed { .. } => seen.changed += 1,
            Effect::Transferred { .. } => seen.transferred += 1,
            Effect::ChangeRefused { .. } | Effect::TransferRefused { .. } => {}
            Effect::Role { role: Role::Leader { ready: false }, .. } => {
                return vec![Ask::Hint(Some(self.id)), Ask::Elected];
            }
            Effect::Role { .. } => {}
            Effect::Halted(why) => return vec![Ask::Wrong(why)],
        }
        Vec::new()
    }

    fn apply(&mut self, entries: Vec<Entry>, seen: &mut Seen) -> Option<Ask> {
        for entry in &entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configuration = configuration.clone();
            }
            let applied = self.machine.apply(entry);
            if let Some(Applied { client, sequence, fresh: true, .. }) = applied {
                seen.executed.push(Executed { client, sequence, index: entry.index });
            }
            self.acknowledge(entry.position(), applied, seen);
        }
        let term = entries.last().map_or(Term::ZERO, |e| e.term);
        seen.applied.extend(entries);
        self.checkpoint(term)
    }

    fn acknowledge(&mut self, at: Position, applied: Option<Applied>, seen: &mut Seen) {
        // With another term the proposal was lost, and its client learns nothing.
        if let Some((term, ticket)) = self.pending.remove(&at.index)
            && term == at.term
        {
            let reply = applied.map(|a| a.reply);
            seen.acknowledged.push(Acknowledgement { ticket, index: at.index, term, reply });
        }
    }

    fn checkpoint(&mut self, term: Term) -> Option<Ask> {
        let index = self.machine.index();
        if index.0 < self.checkpointed.0 + self.checkpoint_every {
            return None;
        }
        self.checkpointed = index;
        let bytes = self.machine.checkpoint();
        let name = Checkpoint {
            last: Position { index, term },
            configuration: self.configuration.clone(),
            size: bytes.len() as u64,
            digest: digest(&bytes),
        };
        Some(Ask::Write(Job::Checkpoint(Saved { name, bytes })))
    }

    fn chunk(&self, to: MemberId, checkpoint: Checkpoint, offset: u64, limit: u64) -> Event {
        let saved = self.disk.checkpoint().filter(|saved| saved.name == checkpoint);
        let piece = saved.and_then(|saved| {
            let end = offset.checked_add(limit)?.min(saved.bytes.len() as u64);
            (offset <= end).then(|| saved.bytes.slice(offset as usize..end as usize))
        });
        match piece {
            Some(data) => Event::ChunkRead { to, chunk: Chunk { checkpoint, offset, data } },
            None => Event::ChunkGone { to, checkpoint },
        }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Option<Ask> {
        let saved = self.disk.checkpoint().filter(|saved| saved.name == *checkpoint);
        let before = self.machine.index();
        if !saved.is_some_and(|saved| self.machine.restore(Some(&saved.bytes))) {
            return Some(Ask::Wrong("a checkpoint is to be restored that is not on the disk"));
        }
        if self.machine.index() != checkpoint.last.index || checkpoint.last.index < before {
            return Some(Ask::Wrong("a checkpoint goes back, or is not what it says"));
        }
        self.configuration = checkpoint.configuration.clone();
        self.checkpointed = self.machine.index();
        // Whether these were committed cannot be known.
        self.pending.retain(|index, _| *index > checkpoint.last.index);
        None
    }

    /// Notes what a message promises, and whether the disk stands behind it now.
    fn promise(&mut self, message: &Message, seen: &mut Seen) {
        let (what, kept, acknowledged) = match &message.body {
            Body::VoteReply { granted: true } => {
                ("a vote", self.disk.tell_vote(message.term, message.to), None)
            }
            Body::AppendReply(reply) => match reply.outcome {
                // What an older term's answer spoke of may have been replaced since.
                Outcome::Accepted { matched } if self.disk.term() == message.term => {
                    ("entries", self.disk.last() >= matched, Some((message.term, matched)))
                }
                _ => return,
            },
            _ => return,
        };
        seen.promised.push(Promise { what, kept, acknowledged });
    }
}
