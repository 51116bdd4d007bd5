//! Data of files: dirty pages to their runs, many files in one job, neighbours in one write; then a
//! flush; and only then runs and sizes become part of what the log may say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use blockstore::{Durability, Offset, PAGE};
use bytes::Bytes;
use futures_util::{TryStreamExt, future::try_join_all, stream};
use tokio::sync::oneshot;

use crate::{
    bug::{self, Bug},
    data::{ZEROS, runs_from},
    error::Error,
    fs::Fs,
    layout::{
        geometry::{InodeNo, Run, first_class, locate, run_class},
        inode::{Body, Inode},
        version::Version,
    },
    state::State,
    tx::{Access, After, Need, Stop, Tx},
};

/// The largest write.
const PIECE: u64 = 1 << 20;
/// A hole between two writes that is filled with zeros rather than cut in two: it lies in the last
/// page of a file's own run, which nobody else reads.
const FILL: u64 = 16 << 10;
/// Writes under way at one time.
const PARALLEL: usize = 16;
/// Files that are planned or finished in one go under the mutex.
const BATCH: usize = 128;

/// What a job writes of one file.
struct Plan {
    ino: InodeNo,
    /// The size that the written data makes true.
    size: u64,
    first_class: u8,
    /// Runs that the file gets: place and run.
    runs: Vec<(usize, Run)>,
    /// Pages: which, where, what, which write made it.
    pages: Vec<(u64, Offset, Bytes, u64)>,
    /// Bytes behind the old end that must read as zeros before the file grows over them.
    discards: Vec<(Offset, u64)>,
    /// Pages that the file gets behind its old end.
    new_pages: u64,
    /// Bitmaps that the log must know before their runs are written to.
    unknown: Vec<Offset>,
}

impl Fs {
    /// Writes the data of `inos` back: on return what was written to them before the call is on
    /// stable storage, and their inodes say so in memory. An error stays with the file until it is
    /// told by fsync or close.
    pub(crate) async fn write_back(&self, inos: Vec<InodeNo>) -> Result<(), Error> {
        let mut todo = inos;
        loop {
            let (mine, busy) = self.claim(&todo);
            if !mine.is_empty() {
                // An error is in the slots by now.
                let _ = self.start_job(mine)?.await;
            }
            if busy.is_empty() {
                let dead = self.state.lock().dead.clone();
                return dead.map_or(Ok(()), Err);
            }
            self.settled(|state| {
                busy.iter().all(|ino| state.inodes.get(ino).is_none_or(|slot| !slot.writing))
            })
            .await?;
            todo = busy;
        }
    }

    /// Starts a job for claimed files; the receiver is ready when it is done.
    fn start_job(&self, mine: Vec<InodeNo>) -> Result<oneshot::Receiver<()>, Error> {
        let fs = self.me.upgrade().ok_or(Error::Closed)?;
        let (done, wait) = oneshot::channel();
        self.world.spawn("write-back job", async move {
            let result = fs.job(&mine).await;
            fs.release_claims(&mine, result.as_ref().err());
            // Nobody may be waiting any more.
            let _ = done.send(());
        });
        Ok(wait)
    }

    /// Claims those of `inos` that have something to write; others are being written by another
    /// job right now.
    fn claim(&self, inos: &[InodeNo]) -> (Vec<InodeNo>, Vec<InodeNo>) {
        let mut state = self.state.lock();
        let (mut mine, mut busy) = (Vec::new(), Vec::new());
        for ino in inos {
            let Some(slot) = state.inodes.get_mut(ino) else { continue };
            if slot.writing {
                busy.push(*ino);
            } else if slot.needs_write_back() {
                slot.writing = true;
                mine.push(*ino);
            }
        }
        state.jobs += mine.len() as u32;
        (mine, busy)
    }

    /// The other end of [`Fs::claim`].
    pub(crate) fn release_claims(&self, inos: &[InodeNo], error: Option<&Error>) {
        let now = self.world.clock.now();
        let mut state = self.state.lock();
        for ino in inos {
            let stamp = state.number();
            let Some(slot) = state.inodes.get_mut(ino) else { continue };
            slot.writing = false;
            slot.stamp = stamp;
            if let Some(error) = error {
                // Some of it may be on the disk, behind the end that the log knows.
                slot.ragged |= slot.inode.runs().next().is_some();
                tracing::error!(%ino, %error, "a write-back failed");
                slot.failed = Some(error.clone());
            }
            state.note_dirty(*ino, now);
        }
        state.jobs = state.jobs.saturating_sub(inos.len() as u32);
        drop(state);
        self.signals.settled.notify_waiters();
    }

    async fn job(self: &Arc<Self>, inos: &[InodeNo]) -> Result<(), Error> {
        let mut plans = Vec::with_capacity(inos.len());
        for some in inos.chunks(BATCH) {
            let planned = self
                .run_inner(Access::Plan, |tx| {
                    some.iter()
                        .filter_map(|ino| tx.plan(*ino).transpose())
                        .collect::<Result<Vec<_>, _>>()
                })
                .await;
            match planned {
                Ok(planned) => plans.extend(planned),
                Err(error) => {
                    self.unreserve(&plans);
                    return Err(error);
                }
            }
        }
        if let Err(error) = self.write_plans(&plans).await {
            self.unreserve(&plans);
            return Err(error);
        }
        for some in plans.chunks(BATCH) {
            self.run_inner(Access::Finish, |tx| {
                some.iter().try_for_each(|plan| tx.accomplish(plan))
            })
            .await?;
            let mut state = self.state.lock();
            for plan in some {
                state.accomplished(plan);
            }
        }
        Ok(())
    }

    async fn write_plans(&self, plans: &[Plan]) -> Result<(), Error> {
        let unknown: BTreeSet<Offset> =
            plans.iter().flat_map(|plan| plan.unknown.iter().copied()).collect();
        if !unknown.is_empty() {
            let unknown: Vec<Offset> = unknown.into_iter().collect();
            self.announce(&unknown).await?;
        }
        let discards: Vec<(Offset, u64)> =
            plans.iter().flat_map(|plan| plan.discards.iter().copied()).collect();
        try_join_all(
            discards
                .iter()
                .map(|(at, length)| self.insist(move || self.disk.discard(*at, *length))),
        )
        .await?;
        let mut pages: Vec<(Offset, Bytes)> = plans
            .iter()
            .flat_map(|plan| plan.pages.iter().map(|(_, at, bytes, _)| (*at, bytes.clone())))
            .collect();
        pages.sort_unstable_by_key(|(at, _)| *at);
        let fresh: BTreeMap<Offset, u64> = plans
            .iter()
            .flat_map(|plan| plan.runs.iter().map(|(_, run)| (run.address(), run.bytes())))
            .collect();
        let pieces = pieces(&pages, &fresh);
        if let ([(at, data)], []) = (pieces.as_slice(), discards.as_slice()) {
            // One write needs no flush of its own: a small file's fsync is one request shorter.
            let when =
                if bug::on(Bug::ExposeUnflushed) { Durability::Later } else { Durability::Now };
            return self.insist(|| self.disk.write(*at, data.clone(), when)).await;
        }
        stream::iter(pieces.into_iter().map(Ok))
            .try_for_each_concurrent(PARALLEL, |(at, data)| async move {
                self.insist(|| self.disk.write(at, data.clone(), Durability::Later)).await
            })
            .await?;
        if bug::on(Bug::ExposeUnflushed) {
            return Ok(());
        }
        self.insist(|| self.disk.flush()).await
    }

    /// Runs of plans that came to nothing. They may hold bytes, so they are not given to another
    /// file: they stay reserved until they were discarded.
    fn unreserve(&self, plans: &[Plan]) {
        let runs: Vec<Run> =
            plans.iter().flat_map(|plan| plan.runs.iter().map(|(_, run)| *run)).collect();
        let Some(fs) = self.me.upgrade() else { return };
        self.world.spawn("discard after a failed write-back", async move {
            for run in runs {
                let gone = fs.insist(|| fs.disk.discard(run.address(), run.bytes())).await;
                if gone.is_ok() && fs.insist(|| fs.disk.flush()).await.is_ok() {
                    fs.state.lock().segments.reserved.remove(&(run.map(), run.slot()));
                }
            }
        });
    }
}

impl Tx<'_> {
    /// What is to be written of `ino`; runs that it needs are reserved.
    fn plan(&mut self, ino: InodeNo) -> Result<Option<Plan>, Stop> {
        let Some(slot) = self.state.inodes.get(&ino) else { return Ok(None) };
        if !slot.needs_write_back() || slot.inode.is_free() {
            return Ok(None);
        }
        let size = slot.size;
        let inode = &slot.inode;
        let first =
            if inode.runs().next().is_some() { inode.first_class } else { first_class(size) };
        let dirty: Vec<(u64, Bytes, u64)> = slot
            .data
            .dirty_pages()
            .map(|(page, bytes, number)| (page, bytes.clone(), number))
            .collect();
        let grows = slot.ragged && size > inode.size;
        let behind = inode.size.next_multiple_of(PAGE);
        let discards = if grows { runs_from(inode, behind) } else { Vec::new() };
        let old: Vec<(usize, Run)> = inode.runs().collect();
        let mut runs: Vec<(usize, Run)> = Vec::new();
        let mut pages = Vec::with_capacity(dirty.len());
        for (page, bytes, number) in dirty {
            let place = locate(first, page * PAGE).ok_or(Error::TooLarge)?;
            let known = old.iter().chain(&runs).find(|(index, _)| *index == place.index);
            let run = match known {
                Some((_, run)) => *run,
                None => {
                    let run = self.reserve_run(run_class(first, place.index))?;
                    runs.push((place.index, run));
                    run
                }
            };
            pages.push((page, Offset(run.address().0 + place.at), bytes, number));
        }
        let mut unknown = Vec::new();
        for (_, run) in &runs {
            let version = self.map(run.map(), run.segment().space_lock())?.version();
            if version == Version::ZERO || self.fs.is_being_logged(self.state, run.map()) {
                unknown.push(run.map());
            }
        }
        let old_pages = self.state.inodes.get(&ino).map_or(0, |s| s.inode.size.div_ceil(PAGE));
        let new_pages = pages.iter().filter(|(page, ..)| *page >= old_pages).count() as u64;
        Ok(Some(Plan { ino, size, first_class: first, runs, pages, discards, new_pages, unknown }))
    }

    /// The data of `plan` is on stable storage: the inode and the bitmaps may say so.
    fn accomplish(&mut self, plan: &Plan) -> Result<(), Stop> {
        for (_, run) in &plan.runs {
            self.map_mut(run.map(), run.segment().space_lock())?.put(run.slot(), true);
        }
        if !self.state.inodes.contains_key(&plan.ino) {
            return Err(Need::Inode(plan.ino).into());
        }
        let inode = self.inode_mut(plan.ino)?;
        set_runs(inode, plan);
        for (_, run) in &plan.runs {
            self.after.push(After::Unreserve(run.map(), run.slot()));
        }
        Ok(())
    }
}

fn set_runs(inode: &mut Inode, plan: &Plan) {
    inode.blocks += plan.new_pages * (PAGE / 512);
    if inode.is_free() {
        return;
    }
    inode.first_class = plan.first_class;
    if let Body::Runs(runs) = &mut inode.body {
        for (index, run) in &plan.runs {
            runs[*index] = Some(*run);
        }
    }
    inode.size = plan.size;
}

impl State {
    /// Notes that the pages of `plan` are on the disk.
    fn accomplished(&mut self, plan: &Plan) {
        self.spent += plan.new_pages * PAGE;
        let Some(slot) = self.inodes.get_mut(&plan.ino) else { return };
        if !plan.discards.is_empty() {
            slot.ragged = false;
        }
        let mut deltas = Vec::new();
        for (page, _, _, number) in &plan.pages {
            deltas.push(slot.data.written(*page, *number));
        }
        for delta in deltas {
            self.account(delta);
        }
    }
}

/// Pages as writes: neighbours together, small holes in a `fresh` run filled with zeros.
fn pieces(pages: &[(Offset, Bytes)], fresh: &BTreeMap<Offset, u64>) -> Vec<(Offset, Vec<Bytes>)> {
    let zeros = Bytes::from_static(&ZEROS);
    let mut all: Vec<(Offset, Vec<Bytes>)> = Vec::new();
    let mut length = 0;
    for (at, bytes) in pages {
        let joins = all.last().is_some_and(|(start, _)| {
            let end = start.0 + length;
            let hole = at.0 - end;
            // In an old run there may be bytes in the hole that are in nobody's memory.
            let ours = fresh
                .range(..*at)
                .next_back()
                .is_some_and(|(run, bytes)| run.0 < end && run.0 + bytes >= at.0);
            at.0 + PAGE - start.0 <= PIECE && (hole == 0 || hole <= FILL && ours)
        });
        if !joins {
            all.push((*at, Vec::new()));
            length = 0;
        }
        let Some((start, piece)) = all.last_mut() else { continue };
        while start.0 + length < at.0 {
            piece.push(zeros.clone());
            length += PAGE;
        }
        piece.push(bytes.clone());
        if bytes.len() < PAGE as usize {
            piece.push(zeros.slice(bytes.len()..));
        }
        length += PAGE;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(pages: &[u64], fresh: &[(u64, u64)]) -> Vec<(u64, usize)> {
        let page = |n: &u64| (Offset(n * PAGE), Bytes::from_static(&ZEROS));
        let pages: Vec<_> = pages.iter().map(page).collect();
        let fresh = fresh.iter().map(|(n, count)| (Offset(n * PAGE), count * PAGE)).collect();
        let all = pieces(&pages, &fresh);
        all.iter().map(|(at, data)| (at.0 / PAGE, data.concat().len() / PAGE as usize)).collect()
    }

    #[test]
    fn pages_of_many_files_become_few_writes() {
        let all: Vec<u64> = (0..1000).collect();
        assert_eq!(shape(&all, &[]), [(0, 256), (256, 256), (512, 256), (768, 232)]);
        // Three files of three pages in fresh runs of four.
        assert_eq!(shape(&[0, 1, 2, 4, 5, 6, 8], &[(0, 4), (4, 4), (8, 4)]), [(0, 9)]);
        // The run before the hole is an old one.
        assert_eq!(shape(&[0, 1, 2, 4, 5], &[(4, 4)]), [(0, 3), (4, 2)]);
        // The hole is larger than what the fresh run explains.
        assert_eq!(shape(&[0, 3], &[(0, 2)]), [(0, 1), (3, 1)]);
    }
}
