//! A job from its submission to `_SUCCESS`: plans, asks the scheduler what to do, does it through the workers, and
//! puts the output in its place. How a task does its work is not known here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use world::{Task as Running, Time, World};

use crate::{
    counters::Counters,
    error::Error,
    files::Files,
    input::plan::{self, Choice, Cutting, Split},
    native::{Programs, sample},
    peers::{Peers, Place},
    progress::{Phase, Progress},
    proto::{self, MapRequest, ReduceRequest, Source},
    scheduler::{Effect, Event, Limits, Scheduler, Task, WorkerNo},
    spec::{JobSpec, Program},
};

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
    /// From submission to `_SUCCESS`.
    pub elapsed: Duration,
}

const TICK: Duration = Duration::from_millis(500);
const PING: Duration = Duration::from_secs(1);
/// How long a job waits for its first worker, or for another when all are lost.
const ALONE: Duration = Duration::from_secs(20);

/// What tasks tell the loop.
enum News {
    Event(Event, Option<proto::Counters>),
    Reading(WorkerNo, u64),
}

/// Ends its tasks when the job is dropped.
struct Tasks(Vec<Running>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Runs a job with the workers at `workers` and tells how far it is through `progress`.
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
    progress: &watch::Sender<Progress>,
) -> Result<Summary, Error> {
    let Submission { mut spec, uploads, programs } = submission;
    let began = world.clock.now();
    progress.send_replace(Progress::default());
    spec.check()?;
    if workers.is_empty() {
        return Err(Error::NoWorkers("none is configured".to_owned()));
    }
    let failed = |error| Error::files(format!("looking at the output {}", spec.output), error);
    if files.stat(&spec.output).await.map_err(failed)?.is_some() {
        return Err(Error::OutputExists(spec.output));
    }
    let choice = Choice { hidden: spec.hidden, nested: spec.nested };
    let input = plan::input_files(files.as_ref(), &spec.inputs, choice).await?;
    let cutting =
        Cutting { target: spec.split_bytes, rule: spec.records.clone(), together: spec.together };
    let splits = plan::splits(&input, &cutting);
    if let (Program::Native { name, arguments }, None) = (&spec.program, &spec.shuffle) {
        let job = programs.get(name)?;
        let of = (&spec, arguments.as_slice());
        let ranges = sample::ranges(files.as_ref(), job.as_ref(), of, &splits).await?;
        spec.shuffle = ranges;
    }
    let temporary = format!("{}/{TEMPORARY}", spec.output);
    let failed = |error| Error::files(format!("making the output {}", spec.output), error);
    files.make_directories(&temporary).await.map_err(failed)?;
    if let Err(error) = upload(files.as_ref(), &spec.output, uploads).await {
        discard(files.as_ref(), &spec.output).await;
        return Err(error);
    }
    let id = world.dice.roll();
    let (news, inbox) = mpsc::channel(1024);
    let limits = Limits { attempts: spec.attempts.max(1), silence: spec.silence, alone: ALONE };
    let mut job = Job {
        scheduler: Scheduler::new(splits.len() as u32, spec.reduces, limits),
        encoded: spec.encode(),
        world: world.clone(),
        files: files.clone(),
        peers: peers.clone(),
        workers: workers.to_vec(),
        spec,
        id,
        splits,
        news,
        tasks: Tasks(Vec::new()),
        counters: BTreeMap::new(),
        reading: BTreeMap::new(),
        began,
        maps_began: world.clock.now(),
    };
    let result = job.drive(inbox, progress).await;
    job.tasks.0.drain(..).for_each(|task| task.abort());
    job.end().await;
    let finished = match result {
        Ok(()) => job.finish(files.as_ref(), &temporary, progress).await,
        Err(error) => Err(error),
    };
    if finished.is_err() {
        // So that the job can be submitted again; the directory was ours from the start.
        discard(files.as_ref(), &job.spec.output).await;
    }
    finished
}

async fn discard(files: &dyn Files, output: &str) {
    if let Err(error) = files.remove(output).await {
        tracing::warn!(output, %error, "the output of a failed job stays behind");
    }
}

async fn upload(files: &dyn Files, output: &str, uploads: Vec<Upload>) -> Result<(), Error> {
    if uploads.is_empty() {
        return Ok(());
    }
    let failed = |error| Error::files(format!("giving the job's files to {output}"), error);
    files.make_directories(&format!("{output}/{TEMPORARY}/files")).await.map_err(failed)?;
    for Upload { name, bytes } in uploads {
        let ino = files.create(&upload_path(output, &name)).await.map_err(failed)?;
        let written = files.write(ino, 0, bytes).await;
        let finished = files.finish(ino).await;
        written.and(finished).map_err(failed)?;
    }
    Ok(())
}

struct Job {
    scheduler: Scheduler,
    encoded: Vec<u8>,
    world: World,
    files: Arc<dyn Files>,
    peers: Peers,
    workers: Vec<Place>,
    spec: JobSpec,
    id: u64,
    splits: Vec<Split>,
    news: mpsc::Sender<News>,
    tasks: Tasks,
    /// Of the attempt that counts, for each task.
    counters: BTreeMap<Task, Counters>,
    /// What running maps have read, for each worker.
    reading: BTreeMap<WorkerNo, u64>,
    began: Time,
    maps_began: Time,
}

impl Job {
    async fn drive(
        &mut self,
        mut inbox: mpsc::Receiver<News>,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Error> {
        for number in 0..self.workers.len() as u32 {
            self.watch(WorkerNo(number));
        }
        let mut tick = self.world.clock.now() + TICK;
        loop {
            let news = self.world.until(tick, inbox.recv()).await;
            let event = match news {
                Ok(Some(News::Event(event, counters))) => {
                    if let (Event::Done { task, .. }, Some(counters)) = (&event, counters) {
                        self.counters.insert(*task, (&counters).into());
                    }
                    event
                }
                Ok(Some(News::Reading(worker, bytes))) => {
                    self.reading.insert(worker, bytes);
                    Event::Heard { worker }
                }
                Ok(None) => return Err(Error::Spec("the job lost its own tasks".to_owned())),
                Err(_) => {
                    tick = self.world.clock.now() + TICK;
                    Event::Tick
                }
            };
            if let Event::Failed { task, reason, .. } = &event {
                tracing::warn!(%task, reason, "an attempt failed");
            }
            for effect in self.scheduler.handle(self.world.clock.now(), event) {
                match effect {
                    Effect::Start { worker, task, attempt } => self.start(worker, task, attempt),
                    Effect::Finished => return Ok(()),
                    Effect::GiveUp { task: Some(task), attempts, reason } => {
                        return Err(Error::Task { task: task.to_string(), attempts, reason });
                    }
                    Effect::GiveUp { task: None, .. } => {
                        let places: Vec<_> = self.workers.iter().map(ToString::to_string).collect();
                        return Err(Error::NoWorkers(places.join(", ")));
                    }
                }
            }
            progress.send_replace(self.progress());
        }
    }

    /// Keeps asking a worker whether it lives.
    fn watch(&mut self, worker: WorkerNo) {
        let (world, news, job) = (self.world.clone(), self.news.clone(), self.id);
        let service = self.peers.get(&self.workers[worker.0 as usize]);
        let task = self.world.spawn("job-watch", async move {
            let service = match service {
                Ok(service) => service,
                Err(error) => return tracing::warn!(%error, "a worker cannot be used"),
            };
            loop {
                // Both, every time: a worker that was given up is taken back when it answers again.
                if let Ok(hello) = service.hello().await {
                    let joined = Event::Joined { worker, slots: hello.slots };
                    if news.send(News::Event(joined, None)).await.is_err() {
                        return;
                    }
                    if let Ok(reply) = service.ping(job).await {
                        let _ = news.send(News::Reading(worker, reply.bytes)).await;
                    }
                }
                world.clock.sleep(PING).await;
            }
        });
        self.tasks.0.push(task);
    }

    fn start(&mut self, worker: WorkerNo, task: Task, attempt: u32) {
        let place = self.workers[worker.0 as usize].clone();
        tracing::debug!(%place, %task, attempt, "an attempt starts");
        let news = self.news.clone();
        let service = self.peers.get(&place);
        let part = match task {
            Task::Map(number) | Task::Reduce(number) => number,
        };
        let output = &self.spec.output;
        let temporary = format!("{output}/{TEMPORARY}/part-{part:05}-{attempt}");
        let ending = if self.spec.gzip { ".gz" } else { "" };
        let named = format!("{output}/part-{part:05}{ending}");
        let writes = matches!(task, Task::Reduce(_)) || self.spec.reduces == 0;
        let rename = writes.then(|| (self.files.clone(), temporary.clone(), named));
        let work = match task {
            Task::Map(map) => Err(MapRequest {
                job: self.id,
                map,
                attempt,
                spec: self.encoded.clone(),
                pieces: self.splits[map as usize].pieces.clone(),
                temporary,
                skip: Vec::new(),
            }),
            Task::Reduce(reduce) => Ok(self.reduce(reduce, attempt, temporary)),
        };
        let running = self.world.spawn("job-attempt", async move {
            let answer = match (service, work) {
                (Err(error), _) => Err(error),
                (Ok(service), Err(map)) => service
                    .map(map)
                    .await
                    .map(|reply| (reply.failed, reply.sizes, vec![], reply.counters)),
                (Ok(service), Ok(reduce)) => {
                    let reply = service.reduce(reduce).await;
                    reply.map(|reply| (reply.failed, vec![], reply.lost, reply.counters))
                }
            };
            let answer = match (answer, rename) {
                (Ok((failed, sizes, lost, counters)), Some((files, from, to)))
                    if failed.is_empty() =>
                {
                    let failed = match files.rename(&from, &to).await {
                        Ok(()) => failed,
                        Err(error) => format!("naming {to}: {error}"),
                    };
                    Ok((failed, sizes, lost, counters))
                }
                (answer, _) => answer,
            };
            let (event, counters) = match answer {
                Ok((failed, sizes, _, counters)) if failed.is_empty() => {
                    (Event::Done { worker, task, attempt, sizes }, counters)
                }
                Ok((reason, _, lost, _)) => {
                    let reason = format!("on {place}: {reason}");
                    (Event::Failed { worker, task, attempt, reason, lost }, None)
                }
                Err(error) => {
                    tracing::warn!(%place, %task, %error, "a worker is lost");
                    (Event::Lost { worker }, None)
                }
            };
            // The job may be over already.
            let _ = news.send(News::Event(event, counters)).await;
        });
        self.tasks.0.push(running);
    }

    fn reduce(&self, reduce: u32, attempt: u32, temporary: String) -> ReduceRequest {
        let source = |(worker, map, attempt, size): (WorkerNo, u32, u32, u64)| Source {
            place: self.workers[worker.0 as usize].0.clone(),
            map,
            attempt,
            size,
        };
        ReduceRequest {
            job: self.id,
            reduce,
            attempt,
            sources: self.scheduler.sources(reduce).into_iter().map(source).collect(),
            temporary,
            spec: self.encoded.clone(),
        }
    }

    fn progress(&self) -> Progress {
        let (maps, reduces) = self.scheduler.counts();
        let all = self.splits.len() as u32;
        let total: u64 = self.splits.iter().map(|split| split.bytes).sum();
        let done = self.counters.iter().filter(|(task, _)| matches!(task, Task::Map(_)));
        let done: u64 = done.map(|(_, counters)| counters.input_bytes()).sum();
        let reading: u64 = if maps == all { 0 } else { self.reading.values().sum() };
        let bytes = (done + reading).min(total);
        let now = self.world.clock.now();
        let mapping = now.since(self.maps_began);
        let speed = (u128::from(bytes) * 1000 / mapping.as_millis().max(1)) as u64;
        let eta = (speed > 0 && maps < all).then(|| Duration::from_secs((total - bytes) / speed));
        Progress {
            phase: if maps < all { Phase::Map } else { Phase::Reduce },
            maps: (maps, all),
            reduces: (reduces, self.spec.reduces),
            bytes: (bytes, total),
            workers: self.scheduler.workers(),
            failures: self.scheduler.failures(),
            elapsed: now.since(self.began),
            bytes_per_second: speed,
            eta,
        }
    }

    /// Lets the workers forget the job; one that does not hear it forgets by itself in time.
    async fn end(&self) {
        for place in &self.workers {
            if let Ok(service) = self.peers.get(place)
                && let Err(error) = service.end(self.id).await
            {
                tracing::debug!(%place, %error, "a worker was not told that the job is over");
            }
        }
    }

    async fn finish(
        &self,
        files: &dyn Files,
        temporary: &str,
        progress: &watch::Sender<Progress>,
    ) -> Result<Summary, Error> {
        let last = self.progress();
        progress.send_replace(Progress { phase: Phase::Finishing, ..last });
        let failed =
            |error| Error::files(format!("finishing the output {}", self.spec.output), error);
        files.remove(temporary).await.map_err(failed)?;
        let success = format!("{}/_SUCCESS", self.spec.output);
        let ino = files.create(&success).await.map_err(failed)?;
        files.finish(ino).await.map_err(failed)?;
        let mut counters = Counters::default();
        self.counters.values().for_each(|more| counters.merge(more));
        let elapsed = self.world.clock.now().since(self.began);
        progress.send_replace(Progress { phase: Phase::Done, elapsed, ..last });
        Ok(Summary {
            counters,
            maps: self.splits.len() as u32,
            reduces: self.spec.reduces,
            failures: self.scheduler.failures(),
            elapsed,
        })
    }
}
