//! The checker against a search of all orders, on right histories and on ones with a seeded violation.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config as Cases;

use super::{Model, Operation, Outcome, Verdict, check};
use crate::dice::Dice;

/// A register for each key.
struct Register;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Read,
    Write(u64),
    /// Write the second if the first is there.
    Swap(u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Value(u64),
    Done,
    Swapped(bool),
}

impl Model for Register {
    type Key = u8;
    type State = u64;
    type Input = (u8, Ask);
    type Output = Answer;

    fn key(&self, input: &Self::Input) -> u8 {
        input.0
    }

    fn initial(&self, _: &u8) -> u64 {
        0
    }

    fn step(&self, state: &u64, input: &Self::Input, output: Option<&Answer>) -> Option<u64> {
        let (next, right) = match input.1 {
            Ask::Read => (*state, Answer::Value(*state)),
            Ask::Write(value) => (value, Answer::Done),
            Ask::Swap(old, new) if old == *state => (new, Answer::Swapped(true)),
            Ask::Swap(..) => (*state, Answer::Swapped(false)),
        };
        output.is_none_or(|o| *o == right).then_some(next)
    }

    fn observes(&self, input: &Self::Input, output: &Answer) -> bool {
        matches!((input.1, output), (Ask::Read, _) | (Ask::Swap(..), Answer::Swapped(false)))
    }
}

type Op = Operation<(u8, Ask), Answer>;

fn returned(called: u64, at: u64, ask: Ask, output: Answer) -> Op {
    Operation { client: 0, called, input: (0, ask), outcome: Outcome::Returned { at, output } }
}

fn unknown(called: u64, until: Option<u64>, ask: Ask) -> Op {
    Operation { client: 0, called, input: (0, ask), outcome: Outcome::Unknown { until } }
}

fn holds(history: &[Op]) -> bool {
    match check(&Register, history, 1_000_000) {
        Verdict::Linearizable { .. } => true,
        Verdict::Violated { .. } => false,
        Verdict::Exhausted { key } => panic!("gave up on {key}"),
    }
}

const READ: Ask = Ask::Read;

#[test]
fn a_stale_read_is_found() {
    let write = returned(1, 2, Ask::Write(7), Answer::Done);
    assert!(holds(&[write.clone(), returned(3, 4, READ, Answer::Value(7))]));
    assert!(!holds(&[write.clone(), returned(3, 4, READ, Answer::Value(0))]));
    // It may be old while the write is still under way.
    let slow = returned(1, 5, Ask::Write(7), Answer::Done);
    assert!(holds(&[slow, returned(3, 4, READ, Answer::Value(0))]));
}

#[test]
fn two_reads_do_not_go_back() {
    let slow = returned(1, 9, Ask::Write(7), Answer::Done);
    let new = returned(2, 3, READ, Answer::Value(7));
    let old = returned(4, 5, READ, Answer::Value(0));
    assert!(!holds(&[slow.clone(), new.clone(), old.clone()]));
    let old = Operation { called: 2, ..old };
    assert!(holds(&[slow, new, old]), "overlapping reads may be ordered either way");
}

#[test]
fn a_lost_write_is_found() {
    let first = returned(1, 2, Ask::Write(1), Answer::Done);
    let second = returned(3, 4, Ask::Write(2), Answer::Done);
    assert!(!holds(&[first, second, returned(5, 6, READ, Answer::Value(1))]));
}

#[test]
fn a_swap_that_happened_twice_is_found() {
    let swap = |called, at| returned(called, at, Ask::Swap(0, 1), Answer::Swapped(true));
    assert!(!holds(&[swap(1, 4), swap(2, 5)]));
    assert!(holds(&[swap(1, 4), returned(2, 5, Ask::Swap(0, 1), Answer::Swapped(false))]));
    // Done, undone by another, and then done again by its retry.
    let back = returned(3, 4, Ask::Write(0), Answer::Done);
    assert!(!holds(&[swap(1, 2), back, returned(5, 6, READ, Answer::Value(1))]));
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let write = unknown(1, None, Ask::Write(1));
    assert!(!holds(&[write, returned(5, 6, READ, Answer::Value(3))]));
}

#[test]
fn what_has_no_answer_may_happen_late_or_never_but_once() {
    let lost = unknown(1, None, Ask::Write(7));
    let read = |at, value| returned(at, at + 1, READ, Answer::Value(value));
    assert!(holds(&[lost.clone(), read(5, 0)]));
    assert!(holds(&[lost.clone(), read(5, 0), read(50, 7)]));
    assert!(!holds(&[lost.clone(), read(5, 7), read(50, 0)]));
    let other = returned(10, 11, Ask::Write(8), Answer::Done);
    assert!(!holds(&[lost, read(5, 7), other, read(20, 8), read(50, 7)]));
}

#[test]
fn what_has_no_answer_does_not_happen_after_its_end() {
    let lost = unknown(1, Some(10), Ask::Write(7));
    let read = |at, value| returned(at, at + 1, READ, Answer::Value(value));
    assert!(holds(&[lost.clone(), read(5, 0), read(8, 7), read(12, 7)]));
    assert!(holds(&[lost.clone(), read(5, 0), read(12, 0)]));
    assert!(!holds(&[lost, read(12, 0), read(14, 7)]));
}

#[test]
fn keys_do_not_disturb_each_other_and_the_bad_one_is_named() {
    let mut bad = returned(3, 4, READ, Answer::Value(9));
    bad.input.0 = 5;
    let history = [returned(1, 2, Ask::Write(7), Answer::Done), bad];
    let Verdict::Violated { report } = check(&Register, &history, 1000) else { panic!() };
    assert!(report.contains("operations on 5"), "{report}");
}

#[test]
fn a_search_that_is_too_long_says_so() {
    let history: Vec<Op> = (0..40).map(|i| unknown(1, Some(100), Ask::Write(i))).collect();
    let read = returned(200, 201, READ, Answer::Value(99));
    let history: Vec<Op> = history.into_iter().chain([read]).collect();
    assert!(matches!(check(&Register, &history, 20), Verdict::Exhausted { .. }));
}

#[test]
fn forty_writes_without_an_answer_do_not_multiply() {
    // Each may have happened or not, anywhere among the reads: two to the power of forty ways, of which none fits.
    let lost = (0..40).map(|i| unknown(i, None, Ask::Write(i + 1)));
    let reads = (0..40).map(|i| (50 + 2 * i, if i < 39 { i % 13 + 1 } else { 99 }));
    let reads = reads.map(|(at, value)| returned(at, at + 1, READ, Answer::Value(value)));
    let history: Vec<Op> = lost.chain(reads.take(13)).collect();
    assert!(holds(&history));
    let wrong = returned(90, 91, READ, Answer::Value(99));
    let history: Vec<Op> = history.into_iter().chain([wrong]).collect();
    assert!(matches!(check(&Register, &history, 50_000), Verdict::Violated { .. }));
}

/// Runs a real register with several clients: each operation takes effect at a moment within its span.
fn real(seed: u64, count: usize) -> Vec<Op> {
    let mut dice = Dice::new(seed);
    let mut spans: Vec<(u64, u64, u64)> = (0..count)
        .map(|_| {
            let called = dice.between(0, 400);
            let took = called + dice.between(1, 30);
            (took, called, took + dice.between(1, 30))
        })
        .collect();
    spans.sort_unstable();
    let mut state = [0_u64; 3];
    let mut history = Vec::new();
    for (number, (_, called, at)) in spans.into_iter().enumerate() {
        let key = dice.pick(3);
        let fresh = number as u64 + 1;
        let ask = match dice.pick(4) {
            0 => Ask::Write(fresh),
            1 => Ask::Swap(if dice.chance(70) { state[key] } else { 0 }, fresh),
            _ => Ask::Read,
        };
        let output = match ask {
            Ask::Read => Answer::Value(state[key]),
            Ask::Write(_) => Answer::Done,
            Ask::Swap(old, _) => Answer::Swapped(old == state[key]),
        };
        let input = (key as u8, ask);
        state[key] = Register.step(&state[key], &input, None).unwrap();
        let outcome = if matches!(ask, Ask::Read) || dice.chance(90) {
            Outcome::Returned { at, output }
        } else {
            Outcome::Unknown { until: dice.chance(50).then_some(at) }
        };
        history.push(Operation { client: number as u64 % 5, called, input, outcome });
    }
    history
}

#[test]
fn what_a_real_register_answered_is_linearizable_and_one_wrong_read_is_not() {
    let mut spoiled = 0;
    for seed in 0..300 {
        let history = real(seed, 60);
        assert!(holds(&history), "seed {seed}");
        // The last read of some value, turned into one of a value that is never written.
        let mut bad = history.clone();
        let read = bad.iter_mut().rev().find(|o| matches!(o.input.1, Ask::Read));
        let Some(Operation { outcome: Outcome::Returned { output, .. }, .. }) = read else {
            continue;
        };
        *output = Answer::Value(1_000_000);
        assert!(!holds(&bad), "seed {seed}");
        spoiled += 1;
    }
    assert!(spoiled > 250);
}

/// Every order of every choice of unanswered operations. What is placed was called by `latest`.
fn by_trying_all(history: &[Op], state: u64, left: u64, latest: u64) -> bool {
    let span = |o: &Op| match &o.outcome {
        Outcome::Returned { at, .. } => (true, *at),
        Outcome::Unknown { until } => (false, until.unwrap_or(u64::MAX)),
    };
    let open = |i: &usize| left & (1 << i) != 0;
    if (0..history.len()).filter(open).all(|i| !span(&history[i]).0) {
        return true;
    }
    (0..history.len()).filter(open).any(|i| {
        let operation = &history[i];
        let rest = left & !(1 << i);
        let (must, end) = span(operation);
        if !must && by_trying_all(history, state, rest, latest) {
            return true;
        }
        // What is placed after it must not have ended before it was called.
        end >= latest && {
            let output = match &operation.outcome {
                Outcome::Returned { output, .. } => Some(output),
                Outcome::Unknown { .. } => None,
            };
            let latest = latest.max(operation.called);
            Register
                .step(&state, &operation.input, output)
                .is_some_and(|next| by_trying_all(history, next, rest, latest))
        }
    })
}

fn operation() -> impl Strategy<Value = Op> {
    let ask = prop_oneof![
        3 => Just(Ask::Read),
        2 => (1..4u64).prop_map(Ask::Write),
        1 => (0..4u64, 1..4u64).prop_map(|(a, b)| Ask::Swap(a, b)),
    ];
    let rest = (0..4u64, any::<bool>(), 0..10u64, 0..8u64, 0..8u64);
    (ask, rest).prop_map(|(ask, (value, yes, lost, called, took))| {
        let output = match ask {
            Ask::Read => Answer::Value(value),
            Ask::Write(_) => Answer::Done,
            Ask::Swap(..) => Answer::Swapped(yes),
        };
        let at = called * 2 + took * 2 + 1;
        let outcome = match lost {
            0 => Outcome::Unknown { until: None },
            1 => Outcome::Unknown { until: Some(at) },
            _ => Outcome::Returned { at, output },
        };
        Operation { client: 0, called: called * 2, input: (0, ask), outcome }
    })
}

proptest! {
    #![proptest_config(Cases::with_cases(4000))]

    #[test]
    fn it_agrees_with_trying_all_orders(history in proptest::collection::vec(operation(), 1..7)) {
        let all = (1 << history.len()) - 1;
        assert_eq!(holds(&history), by_trying_all(&history, 0, all, 0));
    }
}
