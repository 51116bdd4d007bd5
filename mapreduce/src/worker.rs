//! A worker: runs the attempts that coordinators give it, keeps map output, hands it out. Which job
//! needs what, and when, is the coordinators' business.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use world::World;

use crate::{
    error::Error,
    files::Files,
    native::Programs,
    peers::{Peers, Place},
    proto::{
        FetchReply, FetchRequest, HelloReply, MapReply, MapRequest, PingReply, ReduceReply,
        ReduceRequest,
    },
    service::Service,
    spec::JobSpec,
    store::Store,
    task::{self, Bench, MapWork, ReduceWork, reduce::Failed},
};

/// The most bytes that one fetch answers.
const FETCH_LIMIT: u64 = 8 << 20;

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

/// A worker. It serves its own process through [`Peers`], others once [`crate::server`] is on a listener.
pub struct Worker {
    world: World,
    files: Arc<dyn Files>,
    store: Arc<Store>,
    peers: Peers,
    config: Config,
    /// Jobs do not know of each other's attempts.
    slots: Semaphore,
}

impl Worker {
    /// A worker that reads and writes through `files` and is known to `peers` as `config.place`.
    ///
    /// # Errors
    /// If its directory cannot be used.
    pub async fn open(
        world: &World,
        files: Arc<dyn Files>,
        peers: &Peers,
        config: Config,
    ) -> Result<Arc<Self>, Error> {
        let (disk, dir) = (world.clone(), config.dir.clone());
        let store = Arc::new(world.blocking(move || Store::open(&disk, &dir)).await?);
        let place = config.place.clone();
        let slots = Semaphore::new(config.slots.max(1) as usize);
        let worker = Arc::new(Self {
            world: world.clone(),
            files,
            store,
            peers: peers.clone(),
            config,
            slots,
        });
        peers.add(&place, &worker);
        Ok(worker)
    }

    /// Where others reach it.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.config.place
    }

    fn bench(&self, job: u64, spec: &[u8]) -> Result<Bench, Error> {
        let spec = JobSpec::decode(spec)?;
        spec.check()?;
        let store = self.store.job(job);
        let gauge = store.begin();
        Ok(Bench {
            world: self.world.clone(),
            files: self.files.clone(),
            store: self.store.clone(),
            job: store,
            peers: self.peers.clone(),
            programs: self.config.programs.clone(),
            spec: Arc::new(spec),
            number: job,
            memory: self.config.memory,
            gauge,
        })
    }

    async fn run_map(&self, request: MapRequest) -> Result<MapReply, Error> {
        let bench = self.bench(request.job, &request.spec)?;
        let _slot = self.slots.acquire().await;
        let work = MapWork {
            map: request.map,
            attempt: request.attempt,
            pieces: request.pieces,
            temporary: request.temporary,
            skip: request.skip,
        };
        let done = task::map::run(&bench, work).await?;
        let counters = Some((&done.counters).into());
        Ok(MapReply { failed: String::new(), sizes: done.sizes, counters })
    }

    async fn run_reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Failed> {
        let bench = self.bench(request.job, &request.spec)?;
        let _slot = self.slots.acquire().await;
        let work = ReduceWork {
            reduce: request.reduce,
            attempt: request.attempt,
            sources: request.sources,
            temporary: request.temporary,
        };
        let counters = task::reduce::run(&bench, work).await?;
        Ok(ReduceReply { counters: Some((&counters).into()), ..ReduceReply::default() })
    }
}

#[async_trait]
impl Service for Worker {
    async fn hello(&self) -> Result<HelloReply, Error> {
        Ok(HelloReply { slots: self.config.slots.max(1) })
    }

    async fn map(&self, request: MapRequest) -> Result<MapReply, Error> {
        Ok(self
            .run_map(request)
            .await
            .unwrap_or_else(|error| MapReply { failed: error.to_string(), ..MapReply::default() }))
    }

    async fn reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Error> {
        Ok(match self.run_reduce(request).await {
            Ok(reply) => reply,
            Err(Failed::Lost(lost)) => {
                ReduceReply { failed: lost.reason, lost: lost.maps, counters: None }
            }
            Err(Failed::Other(error)) => {
                ReduceReply { failed: error.to_string(), ..ReduceReply::default() }
            }
        })
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchReply, Error> {
        let found = self.store.job(request.job).get(request.map, request.attempt);
        let output = found.ok_or_else(|| Error::Worker {
            place: self.config.place.0.clone(),
            reason: format!("it has no output of map {}", request.map),
        })?;
        let length = request.length.min(FETCH_LIMIT);
        let read =
            self.world.blocking(move || output.read(request.partition, request.offset, length));
        Ok(FetchReply { data: read.await? })
    }

    async fn ping(&self, job: u64) -> Result<PingReply, Error> {
        Ok(PingReply { bytes: self.store.job(job).reading() })
    }

    async fn end(&self, job: u64) -> Result<(), Error> {
        let store = self.store.clone();
        self.world.blocking(move || store.end(job)).await;
        Ok(())
    }
}
