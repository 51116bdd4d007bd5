//! A worker: runs the attempts that coordinators give it, keeps map output, hands it out, and tells anybody which jobs
//! it works for. Which job needs what, and when, is the coordinators' business.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use world::World;

use crate::{
    api::Programs,
    error::Error,
    failover::{
        ballots::Term,
        standby::{Followed, Standbys},
    },
    history::History,
    job::Cluster,
    peers::Place,
    proto::{
        self, CancelRequest, EndRequest, FeedReply, FeedRequest, FetchReply, FetchRequest,
        HelloReply, JobsReply, LogsReply, MapReply, MapRequest, PingReply, PingRequest,
        ReduceReply, ReduceRequest,
    },
    scheduler::Task,
    service::Service,
    slots::{Slot, Slots},
    spec::{JobSpec, Program},
    store::{JobStore, Store},
    task::{self, Bench, MapWork, ReduceWork, reduce::Failed},
};

/// The most bytes that one fetch answers.
const FETCH_LIMIT: u64 = 8 << 20;
/// The most bytes of a job's own account of itself that are kept.
const VIEW_LIMIT: usize = 1 << 20;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where others reach it.
    pub place: Place,
    /// A directory of its own for map output; what is in it of an earlier worker is removed.
    pub dir: PathBuf,
    /// Attempts at once.
    pub slots: u32,
    /// Memory of one attempt for its table or its fetched parts; beyond it, the local disk is used.
    pub memory: u64,
    /// The native jobs that it can run.
    pub programs: Programs,
}

/// A worker. It serves its own process through [`crate::Peers`], others once [`crate::server`] is on a listener.
pub struct Worker {
    world: World,
    cluster: Cluster,
    standbys: Arc<Standbys>,
    store: Arc<Store>,
    history: History,
    config: Config,
    slots: Slots,
    /// Different each time that it starts: what it had before is gone.
    incarnation: u64,
}

impl Worker {
    /// A worker that reads and writes through the files of `cluster` and is known to its peers as `config.place`.
    ///
    /// # Errors
    /// If its directory cannot be used.
    pub async fn open(
        world: &World,
        cluster: &Cluster,
        config: Config,
    ) -> Result<Arc<Self>, Error> {
        let (disk, dir) = (world.clone(), config.dir.clone());
        let store = Arc::new(world.blocking(move || Store::open(&disk, &dir)).await?);
        let place = config.place.clone();
        let slots = Slots::new(config.slots.max(1));
        let worker = Arc::new(Self {
            world: world.clone(),
            standbys: Standbys::new(world, cluster, &place.0),
            history: History::new(world, &cluster.files),
            cluster: cluster.clone(),
            store,
            config,
            slots,
            incarnation: world.dice.roll(),
        });
        cluster.peers.add(&place, &worker);
        Ok(worker)
    }

    /// Where others reach it.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.config.place
    }

    /// What an attempt needs.
    fn bench(
        &self,
        (job, term): (u64, u64),
        spec: &[u8],
        attempt: (bool, u32, u32),
    ) -> Result<Bench, Error> {
        let spec = JobSpec::decode(spec)?;
        spec.check()?;
        let native = match &spec.program {
            Program::Streaming(_) => None,
            Program::Native { name, arguments } => {
                Some(self.config.programs.make(name, arguments)?)
            }
        };
        let store = self.admit(job, term)?;
        let gauge = store.begin(attempt);
        Ok(Bench {
            world: self.world.clone(),
            files: self.cluster.files.clone(),
            store: self.store.clone(),
            job: store,
            peers: self.cluster.peers.clone(),
            native,
            spec: Arc::new(spec),
            number: job,
            memory: self.config.memory,
            gauge,
        })
    }

    /// A slot, when the job's turn has come.
    async fn slot(&self, bench: &Bench) -> Result<Slot, Error> {
        tokio::select! {
            biased;
            () = bench.gauge.cancelled() => Err(Error::Cancelled),
            slot = self.slots.take(bench.number, bench.spec.weight) => Ok(slot),
        }
    }

    /// The job's part, for a coordinator that is not older than another that was heard of.
    fn admit(&self, job: u64, term: u64) -> Result<Arc<JobStore>, Error> {
        let store = self.store.job(job);
        if store.admit(term) { Ok(store) } else { Err(Error::Deposed) }
    }

    async fn run_map(&self, request: MapRequest) -> Result<MapReply, Error> {
        let attempt = (false, request.map, request.attempt);
        let bench = self.bench((request.job, request.term), &request.spec, attempt)?;
        let _slot = self.slot(&bench).await?;
        let work = MapWork {
            map: request.map,
            attempt: request.attempt,
            pieces: request.pieces,
            temporary: request.temporary,
            skip: request.skip,
        };
        let done = task::map::run(&bench, work).await?;
        let counters = Some((&done.counters).into());
        Ok(MapReply { failed: String::new(), sizes: done.sizes, counters, record: 0 })
    }

    async fn run_reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Failed> {
        let attempt = (true, request.reduce, request.attempt);
        let bench = self.bench((request.job, request.term), &request.spec, attempt)?;
        // One that waits for maps takes no slot from them.
        let at_once = if request.complete { Some(self.slot(&bench).await?) } else { None };
        bench.gauge.feed(request.sources, request.complete);
        let parts = task::reduce::fetch(&bench, request.reduce).await?;
        let _slot = match at_once {
            Some(slot) => slot,
            None => self.slot(&bench).await?,
        };
        let work = ReduceWork {
            reduce: request.reduce,
            attempt: request.attempt,
            temporary: request.temporary,
        };
        let counters = task::reduce::run(&bench, work, parts).await?;
        Ok(ReduceReply { counters: Some((&counters).into()), ..ReduceReply::default() })
    }

    /// Keeps what an attempt that has ended said, where it outlives this worker.
    async fn keep_log(&self, (job, term): (u64, u64), task: Task, attempt: u32) {
        // Nobody but its own process knows a job without an election.
        if Term(term) == Term::default() {
            return;
        }
        let (store, label) = (self.store.clone(), task.label(attempt));
        let name = label.clone();
        let Some(text) = self.world.blocking(move || store.log(job, &name)).await else { return };
        let kept = self.history.keep_log((job, &label), &self.config.place.0, &text).await;
        if let Err(error) = kept {
            tracing::warn!(%error, label, "the log of an attempt is not kept");
        }
    }
}

#[async_trait]
impl Service for Worker {
    async fn hello(&self) -> Result<HelloReply, Error> {
        Ok(HelloReply { slots: self.config.slots.max(1), incarnation: self.incarnation })
    }

    async fn map(&self, request: MapRequest) -> Result<MapReply, Error> {
        let of = ((request.job, request.term), Task::Map(request.map), request.attempt);
        let done = self.run_map(request).await;
        self.keep_log(of.0, of.1, of.2).await;
        Ok(done.unwrap_or_else(|error| MapReply {
            failed: error.to_string(),
            record: error.record().map_or(0, |record| record + 1),
            ..MapReply::default()
        }))
    }

    async fn reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Error> {
        let of = ((request.job, request.term), Task::Reduce(request.reduce), request.attempt);
        let done = self.run_reduce(request).await;
        self.keep_log(of.0, of.1, of.2).await;
        Ok(match done {
            Ok(reply) => reply,
            Err(Failed::Lost(lost)) => {
                ReduceReply { failed: lost.reason, lost: lost.maps, counters: None }
            }
            Err(Failed::Other(error)) => {
                ReduceReply { failed: error.to_string(), ..ReduceReply::default() }
            }
        })
    }

    async fn cancel(&self, request: CancelRequest) -> Result<(), Error> {
        let attempt = (request.reduce, request.number, request.attempt);
        if let Some(gauge) = self.admit(request.job, request.term)?.gauge(attempt) {
            gauge.cancel();
        }
        Ok(())
    }

    async fn feed(&self, request: FeedRequest) -> Result<FeedReply, Error> {
        let attempt = (true, request.reduce, request.attempt);
        let gauge = self.admit(request.job, request.term)?.gauge(attempt);
        let taken = gauge.inspect(|gauge| gauge.feed(request.sources, request.complete)).is_some();
        Ok(FeedReply { taken })
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchReply, Error> {
        let found = self.store.job(request.job).get(request.map, request.attempt);
        let output = found.ok_or_else(|| Error::Worker {
            place: self.config.place.0.clone(),
            reason: format!("it has no output of map {}", request.map),
        })?;
        let length = request.length.min(FETCH_LIMIT);
        let total = output.index.get(request.partition as usize).map_or(0, |(_, length)| *length);
        let read =
            self.world.blocking(move || output.read(request.partition, request.offset, length));
        Ok(FetchReply { data: read.await?, total })
    }

    async fn ping(&self, request: PingRequest) -> Result<PingReply, Error> {
        let PingRequest { job, view, term, standby } = request;
        let store = self.store.job(job);
        if !store.admit(term) {
            return Ok(PingReply { term: store.term(), ..PingReply::default() });
        }
        if !view.is_empty() && view.len() <= VIEW_LIMIT {
            store.show(view);
        }
        let followed = standby.map(|standby| {
            let followed = self.standbys.follow(job, Term(term), &standby);
            let Followed { term: Term(term), length, diverged } = followed;
            proto::Followed { term, length, diverged }
        });
        Ok(PingReply { attempts: store.attempts(), killed: store.is_killed(), term, followed })
    }

    async fn end(&self, request: EndRequest) -> Result<(), Error> {
        let EndRequest { job, term } = request;
        self.admit(job, term)?;
        self.standbys.leave(job);
        let store = self.store.clone();
        self.world.blocking(move || store.end(job)).await;
        Ok(())
    }

    async fn jobs(&self, over: bool) -> Result<JobsReply, Error> {
        if !over {
            return Ok(JobsReply { jobs: self.store.rows() });
        }
        let failed = |error| Error::files("reading the jobs that are over", error);
        Ok(JobsReply { jobs: self.history.rows().await.map_err(failed)? })
    }

    async fn kill(&self, job: u64) -> Result<bool, Error> {
        Ok(self.store.kill(job))
    }

    async fn logs(&self, job: u64, kept: bool) -> Result<LogsReply, Error> {
        if kept {
            let failed = |error| Error::files("reading the logs that are kept", error);
            return Ok(LogsReply { logs: self.history.logs(job).await.map_err(failed)? });
        }
        let store = self.store.clone();
        Ok(LogsReply { logs: self.world.blocking(move || store.logs(job)).await? })
    }
}
