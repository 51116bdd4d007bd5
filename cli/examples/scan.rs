//! A job binary that measures: `read` reads its input as fast as the file-system library gives it and looks at nothing,
//! `grep` is the one that comes with Plumeria. Both run on workers of this process, so that the difference is the job's own
//! (`scripts/job-numbers grep`).
//!
//! ```text
//! scan run --job read --reduces 0 MOUNT/records MOUNT/out         files of whole megabytes
//! scan run --job grep --arg STRING --reduces 0 MOUNT/records MOUNT/out
//! ```

use std::process::ExitCode;

use plumeria_cli::{
    Programs,
    mapreduce::{Each, Emitter, Error, Fixed, Job, Mapper, Raw, Record},
};

/// Counts megabytes.
#[derive(Clone)]
struct Read;

impl Mapper for Read {
    type Input = Fixed<1_000_000>;
    type Key = Raw;
    type Value = ();

    fn map(
        &mut self,
        _: &Record<'_, Fixed<1_000_000>>,
        out: &mut Emitter<'_, Raw, ()>,
    ) -> Result<(), Error> {
        out.count("read", "megabytes", 1);
        Ok(())
    }
}

fn read(_: &[String]) -> Result<Job, Error> {
    Ok(Job::of(Read, Each::default()).into())
}

fn main() -> ExitCode {
    plumeria_cli::main(Programs::shipped().with("read", read))
}
