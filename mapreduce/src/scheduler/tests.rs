//! The scheduler under ordinary, lost, silent and failing workers, and under random schedules.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use world::Time;

use super::{Effect, Event, Limits, Scheduler, Task, WorkerNo};

const LIMITS: Limits =
    Limits { attempts: 4, silence: Duration::from_secs(10), alone: Duration::from_secs(30) };
const A: WorkerNo = WorkerNo(0);
const B: WorkerNo = WorkerNo(1);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn started(effects: &[Effect]) -> Vec<(WorkerNo, Task, u32)> {
    let start = |effect: &Effect| match effect {
        Effect::Start { worker, task, attempt } => Some((*worker, *task, *attempt)),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

fn done(worker: WorkerNo, task: Task, attempt: u32) -> Event {
    Event::Done { worker, task, attempt, sizes: vec![1; 8] }
}

#[test]
fn reduces_begin_when_the_last_map_is_done_and_the_job_ends_with_the_last_reduce() {
    let mut scheduler = Scheduler::new(2, 1, LIMITS);
    let begun = scheduler.handle(at(0), Event::Joined { worker: A, slots: 2 });
    assert_eq!(started(&begun), [(A, Task::Map(0), 0), (A, Task::Map(1), 0)]);
    assert!(scheduler.handle(at(1), done(A, Task::Map(1), 0)).is_empty());
    let reduce = scheduler.handle(at(2), done(A, Task::Map(0), 0));
    assert_eq!(started(&reduce), [(A, Task::Reduce(0), 0)]);
    assert_eq!(scheduler.sources(0), [(A, 0, 0, 1), (A, 1, 0, 1)]);
    assert_eq!(scheduler.handle(at(3), done(A, Task::Reduce(0), 0)), [Effect::Finished]);
}

#[test]
fn a_lost_worker_s_maps_run_again_even_if_they_were_done() {
    let mut scheduler = Scheduler::new(2, 1, LIMITS);
    scheduler.handle(at(0), Event::Joined { worker: A, slots: 1 });
    scheduler.handle(at(0), Event::Joined { worker: B, slots: 1 });
    scheduler.handle(at(1), done(A, Task::Map(0), 0));
    let reduce = scheduler.handle(at(1), done(B, Task::Map(1), 0));
    assert_eq!(started(&reduce), [(A, Task::Reduce(0), 0)]);
    let again = scheduler.handle(at(2), Event::Lost { worker: A });
    assert_eq!(started(&again), [(B, Task::Map(0), 1)]);
    let reduce = scheduler.handle(at(3), done(B, Task::Map(0), 1));
    assert_eq!(started(&reduce), [(B, Task::Reduce(0), 1)]);
}

#[test]
fn a_silent_worker_is_lost_and_a_heard_one_is_not() {
    let mut scheduler = Scheduler::new(1, 1, LIMITS);
    scheduler.handle(at(0), Event::Joined { worker: A, slots: 1 });
    scheduler.handle(at(0), Event::Joined { worker: B, slots: 1 });
    for second in 1..=12 {
        scheduler.handle(at(second), Event::Heard { worker: B });
        let effects = scheduler.handle(at(second), Event::Tick);
        if second == 10 {
            assert_eq!(started(&effects), [(B, Task::Map(0), 1)]);
        } else {
            assert!(effects.is_empty(), "{second}: {effects:?}");
        }
    }
    assert_eq!(scheduler.workers(), 1);
}

#[test]
fn a_task_that_fails_four_times_fails_the_job_and_names_the_reason() {
    let mut scheduler = Scheduler::new(1, 1, LIMITS);
    let mut effects = scheduler.handle(at(0), Event::Joined { worker: A, slots: 1 });
    for attempt in 0..4 {
        assert_eq!(started(&effects), [(A, Task::Map(0), attempt)]);
        effects = scheduler.handle(
            at(1),
            Event::Failed {
                worker: A,
                task: Task::Map(0),
                attempt,
                reason: "no luck".to_owned(),
                lost: vec![],
            },
        );
    }
    let reason = "no luck".to_owned();
    assert_eq!(effects, [Effect::GiveUp { task: Some(Task::Map(0)), attempts: 4, reason }]);
}

#[test]
fn a_reduce_that_cannot_get_a_map_s_output_has_that_map_run_again() {
    let mut scheduler = Scheduler::new(1, 1, LIMITS);
    scheduler.handle(at(0), Event::Joined { worker: A, slots: 1 });
    scheduler.handle(at(0), done(A, Task::Map(0), 0));
    let failed = Event::Failed {
        worker: A,
        task: Task::Reduce(0),
        attempt: 0,
        reason: "gone".to_owned(),
        lost: vec![0],
    };
    assert_eq!(started(&scheduler.handle(at(1), failed)), [(A, Task::Map(0), 1)]);
    assert_eq!(
        started(&scheduler.handle(at(1), done(A, Task::Map(0), 1))),
        [(A, Task::Reduce(0), 1)]
    );
}

#[test]
fn without_workers_the_job_fails_after_a_while() {
    let mut scheduler = Scheduler::new(1, 1, LIMITS);
    assert!(scheduler.handle(at(1), Event::Tick).is_empty());
    assert!(scheduler.handle(at(30), Event::Tick).is_empty());
    let over = scheduler.handle(at(31), Event::Tick);
    assert!(matches!(over[..], [Effect::GiveUp { task: None, .. }]));
}

proptest! {
    /// Workers come, go and fail at random; as long as some attempts succeed, the job ends, and every slot is respected.
    #[test]
    fn under_any_schedule_no_slot_is_overbooked_and_the_job_ends(
        choices in prop::collection::vec((any::<u8>(), 0_u8..10), 0..300),
    ) {
        let limits = Limits { attempts: u32::MAX, ..LIMITS };
        let mut scheduler = Scheduler::new(5, 3, limits);
        let mut running: BTreeMap<WorkerNo, Vec<(Task, u32)>> = BTreeMap::new();
        let mut finished = false;
        let tail = (0..200).map(|step| (step as u8, 9));
        for (choice, kind) in choices.into_iter().chain(tail) {
            let worker = WorkerNo(u32::from(choice) % 3);
            let held = running.entry(worker).or_default();
            let event = match kind {
                0 => {
                    held.clear();
                    Event::Lost { worker }
                }
                1 if !held.is_empty() => {
                    let (task, attempt) = held.remove(0);
                    let lost = vec![u32::from(choice) % 5];
                    Event::Failed { worker, task, attempt, reason: String::new(), lost }
                }
                _ if !held.is_empty() => {
                    let (task, attempt) = held.remove(0);
                    done(worker, task, attempt)
                }
                _ => Event::Joined { worker, slots: 2 },
            };
            for effect in scheduler.handle(at(0), event) {
                match effect {
                    Effect::Start { worker, task, attempt } => {
                        let held = running.entry(worker).or_default();
                        held.push((task, attempt));
                        prop_assert!(held.len() <= 2);
                    }
                    Effect::Finished => finished = true,
                    Effect::GiveUp { .. } => prop_assert!(false, "gave up"),
                }
            }
        }
        prop_assert!(finished);
        prop_assert_eq!(scheduler.counts().1, 3);
    }
}
