//! The three steps of freeing: what makes runs unreachable is in the log; the runs are discarded,
//! and that is flushed; only then their bits are cleared, so that a run of which a bitmap says that
//! it is free reads as zeros.

use std::collections::BTreeSet;

use blockstore::Offset;
use futures_util::{TryStreamExt, stream};
use lockservice::{Mode, Name};

use crate::{
    bug::{self, Bug},
    error::Error,
    fs::Fs,
    layout::{
        geometry::{InodeNo, Run, Use, run_start},
        inode::{Body, Inode},
    },
    tx::{Access, Stop, Tx},
};

/// Inodes that are freed together.
const BATCH: usize = 512;
/// Discards under way at one time.
const PARALLEL: usize = 16;

/// An inode and the runs that it loses.
struct Loss {
    ino: InodeNo,
    runs: Vec<(usize, Run)>,
    /// The inode goes, too.
    whole: bool,
}

impl Fs {
    /// Frees a batch of orphans, and what truncated files have behind their ends.
    pub(crate) async fn reap_once(&self) -> Result<(), Error> {
        let _alone = self.reaping.lock().await;
        loop {
            let batch: Vec<InodeNo> = {
                let state = self.state.lock();
                if state.closing {
                    return Ok(());
                }
                state.orphans.iter().chain(&state.trims).take(BATCH).copied().collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            self.ask_sole(&batch).await?;
            let (claimed, losses) = self.losses(&batch).await?;
            let result = self.reap(&losses).await;
            self.state.lock().freeing.clear();
            self.release_claims(&claimed, None);
            result?;
            if claimed.is_empty() {
                // All of them are busy with a write-back; the next beat tries again.
                return Ok(());
            }
        }
    }

    /// Finds out what is lost, with all locks that freeing it needs, and claims the inodes and the
    /// bitmaps: a revocation waits until they are freed, or not begun.
    async fn losses(&self, batch: &[InodeNo]) -> Result<(Vec<InodeNo>, Vec<Loss>), Error> {
        self.run(|tx| {
            let mut losses = Vec::new();
            for ino in batch {
                losses.extend(tx.loss(*ino)?);
            }
            let locks: BTreeSet<Name> = losses
                .iter()
                .flat_map(|loss| &loss.runs)
                .map(|(_, run)| run.segment().space_lock())
                .collect();
            for lock in &locks {
                tx.hold(*lock, Mode::Exclusive)?;
            }
            let maps = losses.iter().filter(|loss| loss.whole);
            let maps = maps.map(|loss| loss.ino.segment().inode_map_lock());
            tx.state.freeing = locks.into_iter().chain(maps).collect();
            let mut claimed = Vec::new();
            for loss in &losses {
                if let Some(slot) = tx.state.inodes.get_mut(&loss.ino) {
                    slot.writing = true;
                    claimed.push(loss.ino);
                }
            }
            tx.state.jobs += claimed.len() as u32;
            Ok((claimed, losses))
        })
        .await
    }

    async fn reap(&self, losses: &[Loss]) -> Result<(), Error> {
        let data: Vec<Run> = losses
            .iter()
            .flat_map(|loss| loss.runs.iter().map(|(_, run)| *run))
            .filter(|run| run.use_() == Use::Data)
            .collect();
        if !bug::on(Bug::FreeBeforeLog) {
            self.push().await?;
        }
        if losses.iter().flat_map(|loss| &loss.runs).any(|(_, run)| run.use_() == Use::Metadata) {
            // A recoverer must find no change of these pages in this mount's log once they are
            // another's: it could be newer than what the other has in place.
            self.write_home().await?;
        }
        if !data.is_empty() && !bug::on(Bug::ReuseUndiscarded) {
            stream::iter(stretches(data).into_iter().map(Ok))
                .try_for_each_concurrent(PARALLEL, |(at, length)| async move {
                    self.insist(|| self.disk.discard(at, length)).await
                })
                .await?;
            self.insist(|| self.disk.flush()).await?;
        }
        for some in losses.chunks(64) {
            self.run_inner(Access::Finish, |tx| some.iter().try_for_each(|loss| tx.lose(loss)))
                .await?;
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// What `ino` can lose; `None` if it is busy, or is not what the queue says any more.
    fn loss(&mut self, ino: InodeNo) -> Result<Option<Loss>, Stop> {
        self.hold(ino.lock(), Mode::Exclusive)?;
        let inode = self.inode(ino)?;
        let whole = inode.links == 0 && !inode.is_free();
        let first = inode.first_class;
        let runs: Vec<(usize, Run)> =
            inode.runs().chain(inode.xattrs.map(|run| (usize::MAX, run))).collect();
        // The log may wait for the data of a renamed file, and whoever frees waits for the log.
        let idle = self.state.inodes.get(&ino).is_some_and(|slot| !slot.writing)
            && !self.state.renamed.contains(&ino);
        if !idle {
            return Ok(None);
        }
        if whole {
            if self.state.opens.contains_key(&ino) {
                self.state.orphans.remove(&ino);
                self.state.nameless.insert(ino);
                return Ok(None);
            }
            if !self.fs.is_sole(ino) {
                self.state.orphans.remove(&ino);
                self.state.elsewhere.insert(ino, self.fs.look_again());
                return Ok(None);
            }
            self.state.drop_data(ino);
            let lock = ino.segment().inode_map_lock();
            self.hold(lock, Mode::Exclusive)?;
            return Ok(Some(Loss { ino, runs, whole }));
        }
        self.state.orphans.remove(&ino);
        self.state.trims.remove(&ino);
        let slot = &self.state.inodes[&ino];
        let end = slot.size.max(slot.inode.size);
        let spare: Vec<(usize, Run)> = runs
            .into_iter()
            .filter(|(index, _)| *index != usize::MAX && run_start(first, *index) >= end)
            .collect();
        Ok((!spare.is_empty()).then_some(Loss { ino, runs: spare, whole }))
    }

    /// The runs of `loss` read as zeros: they are free.
    fn lose(&mut self, loss: &Loss) -> Result<(), Stop> {
        for (_, run) in &loss.runs {
            self.free_run(*run)?;
        }
        if loss.whole {
            return self.free_inode(loss.ino);
        }
        let inode: &mut Inode = self.inode_mut(loss.ino)?;
        if let Body::Runs(runs) = &mut inode.body {
            for (index, _) in &loss.runs {
                runs[*index] = None;
            }
        }
        Ok(())
    }
}

/// Runs as stretches of disk, neighbours together.
fn stretches(mut runs: Vec<Run>) -> Vec<(Offset, u64)> {
    runs.sort_unstable_by_key(|run| run.address());
    let mut all: Vec<(Offset, u64)> = Vec::new();
    for run in runs {
        match all.last_mut() {
            Some((at, length)) if at.0 + *length == run.address().0 => *length += run.bytes(),
            _ => all.push((run.address(), run.bytes())),
        }
    }
    all
}
