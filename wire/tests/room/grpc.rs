//! gRPC through the world over real Unix sockets: who calls, refusals, losses, deadlines, stop.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response, uri::PathAndQuery};
use tokio::sync::Notify;
use tonic::{Status, body::Body, server::NamedService};
use tonic_prost::ProstCodec;
use tower::Service;
use wire::{ClusterId, Error, Happened, Identity, NodeId, Role, Serving};
use world::{Address, Time, World};

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

/// Says who called; `wait` waits until it is let go, `fail` fails.
#[derive(Clone, Default)]
struct Echo {
    begun: Arc<Notify>,
    release: Arc<Notify>,
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(grpc.unary(Say(echo), request).await)
        })
    }
}

struct Say(Echo);

impl tonic::server::UnaryService<Text> for Say {
    type Response = Text;
    type Future = BoxFuture<'static, Result<tonic::Response<Text>, Status>>;

    fn call(&mut self, request: tonic::Request<Text>) -> Self::Future {
        let echo = self.0.clone();
        Box::pin(async move {
            let peer = wire::peer(&request).unwrap();
            match request.into_inner().text.as_str() {
                "fail" => return Err(Status::failed_precondition("not today")),
                "wait" => {
                    let released = echo.release.notified();
                    echo.begun.notify_one();
                    released.await;
                }
                _ => {}
            }
            Ok(tonic::Response::new(Text { text: format!("hello {} {}", peer.role, peer.node) }))
        })
    }
}

fn identity(cluster: u128, role: Role) -> Identity {
    Identity { cluster: ClusterId(cluster), node: NodeId(5), role }
}

struct Rig {
    world: World,
    echo: Echo,
    serving: Serving,
    dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::real();
        let echo = Echo::default();
        let address = Address::Unix(dir.path().join("grpc"));
        let server = wire::Server::new(&world, identity(1, Role::Coordinator));
        let serving = server.service(echo.clone()).serve(&address).await.unwrap();
        Self { world, echo, serving, dir }
    }

    fn soon(&self) -> Time {
        self.world.clock.now() + Duration::from_secs(5)
    }

    fn channel(&self, cluster: u128) -> wire::Channel {
        wire::channel(&self.world, identity(cluster, Role::Mount), self.serving.address())
    }

    async fn say(
        &self,
        channel: &wire::Channel,
        text: &str,
        deadline: Time,
    ) -> Result<String, Error> {
        self.call(channel, "/test.Echo/Say", text, deadline).await
    }

    async fn call(
        &self,
        channel: &wire::Channel,
        path: &'static str,
        text: &str,
        deadline: Time,
    ) -> Result<String, Error> {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        let message = Text { text: text.to_owned() };
        let reply: Text = wire::unary(&self.world, deadline, message, |request| async move {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::default()).await
        })
        .await?;
        Ok(reply.text)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_knows_who_calls() {
    let rig = Rig::new().await;
    let answer = rig.say(&rig.channel(1), "", rig.soon()).await;
    assert_eq!(answer, Ok("hello mount 5".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_why_it_is_refused() {
    let rig = Rig::new().await;
    let refused = rig.say(&rig.channel(2), "", rig.soon()).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("00000000000000000000000000000002"), "{refused}");
    assert_eq!(refused.happened(), Happened::No);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_say_whether_the_call_can_have_happened() {
    let rig = Rig::new().await;
    let channel = rig.channel(1);
    let failed = rig.say(&channel, "fail", rig.soon()).await.unwrap_err();
    assert_eq!(failed.happened(), Happened::No);
    assert!(failed.to_string().contains("not today"), "{failed}");
    let unknown = rig.call(&channel, "/test.Other/Say", "", rig.soon()).await.unwrap_err();
    assert!(unknown.to_string().contains("does not serve test.Other"), "{unknown}");
    let deadline = rig.world.clock.now() + Duration::from_millis(50);
    let late = rig.say(&channel, "wait", deadline).await.unwrap_err();
    assert_eq!(late.happened(), Happened::Unknown, "{late}");
    let nowhere = Address::Unix(rig.dir.path().join("nobody"));
    let nobody = wire::channel(&rig.world, identity(1, Role::Mount), &nowhere);
    let unreachable = rig.say(&nobody, "", rig.soon()).await.unwrap_err();
    assert!(matches!(unreachable, Error::Unreachable { .. }), "{unreachable:?}");
    assert!(unreachable.to_string().contains("nobody"), "{unreachable}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gentle_stop_answers_what_is_under_way() {
    let rig = Rig::new().await;
    let channel = rig.channel(1);
    let deadline = rig.soon();
    let waiting = rig.say(&channel, "wait", deadline);
    let stopping = async {
        rig.echo.begun.notified().await;
        let release = async { rig.echo.release.notify_waiters() };
        tokio::join!(rig.serving.stop(deadline), release);
        assert!(rig.world.clock.now() < deadline, "stopped before the deadline");
    };
    let (answer, ()) = tokio::join!(waiting, stopping);
    assert_eq!(answer, Ok("hello mount 5".to_owned()));
    // A call that catches the old connection while it closes has an unknown outcome; the next one
    // finds nobody.
    let mut gone = rig.say(&channel, "", rig.soon()).await.unwrap_err();
    if gone.happened() == Happened::Unknown {
        gone = rig.say(&channel, "", rig.soon()).await.unwrap_err();
    }
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_calls_that_outlast_its_deadline() {
    let rig = Rig::new().await;
    let channel = rig.channel(1);
    let waiting = rig.say(&channel, "wait", rig.soon());
    let stopping = async {
        rig.echo.begun.notified().await;
        rig.serving.stop(rig.world.clock.now() + Duration::from_millis(30)).await;
    };
    let (answer, ()) = tokio::join!(waiting, stopping);
    assert_eq!(answer.unwrap_err().happened(), Happened::Unknown);
}

#[tokio::test]
async fn listening_beyond_the_machine_asks_for_the_word() {
    let public: Address = "192.0.2.1:7000".parse().unwrap();
    let refused = wire::check_exposure(&public, false).unwrap_err().to_string();
    assert!(refused.contains("192.0.2.1:7000") && refused.contains("insecure"), "{refused}");
    assert_eq!(wire::check_exposure(&public, true), Ok(()));
    for local in ["127.0.0.1:0", "[::1]:0", "unix:/run/x"] {
        assert_eq!(wire::check_exposure(&local.parse().unwrap(), false), Ok(()));
    }
}

#[tokio::test]
async fn an_address_in_use_is_said_with_the_remedy() {
    let rig = Rig::new().await;
    let error = wire::listen(&rig.world, rig.serving.address()).await.err().unwrap();
    assert!(error.to_string().contains("another process listens there"), "{error}");
}
