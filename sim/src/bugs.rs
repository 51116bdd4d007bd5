//! Seeded bugs: which one is in force, and how soon the schedules find each.
//!
//! The schedules and checks are those of every other run: no check knows of a bug.

use std::io::Write;
use std::process::ExitCode;

use sim::Simulation;

use crate::{Hunt, seeds::divide};

/// A simulation of a room with seeded bugs.
pub(crate) trait Bugs: Simulation {
    /// The bugs, each with what it does. None unless they were built in.
    fn bugs() -> Vec<(&'static str, &'static str)>;

    /// Puts one in force on this thread, by its place in the list, or none.
    fn put_in_force(bug: Option<usize>);
}

/// The seeded bugs of a room are those of its schedules: the list, and how one is put in force.
macro_rules! seeded {
    ($schedules:ty, $bugs:expr, $put_in_force:expr) => {
        impl Bugs for $schedules {
            fn bugs() -> Vec<(&'static str, &'static str)> {
                #[cfg(feature = "seeded-bugs")]
                return $bugs.iter().map(|bug| (bug.name(), bug.what())).collect();
                #[cfg(not(feature = "seeded-bugs"))]
                Vec::new()
            }

            fn put_in_force(bug: Option<usize>) {
                #[cfg(feature = "seeded-bugs")]
                $put_in_force(bug.map(|place| $bugs[place]));
                #[cfg(not(feature = "seeded-bugs"))]
                let _ = bug;
            }
        }
    };
}

seeded!(sim::raft::Raft, raft::Bug::ALL, raft::Bug::choose);
seeded!(sim::lockservice::Lockservice, lockservice::bug::Bug::ALL, lockservice::bug::Bug::choose);
seeded!(sim::blockstore::Blockstore, blockstore::bug::Bug::ALL, blockstore::bug::seed);
seeded!(sim::cluster::Cluster, fs::bug::Bug::ALL, fs::bug::seed);
seeded!(sim::cluster::Files, fs::bug::Bug::ALL, fs::bug::seed);

/// Puts a bug in force on this thread; none if there is no name.
///
/// # Errors
/// There is no such bug, or none was built in.
pub(crate) fn choose<S: Bugs>(name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else {
        S::put_in_force(None);
        return Ok(());
    };
    let bugs = S::bugs();
    if bugs.is_empty() {
        anyhow::bail!("no bugs are built in; build with the feature `seeded-bugs`");
    }
    let place = bugs.iter().position(|(known, _)| *known == name).ok_or_else(|| {
        let names: Vec<&str> = bugs.iter().map(|(name, _)| *name).collect();
        anyhow::anyhow!("the seeded bugs are: {}", names.join(", "))
    })?;
    S::put_in_force(Some(place));
    Ok(())
}

/// Runs schedules under each bug until one is found wrong; a row of a table for each.
///
/// # Errors
/// There is no such bug, or none was built in.
pub(crate) fn run<S: Bugs>(out: &mut impl Write, hunt: &Hunt) -> anyhow::Result<ExitCode> {
    choose::<S>(hunt.only.as_deref())?;
    let bugs = S::bugs();
    if bugs.is_empty() {
        anyhow::bail!("no bugs are built in; build with the feature `seeded-bugs`");
    }
    let mut missed = 0;
    // A panic finds a bug as well as a check does, and its words are not wanted.
    std::panic::set_hook(Box::new(|_| {}));
    writeln!(out, "| seeded bug | what it does | found by | after schedules |\n|---|---|---|---|")?;
    for (place, (name, what)) in bugs.into_iter().enumerate() {
        if hunt.only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let prepare = || S::put_in_force(Some(place));
        let options = sim::Options::default();
        let (_, found) = divide::<S>(0..hunt.within, &options, hunt.threads.max(1), &prepare);
        match found {
            Some((seed, error)) => {
                writeln!(out, "| {name} | {what} | {} | {} |", error.invariant(), seed + 1)?;
            }
            None => {
                missed += 1;
                writeln!(out, "| {name} | {what} | **nothing** | {} |", hunt.within)?;
            }
        }
    }
    Ok(if hunt.strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
