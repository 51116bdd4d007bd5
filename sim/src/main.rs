//! The `plumeria-sim` binary: runs schedules over a range of seeds and says what they did.
//!
//! `cargo xtask sim` and `cargo xtask soak` call it. It only parses, divides the seeds among threads, counts and prints.

mod bugs;
mod timing;

use std::io::{Write, stdout};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, Parser, Subcommand};
use sim::Error;
use sim::raft::{Fault, Options};
use sim::tally::{Tally, Trace, shorten};

/// Simulated schedules of Plumeria's machines.
#[derive(Parser)]
#[command(name = "plumeria-sim", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A group of the consensus core.
    Raft(Schedules),
    /// The lock service: real servers and clerks on a group of the consensus core.
    Lockservice(Schedules),
    /// How fast a killed leader is replaced, and whether a flapping follower disturbs.
    RaftTiming {
        /// Trials of each kind.
        #[arg(long, default_value_t = 1000)]
        trials: u64,
    },
    /// Seeded bugs of the consensus core: each must be found by the same schedules. Needs the feature `seeded-bugs`.
    RaftBugs(Bugs),
    /// The same for seeded bugs of the lock service.
    LockserviceBugs(Bugs),
}

#[derive(Args)]
struct Bugs {
    /// Only this one.
    #[arg(long)]
    only: Option<String>,
    /// Within so many schedules.
    #[arg(long, default_value_t = 2000)]
    within: u64,
    /// Fail unless every bug that was run is found.
    #[arg(long)]
    strict: bool,
}

#[derive(Args)]
struct Schedules {
    /// The seeds to run, the last one not included.
    #[arg(long, value_parser = seeds, value_name = "A..B")]
    seeds: Range<u64>,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Show the last lines of what happened before a failure.
    #[arg(long, default_value_t = 40)]
    lines: usize,
    /// Kinds of faults that do not strike, for instance `loss,crash`.
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// Let only the first so many faults loose.
    #[arg(long)]
    strikes: Option<u64>,
    /// A seeded bug, by name. Needs the feature `seeded-bugs`.
    #[arg(long)]
    bug: Option<String>,
    /// Seeds that run at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let form = "give two numbers, as in 0..1000";
    let (from, to) = text.split_once("..").ok_or(form)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| form.to_owned());
    let seeds = number(from)?..number(to)?;
    if seeds.is_empty() { Err("the range is empty".to_owned()) } else { Ok(seeds) }
}

fn fault(text: &str) -> Result<Fault, String> {
    let known = Fault::ALL.into_iter().find(|fault| fault.name() == text);
    known.ok_or_else(|| {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("the faults are: {}", names.join(", "))
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    match Arguments::parse().what {
        What::Raft(schedules) => run(&mut out, &RAFT, &schedules),
        What::Lockservice(schedules) => run(&mut out, &LOCKSERVICE, &schedules),
        What::RaftTiming { trials } => timing::run(&mut out, trials),
        What::RaftBugs(bugs) => bugs::run(&mut out, &RAFT, &bugs),
        What::LockserviceBugs(bugs) => bugs::run(&mut out, &LOCKSERVICE, &bugs),
    }
}

/// A kind of schedules: what it is called, how one is run, and the bugs that are seeded for it.
struct Simulation<R> {
    name: &'static str,
    trace: Trace<R>,
    bugs: fn() -> Vec<bugs::Bug>,
}

const RAFT: Simulation<sim::raft::Report> =
    Simulation { name: "raft", trace: sim::raft::trace, bugs: bugs::of_raft };
const LOCKSERVICE: Simulation<sim::lockservice::Report> = Simulation {
    name: "lockservice",
    trace: sim::lockservice::trace,
    bugs: bugs::of_the_lock_service,
};

fn run<R: Tally + Send>(
    out: &mut impl Write,
    simulation: &Simulation<R>,
    schedules: &Schedules,
) -> anyhow::Result<ExitCode> {
    let options =
        Options { lines: None, without: schedules.without.clone(), strikes: schedules.strikes };
    let prepare = || bugs::choose(simulation, schedules.bug.as_deref());
    prepare()?;
    let (total, failed) = divide(
        simulation.trace,
        schedules.seeds.clone(),
        &options,
        schedules.threads.max(1),
        &|| {
            // Checked above; each thread has a choice of its own.
            let _ = prepare();
        },
    );
    if let Some(failed) = failed {
        explain(out, simulation, schedules, &options, failed)?;
        return Ok(ExitCode::FAILURE);
    }
    if schedules.json {
        writeln!(out, "{}", to_json(&schedules.seeds, &total))?;
    } else {
        table(out, &total)?;
    }
    Ok(if total.faults().is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs the seeds on several threads; the sum, and the lowest seed that failed among those that ran.
fn divide<R: Tally + Send>(
    trace: Trace<R>,
    seeds: Range<u64>,
    options: &Options,
    threads: usize,
    prepare: &(dyn Fn() + Sync),
) -> (R, Option<(u64, Error)>) {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let work = || {
        prepare();
        let mut total = R::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return (total, None);
            }
            match trace(seed, options).0 {
                Ok(report) => total.add(&report),
                Err(error) => {
                    end.fetch_min(seed, Ordering::Relaxed);
                    return (total, Some((seed, error)));
                }
            }
        }
    };
    let mut total = R::default();
    let mut failed: Option<(u64, Error)> = None;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for run in runs {
            let Ok((report, error)) = run.join() else { continue };
            total.add(&report);
            if error.as_ref().is_some_and(|(seed, _)| failed.as_ref().is_none_or(|f| *seed < f.0)) {
                failed = error;
            }
        }
    });
    (total, failed)
}

/// Shows what happened before a failure, and how to see it again.
fn explain<R: Tally>(
    out: &mut impl Write,
    simulation: &Simulation<R>,
    schedules: &Schedules,
    options: &Options,
    (seed, error): (u64, Error),
) -> anyhow::Result<()> {
    let traced = Options { lines: Some(schedules.lines), ..options.clone() };
    for line in (simulation.trace)(seed, &traced).1 {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{error}")?;
    let mut replay = format!("cargo xtask sim {} --seeds {seed}..{}", simulation.name, seed + 1);
    if let Some(bug) = &schedules.bug {
        replay += &format!(" --bug {bug}");
    }
    for fault in &schedules.without {
        replay += &format!(" --without \"{}\"", fault.name());
    }
    writeln!(out, "replay: {replay}")?;
    if let Some(strikes) = shorten(simulation.trace, seed, options, &error) {
        writeln!(out, "shortest with the same failure: {replay} --strikes {strikes}")?;
    }
    Ok(())
}

fn table(out: &mut impl Write, report: &impl Tally) -> std::io::Result<()> {
    for (name, n) in report.numbers() {
        writeln!(out, "{name:<44}{n:>14}")?;
    }
    writeln!(out, "faults that struck")?;
    for (name, n) in report.faults() {
        writeln!(out, "  {name:<42}{n:>14}")?;
    }
    writeln!(out, "invariants judged")?;
    for (name, n) in report.judged() {
        writeln!(out, "  {name:<42}{n:>14}")?;
    }
    Ok(())
}

fn to_json(seeds: &Range<u64>, report: &impl Tally) -> String {
    // Names and numbers only, so nothing needs to be escaped.
    let join = |pairs: &mut dyn Iterator<Item = (&'static str, u64)>| {
        pairs.map(|(name, n)| format!("\"{name}\":{n}")).collect::<Vec<_>>().join(",")
    };
    format!(
        "{{\"seeds\":\"{}..{}\",{},\"faults\":{{{}}},\"judged\":{{{}}}}}",
        seeds.start,
        seeds.end,
        join(&mut report.numbers().into_iter()),
        join(&mut report.faults().iter().map(|(name, n)| (*name, *n))),
        join(&mut report.judged().iter().map(|(name, n)| (*name, *n))),
    )
}
