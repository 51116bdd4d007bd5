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
use sim::raft::{Fault, Options, Report};

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
    Raft(Raft),
    /// How fast a killed leader is replaced, and whether a flapping follower disturbs.
    RaftTiming {
        /// Trials of each kind.
        #[arg(long, default_value_t = 1000)]
        trials: u64,
    },
    /// Seeded bugs of the consensus core: each must be found by the same schedules. Needs the feature `seeded-bugs`.
    RaftBugs {
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
        /// Within so many schedules.
        #[arg(long, default_value_t = 2000)]
        within: u64,
        /// Fail unless every bug that was run is found.
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Args)]
struct Raft {
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
    match Arguments::parse().what {
        What::Raft(raft) => schedules(&raft),
        What::RaftTiming { trials } => timing::run(&mut stdout().lock(), trials),
        What::RaftBugs { only, within, strict } => {
            bugs::run(&mut stdout().lock(), only.as_deref(), within, strict)
        }
    }
}

fn schedules(raft: &Raft) -> anyhow::Result<ExitCode> {
    let options = Options { lines: None, without: raft.without.clone(), strikes: raft.strikes };
    let prepare = || bugs::choose(raft.bug.as_deref());
    prepare()?;
    let (total, failed) = divide(raft.seeds.clone(), &options, raft.threads.max(1), &|| {
        // Checked above; each thread has a choice of its own.
        let _ = prepare();
    });
    let mut out = stdout().lock();
    if let Some(failed) = failed {
        explain(&mut out, raft, &options, failed)?;
        return Ok(ExitCode::FAILURE);
    }
    if raft.json {
        writeln!(out, "{}", to_json(&raft.seeds, &total))?;
    } else {
        table(&mut out, &total)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the seeds on several threads; the sum, and the lowest seed that failed among those that ran.
fn divide(
    seeds: Range<u64>,
    options: &Options,
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
            match sim::raft::run(seed, options) {
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
fn explain(
    out: &mut impl Write,
    raft: &Raft,
    options: &Options,
    (seed, error): (u64, Error),
) -> anyhow::Result<()> {
    let traced = Options { lines: Some(raft.lines), ..options.clone() };
    for line in sim::raft::trace(seed, &traced).1 {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{error}")?;
    let mut replay = format!("cargo xtask sim raft --seeds {seed}..{}", seed + 1);
    if let Some(bug) = &raft.bug {
        replay += &format!(" --bug {bug}");
    }
    for fault in &raft.without {
        replay += &format!(" --without \"{}\"", fault.name());
    }
    writeln!(out, "replay: {replay}")?;
    if let Some(strikes) = sim::raft::shorten(seed, options, &error) {
        writeln!(out, "shortest with the same failure: {replay} --strikes {strikes}")?;
    }
    Ok(())
}

fn table(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    for (name, n) in report.numbers() {
        writeln!(out, "{name:<40}{n:>14}")?;
    }
    writeln!(out, "faults that struck")?;
    for (name, n) in &report.faults {
        writeln!(out, "  {name:<38}{n:>14}")?;
    }
    writeln!(out, "invariants judged")?;
    for (name, n) in &report.judged {
        writeln!(out, "  {name:<38}{n:>14}")?;
    }
    Ok(())
}

fn to_json(seeds: &Range<u64>, report: &Report) -> String {
    // Names and numbers only, so nothing needs to be escaped.
    let join = |pairs: &mut dyn Iterator<Item = (&'static str, u64)>| {
        pairs.map(|(name, n)| format!("\"{name}\":{n}")).collect::<Vec<_>>().join(",")
    };
    format!(
        "{{\"seeds\":\"{}..{}\",{},\"faults\":{{{}}},\"judged\":{{{}}}}}",
        seeds.start,
        seeds.end,
        join(&mut report.numbers().into_iter()),
        join(&mut report.faults.iter().map(|(name, n)| (*name, *n))),
        join(&mut report.judged.iter().map(|(name, n)| (*name, *n))),
    )
}
