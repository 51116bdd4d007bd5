//! The core of the room `raft`, driven tick by tick with a disk that is as fast as memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::{
    Config, Configuration, Effect, Entry, Event, HardState, Index, MemberId, Message, Node,
    Payload, Persist, ReadMode, Role, Stored, Ticket,
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
    applied: Vec<u64>,
    reads: Vec<(u64, u64)>,
    out: Vec<Message>,
}

impl Ours {
    fn node(config: &Config, life: u64, hard: HardState, entries: Vec<Entry>) -> Node {
        let stored = Stored { hard, entries, ..Stored::default() };
        Node::new(config.clone(), life, stored).unwrap()
    }

    fn handle(&mut self, event: Event) {
        self.node.handle(self.clock, event);
        while let Some(effect) = self.node.poll() {
            match effect {
                Effect::Persist(persist) => self.persist(persist),
                Effect::Send(message) => self.out.push(message),
                Effect::Apply(entries) => {
                    let words = entries.iter().map(word);
                    self.applied.extend(words.filter_map(|word| match word {
                        Word::Command(command) => Some(command),
                        _ => None,
                    }));
                }
                Effect::ReadReady { ticket, index } => self.reads.push((ticket.0, index.0)),
                Effect::Halted(why) => panic!("halted: {why}"),
                _ => {}
            }
        }
    }

    fn persist(&mut self, persist: Persist) {
        assert!(persist.chunks.is_empty(), "no checkpoint is ever taken here");
        self.hard = persist.hard.unwrap_or(self.hard);
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
            ..Config::new(MemberId(id), voters)
        };
        let node = Self::node(&config, 0, HardState::default(), Vec::new());
        let mut new = Self {
            config,
            node,
            clock: TICK,
            lives: 0,
            hard: HardState::default(),
            entries: Vec::new(),
            applied: Vec::new(),
            reads: Vec::new(),
            out: Vec::new(),
        };
        new.handle(Event::Wake);
        new
    }

    fn restart(&mut self) {
        self.lives += 1;
        self.node = Self::node(&self.config, self.lives, self.hard, self.entries.clone());
        self.applied.clear();
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
