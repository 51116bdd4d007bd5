//! Reduces that begin before all maps are done: they fetch what is there and wait for the rest, so that the last maps and
//! the shuffle overlap (MapReduce, OSDI'04, section 3.2: locations are pushed to workers that have reduces in progress).
//!
//! One that waits takes no slot, so that it never keeps a map from running, not even one that must run again; when the
//! last map is done, all that wait have a slot. None begins as long as a map is idle. How they hear of more output is not
//! known here.

use world::Time;

use super::{Effect, Scheduler, Task, Worker, WorkerNo};

impl Worker {
    /// Attempts that take a slot: all, but for reduces that wait for maps.
    pub(super) fn load(&self) -> usize {
        self.running.values().filter(|running| !running.waits).count()
    }

    fn reduces(&self) -> usize {
        self.running.keys().filter(|(task, _)| matches!(task, Task::Reduce(_))).count()
    }
}

impl Scheduler {
    /// Notes whether all maps are done. When they are, reduces that waited take a slot and begin to work: how fast they are
    /// counts from then on.
    pub(super) fn turn(&mut self, now: Time) {
        let reducing = self.maps.are_done();
        if reducing == self.reducing {
            return;
        }
        (self.reducing, self.crowded) = (reducing, false);
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            let running = self.workers.get_mut(&number).map(|worker| worker.running.iter_mut());
            for (_, running) in running.into_iter().flatten() {
                if reducing && running.waits {
                    (running.waits, running.since) = (false, now);
                }
            }
            self.note_free(number);
        }
    }

    /// Begins reduces early, as many on each worker as it has slots.
    pub(super) fn begin_early(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let done = u64::from(self.maps.done()) * 100;
        let enough = done >= u64::from(self.limits.early_percent) * self.maps.len() as u64;
        if self.reducing || !enough || self.maps.idle() > 0 {
            return;
        }
        while !self.crowded && self.reduces.idle() > 0 {
            let may_more = |(number, worker): (&WorkerNo, &Worker)| {
                let reduces = worker.reduces();
                let has_room = !worker.aside && reduces < worker.slots as usize;
                has_room.then_some((worker.failures, reduces, *number))
            };
            let mut willing: Vec<_> = self.workers.iter().filter_map(may_more).collect();
            willing.sort_unstable();
            let mut any = false;
            for (_, _, worker) in willing {
                if let Some((reduce, _)) = self.reduces.pick(None, true, self.may(worker)) {
                    self.start(now, worker, Task::Reduce(reduce), false, effects);
                    any = true;
                }
            }
            self.crowded = !any;
        }
    }
}
