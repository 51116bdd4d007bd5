//! Attempts that fail, outputs and workers that are lost: who is blamed, what runs again, and when a task, a worker or the
//! job is given up. What runs next is not decided here.

use world::Time;

use super::{Effect, Scheduler, State, Task, WorkerNo};

/// Tasks that may fail on a worker before it is set aside.
const BAD_AFTER: u32 = 3;

/// Why an attempt failed.
pub(super) struct Why {
    pub(super) reason: String,
    /// On this record of its split.
    pub(super) record: Option<u64>,
    /// The output of a map could not be had.
    pub(super) lost: bool,
}

impl Scheduler {
    /// Maps whose output could not be had run again. It is they that failed: else a worker that loses what it keeps would
    /// have the reduces fail for it, or the job would never end.
    pub(super) fn lost_maps(
        &mut self,
        lost: &[(u32, u32)],
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        for (map, which) in lost {
            match self.maps.state(*map) {
                Some(State::Done { worker: Some(_), attempt, .. }) if attempt == which => {
                    self.maps.set(*map, State::Idle);
                    self.charge(Task::Map(*map), (false, reason.to_owned()), effects);
                }
                // It has run again since.
                _ => {}
            }
        }
    }

    pub(super) fn failed(
        &mut self,
        now: Time,
        worker: WorkerNo,
        (task, attempt): (Task, u32),
        Why { reason, record, lost }: Why,
        effects: &mut Vec<Effect>,
    ) {
        let (tasks, number) = self.tasks(task);
        // Its output was accepted, but could not get its name.
        let committing = tasks.state(number) == Some(&State::Committing { attempt });
        if committing {
            tasks.set(number, State::Idle);
        } else if self.take(now, worker, (task, attempt)).is_none() {
            return;
        }
        self.tally.failures += 1;
        let skip = self.limits.skip;
        let (tasks, number) = self.tasks(task);
        tasks.end_attempt(number, worker, attempt);
        tasks.note_failed_on(number, worker);
        let excused = lost || record.is_some_and(|record| tasks.note_bad(number, record, skip));
        if !excused && let Some(known) = self.workers.get_mut(&worker) {
            known.failures += 1;
            self.set_aside(worker);
        }
        self.charge(task, (excused, reason), effects);
    }

    /// A worker on which one task after the other fails gets no more; but never a quarter of them.
    fn set_aside(&mut self, worker: WorkerNo) {
        let aside = self.workers.values().filter(|worker| worker.aside).count();
        let may = (aside + 1) * 4 <= self.workers.len();
        if let Some(known) = self.workers.get_mut(&worker)
            && may
            && !known.aside
            && known.failures >= BAD_AFTER
        {
            known.aside = true;
            self.tally.aside += 1;
            self.note_free(worker);
        }
    }

    /// Counts a failed attempt; the task runs again, or the job fails.
    fn charge(&mut self, task: Task, (excused, reason): (bool, String), effects: &mut Vec<Effect>) {
        let most = self.limits.attempts;
        let over = self.over.is_some();
        let (tasks, number) = self.tasks(task);
        if over || !tasks.is_open(number) {
            return;
        }
        let attempts = tasks.note_failure(number, excused);
        if attempts >= most {
            self.end(Effect::GiveUp { task: Some(task), attempts, reason }, effects);
        }
    }

    pub(super) fn lose(
        &mut self,
        now: Time,
        worker: WorkerNo,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(gone) = self.workers.remove(&worker) else { return };
        self.free.remove(&worker);
        if !self.reduces.are_done() {
            self.maps.forget_outputs_of(worker);
        }
        for (task, attempt) in gone.running.into_keys() {
            self.tally.failures += 1;
            let (tasks, number) = self.tasks(task);
            tasks.end_attempt(number, worker, attempt);
            self.charge(task, (false, reason.to_owned()), effects);
        }
        if self.workers.is_empty() {
            self.since_alone = Some(now);
        }
    }
}
