//! The scheduler of a job as a pure machine: which task runs where, and what runs again when an attempt
//! fails, lags or is lost with its worker. Time is an argument; nothing is sent from here, and what a task does is
//! not known.
//!
//! The rules are the paper's (MapReduce, OSDI'04, sections 3.3 to 3.6 and 4.6): a map of a lost worker runs again even
//! if it was done, for its output lay there, unless no reduce needs it any more; a reduce that was done stays
//! done; whichever attempt of a task is done first counts, and the others are ignored. Backup attempts are made by
//! LATE's rule (OSDI'08); reduces begin before all maps are done, but never in a map's stead; maps wait a little for a worker that has their input (delay scheduling, EuroSys'10).
//!
//! Events can be kept and told again to another machine, which then is where this one was: a job's coordinator can be
//! replaced. Attempts end with the coordinator that began them ([`Event::Resumed`]); what is done stays done.

mod early;
mod failing;
mod late;
mod look;
mod sizes;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use world::Time;

use failing::Why;
pub(crate) use sizes::Sizes;
use tasks::{State, Tasks};

/// A worker, by its place in the job's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct WorkerNo(pub(crate) u32);

/// A node that holds input or runs workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NodeNo(pub(crate) u32);

/// A task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Task {
    Map(u32),
    Reduce(u32),
}

impl Task {
    /// An attempt as its directory and log are called: `m-00003-0`.
    pub(crate) fn label(self, attempt: u32) -> String {
        match self {
            Self::Map(number) => format!("m-{number:05}-{attempt}"),
            Self::Reduce(number) => format!("r-{number:05}-{attempt}"),
        }
    }
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// A worker answers and runs so many tasks at once; one that was started again has another incarnation, and nothing
    /// of what it had.
    Joined { worker: WorkerNo, incarnation: u64, slots: u32, node: Option<NodeNo> },
    /// A sign of life.
    Heard { worker: WorkerNo },
    /// Thousandths of an attempt that are done.
    Progress { worker: WorkerNo, task: Task, attempt: u32, thousandths: u32 },
    /// An attempt is done; a map with the bytes of each partition.
    Done { worker: WorkerNo, task: Task, attempt: u32, sizes: Sizes },
    /// The output of an attempt has its name.
    Committed { task: Task, attempt: u32 },
    /// An attempt failed; a reduce may name the attempts of maps whose output it could not get, a map the record of its
    /// split.
    Failed {
        worker: WorkerNo,
        task: Task,
        attempt: u32,
        reason: String,
        lost: Vec<(u32, u32)>,
        record: Option<u64>,
    },
    /// A worker cannot be reached.
    Lost { worker: WorkerNo },
    /// Time has passed.
    Tick,
    /// Another coordinator leads the job: what the one before had begun has ended with it.
    Resumed,
}

/// What is to be done about it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Run an attempt; a map without some records.
    Start { worker: WorkerNo, task: Task, attempt: u32, skip: Vec<u64> },
    /// An attempt counts: take its counters.
    Accept { task: Task, attempt: u32 },
    /// Give the output of an accepted attempt its name, then say so.
    Commit { task: Task, attempt: u32 },
    /// An attempt is not wanted any more.
    Cancel { worker: WorkerNo, task: Task, attempt: u32 },
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
    /// Records of one split that may be skipped; 0: a bad record fails the job.
    pub(crate) skip: u32,
    /// Whether backup attempts are made.
    pub(crate) backups: bool,
    /// An attempt is not given a backup before it has run for so long.
    pub(crate) patience: Duration,
    /// How long a map waits for a worker that has its input.
    pub(crate) delay: Duration,
    /// Reduces may begin when so many percent of the maps are done, and none is idle.
    pub(crate) early_percent: u32,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    since: Time,
    thousandths: u32,
    backup: bool,
    /// A reduce that waits for maps.
    waits: bool,
}

#[derive(Debug)]
struct Worker {
    incarnation: u64,
    slots: u32,
    node: Option<NodeNo>,
    running: BTreeMap<(Task, u32), Running>,
    heard: Time,
    /// Failures in a row: a worker that only fails is used last.
    failures: u32,
    /// Since when it could do more.
    idle_since: Time,
    /// It has failed too often.
    aside: bool,
}

impl Worker {
    fn is_free(&self) -> bool {
        !self.aside && self.load() < self.slots as usize
    }
}

/// What was counted of the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Attempts that failed or were lost.
    pub(crate) failures: u32,
    /// Backup attempts.
    pub(crate) backups: u32,
    /// Backup attempts that were first.
    pub(crate) backups_won: u32,
    /// Maps begun on a node that has their input.
    pub(crate) local: u32,
    /// Maps begun elsewhere although some node has it.
    pub(crate) remote: u32,
    /// Workers set aside.
    pub(crate) aside: u32,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: Limits,
    maps: Tasks,
    reduces: Tasks,
    workers: BTreeMap<WorkerNo, Worker>,
    /// Those that could do more.
    free: BTreeSet<WorkerNo>,
    /// All maps are done.
    reducing: bool,
    /// No worker has room for another reduce before that.
    crowded: bool,
    since_alone: Option<Time>,
    tally: Tally,
    /// What was said last, once the job is over.
    over: Option<Effect>,
}

impl Scheduler {
    /// For maps with the nodes that have their input, and `reduces` reduces.
    pub(crate) fn new(hosts: Vec<Vec<NodeNo>>, reduces: u32, limits: Limits) -> Self {
        let reducing = hosts.is_empty();
        Self {
            limits,
            maps: Tasks::new(hosts),
            reduces: Tasks::new(vec![Vec::new(); reduces as usize]),
            workers: BTreeMap::new(),
            free: BTreeSet::new(),
            reducing,
            crowded: false,
            since_alone: None,
            tally: Tally::default(),
            over: None,
        }
    }

    /// Takes an event and says what to do.
    pub(crate) fn handle(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(over) = &self.over {
            effects.extend(Some(over.clone()).filter(|_| event == Event::Resumed));
            return effects;
        }
        match event {
            Event::Joined { worker, incarnation, slots, node } => {
                let again = |known: &Worker| known.incarnation != incarnation;
                if self.workers.get(&worker).is_some_and(again) {
                    self.lose(now, worker, "its worker was started again", &mut effects);
                }
                self.join(now, worker, (incarnation, slots, node));
            }
            Event::Heard { worker } => self.hear(now, worker),
            Event::Progress { worker, task, attempt, thousandths } => {
                self.hear(now, worker);
                let known = self.workers.get_mut(&worker);
                if let Some(running) = known.and_then(|w| w.running.get_mut(&(task, attempt))) {
                    running.thousandths = thousandths.min(1000).max(running.thousandths);
                }
            }
            Event::Done { worker, task, attempt, sizes } => {
                self.hear(now, worker);
                self.done(now, worker, (task, attempt), sizes, &mut effects);
            }
            Event::Committed { task, attempt } => self.committed(task, attempt),
            Event::Failed { worker, task, attempt, reason, lost, record } => {
                self.hear(now, worker);
                self.lost_maps(&lost, &reason, &mut effects);
                let why = Why { reason, record, lost: !lost.is_empty() };
                self.failed(now, worker, (task, attempt), why, &mut effects);
            }
            Event::Lost { worker } => self.lose(now, worker, "its worker was lost", &mut effects),
            Event::Tick => self.tick(now, &mut effects),
            Event::Resumed => self.resume(now, &mut effects),
        }
        if self.over.is_none() {
            self.next(now, &mut effects);
        }
        effects
    }

    fn tasks(&mut self, task: Task) -> (&mut Tasks, u32) {
        match task {
            Task::Map(number) => (&mut self.maps, number),
            Task::Reduce(number) => (&mut self.reduces, number),
        }
    }

    /// Whether attempts of this kind write a part of the output.
    fn writes(&self, task: Task) -> bool {
        matches!(task, Task::Reduce(_)) || self.reduces.len() == 0
    }

    /// The job is over.
    fn end(&mut self, last: Effect, effects: &mut Vec<Effect>) {
        self.over = Some(last.clone());
        effects.push(last);
    }

    /// Attempts are no more, and nobody is blamed for it; output that was accepted still gets its name, perhaps for the
    /// second time.
    fn resume(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            let Some(known) = self.workers.get_mut(&number) else { continue };
            (known.heard, known.idle_since) = (now, now);
            for (task, attempt) in std::mem::take(&mut known.running).into_keys() {
                let (tasks, which) = self.tasks(task);
                tasks.end_attempt(which, number, attempt);
                tasks.note_none(which);
            }
            self.note_free(number);
        }
        (self.since_alone, self.crowded) = (None, false);
        let kind = if self.reduces.len() == 0 { Task::Map } else { Task::Reduce };
        let (tasks, _) = self.tasks(kind(0));
        effects.extend(
            tasks
                .committing()
                .map(|(number, attempt)| Effect::Commit { task: kind(number), attempt }),
        );
    }

    fn join(
        &mut self,
        now: Time,
        worker: WorkerNo,
        (incarnation, slots, node): (u64, u32, Option<NodeNo>),
    ) {
        let fresh = Worker {
            incarnation,
            slots: slots.max(1),
            node,
            running: BTreeMap::new(),
            heard: now,
            failures: 0,
            idle_since: now,
            aside: false,
        };
        self.crowded &= self.workers.contains_key(&worker);
        self.workers.entry(worker).or_insert(fresh).heard = now;
        self.note_free(worker);
    }

    /// Keeps the set of free workers true.
    fn note_free(&mut self, worker: WorkerNo) {
        if self.workers.get(&worker).is_some_and(Worker::is_free) {
            self.free.insert(worker);
        } else {
            self.free.remove(&worker);
        }
    }

    fn hear(&mut self, now: Time, worker: WorkerNo) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.heard = now;
        }
    }

    /// Takes an attempt off a worker; `None` if it was not running there (it was given up before).
    fn take(&mut self, now: Time, worker: WorkerNo, attempt: (Task, u32)) -> Option<Running> {
        let known = self.workers.get_mut(&worker)?;
        let running = known.running.remove(&attempt)?;
        known.idle_since = now;
        self.crowded = false;
        self.note_free(worker);
        Some(running)
    }

    fn done(
        &mut self,
        now: Time,
        worker: WorkerNo,
        (task, attempt): (Task, u32),
        sizes: Sizes,
        effects: &mut Vec<Effect>,
    ) {
        let taken = self.take(now, worker, (task, attempt));
        if let Some(known) = self.workers.get_mut(&worker) {
            known.failures = 0;
        }
        let writes = self.writes(task);
        let (tasks, number) = self.tasks(task);
        // The output of a map on a lost worker cannot be had; a part that is written is in the file system,
        // whoever wrote it.
        if !tasks.is_open(number)
            || !tasks.was_begun(number, attempt)
            || (taken.is_none() && !writes)
        {
            return;
        }
        if let Some(running) = taken {
            tasks.note_duration(now.since(running.since));
            self.tally.backups_won += u32::from(running.backup);
        }
        let (tasks, number) = self.tasks(task);
        if writes {
            tasks.set(number, State::Committing { attempt });
            effects.push(Effect::Accept { task, attempt });
            effects.push(Effect::Commit { task, attempt });
        } else {
            tasks.set(number, State::Done { worker: Some(worker), attempt, sizes });
            effects.push(Effect::Accept { task, attempt });
        }
        self.cancel_others(now, task, effects);
    }

    fn committed(&mut self, task: Task, attempt: u32) {
        let (tasks, number) = self.tasks(task);
        if tasks.state(number) == Some(&State::Committing { attempt }) {
            tasks.set(number, State::Done { worker: None, attempt, sizes: Sizes::default() });
        }
    }

    /// Ends the other attempts of a task.
    fn cancel_others(&mut self, now: Time, task: Task, effects: &mut Vec<Effect>) {
        let (tasks, number) = self.tasks(task);
        for (worker, attempt) in tasks.take_runners(number) {
            if self.take(now, worker, (task, attempt)).is_some() {
                effects.push(Effect::Cancel { worker, task, attempt });
            }
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
            self.lose(now, worker, "its worker fell silent", effects);
        }
        if !self.workers.is_empty() {
            self.since_alone = None;
        } else if now.since(*self.since_alone.get_or_insert(now)) >= self.limits.alone
            && self.over.is_none()
        {
            let reason = "no worker answers".to_owned();
            self.end(Effect::GiveUp { task: None, attempts: 0, reason }, effects);
        }
        if self.limits.backups && self.over.is_none() {
            self.next(now, effects);
            self.back_up(now, effects);
        }
    }

    /// Gives idle tasks to free slots.
    fn next(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.turn(now);
        let maps_done = self.reducing;
        // Maps that are lost now are not needed any more.
        if self.reduces.are_done() && (maps_done || self.reduces.len() > 0) {
            return self.end(Effect::Finished, effects);
        }
        if self.maps.idle() == 0 && (!maps_done || self.reduces.idle() == 0) {
            return self.begin_early(now, effects);
        }
        let order = |number: &WorkerNo| {
            let known = self.workers.get(number)?;
            Some((known.failures, known.load(), *number))
        };
        let mut free: Vec<_> = self.free.iter().filter_map(order).collect();
        while !free.is_empty() {
            free.sort_unstable();
            let mut given = Vec::new();
            for (failures, load, worker) in free {
                let Some(task) = self.pick(now, worker) else { continue };
                self.start(now, worker, task, false, effects);
                if self.workers.get(&worker).is_some_and(Worker::is_free) {
                    given.push((failures, load + 1, worker));
                }
            }
            free = given;
        }
        self.begin_early(now, effects);
    }

    /// Which tasks a worker may be given: not those that failed there, as long as there is another one.
    fn may(&self, worker: WorkerNo) -> impl Fn(&tasks::One) -> bool {
        move |task| {
            // One that is set aside will never take it.
            let mut working = self.workers.iter().filter(|(_, worker)| !worker.aside);
            !task.failed_on.contains(&worker)
                || working.all(|(number, _)| task.failed_on.contains(number))
        }
    }

    /// A task for a worker that is free.
    fn pick(&mut self, now: Time, worker: WorkerNo) -> Option<Task> {
        let known = self.workers.get(&worker)?;
        let waited = now.since(known.idle_since) >= self.limits.delay;
        if let Some((map, local)) = self.maps.pick(known.node, waited, self.may(worker)) {
            match local {
                Some(true) => self.tally.local += 1,
                Some(false) => self.tally.remote += 1,
                None => {}
            }
            return Some(Task::Map(map));
        }
        if !self.reducing {
            return None;
        }
        self.reduces.pick(None, true, self.may(worker)).map(|(reduce, _)| Task::Reduce(reduce))
    }

    fn start(
        &mut self,
        now: Time,
        worker: WorkerNo,
        task: Task,
        backup: bool,
        effects: &mut Vec<Effect>,
    ) {
        let (tasks, number) = self.tasks(task);
        let (attempt, skip) = tasks.begin(number, worker);
        if let Some(known) = self.workers.get_mut(&worker) {
            let waits = matches!(task, Task::Reduce(_)) && !self.reducing;
            let running = Running { since: now, thousandths: 0, backup, waits };
            known.running.insert((task, attempt), running);
        }
        self.note_free(worker);
        effects.push(Effect::Start { worker, task, attempt, skip });
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcripts;
