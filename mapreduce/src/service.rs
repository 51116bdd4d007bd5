//! What a worker does for others, as a trait; the worker itself implements it, and so does its wire client. This file
//! also serves a worker on the wire. What the calls do is not known here.

use std::sync::Arc;

use async_trait::async_trait;
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    proto::{
        CancelReply, CancelRequest, EndReply, EndRequest, FeedReply, FeedRequest, FetchReply,
        FetchRequest, HelloReply, HelloRequest, JobsReply, JobsRequest, KillReply, KillRequest,
        LogsReply, LogsRequest, MapReply, MapRequest, PingReply, PingRequest, ReduceReply,
        ReduceRequest,
        workers_server::{Workers, WorkersServer},
    },
    worker::Worker,
};

/// A worker as coordinators and other workers see it. A failed task is an answer; an error means that
/// the worker was not reached, or is not one.
#[async_trait]
pub(crate) trait Service: Send + Sync {
    async fn hello(&self) -> Result<HelloReply, Error>;
    async fn map(&self, request: MapRequest) -> Result<MapReply, Error>;
    async fn reduce(&self, request: ReduceRequest) -> Result<ReduceReply, Error>;
    async fn feed(&self, request: FeedRequest) -> Result<FeedReply, Error>;
    async fn fetch(&self, request: FetchRequest) -> Result<FetchReply, Error>;
    async fn cancel(&self, request: CancelRequest) -> Result<(), Error>;
    async fn ping(&self, request: PingRequest) -> Result<PingReply, Error>;
    async fn end(&self, request: EndRequest) -> Result<(), Error>;
    async fn jobs(&self, over: bool) -> Result<JobsReply, Error>;
    async fn kill(&self, job: u64) -> Result<bool, Error>;
    async fn logs(&self, job: u64, kept: bool) -> Result<LogsReply, Error>;
}

/// A worker on the wire.
pub struct Server(Arc<dyn Service>);

/// The wire service of `worker`, for [`wire::Server::service`].
#[must_use]
pub fn server(worker: &Arc<Worker>) -> WorkersServer<Server> {
    wire::limits!(WorkersServer::new(Server(worker.clone())))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
fn status(error: Error) -> Status {
    Status::internal(error.to_string())
}

#[async_trait]
impl Workers for Server {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        self.0.hello().await.map(Response::new).map_err(status)
    }

    async fn map(&self, request: Request<MapRequest>) -> Result<Response<MapReply>, Status> {
        self.0.map(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn reduce(
        &self,
        request: Request<ReduceRequest>,
    ) -> Result<Response<ReduceReply>, Status> {
        self.0.reduce(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn feed(&self, request: Request<FeedRequest>) -> Result<Response<FeedReply>, Status> {
        self.0.feed(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        self.0.fetch(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelReply>, Status> {
        self.0.cancel(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(CancelReply {}))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        self.0.ping(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn end(&self, request: Request<EndRequest>) -> Result<Response<EndReply>, Status> {
        self.0.end(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(EndReply {}))
    }

    async fn jobs(&self, request: Request<JobsRequest>) -> Result<Response<JobsReply>, Status> {
        self.0.jobs(request.into_inner().over).await.map(Response::new).map_err(status)
    }

    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<KillReply>, Status> {
        let known = self.0.kill(request.into_inner().job).await.map_err(status)?;
        Ok(Response::new(KillReply { known }))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<LogsReply>, Status> {
        let LogsRequest { job, kept } = request.into_inner();
        self.0.logs(job, kept).await.map(Response::new).map_err(status)
    }
}
