//! Several gRPC services behind one listener: checks who calls, then hands the call to the
//! service that its path names. What the services do is not known here.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::{
    Status,
    body::Body,
    metadata::{MetadataMap, MetadataValue},
    server::NamedService,
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::{error::REFUSED, identity::Identity};

/// The header that states who calls.
pub(crate) const PEER: &str = "plumeria-peer";

/// What a tonic service's future fails with: nothing, its failures are statuses.
pub type ServiceError = Infallible;

type Route = BoxCloneSyncService<Request<Body>, Response<Body>, ServiceError>;

/// Who calls, as the call stated and [`crate::Server`] checked. `None` outside a [`crate::Server`]
/// (a service object called in its own process).
#[must_use]
pub fn peer<T>(request: &tonic::Request<T>) -> Option<Identity> {
    request.extensions().get::<Identity>().copied()
}

/// The services of one listener.
#[derive(Clone)]
pub(crate) struct Routes {
    me: Identity,
    services: Arc<BTreeMap<&'static str, Route>>,
}

/// Collects the services of [`Routes`].
pub(crate) struct RoutesBuilder(BTreeMap<&'static str, Route>);

impl RoutesBuilder {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn add<S>(&mut self, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = ServiceError>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let before = self.0.insert(S::NAME, BoxCloneSyncService::new(service));
        assert!(before.is_none(), "the service {} is there twice", S::NAME);
    }

    pub(crate) fn build(self, me: Identity) -> Routes {
        Routes { me, services: Arc::new(self.0) }
    }
}

impl Routes {
    /// Who calls.
    fn check(&self, request: &Request<Body>) -> Result<Identity, Status> {
        let stated = request.headers().get(PEER).and_then(|value| value.to_str().ok());
        let peer = match stated {
            Some(text) => self.me.read_header(text),
            None => Err(format!("a call to {} must say who calls: header {PEER}", self.me)),
        };
        peer.map_err(|reason| {
            let mut marks = MetadataMap::new();
            if let Ok(name) = MetadataValue::try_from(format!("{} {}", self.me.role, self.me.node))
            {
                marks.insert(REFUSED, name);
            }
            Status::with_metadata(tonic::Code::FailedPrecondition, reason, marks)
        })
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = ServiceError;
    type Future = BoxFuture<'static, Result<Response<Body>, ServiceError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(peer) => request.extensions_mut().insert(peer),
            Err(status) => return answer(&status),
        };
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        match self.services.get(name) {
            Some(service) => Box::pin(service.clone().oneshot(request)),
            None => {
                let text = format!("{} does not serve {name}", self.me);
                answer(&Status::unimplemented(text))
            }
        }
    }
}

fn answer(status: &Status) -> BoxFuture<'static, Result<Response<Body>, ServiceError>> {
    let response = status.clone().into_http();
    Box::pin(async move { Ok(response) })
}
