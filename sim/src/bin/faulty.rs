//! `plumeria-faulty BACKING MOUNTPOINT`: mounts a faulty disk over a directory, and stays in front until it
//! is unmounted. What it can do is said in `sim::faulty`.
#![expect(clippy::print_stderr, reason = "a program for tests says what went wrong")]

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [backing, mountpoint] = paths.as_slice() else {
        eprintln!(
            "usage: plumeria-faulty BACKING MOUNTPOINT\n\nMounts a disk that can lose power over the directory \
             BACKING. Command it through MOUNTPOINT/{}: cut, on, torn SEED PERCENT, cut sync N before, \
             fail write N ENOSPC, ...",
            sim::faulty::CONTROL
        );
        return ExitCode::from(2);
    };
    match sim::faulty::serve(backing, mountpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot mount a faulty disk on {}: {error}", mountpoint.display());
            ExitCode::FAILURE
        }
    }
}
