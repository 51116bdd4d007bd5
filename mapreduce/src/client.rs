//! A worker that is reached by the wire.

use std::time::Duration;

use async_trait::async_trait;
use world::{Address, World};

use crate::{
    error::Error,
    proto::{
        CancelRequest, EndRequest, FetchReply, FetchRequest, HelloReply, HelloRequest, JobsReply,
        JobsRequest, KillRequest, LogsReply, LogsRequest, MapReply, MapRequest, PingReply,
        PingRequest, ReduceReply, ReduceRequest, workers_client::WorkersClient,
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

    fn failed(&self, error: &wire::Error) -> Error {
        Error::Worker { place: self.place.clone(), reason: error.to_string() }
    }

    fn within(&self, limit: Duration) -> world::Time {
        self.world.clock.now() + limit
    }
}

#[async_trait]
impl Service for Client {
    async fn hello(&self) -> Result<HelloReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.hello(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), HelloRequest {}, call).await;
        reply.map_err(|error| self.failed(&error))
    }

    async fn map(&self, request: MapRequest) -> Result<MapReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.map(request).await };
        let reply = wire::unary(&self.world, self.within(ATTEMPT), request, call).await;
        reply.map_err(|error| self.failed(&error))
    }

    async fn reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.reduce(request).await };
        let reply = wire::unary(&self.world, self.within(ATTEMPT), request, call).await;
        reply.map_err(|error| self.failed(&error))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.fetch(request).await };
        let reply = wire::unary(&self.world, self.within(FETCH), request, call).await;
        reply.map_err(|error| self.failed(&error))
    }

    async fn cancel(&self, request: CancelRequest) -> Result<(), Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.cancel(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), request, call).await;
        reply.map(|_| ()).map_err(|error| self.failed(&error))
    }

    async fn ping(&self, request: PingRequest) -> Result<PingReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.ping(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), request, call).await;
        reply.map_err(|error| self.failed(&error))
    }

    async fn end(&self, request: EndRequest) -> Result<(), Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.end(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), request, call).await;
        reply.map(|_| ()).map_err(|error| self.failed(&error))
    }

    async fn jobs(&self) -> Result<JobsReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.jobs(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), JobsRequest {}, call).await;
        reply.map_err(|error| self.failed(&error))
    }

    async fn kill(&self, job: u64) -> Result<bool, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.kill(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), KillRequest { job }, call).await;
        reply.map(|reply| reply.known).map_err(|error| self.failed(&error))
    }

    async fn logs(&self, job: u64) -> Result<LogsReply, Error> {
        let mut stub = self.stub.clone();
        let call = |request| async move { stub.logs(request).await };
        let reply = wire::unary(&self.world, self.within(SHORT), LogsRequest { job }, call).await;
        reply.map_err(|error| self.failed(&error))
    }
}
