//! Running a job: the native ones of `plumeria mr run`, and the way that all jobs take to the workers, of a
//! cluster or of this process.

use std::{path::PathBuf, time::Duration};

use mapreduce::{
    JobSpec, Page, Place, Program, Programs, Rule, Submission, Summary, Upload, Watch,
};
use world::World;

use super::{kind, place::Places, show};
use crate::{
    args::{Job, Native},
    config::Client,
    failure::{Failure, Kind, OrFail as _, Outcome},
    output::Output,
    role::{FileSystem, Remote, Tie},
};

pub(super) async fn run(world: &World, job: &Job, timeout: Duration, output: Output) -> Outcome {
    let (native, name, arguments) = match job {
        Job::Wordcount(native) => (native, "wordcount", vec![]),
        Job::Grep { pattern, native } => (native, "grep", vec![pattern.clone()]),
        Job::Index(native) => (native, "index", vec![]),
        Job::Sort { record_bytes, key_bytes, native } => {
            let key = match (key_bytes, record_bytes) {
                (Some(key), _) => key.to_string(),
                (None, Some(record)) => record.to_string(),
                (None, None) => usize::MAX.to_string(),
            };
            let kind = if record_bytes.is_some() { "fixed" } else { "lines" };
            (native, "sort", vec![key, kind.to_owned()])
        }
        Job::Urls(native) => (native, "urls", vec![]),
        Job::Links(native) => (native, "links", vec![]),
        Job::Vectors { terms, native } => (native, "vectors", vec![terms.to_string()]),
    };
    let records = match job {
        Job::Sort { record_bytes: Some(bytes), .. } => Rule::Fixed(*bytes),
        _ => Rule::Lines,
    };
    let programs = Programs::shipped();
    let own = Own { name: name.to_owned(), arguments, programs, crew: None };
    run_native(world, own, (native, records), (timeout, output)).await
}

/// A native job of this program.
pub(crate) struct Own {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) programs: Programs,
    /// Workers in this process; none: those of the cluster.
    pub(crate) crew: Option<u32>,
}

/// Runs a job of a binary of jobs.
pub(crate) async fn run_own(
    world: &World,
    own: Own,
    native: &Native,
    with: (Duration, Output),
) -> Outcome {
    let made = own.programs.make(&own.name, &own.arguments);
    let job = made.map_err(|error| Failure { kind: kind(&error), error: error.into() })?;
    let records = job.rule().unwrap_or(Rule::Lines);
    run_native(world, own, (native, records), with).await
}

async fn run_native(
    world: &World,
    Own { name, arguments, programs, crew }: Own,
    (native, records): (&Native, Rule),
    (timeout, output): (Duration, Output),
) -> Outcome {
    // Matching lines stay in the order of the input, unless they are asked for sorted.
    let reduces = native.reduces.unwrap_or(if name == "grep" { 0 } else { 4 });
    let Native { inputs, output: to, cluster, all_files, local, gzip, priority, page, .. } = native;
    let places = Places::of(inputs, to, *local)?;
    let spec = JobSpec {
        name: name.clone(),
        program: Program::Native { name: name.clone(), arguments },
        inputs: places.inputs,
        output: places.output,
        reduces,
        records,
        hidden: *all_files,
        gzip: *gzip,
        weight: mapreduce::weight(priority).unwrap_or(4),
        ..JobSpec::default()
    };
    let cluster = cluster.clone().or_else(|| places.source.map(|path| path.display().to_string()));
    let submission = Submission { spec, uploads: Vec::new(), programs };
    let target = if *local { Target::Here } else { Target::Cluster { cluster, crew } };
    let with = With { page: *page, timeout, output };
    let summary = submit(world, target, submission, with).await?;
    show::tell(&summary, &name, to, output);
    Ok(())
}

/// Where a job runs.
pub(super) enum Target {
    /// In this process, on its machine's files.
    Here,
    /// On the files of a cluster, with its workers or so many of this process.
    Cluster { cluster: Option<String>, crew: Option<u32> },
}

/// How a job is watched.
pub(super) struct With {
    /// The port of a status page.
    pub(super) page: Option<u16>,
    pub(super) timeout: Duration,
    pub(super) output: Output,
}

/// Runs a job and shows how far it is.
pub(super) async fn submit(
    world: &World,
    target: Target,
    submission: Submission,
    With { page, timeout, output }: With,
) -> Outcome<Summary> {
    let watch = Watch::default();
    let page = match page {
        None => None,
        Some(port) => {
            let address = world::Address::Tcp((std::net::Ipv4Addr::LOCALHOST, port).into());
            let page = Page::serve(world, &address, &watch).await;
            let page = page.or_fail(Kind::Failed, || "cannot show the job".into())?;
            output.line(&format!("the job is shown at {}", page.url()));
            Some(page)
        }
    };
    let bar = world.spawn("progress", show::show(watch.progress.subscribe(), output));
    let done = match target {
        Target::Here => here(world, submission, &watch).await,
        Target::Cluster { cluster, crew } => {
            let cluster =
                cluster.ok_or_else(|| Failure::usage("no cluster is named".to_owned()))?;
            on_cluster(world, (&cluster, crew), submission, timeout, &watch).await
        }
    };
    bar.abort();
    drop(page);
    done
}

async fn on_cluster(
    world: &World,
    (cluster, crew): (&str, Option<u32>),
    submission: Submission,
    timeout: Duration,
    watch: &Watch,
) -> Outcome<Summary> {
    let client = Client::find(cluster)?;
    let mut places: Vec<Place> =
        client.workers.iter().map(|peer| Place::from(&peer.address)).collect();
    if places.is_empty() && crew.is_none() {
        return Err(Failure::new(
            Kind::Failed,
            "the cluster has no workers: start some with `plumeria worker`",
        ));
    }
    let access = Remote::new(world, &client, wire::Role::Tool, 0)?.access(world);
    let file_system = FileSystem::open(world, &access, Tie::tool("mr"), false, timeout).await?;
    let reach = access.cluster(file_system.fs.clone(), file_system.registry.clone());
    let scratch = Scratch::new(world);
    let mut workers = Vec::new();
    if let Some(count) = crew {
        let programs = submission.programs.clone();
        workers = mapreduce::crew(world, &reach, (&scratch.0, count), programs)
            .await
            .or_fail(Kind::Failed, || "cannot start workers".into())?;
        places = workers.iter().map(|worker| worker.place().clone()).collect();
    }
    let done = mapreduce::run(world, &reach, &places, submission, watch).await;
    drop(workers);
    file_system.close(world, timeout).await?;
    finished(done)
}

fn finished(done: Result<Summary, mapreduce::Error>) -> Outcome<Summary> {
    done.map_err(|error| Failure { kind: kind(&error), error: error.into() })
        .map_err(|failure| failure.context("the job failed"))
}

/// A directory for the map output of a local job, removed when it is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(world: &World) -> Self {
        let name = format!("plumeria-mr-{}-{:08x}", std::process::id(), world.dice.roll() as u32);
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn here(world: &World, submission: Submission, watch: &Watch) -> Outcome<Summary> {
    let scratch = Scratch::new(world);
    finished(mapreduce::run_local(world, &scratch.0, submission, watch).await)
}

/// A file of this machine, to be put into the file system for the time of a job.
pub(super) fn upload(path: &str, name: &str) -> Outcome<Upload> {
    let bytes = std::fs::read(path)
        .or_fail(Kind::Usage, || format!("cannot read {path}, which is given along"))?;
    Ok(Upload { name: name.to_owned(), bytes: bytes.into() })
}
