//! One member: what all roles share, and where events come in and effects go out.
//!
//! `handle` changes the state in memory and queues answers; `poll` adds, once nothing is queued, what follows from the
//! state: appends to followers, the persist of what the disk lacks, committed entries to apply, reads that can be
//! answered. So several events handled before a poll share one persist and one append per follower. What each role
//! does is in the file of that name.

use std::time::Duration;

use bytes::Bytes;

use crate::Error;
use crate::candidate::Candidate;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::dice::Dice;
use crate::effect::{Effect, Event, HardState, Persist, Refusal, Stored};
use crate::follower::Follower;
use crate::ids::{Index, MemberId, Sequence, Serial, Term, Ticket};
use crate::incoming::Incoming;
use crate::leader::Leader;
use crate::log::Log;
use crate::message::{Body, Entry, Message, Payload};
use crate::outbox::Outbox;
use crate::quorum::Voters;
use crate::status::{FollowerStatus, Role, Status};

/// Entries in one [`Effect::Apply`], so that a long log does not become one long step.
const APPLY: u64 = 1024;

pub(crate) enum State {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Leader),
}

/// One member of a group.
pub struct Node {
    pub(crate) config: Config,
    /// Those of the configuration in force; see `reconfigure`.
    pub(crate) voters: Voters,
    /// Where that configuration stands.
    pub(crate) configured: Index,
    dice: Dice,
    pub(crate) now: Duration,
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
    /// When a leader, of whatever term, was last heard: for a while no other gets a vote (thesis, 4.2.3). Outlives a
    /// change of term, because a leader's lease rests on it.
    pub(crate) heard: Option<Duration>,
    /// Names this life to others while it is rebuilt, and then its questions.
    pub(crate) serial: Serial,
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
        let hard = stored.hard;
        let partial = stored.partial.clone();
        let log = Log::new(stored, Configuration::of(config.voters.clone()))?;
        let (configured, configuration) = log.configuration();
        // Members are often given the same seed; their timeouts must differ.
        let mut dice = Dice::new(seed ^ config.id.0.rotate_left(32));
        Ok(Self {
            configured: *configured,
            voters: Voters::new(configuration),
            serial: Serial(dice.roll()),
            dice,
            now: Duration::ZERO,
            begun: false,
            halted: false,
            hard,
            hard_dirty: false,
            commit: log.checkpointed(),
            applied: log.checkpointed(),
            log,
            state: State::Follower(Follower::default()),
            incoming: partial.map(|(checkpoint, received)| Incoming::resumed(checkpoint, received)),
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
        self.now = self.now.max(now);
        if !self.begun {
            self.begin();
        }
        match event {
            Event::Received(message) => self.receive(message),
            Event::Persisted(sequence) => self.persisted(sequence),
            Event::Propose { ticket, command } => self.propose(ticket, command),
            Event::Read { ticket, .. } => self.read(ticket),
            Event::Change { ticket, .. } => {
                let (leader, why) = (self.leader(), Refusal::NotReady);
                self.outbox.push(Effect::ChangeRefused { ticket, leader, why });
            }
            Event::Transfer { ticket, .. } => {
                let (leader, why) = (self.leader(), Refusal::NotReady);
                self.outbox.push(Effect::TransferRefused { ticket, leader, why });
            }
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
            _ if self.alone() => None,
            _ => self.may_campaign().then_some(self.due),
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
            lease: false,
            transfer: None,
            changing: false,
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
            self.campaign();
        } else {
            self.arm();
        }
    }

    /// Whether it needs nobody else to lead.
    pub(crate) fn alone(&self) -> bool {
        self.voters.alone(self.config.id) && !self.hard.rebuilding
    }

    /// Whether this member may lead: it votes in the configuration in force, or in the one that comes back if that is
    /// undone. A member that is being removed is sometimes the only one with a log that can win (thesis, 4.2.2).
    pub(crate) fn may_campaign(&self) -> bool {
        let possible = self.log.possible(self.commit);
        !self.hard.rebuilding && possible.iter().any(|(_, c)| c.votes(self.config.id))
    }

    /// The log changed: perhaps another configuration is in force.
    pub(crate) fn reconfigure(&mut self) {
        let (configured, configuration) = self.log.configuration();
        if *configured != self.configured || *configured == Index::ZERO {
            self.configured = *configured;
            self.voters = Voters::new(configuration);
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

    fn receive(&mut self, message: Message) {
        let Message { from, to, term, body } = message;
        // Whoever it is: a member that lags may not know the newest group yet (section 6). Whose vote counts is decided
        // where votes are counted.
        if to != self.config.id || from == to {
            return;
        }
        match body {
            Body::PreVote { last } => return self.pre_vote_asked(from, term, last),
            // A member that cannot hear the leader must not depose one that others hear (thesis, 4.2.3).
            Body::Vote { transfer: false, .. } if term >= self.hard.term && self.hears_leader() => {
                return;
            }
            _ => {}
        }
        if term > self.hard.term {
            match body {
                // Bears the term that was asked about.
                Body::PreVoteReply { granted: true } => {}
                Body::Append(_) | Body::Install(_) => self.follow(term, Some(from)),
                _ => self.follow(term, None),
            }
        } else if term < self.hard.term {
            return self.answer_stale(from, &body);
        }
        match body {
            Body::PreVote { .. } => {}
            Body::PreVoteReply { granted } => self.pre_vote_answered(from, term, granted),
            Body::Vote { last, .. } => self.vote_asked(from, last),
            Body::VoteReply { granted } => self.vote_answered(from, granted),
            Body::Append(append) => self.append_asked(from, append),
            Body::AppendReply(reply) => self.append_answered(from, &reply),
            Body::Install(install) => self.install_asked(from, install),
            Body::InstallReply(reply) => self.install_answered(from, &reply),
            Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::Rebuilt { .. } => {}
        }
    }

    /// Becomes a follower, in this term or a newer one, and gives up what only a leader can answer.
    pub(crate) fn follow(&mut self, term: Term, leader: Option<MemberId>) {
        if term > self.hard.term {
            self.set_hard(HardState { term, vote: None, ..self.hard });
        }
        let old = std::mem::replace(&mut self.state, State::Follower(Follower { leader }));
        match old {
            State::Leader(old) => {
                for ticket in old.reads.abandon() {
                    self.outbox.push(Effect::ReadRefused { ticket, leader });
                }
                self.arm();
            }
            State::Candidate(_) => self.arm(),
            // Its timer runs on: only a leader or a granted vote puts a campaign off.
            State::Follower(_) => {}
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

    fn propose(&mut self, ticket: Ticket, command: Bytes) {
        if !matches!(self.state, State::Leader(_)) {
            let leader = self.leader();
            self.outbox.push(Effect::ProposalRefused { ticket, leader, why: Refusal::NotLeader });
            return;
        }
        let index = self.log.last().index.next();
        let term = self.hard.term;
        self.log.append(Entry { index, term, payload: Payload::Command(command) });
        self.outbox.push(Effect::Accepted { ticket, index, term });
    }

    fn read(&mut self, ticket: Ticket) {
        if let State::Leader(leader) = &mut self.state {
            leader.reads.add(ticket);
        } else {
            let leader = self.leader();
            self.outbox.push(Effect::ReadRefused { ticket, leader });
        }
    }

    fn wake(&mut self) {
        match self.state {
            State::Leader(_) => self.leader_wake(),
            _ if self.alone() || self.now < self.due || !self.may_campaign() => {}
            _ => self.pre_campaign(),
        }
    }

    /// Brings out what follows from the state. Doing it twice changes nothing.
    fn flush(&mut self) {
        // Before the persist: a leader may send while it writes (thesis, 10.2.1), since it counts itself only when
        // its own write is done.
        self.replicate();
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
