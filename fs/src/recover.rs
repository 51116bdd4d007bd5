//! Recovery: ends another session's business and replays its log.
//!
//! The order is: fence the dead session at the block servers; find its log by the log locks that
//! it held; judge each change by its own lock, grant and version; write the blocks in place, with what
//! is newer; mark its space segments, whose free runs may hold bytes now; flush; and only then say in the
//! log's header that nothing is left. So it can be cut off anywhere and done again. Orphans stay
//! on the orphan bitmaps, for the next owner of the inode segment. Who may recover whom, and when
//! the locks pass on, is the lock service's business.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use blockstore::{Durability, Fence, Offset, PAGE, SECTOR, VirtualDisk};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use lockservice::{Held, Mode, RecoverError, Recoverer, SessionId};
use world::World;

use crate::{
    bug::{self, Bug},
    error::Error,
    layout::{
        Damaged,
        bitmap::Bitmap,
        geometry::{Block, LOCK_LOGS, LOCK_SPACE, LOG_SLOTS, SegmentNo, log_start},
        logheader::LogHeader,
        record::{Change, Lsn, Record},
        version::version_of,
    },
};

/// Blocks closer than this are read together.
const NEAR: u64 = 32 << 10;
/// The largest read or write.
const PIECE: u64 = 1 << 20;
/// Requests under way at one time.
const PARALLEL: usize = 16;

/// Recovers dead sessions on one disk. Several recoveries can run at one time.
pub struct Recovery {
    world: World,
    disk: Arc<dyn VirtualDisk>,
}

impl Recovery {
    /// Recovers on `disk`, which is open for the recovering session.
    #[must_use]
    pub fn new(world: World, disk: Arc<dyn VirtualDisk>) -> Arc<Self> {
        Arc::new(Self { world, disk })
    }

    async fn run(&self, dead: SessionId, held: &[Held]) -> Result<(), Error> {
        let began = self.world.clock.now();
        // Without a line "recovered" after it, this recovery was cut off, and somebody else does it.
        tracing::info!(session = dead.0, "recovering a dead session");
        if !bug::on(Bug::RecoverUnfenced) {
            self.disk.fence(Fence(dead.0)).await?;
        }
        let (mut records, mut blocks) = (0, 0);
        let mut slots = Vec::new();
        for slot in log_slots(held) {
            // None: the session died before its log began, and left an older, finished one.
            let Some(found) = scan(&self.disk, dead, slot).await? else { continue };
            records += found.len();
            blocks += replay(&self.disk, found, held).await?;
            slots.push(slot);
        }
        for segment in space_segments(held).filter(|_| !bug::on(Bug::SkipMark)) {
            mark(&self.disk, segment).await?;
        }
        self.disk.flush().await?;
        for slot in slots {
            let header = LogHeader { session: SessionId(0), ring: SECTOR, tail: Lsn(0) };
            let sector = Bytes::copy_from_slice(&header.encode());
            self.disk.write(log_start(slot), vec![sector], Durability::Now).await?;
        }
        let took = self.world.clock.now().since(began);
        tracing::info!(session = dead.0, records, blocks, ?took, "recovered a dead session");
        Ok(())
    }
}

#[async_trait]
impl Recoverer for Recovery {
    async fn recover(&self, dead: SessionId, held: Vec<Held>) -> Result<(), RecoverError> {
        self.run(dead, &held).await.map_err(|error| {
            tracing::warn!(session = dead.0, %error, "recovery failed; the lock service tries again");
            RecoverError(Arc::new(error))
        })
    }
}

fn log_slots(held: &[Held]) -> impl Iterator<Item = u32> + '_ {
    exclusive(held).flat_map(|held| {
        (0..LOG_SLOTS)
            .filter(move |slot| held.span.contains(lockservice::Name::new(LOCK_LOGS, 0, *slot)))
    })
}

fn space_segments(held: &[Held]) -> impl Iterator<Item = SegmentNo> + '_ {
    exclusive(held).filter(|held| held.span.start().kind() == LOCK_SPACE).flat_map(|held| {
        let last = held.span.end().0 - 1;
        (held.span.start().segment()..=lockservice::Name(last).segment())
            .map_while(SegmentNo::new)
            .filter(move |segment| held.span.contains(segment.space_lock()))
    })
}

fn exclusive(held: &[Held]) -> impl Iterator<Item = &Held> {
    held.iter().filter(|held| held.mode == Mode::Exclusive)
}

/// The records of the log of `session` in `slot`, oldest first; `None` if the slot holds no log of
/// that session (any more).
///
/// # Errors
/// If the disk fails, or a record with a right checksum makes no sense.
pub(crate) async fn scan(
    disk: &Arc<dyn VirtualDisk>,
    session: SessionId,
    slot: u32,
) -> Result<Option<Vec<Record>>, Error> {
    let sector = disk.read(log_start(slot), SECTOR).await?;
    let Some(header) = LogHeader::decode(&sector)? else { return Ok(None) };
    if header.session != session {
        return Ok(None);
    }
    let mut window = Window::new(disk, slot, header);
    let mut records = Vec::new();
    let mut at = header.tail;
    loop {
        let boundary = Lsn(at.0.next_multiple_of(SECTOR));
        let mut found = window.record(session, at).await?;
        if found.is_none() && boundary != at {
            // The last record of a push; the next push began on a new sector.
            at = boundary;
            found = window.record(session, at).await?;
        }
        let Some((record, length)) = found else { return Ok(Some(records)) };
        records.push(record);
        at = Lsn(at.0 + length);
    }
}

/// A part of the stream that was read, moving forward.
struct Window<'a> {
    disk: &'a Arc<dyn VirtualDisk>,
    start: Offset,
    header: LogHeader,
    /// Where `bytes` begin in the stream: whole sectors.
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(disk: &'a Arc<dyn VirtualDisk>, slot: u32, header: LogHeader) -> Self {
        let start = Offset(log_start(slot).0 + PAGE);
        let at = header.tail.0 / SECTOR * SECTOR;
        Self { disk, start, header, at, bytes: Vec::new() }
    }

    async fn record(
        &mut self,
        session: SessionId,
        at: Lsn,
    ) -> Result<Option<(Record, u64)>, Error> {
        self.reach(at.0, SECTOR).await?;
        let Some(length) = Record::length_at(self.from(at), session, at) else { return Ok(None) };
        if length as u64 > self.header.ring {
            return Ok(None);
        }
        self.reach(at.0, length as u64).await?;
        let record = Record::decode(self.from(at), session, at)?;
        Ok(record.map(|record| (record, length as u64)))
    }

    fn from(&self, at: Lsn) -> &[u8] {
        self.bytes.get((at.0 - self.at) as usize..).unwrap_or_default()
    }

    /// Makes sure that `length` bytes from `at` were read, as far as the ring goes.
    async fn reach(&mut self, at: u64, length: u64) -> Result<(), Error> {
        let ring = self.header.ring;
        // Once around the ring is the end of any log.
        let limit = self.header.tail.0 / SECTOR * SECTOR + ring;
        let to = (at + length).next_multiple_of(SECTOR).min(limit);
        let behind = (at / SECTOR * SECTOR).saturating_sub(self.at);
        self.bytes.drain(..(behind as usize).min(self.bytes.len()));
        self.at += behind;
        while self.at + (self.bytes.len() as u64) < to {
            let next = self.at + self.bytes.len() as u64;
            let in_ring = next % ring;
            let piece = PIECE.min(limit - next).min(ring - in_ring);
            let read = self.disk.read(Offset(self.start.0 + in_ring), piece).await?;
            self.bytes.extend_from_slice(&read);
        }
        Ok(())
    }
}

/// Replays `records`; says how many blocks it changed.
async fn replay(
    disk: &Arc<dyn VirtualDisk>,
    records: Vec<Record>,
    held: &[Held],
) -> Result<usize, Error> {
    let mut wanted: BTreeMap<Offset, Vec<Change>> = BTreeMap::new();
    for change in records.into_iter().flat_map(|record| record.changes) {
        let block = Block::at(change.address).ok_or(Damaged("log record: no metadata block"))?;
        if block.lock().is_some_and(|lock| lock != change.lock) {
            return Err(Damaged("log record: a change under the lock of another block").into());
        }
        // Under a grant that ended before the session did, everything was flushed in place.
        let ours = |held: &Held| held.grant == change.grant && held.span.contains(change.lock);
        if exclusive(held).any(ours) || bug::on(Bug::ReplayAnyGrant) {
            wanted.entry(change.address).or_default().push(change);
        }
    }
    let groups = near(wanted);
    let written: Vec<usize> = stream::iter(groups)
        .map(|group| replay_group(disk, group))
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(written.iter().sum())
}

type Group = Vec<(Offset, Vec<Change>)>;

/// Cuts blocks into groups that are read together.
fn near(wanted: BTreeMap<Offset, Vec<Change>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, changes) in wanted {
        let fits = |group: &&mut Group| {
            let (first, last) = (group[0].0.0, group[group.len() - 1].0.0);
            at.0 - last <= NEAR && at.0 - first < PIECE - PAGE
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.push((at, changes)),
            None => groups.push(vec![(at, changes)]),
        }
    }
    groups
}

async fn replay_group(disk: &Arc<dyn VirtualDisk>, group: Group) -> Result<usize, Error> {
    let bytes_at = |at: Offset| Block::at(at).map_or(0, Block::bytes);
    let start = group[0].0;
    let last = group[group.len() - 1].0;
    let length = last.0 - start.0 + bytes_at(last) as u64;
    let mut image = disk.read(start, length).await?.to_vec();
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    let mut changed = 0;
    for (at, changes) in &group {
        let from = (at.0 - start.0) as usize;
        let to = from + bytes_at(*at);
        // Also what is there already is written, by us: the dead session, or a recoverer that died, may have sent it and
        // not lived to flush it, and our flush is only of what we wrote. (With no log left, nobody could do it again.)
        changed += usize::from(apply_newer(&mut image[from..to], changes)?);
        match stretches.last_mut() {
            Some(stretch) if stretch.1 == from => stretch.1 = to,
            _ => stretches.push((from, to)),
        }
    }
    let image = Bytes::from(image);
    for (from, to) in stretches {
        let at = Offset(start.0 + from as u64);
        disk.write(at, vec![image.slice(from..to)], Durability::Later).await?;
    }
    Ok(changed)
}

/// Applies the changes that are newer than the block; says whether there were any.
fn apply_newer(block: &mut [u8], changes: &[Change]) -> Result<bool, Damaged> {
    let mut version = version_of(block)?;
    let before = version;
    for change in changes {
        if change.version > version || bug::on(Bug::ReplayAnyVersion) {
            change.apply(block)?;
            version = change.version;
        }
    }
    Ok(version != before)
}

/// Notes that free runs of `segment` may hold bytes: the dead session may have written data to runs
/// that no record gave to a file.
async fn mark(disk: &Arc<dyn VirtualDisk>, segment: SegmentNo) -> Result<(), Error> {
    let at = segment.space_head();
    let mut map = Bitmap::decode(&disk.read(at, PAGE).await?)?;
    map.set_dirty(true);
    disk.write(at, vec![Bytes::copy_from_slice(map.bytes())], Durability::Later).await?;
    Ok(())
}
