//! What all simulations have in common: how a schedule is run, what it reports, how a failure is shortened.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

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

/// The last lines of what happened, where they are kept.
#[derive(Debug, Default)]
pub(crate) struct Lines(Option<(usize, VecDeque<String>)>);

impl Lines {
    /// At most so many, or none.
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self(most.map(|most| (most, VecDeque::new())))
    }

    pub(crate) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// This happened.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some((most, lines)) = &mut self.0 {
            lines.push_back(line());
            if lines.len() > *most {
                lines.pop_front();
            }
        }
    }

    /// The same, with the true time.
    pub(crate) fn say_at(&mut self, now: Duration, line: impl FnOnce() -> String) {
        self.say(|| format!("{now:>12.6?} {}", line()));
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        self.0.take().map(|(_, lines)| lines.into()).unwrap_or_default()
    }
}

/// Numbers by name.
pub type Tally = BTreeMap<&'static str, u64>;

/// What schedules did, in numbers that add up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Plain numbers.
    pub counts: Tally,
    /// How often each kind of fault struck.
    pub faults: Tally,
    /// How often each invariant had something to judge.
    pub judged: Tally,
}

impl Report {
    /// Adds what other schedules did.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.counts, &other.counts),
            (&mut self.faults, &other.faults),
            (&mut self.judged, &other.judged),
        ] {
            for (name, n) in more {
                *own.entry(name).or_default() += n;
            }
        }
    }

    /// A plain number; zero if it was never counted.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Counts this.
    pub(crate) fn count(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    /// An invariant had something to judge.
    pub(crate) fn judge(&mut self, invariant: &'static str) {
        *self.judged.entry(invariant).or_default() += 1;
    }
}

/// Schedules of one machine.
pub trait Simulation {
    /// What it is called on the command line.
    const NAME: &'static str;
    /// A kind of fault.
    type Fault: Copy + Sync + Send + 'static;

    /// Every kind of fault, by name.
    fn faults() -> Vec<(&'static str, Self::Fault)>;

    /// Runs the schedule of this seed and gives the last [`Options::lines`] of what happened.
    fn trace(seed: u64, options: &Options<Self::Fault>) -> (Result<Report, Error>, Vec<String>);

    /// As [`Simulation::trace`]; a panic is a failure of the schedule like any other.
    fn traced(seed: u64, options: &Options<Self::Fault>) -> (Result<Report, Error>, Vec<String>) {
        // Nothing outlives a schedule, so nothing that it broke is seen.
        let traced = catch_unwind(AssertUnwindSafe(|| Self::trace(seed, options)));
        traced.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let what = text.unwrap_or("it does not say why").to_owned();
            (Err(Error::Violated { seed, step: 0, invariant: "no panic", what }), Vec::new())
        })
    }

    /// Runs the schedule of this seed.
    ///
    /// # Errors
    /// The first invariant that was violated, or that there was no progress after healing, or that too little happened.
    fn run(seed: u64, options: &Options<Self::Fault>) -> Result<Report, Error> {
        Self::traced(seed, options).0
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

#[cfg(test)]
mod tests {
    use super::{Options, Report, Simulation};
    use crate::Error;

    struct Panics;

    impl Simulation for Panics {
        const NAME: &'static str = "panics";
        type Fault = ();

        fn faults() -> Vec<(&'static str, ())> {
            Vec::new()
        }

        fn trace(seed: u64, _: &Options<()>) -> (Result<Report, Error>, Vec<String>) {
            panic!("schedule {seed} is broken")
        }
    }

    #[test]
    fn a_schedule_that_panics_has_failed() {
        let error = Panics::run(7, &Options::default()).unwrap_err();
        assert_eq!(
            (error.invariant(), error.to_string().contains("schedule 7 is broken")),
            ("no panic", true)
        );
    }
}
