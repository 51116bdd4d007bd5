//! What all simulations have in common: how a schedule is run, what it reports, how a failure is shortened.

use std::collections::BTreeMap;

use crate::Error;

/// How to run a schedule. The default runs it whole.
#[derive(Clone, Debug)]
pub struct Options<F> {
    /// Keep so many of the last lines of what happened.
    pub lines: Option<usize>,
    /// Kinds of faults that do not strike.
    pub without: Vec<F>,
    /// Only the first so many faults are let loose.
    pub strikes: Option<u64>,
}

impl<F> Default for Options<F> {
    fn default() -> Self {
        Self { lines: None, without: Vec::new(), strikes: None }
    }
}

/// What schedules did, in numbers that add up.
pub trait Sum: Default + Send {
    /// Adds what other schedules did.
    fn add(&mut self, other: &Self);
    /// The plain numbers, by name.
    fn numbers(&self) -> Vec<(&'static str, u64)>;
    /// How often each kind of fault struck.
    fn faults(&self) -> &BTreeMap<&'static str, u64>;
    /// How often each invariant had something to judge.
    fn judged(&self) -> &BTreeMap<&'static str, u64>;
}

/// Schedules of one machine.
pub trait Simulation {
    /// What it is called on the command line.
    const NAME: &'static str;
    /// A kind of fault.
    type Fault: Copy + Sync + Send + 'static;
    /// What its schedules did.
    type Report: Sum;

    /// Every kind of fault, by name.
    fn faults() -> Vec<(&'static str, Self::Fault)>;

    /// Runs the schedule of this seed and gives the last [`Options::lines`] of what happened.
    fn trace(
        seed: u64,
        options: &Options<Self::Fault>,
    ) -> (Result<Self::Report, Error>, Vec<String>);

    /// Runs the schedule of this seed.
    ///
    /// # Errors
    /// The first invariant that was violated, or that there was no progress after healing, or that too little happened.
    fn run(seed: u64, options: &Options<Self::Fault>) -> Result<Self::Report, Error> {
        Self::trace(seed, options).0
    }

    /// The fewest faults with which the schedule of this seed still fails in the same way, if that is found quickly.
    ///
    /// What happens before the last of them is the same as in the whole schedule.
    fn shorten(seed: u64, options: &Options<Self::Fault>, error: &Error) -> Option<u64> {
        let fails = |strikes| {
            let options = Options { strikes: Some(strikes), lines: None, ..options.clone() };
            Self::run(seed, &options).is_err_and(|e| e.invariant() == error.invariant())
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
}
