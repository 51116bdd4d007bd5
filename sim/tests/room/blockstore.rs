//! Some schedules of the virtual disk, and proof that they show what they are for.

use sim::blockstore::{Blockstore, Fault, INVARIANTS, Options};
use sim::{Report, Simulation};

#[test]
fn fifty_schedules_of_the_virtual_disk_hold_every_invariant_and_come_to_rest() {
    let mut total = Report::default();
    for seed in 0..50 {
        match Blockstore::run(seed, &Options::default()) {
            Ok(report) => total.add(&report),
            Err(error) => {
                panic!("{error}; replay: cargo xtask sim blockstore --seeds {seed}..{}", seed + 1)
            }
        }
    }
    assert!(total.of("events") >= 50 * 500);
    for invariant in INVARIANTS {
        let n = total.judged.get(invariant).copied().unwrap_or_default();
        assert!(n > 20, "{invariant} was hardly judged: {n}");
    }
    // Hardly anything is unsynced outside of an operation: `engine.rs` tears those.
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::TornWrites) {
        let n = total.faults.get(fault.name()).copied().unwrap_or_default();
        assert!(n >= 1, "{} hardly ever struck: {n}", fault.name());
    }
    assert!(
        total.of("sectors written") > 50 * 50 && total.of("sectors read") > 50 * 50,
        "{total:?}"
    );
    assert!(
        total.of("with unknown outcome") > 50,
        "hardly any outcome was unknown: {}",
        total.of("with unknown outcome")
    );
}

#[test]
fn the_same_seed_gives_the_same_run_of_the_virtual_disk() {
    let options = Options { lines: Some(100_000), ..Options::default() };
    for seed in [3, 11] {
        let (first, second) =
            (Blockstore::trace(seed, &options), Blockstore::trace(seed, &options));
        assert_eq!(first.1, second.1);
        assert_eq!(first.0.unwrap().of("events"), second.0.unwrap().of("events"));
    }
}

#[test]
fn without_faults_a_schedule_of_the_virtual_disk_is_tame_and_fails() {
    let options = Options { without: Fault::ALL.to_vec(), ..Options::default() };
    assert_eq!(Blockstore::run(5, &options).unwrap_err().invariant(), "faults that strike");
}
