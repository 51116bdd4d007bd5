//! One thread of a client: it writes, reads, discards and flushes, and notes what came of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ::blockstore::{BLOCK, CHUNK, Durability, Error, Offset, PAGE, VirtualDisk, client::Client};
use bytes::Bytes;
use parking_lot::Mutex;
use world::{Clock, World};

use super::{Handle, Shared, at, now};
use crate::{
    blockstore::oracle::{self, Act, OpId, Sector, Value},
    dice::Dice,
};

/// Where clients write: these blocks, which lie in several chunks and groups; of each, the first sectors of two pages.
const BLOCKS: [u64; 4] = [0, BLOCK, CHUNK, 3 * CHUNK + 5 * BLOCK];
const PAGES: [u64; 2] = [0, 2 * PAGE];
const SECTORS: u64 = 3;
const SECTOR: u64 = 512;

/// One thread of a client.
pub(super) struct Worker {
    pub(super) session: u64,
    pub(super) world: World,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) disk: Handle,
    pub(super) dice: Dice,
    pub(super) lossy: bool,
}

/// A write about to be sent: where, which operations it is, its bytes.
type Prepared = (u64, Vec<(OpId, Value)>, Vec<u8>);

impl Worker {
    pub(super) async fn work(mut self) {
        loop {
            let pause = self.dice.millis(0, 60);
            self.world.clock.sleep(pause).await;
            if self.shared.lock().stop {
                return;
            }
            let Some(disk) = self.disk.lock().clone() else { continue };
            self.shared.lock().busy += 1;
            let done = match self.dice.between(0, 100) {
                0..42 => self.write(&disk, false).await,
                42..50 => self.write(&disk, true).await,
                50..85 => self.read(&disk).await,
                85..92 => self.discard(&disk).await,
                _ => self.flush(&disk).await,
            };
            self.shared.lock().busy -= 1;
            if done == Err(Error::Fenced(self.session)) {
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        now(&*self.clock)
    }

    fn block(&mut self) -> u64 {
        BLOCKS[self.dice.pick(BLOCKS.len())]
    }

    /// A block to write to. What power loss takes, clients write again, each in its own order: so then no two of them write
    /// to the same block, as locks see to it above.
    fn own_block(&mut self) -> u64 {
        if !self.lossy {
            return self.block();
        }
        let count = BLOCKS.len() as u64;
        BLOCKS[(self.session % count) as usize] + self.session / count * 8 * BLOCK
    }

    fn page(&mut self, own: bool) -> u64 {
        let block = if own { self.own_block() } else { self.block() };
        block + PAGES[self.dice.pick(PAGES.len())]
    }

    /// Some sectors of a page, or a whole block.
    fn prepare(&mut self, whole: bool) -> Prepared {
        let (from, length) = if whole {
            (self.own_block(), BLOCK)
        } else {
            let first = self.dice.between(0, SECTORS);
            let count = self.dice.between(1, SECTORS - first + 1);
            (self.page(true) + first * SECTOR, count * SECTOR)
        };
        let now = self.now();
        let mut shared = self.shared.lock();
        let (mut ids, mut bytes) = (Vec::new(), Vec::new());
        for sector in (from..from + length).step_by(SECTOR as usize) {
            shared.value += 1;
            let value = shared.value;
            bytes.extend(value.to_le_bytes().repeat(SECTOR as usize / 8));
            let within = sector % BLOCK;
            let tracked =
                PAGES.iter().any(|page| (*page..page + SECTORS * SECTOR).contains(&within));
            if tracked {
                ids.push((
                    shared.history.begin(self.session, Act::Write(sector, value), now),
                    value,
                ));
            }
        }
        let (session, last) = (self.session, shared.value);
        shared.say(now, || {
            format!("session {session} writes ..={last} to {length} bytes from {from}")
        });
        (from, ids, bytes)
    }

    async fn write(&mut self, disk: &Client, whole: bool) -> Result<(), Error> {
        let durable = self.dice.chance(25);
        let (from, ids, bytes) = self.prepare(whole);
        let when = if durable { Durability::Now } else { Durability::Later };
        let done = disk.write(Offset(from), vec![Bytes::from(bytes)], when).await;
        self.ended(&ids, &done, durable);
        done
    }

    /// A page, or a whole block, which leaves nothing behind.
    async fn discard(&mut self, disk: &Client) -> Result<(), Error> {
        let (from, length) =
            if self.dice.chance(30) { (self.own_block(), BLOCK) } else { (self.page(true), PAGE) };
        let ids: Vec<(OpId, Value)> = {
            let mut shared = self.shared.lock();
            let (now, session) = (self.now(), self.session);
            shared.say(now, || format!("session {session} discards {length} bytes at {from}"));
            let block = from / BLOCK * BLOCK;
            let pages = PAGES.iter().map(|page| block + page);
            let pages = pages.filter(|page| (from..from + length).contains(page));
            let sectors =
                pages.flat_map(|page| (0..SECTORS).map(move |sector| page + sector * SECTOR));
            sectors.map(|at| (shared.history.begin(session, Act::Write(at, 0), now), 0)).collect()
        };
        let done = disk.discard(Offset(from), length).await;
        self.ended(&ids, &done, false);
        done
    }

    fn ended(&self, ids: &[(OpId, Value)], done: &Result<(), Error>, durable: bool) {
        let now = self.now();
        let (mut shared, session) = (self.shared.lock(), self.session);
        if let Err(error) = done {
            return shared.say(now, || format!("session {session}: {error}"));
        }
        shared.judge(oracle::FENCED);
        for (id, value) in ids {
            if shared.history.end(*id, now, None) {
                let what = format!("{}: session {session} wrote {value}", at(id.sector()));
                shared.violate(oracle::FENCED, what);
            }
            if durable {
                shared.history.durable(*id);
            }
            shared.acknowledged.push((*id, *value));
            shared.report.count("sectors written", 1);
        }
        shared.say(now, || format!("session {session} has an answer"));
    }

    async fn read(&mut self, disk: &Client) -> Result<(), Error> {
        let own = self.dice.chance(50);
        let sector = self.page(own) + self.dice.between(0, SECTORS) * SECTOR;
        let began = self.now();
        let bytes = disk.read(Offset(sector), SECTOR).await?;
        see(&mut self.shared.lock(), self.session, sector, (began, self.now()), &bytes);
        Ok(())
    }

    async fn flush(&mut self, disk: &Client) -> Result<(), Error> {
        let began = self.now();
        disk.flush().await?;
        let mut shared = self.shared.lock();
        shared.history.flushed(self.session, began);
        shared.report.count("flushes", 1);
        Ok(())
    }
}

/// Takes in what a read showed.
pub(super) fn see(
    shared: &mut Shared,
    session: u64,
    sector: Sector,
    (began, now): (Duration, Duration),
    bytes: &[u8],
) {
    let words = bytes.chunks_exact(8);
    let values: BTreeSet<Value> =
        words.map(|word| word.first_chunk::<8>().map_or(0, |w| u64::from_le_bytes(*w))).collect();
    let value = values.first().copied().unwrap_or_default();
    shared.judge(oracle::CHECKSUMS);
    if values.len() != 1 || !shared.history.knows(sector, value) {
        return shared.violate(oracle::CHECKSUMS, format!("{} shows {values:?}", at(sector)));
    }
    shared.report.count("sectors read", 1);
    let id = shared.history.begin(session, Act::Read(sector), began);
    shared.history.end(id, now, Some(value));
    shared.say(now, || format!("session {session} reads {value} from {sector}"));
    // Where all may have lost power, only what was flushed counts, and what the reader itself wrote.
    let (flushed, own) = (shared.lossy, Some(session).filter(|_| shared.lossy));
    let name = if flushed { oracle::FLUSHED } else { oracle::STALE };
    shared.judge(name);
    if let Some(missing) = shared.history.is_older((sector, value), began, (flushed, own)) {
        let what = format!(
            "{} shows {value}, but {missing} was written since, before the read began",
            at(sector)
        );
        shared.violate(name, what);
    }
}
