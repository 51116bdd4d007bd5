//! The calling side of gRPC: channels that connect through the world and state who calls, and the
//! one way to wait for an answer. What is asked is not known here.

use std::{fmt, time::Duration};

use hyper_util::rt::TokioIo;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Endpoint,
};
use world::{Address, Stream, Time, World};

use crate::{
    error::{Error, Unreached},
    identity::Identity,
    routes::PEER,
};

/// The largest gRPC message, both ways. Set it on every generated client and server with
/// [`limits!`](crate::limits).
pub const MESSAGE_LIMIT: usize = 64 << 20;

/// Sets [`MESSAGE_LIMIT`] on a generated client or server:
/// `let client = wire::limits!(LocksClient::new(channel));`
#[macro_export]
macro_rules! limits {
    ($stub:expr) => {
        $stub
            .max_decoding_message_size($crate::MESSAGE_LIMIT)
            .max_encoding_message_size($crate::MESSAGE_LIMIT)
    };
}

/// What generated clients are made on. Cheap to clone; clones share the connection.
pub type Channel = InterceptedService<tonic::transport::Channel, Stamp>;

/// States who calls in every request.
#[derive(Clone)]
pub struct Stamp(MetadataValue<Ascii>);

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stamp({:?})", self.0)
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(PEER, self.0.clone());
        Ok(request)
    }
}

/// A channel to `address`. It connects at the first call and again after a loss; a dead peer is
/// noticed by keep-alive within twenty seconds.
#[must_use]
pub fn channel(world: &World, me: Identity, address: &Address) -> Channel {
    let (net, target) = (world.net.clone(), address.clone());
    let connector = tower::service_fn(move |_: http::Uri| {
        let (net, target) = (net.clone(), target.clone());
        async move {
            let stream: Result<Box<dyn Stream>, _> = net.connect(&target).await;
            stream.map(TokioIo::new).map_err(|error| Unreached {
                address: target.to_string(),
                reason: error.to_string(),
            })
        }
    });
    // The URI only fills the `:authority` of requests; the connector knows where to go.
    let channel = Endpoint::from_static("http://plumeria")
        .connect_timeout(Duration::from_secs(3))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .connect_with_connector_lazy(connector);
    let header = MetadataValue::try_from(me.to_header()).expect("digits, letters and slashes only");
    InterceptedService::new(channel, Stamp(header))
}

/// Makes the call `make(request)` and waits for its answer until `deadline`, which is told to the
/// server too.
///
/// ```ignore
/// let reply = wire::unary(&world, deadline, message, |request| client.grant(request)).await?;
/// ```
///
/// # Errors
/// [`Error`] tells whether the call can have happened.
pub async fn unary<M, R, F>(
    world: &World,
    deadline: Time,
    message: M,
    make: impl FnOnce(Request<M>) -> F,
) -> Result<R, Error>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let mut request = Request::new(message);
    let left = deadline.since(world.clock.now()).min(Duration::from_secs(24 * 3600));
    request.set_timeout(left);
    Ok(world.until(deadline, make(request)).await??.into_inner())
}
