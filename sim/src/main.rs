//! The `plumeria-sim` binary: runs schedules over a range of seeds and says what they did.
//!
//! `cargo xtask sim` and `cargo xtask soak` call it. It only parses, divides the seeds among threads, counts and prints.

mod bugs;
mod seeds;
mod timing;

use std::io::{Write, stdout};
use std::ops::Range;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sim::{Error, Options, Report, Simulation, Tally};

use bugs::Bugs;

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
    Raft(Run),
    /// The lock service: real servers and clerks on a group of the consensus core.
    Lockservice(Run),
    /// How fast a killed leader is replaced, and whether a flapping follower disturbs.
    RaftTiming {
        /// Trials of each kind.
        #[arg(long, default_value_t = 1000)]
        trials: u64,
    },
    /// Seeded bugs of the consensus core: each must be found by the same schedules. Needs the feature `seeded-bugs`.
    RaftBugs(Hunt),
    /// Seeded bugs of the lock service. Needs the feature `seeded-bugs`.
    LockserviceBugs(Hunt),
    /// Block servers, each on a disk of its own, the volume map, and clients.
    Blockstore(Run),
    /// Block servers, the volume map, the lock service and file-system clients.
    Cluster(Run),
    /// File-system clients and the lock service on one block server.
    Fs(Run),
    /// Seeded bugs of the file system, hunted in whole clusters. Needs the feature `seeded-bugs`.
    ClusterBugs(Hunt),
    /// Seeded bugs of the file system, hunted on one block server. Needs the feature `seeded-bugs`.
    FsBugs(Hunt),
    /// Seeded bugs of the virtual disk: each must be found by the same schedules. Needs the feature `seeded-bugs`.
    BlockstoreBugs(Hunt),
}

#[derive(Args)]
struct Hunt {
    /// Only this one.
    #[arg(long)]
    only: Option<String>,
    /// Within so many schedules.
    #[arg(long, default_value_t = 2000)]
    within: u64,
    /// Fail unless every bug that was run is found.
    #[arg(long)]
    strict: bool,
    /// Seeds that run at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Args)]
struct Run {
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
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
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

fn fault<S: Simulation>(text: &str) -> anyhow::Result<S::Fault> {
    let all = S::faults();
    let known = all.iter().find(|(name, _)| *name == text).map(|(_, fault)| *fault);
    known.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        anyhow::anyhow!("the faults are: {}", names.join(", "))
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    match Arguments::parse().what {
        What::Raft(run) => schedules::<sim::raft::Raft>(&mut out, &run),
        What::Lockservice(run) => schedules::<sim::lockservice::Lockservice>(&mut out, &run),
        What::LockserviceBugs(hunt) => bugs::run::<sim::lockservice::Lockservice>(&mut out, &hunt),
        What::RaftTiming { trials } => timing::run(&mut out, trials),
        What::RaftBugs(hunt) => bugs::run::<sim::raft::Raft>(&mut out, &hunt),
        What::Blockstore(run) => schedules::<sim::blockstore::Blockstore>(&mut out, &run),
        What::Cluster(run) => schedules::<sim::cluster::Cluster>(&mut out, &run),
        What::ClusterBugs(hunt) => bugs::run::<sim::cluster::Cluster>(&mut out, &hunt),
        What::Fs(run) => schedules::<sim::cluster::Files>(&mut out, &run),
        What::FsBugs(hunt) => bugs::run::<sim::cluster::Files>(&mut out, &hunt),
        What::BlockstoreBugs(hunt) => bugs::run::<sim::blockstore::Blockstore>(&mut out, &hunt),
    }
}

fn schedules<S: Bugs>(out: &mut impl Write, run: &Run) -> anyhow::Result<ExitCode> {
    let without = run.without.iter().map(|text| fault::<S>(text)).collect::<Result<_, _>>()?;
    let options = Options { lines: None, without, strikes: run.strikes };
    let prepare = || bugs::choose::<S>(run.bug.as_deref());
    prepare()?;
    let (total, failed) =
        seeds::divide::<S>(run.seeds.clone(), &options, run.threads.max(1), &|| {
            // Checked above; each thread has a choice of its own.
            let _ = prepare();
        });
    if let Some(failed) = failed {
        explain::<S>(out, run, &options, failed)?;
        return Ok(ExitCode::FAILURE);
    }
    if run.json {
        writeln!(out, "{}", to_json(&run.seeds, &total))?;
    } else {
        table(out, &total)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what happened before a failure, and how to see it again.
fn explain<S: Simulation>(
    out: &mut impl Write,
    run: &Run,
    options: &Options<S::Fault>,
    (seed, error): (u64, Error),
) -> anyhow::Result<()> {
    let traced = Options { lines: Some(run.lines), ..options.clone() };
    for line in S::traced(seed, &traced).1 {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{error}")?;
    let mut replay = format!("cargo xtask sim {} --seeds {seed}..{}", S::NAME, seed + 1);
    if let Some(bug) = &run.bug {
        replay += &format!(" --bug {bug}");
    }
    for fault in &run.without {
        replay += &format!(" --without \"{fault}\"");
    }
    writeln!(out, "replay: {replay}")?;
    if let Some(strikes) = S::shorten(seed, options, &error) {
        writeln!(out, "shortest with the same failure: {replay} --strikes {strikes}")?;
    }
    Ok(())
}

fn table(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    for (name, n) in &report.counts {
        writeln!(out, "{name:<40}{n:>14}")?;
    }
    for (title, tally) in
        [("faults that struck", &report.faults), ("invariants judged", &report.judged)]
    {
        writeln!(out, "{title}")?;
        for (name, n) in tally {
            writeln!(out, "  {name:<38}{n:>14}")?;
        }
    }
    Ok(())
}

fn to_json(seeds: &Range<u64>, report: &Report) -> String {
    // Names and numbers only, so nothing needs to be escaped.
    let join = |tally: &Tally| {
        tally.iter().map(|(name, n)| format!("\"{name}\":{n}")).collect::<Vec<_>>().join(",")
    };
    format!(
        "{{\"seeds\":\"{}..{}\",{},\"faults\":{{{}}},\"judged\":{{{}}}}}",
        seeds.start,
        seeds.end,
        join(&report.counts),
        join(&report.faults),
        join(&report.judged),
    )
}
