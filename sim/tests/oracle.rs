//! Our core beside the oracle, tikv's `raft` crate: the same schedules drive both, and they must agree.
//!
//! A schedule says who stands when, what is proposed where, which links are cut, who restarts, to whom leadership is
//! handed on and how the group changes. After each happening all messages are delivered, in rounds. Then both groups must
//! have the same leaders, terms, logs (index, term, content), commit indexes, applied commands and configurations,
//! member by member. Where the two differ rightly, a test in `differences` shows both and says why. It knows nothing
//! of clocks and slow disks, by which the cores differ in design; those are the simulator's.

#![expect(clippy::unwrap_used, reason = "all of this is a test; a panic names the place")]

#[path = "oracle/differences.rs"]
mod differences;
#[path = "oracle/group.rs"]
mod group;
#[path = "oracle/member.rs"]
mod member;
#[path = "oracle/ours.rs"]
mod ours;
#[path = "oracle/schedule.rs"]
mod schedule;
#[path = "oracle/theirs.rs"]
mod theirs;

use schedule::{Tally, run};

#[test]
fn six_hundred_schedules_end_in_the_same_state_in_both_cores_after_every_step() {
    let mut total = Tally::default();
    for seed in 0..600 {
        match run(seed) {
            Ok(tally) => total.add(&tally),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    // That they agree must mean something: what the schedules are for did happen.
    assert!(total.steps > 600 * 50, "{total:?}");
    assert!(total.terms > 600 * 5 && total.committed > 600 * 20, "{total:?}");
    assert!(total.replaced > 200, "logs hardly ever diverged: {total:?}");
    assert!(total.lonely > 100, "leaders hardly ever lost their majority: {total:?}");
    assert!(total.refused > 1000, "candidates were hardly ever refused: {total:?}");
    assert!(total.transferred > 500 && total.changed > 500, "{total:?}");
    assert!(total.checkpoints > 200 && total.restored > 50, "{total:?}");
    assert!(total.read.iter().all(|reads| *reads > 100), "hardly any read was answered: {total:?}");
    assert!(total.delivered > 1_000_000, "{total:?}");
}
