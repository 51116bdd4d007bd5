//! The core of the room `raft`, driven tick by tick with a disk that is as fast as memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::{
    Checkpoint, Chunk, Config, Configuration, Effect, Entry, Event, HardState, Index, MemberId,
    Message, Node, Payload, Persist, Position, ReadMode, Role, Stored, Ticket,
};

use crate::member::{Change, Core, HEARTBEAT, PATIENCE, View, Word};

const TICK: Duration = Duration::from_millis(10);

/// One member.
pub(crate) struct Ours {
    config: Config,
    node: Node,
    clock: Duration,
    lives: u64,
    hard: HardState,
    entries: Vec<Entry>,
    /// The checkpoint in use with its bytes, and the bytes of the one that is being collected.
    saved: Option<(Checkpoint, Bytes)>,
    part: Vec<u8>,
    /// Where the state machine is, the group there, and what the machine saw.
    at: Position,
    group: Arc<Configuration>,
    applied: Vec<u64>,
    reads: Vec<(u64, u64)>,
    out: Vec<Message>,
}

impl Ours {
    /// The state machine begins anew, from the checkpoint.
    fn load(&mut self) {
        self.applied.clear();
        self.at = Position::default();
        self.group = Arc::new(Configuration::of(self.config.voters.clone()));
        if let Some((checkpoint, bytes)) = &self.saved {
            let commands = bytes.chunks(8).map(|c| u64::from_be_bytes(c.try_into().unwrap()));
            self.applied.extend(commands);
            self.at = checkpoint.last;
            self.group = checkpoint.configuration.clone();
        }
    }

    fn apply(&mut self, entry: &Entry) {
        self.at = entry.position();
        match &entry.payload {
            Payload::Noop => {}
            Payload::Command(_) => {
                if let Word::Command(command) = word(entry) {
                    self.applied.push(command);
                }
            }
            Payload::Configuration(group) => self.group = group.clone(),
        }
    }

    /// A piece of the checkpoint in use, for one that lags.
    fn piece(&self, to: MemberId, checkpoint: Checkpoint, offset: u64, limit: u64) -> Event {
        let bytes = self.saved.as_ref().filter(|(saved, _)| *saved == checkpoint).map(|(_, b)| b);
        let Some(bytes) = bytes else { return Event::ChunkGone { to, checkpoint } };
        let data = bytes.slice(offset as usize..(offset + limit) as usize);
        Event::ChunkRead { to, chunk: Chunk { checkpoint, offset, data } }
    }

    fn handle(&mut self, event: Event) {
        self.node.handle(self.clock, event);
        while let Some(effect) = self.node.poll() {
            match effect {
                Effect::Persist(persist) => self.persist(persist),
                Effect::Send(message) => self.out.push(message),
                Effect::Apply(entries) => entries.iter().for_each(|entry| self.apply(entry)),
                Effect::Restore(_) => self.load(),
                Effect::Trim(index) => self.entries.retain(|entry| entry.index > index),
                Effect::ReadChunk { to, checkpoint, offset, limit } => {
                    let piece = self.piece(to, checkpoint, offset, limit);
                    self.node.handle(self.clock, piece);
                }
                Effect::ReadReady { ticket, index } => self.reads.push((ticket.0, index.0)),
                Effect::Halted(why) => panic!("halted: {why}"),
                _ => {}
            }
        }
    }

    fn persist(&mut self, persist: Persist) {
        self.hard = persist.hard.unwrap_or(self.hard);
        for chunk in persist.chunks {
            self.part.truncate(chunk.offset as usize);
            self.part.extend_from_slice(&chunk.data);
        }
        if let Some(checkpoint) = persist.checkpoint {
            self.saved = Some((checkpoint, std::mem::take(&mut self.part).into()));
            self.entries.clear();
        }
        if let Some(from) = persist.truncate {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(persist.entries);
        self.node.handle(self.clock, Event::Persisted(persist.sequence));
    }
}

impl Core for Ours {
    type Letter = Message;

    fn new(id: u64, voters: &[u64]) -> Self {
        let joins = !voters.contains(&id);
        let voters = voters.iter().filter(|_| !joins).map(|id| MemberId(*id)).collect();
        let ticks = |n: u64| TICK * u32::try_from(n).unwrap();
        let config = Config {
            election_min: ticks(PATIENCE),
            election_max: ticks(PATIENCE * 2),
            heartbeat: ticks(HEARTBEAT),
            window: 256,
            keep: 0,
            ..Config::new(MemberId(id), voters)
        };
        let node = Node::new(config.clone(), 0, Stored::default()).unwrap();
        let mut new = Self {
            group: Arc::new(Configuration::of(config.voters.clone())),
            config,
            node,
            clock: TICK,
            lives: 0,
            hard: HardState::default(),
            entries: Vec::new(),
            saved: None,
            part: Vec::new(),
            at: Position::default(),
            applied: Vec::new(),
            reads: Vec::new(),
            out: Vec::new(),
        };
        new.handle(Event::Wake);
        new
    }

    fn restart(&mut self) {
        self.lives += 1;
        let checkpoint = self.saved.as_ref().map(|(checkpoint, _)| checkpoint.clone());
        let (hard, entries) = (self.hard, self.entries.clone());
        let stored = Stored { hard, checkpoint, entries, ..Stored::default() };
        self.node = Node::new(self.config.clone(), self.lives, stored).unwrap();
        self.load();
        self.part.clear();
        self.out.clear();
        self.handle(Event::Wake);
    }

    fn tick(&mut self) {
        self.clock += TICK;
        if matches!(self.node.status().role, Role::Leader { .. }) {
            self.handle(Event::Wake);
        }
    }

    fn stand(&mut self) {
        self.handle(Event::Wake);
    }

    fn propose(&mut self, command: u64) {
        let bytes = Bytes::copy_from_slice(&command.to_be_bytes());
        self.handle(Event::Propose { ticket: Ticket(command), command: bytes });
    }

    fn checkpoint(&mut self) {
        let bytes: Vec<u8> =
            self.applied.iter().flat_map(|command| command.to_be_bytes()).collect();
        let checkpoint = Checkpoint {
            last: self.at,
            configuration: self.group.clone(),
            size: bytes.len() as u64,
            digest: self
                .applied
                .iter()
                .fold(0, |sum: u64, command| sum.wrapping_mul(31).wrapping_add(*command)),
        };
        if self.at.index > self.node.base().index {
            self.saved = Some((checkpoint.clone(), bytes.into()));
            self.handle(Event::CheckpointTaken(checkpoint));
        }
    }

    fn read(&mut self, number: u64) {
        self.handle(Event::Read { ticket: Ticket(number), mode: ReadMode::Quorum });
    }

    fn change(&mut self, change: Change) {
        let mut target = Configuration::clone(&self.node.status().configuration);
        match change {
            Change::Learner(id) => target.learners.push(MemberId(id)),
            Change::Promote(id) => {
                target.learners.retain(|learner| *learner != MemberId(id));
                target.voters.push(MemberId(id));
            }
            Change::Remove(id) => target.voters.retain(|voter| *voter != MemberId(id)),
        }
        self.handle(Event::Change { ticket: Ticket(0), target });
    }

    fn transfer(&mut self, to: u64) {
        self.handle(Event::Transfer { ticket: Ticket(0), to: MemberId(to) });
    }

    fn take(&mut self, letter: Message) {
        self.handle(Event::Received(letter));
    }

    fn work(&mut self) -> Vec<(u64, Message)> {
        self.out.drain(..).map(|message| (message.to.0, message)).collect()
    }

    fn view(&self) -> View {
        let status = self.node.status();
        let group: Arc<Configuration> = status.configuration;
        let ids = |list: &[MemberId]| list.iter().map(|id| id.0).collect();
        View {
            leads: matches!(status.role, Role::Leader { .. }),
            leader: status.leader.map(|id| id.0),
            term: status.term.0,
            commit: status.commit.0,
            base: self.node.base().index.0,
            log: self.node.entries().map(|e| (e.term.0, word(e))).collect(),
            applied: self.applied.clone(),
            voters: ids(&group.voters),
            learners: ids(&group.learners),
            joint: group.is_joint(),
            reads: self.reads.clone(),
        }
    }
}

fn word(entry: &Entry) -> Word {
    match &entry.payload {
        Payload::Noop => Word::Noop,
        // See `differences`: who founded the group, in place of the first leader's no-op.
        Payload::Configuration(_) if entry.index == Index(1) => Word::Noop,
        Payload::Command(bytes) => Word::Command(u64::from_be_bytes(bytes[..].try_into().unwrap())),
        Payload::Configuration(_) => Word::Change,
    }
}
