//! The state of a job as a pure machine: the scheduler, the counters of what counts, the latest failures. It is told
//! events and says effects; told the same events again, somewhere else, it is in the same state, and its digest tells
//! if it is not. Who tells it, and who acts, is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use world::Time;

use crate::{
    counters::{Counters, JOB, name},
    input::plan::Split,
    progress::Failure,
    scheduler::{Effect, Event, Limits, Scheduler, Task, WorkerNo},
    spec::JobSpec,
};

/// How long a job waits for its first worker, or for another when all are lost.
const ALONE: Duration = Duration::from_secs(20);
/// An attempt is not given a backup before it has run for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a map waits for a worker that has its input.
const DELAY: Duration = Duration::from_secs(1);
/// Failures that are remembered for whoever looks.
const FAILURES: usize = 20;

/// The machine.
pub(crate) struct Machine {
    pub(crate) scheduler: Scheduler,
    workers: Vec<String>,
    /// Of the attempt that counts, for each task.
    counters: BTreeMap<Task, Counters>,
    failures: VecDeque<Failure>,
    /// Of all effects so far.
    digest: u32,
    /// The job's time when it was told something last.
    at: Time,
}

impl Machine {
    /// The machine of a job that begins.
    pub(crate) fn new(spec: &JobSpec, splits: &[Split], workers: &[String]) -> Self {
        let limits = Limits {
            attempts: spec.attempts.max(1),
            silence: spec.silence,
            alone: ALONE,
            skip: spec.skip,
            backups: spec.backups,
            patience: PATIENCE,
            delay: DELAY,
            early_percent: spec.early_percent,
        };
        let near = splits.iter().map(|split| split.near.clone()).collect();
        Self {
            scheduler: Scheduler::new(near, spec.reduces, limits),
            workers: workers.to_vec(),
            counters: BTreeMap::new(),
            failures: VecDeque::new(),
            digest: 0,
            at: Time::ZERO,
        }
    }

    /// Takes an event and says what to do; `counters` are those of an attempt that is done.
    pub(crate) fn apply(
        &mut self,
        at: Time,
        event: Event,
        counters: Option<Counters>,
    ) -> Vec<Effect> {
        self.at = self.at.max(at);
        let failure = self.failure(&event);
        let before = self.scheduler.tally().failures;
        let effects = self.scheduler.handle(self.at, event);
        // What was given up on purpose is no failure.
        if self.scheduler.tally().failures > before
            && let Some(failure) = failure
        {
            if self.failures.len() == FAILURES {
                self.failures.pop_front();
            }
            self.failures.push_back(failure);
        }
        let accepted = effects.iter().find_map(|effect| match effect {
            Effect::Accept { task, .. } => Some(*task),
            _ => None,
        });
        if let (Some(task), Some(counters)) = (accepted, counters) {
            self.counters.insert(task, counters);
        }
        if !effects.is_empty() {
            let said = format!("{:08x} {effects:?}", self.digest);
            self.digest = crc_fast::crc32_iscsi(said.as_bytes());
        }
        effects
    }

    fn failure(&self, event: &Event) -> Option<Failure> {
        let Event::Failed { worker, task, attempt, reason, .. } = event else { return None };
        Some(Failure {
            task: task.to_string(),
            attempt: *attempt,
            worker: self.place(*worker),
            reason: reason.clone(),
        })
    }

    /// Where a worker is.
    pub(crate) fn place(&self, worker: WorkerNo) -> String {
        self.workers.get(worker.0 as usize).cloned().unwrap_or_default()
    }

    /// The latest failures.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter()
    }

    /// The counters of the attempt that counts, for each task that has one.
    pub(crate) fn counted(&self) -> &BTreeMap<Task, Counters> {
        &self.counters
    }

    /// All counters of attempts that count, and of where attempts began.
    pub(crate) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        self.counters.values().for_each(|more| all.merge(more));
        let tally = self.scheduler.tally();
        for (name, amount) in [(name::LOCAL_MAPS, tally.local), (name::REMOTE_MAPS, tally.remote)] {
            if amount > 0 {
                all.add(JOB, name, u64::from(amount));
            }
        }
        all
    }

    /// Stands for all effects so far, and their order.
    pub(crate) fn digest(&self) -> u32 {
        self.digest
    }

    /// The job's time when it was told something last.
    pub(crate) fn at(&self) -> Time {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use world::Time;

    use super::Machine;
    use crate::{
        counters::Counters,
        input::plan::Split,
        scheduler::{Event, Sizes, Task, WorkerNo},
        spec::JobSpec,
    };

    #[test]
    fn only_what_is_accepted_is_counted_and_the_digest_tells_one_history_from_another() {
        let new = || Machine::new(&JobSpec::default(), &[Split::default()], &["w".to_owned()]);
        let (mut one, mut other) = (new(), new());
        let worker = WorkerNo(0);
        let joined = Event::Joined { worker, incarnation: 1, slots: 1, node: None };
        let done = |attempt| Event::Done {
            worker,
            task: Task::Map(0),
            attempt,
            sizes: Sizes::new(&[1, 1]),
        };
        let mut counters = Counters::default();
        counters.add("g", "n", 5);
        for machine in [&mut one, &mut other] {
            machine.apply(Time(1), joined.clone(), None);
            // No such attempt was begun.
            machine.apply(Time(2), done(7), Some(counters.clone()));
            assert_eq!(machine.counters().get("g", "n"), 0);
        }
        assert_eq!(one.digest(), other.digest());
        one.apply(Time(3), done(0), Some(counters.clone()));
        one.apply(Time(4), done(0), Some(counters.clone()));
        assert_eq!(one.counters().get("g", "n"), 5);
        assert_ne!(one.digest(), other.digest());
        other.apply(Time(9), done(0), Some(counters));
        assert_eq!(one.digest(), other.digest());
    }
}
