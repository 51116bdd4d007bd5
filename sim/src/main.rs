//! The `plumeria-sim` binary: runs schedules over a range of seeds and says what they did.
//!
//! `cargo xtask sim` calls it. It only parses, counts and prints.

use std::io::{Write, stdout};
use std::ops::Range;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim::raft::Report;

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
    Raft {
        /// The seeds to run, the last one not included.
        #[arg(long, value_parser = seeds, value_name = "A..B")]
        seeds: Range<u64>,
        /// One line of JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Show the last lines of what happened before a failure.
        #[arg(long, default_value_t = 40)]
        lines: usize,
    },
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let form = "give two numbers, as in 0..1000";
    let (from, to) = text.split_once("..").ok_or(form)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| form.to_owned());
    let seeds = number(from)?..number(to)?;
    if seeds.is_empty() { Err("the range is empty".to_owned()) } else { Ok(seeds) }
}

fn main() -> anyhow::Result<ExitCode> {
    let What::Raft { seeds, json, lines } = Arguments::parse().what;
    let mut out = stdout().lock();
    let mut total = Report::default();
    for seed in seeds.clone() {
        match sim::raft::run(seed) {
            Ok(report) => total.add(&report),
            Err(error) => {
                for line in sim::raft::trace(seed, lines).1 {
                    writeln!(out, "{line}")?;
                }
                writeln!(out, "{error}")?;
                writeln!(out, "replay: cargo xtask sim raft --seeds {seed}..{}", seed + 1)?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    if json {
        writeln!(out, "{}", to_json(&seeds, &total))?;
    } else {
        table(&mut out, &total)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn counts(report: &Report) -> [(&'static str, u64); 6] {
    [
        ("schedules", report.schedules),
        ("events", report.events),
        ("commands acknowledged", report.acknowledged),
        ("reads answered", report.answered),
        ("leaders elected", report.elected),
        ("checkpoints installed", report.installed),
    ]
}

fn table(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    for (name, n) in counts(report) {
        writeln!(out, "{name:<32}{n:>12}")?;
    }
    writeln!(out, "faults that struck")?;
    for (name, n) in &report.faults {
        writeln!(out, "  {name:<30}{n:>12}")?;
    }
    writeln!(out, "invariants judged")?;
    for (name, n) in &report.judged {
        writeln!(out, "  {name:<30}{n:>12}")?;
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
        join(&mut counts(report).into_iter()),
        join(&mut report.faults.iter().map(|(name, n)| (*name, *n))),
        join(&mut report.judged.iter().map(|(name, n)| (*name, *n))),
    )
}
