//! Workloads and comparisons: the mounted file system against bindfs over the local disk, pair by
//! pair in one run; replicated commands and locks against a synced append stream; the consensus core by
//! itself. File system and groups are measured from outside.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads real clocks and real files")]

mod cluster;
mod compare;
mod data;
mod gauge;
mod groups;
mod locks;
mod raft_core;
mod tree;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measure Plumeria.
#[derive(Parser)]
#[command(name = "plumeria-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Compare the mounted file system with bindfs over the local disk (the default).
    Compare(compare::Options),
    /// Measure the consensus core alone, in one thread.
    RaftCore(raft_core::Options),
    /// Measure replicated commands, catching up, and idle groups.
    Raft(groups::Options),
    /// Measure the lock service: acquires, hand-overs, renewals, memory.
    Locks(locks::Options),
    /// Pack a real source tree from the Cargo cache, the same one each time.
    Tree {
        /// The tar file to write.
        #[arg(long)]
        out: PathBuf,
        /// At least this many files.
        #[arg(long, default_value_t = 3_300)]
        files: usize,
    },
    /// Make input for jobs: text, or records to be sorted.
    #[command(subcommand)]
    Data(data::Make),
    /// Judge a sorted output: all records of the input, in order.
    Sorted {
        /// The directory that was sorted.
        input: PathBuf,
        /// The directory of parts.
        output: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<Command>) -> Result<()> {
    match command.unwrap_or(Command::Compare(compare::Options::default())) {
        Command::Compare(options) => compare::run(&options),
        Command::RaftCore(options) => raft_core::run(&options),
        Command::Raft(options) => groups::run(&options),
        Command::Locks(options) => locks::run(&options),
        Command::Data(what) => data::make(&what),
        Command::Sorted { input, output } => {
            println!("{}", data::judge(&input, &output)?);
            Ok(())
        }
        Command::Tree { out, files } => {
            let tree = tree::pack(&out, files)?;
            println!("{} files, {} bytes in {}", tree.files, tree.bytes, out.display());
            Ok(())
        }
    }
}
