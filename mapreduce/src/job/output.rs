//! The output directory of a job: what is in it while the job runs, and how it comes and goes. When that is done is not
//! known here.
//!
//! It is prepared under another name, hidden and with the job's number in it, gets its own name in one step, and loses it in
//! one step if the job fails: there is never half of it, and a successor of a lost coordinator knows whose it is. While
//! the job runs there are `_temporary` with what attempts write, and `_journal`; readers see neither, for the names
//! of hidden files begin so. The journal goes last, and for good before anybody hears that the job is over: as long
//! as it is there, a lost coordinator can be replaced.

use bytes::Bytes;

use super::Upload;
use crate::{error::Error, failover::journal, files::Files, scheduler::Task, spec::JobSpec};

/// Where attempts write before their output has its name.
const TEMPORARY: &str = "_temporary";

pub(super) fn upload_path(output: &str, name: &str) -> String {
    format!("{output}/{TEMPORARY}/files/{name}")
}

/// Where an attempt writes.
pub(super) fn temporary(spec: &JobSpec, task: Task, attempt: u32) -> String {
    format!("{}/{TEMPORARY}/part-{:05}-{attempt}", spec.output, number(task))
}

/// What its output is called in the end.
pub(super) fn part(spec: &JobSpec, task: Task) -> String {
    let ending = if spec.gzip { ".gz" } else { "" };
    format!("{}/part-{:05}{ending}", spec.output, number(task))
}

fn number(task: Task) -> u32 {
    match task {
        Task::Map(number) | Task::Reduce(number) => number,
    }
}

/// Where the output of a job is before it has its name, and when it has lost it.
pub(super) fn aside(output: &str, job: u64) -> String {
    let (parent, _) = output.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
    format!("{parent}/_job-{job:016x}")
}

/// Makes, under another name, the output directory and what the tasks need in it.
pub(super) async fn prepare(
    files: &dyn Files,
    aside: &str,
    uploads: Vec<Upload>,
) -> Result<(), Error> {
    let failed = |error| Error::files(format!("preparing the output in {aside}"), error);
    files.make_directories(&format!("{aside}/{TEMPORARY}/files")).await.map_err(failed)?;
    for Upload { name, bytes } in uploads {
        upload(files, &upload_path(aside, &name), bytes).await.map_err(failed)?;
    }
    Ok(())
}

/// Gives the output directory its name.
pub(super) async fn place(files: &dyn Files, aside: &str, output: &str) -> Result<(), Error> {
    let failed = |error| Error::files(format!("making the output {output}"), error);
    if files.stat(output).await.map_err(failed)?.is_some() {
        return Err(Error::OutputExists(output.to_owned()));
    }
    match files.rename(aside, output).await {
        Err(fs::Error::NotEmpty) => Err(Error::OutputExists(output.to_owned())),
        renamed => renamed.map_err(failed),
    }
}

async fn upload(files: &dyn Files, path: &str, bytes: Bytes) -> Result<(), fs::Error> {
    let ino = files.create(path).await?;
    let written = files.write(ino, 0, bytes).await;
    let finished = files.finish(ino).await;
    written.and(finished)
}

/// Gives the output of an attempt its name; nothing if it has it already, because a coordinator was lost after that.
pub(super) async fn name(files: &dyn Files, from: &str, to: &str) -> Result<(), fs::Error> {
    match files.rename(from, to).await {
        Err(fs::Error::NotFound) if files.stat(to).await?.is_some() => Ok(()),
        renamed => renamed,
    }
}

/// Tells the world that the output is whole; may be repeated.
pub(super) async fn succeed(files: &dyn Files, output: &str) -> Result<(), Error> {
    let failed = |error| Error::files(format!("finishing the output {output}"), error);
    remove(files, &format!("{output}/{TEMPORARY}")).await.map_err(failed)?;
    let ino = files.create(&format!("{output}/_SUCCESS")).await.map_err(failed)?;
    files.finish(ino).await.map_err(failed)
}

async fn remove(files: &dyn Files, path: &str) -> Result<(), fs::Error> {
    match files.remove(path).await {
        Err(fs::Error::NotFound) => Ok(()),
        removed => removed,
    }
}

/// Removes, for good, what nobody needs of a job that is over: its journal if its output is whole, and what of its
/// output has no name. May be repeated.
pub(crate) async fn tidy(files: &dyn Files, output: &str, job: u64) -> Result<(), Error> {
    let tidied = async {
        if files.stat(&format!("{output}/_SUCCESS")).await?.is_some() {
            remove(files, &journal::directory(output)).await?;
        }
        forget(files, output, job).await
    };
    tidied.await.map_err(|error| Error::files(format!("tidying up the output {output}"), error))
}

/// Removes, for good, what of the output of a job has no name.
pub(crate) async fn forget(files: &dyn Files, output: &str, job: u64) -> Result<(), fs::Error> {
    remove(files, &aside(output, job)).await?;
    files.settle().await
}

/// Removes, for good, the output of a job that failed or that nobody can go on with. One that has its `_SUCCESS` is
/// whole, whatever is left of its journals, and stays. May be repeated.
pub(crate) async fn discard(files: &dyn Files, output: &str, job: u64) -> Result<(), Error> {
    let moved = async {
        if files.stat(&format!("{output}/_SUCCESS")).await?.is_some() {
            return Ok(());
        }
        match files.rename(output, &aside(output, job)).await {
            Err(fs::Error::NotFound) => Ok(()),
            renamed => renamed,
        }
    };
    let failed = |error| Error::files(format!("removing the output {output}"), error);
    moved.await.map_err(failed)?;
    tidy(files, output, job).await
}
