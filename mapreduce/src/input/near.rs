//! Which machines keep how much of a split. How long a task waits for one of them is the scheduler's business.

use std::collections::BTreeMap;

use fs::InodeNo;

use super::plan::Split;
use crate::{error::Error, files::Files, peers::Place, scheduler::NodeNo};

/// The machines that workers are on, in the order of their names: each has its place there as number.
pub(crate) struct Machines(Vec<String>);

impl Machines {
    pub(crate) fn of(workers: &[Place]) -> Self {
        let mut hosts: Vec<_> = workers.iter().map(Place::host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        Self(hosts)
    }

    /// The number of the machine that is called `host`; none if there is no choice.
    fn number(&self, host: &str) -> Option<NodeNo> {
        if self.0.len() < 2 {
            return None;
        }
        let found = self.0.binary_search_by(|known| known.as_str().cmp(host));
        found.ok().map(|number| NodeNo(number as u32))
    }

    /// The machine that a worker is on.
    pub(crate) fn at(&self, worker: &Place) -> Option<NodeNo> {
        self.number(&worker.host())
    }

    /// Notes for each split how much of it the machines keep.
    pub(crate) async fn find(&self, files: &dyn Files, splits: &mut [Split]) -> Result<(), Error> {
        if self.0.len() < 2 {
            return Ok(());
        }
        for split in splits {
            let mut held: BTreeMap<NodeNo, u64> = BTreeMap::new();
            for piece in &split.pieces {
                let failed =
                    |error| Error::files(format!("looking where {} is", piece.path), error);
                let hosts = files.hosts(InodeNo(piece.ino), piece.offset, piece.length);
                for (host, bytes) in hosts.await.map_err(failed)? {
                    if let Some(node) = self.number(&host) {
                        *held.entry(node).or_insert(0) += bytes;
                    }
                }
            }
            split.held = held.into_iter().collect();
        }
        Ok(())
    }
}
