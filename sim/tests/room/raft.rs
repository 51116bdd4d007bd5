//! Some hundred schedules of a raft group, and proof that they show what they are for.

use std::time::Duration;

use sim::check;
use sim::raft::timing::{ELECTION_MAX, flap, kill};
use sim::raft::{Fault, Options, Raft};
use sim::{Report, Simulation};

#[test]
fn three_hundred_schedules_hold_every_invariant_and_make_progress() {
    let mut total = Report::default();
    for seed in 0..300 {
        match Raft::run(seed, &Options::default()) {
            Ok(report) => total.add(&report),
            Err(error) => {
                panic!("{error}; replay: cargo xtask sim raft --seeds {seed}..{}", seed + 1)
            }
        }
    }
    assert!(total.of("events") >= 300 * 500);
    for invariant in check::all() {
        assert!(total.judged[invariant.name()] > 500, "{} was hardly judged", invariant.name());
    }
    for fault in Fault::ALL {
        let n = total.faults.get(fault.name()).copied().unwrap_or_default();
        assert!(n >= 10, "{} hardly ever struck: {n}", fault.name());
    }
    assert!(total.of("checkpoints installed") > 10, "no follower needed a checkpoint");
    assert!(
        total.of("changes of the group") > 30,
        "the group hardly ever changed: {}",
        total.of("changes of the group")
    );
    assert!(
        total.of("transfers of leadership") > 4,
        "leadership was hardly ever handed on: {}",
        total.of("transfers of leadership")
    );
    assert_eq!(total.of("histories judged"), 300);
    assert!(
        total.of("operations in them") > 300 * 20,
        "histories are short: {}",
        total.of("operations in them")
    );
    assert!(
        total.of("with unknown outcome") > 100,
        "hardly any outcome was unknown: {}",
        total.of("with unknown outcome")
    );
}

#[test]
fn a_vote_that_is_told_when_a_newer_one_is_stored_already_is_no_violation() {
    let seed = 12941;
    assert!(Raft::run(seed, &Options::default()).is_ok());
}

#[test]
fn a_member_that_joined_by_the_log_alone_offers_a_checkpoint_that_names_the_founders() {
    let seed = 13173;
    assert!(Raft::run(seed, &Options::default()).is_ok());
}

#[test]
fn a_history_with_many_lost_answers_is_judged_and_not_given_up() {
    let seed = 64570;
    assert!(Raft::run(seed, &Options::default()).is_ok());
}

#[test]
fn a_late_answer_of_a_member_that_was_emptied_twice_does_not_keep_it_out_for_ever() {
    let seed = 19764;
    assert!(Raft::run(seed, &Options::default()).is_ok());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let options = Options { lines: Some(100_000), ..Options::default() };
    for seed in [1, 77, 4711] {
        let (first, second) = (Raft::trace(seed, &options), Raft::trace(seed, &options));
        assert_eq!(first.1, second.1);
        assert_eq!(first.0.unwrap().of("events"), second.0.unwrap().of("events"));
    }
}

#[test]
fn without_faults_a_schedule_is_tame_and_fails() {
    let options = Options { without: Fault::ALL.to_vec(), ..Options::default() };
    assert_eq!(Raft::run(5, &options).unwrap_err().invariant(), "faults that strike");
}

#[test]
fn a_killed_leader_is_replaced_within_two_election_timeouts() {
    let slow = (0..100).filter(|seed| kill(*seed, 3).unwrap() > ELECTION_MAX * 2).count();
    assert!(slow <= 1, "{slow} of 100 took longer than {:?}", ELECTION_MAX * 2);
    assert!(kill(1, 5).unwrap() > Duration::from_millis(1));
}

#[test]
fn a_flapping_follower_causes_no_election() {
    for seed in 0..10 {
        assert_eq!(flap(seed).unwrap(), 0, "seed {seed}");
    }
}
