//! One member on the stage, with its disk: what was synced, what was not, and the bytes of checkpoints.
//!
//! It is the driver that a host must be, without any chance in it.

use std::sync::Arc;

use bytes::Bytes;
use raft::{
    Checkpoint, Chunk, Configuration, Effect, Event, Index, MemberId, Node, Payload, Persist,
    Position, Stored,
};

#[derive(Default)]
pub(crate) struct Actor {
    pub(crate) node: Option<Node>,
    pub(crate) stored: Stored,
    /// The bytes of the checkpoint in `stored`.
    pub(crate) data: Bytes,
    /// The checkpoint before that one: it stays readable.
    older: Option<(Checkpoint, Bytes)>,
    /// The bytes of the one that is being collected.
    part: Vec<u8>,
    pub(crate) unsynced: Vec<Persist>,
    pub(crate) holds: bool,
    /// Its disk damages the next checkpoint that is collected.
    pub(crate) damages: bool,
    /// It cannot read its checkpoint.
    pub(crate) blind: bool,
    /// The voters that it was told at its start; empty for one that joins.
    pub(crate) voters: Vec<MemberId>,
    /// As of the last entry applied.
    group: Arc<Configuration>,
    /// How often it was started.
    pub(crate) life: u64,
    /// How far its clock is ahead of the stage's, in milliseconds.
    pub(crate) ahead: i64,
}

pub(crate) fn digest(data: &[u8]) -> u64 {
    data.iter().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte))
}

impl Actor {
    pub(crate) fn new(voters: Vec<MemberId>) -> Self {
        Self { voters, ..Self::default() }
    }

    /// Another life begins.
    pub(crate) fn begin(&mut self) {
        self.life += 1;
        let first = || Arc::new(Configuration::of(self.voters.clone()));
        let checkpoint = self.stored.checkpoint.as_ref();
        self.group = checkpoint.map_or_else(first, |c| c.configuration.clone());
    }

    /// Does what concerns only this member, and gives what the node is to be told.
    pub(crate) fn act(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Persist(persist) => self.unsynced.push(persist),
            Effect::Trim(to) => self.stored.entries.retain(|e| e.index > to),
            Effect::Restore(checkpoint) => self.group = checkpoint.configuration,
            Effect::Apply(entries) => {
                for entry in entries {
                    if let Payload::Configuration(group) = entry.payload {
                        self.group = group;
                    }
                }
            }
            Effect::ReadChunk { to, checkpoint, offset, limit } => {
                let newest = self.stored.checkpoint.as_ref().map(|c| (c, &self.data));
                let older = self.older.as_ref().map(|(c, data)| (c, data));
                let mut all = newest.into_iter().chain(older).filter(|_| !self.blind);
                let Some((_, data)) = all.find(|(c, _)| **c == checkpoint) else {
                    return Some(Event::ChunkGone { to, checkpoint });
                };
                let data = data.slice(offset as usize..(offset + limit) as usize);
                return Some(Event::ChunkRead { to, chunk: Chunk { checkpoint, offset, data } });
            }
            _ => {}
        }
        None
    }

    /// Takes a checkpoint of what was applied.
    pub(crate) fn checkpoint(&mut self, applied: Index) -> Event {
        let node = self.node.as_ref().expect("a member that is up");
        let term = node.entries().find(|e| e.index == applied).expect("in the log").term;
        let data = Bytes::from(format!("state at {applied}"));
        let last = Position { index: applied, term };
        let (size, digest) = (data.len() as u64, digest(&data));
        let checkpoint = Checkpoint { last, configuration: self.group.clone(), size, digest };
        let older = self.stored.checkpoint.replace(checkpoint.clone());
        let bytes = std::mem::replace(&mut self.data, data);
        self.older = older.map(|older| (older, bytes));
        Event::CheckpointTaken(checkpoint)
    }

    /// Makes everything durable that waits; gives what the node is to be told.
    pub(crate) fn sync(&mut self) -> Vec<Event> {
        let unsynced = std::mem::take(&mut self.unsynced);
        let last = unsynced.last().map(|p| p.sequence);
        let mut events = Vec::new();
        for persist in unsynced {
            self.write(persist, &mut events);
        }
        events.extend(last.map(Event::Persisted));
        events
    }

    fn write(&mut self, persist: Persist, events: &mut Vec<Event>) {
        let stored = &mut self.stored;
        if let Some(hard) = persist.hard {
            stored.hard = hard;
        }
        for Chunk { checkpoint, offset, data } in persist.chunks {
            assert!(offset <= self.part.len() as u64, "a chunk beyond what was collected");
            self.part.truncate(offset as usize);
            self.part.extend_from_slice(&data);
            let received = self.part.len() as u64;
            let whole = received == checkpoint.size;
            if whole && std::mem::take(&mut self.damages) {
                self.part[0] ^= 1;
            }
            if whole && digest(&self.part) != checkpoint.digest {
                events.push(Event::CheckpointDamaged(checkpoint.clone()));
            }
            stored.partial = Some((checkpoint, received));
        }
        if let Some(checkpoint) = persist.checkpoint {
            self.data = std::mem::take(&mut self.part).into();
            assert_eq!(digest(&self.data), checkpoint.digest, "installed without a look");
            stored.partial = None;
            stored.checkpoint = Some(checkpoint);
            stored.entries.clear();
        }
        if let Some(from) = persist.truncate {
            stored.entries.retain(|e| e.index < from);
        }
        stored.entries.extend(persist.entries);
    }

    /// The disk loses everything, and says so at the next start.
    pub(crate) fn empty(&mut self) {
        self.stored = Stored::default();
        self.stored.hard.rebuilding = true;
        self.data = Bytes::new();
        self.part.clear();
        self.unsynced.clear();
    }
}
