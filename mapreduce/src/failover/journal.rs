//! The journal of a job: what its coordinator was told, in order, with a digest of what that led to. One file for each
//! coordinator, in a directory of the job's output; each file names the one before it and how much of that counts.
//! What the events mean is not known here.
//!
//! An entry is a head of eight bytes (length and CRC-32C, little endian) and JSON. What is cut off or damaged at the
//! end of a file was never acted upon: reading ends there.

use std::sync::Arc;

use bytes::Bytes;
use fs::InodeNo;
use serde::{Deserialize, Serialize};

use super::ballots::Term;
use crate::{counters::Counters, error::Error, files::Files, input::plan::Split, scheduler::Event};

/// The format of the entries.
const VERSION: u32 = 2;
const HEAD: usize = 8;
/// Longer entries are not believed.
const ENTRY_LIMIT: usize = 1 << 30;
/// What is read at once.
const READ: u64 = 1 << 20;

/// What a job is: the first entry of its first journal. All that was decided without the scheduler is in it: numbers
/// from dice, which files were found, how they were cut, which ranges were sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) version: u32,
    pub(crate) job: u64,
    /// The description, as workers get it.
    pub(crate) spec: Vec<u8>,
    pub(crate) splits: Vec<Split>,
    pub(crate) workers: Vec<String>,
}

impl Begin {
    pub(crate) fn new(job: u64, spec: Vec<u8>, splits: Vec<Split>, workers: Vec<String>) -> Self {
        Self { version: VERSION, job, spec, splits, workers }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The job begins.
    Begin(Box<Begin>),
    /// Another coordinator goes on behind the first `length` bytes of the journal of `after`.
    Continued { after: Term, length: u64 },
    /// The coordinator was told something.
    Told {
        /// Nanoseconds of the job's own time.
        at: u64,
        event: Event,
        /// Of an attempt that is done.
        counters: Option<Counters>,
        /// Of the effects.
        digest: u32,
    },
}

impl Entry {
    /// Appends its bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::Journal(format!("an entry cannot be written: {error}")))?;
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc_fast::crc32_iscsi(&text).to_le_bytes());
        out.extend_from_slice(&text);
        Ok(())
    }

    /// The entry at the begin of `bytes` and its length; `None` if there is no whole one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(None) };
        let (length, crc) = head.split_at(4);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let length = word(length) as usize;
        if length == 0 || length > ENTRY_LIMIT {
            return Ok(None);
        }
        let Some(text) = rest.get(..length) else { return Ok(None) };
        if crc_fast::crc32_iscsi(text) != word(crc) {
            return Ok(None);
        }
        // Its checksum is right, so another program version has written it.
        let entry = serde_json::from_slice(text).map_err(|error| {
            Error::Journal(format!("an entry of another version of this program: {error}"))
        })?;
        Ok(Some((entry, HEAD + length)))
    }
}

/// Where the journals of a job lie.
pub(crate) fn directory(output: &str) -> String {
    format!("{output}/_journal")
}

/// The journal of one coordinator.
pub(crate) fn path(output: &str, term: Term) -> String {
    format!("{}/{:020}", directory(output), term.0)
}

/// Writes the journal of this coordinator.
pub(crate) struct Journal {
    files: Arc<dyn Files>,
    path: String,
    ino: InodeNo,
    term: Term,
    /// Entries that are not in the file yet.
    waiting: Vec<u8>,
    /// Bytes that are in the file, and durable.
    durable: u64,
}

impl Journal {
    /// A new journal whose first entry is `first`; durable when this returns.
    pub(crate) async fn create(
        files: &Arc<dyn Files>,
        output: &str,
        term: Term,
        first: &Entry,
    ) -> Result<Self, Error> {
        let path = path(output, term);
        let failed = |error| Error::files(format!("making the journal {path}"), error);
        files.make_directories(&directory(output)).await.map_err(failed)?;
        let ino = files.create(&path).await.map_err(failed)?;
        let mut journal =
            Self { files: files.clone(), path, ino, term, waiting: Vec::new(), durable: 0 };
        journal.append(first)?;
        journal.commit().await?;
        Ok(journal)
    }

    /// The directory that it is in is called `output` now.
    pub(crate) fn moved_to(mut self, output: &str) -> Self {
        self.path = path(output, self.term);
        self
    }

    /// Adds an entry to those that are committed next.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        entry.encode(&mut self.waiting)
    }

    /// On return all entries are durable.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.waiting));
        let length = bytes.len() as u64;
        let written = self.files.write(self.ino, self.durable, bytes).await;
        let written = match written {
            Ok(()) => self.files.sync(self.ino).await,
            error => error,
        };
        let failed = |error| Error::files(format!("writing the journal {}", self.path), error);
        written.map_err(failed)?;
        self.durable += length;
        Ok(())
    }

    /// Bytes that standbys can read.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes that wait for the next commit.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing will be written any more.
    pub(crate) async fn close(self) {
        if let Err(error) = self.files.finish(self.ino).await {
            tracing::debug!(%error, path = self.path, "the journal is not closed well");
        }
    }
}

/// Reads a journal while it grows.
pub(crate) struct Tail {
    path: String,
    /// Bytes of entries that were taken.
    taken: u64,
    /// Bytes behind them that were read.
    rest: Vec<u8>,
}

impl Tail {
    pub(crate) fn new(path: String) -> Self {
        Self { path, taken: 0, rest: Vec::new() }
    }

    /// Bytes of the entries that were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the entries that lie whole below `length` bytes of the file.
    pub(crate) async fn take(
        &mut self,
        files: &dyn Files,
        length: u64,
    ) -> Result<Vec<Entry>, Error> {
        let failed = |error| Error::files(format!("reading the journal {}", self.path), error);
        let Some(stat) = files.stat(&self.path).await.map_err(failed)? else {
            return Err(Error::Journal(format!("{} is not there", self.path)));
        };
        let mut at = self.taken + self.rest.len() as u64;
        let end = length.min(stat.size);
        while at < end {
            let parts = files.read(stat.ino, at, READ.min(end - at)).await.map_err(failed)?;
            let before = at;
            for part in parts {
                at += part.len() as u64;
                self.rest.extend_from_slice(&part);
            }
            if at == before {
                break;
            }
        }
        let (mut entries, mut used) = (Vec::new(), 0);
        while let Some((entry, length)) = Entry::decode(&self.rest[used..])? {
            used += length;
            entries.push(entry);
        }
        self.rest.drain(..used);
        self.taken += used as u64;
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::{Begin, Entry};
    use crate::{
        failover::ballots::Term,
        scheduler::{Event, Sizes, Task, WorkerNo},
    };

    fn entries() -> Vec<Entry> {
        let event = Event::Done {
            worker: WorkerNo(3),
            task: Task::Map(7),
            attempt: 1,
            sizes: Sizes::new(&[0, 9]),
        };
        vec![
            Entry::Begin(Box::new(Begin::new(9, b"{}".to_vec(), Vec::new(), vec!["w".to_owned()]))),
            Entry::Continued { after: Term(3), length: 99 },
            Entry::Told { at: 5, event, counters: None, digest: 77 },
        ]
    }

    #[test]
    fn entries_are_read_as_they_were_written_and_a_torn_end_is_none() {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for entry in entries() {
            entry.encode(&mut bytes).unwrap();
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let (mut at, mut read) = (0, Vec::new());
            while let Some((entry, length)) = Entry::decode(&bytes[at..cut]).unwrap() {
                at += length;
                read.push(entry);
            }
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read, entries()[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn damage_ends_a_journal_and_foreign_lengths_are_not_believed() {
        let mut bytes = Vec::new();
        entries()[1].encode(&mut bytes).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(Entry::decode(&damaged).unwrap().is_none(), "byte {at}");
        }
        assert!(Entry::decode(&[0xff; 64]).unwrap().is_none());
        assert!(Entry::decode(&[0; 64]).unwrap().is_none());
    }
}
