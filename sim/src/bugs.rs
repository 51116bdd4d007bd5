//! Seeded bugs of the consensus core: which one is in force, and how soon the schedules find each.
//!
//! The schedules and checks are those of every other run: no check knows of a bug.

use std::io::Write;
use std::process::ExitCode;

/// Puts a bug in force on this thread; none if there is no name.
///
/// # Errors
/// There is no such bug, or none was built in.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn choose(name: Option<&str>) -> anyhow::Result<()> {
    let bug = match name {
        None => None,
        Some(name) => Some(raft::Bug::named(name).ok_or_else(|| {
            let names: Vec<&str> = raft::Bug::ALL.iter().map(|bug| bug.name()).collect();
            anyhow::anyhow!("the seeded bugs are: {}", names.join(", "))
        })?),
    };
    raft::Bug::choose(bug);
    Ok(())
}

/// Without the feature there is none to choose.
///
/// # Errors
/// A name was given.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) fn choose(name: Option<&str>) -> anyhow::Result<()> {
    if name.is_some() {
        anyhow::bail!("no bugs are built in; build with the feature `seeded-bugs`");
    }
    Ok(())
}

/// Runs schedules under each bug until one is found wrong; a row of a table for each.
///
/// # Errors
/// There is no such bug.
#[cfg(feature = "seeded-bugs")]
pub(crate) fn run(
    out: &mut impl Write,
    only: Option<&str>,
    within: u64,
    strict: bool,
) -> anyhow::Result<ExitCode> {
    choose(only)?;
    let mut missed = 0;
    writeln!(out, "| seeded bug | what it does | found by | after schedules |\n|---|---|---|---|")?;
    for bug in raft::Bug::ALL {
        if only.is_some_and(|name| name != bug.name()) {
            continue;
        }
        raft::Bug::choose(Some(bug));
        let options = sim::raft::Options::default();
        let found = (0..within).find_map(|seed| {
            sim::raft::run(seed, &options).err().map(|error| (seed + 1, error.invariant()))
        });
        let (name, what) = (bug.name(), bug.what());
        match found {
            Some((after, by)) => writeln!(out, "| {name} | {what} | {by} | {after} |")?,
            None => {
                missed += 1;
                writeln!(out, "| {name} | {what} | **nothing** | {within} |")?;
            }
        }
    }
    raft::Bug::choose(None);
    Ok(if strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Without the feature there is nothing to run.
///
/// # Errors
/// Always.
#[cfg(not(feature = "seeded-bugs"))]
pub(crate) fn run(
    _: &mut impl Write,
    _: Option<&str>,
    _: u64,
    _: bool,
) -> anyhow::Result<ExitCode> {
    anyhow::bail!("no bugs are built in; build with the feature `seeded-bugs`")
}
