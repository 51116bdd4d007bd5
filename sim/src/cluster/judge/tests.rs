//! Histories that a file system may give, and some that it may not.

use super::{Act, Deed, File, Register, Tree, Value};
use crate::wgl::{Operation, Outcome, Verdict, check};

const NAME: Register = Register::Name(1, 1);
const FILE: File = File { ino: 7, generation: 1 };
const SECTOR: Register = Register::Sector(FILE, 0);

/// One after the other: by whom, what.
fn verdict(register: Register, acts: &[(u64, Act)]) -> bool {
    let history: Vec<Operation<Deed, ()>> = (0..)
        .zip(acts)
        .map(|(at, (client, act))| {
            let input = Deed { client: *client, register, act: *act };
            let outcome = match act {
                Act::Die => Outcome::Unknown { until: None },
                _ => Outcome::Returned { at: 2 * at + 1, output: () },
            };
            Operation { client: *client, called: 2 * at, input, outcome }
        })
        .collect();
    match check(&Tree { syncs: true }, &history, 10_000) {
        Verdict::Linearizable { .. } => true,
        Verdict::Violated { .. } => false,
        Verdict::Exhausted { key } => panic!("{key}"),
    }
}

fn put(n: u64) -> Act {
    Act::Put(Value::Number(n))
}

fn see(n: u64) -> Act {
    Act::See(Value::Number(n))
}

#[test]
fn another_mount_sees_the_latest_write() {
    assert!(verdict(SECTOR, &[(1, put(5)), (2, see(5))]));
    assert!(!verdict(SECTOR, &[(1, put(5)), (2, see(0))]));
}

#[test]
fn bytes_that_nobody_wrote_there_are_an_error() {
    assert!(!verdict(SECTOR, &[(1, put(5)), (1, see(6))]));
}

#[test]
fn a_death_may_take_what_was_not_synced() {
    for seen in [0, 5, 6] {
        let acts = [(1, put(5)), (1, put(6)), (1, Act::Die), (2, see(seen))];
        assert!(verdict(SECTOR, &acts), "{seen}");
    }
    assert!(!verdict(SECTOR, &[(1, put(5)), (1, put(6)), (2, see(5))]));
}

#[test]
fn a_death_takes_nothing_that_was_synced() {
    let acts = [(1, put(5)), (1, Act::Sync), (1, put(6)), (1, Act::Die)];
    for (seen, right) in [(0, false), (5, true), (6, true)] {
        assert_eq!(right, verdict(SECTOR, &[&acts[..], &[(2, see(seen))]].concat()), "{seen}");
    }
}

#[test]
fn who_has_died_syncs_nothing() {
    // The death may have come at any moment since the write; yet what was answered came before it.
    let acts = [(1, put(5)), (1, Act::Die), (1, Act::Sync), (2, see(0))];
    assert!(!verdict(SECTOR, &acts));
}

#[test]
fn a_death_takes_nothing_that_another_mount_has_seen() {
    let acts = [(1, put(5)), (2, see(5)), (1, Act::Die), (2, see(0))];
    assert!(!verdict(SECTOR, &acts));
}

#[test]
fn what_came_back_after_a_death_stays() {
    let acts = [(1, put(5)), (1, Act::Die), (2, see(0)), (2, see(5))];
    assert!(!verdict(SECTOR, &acts));
}

#[test]
fn a_name_that_was_moved_there_leads_to_some_file() {
    assert!(verdict(NAME, &[(1, Act::PutSome), (2, Act::See(Value::File(FILE)))]));
    assert!(!verdict(NAME, &[(1, Act::PutSome), (2, Act::See(Value::Absent))]));
    assert!(!verdict(NAME, &[(1, Act::Take)]));
    let lost = [(1, Act::PutSome), (1, Act::Die), (2, Act::See(Value::Absent))];
    assert!(verdict(NAME, &lost));
}

#[test]
fn an_append_is_at_the_end_that_there_was() {
    let size = Register::Size(FILE);
    assert!(verdict(size, &[(1, Act::Grow(3)), (2, Act::Extend(3)), (1, see(4))]));
    assert!(!verdict(size, &[(1, Act::Grow(3)), (2, Act::Extend(2))]));
}
