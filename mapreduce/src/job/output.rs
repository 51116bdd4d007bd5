//! The output directory of a job: what is in it while the job runs, and how it is left. When that is done is not
//! known here.
//!
//! While the job runs there are `_temporary` with what attempts write, and `_journal`; readers see neither, for the names
//! of hidden files begin so. The journal goes last: as long as it is there, a lost coordinator can be replaced.

use bytes::Bytes;

use super::{Cluster, Upload};
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

/// Makes the output directory and what the tasks need in it.
pub(super) async fn prepare(
    files: &dyn Files,
    output: &str,
    uploads: Vec<Upload>,
) -> Result<(), Error> {
    let failed = |error| Error::files(format!("making the output {output}"), error);
    files.make_directories(&format!("{output}/{TEMPORARY}/files")).await.map_err(failed)?;
    let mut given = Ok(());
    for Upload { name, bytes } in uploads {
        given = upload(files, &upload_path(output, &name), bytes).await.map_err(failed);
        if given.is_err() {
            discard(files, output).await;
            break;
        }
    }
    given
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
    files.finish(ino).await.map_err(failed)?;
    remove(files, &journal::directory(output)).await.map_err(failed)
}

async fn remove(files: &dyn Files, path: &str) -> Result<(), fs::Error> {
    match files.remove(path).await {
        Err(fs::Error::NotFound) => Ok(()),
        removed => removed,
    }
}

/// Removes the output of a job that failed, the journal last; tells whether that worked. May be repeated.
pub(super) async fn discard(files: &dyn Files, output: &str) -> bool {
    let removed = async {
        let Some(stat) = files.stat(output).await? else { return Ok(()) };
        for line in files.list(stat.ino).await? {
            let path = format!("{output}/{}", String::from_utf8_lossy(&line.name));
            if path != journal::directory(output) {
                remove(files, &path).await?;
            }
        }
        remove(files, output).await
    };
    match removed.await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(output, %error, "the output of a failed job stays behind");
            false
        }
    }
}

/// A coordinator was lost while it removed its journal, which is the last thing that it does: this ends it. What another
/// job may have there by now stays.
pub(crate) async fn tidy(cluster: &Cluster, output: &str) {
    let files = cluster.files.as_ref();
    let tidied = async {
        let Some(stat) = files.stat(output).await? else { return Ok(()) };
        let names: Vec<_> = files.list(stat.ino).await?.into_iter().map(|line| line.name).collect();
        if names.iter().any(|name| name == "_SUCCESS") {
            remove(files, &journal::directory(output)).await
        } else if names.iter().all(|name| name == "_journal") {
            remove(files, output).await
        } else {
            Ok(())
        }
    };
    if let Err(error) = tidied.await {
        tracing::warn!(output, %error, "the journal of a job that is over stays behind");
    }
}

/// Removes the output of a job that nobody can go on with. One that has its `_SUCCESS` is whole, whatever is left of its
/// journals, and stays.
pub(crate) async fn abandon(cluster: &Cluster, output: &str) {
    match cluster.files.stat(&format!("{output}/_SUCCESS")).await {
        Ok(None) => {
            discard(cluster.files.as_ref(), output).await;
        }
        _ => tidy(cluster, output).await,
    }
}
