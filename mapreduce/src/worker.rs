//! A worker: runs the attempts that coordinators give it, keeps map output, hands it out. Which job
//! needs what, and when, is the coordinators' business.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use world::World;

use crate::{
    error::Error,
    fetch::Fetch,
    files::Files,
    map::MapTask,
    peers::{Peers, Place},
    proto::{
        FetchReply, FetchRequest, HelloReply, MapReply, MapRequest, PingReply, ReduceReply,
        ReduceRequest,
    },
    reduce::{Failed, ReduceTask},
    service::Service,
    store::Store,
};

/// The most bytes that one fetch answers.
const FETCH_LIMIT: u64 = 8 << 20;
/// The most partitions that a job may have.
const REDUCE_LIMIT: u32 = 10_000;

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

    fn check(reduces: u32) -> Result<(), Error> {
        if (1..=REDUCE_LIMIT).contains(&reduces) {
            return Ok(());
        }
        Err(Error::Spec(format!("a job has 1 to {REDUCE_LIMIT} reduces, not {reduces}")))
    }

    async fn run_map(&self, request: MapRequest) -> Result<MapReply, Error> {
        Self::check(request.reduces)?;
        let _slot = self.slots.acquire().await;
        let task = MapTask {
            world: self.world.clone(),
            files: self.files.clone(),
            store: self.store.clone(),
            job: self.store.job(request.job),
            memory: self.config.memory as usize,
        };
        let (sizes, counters) = task.run(request).await?;
        Ok(MapReply { failed: String::new(), sizes, counters: Some(counters) })
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
        let _slot = self.slots.acquire().await;
        let fetch = Fetch {
            world: self.world.clone(),
            peers: self.peers.clone(),
            store: self.store.clone(),
            job: request.job,
            partition: request.reduce,
            memory: self.config.memory,
        };
        let task = ReduceTask { world: self.world.clone(), files: self.files.clone(), fetch };
        Ok(match task.run(request).await {
            Ok(counters) => ReduceReply { counters: Some(counters), ..ReduceReply::default() },
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
        Ok(PingReply { bytes: self.store.job(job).reading.load(Ordering::Relaxed) })
    }

    async fn end(&self, job: u64) -> Result<(), Error> {
        let store = self.store.clone();
        self.world.blocking(move || store.end(job)).await;
        Ok(())
    }
}
