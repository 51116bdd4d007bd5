//! The scheduler of a job as a pure machine: which task runs where, and what runs again when an attempt
//! fails or a worker is lost. Time is an argument; nothing is sent from here, and what a task does is not known.
//!
//! The rules of the paper: a map of a lost worker runs again even if it was done, for its output lay
//! there, unless no reduce needs it any more; a reduce that was done stays done; whichever attempt of a task is done
//! first counts, and the others are ignored.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use world::Time;

/// A worker, by its place in the job's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkerNo(pub(crate) u32);

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    Map(u32),
    Reduce(u32),
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Map(number) => write!(f, "map {number}"),
            Self::Reduce(number) => write!(f, "reduce {number}"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A worker answers and runs so many tasks at once.
    Joined { worker: WorkerNo, slots: u32 },
    /// A sign of life.
    Heard { worker: WorkerNo },
    /// An attempt is done; a map with the bytes of each partition.
    Done { worker: WorkerNo, task: Task, attempt: u32, sizes: Vec<u64> },
    /// An attempt failed; a reduce may name the maps whose output it could not get.
    Failed { worker: WorkerNo, task: Task, attempt: u32, reason: String, lost: Vec<u32> },
    /// A worker cannot be reached.
    Lost { worker: WorkerNo },
    /// Time has passed.
    Tick,
}

/// What is to be done about it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Run an attempt.
    Start { worker: WorkerNo, task: Task, attempt: u32 },
    /// All tasks are done.
    Finished,
    /// The job has failed.
    GiveUp { task: Option<Task>, attempts: u32, reason: String },
}

/// The limits of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Attempts of one task that may fail.
    pub(crate) attempts: u32,
    /// A worker that was not heard of for so long is lost.
    pub(crate) silence: Duration,
    /// Without any worker for so long, the job fails.
    pub(crate) alone: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Running,
    Done { worker: WorkerNo, attempt: u32, sizes: Vec<u64> },
}

#[derive(Debug)]
struct Job {
    state: State,
    /// Attempts begun.
    begun: u32,
    /// Attempts that failed or died with their worker.
    failed: u32,
    /// Where; another worker is tried first.
    failed_on: BTreeSet<WorkerNo>,
}

#[derive(Debug)]
struct Worker {
    slots: u32,
    running: BTreeSet<(Task, u32)>,
    heard: Time,
    /// Failures in a row: a worker that only fails is used last.
    failures: u32,
}

impl Worker {
    fn is_free(&self) -> bool {
        self.running.len() < self.slots as usize
    }
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    maps: Vec<Job>,
    reduces: Vec<Job>,
    workers: BTreeMap<WorkerNo, Worker>,
    since_alone: Option<Time>,
    failures: u32,
    over: bool,
}

impl Scheduler {
    pub(crate) fn new(maps: u32, reduces: u32, limits: Limits) -> Self {
        let idle = |_| Job { state: State::Idle, begun: 0, failed: 0, failed_on: BTreeSet::new() };
        Self {
            limits,
            maps: (0..maps).map(idle).collect(),
            reduces: (0..reduces).map(idle).collect(),
            workers: BTreeMap::new(),
            since_alone: None,
            failures: 0,
            over: false,
        }
    }

    /// Takes an event and says what to do.
    pub(crate) fn handle(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.over {
            return effects;
        }
        match event {
            Event::Joined { worker, slots } => {
                let fresh = Worker {
                    slots: slots.max(1),
                    running: BTreeSet::new(),
                    heard: now,
                    failures: 0,
                };
                self.workers.entry(worker).or_insert(fresh).heard = now;
            }
            Event::Heard { worker } => self.hear(now, worker),
            Event::Done { worker, task, attempt, sizes } => {
                self.hear(now, worker);
                self.done(worker, task, attempt, sizes);
            }
            Event::Failed { worker, task, attempt, reason, lost } => {
                self.hear(now, worker);
                self.failed(worker, (task, attempt), reason, &lost, &mut effects);
            }
            Event::Lost { worker } => self.lose(worker, "its worker was lost", &mut effects),
            Event::Tick => self.tick(now, &mut effects),
        }
        if !self.over {
            self.next(&mut effects);
        }
        effects
    }

    fn job(&mut self, task: Task) -> Option<&mut Job> {
        match task {
            Task::Map(number) => self.maps.get_mut(number as usize),
            Task::Reduce(number) => self.reduces.get_mut(number as usize),
        }
    }

    fn hear(&mut self, now: Time, worker: WorkerNo) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.heard = now;
        }
    }

    /// Takes an attempt off a worker; `false` if it was not running there (it was given up before).
    fn take(&mut self, worker: WorkerNo, attempt: (Task, u32)) -> bool {
        self.workers.get_mut(&worker).is_some_and(|worker| worker.running.remove(&attempt))
    }

    fn done(&mut self, worker: WorkerNo, task: Task, attempt: u32, sizes: Vec<u64>) {
        let running = self.take(worker, (task, attempt));
        if let Some(known) = self.workers.get_mut(&worker) {
            known.failures = 0;
        }
        let Some(job) = self.job(task) else { return };
        // The output of a map on a lost worker cannot be had; that of a reduce is in its place, whoever wrote it.
        if !matches!(job.state, State::Done { .. }) && (running || matches!(task, Task::Reduce(_)))
        {
            job.state = State::Done { worker, attempt, sizes };
        }
    }

    fn failed(
        &mut self,
        worker: WorkerNo,
        attempt: (Task, u32),
        reason: String,
        lost: &[u32],
        effects: &mut Vec<Effect>,
    ) {
        if !self.take(worker, attempt) {
            return;
        }
        self.failures += 1;
        if let Some(known) = self.workers.get_mut(&worker) {
            known.failures += 1;
        }
        for map in lost {
            if let Some(job) = self.maps.get_mut(*map as usize)
                && matches!(job.state, State::Done { .. })
            {
                job.state = State::Idle;
                job.failed += 1;
            }
        }
        if let Some(job) = self.job(attempt.0) {
            job.failed_on.insert(worker);
        }
        self.charge(attempt.0, reason, effects);
    }

    /// Counts a failed attempt; the task runs again, or the job fails.
    fn charge(&mut self, task: Task, reason: String, effects: &mut Vec<Effect>) {
        let most = self.limits.attempts;
        let Some(job) = self.job(task) else { return };
        if matches!(job.state, State::Done { .. }) {
            return;
        }
        job.state = State::Idle;
        job.failed += 1;
        let attempts = job.failed;
        if attempts >= most {
            self.over = true;
            effects.push(Effect::GiveUp { task: Some(task), attempts, reason });
        }
    }

    fn lose(&mut self, worker: WorkerNo, reason: &str, effects: &mut Vec<Effect>) {
        let Some(gone) = self.workers.remove(&worker) else { return };
        let reduced = self.reduces.iter().all(|job| matches!(job.state, State::Done { .. }));
        if !reduced {
            for map in &mut self.maps {
                if matches!(&map.state, State::Done { worker: at, .. } if *at == worker) {
                    map.state = State::Idle;
                }
            }
        }
        for (task, _) in gone.running {
            self.failures += 1;
            self.charge(task, reason.to_owned(), effects);
        }
    }

    fn tick(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let silence = self.limits.silence;
        let silent: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| now.since(worker.heard) >= silence)
            .map(|(worker, _)| *worker)
            .collect();
        for worker in silent {
            self.lose(worker, "its worker fell silent", effects);
        }
        if !self.workers.is_empty() {
            self.since_alone = None;
        } else if now.since(*self.since_alone.get_or_insert(now)) >= self.limits.alone && !self.over
        {
            self.over = true;
            let reason = "no worker answers".to_owned();
            effects.push(Effect::GiveUp { task: None, attempts: 0, reason });
        }
    }

    /// Gives idle tasks to free slots.
    fn next(&mut self, effects: &mut Vec<Effect>) {
        let done = |jobs: &[Job]| jobs.iter().all(|job| matches!(job.state, State::Done { .. }));
        if done(&self.reduces) && (!self.reduces.is_empty() || done(&self.maps)) {
            self.over = true;
            effects.push(Effect::Finished);
            return;
        }
        let maps = self.maps.iter().enumerate();
        let mut idle: Vec<Task> = maps
            .filter(|(_, job)| job.state == State::Idle)
            .map(|(number, _)| Task::Map(number as u32))
            .collect();
        if done(&self.maps) {
            let reduces = self.reduces.iter().enumerate();
            idle.extend(
                reduces
                    .filter(|(_, job)| job.state == State::Idle)
                    .map(|(number, _)| Task::Reduce(number as u32)),
            );
        }
        for task in idle {
            if self.workers.values().all(|worker| !worker.is_free()) {
                return;
            }
            let Some(worker) = self.choose(task) else { continue };
            let Some(job) = self.job(task) else { continue };
            let attempt = job.begun;
            job.begun += 1;
            job.state = State::Running;
            if let Some(known) = self.workers.get_mut(&worker) {
                known.running.insert((task, attempt));
            }
            effects.push(Effect::Start { worker, task, attempt });
        }
    }

    /// A free worker for a task, not one where it failed unless it failed on all that live.
    fn choose(&self, task: Task) -> Option<WorkerNo> {
        let job = match task {
            Task::Map(number) => self.maps.get(number as usize)?,
            Task::Reduce(number) => self.reduces.get(number as usize)?,
        };
        let everywhere = self.workers.keys().all(|worker| job.failed_on.contains(worker));
        let free = self.workers.iter().filter(|(number, worker)| {
            worker.is_free() && (everywhere || !job.failed_on.contains(number))
        });
        free.min_by_key(|(number, worker)| (worker.failures, worker.running.len(), **number))
            .map(|(number, _)| *number)
    }

    /// Where the finished maps' outputs lie, with the bytes of partition `reduce`; empty ones left out.
    pub(crate) fn sources(&self, reduce: u32) -> Vec<(WorkerNo, u32, u32, u64)> {
        let source = |(map, job): (usize, &Job)| match &job.state {
            State::Done { worker, attempt, sizes } => {
                let size = sizes.get(reduce as usize).copied().unwrap_or(0);
                (size > 0).then_some((*worker, map as u32, *attempt, size))
            }
            _ => None,
        };
        self.maps.iter().enumerate().filter_map(source).collect()
    }

    /// Tasks done, maps and reduces.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let done = |jobs: &[Job]| {
            jobs.iter().filter(|job| matches!(job.state, State::Done { .. })).count() as u32
        };
        (done(&self.maps), done(&self.reduces))
    }

    pub(crate) fn workers(&self) -> u32 {
        self.workers.len() as u32
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests;
