//! From the disk into memory, under locks: what was read is kept only if the lock was held all the
//! time and nobody, this mount's own write-out included, may have changed the disk meanwhile.

use blockstore::{Offset, PAGE};
use bytes::Bytes;
use futures_util::future::try_join_all;
use lockservice::{Mode, Name};

use crate::{
    bug::{self, Bug},
    data::{address, on_disk},
    error::Error,
    fs::Fs,
    gate::Seen,
    layout::{
        Damaged,
        geometry::{INODE, InodeNo, run_start},
        inode::{FileType, Inode},
        version::Version,
    },
    state::State,
    tx::{Access, PageKind, decode_page},
};

/// Neighbouring inodes are read along with one that is needed: files that were made together are
/// looked at together.
const NEIGHBOURS: u64 = 32 * INODE;

/// When a load began.
#[derive(Clone)]
struct Ticket {
    gates: Seen,
    homed: u64,
    /// For whom.
    access: Access,
}

/// Pages of a file that lie side by side on the disk.
struct Stretch {
    first: u64,
    count: u64,
    at: Offset,
}

impl Fs {
    fn ticket(state: &State, access: Access) -> Ticket {
        Ticket { gates: state.gates.seen(), homed: state.homed, access }
    }

    /// Whether what was read since `ticket` may be kept under `lock`.
    fn keeps(&self, state: &State, ticket: &Ticket, lock: Name) -> bool {
        state.homed == ticket.homed && self.still(state, ticket, lock)
    }

    fn still(&self, state: &State, ticket: &Ticket, lock: Name) -> bool {
        let gates = &state.gates;
        let free = match ticket.access {
            _ if bug::on(Bug::KeepOldLoads) => true,
            // The revocation waits for this very load: refusing it would stop both.
            Access::Finish => gates.kept_since(&ticket.gates, lock),
            Access::Operation | Access::Io | Access::Plan => {
                gates.clear_since(&ticket.gates, lock) && !gates.shut(lock, Mode::Shared, true)
            }
        };
        free && self.locks.held(lock, Mode::Shared).is_some()
    }

    /// Brings inode `ino` into memory, and its neighbours if they may be used anyway.
    pub(crate) async fn load_inode(&self, ino: InodeNo, access: Access) -> Result<(), Error> {
        let ticket = {
            let state = self.state.lock();
            let ticket = Self::ticket(&state, access);
            if !self.still(&state, &ticket, ino.lock()) {
                return Ok(());
            }
            ticket
        };
        let from = Offset(ino.address().0 / NEIGHBOURS * NEIGHBOURS);
        let bytes = self.disk.read(from, NEIGHBOURS).await?;
        let mut state = self.state.lock();
        for (i, block) in bytes.chunks_exact(INODE as usize).enumerate() {
            let index = (ino.index() / 32 * 32) + i as u32;
            let Some(no) = InodeNo::new(ino.segment(), index) else { continue };
            if state.inodes.contains_key(&no)
                || state.in_log(no.address()).is_some()
                || !self.keeps(&state, &ticket, no.lock())
            {
                continue;
            }
            match Inode::decode(block) {
                Ok(Some(inode)) => {
                    if !self.config.read_only && is_ragged(&inode) {
                        state.trims.insert(no);
                        self.signals.reap.notify_one();
                    }
                    state.add_inode(no, inode, false);
                }
                Ok(None) if no == ino => {
                    state.add_inode(no, Inode::freed(Version::ZERO, 0), true);
                }
                Ok(None) => {}
                Err(damaged) if no == ino => return Err(damaged_at(damaged, no.address())),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Brings many inodes into memory, those that may be used without waiting for a lock.
    pub(crate) async fn load_inodes(&self, mut inos: Vec<InodeNo>) -> Result<(), Error> {
        inos.sort_unstable();
        inos.dedup_by_key(|ino| ino.0 / 32);
        for some in inos.chunks(64) {
            let loads = some.iter().map(|ino| self.load_inode(*ino, Access::Operation));
            try_join_all(loads).await?;
        }
        Ok(())
    }

    /// Brings a metadata page into memory.
    pub(crate) async fn load_page(
        &self,
        at: Offset,
        lock: Name,
        kind: PageKind,
        access: Access,
    ) -> Result<(), Error> {
        let ticket = Self::ticket(&self.state.lock(), access);
        let bytes = self.disk.read(at, PAGE).await?;
        let content = decode_page(&bytes, kind).map_err(|damaged| damaged_at(damaged, at))?;
        let mut state = self.state.lock();
        if !state.pages.contains_key(&at)
            && state.in_log(at).is_none()
            && self.keeps(&state, &ticket, lock)
        {
            state.add_page(at, content, lock);
        }
        Ok(())
    }

    /// Brings `count` pages of file `ino` from `first` on into memory.
    pub(crate) async fn load_data(
        &self,
        ino: InodeNo,
        first: u64,
        count: u64,
    ) -> Result<(), Error> {
        let (ticket, stamp, stretches) = {
            let state = self.state.lock();
            let Some(slot) = state.inodes.get(&ino) else { return Ok(()) };
            let missing = (first..first + count)
                .filter(|page| slot.data.get(*page).is_none() && on_disk(&slot.inode, *page));
            (Self::ticket(&state, Access::Io), slot.stamp, stretches(&slot.inode, missing))
        };
        let reads = stretches.into_iter().map(|stretch| async move {
            let bytes = self.disk.read(stretch.at, stretch.count * PAGE).await?;
            Ok::<_, Error>((stretch, bytes))
        });
        let loaded = try_join_all(reads).await?;
        let mut state = self.state.lock();
        for (stretch, bytes) in loaded {
            for i in 0..stretch.count {
                let page = stretch.first + i;
                let Some(slot) = state.inodes.get(&ino) else { return Ok(()) };
                if slot.stamp != stamp || !self.still(&state, &ticket, ino.lock()) {
                    return Ok(());
                }
                // What lies behind the end on the disk is not the file's.
                let end = slot.inode.size.saturating_sub(page * PAGE).min(PAGE) as usize;
                let from = (i * PAGE) as usize;
                let copy = Bytes::copy_from_slice(&bytes[from..from + end]);
                state.put_loaded(ino, page, copy);
            }
        }
        // Nothing is evicted here: whoever loaded this must get to use it first, or with a small cache
        // it would load for ever. The operation makes room when it is done.
        Ok(())
    }
}

/// Whether a file has runs past its end: somebody died between cutting it off and freeing them.
fn is_ragged(inode: &Inode) -> bool {
    let past = |index| run_start(inode.first_class, index) >= inode.size;
    inode.file_type() == Some(FileType::Regular) && inode.runs().any(|(index, _)| past(index))
}

fn stretches(inode: &Inode, pages: impl Iterator<Item = u64>) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for page in pages {
        let Some(at) = address(inode, page) else { continue };
        match all.last_mut() {
            Some(last)
                if last.first + last.count == page && last.at.0 + last.count * PAGE == at.0 =>
            {
                last.count += 1;
            }
            _ => all.push(Stretch { first: page, count: 1, at }),
        }
    }
    all
}

fn damaged_at(damaged: Damaged, at: Offset) -> Error {
    Error::Damaged(format!("{} at byte {:#x} of the volume", damaged.0, at.0))
}
