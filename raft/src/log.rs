//! The log in memory, and how much of it is on stable storage.
//!
//! It holds the entries after `base`; older ones are in a checkpoint. It also knows what was handed out to be written
//! and what of that is known to be written, because a truncation in between must not be forgotten: an entry counts as
//! stable only if the very entry that stands there now was written. And it knows which configuration is in force, since
//! that is whatever stands last in the log. It knows nothing of roles or of commitment.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Error;
use crate::configuration::Configuration;
use crate::effect::{Persist, Stored};
use crate::ids::{Index, Sequence, Term};
use crate::message::{Checkpoint, Conflict, Entry, Payload, Position};

/// Room for so many entries is made at once.
const SLICE: u64 = 1024;

pub(crate) struct Log {
    base: Position,
    entries: VecDeque<Entry>,
    /// Bytes of the entries.
    bytes: usize,
    /// Where each configuration stands, oldest first; the first is that at `base`. Never empty.
    configurations: Vec<(Index, Arc<Configuration>)>,
    checkpoint: Option<Checkpoint>,
    /// The last index handed out in a persist, if nothing was truncated since.
    handed: Index,
    /// Stored entries from here on are to be dropped by the next persist.
    cut: Option<Index>,
    /// The checkpoint came from the leader and is to be part of the next persist.
    installing: bool,
    stable: Index,
    /// Persists on their way to the disk, each with the last index that it makes stable.
    flights: VecDeque<(Sequence, Index)>,
}

impl Log {
    /// The log as found on disk, or the reason why it cannot be one.
    /// The group was `first` before its first entry.
    pub(crate) fn new(stored: Stored, first: Configuration) -> Result<Self, Error> {
        let base = stored.checkpoint.as_ref().map_or(Position::default(), |c| c.last);
        check(&stored, base)?;
        let covered = stored.checkpoint.as_ref().map(|c| c.configuration.clone());
        let mut configurations = vec![(Index::ZERO, covered.unwrap_or(Arc::new(first)))];
        let first = stored.entries.first().map(|e| e.index);
        let mut cut = None;
        let mut entries: VecDeque<Entry> = stored.entries.into();
        let last = entries.back().map_or(Index::ZERO, |e| e.index);
        let fits = first == Some(base.index.next())
            || entries.iter().find(|e| e.index == base.index).is_some_and(|e| e.term == base.term);
        if last < base.index || !fits {
            // The checkpoint was installed, and the crash came before the old log was dropped.
            cut = first;
            entries.clear();
        }
        entries.retain(|e| e.index > base.index);
        let last = entries.back().map_or(base.index, |e| e.index);
        configurations.extend(entries.iter().filter_map(configuration));
        Ok(Self {
            base,
            bytes: entries.iter().map(Entry::size).sum(),
            entries,
            configurations,
            checkpoint: stored.checkpoint,
            handed: last,
            cut,
            installing: false,
            stable: last,
            flights: VecDeque::new(),
        })
    }

    /// The position before the first entry that is still here.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, Entry::position)
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn stable(&self) -> Index {
        self.stable
    }

    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The last index of the newest checkpoint.
    pub(crate) fn checkpointed(&self) -> Index {
        self.checkpoint.as_ref().map_or(Index::ZERO, |c| c.last.index)
    }

    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        usize::try_from(offset).ok().filter(|o| *o < self.entries.len())
    }

    /// The term of the entry at `index`, if that is known here.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.offset(index).map(|o| self.entries[o].term)
    }

    /// Whether there is an entry of this term in this place.
    pub(crate) fn has(&self, position: Position) -> bool {
        self.term(position.index) == Some(position.term)
    }

    /// Why `index` is not what a leader thought (it has another term, or is missing).
    pub(crate) fn conflict(&self, index: Index) -> Conflict {
        let Some(term) = self.term(index) else {
            return Conflict { term: None, first: self.last().index.next() };
        };
        // Terms never fall along a log.
        let before = self.entries.partition_point(|e| e.term < term);
        let first = match self.entries.get(before) {
            _ if self.base.term == term => self.base.index,
            Some(entry) => entry.index,
            None => index,
        };
        Conflict { term: Some(term), first }
    }

    /// The last index before `below` whose entry has this term.
    pub(crate) fn last_of(&self, term: Term, below: Index) -> Option<Index> {
        let after = self.entries.partition_point(|e| e.term <= term);
        let last = after.checked_sub(1).map_or(self.base.index, |at| self.entries[at].index);
        let index = last.min(below.back());
        (index > Index::ZERO && self.term(index) == Some(term)).then_some(index)
    }

    /// Entries from `from` to `to`, both included, stopping before `bytes` are passed but never empty-handed.
    pub(crate) fn slice(&self, from: Index, to: Index, bytes: usize) -> Vec<Entry> {
        let Some(start) = self.offset(from) else { return Vec::new() };
        let mut all = 0;
        let most = to.0.saturating_sub(from.0) + 1;
        let room = (most.min(SLICE) as usize).min(self.entries.len() - start);
        let mut slice = Vec::with_capacity(room);
        for entry in self.entries.range(start..) {
            all += entry.size();
            if entry.index > to || (all > bytes && !slice.is_empty()) {
                break;
            }
            slice.push(entry.clone());
        }
        slice
    }

    /// Adds an entry that follows the last one.
    pub(crate) fn append(&mut self, entry: Entry) {
        debug_assert_eq!(entry.index, self.last().index.next());
        self.bytes += entry.size();
        self.configurations.extend(configuration(&entry));
        self.entries.push_back(entry);
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        let Some(offset) = self.offset(from) else { return };
        self.bytes -= self.entries.range(offset..).map(Entry::size).sum::<usize>();
        self.entries.truncate(offset);
        self.configurations.retain(|(index, _)| *index < from || *index == Index::ZERO);
        if self.handed >= from {
            self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
            self.handed = from.back();
        }
        self.unstable(from.back());
    }

    /// Starts again from the leader's checkpoint.
    pub(crate) fn reset(&mut self, checkpoint: Checkpoint) {
        self.entries.clear();
        self.bytes = 0;
        self.configurations = vec![(Index::ZERO, checkpoint.configuration.clone())];
        self.base = checkpoint.last;
        self.handed = checkpoint.last.index;
        self.checkpoint = Some(checkpoint);
        self.installing = true;
        self.cut = None;
        self.unstable(Index::ZERO);
    }

    /// What lies above `index` is not what is being written, or was.
    fn unstable(&mut self, index: Index) {
        self.stable = self.stable.min(index);
        for (_, last) in &mut self.flights {
            *last = (*last).min(index);
        }
    }

    /// Takes a checkpoint made here. What is after `keep` stays in the log, up to so many bytes below the checkpoint;
    /// gives the new base if entries can go.
    pub(crate) fn checkpoint_taken(
        &mut self,
        checkpoint: Checkpoint,
        keep: Index,
        keep_bytes: usize,
    ) -> Option<Index> {
        let last = checkpoint.last.index;
        self.checkpoint = Some(checkpoint);
        let mut offset = self.offset(last)?;
        let mut kept = 0;
        while self.entries[offset].index > keep {
            kept += self.entries[offset].size();
            if kept > keep_bytes {
                break;
            }
            offset = offset.checked_sub(1)?;
        }
        self.base = self.entries[offset].position();
        self.bytes -= self.entries.drain(..=offset).map(|e| e.size()).sum::<usize>();
        // The newest at or below the base is the base's.
        let below = self.configurations.partition_point(|(index, _)| *index <= self.base.index);
        self.configurations.drain(..below - 1);
        Some(self.base.index)
    }

    /// Bytes of the entries in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the entries after `index`, up to and with `to`.
    pub(crate) fn bytes_between(&self, index: Index, to: Index) -> usize {
        let from = self.offset(index.next()).unwrap_or(self.entries.len());
        let end = self.offset(to.next()).unwrap_or(self.entries.len());
        self.entries.range(from..end.max(from)).map(Entry::size).sum()
    }

    /// The configuration in force, and where it stands.
    pub(crate) fn configuration(&self) -> &(Index, Arc<Configuration>) {
        &self.configurations[self.configurations.len() - 1]
    }

    /// Configurations in force or to be in force again if entries after `commit` are undone.
    pub(crate) fn possible(&self, commit: Index) -> &[(Index, Arc<Configuration>)] {
        let after = self.configurations.partition_point(|(at, _)| *at <= commit);
        &self.configurations[after.saturating_sub(1)..]
    }

    /// Whether the disk differs from what is here.
    pub(crate) fn dirty(&self) -> bool {
        self.installing || self.cut.is_some() || self.handed < self.last().index
    }

    /// Fills in what the disk lacks.
    pub(crate) fn hand_out(&mut self, persist: &mut Persist) {
        if self.installing {
            persist.checkpoint.clone_from(&self.checkpoint);
        }
        persist.truncate = self.cut.take();
        persist.entries = self.slice(self.handed.next(), self.last().index, usize::MAX);
        self.installing = false;
        self.handed = self.last().index;
        self.flights.push_back((persist.sequence, self.handed));
    }

    /// The disk has everything up to and with this persist.
    pub(crate) fn persisted(&mut self, sequence: Sequence) {
        while let Some((_, last)) = self.flights.pop_front_if(|(s, _)| *s <= sequence) {
            self.stable = self.stable.max(last);
        }
    }
}

fn configuration(entry: &Entry) -> Option<(Index, Arc<Configuration>)> {
    match &entry.payload {
        Payload::Configuration(configuration) => Some((entry.index, configuration.clone())),
        _ => None,
    }
}

/// Refuses what no run of this protocol can have left on a disk.
fn check(stored: &Stored, base: Position) -> Result<(), Error> {
    let mut newest = Term::ZERO;
    let mut next = None;
    for entry in &stored.entries {
        if entry.index == Index::ZERO || next.is_some_and(|n| n != entry.index) {
            return Err(Error::Stored("entries are not consecutive"));
        }
        if entry.term < newest || entry.term == Term::ZERO {
            return Err(Error::Stored("terms of entries fall"));
        }
        if let Payload::Configuration(configuration) = &entry.payload {
            configuration.check().map_err(Error::Stored)?;
        }
        newest = entry.term;
        next = Some(entry.index.next());
    }
    if stored.entries.first().is_some_and(|e| e.index > base.index.next()) {
        return Err(Error::Stored("entries are missing after the checkpoint"));
    }
    if stored.checkpoint.as_ref().is_some_and(|c| c.configuration.check().is_err()) {
        return Err(Error::Stored("the checkpoint does not say who belongs to the group"));
    }
    if newest.max(base.term) > stored.hard.term {
        return Err(Error::Stored("the term is older than the log"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
