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
    progress::{Failure, Skip},
    scheduler::{Effect, Event, Limits, NodeNo, Scheduler, Task, WorkerNo},
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

/// Records that are left out and listed.
const SKIPS: usize = 1000;
/// Bytes of what is said of one.
const SKIP_REASON: usize = 1000;

/// Bytes of a split, and how many of them each machine keeps.
type Held = (u64, Vec<(NodeNo, u64)>);

/// The machine.
pub(crate) struct Machine {
    pub(crate) scheduler: Scheduler,
    workers: Vec<String>,
    held: Vec<Held>,
    /// Of the attempt that counts, for each task.
    counters: BTreeMap<Task, Counters>,
    failures: VecDeque<Failure>,
    /// Records that are left out, by map and number, and why.
    skips: BTreeMap<(u32, u64), String>,
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
        let near = splits.iter().map(Split::near).collect();
        Self {
            scheduler: Scheduler::new(near, spec.reduces, limits),
            workers: workers.to_vec(),
            held: splits.iter().map(|split| (split.bytes, split.held.clone())).collect(),
            counters: BTreeMap::new(),
            failures: VecDeque::new(),
            skips: BTreeMap::new(),
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
        let bad = bad_record(&event);
        let ran_on = match &event {
            Event::Done { worker, .. } => self.scheduler.node(*worker),
            _ => None,
        };
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
        if let Some((map, record, reason)) = bad
            && self.skips.len() < SKIPS
            && self.scheduler.skips(map, record)
        {
            self.skips.insert((map, record), reason);
        }
        let accepted = effects.iter().find_map(|effect| match effect {
            Effect::Accept { task, .. } => Some(*task),
            _ => None,
        });
        if let (Some(task), Some(mut counters)) = (accepted, counters) {
            self.locate(task, ran_on, &mut counters);
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
            label: task.label(*attempt),
            worker: self.place(*worker),
            reason: reason.clone(),
        })
    }

    /// Counts how many bytes of its input a map had on its own machine.
    fn locate(&self, task: Task, ran_on: Option<NodeNo>, counters: &mut Counters) {
        let Task::Map(map) = task else { return };
        let Some((bytes, held)) = self.held.get(map as usize) else { return };
        // It makes no difference, or nobody knows.
        if held.is_empty() {
            return;
        }
        let here = held.iter().find(|(node, _)| Some(*node) == ran_on);
        let here = here.map_or(0, |(_, here)| *here).min(*bytes);
        counters.add(JOB, name::LOCAL_BYTES, here);
        counters.add(JOB, name::REMOTE_BYTES, bytes - here);
    }

    /// The records that are left out.
    pub(crate) fn skips(&self) -> Vec<Skip> {
        let skip = |((map, record), reason): (&(u32, u64), &String)| Skip {
            task: Task::Map(*map).to_string(),
            record: *record,
            reason: reason.clone(),
        };
        self.skips.iter().map(skip).collect()
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

/// The map and the record of its split that an attempt failed on, and what it said.
fn bad_record(event: &Event) -> Option<(u32, u64, String)> {
    match event {
        Event::Failed { task: Task::Map(map), record: Some(record), reason, .. } => {
            Some((*map, *record, reason.chars().take(SKIP_REASON).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use world::Time;

    use super::Machine;
    use crate::{
        counters::Counters,
        input::plan::Split,
        scheduler::{Event, NodeNo, Sizes, Task, WorkerNo},
        spec::JobSpec,
    };

    #[test]
    fn local_bytes_are_those_of_the_attempt_that_counts_and_what_its_machine_keeps() {
        let split = |bytes, node, here| Split {
            bytes,
            held: vec![(NodeNo(node), here), (NodeNo(9), bytes)],
            ..Split::default()
        };
        let splits = [split(100, 0, 80), split(50, 1, 50), Split { bytes: 7, ..Split::default() }];
        let workers = ["a".to_owned(), "b".to_owned()];
        let mut machine = Machine::new(&JobSpec::default(), &splits, &workers);
        for number in 0..2 {
            let (worker, node) = (WorkerNo(number), Some(NodeNo(number)));
            let joined = Event::Joined { worker, incarnation: 1, slots: 3, node };
            machine.apply(Time(1), joined, None);
        }
        let mut done = |worker, map, attempt| {
            let (worker, sizes) = (WorkerNo(worker), Sizes::new(&[1]));
            let event = Event::Done { worker, task: Task::Map(map), attempt, sizes };
            machine.apply(Time(2), event, Some(Counters::default()));
            let counted = machine.counters();
            let of = |name| counted.get("Job Counters", name);
            (of("Data-local bytes"), of("Remote bytes"))
        };
        assert_eq!(done(0, 0, 0), (80, 20));
        // Again, by an attempt that does not count.
        assert_eq!(done(0, 0, 0), (80, 20));
        assert_eq!(done(1, 1, 0), (130, 20));
        // Nobody knows where it is.
        assert_eq!(done(0, 2, 0), (130, 20));
        // The output of the first is lost; it runs again where nothing of its input is.
        let lost = Event::Lost { worker: WorkerNo(0) };
        machine.apply(Time(3), lost, None);
        let done = Event::Done {
            worker: WorkerNo(1),
            task: Task::Map(0),
            attempt: 1,
            sizes: Sizes::new(&[1]),
        };
        machine.apply(Time::ZERO + std::time::Duration::from_secs(9), Event::Tick, None);
        machine.apply(Time(4), done, Some(Counters::default()));
        let counted = machine.counters();
        let of = |name| counted.get("Job Counters", name);
        assert_eq!((of("Data-local bytes"), of("Remote bytes")), (50, 100));
    }

    #[test]
    fn a_record_on_which_two_attempts_failed_is_listed_and_no_other() {
        let spec = JobSpec { skip: 5, ..JobSpec::default() };
        let mut machine = Machine::new(&spec, &[Split::default()], &["w".to_owned()]);
        let worker = WorkerNo(0);
        let joined = Event::Joined { worker, incarnation: 1, slots: 1, node: None };
        machine.apply(Time(1), joined, None);
        let mut failed = |attempt, record| {
            let event = Event::Failed {
                worker,
                task: Task::Map(0),
                attempt,
                reason: format!("attempt {attempt}"),
                lost: Vec::new(),
                record: Some(record),
            };
            machine.apply(Time(2), event, None);
            let skips = machine.skips();
            skips.into_iter().map(|skip| (skip.record, skip.reason)).collect::<Vec<_>>()
        };
        assert!(failed(0, 7).is_empty());
        assert!(failed(1, 3).is_empty());
        assert_eq!(failed(2, 7), [(7, "attempt 2".to_owned())]);
    }

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
