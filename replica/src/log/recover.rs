//! Opening a log: reads all segments, tells a torn tail from damage, and continues behind the last
//! sound record.

use std::{io, path::Path, sync::Arc};

use raft::{Entry, HardState, Index, Position};
use world::{Disk, OpenMode};

use super::{
    Log, Owner, Recovered, SEGMENT, Segment, first_record,
    format::{self, HEADER, Part, RECORD},
    make_segment, segment_path,
};
use crate::error::{Error, REBUILD};

/// What has been read so far.
#[derive(Default)]
struct Replay {
    hard: HardState,
    entries: Vec<Entry>,
    /// Where the log goes on when there are no entries.
    base: Option<Index>,
    next_record: Option<u64>,
}

impl Replay {
    fn part(&mut self, part: Part) -> Result<(), &'static str> {
        match part {
            Part::Hard(hard) => self.hard = hard,
            Part::Truncate(index) => {
                let keep = self.entries.partition_point(|entry| entry.index < index);
                self.entries.truncate(keep);
            }
            Part::Reset(position) => {
                self.entries.clear();
                self.base = Some(position.index);
            }
            Part::Entry(entry) => {
                let last = self.entries.last().map(|entry| entry.index).or(self.base);
                if last.is_some_and(|last| entry.index != last.next()) {
                    return Err("an entry does not follow the one before it");
                }
                self.entries.push(entry);
            }
        }
        Ok(())
    }
}

impl Log {
    /// Opens the log in `dir`, or makes an empty one. `checkpoint` is what the checkpoint beside
    /// it covers: entries that contradict it are dropped.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the segment; nothing was changed then.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        owner: Owner,
        checkpoint: Option<Position>,
    ) -> Result<(Self, Recovered), Error> {
        let numbers = list(disk.as_ref(), dir)?;
        let Some((&last, _)) = numbers.split_last() else {
            return Self::create(disk, dir, owner);
        };
        let mut replay = Replay::default();
        let mut segments = Vec::new();
        let mut end = 0;
        for (at, number) in numbers.iter().enumerate() {
            let path = segment_path(dir, *number);
            if *number != numbers[0] + at as u64 {
                let reason = format!("the segment before it is missing; {REBUILD}");
                return Err(Error::damaged(&path, reason));
            }
            let bytes = disk.read(&path).map_err(|error| Error::file(&path, &error))?;
            let highest;
            (end, highest) =
                read_segment(&path, &bytes, owner, *number, *number == last, &mut replay)?;
            segments.push(Segment { number: *number, path, size: bytes.len() as u64, highest });
        }
        let path = segment_path(dir, last);
        let file =
            cut_tail(disk.as_ref(), &path, end).map_err(|error| Error::file(&path, &error))?;
        let Replay { hard, entries, next_record, .. } = replay;
        let mut log = Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            owner,
            segments,
            file,
            offset: end,
            next_record: next_record.unwrap_or(0),
            hard,
            buffer: Vec::new(),
            lock: None,
        };
        let entries = log.reconcile(entries, checkpoint)?;
        Ok((log, Recovered { hard, entries }))
    }

    fn create(disk: &Arc<dyn Disk>, dir: &Path, owner: Owner) -> Result<(Self, Recovered), Error> {
        let path = segment_path(dir, 0);
        let hard = HardState::default();
        let first = first_record(hard, 0, 0);
        let (file, offset) = make_segment(disk.as_ref(), &path, format::header(owner, 0), &first)
            .map_err(|error| Error::file(&path, &error))?;
        let segment = Segment { number: 0, path, size: SEGMENT, highest: Index::ZERO };
        let log = Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            owner,
            segments: vec![segment],
            file,
            offset,
            next_record: 1,
            hard,
            buffer: Vec::new(),
            lock: None,
        };
        Ok((log, Recovered::default()))
    }

    /// A crash between a leader's checkpoint and the record that resets the log leaves entries
    /// that end before it or contradict it.
    fn reconcile(
        &mut self,
        entries: Vec<Entry>,
        checkpoint: Option<Position>,
    ) -> Result<Vec<Entry>, Error> {
        let Some(covered) = checkpoint else { return Ok(entries) };
        let Some(last) = entries.last() else { return Ok(entries) };
        let behind = last.index < covered.index;
        let contradicts =
            entries.iter().any(|entry| entry.index == covered.index && entry.term != covered.term);
        if behind || contradicts {
            self.reset(covered)?;
            return Ok(Vec::new());
        }
        Ok(entries)
    }
}

/// The numbers of the segments in `dir`; left-overs of unfinished work are removed.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let failed = |error: io::Error| Error::file(dir, &error);
    let mut numbers = Vec::new();
    for path in disk.list(dir).map_err(failed)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(text) = name.strip_prefix("log-") else { continue };
        if text.ends_with(".new") {
            disk.remove(&path).map_err(failed)?;
        } else if let Ok(number) = u64::from_str_radix(text, 16) {
            numbers.push(number);
        } else {
            return Err(Error::damaged(&path, "no segment has such a name; move it away"));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Replays one segment. Returns where its sound part ends and the highest entry in it.
fn read_segment(
    path: &Path,
    bytes: &[u8],
    owner: Owner,
    number: u64,
    last: bool,
    replay: &mut Replay,
) -> Result<(u64, Index), Error> {
    format::check_header(bytes, owner, number).map_err(|reason| Error::damaged(path, reason))?;
    let mut at = HEADER;
    let mut highest = Index::ZERO;
    while let Some(record) = format::record(&bytes[at..], number) {
        if replay.next_record.is_some_and(|next| next != record.number) {
            break;
        }
        let damaged = |reason: &str| {
            Error::damaged(path, format!("{reason} (record at byte {at}); {REBUILD}"))
        };
        for part in format::parts(record.payload).map_err(damaged)? {
            if let Part::Entry(entry) = &part {
                highest = highest.max(entry.index);
            }
            replay.part(part).map_err(damaged)?;
        }
        replay.next_record = Some(record.number + 1);
        at += RECORD + record.payload.len();
    }
    let later = later_record(&bytes[at..], number, replay.next_record);
    let unfinished = !last && bytes[at..].iter().any(|byte| *byte != 0);
    if later || unfinished || at == HEADER {
        let reason = format!(
            "the record at byte {at} cannot be read although synced ones follow it; {REBUILD}"
        );
        return Err(Error::damaged(path, reason));
    }
    Ok((at as u64, highest))
}

/// Whether there is a record behind the next one, which proves that the next one was synced.
fn later_record(bytes: &[u8], segment: u64, next: Option<u64>) -> bool {
    let Some(next) = next else { return false };
    (0..bytes.len())
        .step_by(8)
        .filter_map(|at| format::record(&bytes[at..], segment))
        .any(|record| record.number > next)
}

/// Zeroes what follows the sound part, so that nothing of it is ever taken for a record.
fn cut_tail(disk: &dyn Disk, path: &Path, end: u64) -> io::Result<Arc<dyn world::File>> {
    let file = disk.open(path, OpenMode::Write)?;
    let size = file.size()?;
    let mut rest = vec![0; usize::try_from(size.saturating_sub(end)).unwrap_or(0)];
    file.read_exact_at(&mut rest, end)?;
    if let Some(used) = rest.iter().rposition(|byte| *byte != 0) {
        tracing::info!(path = %path.display(), bytes = used + 1, "cut a torn tail off the log");
        rest.truncate(used + 1);
        rest.fill(0);
        file.write_all_at(&rest, end)?;
    }
    if size < SEGMENT {
        file.set_size(SEGMENT)?;
    }
    file.sync()?;
    Ok(file)
}
