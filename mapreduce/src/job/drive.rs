//! The loop of a running job: tells the scheduler what happens and does what it says. What a task does, and
//! how the job began, is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use world::{Task as Running, Time, World};

use super::attempt::{self, Ask, Told};
use crate::{
    counters::{Counters, name},
    error::Error,
    files::Files,
    input::plan::Split,
    peers::{Peers, Place},
    progress::{Failure, Phase, Progress, View},
    proto::PingReply,
    scheduler::{Effect, Event, Scheduler, Task, WorkerNo},
    service::Service,
    spec::JobSpec,
};

const TICK: Duration = Duration::from_millis(250);
const PING: Duration = Duration::from_millis(500);
/// Failures that are remembered for whoever looks.
const FAILURES: usize = 20;
/// Rates that are remembered, one for each [`RATE_EVERY`] or a multiple of it.
const RATES: usize = 120;
const RATE_EVERY: Duration = Duration::from_secs(1);
/// Attempts that are shown.
const SHOWN: usize = 100;

/// What tasks tell the loop.
pub(super) enum News {
    Event(Event, Option<Counters>),
    Pinged(WorkerNo, PingReply),
}

/// Ends its tasks when the job is dropped.
#[derive(Default)]
struct Tasks(Vec<Running>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A job under way.
pub(super) struct Job {
    pub(super) scheduler: Scheduler,
    pub(super) world: World,
    pub(super) files: Arc<dyn Files>,
    pub(super) peers: Peers,
    pub(super) workers: Vec<Place>,
    pub(super) spec: JobSpec,
    pub(super) encoded: Vec<u8>,
    pub(super) id: u64,
    pub(super) splits: Vec<Split>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) began: Time,
    pub(super) state: State,
}

/// What the loop keeps in mind.
pub(super) struct State {
    tasks: Tasks,
    /// Of the attempt that counts, for each task.
    counters: BTreeMap<Task, Counters>,
    /// Of attempts that are done, until the scheduler has decided.
    pending: BTreeMap<(Task, u32), Counters>,
    /// What running attempts have read, for each worker.
    reading: BTreeMap<WorkerNo, u64>,
    failures: VecDeque<Failure>,
    /// Bytes a second, at equal distances.
    rates: Vec<u64>,
    rate_every: Duration,
    rated: (Time, u64),
    maps_began: Time,
    /// What the workers are given to show to others.
    view: watch::Sender<Arc<Vec<u8>>>,
    killed: bool,
}

impl State {
    pub(super) fn new(now: Time) -> Self {
        Self {
            tasks: Tasks::default(),
            counters: BTreeMap::new(),
            pending: BTreeMap::new(),
            reading: BTreeMap::new(),
            failures: VecDeque::new(),
            rates: Vec::new(),
            rate_every: RATE_EVERY,
            rated: (now, 0),
            maps_began: now,
            view: watch::Sender::default(),
            killed: false,
        }
    }
}

impl Job {
    pub(super) async fn drive(
        &mut self,
        mut inbox: mpsc::Receiver<News>,
        progress: &watch::Sender<Progress>,
        page: &watch::Sender<View>,
    ) -> Result<(), Error> {
        for number in 0..self.workers.len() as u32 {
            self.watch(WorkerNo(number));
        }
        let mut tick = self.world.clock.now() + TICK;
        loop {
            let event = match self.world.until(tick, inbox.recv()).await {
                Ok(Some(news)) => self.hear(news),
                Ok(None) => return Err(Error::Spec("the job lost its own tasks".to_owned())),
                Err(_) => {
                    tick = self.world.clock.now() + TICK;
                    self.show(Phase::Map, progress, page);
                    vec![Event::Tick]
                }
            };
            if self.state.killed {
                return Err(Error::Killed);
            }
            for event in event {
                let failure = self.failure(&event);
                let before = self.scheduler.tally().failures;
                let effects = self.scheduler.handle(self.world.clock.now(), event);
                // What was given up on purpose is no failure.
                if self.scheduler.tally().failures > before {
                    self.note(failure);
                }
                for effect in effects {
                    if let Some(done) = self.act(effect) {
                        return done;
                    }
                }
            }
            self.state.pending.clear();
            progress.send_replace(self.progress(Phase::Map));
        }
    }

    fn hear(&mut self, news: News) -> Vec<Event> {
        match news {
            News::Event(event, counters) => {
                if let (Event::Done { task, attempt, .. }, Some(counters)) = (&event, counters) {
                    self.state.pending.insert((*task, *attempt), counters);
                }
                vec![event]
            }
            News::Pinged(worker, reply) => {
                self.state.killed |= reply.killed;
                let read = reply.attempts.iter().filter(|one| !one.reduce).map(|one| one.read);
                self.state.reading.insert(worker, read.sum());
                let mut events = vec![Event::Heard { worker }];
                events.extend(reply.attempts.iter().map(|one| Event::Progress {
                    worker,
                    task: attempt::task(one.reduce, one.number),
                    attempt: one.attempt,
                    thousandths: attempt::thousandths(one),
                }));
                events
            }
        }
    }

    fn failure(&self, event: &Event) -> Option<Failure> {
        let Event::Failed { worker, task, attempt, reason, .. } = event else { return None };
        Some(Failure {
            task: task.to_string(),
            attempt: *attempt,
            worker: self.place(*worker),
            reason: reason.clone(),
        })
    }

    fn note(&mut self, failure: Option<Failure>) {
        let Some(failure) = failure else { return };
        let Failure { task, attempt, reason, .. } = &failure;
        tracing::warn!(task, attempt, reason, "an attempt failed");
        if self.state.failures.len() == FAILURES {
            self.state.failures.pop_front();
        }
        self.state.failures.push_back(failure);
    }

    fn place(&self, worker: WorkerNo) -> String {
        self.workers.get(worker.0 as usize).map(ToString::to_string).unwrap_or_default()
    }

    /// Does what the scheduler says; the result once the job is over.
    fn act(&mut self, effect: Effect) -> Option<Result<(), Error>> {
        match effect {
            Effect::Start { worker, task, attempt, skip } => {
                self.start(worker, (task, attempt), skip);
            }
            Effect::Accept { task, attempt } => {
                if let Some(counters) = self.state.pending.remove(&(task, attempt)) {
                    self.state.counters.insert(task, counters);
                }
            }
            Effect::Commit { task, attempt } => self.commit(task, attempt),
            Effect::Cancel { worker, task, attempt } => self.cancel(worker, task, attempt),
            Effect::Finished => return Some(Ok(())),
            Effect::GiveUp { task: Some(task), attempts, reason } => {
                let task = task.to_string();
                return Some(Err(Error::Task { task, attempts, reason }));
            }
            Effect::GiveUp { task: None, .. } => {
                let places: Vec<_> = self.workers.iter().map(ToString::to_string).collect();
                return Some(Err(Error::NoWorkers(places.join(", "))));
            }
        }
        None
    }

    fn service(&self, worker: WorkerNo) -> Result<Arc<dyn Service>, Error> {
        self.peers.get(&self.workers[worker.0 as usize])
    }

    fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let task = self.world.spawn(name, work);
        self.state.tasks.0.push(task);
    }

    /// Keeps asking a worker whether it lives, and gives it what others may want to know of the job.
    fn watch(&mut self, worker: WorkerNo) {
        let (world, news, job) = (self.world.clone(), self.news.clone(), self.id);
        let view = self.state.view.subscribe();
        let service = self.service(worker);
        self.spawn("job-watch", async move {
            let service = match service {
                Ok(service) => service,
                Err(error) => return tracing::warn!(%error, "a worker cannot be used"),
            };
            let mut incarnation = None;
            loop {
                // Both, every time: a worker that was given up is taken back when it answers again.
                if let Ok(hello) = service.hello().await {
                    // What an earlier process of it had is gone.
                    if incarnation.is_some_and(|known| known != hello.incarnation) {
                        let _ = news.send(News::Event(Event::Lost { worker }, None)).await;
                    }
                    incarnation = Some(hello.incarnation);
                    let joined = Event::Joined { worker, slots: hello.slots, node: None };
                    if news.send(News::Event(joined, None)).await.is_err() {
                        return;
                    }
                    let view = view.borrow().as_ref().clone();
                    if let Ok(reply) = service.ping(job, view).await {
                        let _ = news.send(News::Pinged(worker, reply)).await;
                    }
                }
                world.clock.sleep(PING).await;
            }
        });
    }

    fn start(&mut self, worker: WorkerNo, (task, attempt): (Task, u32), skip: Vec<u64>) {
        let place = self.workers[worker.0 as usize].clone();
        tracing::debug!(%place, %task, attempt, "an attempt starts");
        let ask = match task {
            Task::Map(map) => {
                let pieces = self.splits[map as usize].pieces.clone();
                Ask::map(self, (map, attempt), pieces, skip)
            }
            Task::Reduce(reduce) => Ask::reduce(self, (reduce, attempt)),
        };
        let (news, service) = (self.news.clone(), self.service(worker));
        self.spawn("job-attempt", async move {
            let told = match service {
                Ok(service) => ask.run(service.as_ref()).await,
                Err(error) => Err(error),
            };
            let (event, counters) = match told {
                Ok(Told::Done { sizes, counters }) => {
                    (Event::Done { worker, task, attempt, sizes }, Some(counters))
                }
                Ok(Told::Failed { reason, lost, record }) => {
                    let reason = format!("on {place}: {reason}");
                    (Event::Failed { worker, task, attempt, reason, lost, record }, None)
                }
                Err(error) => {
                    tracing::warn!(%place, %task, %error, "a worker is lost");
                    (Event::Lost { worker }, None)
                }
            };
            // The job may be over already.
            let _ = news.send(News::Event(event, counters)).await;
        });
    }

    fn cancel(&mut self, worker: WorkerNo, task: Task, attempt: u32) {
        let (service, request) = (self.service(worker), attempt::cancel(self.id, task, attempt));
        self.spawn("job-cancel", async move {
            if let Ok(service) = service
                && let Err(error) = service.cancel(request).await
            {
                tracing::debug!(%error, "an attempt was not told that it is not wanted any more");
            }
        });
    }

    /// Gives the output of an attempt its name.
    fn commit(&mut self, task: Task, attempt: u32) {
        let (from, to) =
            (super::temporary(&self.spec, task, attempt), super::part(&self.spec, task));
        let (files, news) = (self.files.clone(), self.news.clone());
        self.spawn("job-commit", async move {
            let event = match files.rename(&from, &to).await {
                Ok(()) => Event::Committed { task, attempt },
                Err(error) => Event::Failed {
                    worker: WorkerNo(u32::MAX),
                    task,
                    attempt,
                    reason: format!("naming {to}: {error}"),
                    lost: Vec::new(),
                    record: None,
                },
            };
            let _ = news.send(News::Event(event, None)).await;
        });
    }

    pub(super) fn progress(&self, phase: Phase) -> Progress {
        let (maps, reduces) = self.scheduler.counts();
        let all = self.splits.len() as u32;
        let total: u64 = self.splits.iter().map(|split| split.bytes).sum();
        let done = self.state.counters.iter().filter(|(task, _)| matches!(task, Task::Map(_)));
        let done: u64 = done.map(|(_, counters)| counters.input_bytes()).sum();
        let reading: u64 = if maps == all { 0 } else { self.state.reading.values().sum() };
        let bytes = (done + reading).min(total);
        let now = self.world.clock.now();
        let mapping = now.since(self.state.maps_began);
        let speed = (u128::from(bytes) * 1000 / mapping.as_millis().max(1)) as u64;
        let eta = (speed > 0 && maps < all).then(|| Duration::from_secs((total - bytes) / speed));
        let phase = match phase {
            Phase::Map if maps == all => Phase::Reduce,
            phase => phase,
        };
        let tally = self.scheduler.tally();
        Progress {
            phase,
            maps: (maps, all),
            reduces: (reduces, self.spec.reduces),
            bytes: (bytes, total),
            workers: self.scheduler.workers(),
            failures: tally.failures,
            backups: tally.backups,
            elapsed: now.since(self.began),
            bytes_per_second: speed,
            eta,
        }
    }

    /// All counters of attempts that count.
    pub(super) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        self.state.counters.values().for_each(|more| all.merge(more));
        all
    }

    /// What others may want to know.
    pub(super) fn show(
        &mut self,
        phase: Phase,
        progress: &watch::Sender<Progress>,
        page: &watch::Sender<View>,
    ) {
        let now = self.progress(phase);
        progress.send_replace(now);
        self.rate(now.bytes.0);
        let mut attempts = self.scheduler.running(self.world.clock.now());
        attempts.truncate(SHOWN);
        let counters = self.counters();
        let view = View {
            id: format!("{:016x}", self.id),
            name: self.spec.name.clone(),
            output: self.spec.output.clone(),
            skipped: counters.framework(name::SKIPPED),
            progress: now,
            counters,
            attempts: attempts
                .into_iter()
                .map(|(worker, task, attempt, thousandths, since)| crate::progress::Attempt {
                    task: task.to_string(),
                    attempt,
                    worker: self.place(worker),
                    thousandths,
                    since,
                })
                .collect(),
            failures: self.state.failures.iter().cloned().collect(),
            rates: self.state.rates.clone(),
            rate_every: self.state.rate_every,
        };
        self.state.view.send_replace(Arc::new(serde_json::to_vec(&view).unwrap_or_default()));
        page.send_replace(view);
    }

    /// Notes how fast it goes; when there are many notes, two become one.
    fn rate(&mut self, bytes: u64) {
        let now = self.world.clock.now();
        let (then, before) = self.state.rated;
        if now.since(then) < self.state.rate_every {
            return;
        }
        let millis = now.since(then).as_millis().max(1);
        self.state.rates.push((u128::from(bytes.saturating_sub(before)) * 1000 / millis) as u64);
        self.state.rated = (now, bytes);
        if self.state.rates.len() > RATES {
            let pairs = self.state.rates.chunks(2);
            self.state.rates =
                pairs.map(|two| two.iter().sum::<u64>() / two.len() as u64).collect();
            self.state.rate_every *= 2;
        }
    }

    /// Lets the workers forget the job; one that does not hear it forgets by itself in time.
    pub(super) async fn end(&mut self) {
        self.state.tasks.0.drain(..).for_each(|task| task.abort());
        let view = self.state.view.borrow().as_ref().clone();
        for place in &self.workers {
            if let Ok(service) = self.peers.get(place)
                && let Err(error) = service.end(self.id, view.clone()).await
            {
                tracing::debug!(%place, %error, "a worker was not told that the job is over");
            }
        }
    }
}
