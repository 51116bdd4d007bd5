//! What is asked of the scheduler and changes nothing: where output lies, who lives, what runs, what was counted.

use std::time::Duration;

use world::Time;

use super::{NodeNo, Scheduler, Tally, Task, Worker, WorkerNo};

impl Scheduler {
    /// Where the finished maps' outputs lie, with about the bytes of partition `reduce`; empty ones left out.
    pub(crate) fn sources(&self, reduce: u32) -> Vec<(WorkerNo, u32, u32, u64)> {
        self.maps.sources(reduce)
    }

    /// Where the output of some maps lies, of those that are done, with about the bytes of partition `reduce`; empty ones
    /// left out.
    pub(crate) fn sources_of(
        &self,
        maps: impl Iterator<Item = u32>,
        reduce: u32,
    ) -> Vec<(WorkerNo, u32, u32, u64)> {
        maps.filter_map(|map| self.maps.source(map, reduce)).collect()
    }

    /// Whether the outputs of all maps are there.
    pub(crate) fn are_maps_done(&self) -> bool {
        self.maps.are_done()
    }

    /// Whether an attempt runs on a worker.
    pub(crate) fn is_running(&self, worker: WorkerNo, attempt: (Task, u32)) -> bool {
        self.workers.get(&worker).is_some_and(|worker| worker.running.contains_key(&attempt))
    }

    /// The machine that a worker is on, if it is known.
    pub(crate) fn node(&self, worker: WorkerNo) -> Option<NodeNo> {
        self.workers.get(&worker)?.node
    }

    /// Whether a record of a split is left out.
    pub(crate) fn skips(&self, map: u32, record: u64) -> bool {
        self.maps.skips(map, record)
    }

    /// Tasks done, maps and reduces.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.maps.done(), self.reduces.done())
    }

    /// Whether it knows a worker, in this incarnation.
    pub(crate) fn has(&self, worker: WorkerNo, incarnation: u64) -> bool {
        self.workers.get(&worker).is_some_and(|known| known.incarnation == incarnation)
    }

    /// The workers that are not lost.
    pub(crate) fn living(&self) -> impl Iterator<Item = WorkerNo> {
        self.workers.keys().copied()
    }

    pub(crate) fn workers(&self) -> u32 {
        self.workers.len() as u32
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Workers whose attempts run, and each attempt's thousandths and time.
    pub(crate) fn running(&self, now: Time) -> Vec<(WorkerNo, Task, u32, u32, Duration)> {
        let of = |(number, worker): (&WorkerNo, &Worker)| {
            let number = *number;
            let rows = worker.running.iter().map(move |((task, attempt), running)| {
                (number, *task, *attempt, running.thousandths, now.since(running.since))
            });
            rows.collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(of).collect()
    }
}
