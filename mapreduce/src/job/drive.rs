//! The loop of a running job: tells the machine what happens, makes that durable, and only then does what the machine
//! says. What a task does, and how the job began, is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use world::{Task as Running, Time, World};

use super::{
    Cluster, Summary, Watch,
    attempt::{self, Ask, Told},
    feed::{Feeds, Hungry},
    machine::Machine,
    output,
};
use crate::{
    counters::Counters,
    error::Error,
    failover::{
        ballots::Term,
        journal::{Begin, Entry, Journal},
    },
    history::History,
    input::{near::Machines, plan::Split},
    peers::Place,
    progress::Phase,
    proto::{self, PingReply, PingRequest},
    scheduler::{Effect, Event, Task, WorkerNo},
    service::Service,
    spec::JobSpec,
};

const TICK: Duration = Duration::from_millis(250);
const PING: Duration = Duration::from_millis(500);
/// The least time between two pings of a standby that has entries to read.
const SOON: Duration = Duration::from_millis(20);
const RATE_EVERY: Duration = Duration::from_secs(1);
/// News that wait for the loop, and that are taken at once.
const NEWS: usize = 1024;
/// Signs of life are told to the machine so often within the silence that makes a worker lost.
const SIGNS: u32 = 4;
/// Steps of progress that the machine is told of.
const STEP: u32 = 20;
/// Bytes of entries without effect that wait for the next commit.
const LAZY: usize = 64 << 10;

/// What tasks tell the loop.
pub(super) enum News {
    Event(Event, Option<Counters>),
    Pinged(WorkerNo, PingReply),
    /// A reduce that waits for maps was told more, or was not.
    Fed {
        hungry: Hungry,
        taken: bool,
        complete: bool,
    },
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
    pub(super) machine: Machine,
    /// Of the coordinator; 0: the job ends with this process.
    pub(super) term: Term,
    pub(super) journal: Option<Journal>,
    pub(super) world: World,
    pub(super) cluster: Cluster,
    pub(super) workers: Vec<Place>,
    machines: Machines,
    pub(super) spec: JobSpec,
    pub(super) encoded: Vec<u8>,
    pub(super) id: u64,
    pub(super) splits: Vec<Split>,
    news: mpsc::Sender<News>,
    pub(super) inbox: mpsc::Receiver<News>,
    /// When the job's own time was `base`, by this machine's clock.
    pub(super) since: Time,
    base: Time,
    pub(super) state: State,
}

/// What the loop keeps in mind; nothing of it decides what happens to tasks.
pub(super) struct State {
    tasks: Tasks,
    /// What running attempts have read, for each worker.
    pub(super) reading: BTreeMap<WorkerNo, u64>,
    /// Bytes a second, at equal distances.
    pub(super) rates: Vec<u64>,
    pub(super) rate_every: Duration,
    pub(super) rated: (Time, u64),
    pub(super) maps_began: Time,
    /// What the workers are given to show to others.
    pub(super) view: watch::Sender<Arc<Vec<u8>>>,
    /// Which workers are standbys, and how much of the journal there is.
    pub(super) standbys: watch::Sender<(Vec<WorkerNo>, u64)>,
    /// How far each standby is in the present journal.
    pub(super) followed: BTreeMap<WorkerNo, u64>,
    /// When the machine last heard of each worker.
    heard: BTreeMap<WorkerNo, Time>,
    /// The progress of running attempts that it was told of, for each worker.
    progress: BTreeMap<WorkerNo, BTreeMap<(Task, u32), u32>>,
    /// Reduces that wait for maps.
    pub(super) feeds: Feeds,
    /// What came while a standby held the loop up.
    pub(super) backlog: VecDeque<News>,
}

impl State {
    fn new(now: Time) -> Self {
        Self {
            tasks: Tasks::default(),
            reading: BTreeMap::new(),
            rates: Vec::new(),
            rate_every: RATE_EVERY,
            rated: (now, 0),
            maps_began: now,
            view: watch::Sender::default(),
            standbys: watch::Sender::default(),
            followed: BTreeMap::new(),
            heard: BTreeMap::new(),
            progress: BTreeMap::new(),
            feeds: Feeds::default(),
            backlog: VecDeque::new(),
        }
    }
}

impl Job {
    pub(super) fn new(
        world: &World,
        cluster: &Cluster,
        (spec, begin): (JobSpec, Begin),
        machine: Machine,
        term: Term,
    ) -> Self {
        let (news, inbox) = mpsc::channel(NEWS);
        let base = machine.at();
        let workers: Vec<_> = begin.workers.into_iter().map(Place).collect();
        Self {
            machine,
            term,
            journal: None,
            world: world.clone(),
            cluster: cluster.clone(),
            machines: Machines::of(&workers),
            workers,
            spec,
            encoded: begin.spec,
            id: begin.job,
            splits: begin.splits,
            news,
            inbox,
            since: world.clock.now(),
            base,
            state: State::new(base),
        }
    }

    /// The job's own time: it began at 0 and goes on with another coordinator where the last one was.
    pub(super) fn now(&self) -> Time {
        self.base + self.world.clock.now().since(self.since)
    }

    /// Whether a standby can go on with it.
    pub(super) fn is_journalled(&self) -> bool {
        self.term != Term::default()
    }

    /// What the job is.
    pub(super) fn first_entry(&self) -> Entry {
        let workers = self.workers.iter().map(|place| place.0.clone()).collect();
        let begin = Begin::new(self.id, self.encoded.clone(), self.splits.clone(), workers);
        Entry::Begin(Box::new(begin))
    }

    /// Asks the workers who they are, and has one or two of them stand by.
    pub(super) async fn hire(&mut self) -> Result<(), Error> {
        for number in 0..self.workers.len() as u32 {
            self.watch(WorkerNo(number));
        }
        self.await_first_standby().await
    }

    pub(super) async fn drive(&mut self, watch: &Watch, first: Vec<Event>) -> Result<(), Error> {
        self.state.maps_began = self.now();
        let mut events: Vec<_> = first.into_iter().map(|event| (event, None)).collect();
        let mut tick = self.world.clock.now() + TICK;
        loop {
            if let Some(done) = self.tell(std::mem::take(&mut events)).await? {
                return done;
            }
            self.feed(false);
            watch.progress.send_replace(self.progress(Phase::Map));
            let next = match self.state.backlog.pop_front() {
                Some(news) => Ok(Some(news)),
                None => self.world.until(tick, self.inbox.recv()).await,
            };
            match next {
                Ok(Some(news)) => self.hear(news, &mut events)?,
                Ok(None) => return Err(Error::Spec("the job lost its own tasks".to_owned())),
                Err(_) => {
                    tick = self.world.clock.now() + TICK;
                    self.show(Phase::Map, watch);
                    self.choose_standbys();
                    self.feed(true);
                    events.push((Event::Tick, None));
                }
            }
            // What else has come shares the commit.
            while events.len() < NEWS
                && let Ok(news) = self.inbox.try_recv()
            {
                self.hear(news, &mut events)?;
            }
            self.wait_for_standbys().await?;
        }
    }

    /// Tells the machine; what it says is done when what it was told is durable. The result once the job is over.
    async fn tell(
        &mut self,
        events: Vec<(Event, Option<Counters>)>,
    ) -> Result<Option<Result<(), Error>>, Error> {
        let mut effects = Vec::new();
        for (event, counters) in events {
            if let Event::Failed { task, attempt, reason, .. } = &event {
                tracing::warn!(%task, attempt, reason, "an attempt failed");
            }
            let at = self.now().max(self.machine.at());
            let kept = self.journal.is_some().then(|| (event.clone(), counters.clone()));
            effects.extend(self.machine.apply(at, event, counters));
            if let (Some(journal), Some((event, counters))) = (&mut self.journal, kept) {
                let digest = self.machine.digest();
                journal.append(&Entry::Told { at: at.0, event, counters, digest })?;
            }
        }
        if let Some(journal) = &mut self.journal
            && (!effects.is_empty() || journal.waiting() > LAZY)
        {
            journal.commit().await?;
            let durable = journal.durable();
            self.state.standbys.send_modify(|(_, length)| *length = durable);
        }
        Ok(effects.into_iter().find_map(|effect| self.act(effect)))
    }

    fn hear(
        &mut self,
        news: News,
        events: &mut Vec<(Event, Option<Counters>)>,
    ) -> Result<(), Error> {
        match news {
            News::Event(Event::Joined { worker, incarnation, slots, node }, _) => {
                if !self.machine.scheduler.has(worker, incarnation) {
                    let joined = Event::Joined { worker, incarnation, slots, node };
                    events.push((joined, None));
                }
            }
            News::Event(event, counters) => events.push((event, counters)),
            News::Fed { hungry, taken, complete } => {
                self.state.feeds.heard(hungry, taken, complete);
            }
            News::Pinged(worker, mut reply) => {
                if reply.term > self.term.0 {
                    return Err(Error::Deposed);
                }
                if reply.killed {
                    return Err(Error::Killed);
                }
                self.note_followed(worker, reply.followed.take())?;
                let read = reply.attempts.iter().filter(|one| !one.reduce).map(|one| one.read);
                self.state.reading.insert(worker, read.sum());
                self.note_signs(worker, &reply, events);
            }
        }
        Ok(())
    }

    /// What of a ping the machine is told: all that it is told is journalled, so not every one.
    fn note_signs(
        &mut self,
        worker: WorkerNo,
        reply: &PingReply,
        events: &mut Vec<(Event, Option<Counters>)>,
    ) {
        let now = self.now();
        let every = self.spec.silence / SIGNS;
        if self.state.heard.get(&worker).is_none_or(|before| now.since(*before) >= every) {
            self.state.heard.insert(worker, now);
            events.push((Event::Heard { worker }, None));
        }
        let before = self.state.progress.remove(&worker).unwrap_or_default();
        let told_now = self.state.progress.entry(worker).or_default();
        for one in &reply.attempts {
            let (task, attempt) = (attempt::task(one.reduce, one.number), one.attempt);
            let thousandths = attempt::thousandths(one);
            let told = before.get(&(task, attempt)).copied();
            let is_news = told.is_none_or(|told| thousandths >= told + STEP);
            if is_news {
                let progress = Event::Progress { worker, task, attempt, thousandths };
                events.push((progress, None));
            }
            let told = if is_news { thousandths } else { told.unwrap_or_default() };
            told_now.insert((task, attempt), told);
        }
    }

    /// Does what the machine says; the result once the job is over.
    fn act(&mut self, effect: Effect) -> Option<Result<(), Error>> {
        match effect {
            Effect::Start { worker, task, attempt, skip } => {
                self.start(worker, (task, attempt), skip);
            }
            Effect::Accept { task: Task::Map(map), .. } => self.state.feeds.note(map),
            Effect::Accept { task: Task::Reduce(_), .. } => {}
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

    /// Where tasks tell what came of them.
    pub(super) fn news(&self) -> mpsc::Sender<News> {
        self.news.clone()
    }

    pub(super) fn service(&self, worker: WorkerNo) -> Result<Arc<dyn Service>, Error> {
        self.cluster.peers.get(&self.workers[worker.0 as usize])
    }

    fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let task = self.world.spawn(name, work);
        self.state.tasks.0.push(task);
    }

    /// Keeps asking a worker whether it lives, and gives it what others may want to know of the job.
    fn watch(&mut self, worker: WorkerNo) {
        let (world, news, job, term) =
            (self.world.clone(), self.news.clone(), self.id, self.term.0);
        let (view, mut standbys) = (self.state.view.subscribe(), self.state.standbys.subscribe());
        let output = self.spec.output.clone();
        let service = self.service(worker);
        let node = self.machines.at(&self.workers[worker.0 as usize]);
        self.spawn("job-watch", async move {
            let service = match service {
                Ok(service) => service,
                Err(error) => return tracing::warn!(%error, "a worker cannot be used"),
            };
            loop {
                let (mut is_standby, mut is_behind) = (false, false);
                // Both, every time: a worker that was given up is taken back when it answers again.
                if let Ok(hello) = service.hello().await {
                    let (slots, incarnation) = (hello.slots, hello.incarnation);
                    let joined = Event::Joined { worker, incarnation, slots, node };
                    if news.send(News::Event(joined, None)).await.is_err() {
                        return;
                    }
                    let view = view.borrow().as_ref().clone();
                    let (chosen, length) = standbys.borrow_and_update().clone();
                    is_standby = chosen.contains(&worker);
                    let standby =
                        is_standby.then(|| proto::Standby { output: output.clone(), length });
                    let request = PingRequest { job, view, term, standby };
                    if let Ok(reply) = service.ping(request).await {
                        let has = |followed: &proto::Followed| {
                            followed.term == term && followed.length >= length
                        };
                        is_behind = is_standby && !reply.followed.as_ref().is_some_and(has);
                        let _ = news.send(News::Pinged(worker, reply)).await;
                    }
                }
                // A standby follows live; one that is chosen is told at once.
                let next = world.clock.now() + PING;
                world.clock.sleep(SOON).await;
                if is_behind {
                    continue;
                }
                let changed = async {
                    // The job is over: the next send ends this.
                    let _ = match is_standby {
                        true => standbys.changed().await,
                        false => standbys
                            .wait_for(|(chosen, _)| chosen.contains(&worker))
                            .await
                            .map(|_| ()),
                    };
                };
                let _ = world.until(next, changed).await;
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
            Task::Reduce(reduce) => {
                if !self.machine.scheduler.are_maps_done() {
                    self.state.feeds.wait((worker, reduce, attempt));
                }
                Ask::reduce(self, (reduce, attempt))
            }
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
        let request = attempt::cancel((self.id, self.term.0), task, attempt);
        let service = self.service(worker);
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
        let from = output::temporary(&self.spec, task, attempt);
        let to = output::part(&self.spec, task);
        let (files, news) = (self.cluster.files.clone(), self.news.clone());
        self.spawn("job-commit", async move {
            let event = match output::name(files.as_ref(), &from, &to).await {
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

    pub(super) async fn finish(&mut self, watch: &Watch) -> Result<Summary, Error> {
        watch.progress.send_replace(self.progress(Phase::Finishing));
        output::succeed(self.cluster.files.as_ref(), &self.spec.output).await?;
        let tally = self.machine.scheduler.tally();
        Ok(Summary {
            counters: self.machine.counters(),
            maps: self.splits.len() as u32,
            reduces: self.spec.reduces,
            failures: tally.failures,
            backups: (tally.backups, tally.backups_won),
            skips: self.machine.skips(),
            elapsed: self.now().since(Time::ZERO),
        })
    }

    /// Nothing is done for the job any more.
    pub(super) fn stop(&mut self) {
        self.state.tasks.0.drain(..).for_each(|task| task.abort());
        self.state.feeds = Feeds::default();
    }

    /// Keeps the job's last account of itself where it outlives workers; a job of one process has none.
    pub(super) async fn remember(&self) {
        if !self.is_journalled() {
            return;
        }
        let view = self.state.view.borrow().as_ref().clone();
        let history = History::new(&self.world, &self.cluster.files);
        if let Err(error) = history.keep(self.id, view).await {
            tracing::warn!(%error, "the job will not be in the history");
        }
    }

    /// Lets the workers forget the job; one that does not hear it forgets by itself in time.
    pub(super) async fn end(&mut self) {
        for place in &self.workers {
            let request = proto::EndRequest { job: self.id, term: self.term.0 };
            if let Ok(service) = self.cluster.peers.get(place)
                && let Err(error) = service.end(request).await
            {
                tracing::debug!(%place, %error, "a worker was not told that the job is over");
            }
        }
    }
}
