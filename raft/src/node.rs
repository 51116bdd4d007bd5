//! One member: what all roles share, and where events come in and effects go out.
//!
//! `handle` changes the state in memory and queues answers; `poll` adds, once nothing is queued, what follows from the
//! state: appends to followers, the persist of what the disk lacks, committed entries to apply, reads that can be
//! answered. So several events handled before a poll share one persist and one append per follower. What each role
//! does is in the file of that name.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::ask::Asks;
use crate::bug::{self, Bug};
use crate::candidate::Candidate;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::dice::Dice;
use crate::effect::{Effect, Event, HardState, Persist, Stored};
use crate::follower::Follower;
use crate::ids::{Index, MemberId, Sequence, Serial, Term};
use crate::incoming::Incoming;
use crate::leader::Leader;
use crate::log::Log;
use crate::message::{Body, Entry, Message};
use crate::outbox::Outbox;
use crate::quorum::Voters;
use crate::status::{FollowerStatus, Role, Status};

/// Entries in one [`Effect::Apply`], so that a long log does not become one long step.
const APPLY: u64 = 1024;

pub(crate) enum State {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// One member of a group.
pub struct Node {
    pub(crate) config: Config,
    /// Those of the configuration in force; see `reconfigure`.
    pub(crate) voters: Voters,
    /// That configuration.
    pub(crate) group: Arc<Configuration>,
    dice: Dice,
    /// The latest time that it was told; never falls.
    pub(crate) now: Duration,
    /// The time that it was told last. Only for what must not seem to have happened later than it did.
    pub(crate) clock: Duration,
    begun: bool,
    halted: bool,
    pub(crate) hard: HardState,
    hard_dirty: bool,
    pub(crate) log: Log,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) state: State,
    /// A checkpoint that a leader sends.
    pub(crate) incoming: Option<Incoming>,
    /// The persist after which the state machine is replaced; before it, it is not where `applied` says.
    pub(crate) restoring: Sequence,
    /// When a leader, of whatever term, was last heard: for a while no other gets a vote (thesis, 4.2.3). Outlives a
    /// change of term, because a leader's lease rests on it.
    pub(crate) heard: Option<Duration>,
    /// Names this life to others while it is rebuilt.
    pub(crate) life: Serial,
    /// Names its last question.
    pub(crate) serial: Serial,
    /// Reads that the leader is asked about.
    pub(crate) asks: Asks,
    /// When a follower or candidate campaigns.
    pub(crate) due: Duration,
    pub(crate) outbox: Outbox,
    told: (Term, Role),
}

impl Node {
    /// A member that starts from what its disk holds. The seed must be another one at each start: with it go the names
    /// that tell one life of a member from the next.
    ///
    /// # Errors
    /// [`Error::Config`] if the settings make no sense, [`Error::Stored`] if no run can have left such a state.
    pub fn new(config: Config, seed: u64, stored: Stored) -> Result<Self, Error> {
        config.check()?;
        let mut hard = stored.hard;
        if bug::on(Bug::ForgetVote) {
            hard.vote = None;
        }
        let partial = stored.partial.clone();
        let log = Log::new(stored, Configuration::of(config.voters.clone()))?;
        let group = log.configuration().1.clone();
        // Members are often given the same seed; their timeouts must differ.
        let mut dice = Dice::new(seed ^ config.id.0.rotate_left(32));
        Ok(Self {
            voters: Voters::new(&group),
            group,
            life: Serial(dice.roll()),
            serial: Serial(dice.roll()),
            asks: Asks::default(),
            dice,
            now: Duration::ZERO,
            clock: Duration::ZERO,
            begun: false,
            halted: false,
            hard,
            hard_dirty: false,
            commit: log.checkpointed(),
            applied: log.checkpointed(),
            log,
            state: State::Follower(Follower::default()),
            incoming: partial.map(|(checkpoint, received)| Incoming::resumed(checkpoint, received)),
            restoring: Sequence::ZERO,
            heard: None,
            due: Duration::ZERO,
            outbox: Outbox::default(),
            told: (hard.term, Role::Follower { leader: None }),
            config,
        })
    }

    /// Takes an event. `now` is the time since an origin of the driver's choice and never falls.
    pub fn handle(&mut self, now: Duration, event: Event) {
        if self.halted {
            return;
        }
        if now < self.clock
            && let State::Leader(leader) = &mut self.state
        {
            // It never should. Whatever was measured by this clock is worth nothing.
            leader.lease.forget();
        }
        self.clock = now;
        self.now = self.now.max(now);
        if !self.begun {
            self.begin();
        }
        match event {
            Event::Received(message) => self.receive(message),
            Event::Persisted(sequence) => self.persisted(sequence),
            Event::Propose { ticket, command } => self.propose(ticket, command),
            Event::Read { ticket, mode } => self.read_asked(ticket, mode),
            Event::Change { ticket, target } => self.change_asked(ticket, target),
            Event::Transfer { ticket, to } => self.transfer_asked(ticket, to),
            Event::CheckpointTaken(checkpoint) => self.checkpoint_taken(checkpoint),
            Event::ChunkRead { to, chunk } => self.chunk_read(to, chunk),
            Event::ChunkGone { to, checkpoint } => self.chunk_gone(to, &checkpoint),
            Event::CheckpointDamaged(checkpoint) => self.checkpoint_damaged(&checkpoint),
            Event::Wake => self.wake(),
        }
        self.tell_role();
    }

    /// The next thing to do; call until `None`. Several events may be handled before: they share one persist.
    pub fn poll(&mut self) -> Option<Effect> {
        if let Some(effect) = self.outbox.pop() {
            return Some(effect);
        }
        if !self.halted {
            self.flush();
        }
        self.outbox.pop()
    }

    /// When to send [`Event::Wake`] if nothing else happens; `None` if the node waits for nothing but events.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            _ if self.halted => None,
            _ if !self.begun => Some(Duration::ZERO),
            State::Leader(leader) => leader.deadline(self),
            // Alone it leads as soon as its own vote is stored.
            State::Candidate(_) if self.alone() => None,
            _ => {
                let due = self.may_campaign().then_some(self.due);
                due.into_iter().chain(self.asks.deadline(self)).min()
            }
        }
    }

    /// A look at the node.
    #[must_use]
    pub fn status(&self) -> Status {
        let followers = match &self.state {
            State::Leader(leader) => leader
                .progress
                .iter()
                .map(|(id, p)| FollowerStatus {
                    id: *id,
                    voter: self.voters.contains(*id),
                    matched: p.matched,
                    next: p.next,
                    chunks: p.chunks(),
                    rebuilding: p.rebuilding.is_some(),
                })
                .collect(),
            _ => Vec::new(),
        };
        let (configured, configuration) = self.log.configuration();
        Status {
            id: self.config.id,
            term: self.hard.term,
            role: self.role(),
            leader: self.leader(),
            commit: self.commit,
            applied: self.applied,
            last: self.log.last().index,
            stable: self.log.stable(),
            checkpoint: self.log.checkpointed(),
            log_bytes: self.log.bytes(),
            configuration: configuration.clone(),
            configured: *configured,
            rebuilding: self.hard.rebuilding,
            lease: self.leased(),
            transfer: self.leading().and_then(|l| l.transfer.as_ref()).map(|t| t.to),
            changing: self.leading().is_some_and(|l| l.change.is_some()),
            followers,
        }
    }

    /// The entries in the log, for checkers and tools.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.log.entries()
    }

    /// Where the log begins: the position before its first entry.
    #[must_use]
    pub fn base(&self) -> crate::Position {
        self.log.base()
    }

    fn begin(&mut self) {
        self.begun = true;
        if self.hard.term > Term::ZERO {
            // It may have heard a leader a moment before it stopped.
            self.heard = Some(self.now);
        }
        if self.alone() {
            self.campaign(false);
        } else {
            self.arm();
        }
    }

    /// Puts the next campaign off by a new random timeout.
    pub(crate) fn arm(&mut self) {
        let wait = self.dice.between(self.config.election_min, self.config.election_max);
        self.due = self.now + wait;
    }

    pub(crate) fn role(&self) -> Role {
        match &self.state {
            State::Follower(follower) => Role::Follower { leader: follower.leader },
            State::Candidate(_) => Role::Candidate,
            State::Leader(leader) => Role::Leader { ready: self.applied >= leader.first },
        }
    }

    fn leading(&self) -> Option<&Leader> {
        match &self.state {
            State::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    pub(crate) fn leader(&self) -> Option<MemberId> {
        match &self.state {
            State::Follower(follower) => follower.leader,
            State::Candidate(_) => None,
            State::Leader(_) => Some(self.config.id),
        }
    }

    fn tell_role(&mut self) {
        let now = (self.hard.term, self.role());
        if now != self.told && !self.halted {
            self.told = now;
            self.outbox.push(Effect::Role { term: now.0, role: now.1 });
        }
    }

    pub(crate) fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
        self.hard_dirty = true;
    }

    /// What a message depends on that speaks of everything this node has in memory.
    pub(crate) fn need_all(&self) -> Sequence {
        self.outbox.need(self.dirty())
    }

    fn dirty(&self) -> bool {
        let chunks = self.incoming.as_ref().is_some_and(Incoming::dirty);
        self.hard_dirty || self.log.dirty() || chunks
    }

    /// What a message depends on that speaks of term and vote only.
    pub(crate) fn need_hard(&self) -> Sequence {
        self.outbox.need_hard(self.hard_dirty)
    }

    /// Sends a message of the current term when `need` is stable.
    pub(crate) fn send(&mut self, to: MemberId, body: Body, need: Sequence) {
        self.send_as(self.hard.term, to, body, need);
    }

    pub(crate) fn send_as(&mut self, term: Term, to: MemberId, body: Body, need: Sequence) {
        let message = Message { from: self.config.id, to, term, body };
        self.outbox.hold(need, Effect::Send(message));
    }

    /// The protocol asks for what cannot be; going on could only spread it.
    pub(crate) fn halt(&mut self, why: &'static str) {
        self.halted = true;
        self.outbox.clear();
        self.outbox.push(Effect::Halted(why));
    }

    fn persisted(&mut self, sequence: Sequence) {
        if !self.outbox.persisted(sequence) {
            return;
        }
        self.log.persisted(sequence);
        self.install_stored();
        match self.state {
            State::Follower(_) => {}
            State::Candidate(_) => self.own_vote_stored(),
            State::Leader(_) => self.advance(),
        }
    }

    fn wake(&mut self) {
        match self.state {
            State::Leader(_) => self.leader_wake(),
            State::Candidate(_) if self.alone() => {}
            _ => {
                self.ask_again();
                if self.now >= self.due && self.may_campaign() {
                    self.pre_campaign();
                }
            }
        }
    }

    /// Brings out what follows from the state. Doing it twice changes nothing.
    fn flush(&mut self) {
        // Before the persist: a leader may send while it writes (thesis, 10.2.1), since it counts itself only when
        // its own write is done.
        self.advance_change();
        self.advance_transfer();
        self.replicate();
        self.ask_leader();
        if self.dirty() {
            let mut persist =
                Persist { sequence: self.outbox.issue(self.hard_dirty), ..Persist::default() };
            persist.hard = std::mem::take(&mut self.hard_dirty).then_some(self.hard);
            persist.chunks = self.incoming.as_mut().map(Incoming::hand_out).unwrap_or_default();
            self.log.hand_out(&mut persist);
            self.outbox.push(Effect::Persist(persist));
        }
        self.apply();
        self.release_reads();
        self.tell_role();
    }

    fn apply(&mut self) {
        // What is not stable here may be committed elsewhere, but a checkpoint of it would outrun this log.
        let to = self.commit.min(self.log.stable());
        while self.applied < to {
            let end = to.min(Index(self.applied.0 + APPLY));
            let entries = self.log.slice(self.applied.next(), end, usize::MAX);
            self.applied = end;
            self.outbox.push(Effect::Apply(entries));
        }
    }
}
