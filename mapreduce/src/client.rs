//! A worker that is reached by the wire.

use std::time::Duration;

use async_trait::async_trait;
use tonic::{Request, Response, Status};
use world::{Address, World};

use crate::{
    error::Error,
    proto::{
        CancelRequest, EndRequest, FeedReply, FeedRequest, FetchReply, FetchRequest, HelloReply,
        HelloRequest, JobsReply, JobsRequest, KillRequest, LogsReply, LogsRequest, MapReply,
        MapRequest, PingReply, PingRequest, ReduceReply, ReduceRequest,
        workers_client::WorkersClient,
    },
    service::Service,
};

/// How long a short call may take.
const SHORT: Duration = Duration::from_secs(5);
/// How long a part of a map's output may take.
const FETCH: Duration = Duration::from_secs(30);
/// How long an attempt may take; a worker that dies is noticed by its silence long before, and a program that hangs
/// by its own.
const ATTEMPT: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) struct Client {
    world: World,
    place: String,
    stub: WorkersClient<wire::Channel>,
}

impl Client {
    pub(crate) fn new(world: &World, me: wire::Identity, address: &Address) -> Self {
        let stub = wire::limits!(WorkersClient::new(wire::channel(world, me, address)));
        Self { world: world.clone(), place: address.to_string(), stub }
    }

    /// Calls the worker with `message`; there is an answer, or none is waited for any more, after `limit`.
    async fn call<M, R, F>(
        &self,
        limit: Duration,
        message: M,
        call: impl FnOnce(WorkersClient<wire::Channel>, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let stub = self.stub.clone();
        let deadline = self.world.clock.now() + limit;
        let reply = wire::unary(&self.world, deadline, message, |request| call(stub, request));
        let failed = |error: wire::Error| Error::Worker {
            place: self.place.clone(),
            reason: error.to_string(),
        };
        reply.await.map_err(failed)
    }
}

/// Calls a method of the stub.
macro_rules! ask {
    ($client:ident . $method:ident ($message:expr), $limit:ident) => {
        $client.call(
            $limit,
            $message,
            |mut stub, request| async move { stub.$method(request).await },
        )
    };
}

#[async_trait]
impl Service for Client {
    async fn hello(&self) -> Result<HelloReply, Error> {
        ask!(self.hello(HelloRequest {}), SHORT).await
    }

    async fn map(&self, request: MapRequest) -> Result<MapReply, Error> {
        ask!(self.map(request), ATTEMPT).await
    }

    async fn reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Error> {
        ask!(self.reduce(request), ATTEMPT).await
    }

    async fn feed(&self, request: FeedRequest) -> Result<FeedReply, Error> {
        ask!(self.feed(request), SHORT).await
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchReply, Error> {
        ask!(self.fetch(request), FETCH).await
    }

    async fn cancel(&self, request: CancelRequest) -> Result<(), Error> {
        ask!(self.cancel(request), SHORT).await.map(|_| ())
    }

    async fn ping(&self, request: PingRequest) -> Result<PingReply, Error> {
        ask!(self.ping(request), SHORT).await
    }

    async fn end(&self, request: EndRequest) -> Result<(), Error> {
        ask!(self.end(request), SHORT).await.map(|_| ())
    }

    async fn jobs(&self, over: bool) -> Result<JobsReply, Error> {
        ask!(self.jobs(JobsRequest { over }), SHORT).await
    }

    async fn kill(&self, job: u64) -> Result<bool, Error> {
        ask!(self.kill(KillRequest { job }), SHORT).await.map(|reply| reply.known)
    }

    async fn logs(&self, job: u64, kept: bool) -> Result<LogsReply, Error> {
        ask!(self.logs(LogsRequest { job, kept }), SHORT).await
    }
}
