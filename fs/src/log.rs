//! The log of one mount: records are appended in memory and pushed to the mount's slot on the
//! virtual disk, many at a time.
//!
//! The slot is a ring behind a header page. Places in it are counted as a stream that grows for
//! ever ([`Lsn`]); where a byte of the stream lies follows by arithmetic. A push writes everything
//! that is pending with one flagged write, padded to whole sectors; callers that wait share it. A
//! slot is one chunk of the disk, so a flagged write covers all that was written to it before.
//! What records mean, and when metadata they describe may be written, is not known here.

use std::sync::Arc;

use blockstore::{Durability, Offset, PAGE, SECTOR, VirtualDisk};
use bytes::Bytes;
use lockservice::SessionId;
use parking_lot::Mutex;

use crate::{
    error::Error,
    layout::{
        geometry::{LOG_SLOT, log_start},
        logheader::LogHeader,
        record::{Lsn, Record},
    },
};

/// Bytes of the ring of a slot.
pub const RING: u64 = LOG_SLOT - PAGE;
/// What ordinary records leave free for those of write-out, which make the log shorter.
const RESERVE: u64 = 8 << 20;

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// An operation; can wait until metadata was written out.
    Operation,
    /// Write-out itself; may use the last of the log.
    WriteOut,
}

/// Why a record was not appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The log is full: write metadata out, then [`Log::trim`].
    Full,
    /// The log failed before; the error stays.
    Failed(Error),
}

/// The log of a session in one slot. Whoever holds it holds the slot's lock.
pub struct Log {
    disk: Arc<dyn VirtualDisk>,
    session: SessionId,
    slot: u32,
    ring: u64,
    state: Mutex<State>,
    /// One push at a time.
    pushing: tokio::sync::Mutex<()>,
    /// One header at a time.
    trimming: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What recovery would start at, as the header on the disk says.
    tail: u64,
    /// Everything before is on stable storage.
    pushed: u64,
    /// Where `pending` begins: whole sectors.
    pending_at: u64,
    pending: Vec<u8>,
    /// What a push has taken and not yet seen on stable storage.
    flight: Option<Flight>,
    failed: Option<Error>,
}

#[derive(Clone)]
struct Flight {
    at: u64,
    bytes: Bytes,
    /// A write of it has no known outcome: written again and flushed before anything follows.
    unknown: bool,
}

impl State {
    fn end(&self) -> u64 {
        self.pending_at + self.pending.len() as u64
    }

    fn check(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

impl Log {
    /// Begins an empty log for `session` in `slot`, whose lock the session holds.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn start(
        disk: Arc<dyn VirtualDisk>,
        session: SessionId,
        slot: u32,
    ) -> Result<Self, Error> {
        Self::with_ring(disk, session, slot, RING).await
    }

    async fn with_ring(
        disk: Arc<dyn VirtualDisk>,
        session: SessionId,
        slot: u32,
        ring: u64,
    ) -> Result<Self, Error> {
        let log = Self {
            disk,
            session,
            slot,
            ring,
            state: Mutex::default(),
            pushing: tokio::sync::Mutex::default(),
            trimming: tokio::sync::Mutex::default(),
        };
        log.write_header(0).await?;
        Ok(log)
    }

    /// The slot.
    #[must_use]
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// Appends `record`, in memory. The place after it is what to push.
    ///
    /// # Errors
    /// If the log is full, or failed before.
    pub fn append(&self, record: &Record, purpose: Purpose) -> Result<Lsn, Refused> {
        let mut state = self.state.lock();
        state.check().map_err(Refused::Failed)?;
        if record.length() as u64 > self.free(&state, purpose) {
            return Err(Refused::Full);
        }
        let at = Lsn(state.end());
        record.encode(self.session, at, &mut state.pending);
        Ok(Lsn(state.end()))
    }

    /// Bytes of records for which there is room now.
    #[must_use]
    pub fn room(&self, purpose: Purpose) -> u64 {
        self.free(&self.state.lock(), purpose)
    }

    fn free(&self, state: &State, purpose: Purpose) -> u64 {
        let kept = if purpose == Purpose::Operation { RESERVE.min(self.ring / 4) } else { 0 };
        // The last sector of a push is padded.
        self.ring.saturating_sub(state.end() - state.tail + kept + SECTOR)
    }

    /// Bytes between the oldest record that is still needed and the newest.
    #[must_use]
    pub fn used(&self) -> u64 {
        let state = self.state.lock();
        state.end() - state.tail
    }

    /// The place after the newest record.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.state.lock().end())
    }

    /// The place up to which everything is on stable storage.
    #[must_use]
    pub fn pushed(&self) -> Lsn {
        Lsn(self.state.lock().pushed)
    }

    /// Waits until every record before `lsn` is on stable storage.
    ///
    /// # Errors
    /// If the disk fails. [`blockstore::Error::Stalled`] and `Unreachable` may go away: the next
    /// push writes the same again. Every other error stays.
    pub async fn push(&self, lsn: Lsn) -> Result<(), Error> {
        if self.is_pushed(lsn)? {
            return Ok(());
        }
        let _one = self.pushing.lock().await;
        while !self.is_pushed(lsn)? {
            let Some(flight) = self.take_off() else { return Ok(()) };
            let result = self.write_out(&flight).await;
            self.land(&flight, result)?;
        }
        Ok(())
    }

    fn is_pushed(&self, lsn: Lsn) -> Result<bool, Error> {
        let state = self.state.lock();
        state.check()?;
        Ok(state.pushed >= lsn.0)
    }

    /// What is to be written next: what was under way and is not known to have arrived (its push
    /// failed or was dropped), else all that is pending.
    fn take_off(&self) -> Option<Flight> {
        let mut state = self.state.lock();
        if state.flight.is_none() && !state.pending.is_empty() {
            let mut bytes = std::mem::take(&mut state.pending);
            bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
            let flight = Flight { at: state.pending_at, bytes: bytes.into(), unknown: false };
            state.pending_at += flight.bytes.len() as u64;
            state.flight = Some(flight);
        } else if let Some(flight) = &mut state.flight {
            flight.unknown = true;
        }
        state.flight.clone()
    }

    async fn write_out(&self, flight: &Flight) -> Result<(), Error> {
        let in_ring = flight.at % self.ring;
        let first = (self.ring - in_ring).min(flight.bytes.len() as u64) as usize;
        let rest = flight.bytes.slice(first..);
        let at = Offset(log_start(self.slot).0 + PAGE + in_ring);
        let when = if rest.is_empty() { Durability::Now } else { Durability::Later };
        self.disk.write(at, vec![flight.bytes.slice(..first)], when).await?;
        if !rest.is_empty() {
            let at = Offset(log_start(self.slot).0 + PAGE);
            self.disk.write(at, vec![rest], Durability::Now).await?;
        }
        if flight.unknown {
            self.disk.flush().await?;
        }
        Ok(())
    }

    fn land(&self, flight: &Flight, result: Result<(), Error>) -> Result<(), Error> {
        let mut state = self.state.lock();
        match result {
            Ok(()) => {
                state.flight = None;
                state.pushed = flight.at + flight.bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                if !passes(&error) {
                    state.failed = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    /// Forgets the records before `lsn`: all that they describe is in place and flushed. Places
    /// that were not pushed are never forgotten.
    ///
    /// # Errors
    /// If the disk fails; then nothing was forgotten.
    pub async fn trim(&self, lsn: Lsn) -> Result<(), Error> {
        let _one = self.trimming.lock().await;
        let tail = {
            let state = self.state.lock();
            state.check()?;
            lsn.0.min(state.pushed)
        };
        if tail <= self.state.lock().tail {
            return Ok(());
        }
        self.write_header(tail).await?;
        self.state.lock().tail = tail;
        Ok(())
    }

    async fn write_header(&self, tail: u64) -> Result<(), Error> {
        let header = LogHeader { session: self.session, ring: self.ring, tail: Lsn(tail) };
        let sector = Bytes::copy_from_slice(&header.encode());
        self.disk.write(log_start(self.slot), vec![sector], Durability::Now).await?;
        Ok(())
    }
}

/// Whether trying again later may help. A full disk is full until somebody deletes something.
pub(crate) const fn passes(error: &Error) -> bool {
    matches!(
        error,
        Error::Disk(
            blockstore::Error::Stalled { .. }
                | blockstore::Error::Unreachable
                | blockstore::Error::NoSpace
        )
    )
}

#[cfg(test)]
mod tests {
    use blockstore::{Fence, memory::MemoryDisk};
    use lockservice::Grant;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        layout::{
            geometry::InodeNo,
            record::Change,
            version::{Kind, Version, put_head},
        },
        recover::scan,
    };

    const SESSION: SessionId = SessionId(5);

    fn record(number: u64, bytes: usize) -> Record {
        let mut image = vec![0; 512];
        image[HEAD..HEAD + bytes].fill(7);
        put_head(&mut image, Kind::Inode, Version { grant: 1, counter: number });
        let root = InodeNo::ROOT;
        let old = [0; 512];
        Record {
            changes: vec![Change::between(root.address(), root.lock(), Grant(1), &old, &image)],
        }
    }

    const HEAD: usize = crate::layout::version::HEAD;

    async fn found(disk: &MemoryDisk) -> Vec<u64> {
        let disk: Arc<dyn VirtualDisk> = disk.open(Fence(99));
        let records = scan(&disk, SESSION, 3).await.unwrap().unwrap_or_default();
        records.iter().map(|r| r.changes[0].version.counter).collect()
    }

    async fn start(disk: &MemoryDisk, ring: u64) -> Log {
        Log::with_ring(disk.open(Fence(SESSION.0)), SESSION, 3, ring).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_pushed_survives_power_loss_and_the_rest_does_not() {
        let disk = MemoryDisk::new();
        let log = start(&disk, RING).await;
        let first = log.append(&record(1, 9), Purpose::Operation).unwrap();
        let second = log.append(&record(2, 9), Purpose::Operation).unwrap();
        log.push(first).await.unwrap();
        assert!(log.pushed() >= second, "one push covers all that was pending");
        log.append(&record(3, 9), Purpose::Operation).unwrap();
        disk.crash_to_flushed();
        assert_eq!(found(&disk).await, [1, 2]);
    }

    #[tokio::test]
    async fn a_full_log_refuses_until_it_is_trimmed_and_wraps_around() {
        let disk = MemoryDisk::new();
        let log = start(&disk, 16 << 10).await;
        let (mut number, mut places) = (0, Vec::new());
        for _ in 0..20 {
            loop {
                match log.append(&record(number, 400), Purpose::Operation) {
                    Ok(lsn) => places.push((number, lsn)),
                    Err(refused) => break assert_eq!(refused, Refused::Full),
                }
                log.push(log.end()).await.unwrap();
                number += 1;
            }
            assert!(log.append(&record(number, 400), Purpose::WriteOut).is_ok());
            number += 1;
            log.push(log.end()).await.unwrap();
            let cut = places.len() / 2;
            log.trim(places[cut].1).await.unwrap();
            places.drain(..=cut);
            let kept: Vec<u64> = (places[0].0..number).collect();
            assert_eq!(found(&disk).await, kept);
            places.clear();
            log.trim(log.end()).await.unwrap();
            assert_eq!(found(&disk).await, [0_u64; 0]);
        }
        assert!(log.end().0 > 10 * (16 << 10));
    }

    #[tokio::test]
    async fn a_push_that_stalled_is_written_again_by_the_next() {
        let disk = MemoryDisk::new();
        let log = start(&disk, RING).await;
        let first = log.append(&record(1, 9), Purpose::Operation).unwrap();
        disk.break_after(0);
        assert!(log.push(first).await.is_err());
        disk.mend();
        let second = log.append(&record(2, 9), Purpose::Operation).unwrap();
        log.push(second).await.unwrap();
        disk.crash_to_flushed();
        assert_eq!(found(&disk).await, [1, 2]);
    }

    #[tokio::test]
    async fn the_error_of_a_fenced_log_stays() {
        let disk = MemoryDisk::new();
        let log = start(&disk, RING).await;
        let lsn = log.append(&record(1, 9), Purpose::Operation).unwrap();
        disk.fence(Fence(SESSION.0));
        let error = log.push(lsn).await.unwrap_err();
        let refused = log.append(&record(2, 9), Purpose::Operation);
        assert_eq!(refused, Err(Refused::Failed(error)));
        assert!(log.trim(lsn).await.is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_crash_leaves_a_prefix_that_has_all_that_was_pushed(
            sizes in prop::collection::vec((0..480_usize, any::<bool>(), any::<bool>()), 1..60), seed: u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let disk = MemoryDisk::new();
                let log = start(&disk, 8 << 10).await;
                let (mut next, mut pushed, mut trimmed) = (0, 0, 0);
                for (size, push, trim) in sizes {
                    if log.append(&record(next, size), Purpose::WriteOut).is_ok() {
                        next += 1;
                    }
                    if push {
                        log.push(log.end()).await.unwrap();
                        pushed = next;
                    }
                    if push && trim {
                        log.trim(log.end()).await.unwrap();
                        trimmed = next;
                    }
                }
                disk.crash(seed);
                let found = found(&disk).await;
                let expected: Vec<u64> = (trimmed..trimmed + found.len() as u64).collect();
                assert_eq!(found, expected);
                assert!(trimmed + expected.len() as u64 >= pushed);
                assert!(trimmed + expected.len() as u64 <= next);
            });
        }
    }
}
