//! Seeds, divided among threads. It knows neither what is run nor what becomes of the sum.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Error, Options, Report, Simulation};

/// Runs the seeds on several threads; the sum, and the lowest seed that failed among those that ran.
pub(crate) fn divide<S: Simulation>(
    seeds: Range<u64>,
    options: &Options<S::Fault>,
    threads: usize,
    prepare: &(dyn Fn() + Sync),
) -> (Report, Option<(u64, Error)>) {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let work = || {
        prepare();
        let mut total = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return (total, None);
            }
            match S::run(seed, options) {
                Ok(report) => total.add(&report),
                Err(error) => {
                    end.fetch_min(seed, Ordering::Relaxed);
                    return (total, Some((seed, error)));
                }
            }
        }
    };
    let mut total = Report::default();
    let mut failed: Option<(u64, Error)> = None;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for run in runs {
            let (report, error) = run.join().unwrap_or_else(|panic| resume_unwind(panic));
            total.add(&report);
            if error.as_ref().is_some_and(|(seed, _)| failed.as_ref().is_none_or(|f| *seed < f.0)) {
                failed = error;
            }
        }
    });
    (total, failed)
}
