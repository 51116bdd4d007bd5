//! The scheduler under random schedules, and its rules that a transcript does not show.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use world::Time;

use super::{Effect, Event, Limits, NodeNo, Scheduler, Sizes, Task, WorkerNo};

pub(super) const LIMITS: Limits = Limits {
    attempts: 4,
    silence: Duration::from_secs(10),
    alone: Duration::from_secs(30),
    skip: 0,
    backups: true,
    patience: Duration::from_secs(2),
    delay: Duration::from_secs(1),
    early_percent: 101,
};
const A: WorkerNo = WorkerNo(0);
const B: WorkerNo = WorkerNo(1);

pub(super) fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn joined(worker: WorkerNo, slots: u32) -> Event {
    Event::Joined { worker, incarnation: 1, slots, node: None }
}

fn done(worker: WorkerNo, task: Task, attempt: u32) -> Event {
    Event::Done { worker, task, attempt, sizes: Sizes::new(&[1; 8]) }
}

fn started(effects: &[Effect]) -> Vec<(WorkerNo, Task, u32)> {
    let start = |effect: &Effect| match effect {
        Effect::Start { worker, task, attempt, .. } => Some((*worker, *task, *attempt)),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

#[test]
fn without_workers_the_job_fails_after_a_while() {
    let mut scheduler = Scheduler::new(vec![vec![]], 1, LIMITS);
    assert!(scheduler.handle(at(1), Event::Tick).is_empty());
    assert!(scheduler.handle(at(30), Event::Tick).is_empty());
    let over = scheduler.handle(at(31), Event::Tick);
    assert!(matches!(over[..], [Effect::GiveUp { task: None, .. }]));
}

#[test]
fn sources_tell_where_outputs_lie_and_leave_empty_ones_out() {
    let mut scheduler = Scheduler::new(vec![vec![]; 2], 2, LIMITS);
    scheduler.handle(at(0), joined(A, 2));
    let sizes = Sizes::new(&[0, 64]);
    scheduler.handle(at(0), Event::Done { worker: A, task: Task::Map(0), attempt: 0, sizes });
    scheduler.handle(at(0), done(A, Task::Map(1), 0));
    assert_eq!(scheduler.sources(0), [(A, 1, 0, 1)]);
    assert_eq!(scheduler.sources(1), [(A, 0, 0, 64), (A, 1, 0, 1)]);
}

#[test]
fn nine_of_ten_maps_run_where_their_input_is_when_workers_are_idle_enough() {
    // Each input lies on three of eight nodes, each node has a worker with two slots.
    let hosts =
        (0..400_u32).map(|map| (0..3).map(|copy| NodeNo((map * 7 + copy * 3) % 8)).collect());
    let mut scheduler = Scheduler::new(hosts.collect(), 1, LIMITS);
    let mut running: Vec<(WorkerNo, Task, u32)> = Vec::new();
    let take = |running: &mut Vec<_>, effects: Vec<Effect>| running.extend(started(&effects));
    for node in 0..8 {
        let (worker, node) = (WorkerNo(node), Some(NodeNo(node)));
        let joined = Event::Joined { worker, incarnation: 1, slots: 2, node };
        take(&mut running, scheduler.handle(at(0), joined));
    }
    let mut second = 0;
    while scheduler.counts().0 < 400 {
        second += 1;
        for (worker, task, attempt) in std::mem::take(&mut running) {
            take(&mut running, scheduler.handle(at(second), done(worker, task, attempt)));
        }
        take(&mut running, scheduler.handle(at(second), Event::Tick));
    }
    let tally = scheduler.tally();
    assert!(tally.local >= 360, "{tally:?}");
}

#[test]
fn a_worker_on_which_one_task_after_the_other_fails_is_set_aside_but_never_a_quarter() {
    let mut scheduler = Scheduler::new(vec![vec![]; 40], 1, Limits { attempts: 100, ..LIMITS });
    let mut bad = Vec::new();
    for worker in 0..8 {
        let effects = scheduler.handle(at(0), joined(WorkerNo(worker), 1));
        bad.extend(started(&effects).into_iter().filter(|start| start.0.0 < 4));
    }
    for _ in 0..40 {
        for (worker, task, attempt) in std::mem::take(&mut bad) {
            let failed = Event::Failed {
                worker,
                task,
                attempt,
                reason: "bad disk".to_owned(),
                lost: vec![],
                record: None,
            };
            bad.extend(started(&scheduler.handle(at(1), failed)).into_iter().filter(|s| s.0.0 < 4));
        }
    }
    assert_eq!(scheduler.tally().aside, 2);
}

#[test]
fn a_lost_worker_loses_no_part_that_is_written() {
    let mut scheduler = Scheduler::new(vec![vec![]], 1, LIMITS);
    scheduler.handle(at(0), joined(A, 1));
    scheduler.handle(at(0), joined(B, 1));
    scheduler.handle(at(1), done(A, Task::Map(0), 0));
    let effects = scheduler.handle(at(2), done(A, Task::Reduce(0), 0));
    assert!(effects.contains(&Effect::Commit { task: Task::Reduce(0), attempt: 0 }), "{effects:?}");
    assert!(
        started(&scheduler.handle(at(3), Event::Lost { worker: A }))
            .iter()
            .all(|s| s.1 != Task::Reduce(0))
    );
    let over = scheduler.handle(at(4), Event::Committed { task: Task::Reduce(0), attempt: 0 });
    // The lost map is not needed any more.
    assert_eq!(over, [Effect::Finished]);
}

proptest! {
    /// Workers come, go and fail at random; as long as some attempts succeed, the job ends, every slot is respected,
    /// and one attempt of each reduce is accepted and no more.
    #[test]
    fn under_any_schedule_no_slot_is_overbooked_and_the_job_ends(
        choices in prop::collection::vec((any::<u8>(), 0_u8..12), 0..300),
    ) {
        let limits = Limits { attempts: u32::MAX, ..LIMITS };
        let mut scheduler = Scheduler::new(vec![vec![]; 5], 3, limits);
        let mut running: BTreeMap<WorkerNo, Vec<(Task, u32)>> = BTreeMap::new();
        let mut commits: Vec<(Task, u32)> = Vec::new();
        let mut accepted: BTreeMap<Task, u32> = BTreeMap::new();
        let mut finished = false;
        let tail = (0..300).map(|step| (step as u8, 9));
        for (step, (choice, kind)) in choices.into_iter().chain(tail).enumerate() {
            let worker = WorkerNo(u32::from(choice) % 3);
            let held = running.entry(worker).or_default();
            let event = match kind {
                0 => {
                    held.clear();
                    Event::Lost { worker }
                }
                1 if !held.is_empty() => {
                    let (task, attempt) = held.remove(0);
                    let lost = vec![(u32::from(choice) % 5, u32::from(choice) / 5 % 3)];
                    Event::Failed { worker, task, attempt, reason: String::new(), lost, record: None }
                }
                10 => Event::Tick,
                // Late, doubled, or about something that never was.
                11 => {
                    let (task, attempt) =
                        (Task::Reduce(u32::from(choice) % 4), u32::from(choice) % 5);
                    // It may also be about one that runs: then that one is over.
                    held.retain(|one| *one != (task, attempt));
                    done(worker, task, attempt)
                }
                _ if !commits.is_empty() => {
                    let (task, attempt) = commits.remove(0);
                    Event::Committed { task, attempt }
                }
                _ if !held.is_empty() => {
                    let (task, attempt) = held.remove(0);
                    done(worker, task, attempt)
                }
                _ => joined(worker, 2),
            };
            let now = Time::ZERO + Duration::from_millis(step as u64 * 100);
            for effect in scheduler.handle(now, event) {
                match effect {
                    Effect::Start { worker, task, attempt, .. } => {
                        let held = running.entry(worker).or_default();
                        held.push((task, attempt));
                        prop_assert!(held.len() <= 2);
                    }
                    Effect::Cancel { worker, task, attempt } => {
                        running.entry(worker).or_default().retain(|one| *one != (task, attempt));
                    }
                    Effect::Commit { task, attempt } => commits.push((task, attempt)),
                    Effect::Accept { task, .. } => *accepted.entry(task).or_default() += 1,
                    Effect::Finished => finished = true,
                    Effect::GiveUp { .. } => prop_assert!(false, "gave up"),
                }
            }
        }
        prop_assert!(finished);
        prop_assert_eq!(scheduler.counts().1, 3);
        for reduce in 0..3 {
            prop_assert_eq!(accepted.get(&Task::Reduce(reduce)), Some(&1));
        }
    }
}
