//! Seeded bugs: which one is in force, and how soon the schedules find each.
//!
//! The schedules and checks are those of every other run: no check knows of a bug.

use std::io::Write;
use std::process::ExitCode;

use sim::raft::Options;

use crate::{Bugs, Simulation};

/// A bug that can be put in force on a thread.
pub(crate) struct Bug {
    name: &'static str,
    what: &'static str,
    choose: Box<dyn Fn(bool)>,
}

/// Those of the consensus core; none without the feature.
pub(crate) fn of_raft() -> Vec<Bug> {
    #[cfg(feature = "seeded-bugs")]
    return ::raft::Bug::ALL
        .into_iter()
        .map(|bug| Bug {
            name: bug.name(),
            what: bug.what(),
            choose: Box::new(move |on| ::raft::Bug::choose(on.then_some(bug))),
        })
        .collect();
    #[cfg(not(feature = "seeded-bugs"))]
    Vec::new()
}

/// Those of the lock service; none without the feature.
pub(crate) fn of_the_lock_service() -> Vec<Bug> {
    #[cfg(feature = "seeded-bugs")]
    return lockservice::bug::Bug::ALL
        .into_iter()
        .map(|bug| Bug {
            name: bug.name(),
            what: bug.what(),
            choose: Box::new(move |on| lockservice::bug::Bug::choose(on.then_some(bug))),
        })
        .collect();
    #[cfg(not(feature = "seeded-bugs"))]
    Vec::new()
}

fn none() -> anyhow::Error {
    anyhow::anyhow!("no bugs are built in; build with the feature `seeded-bugs`")
}

/// Puts a bug in force on this thread; none if there is no name.
///
/// # Errors
/// There is no such bug, or none was built in.
pub(crate) fn choose<R>(simulation: &Simulation<R>, name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else { return Ok(()) };
    let all = (simulation.bugs)();
    if all.is_empty() {
        return Err(none());
    }
    let found = all.iter().find(|bug| bug.name == name);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|bug| bug.name).collect();
        anyhow::anyhow!("the seeded bugs are: {}", names.join(", "))
    })?;
    (found.choose)(true);
    Ok(())
}

/// Runs schedules under each bug until one is found wrong; a row of a table for each.
///
/// # Errors
/// There is no such bug, or none was built in.
pub(crate) fn run<R>(
    out: &mut impl Write,
    simulation: &Simulation<R>,
    bugs: &Bugs,
) -> anyhow::Result<ExitCode> {
    let all = (simulation.bugs)();
    if all.is_empty() {
        return Err(none());
    }
    choose(simulation, bugs.only.as_deref())?;
    let mut missed = 0;
    writeln!(out, "| seeded bug | what it does | found by | after schedules |\n|---|---|---|---|")?;
    for Bug { name, what, choose } in &all {
        if bugs.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        choose(true);
        let options = Options::default();
        let found = (0..bugs.within).find_map(|seed| {
            let run = (simulation.trace)(seed, &options).0;
            run.err().map(|error| (seed + 1, error.invariant()))
        });
        choose(false);
        match found {
            Some((after, by)) => writeln!(out, "| {name} | {what} | {by} | {after} |")?,
            None => {
                missed += 1;
                writeln!(out, "| {name} | {what} | **nothing** | {} |", bugs.within)?;
            }
        }
    }
    Ok(if bugs.strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
