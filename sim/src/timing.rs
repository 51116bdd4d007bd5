//! The trials of time, counted and printed. It fails if a number misses what is promised.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use sim::raft::timing::{ELECTION_MAX, flap, kill};

/// Flaps take 20 simulated seconds each, so there are fewer of them.
const FLAPS: u64 = 5;

/// Runs the trials.
pub(crate) fn run(out: &mut impl Write, trials: u64) -> anyhow::Result<ExitCode> {
    let limit = ELECTION_MAX * 2;
    let mut good = true;
    for size in [3, 5] {
        let mut took = Vec::new();
        for seed in 0..trials {
            took.push(kill(seed, size)?);
        }
        took.sort_unstable();
        let within = took.iter().filter(|t| **t <= limit).count();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        writeln!(
            out,
            "{size} members, leader killed {trials} times: a new one after {} ms (median), {} ms (99 %), {} ms (most); \
             {within} within {} ms",
            at(50).as_millis(),
            at(99).as_millis(),
            at(100).as_millis(),
            limit.as_millis(),
        )?;
        good &= within as u64 * 100 >= trials * 99;
    }
    let flaps = trials.div_ceil(FLAPS);
    let mut elections = 0;
    for seed in 0..flaps {
        elections += flap(seed)?;
    }
    let span = Duration::from_secs(20).as_secs();
    writeln!(out, "one of two followers flaps for {span} s, {flaps} times: {elections} elections")?;
    good &= elections == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
