//! What all simulations have in common: their reports add up, and say what struck and what was judged; and a schedule that
//! fails is made shorter.

use std::collections::BTreeMap;

use crate::{Error, raft::Options};

/// What schedules did.
pub trait Tally: Default {
    /// Adds another report to this one.
    fn add(&mut self, other: &Self);

    /// The plain numbers, by name.
    fn numbers(&self) -> Vec<(&'static str, u64)>;

    /// How often each kind of fault struck.
    fn faults(&self) -> &BTreeMap<&'static str, u64>;

    /// How often each invariant had something to judge.
    fn judged(&self) -> &BTreeMap<&'static str, u64>;
}

/// Runs the schedule of a seed; also the last lines of what happened.
pub type Trace<R> = fn(u64, &Options) -> (Result<R, Error>, Vec<String>);

/// The fewest faults with which the schedule of this seed still fails in the same way, if that is found quickly.
///
/// What happens before the last of them is the same as in the whole schedule.
#[must_use]
pub fn shorten<R>(trace: Trace<R>, seed: u64, options: &Options, error: &Error) -> Option<u64> {
    let fails = |strikes| {
        let options = Options { strikes: Some(strikes), lines: None, ..options.clone() };
        trace(seed, &options).0.is_err_and(|e| e.invariant() == error.invariant())
    };
    let (mut low, mut high) = (0, 256);
    if !fails(high) {
        return None;
    }
    while low < high {
        let middle = (low + high) / 2;
        if fails(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    fails(high).then_some(high)
}
