//! The serving side of gRPC: several services on one listener of the world, stopped gracefully or
//! at once; and the rule where a listener may be bound. What the services do is not known here.

use std::{io, time::Duration};

use http::{Request, Response};
use tokio::sync::watch;
use tonic::{body::Body, server::NamedService};
use tower::Service;
use world::{Address, Listener, Stream, Time, World};

use crate::{
    cut::{CutStream, Stop},
    error::Error,
    identity::Identity,
    routes::{Routes, RoutesBuilder, ServiceError},
};

/// Refuses addresses that other machines can reach, unless the operator wrote `insecure`.
///
/// # Errors
/// [`Error::Exposed`] names the address and the remedy.
pub fn check_exposure(address: &Address, insecure: bool) -> Result<(), Error> {
    if insecure || address.is_local() {
        return Ok(());
    }
    Err(Error::Exposed { address: address.to_string() })
}

/// Listens, with an error that names the address and the remedy.
///
/// # Errors
/// [`Error::Listen`].
pub async fn listen(world: &World, address: &Address) -> Result<Box<dyn Listener>, Error> {
    world.net.listen(address).await.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                " (another process listens there: stop it or choose another address)"
            }
            io::ErrorKind::NotFound => " (make its directory first)",
            _ => "",
        };
        Error::Listen { address: address.to_string(), reason: format!("{error}{remedy}") }
    })
}

/// Several gRPC services for one listener.
pub struct Server {
    world: World,
    me: Identity,
    routes: RoutesBuilder,
}

impl Server {
    /// A server without services yet.
    #[must_use]
    pub fn new(world: &World, me: Identity) -> Self {
        Self { world: world.clone(), me, routes: RoutesBuilder::new() }
    }

    /// Adds a generated server (`wire::limits!(LocksServer::new(...))`).
    ///
    /// # Panics
    /// If the same service is added twice.
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = ServiceError>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.routes.add(service);
        self
    }

    /// Listens on `address` and serves.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn serve(self, address: &Address) -> Result<Serving, Error> {
        let listener = listen(&self.world, address).await?;
        Ok(self.serve_on(listener))
    }

    /// Serves on a listener that is bound already.
    pub fn serve_on(self, listener: Box<dyn Listener>) -> Serving {
        let (serving, stopping, done) = Serving::new(&self.world, listener.address());
        let routes = self.routes.build(self.me);
        let world = self.world.clone();
        self.world.spawn("grpc server", async move {
            accept_all(world, routes, listener, stopping).await;
            let _ = done.send(true);
        });
        serving
    }
}

async fn accept_all(
    world: World,
    routes: Routes,
    listener: Box<dyn Listener>,
    stopping: watch::Receiver<Stop>,
) {
    let address = listener.address();
    let streams = stopping.clone();
    let incoming = futures_util::stream::unfold(listener, move |listener| {
        let (world, streams) = (world.clone(), streams.clone());
        async move {
            let stream = accept(&world, listener.as_ref()).await;
            Some((Ok::<_, io::Error>(CutStream::new(stream, streams)), listener))
        }
    });
    let mut signal = stopping;
    let stopped = async move {
        // An error means that the handle is gone, which stops it as well.
        let _ = signal.wait_for(|stop| *stop != Stop::No).await;
    };
    let served = tonic::transport::Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(4096)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .serve_with_incoming_shutdown(routes, incoming, stopped)
        .await;
    if let Err(error) = served {
        tracing::error!(%address, %error, "the server ended");
    }
}

/// The next connection. Failures to accept (no descriptors left) are waited out.
pub(crate) async fn accept(world: &World, listener: &dyn Listener) -> Box<dyn Stream> {
    loop {
        match listener.accept().await {
            Ok(stream) => return stream,
            Err(error) => {
                tracing::warn!(address = %listener.address(), %error, "cannot accept");
                world.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A running server. Dropping it stops it at once: its connections end.
#[must_use = "dropping it stops the server"]
pub struct Serving {
    world: World,
    address: Address,
    stop: watch::Sender<Stop>,
    done: watch::Receiver<bool>,
}

impl Serving {
    pub(crate) fn new(
        world: &World,
        address: Address,
    ) -> (Self, watch::Receiver<Stop>, watch::Sender<bool>) {
        let (stop, stopping) = watch::channel(Stop::No);
        let (done, ended) = watch::channel(false);
        (Self { world: world.clone(), address, stop, done: ended }, stopping, done)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Stops listening, answers the calls under way until `deadline`, then ends the connections.
    pub async fn stop(&self, deadline: Time) {
        let mut done = self.done.clone();
        self.stop.send_replace(Stop::Gently);
        if self.world.until(deadline, done.wait_for(|done| *done)).await.is_err() {
            self.stop.send_replace(Stop::Now);
            let soon = self.world.clock.now() + Duration::from_secs(1);
            let _ = self.world.until(soon, done.wait_for(|done| *done)).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Now);
    }
}
