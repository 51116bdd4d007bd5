//! One attempt of a task on a worker: what it needs, and how the two kinds of tasks do their work. Which
//! attempts are made, and where, is not known here.

pub(crate) mod collect;
pub(crate) mod fetch;
pub(crate) mod gauge;
pub(crate) mod map;
pub(crate) mod reduce;
pub(crate) mod sink;

use std::sync::Arc;

use world::World;

use crate::{
    api::Job,
    files::Files,
    peers::Peers,
    shuffle::order::{Order, Partitioner, Route},
    spec::{JobSpec, Program},
    store::{JobStore, Store},
    streaming::Streaming,
};
pub(crate) use gauge::Gauge;

/// What every attempt needs.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) store: Arc<Store>,
    pub(crate) job: Arc<JobStore>,
    pub(crate) peers: Peers,
    /// The native job, if it is one.
    pub(crate) native: Option<Job>,
    pub(crate) spec: Arc<JobSpec>,
    /// The job's number.
    pub(crate) number: u64,
    /// Memory for records, beyond which the local disk is used.
    pub(crate) memory: u64,
    pub(crate) gauge: Arc<Gauge>,
}

impl Bench {
    pub(crate) fn streaming(&self) -> Option<&Streaming> {
        match &self.spec.program {
            Program::Streaming(streaming) => Some(streaming),
            Program::Native { .. } => None,
        }
    }

    /// How records get from the maps to the reduces.
    pub(crate) fn route(&self) -> Route {
        match (&self.spec.shuffle, &self.native) {
            (Some(shuffle), _) => Route {
                order: shuffle.order.clone(),
                partition: Arc::new(shuffle.partitioner.clone()),
            },
            (None, Some(job)) => Route { order: Order::Bytes, partition: job.partition.clone() },
            (None, None) => Route { order: Order::Bytes, partition: Arc::new(Partitioner::Hadoop) },
        }
    }
}

/// A map attempt.
#[derive(Clone, Debug)]
pub(crate) struct MapWork {
    pub(crate) map: u32,
    pub(crate) attempt: u32,
    pub(crate) pieces: Vec<crate::proto::Piece>,
    /// Where the output of a job without reduces goes.
    pub(crate) temporary: String,
    /// Records that are left out, by their number in the split.
    pub(crate) skip: Vec<u64>,
}

/// A reduce attempt.
#[derive(Clone, Debug)]
pub(crate) struct ReduceWork {
    pub(crate) reduce: u32,
    pub(crate) attempt: u32,
    pub(crate) temporary: String,
}
