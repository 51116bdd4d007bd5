//! Opening a log: reads all segments, tells a torn tail from damage, and continues behind the last
//! sound record.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use bytes::BytesMut;
use raft::{Entry, Index};
use world::{Disk, OpenMode};

use super::{
    Head, Log, Owner, Recovered, SEGMENT, Segment, first_record,
    format::{self, HEADER, Part, RECORD},
    make_segment, segment_path,
};
use crate::{
    config::GroupId,
    error::{Error, REBUILD},
};

/// What has been read so far.
#[derive(Default)]
struct Replay {
    groups: BTreeMap<GroupId, Group>,
    next_record: Option<u64>,
}

/// What has been read of one group.
#[derive(Default)]
struct Group {
    head: Head,
    entries: Vec<Entry>,
    /// Where the log goes on when there are no entries.
    base: Option<Index>,
}

impl Group {
    fn part(&mut self, part: Part) -> Result<(), &'static str> {
        match part {
            Part::Founded(voters) => self.head.founded = Some(voters),
            Part::Hard(hard) => self.head.hard = hard,
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
    /// Opens the log in `dir`, or makes an empty one; tells what it holds of each group.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the segment; nothing was changed then.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        owner: Owner,
    ) -> Result<(Self, BTreeMap<GroupId, Recovered>), Error> {
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
        let Replay { groups, next_record } = replay;
        let log = Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            owner,
            segments,
            file,
            offset: end,
            next_record: next_record.unwrap_or(0),
            heads: groups.iter().map(|(id, group)| (*id, group.head.clone())).collect(),
            needs: BTreeMap::new(),
            buffer: BytesMut::new(),
        };
        let recovered = groups.into_iter().map(|(id, group)| {
            let Group { head: Head { hard, founded }, entries, .. } = group;
            (id, Recovered { hard, founded, entries })
        });
        Ok((log, recovered.collect()))
    }

    fn create(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        owner: Owner,
    ) -> Result<(Self, BTreeMap<GroupId, Recovered>), Error> {
        let path = segment_path(dir, 0);
        let heads = BTreeMap::new();
        let first = first_record(&heads, 0, 0);
        let (file, offset) = make_segment(disk.as_ref(), &path, format::header(owner, 0), &first)
            .map_err(|error| Error::file(&path, &error))?;
        let highest = BTreeMap::new();
        let log = Self {
            disk: disk.clone(),
            dir: dir.to_owned(),
            owner,
            segments: vec![Segment { number: 0, path, size: SEGMENT, highest }],
            file,
            offset,
            next_record: 1,
            heads,
            needs: BTreeMap::new(),
            buffer: BytesMut::new(),
        };
        Ok((log, BTreeMap::new()))
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

/// Replays one segment. Returns where its sound part ends and the highest entry of each group in it.
fn read_segment(
    path: &Path,
    bytes: &[u8],
    owner: Owner,
    number: u64,
    last: bool,
    replay: &mut Replay,
) -> Result<(u64, BTreeMap<GroupId, Index>), Error> {
    format::check_header(bytes, owner, number).map_err(|reason| Error::damaged(path, reason))?;
    let mut at = HEADER;
    let mut highest = BTreeMap::new();
    while let Some(record) = format::record(&bytes[at..], number) {
        if replay.next_record.is_some_and(|next| next != record.number) {
            break;
        }
        let damaged = |reason: &str| {
            Error::damaged(path, format!("{reason} (record at byte {at}); {REBUILD}"))
        };
        for (group, part) in format::parts(record.payload).map_err(damaged)? {
            if let Part::Entry(entry) = &part {
                let seen = highest.entry(group).or_insert(entry.index);
                *seen = entry.index.max(*seen);
            }
            replay.groups.entry(group).or_default().part(part).map_err(damaged)?;
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
