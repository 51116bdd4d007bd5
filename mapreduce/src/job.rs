//! A job from its submission to `_SUCCESS`: plans, tells its machine what happens and does what it says through the
//! workers, and puts the output in its place. How a task does its work is not known here.
//!
//! With an election ([`Cluster::ballots`]) all that the machine is told is journalled, and a standby goes on where a
//! lost coordinator was ([`resume`]).

mod attempt;
mod drive;
mod feed;
pub(crate) mod machine;
pub(crate) mod output;
mod show;
mod standbys;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;
use world::World;

use crate::{
    api::Programs,
    counters::Counters,
    error::Error,
    failover::{
        ballots::{Ballots, Term},
        journal::{Begin, Entry, Journal},
    },
    files::Files,
    input::{
        near::Machines,
        plan::{self, Choice, Cutting, Split},
    },
    native::sample,
    peers::{Peers, Place},
    progress::{Phase, Progress, Skip, View},
    scheduler::Event,
    spec::{JobSpec, Program},
};
use drive::Job;
use machine::Machine;

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

/// What coordinators and workers reach. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// The file system.
    pub files: Arc<dyn Files>,
    /// The workers that can be reached from here.
    pub peers: Peers,
    /// Where the coordinators of jobs are elected; none: a job ends with the process that submitted it.
    pub ballots: Option<Arc<dyn Ballots>>,
}

/// Who works for a job.
#[derive(Clone)]
pub struct Crew {
    /// The job's number.
    pub job: u64,
    /// How its workers are reached.
    pub peers: Peers,
    /// Where they are.
    pub workers: Vec<Place>,
}

/// Who watches a job.
#[derive(Clone, Default)]
pub struct Watch {
    /// How far it is, for a line.
    pub progress: watch::Sender<Progress>,
    /// More of it, for a page.
    pub page: watch::Sender<View>,
    /// Who can be asked for more still, once it has begun.
    pub crew: watch::Sender<Option<Crew>>,
}

/// Where [`Upload`]s of a job with this output directory lie while it runs.
#[must_use]
pub fn upload_path(output: &str, name: &str) -> String {
    output::upload_path(output, name)
}

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
    /// Records that were left out.
    pub skips: Vec<Skip>,
    /// From submission to `_SUCCESS`.
    pub elapsed: Duration,
}

/// Runs a job with the workers at `workers` and tells how far it is through `watch`.
///
/// # Errors
/// What was wrong with the job, its input or its output, or why a task failed for good: the output directory is then
/// removed again. [`Error::Deposed`] if another coordinator leads the job by now: it goes on.
pub async fn run(
    world: &World,
    cluster: &Cluster,
    workers: &[Place],
    submission: Submission,
    watch: &Watch,
) -> Result<Summary, Error> {
    watch.progress.send_replace(Progress::default());
    let began = world.clock.now();
    let Submission { mut spec, uploads, programs } = submission;
    spec.check()?;
    if workers.is_empty() {
        return Err(Error::NoWorkers("none is configured".to_owned()));
    }
    let files = &cluster.files;
    let failed = |error| Error::files(format!("looking at the output {}", spec.output), error);
    if files.stat(&spec.output).await.map_err(failed)?.is_some() {
        return Err(Error::OutputExists(spec.output));
    }
    let mut splits = plan(files.as_ref(), &mut spec, &programs).await?;
    Machines::of(workers).find(files.as_ref(), &mut splits).await?;
    let id = world.dice.roll();
    let crew = Crew { job: id, peers: cluster.peers.clone(), workers: workers.to_vec() };
    watch.crew.send_replace(Some(crew));
    let candidacy = match &cluster.ballots {
        Some(ballots) => Some(ballots.stand(id, &format!("job {}", spec.name)).await?),
        None => None,
    };
    let term = candidacy.as_ref().map(|candidacy| candidacy.term()).unwrap_or_default();
    let places = workers.iter().map(|place| place.0.clone()).collect();
    let begin = Begin::new(id, spec.encode(), splits, places);
    let machine = Machine::new(&spec, &begin.splits, &begin.workers);
    let mut job = Job::new(world, cluster, (spec, begin), machine, term);
    job.since = began;
    let done = match begin_output(&mut job, uploads).await {
        Ok(()) => lead(job, watch, Ok(Vec::new())).await,
        Err(error) => Err(error),
    };
    if let Some(candidacy) = candidacy {
        candidacy.resign().await;
    }
    done
}

/// Goes on where a lost coordinator was: `machine` was told what that one journalled, up to there.
pub(crate) async fn resume(
    world: &World,
    cluster: &Cluster,
    term: Term,
    (begin, machine, (after, length)): (Begin, Machine, (Term, u64)),
) -> Result<Summary, Error> {
    let spec = JobSpec::decode(&begin.spec)?;
    let first = Entry::Continued { after, length };
    let journal = Journal::create(&cluster.files, &spec.output, term, &first).await?;
    let mut job = Job::new(world, cluster, (spec, begin), machine, term);
    job.journal = Some(journal);
    let first = job.hire().await.map(|()| vec![Event::Resumed]);
    lead(job, &Watch::default(), first).await
}

/// Has a standby stand by, then makes the output directory and the journal of a new job: nothing is seen of a job
/// that nobody would go on with.
async fn begin_output(job: &mut Job, uploads: Vec<Upload>) -> Result<(), Error> {
    let (files, output) = (job.cluster.files.clone(), job.spec.output.clone());
    let aside = output::aside(&output, job.id);
    let begun = async {
        job.hire().await?;
        output::prepare(files.as_ref(), &aside, uploads).await?;
        if job.is_journalled() {
            let first = job.first_entry();
            let journal = Journal::create(&files, &aside, job.term, &first).await?;
            job.journal = Some(journal.moved_to(&output));
        }
        output::place(files.as_ref(), &aside, &output).await
    };
    let begun = begun.await;
    if begun.is_err() {
        job.stop();
        match output::forget(files.as_ref(), &output, job.id).await {
            Ok(()) => job.end().await,
            // A standby removes it.
            Err(error) => tracing::warn!(%error, aside, "what was prepared for a job is left"),
        }
    }
    begun
}

/// Drives a job to its end, from its `first` events, if it came so far.
async fn lead(
    mut job: Job,
    watch: &Watch,
    first: Result<Vec<Event>, Error>,
) -> Result<Summary, Error> {
    let led = async {
        job.drive(watch, first?).await?;
        job.finish(watch).await
    };
    let finished = led.await;
    let last = if finished.is_ok() { Phase::Done } else { Phase::Failed };
    job.show(last, watch);
    job.stop();
    // All that is there is another coordinator's business.
    if matches!(finished, Err(Error::Deposed)) {
        return finished;
    }
    // As long as the journal is there, somebody sees to it.
    job.remember().await;
    let (files, output) = (job.cluster.files.as_ref(), &job.spec.output);
    let removed = match &finished {
        Ok(_) => output::tidy(files, output, job.id).await,
        // So that the job can be submitted again; the directory was ours from the start.
        Err(_) => output::discard(files, output, job.id).await,
    };
    if let Err(error) = &removed {
        tracing::warn!(%error, "something of a job that is over stays behind");
    }
    // One that can remove nothing has lost its session, and is replaced by a standby, which can.
    if removed.is_ok() || !job.is_journalled() {
        job.end().await;
    }
    if let Some(journal) = job.journal.take() {
        journal.close().await;
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
