//! `cargo xtask`: the project's own chores. `verify` only reads; `fix` writes; the rest starts the
//! simulator and the benchmarks. It holds no logic of the product.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]
#![expect(clippy::disallowed_methods, reason = "a chore touches the machine directly")]

mod table;
mod tidy;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

/// The chores of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check everything without writing anything: format, lints, tests, documents, tidiness.
    Verify {
        /// Only the named steps: fmt, tidy, clippy, docs, tests, sim.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Mend what can be mended mechanically: format and lint suggestions.
    Fix,
    /// Run seeded simulations, for instance `cargo xtask sim raft --seeds 0..2000`.
    Sim {
        /// Arguments of the simulator; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the full counts whose results stand in docs/reliability.md.
    Soak,
    /// Compare the mounted file system with bindfs over the local disk.
    Bench {
        /// Arguments of the benchmark; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Verify { only } => verify(&only),
        Chore::Fix => fix(),
        Chore::Sim { arguments } => run_binary("plumeria-sim", &arguments),
        Chore::Soak => soak(),
        Chore::Bench { arguments } => bench(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace. Asked of cargo at run time: with one target directory for several
/// checkouts the program may have been built in another one.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "xtask".into(), PathBuf::from);
    here.parent().map(Path::to_path_buf).unwrap_or(here)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn verify(only: &[String]) -> Result<()> {
    type Step = (&'static str, fn() -> Result<()>);
    let steps: [Step; 6] = [
        ("fmt", || run(cargo(&["fmt", "--all", "--check"]))),
        ("tidy", || tidy::check(&root())),
        ("clippy", clippy),
        ("docs", docs),
        ("tests", tests),
        ("sim", simulate),
    ];
    for name in only {
        if !steps.iter().any(|(step, _)| step == name) {
            bail!("no step {name:?}; the steps are fmt, tidy, clippy, docs, tests, sim");
        }
    }
    for (name, step) in steps {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("== verify {name}");
        let begun = Instant::now();
        step().with_context(|| format!("verify {name}"))?;
        println!("== verify {name}: ok in {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn clippy() -> Result<()> {
    let arguments =
        ["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    run(cargo(&arguments))
}

fn docs() -> Result<()> {
    let mut command = cargo(&[
        "doc",
        "--release",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

/// All tests but the mounted ones, which `make test` runs by themselves.
fn tests() -> Result<()> {
    if has_nextest() {
        let filter = "not binary(/mounted/)";
        run(cargo(&["nextest", "run", "--release", "--workspace", "-E", filter]))?;
    } else {
        // The runner of cargo itself cannot filter by binary: the mounted tests run here already.
        run(cargo(&[
            "test",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "--test-threads=2",
        ]))?;
    }
    run(cargo(&["test", "--release", "--workspace", "--doc", "--quiet"]))
}

fn has_nextest() -> bool {
    cargo(&["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn fix() -> Result<()> {
    run(cargo(&["fmt", "--all"]))?;
    run(cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ]))?;
    run(cargo(&["fmt", "--all"]))
}

/// Builds a program of the workspace and runs it.
fn run_binary(binary: &str, arguments: &[String]) -> Result<()> {
    build(binary, &[])?;
    run_built(binary, arguments)
}

/// Builds a program with the features that the whole workspace has: nothing is compiled a second time.
fn build(binary: &str, more: &[&str]) -> Result<()> {
    let mut command = cargo(&["build", "--release", "--quiet", "--workspace", "--bin", binary]);
    command.args(more);
    run(command)
}

/// Runs a program that was built a moment ago: it lies beside this one.
fn run_built<S: AsRef<OsStr>>(binary: &str, arguments: &[S]) -> Result<()> {
    let here = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(here.with_file_name(binary));
    command.args(arguments).current_dir(root());
    run(command)
}

/// Seeds of every verification, by machine; `soak` runs all.
const SEEDS: [(&str, &str); 5] = [
    ("raft", "0..2000"),
    ("lockservice", "0..1000"),
    ("blockstore", "0..1000"),
    ("fs", "0..100"),
    ("cluster", "0..50"),
];
/// Seeded bugs of every verification, one for each kind of check; `soak` runs all.
const BUGS: [(&str, &str); 6] = [
    ("raft-bugs", "commit-old-term"),
    ("raft-bugs", "ack-unsynced"),
    ("raft-bugs", "vote-twice"),
    ("raft-bugs", "match-by-index"),
    ("raft-bugs", "read-joins-round"),
    ("raft-bugs", "restore-early"),
];

/// The part of the simulation that every verification runs, histories and some seeded bugs included.
fn simulate() -> Result<()> {
    for (machine, seeds) in SEEDS {
        let arguments = [machine, "--seeds", seeds].map(str::to_owned);
        run_binary("plumeria-sim", &arguments)?;
    }
    for (machine, bug) in BUGS {
        find_bugs(machine, &["--only", bug])?;
    }
    Ok(())
}

/// Runs the simulator with the seeded bugs built in; fails unless each is found.
fn find_bugs(machine: &str, more: &[&str]) -> Result<()> {
    build("plumeria-sim", &["--features", "plumeria-sim/seeded-bugs"])?;
    run_built("plumeria-sim", &[&[machine, "--strict"], more].concat())
}

/// Everything in full; what it prints stands in docs/reliability.md.
fn soak() -> Result<()> {
    for arguments in [
        &["raft", "--seeds", "0..100000"][..],
        &["raft-timing"],
        &["lockservice", "--seeds", "0..50000"],
        &["blockstore", "--seeds", "0..100000"],
        &["fs", "--seeds", "0..20000"],
        &["cluster", "--seeds", "0..20000"],
    ] {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        run_binary("plumeria-sim", &arguments)?;
    }
    find_bugs("raft-bugs", &[])?;
    find_bugs("lockservice-bugs", &[])?;
    find_bugs("blockstore-bugs", &[])?;
    find_bugs("fs-bugs", &[])?;
    files()?;
    jobs()
}

/// The judgement of others on a mount, and the random tests of two mounts, at full count.
fn files() -> Result<()> {
    build("plumeria", &[])?;
    let mut oracles = Command::new(root().join("scripts/oracles"));
    oracles.arg("1000000");
    run(oracles)?;
    let test = ["test", "--release", "--quiet", "--workspace", "--test", "mounted"];
    let mut mounted = cargo(&test);
    mounted.arg("posix::").env("PLUMERIA_OPERATIONS", "200000");
    run(mounted)
}

/// Splitting and scheduling of jobs at full count, a coordinator lost in each of its calls, the seven classic behaviours a
/// hundred times, the status page in a browser, and the programs of others as oracles.
fn jobs() -> Result<()> {
    let tests = |filter: &str| {
        let mut command = cargo(&["nextest", "run", "--release", "--workspace", "-E"]);
        command.arg(format!("package(plumeria-mapreduce) & {filter}"));
        command
    };
    let mut counts = tests("test(/record::tests|simulation|failover::/)");
    counts.env("PLUMERIA_CASES", "100000");
    run(counts)?;
    let mut classic = tests("test(/^lab::/)");
    classic.args(["--stress-count", "100", "--retries", "0"]);
    run(classic)?;
    build("plumeria", &[])?;
    run(Command::new(root().join("scripts/page-in-browser")))?;
    run(Command::new(root().join("scripts/job-oracles")))?;
    let mut oracles = tests("test(/^oracle::/)");
    // Not skipped if they are missing.
    oracles.env("CI", "true");
    run(oracles)
}

fn bench(arguments: &[String]) -> Result<()> {
    build("plumeria", &[])?;
    run_binary("plumeria-bench", arguments)
}
