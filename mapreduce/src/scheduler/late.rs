//! Backup attempts by LATE's rule (Zaharia et al., OSDI'08, section 4): when a phase has no idle task left, the
//! running attempt with the longest time still to go gets a second one, if its rate is among the slowest quarter, on
//! a worker that is not slow itself, and only so many at a time.

use std::{collections::BTreeMap, time::Duration};

use world::Time;

use super::{Effect, Scheduler, Task, WorkerNo};

/// Backups at once, in percent of the slots; at least one.
const SHARE_PERCENT: usize = 10;

/// A running attempt, as the rule sees it.
struct Candidate {
    task: Task,
    worker: WorkerNo,
    /// Thousandths in a second.
    rate: f64,
    /// Seconds still to go.
    left: f64,
    since: Duration,
}

impl Scheduler {
    /// Begins the backup attempts that the rule asks for.
    pub(super) fn back_up(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let in_maps = !self.maps.are_done();
        let tasks = if in_maps { &self.maps } else { &self.reduces };
        if tasks.idle() > 0 {
            return;
        }
        let slots: u32 = self.workers.values().map(|worker| worker.slots).sum();
        let most = (slots as usize * SHARE_PERCENT / 100).max(1);
        let running = self.workers.values().flat_map(|worker| worker.running.values());
        let mut under_way = running.filter(|running| running.backup).count();
        while under_way < most {
            let Some((task, worker)) = self.slowest(now, in_maps) else { return };
            self.tally.backups += 1;
            self.start(now, worker, task, true, effects);
            under_way += 1;
        }
    }

    /// Running attempts that are slower than half the usual.
    pub(crate) fn stragglers(&self, now: Time) -> u32 {
        let in_maps = !self.maps.are_done();
        let candidates = self.candidates(now, in_maps);
        let Some((_, half)) = self.usual(in_maps, &candidates) else { return 0 };
        let old = candidates.iter().filter(|candidate| candidate.since >= self.limits.patience);
        old.filter(|candidate| candidate.rate < half / 2.0).count() as u32
    }

    /// The rates of the slowest quarter and of half of the attempts, of those that run and those that are done.
    fn usual(&self, in_maps: bool, candidates: &[Candidate]) -> Option<(f64, f64)> {
        let tasks = if in_maps { &self.maps } else { &self.reduces };
        let mut rates: Vec<f64> = candidates.iter().map(|candidate| candidate.rate).collect();
        let done = tasks.durations().iter().map(|time| 1000.0 / time.as_secs_f64().max(0.001));
        rates.extend(done);
        rates.sort_unstable_by(f64::total_cmp);
        Some((*rates.get(rates.len() / 4)?, *rates.get(rates.len() / 2)?))
    }

    fn candidates(&self, now: Time, in_maps: bool) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (number, worker) in &self.workers {
            for ((task, _), running) in &worker.running {
                if matches!(task, Task::Map(_)) != in_maps {
                    continue;
                }
                let since = now.since(running.since);
                let seconds = since.as_secs_f64().max(0.001);
                // What has done nothing yet is as slow as if it had done half a step.
                let rate = f64::from(running.thousandths).max(0.5) / seconds;
                let left = f64::from(1000 - running.thousandths) / rate;
                found.push(Candidate { task: *task, worker: *number, rate, left, since });
            }
        }
        found
    }

    /// The task that most needs a backup, and a worker for it.
    fn slowest(&self, now: Time, in_maps: bool) -> Option<(Task, WorkerNo)> {
        let tasks = if in_maps { &self.maps } else { &self.reduces };
        let candidates = self.candidates(now, in_maps);
        let (quarter, half) = self.usual(in_maps, &candidates)?;
        // A quarter of equals is slow by nothing: it must also be slower than half of the usual.
        let slow =
            |candidate: &&Candidate| candidate.rate <= quarter && candidate.rate < half / 2.0;
        let chosen = candidates
            .iter()
            .filter(|candidate| candidate.since >= self.limits.patience)
            .filter(|candidate| tasks.runners(number(candidate.task)) == 1)
            .filter(slow)
            .max_by(|a, b| a.left.total_cmp(&b.left))?;
        let worker = self.fast_and_free(chosen, &candidates, quarter)?;
        Some((chosen.task, worker))
    }

    /// A free worker that does not run the task and is not among the slow ones.
    fn fast_and_free(
        &self,
        chosen: &Candidate,
        candidates: &[Candidate],
        quarter: f64,
    ) -> Option<WorkerNo> {
        let mut slowest: BTreeMap<WorkerNo, f64> = BTreeMap::new();
        for candidate in candidates {
            let rate = slowest.entry(candidate.worker).or_insert(f64::INFINITY);
            *rate = rate.min(candidate.rate);
        }
        let fast = |worker: &WorkerNo| slowest.get(worker).is_none_or(|rate| *rate > quarter);
        let free = self.free.iter().copied();
        let free = free.filter(|worker| *worker != chosen.worker && fast(worker));
        free.min_by_key(|worker| self.workers.get(worker).map(|w| (w.failures, w.running.len())))
    }
}

fn number(task: Task) -> u32 {
    match task {
        Task::Map(number) | Task::Reduce(number) => number,
    }
}
