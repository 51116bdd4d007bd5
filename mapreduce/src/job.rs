//! A job from its submission to `_SUCCESS`: plans, asks the scheduler what to do, does it through the workers, and
//! puts the output in its place. How a task does its work is not known here.

mod attempt;
mod drive;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use world::World;

use crate::{
    api::Programs,
    counters::Counters,
    error::Error,
    files::Files,
    input::plan::{self, Choice, Cutting, Split},
    native::sample,
    peers::{Peers, Place},
    progress::{Phase, Progress, View},
    scheduler::{Limits, Scheduler, Task},
    spec::{JobSpec, Program},
};
use drive::{Job, State};

/// A file that is put into the file system for the time of the job.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its name in the job's temporary directory.
    pub name: String,
    /// What is in it.
    pub bytes: Bytes,
}

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What it is.
    pub spec: JobSpec,
    /// What its tasks need besides.
    pub uploads: Vec<Upload>,
    /// The native jobs that are known.
    pub programs: Programs,
}

/// Who watches a job.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// How far it is, for a line.
    pub progress: watch::Sender<Progress>,
    /// More of it, for a page.
    pub page: watch::Sender<View>,
}

/// Where [`Upload`]s of a job with this output directory lie while it runs.
#[must_use]
pub fn upload_path(output: &str, name: &str) -> String {
    format!("{output}/{TEMPORARY}/files/{name}")
}

/// Where attempts write before their output has its name; hidden from other jobs.
const TEMPORARY: &str = "_temporary";

/// What became of a job that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was counted.
    pub counters: Counters,
    /// Map tasks.
    pub maps: u32,
    /// Reduce tasks.
    pub reduces: u32,
    /// Attempts that failed and were made again.
    pub failures: u32,
    /// Backup attempts, and those of them that were first.
    pub backups: (u32, u32),
    /// From submission to `_SUCCESS`.
    pub elapsed: Duration,
}

/// How long a job waits for its first worker, or for another when all are lost.
const ALONE: Duration = Duration::from_secs(20);
/// An attempt is not given a backup before it has run for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a map waits for a worker that has its input.
const DELAY: Duration = Duration::from_secs(1);

/// Runs a job with the workers at `workers` and tells how far it is through `watch`.
///
/// # Errors
/// What was wrong with the job, its input or its output, or why a task failed for good. The output
/// directory is then removed again.
pub async fn run(
    world: &World,
    files: Arc<dyn Files>,
    peers: &Peers,
    workers: &[Place],
    submission: Submission,
    watch: &Watch,
) -> Result<Summary, Error> {
    let now = world.clock.now();
    watch.progress.send_replace(Progress::default());
    let Submission { mut spec, uploads, programs } = submission;
    spec.check()?;
    if workers.is_empty() {
        return Err(Error::NoWorkers("none is configured".to_owned()));
    }
    let failed = |error| Error::files(format!("looking at the output {}", spec.output), error);
    if files.stat(&spec.output).await.map_err(failed)?.is_some() {
        return Err(Error::OutputExists(spec.output));
    }
    let splits = plan(files.as_ref(), &mut spec, &programs).await?;
    prepare(files.as_ref(), &spec.output, uploads).await?;
    let (news, inbox) = mpsc::channel(1024);
    let limits = Limits {
        attempts: spec.attempts.max(1),
        silence: spec.silence,
        alone: ALONE,
        skip: spec.skip,
        backups: spec.backups,
        patience: PATIENCE,
        delay: DELAY,
    };
    let hosts = vec![Vec::new(); splits.len()];
    let mut job = Job {
        scheduler: Scheduler::new(hosts, spec.reduces, limits),
        encoded: spec.encode(),
        world: world.clone(),
        files: files.clone(),
        peers: peers.clone(),
        workers: workers.to_vec(),
        spec,
        id: world.dice.roll(),
        splits,
        news,
        began: now,
        state: State::new(world.clock.now()),
    };
    let driven = job.drive(inbox, &watch.progress, &watch.page).await;
    let finished = match driven {
        Ok(()) => finish(&mut job, files.as_ref(), watch).await,
        Err(error) => Err(error),
    };
    let last = if finished.is_ok() { Phase::Done } else { Phase::Failed };
    job.show(last, &watch.progress, &watch.page);
    job.end().await;
    if finished.is_err() {
        // So that the job can be submitted again; the directory was ours from the start.
        discard(files.as_ref(), &job.spec.output).await;
    }
    finished
}

/// What is read by which map; ranges of keys, if the job wants them, are put into its description.
async fn plan(
    files: &dyn Files,
    spec: &mut JobSpec,
    programs: &Programs,
) -> Result<Vec<Split>, Error> {
    let choice = Choice { hidden: spec.hidden, nested: spec.nested };
    let input = plan::input_files(files, &spec.inputs, choice).await?;
    let cutting =
        Cutting { target: spec.split_bytes, rule: spec.records.clone(), together: spec.together };
    let splits = plan::splits(&input, &cutting);
    if let (Program::Native { name, arguments }, None) = (&spec.program, &spec.shuffle) {
        let job = programs.make(name, arguments)?;
        spec.shuffle = sample::ranges(files, &job, spec, &splits).await?;
    }
    Ok(splits)
}

/// Where an attempt writes.
fn temporary(spec: &JobSpec, task: Task, attempt: u32) -> String {
    format!("{}/{TEMPORARY}/part-{:05}-{attempt}", spec.output, number(task))
}

/// What its output is called in the end.
fn part(spec: &JobSpec, task: Task) -> String {
    let ending = if spec.gzip { ".gz" } else { "" };
    format!("{}/part-{:05}{ending}", spec.output, number(task))
}

fn number(task: Task) -> u32 {
    match task {
        Task::Map(number) | Task::Reduce(number) => number,
    }
}

async fn discard(files: &dyn Files, output: &str) {
    if let Err(error) = files.remove(output).await {
        tracing::warn!(output, %error, "the output of a failed job stays behind");
    }
}

/// Makes the output directory and what the tasks need in it.
async fn prepare(files: &dyn Files, output: &str, uploads: Vec<Upload>) -> Result<(), Error> {
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

async fn finish(job: &mut Job, files: &dyn Files, watch: &Watch) -> Result<Summary, Error> {
    watch.progress.send_replace(job.progress(Phase::Finishing));
    let output = &job.spec.output;
    let failed = |error| Error::files(format!("finishing the output {output}"), error);
    files.remove(&format!("{output}/{TEMPORARY}")).await.map_err(failed)?;
    let ino = files.create(&format!("{output}/_SUCCESS")).await.map_err(failed)?;
    files.finish(ino).await.map_err(failed)?;
    let tally = job.scheduler.tally();
    Ok(Summary {
        counters: job.counters(),
        maps: job.splits.len() as u32,
        reduces: job.spec.reduces,
        failures: tally.failures,
        backups: (tally.backups, tally.backups_won),
        elapsed: job.world.clock.now().since(job.began),
    })
}
