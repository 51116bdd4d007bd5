//! What a worker is asked to do, and what it tells afterwards. Which attempts are made is not known here.

use super::drive::Job;
use crate::{
    counters::Counters,
    error::Error,
    proto::{self, CancelRequest, MapRequest, Piece, ReduceRequest, Source},
    scheduler::{Sizes, Task, WorkerNo},
    service::Service,
};

/// An attempt to be made.
pub(super) enum Ask {
    Map(MapRequest),
    Reduce(ReduceRequest),
}

/// What became of it.
pub(super) enum Told {
    Done { sizes: Sizes, counters: Counters },
    Failed { reason: String, lost: Vec<(u32, u32)>, record: Option<u64> },
}

impl Ask {
    pub(super) fn map(
        job: &Job,
        (map, attempt): (u32, u32),
        pieces: Vec<Piece>,
        skip: Vec<u64>,
    ) -> Self {
        let temporary = super::output::temporary(&job.spec, Task::Map(map), attempt);
        let (job, spec, term) = (job.id, job.encoded.clone(), job.term.0);
        Self::Map(MapRequest { job, map, attempt, spec, pieces, temporary, skip, term })
    }

    pub(super) fn reduce(job: &Job, (reduce, attempt): (u32, u32)) -> Self {
        let scheduler = &job.machine.scheduler;
        let (sources, complete) = (scheduler.sources(reduce), scheduler.are_maps_done());
        let sources = self::sources(job, sources);
        let temporary = super::output::temporary(&job.spec, Task::Reduce(reduce), attempt);
        let (job, spec, term) = (job.id, job.encoded.clone(), job.term.0);
        let request =
            ReduceRequest { job, reduce, attempt, sources, temporary, spec, term, complete };
        Self::Reduce(request)
    }

    /// Waits for the worker. An error means that it was not reached.
    pub(super) async fn run(self, service: &dyn Service) -> Result<Told, Error> {
        let (failed, told, lost, record) = match self {
            Self::Map(request) => {
                let reply = service.map(request).await?;
                let record = reply.record.checked_sub(1);
                let told = (Sizes::new(&reply.sizes), reply.counters);
                (reply.failed, told, Vec::new(), record)
            }
            Self::Reduce(request) => {
                let reply = service.reduce(request).await?;
                let lost = reply.lost.iter().map(|lost| (lost.map, lost.attempt)).collect();
                (reply.failed, (Sizes::default(), reply.counters), lost, None)
            }
        };
        if !failed.is_empty() {
            return Ok(Told::Failed { reason: failed, lost, record });
        }
        let (sizes, counters) = told;
        Ok(Told::Done {
            sizes,
            counters: counters.as_ref().map(Counters::from).unwrap_or_default(),
        })
    }
}

/// Where outputs lie, by the places of the workers.
pub(super) fn sources(job: &Job, sources: Vec<(WorkerNo, u32, u32, u64)>) -> Vec<Source> {
    let source = |(worker, map, attempt, size): (WorkerNo, u32, u32, u64)| Source {
        place: job.workers[worker.0 as usize].0.clone(),
        map,
        attempt,
        size,
    };
    sources.into_iter().map(source).collect()
}

pub(super) fn cancel((job, term): (u64, u64), task: Task, attempt: u32) -> CancelRequest {
    let (reduce, number) = match task {
        Task::Map(number) => (false, number),
        Task::Reduce(number) => (true, number),
    };
    CancelRequest { job, reduce, number, attempt, term }
}

pub(super) fn task(reduce: bool, number: u32) -> Task {
    if reduce { Task::Reduce(number) } else { Task::Map(number) }
}

/// Thousandths of an attempt that are done.
pub(super) fn thousandths(attempt: &proto::Attempt) -> u32 {
    let all = attempt.all.max(1);
    (u128::from(attempt.read.min(all)) * 1000 / u128::from(all)) as u32
}
