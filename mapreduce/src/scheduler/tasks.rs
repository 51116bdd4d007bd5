//! The tasks of one phase: which are idle, running or done, which nodes have their input, what failed. Small for each
//! task, for there may be hundreds of thousands. Where they run is the scheduler's business.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{NodeNo, Sizes, WorkerNo};

/// Failures on the same record after which it is skipped.
const BAD_TWICE: u32 = 2;
/// Durations that are remembered, to know what is slow.
const DURATIONS: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Running,
    /// An attempt has written its part, which has not its name yet.
    Committing {
        attempt: u32,
    },
    Done {
        /// Where the output of a map lies; none: in the file system.
        worker: Option<WorkerNo>,
        attempt: u32,
        sizes: Sizes,
    },
}

/// One task.
#[derive(Debug)]
pub(crate) struct One {
    state: State,
    /// Attempts begun.
    begun: u32,
    /// Attempts that failed or died with their worker.
    failed: u32,
    runners: Vec<(WorkerNo, u32)>,
    /// Where; another worker is tried first.
    pub(crate) failed_on: Vec<WorkerNo>,
    /// Records on which attempts failed, and how often.
    bad: Vec<(u64, u32)>,
}

impl One {
    fn skips(&self) -> impl Iterator<Item = u64> {
        let bad = self.bad.iter().filter(|(_, times)| *times >= BAD_TWICE);
        bad.map(|(record, _)| *record)
    }
}

/// All tasks of a phase.
#[derive(Debug)]
pub(crate) struct Tasks {
    all: Vec<One>,
    hosts: Vec<Vec<NodeNo>>,
    idle: BTreeSet<u32>,
    idle_at: BTreeMap<NodeNo, BTreeSet<u32>>,
    /// Idle ones whose input is nowhere in particular.
    idle_nowhere: BTreeSet<u32>,
    done: u32,
    /// How long the latest done attempts took.
    durations: Vec<Duration>,
    next_duration: usize,
}

impl Tasks {
    pub(crate) fn new(hosts: Vec<Vec<NodeNo>>) -> Self {
        let idle = |_| One {
            state: State::Idle,
            begun: 0,
            failed: 0,
            runners: Vec::new(),
            failed_on: Vec::new(),
            bad: Vec::new(),
        };
        let count = hosts.len() as u32;
        let mut tasks = Self {
            all: (0..count).map(idle).collect(),
            hosts,
            idle: BTreeSet::new(),
            idle_at: BTreeMap::new(),
            idle_nowhere: BTreeSet::new(),
            done: 0,
            durations: Vec::new(),
            next_duration: 0,
        };
        (0..count).for_each(|number| tasks.index(number, true));
        tasks
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn done(&self) -> u32 {
        self.done
    }

    pub(crate) fn are_done(&self) -> bool {
        self.done as usize == self.all.len()
    }

    pub(crate) fn state(&self, number: u32) -> Option<&State> {
        self.all.get(number as usize).map(|one| &one.state)
    }

    /// Whether the task still needs an attempt to be done.
    pub(crate) fn is_open(&self, number: u32) -> bool {
        matches!(self.state(number), Some(State::Idle | State::Running))
    }

    /// Whether there was such an attempt.
    pub(crate) fn was_begun(&self, number: u32, attempt: u32) -> bool {
        self.all.get(number as usize).is_some_and(|one| attempt < one.begun)
    }

    fn index(&mut self, number: u32, idle: bool) {
        let Self { idle: all, idle_at, idle_nowhere, hosts, .. } = self;
        if idle && hosts[number as usize].is_empty() {
            idle_nowhere.insert(number);
        } else {
            idle_nowhere.remove(&number);
        }
        if idle {
            all.insert(number);
        } else {
            all.remove(&number);
        }
        for node in &hosts[number as usize] {
            let here = idle_at.entry(*node).or_default();
            if idle {
                here.insert(number);
            } else {
                here.remove(&number);
            }
        }
    }

    pub(crate) fn set(&mut self, number: u32, state: State) {
        let Some(one) = self.all.get_mut(number as usize) else { return };
        let (was_idle, is_idle) = (one.state == State::Idle, state == State::Idle);
        let is_done = |state: &State| u32::from(matches!(state, State::Done { .. }));
        self.done = self.done + is_done(&state) - is_done(&one.state);
        one.state = state;
        if was_idle != is_idle {
            self.index(number, is_idle);
        }
    }

    /// A task for a worker on `node`: one whose input is there if possible, another one if it has `waited`. Tells
    /// whether its input is there, if it is anywhere.
    pub(crate) fn pick(
        &self,
        node: Option<NodeNo>,
        waited: bool,
        may: impl Fn(&One) -> bool,
    ) -> Option<(u32, Option<bool>)> {
        let may = |number: &&u32| may(&self.all[**number as usize]);
        let here = node.and_then(|node| self.idle_at.get(&node));
        if let Some(number) = here.and_then(|here| here.iter().find(may)) {
            return Some((*number, Some(true)));
        }
        let mut others = if waited { self.idle.iter() } else { self.idle_nowhere.iter() };
        let number = *others.find(may)?;
        let anywhere = !self.hosts[number as usize].is_empty();
        Some((number, anywhere.then_some(false)))
    }

    /// Begins an attempt: its number, and the records that it leaves out.
    pub(crate) fn begin(&mut self, number: u32, worker: WorkerNo) -> (u32, Vec<u64>) {
        self.set(number, State::Running);
        let Some(one) = self.all.get_mut(number as usize) else { return (0, Vec::new()) };
        let attempt = one.begun;
        one.begun += 1;
        one.runners.push((worker, attempt));
        let mut skip: Vec<_> = one.skips().collect();
        skip.sort_unstable();
        (attempt, skip)
    }

    /// Whether attempts that begin now leave a record out.
    pub(crate) fn skips(&self, number: u32, record: u64) -> bool {
        let one = self.all.get(number as usize);
        one.is_some_and(|one| one.skips().any(|skipped| skipped == record))
    }

    /// An attempt is no more.
    pub(crate) fn end_attempt(&mut self, number: u32, worker: WorkerNo, attempt: u32) {
        if let Some(one) = self.all.get_mut(number as usize) {
            one.runners.retain(|runner| *runner != (worker, attempt));
        }
    }

    /// The attempts that ran when the task was done.
    pub(crate) fn take_runners(&mut self, number: u32) -> Vec<(WorkerNo, u32)> {
        self.all
            .get_mut(number as usize)
            .map(|one| std::mem::take(&mut one.runners))
            .unwrap_or_default()
    }

    pub(crate) fn runners(&self, number: u32) -> usize {
        self.all.get(number as usize).map_or(0, |one| one.runners.len())
    }

    pub(crate) fn note_failed_on(&mut self, number: u32, worker: WorkerNo) {
        if let Some(one) = self.all.get_mut(number as usize)
            && !one.failed_on.contains(&worker)
        {
            one.failed_on.push(worker);
        }
    }

    /// Remembers a bad record; tells whether the failure is excused, because it will be skipped or may yet be.
    pub(crate) fn note_bad(&mut self, number: u32, record: u64, most: u32) -> bool {
        let Some(one) = self.all.get_mut(number as usize) else { return false };
        if let Some((_, times)) = one.bad.iter_mut().find(|(known, _)| *known == record) {
            *times += 1;
            // It was left out, and yet the attempt failed on it.
            return *times <= BAD_TWICE;
        }
        if one.bad.len() >= most as usize {
            return false;
        }
        one.bad.push((record, 1));
        true
    }

    /// Counts a failed attempt; the task is idle again if no other attempt runs. Tells how many failed.
    pub(crate) fn note_failure(&mut self, number: u32, excused: bool) -> u32 {
        let Some(one) = self.all.get_mut(number as usize) else { return 0 };
        one.failed += u32::from(!excused);
        let failed = one.failed;
        if one.runners.is_empty() {
            self.set(number, State::Idle);
        }
        failed
    }

    /// The task runs no more: it is idle if no other attempt runs.
    pub(crate) fn note_none(&mut self, number: u32) {
        if self.runners(number) == 0 && self.state(number) == Some(&State::Running) {
            self.set(number, State::Idle);
        }
    }

    /// Tasks whose part has not its name yet, with the attempt that wrote it.
    pub(crate) fn committing(&self) -> impl Iterator<Item = (u32, u32)> {
        self.all.iter().enumerate().filter_map(|(number, one)| match one.state {
            State::Committing { attempt } => Some((number as u32, attempt)),
            _ => None,
        })
    }

    /// Outputs on a worker that is lost are lost.
    pub(crate) fn forget_outputs_of(&mut self, gone: WorkerNo) {
        for number in 0..self.all.len() as u32 {
            if matches!(self.state(number), Some(State::Done { worker: Some(at), .. }) if *at == gone)
            {
                self.set(number, State::Idle);
            }
        }
    }

    pub(crate) fn note_duration(&mut self, duration: Duration) {
        if self.durations.len() < DURATIONS {
            self.durations.push(duration);
        } else {
            self.durations[self.next_duration % DURATIONS] = duration;
            self.next_duration += 1;
        }
    }

    pub(crate) fn durations(&self) -> &[Duration] {
        &self.durations
    }

    /// Where outputs lie, with about the bytes of `partition`; empty ones left out.
    pub(crate) fn sources(&self, partition: u32) -> Vec<(WorkerNo, u32, u32, u64)> {
        (0..self.all.len() as u32).filter_map(|map| self.source(map, partition)).collect()
    }

    /// Where the output of one map lies, if it is done and has anything for the partition.
    pub(crate) fn source(&self, map: u32, partition: u32) -> Option<(WorkerNo, u32, u32, u64)> {
        match self.state(map)? {
            State::Done { worker: Some(worker), attempt, sizes } => {
                let size = sizes.get(partition);
                (size > 0).then_some((*worker, map, *attempt, size))
            }
            _ => None,
        }
    }
}
