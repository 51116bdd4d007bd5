//! Some hundred schedules of a raft group, and proof that they show what they are for.

use sim::check;
use sim::raft::{Report, run, trace};

#[test]
fn three_hundred_schedules_hold_every_invariant_and_make_progress() {
    let mut total = Report::default();
    for seed in 0..300 {
        match run(seed) {
            Ok(report) => total.add(&report),
            Err(error) => {
                panic!("{error}; replay: cargo xtask sim raft --seeds {seed}..{}", seed + 1)
            }
        }
    }
    assert!(total.events >= 300 * 500);
    for invariant in check::all() {
        assert!(total.judged[invariant.name()] > 1000, "{} was hardly judged", invariant.name());
    }
    for fault in [
        "loss",
        "duplicate",
        "delay",
        "reorder",
        "partition",
        "one-way partition",
        "crash",
        "lost writes",
        "power loss",
        "pause",
        "slow disk",
        "clock drift",
    ] {
        assert!(total.faults[fault] >= 10, "{fault} hardly ever struck");
    }
    assert!(total.installed > 10, "no follower needed a checkpoint");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 77, 4711] {
        let (first, second) = (trace(seed, 100_000), trace(seed, 100_000));
        assert_eq!(first.1, second.1);
        assert_eq!(first.0.unwrap().events, second.0.unwrap().events);
    }
}
