//! Bulk connections over real Unix sockets: order, size, loss, refusal, stop.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use wire::{ClusterId, Error, Happened, Identity, NodeId, Role, bulk, bulk::Message};
use world::{Address, Time, World};

const ECHO: u16 = 1;
const WAIT: u16 = 2;
const RELEASE: u16 = 3;
const SIZE: u16 = 4;

/// Echoes, sums, and keeps some calls waiting until another lets them go.
#[derive(Default)]
struct Echo {
    release: Notify,
    calls: AtomicU64,
}

#[async_trait]
impl bulk::Service for Echo {
    async fn call(&self, peer: Identity, request: Message) -> Message {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match request.kind {
            WAIT => self.release.notified().await,
            RELEASE => self.release.notify_waiters(),
            SIZE => {
                let size = request.body.len() as u64 + peer.node.0;
                return Message::new(SIZE, size.to_le_bytes().to_vec(), Bytes::new());
            }
            _ => {}
        }
        request
    }
}

fn identity(cluster: u128, role: Role) -> Identity {
    Identity { cluster: ClusterId(cluster), node: NodeId(5), role }
}

struct Rig {
    world: World,
    address: Address,
    echo: Arc<Echo>,
    serving: Option<wire::Serving>,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(PathBuf::from(dir.path()).join("bulk"));
        let mut rig =
            Self { world: World::real(), address, echo: Arc::default(), serving: None, _dir: dir };
        rig.start().await;
        rig
    }

    async fn start(&mut self) {
        let listener = wire::listen(&self.world, &self.address).await.unwrap();
        let me = identity(1, Role::Block);
        self.serving = Some(bulk::serve(&self.world, me, listener, self.echo.clone()));
    }

    fn client(&self) -> bulk::Client {
        bulk::Client::new(&self.world, identity(1, Role::Mount), self.address.clone())
    }

    fn soon(&self) -> Time {
        self.world.clock.now() + Duration::from_secs(5)
    }
}

fn body(size: usize, seed: u8) -> Bytes {
    (0..size).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect::<Vec<_>>().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_come_back_whole() {
    let rig = Rig::new().await;
    let client = rig.client();
    for size in [0, 1, 4096, 16_384, 65_536, 1 << 20, 5 << 20, (64 << 20) - 100] {
        let request = Message::new(ECHO, body(size.min(100), 1), body(size, 2));
        let reply = client.call(request.clone(), rig.soon()).await.unwrap();
        assert!(reply == request, "size {size}");
    }
    let huge = Message::new(ECHO, Bytes::new(), vec![0; (64 << 20) + 1]);
    let refused = client.call(huge, rig.soon()).await.unwrap_err();
    assert_eq!(refused.happened(), Happened::No);
    assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_call_does_not_hold_up_the_ones_behind_it() {
    let rig = Rig::new().await;
    let client = rig.client();
    let deadline = rig.soon();
    let slow = client.call(Message::new(WAIT, vec![1], Bytes::new()), deadline);
    let quick = async {
        // Wait until the slow one is being served, by asking until both calls were counted.
        while rig.echo.calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let reply = client.call(Message::new(ECHO, vec![2], Bytes::new()), deadline).await.unwrap();
        assert_eq!(reply.head, vec![2]);
        client.call(Message::new(RELEASE, vec![3], Bytes::new()), deadline).await.unwrap();
    };
    let (slow, ()) = tokio::join!(slow, quick);
    assert_eq!(slow.unwrap().head, vec![1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_with_more_bytes_than_the_window_are_all_answered() {
    let rig = Rig::new().await;
    let client = rig.client();
    let deadline = rig.soon();
    let calls = (0..200u8).map(|seed| {
        let client = client.clone();
        tokio::spawn(async move {
            let request = Message::new(ECHO, vec![seed], body(512 << 10, seed));
            client.call(request.clone(), deadline).await.map(|reply| reply == request)
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Ok(true));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_its_deadline_and_the_connection_goes_on() {
    let rig = Rig::new().await;
    let client = rig.client();
    let deadline = rig.world.clock.now() + Duration::from_millis(50);
    let late = client.call(Message::new(WAIT, vec![1], Bytes::new()), deadline).await;
    assert_eq!(late, Err(Error::Deadline { happened: Happened::Unknown }));
    let request = Message::new(SIZE, Bytes::new(), body(10, 0));
    let reply = client.call(request, rig.soon()).await.unwrap();
    assert_eq!(reply.head, 15u64.to_le_bytes().to_vec(), "10 bytes, and the caller is node 5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_a_restarted_server_again() {
    let mut rig = Rig::new().await;
    let client = rig.client();
    client.call(Message::new(ECHO, vec![1], Bytes::new()), rig.soon()).await.unwrap();
    let deadline = rig.soon();
    let waiting = client.call(Message::new(WAIT, vec![1], Bytes::new()), deadline);
    let serving = rig.serving.take();
    let echo = rig.echo.clone();
    let stopping = async move {
        while echo.calls.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        drop(serving);
    };
    let (lost, ()) = tokio::join!(waiting, stopping);
    assert_eq!(lost.unwrap_err().happened(), Happened::Unknown);
    rig.start().await;
    let mut answered = false;
    for _ in 0..100 {
        match client.call(Message::new(ECHO, vec![7], Bytes::new()), rig.soon()).await {
            Ok(reply) => {
                assert_eq!(reply.head, vec![7]);
                answered = true;
                break;
            }
            Err(error) => assert_eq!(error.happened(), Happened::No, "{error}"),
        }
    }
    assert!(answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_why_it_is_refused() {
    let rig = Rig::new().await;
    let stranger = bulk::Client::new(&rig.world, identity(2, Role::Mount), rig.address.clone());
    let refused = stranger.call(Message::default(), rig.soon()).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("cluster 00000000000000000000000000000001"), "{text}");
    assert!(text.contains("cluster 00000000000000000000000000000002"), "{text}");
    assert_eq!(rig.echo.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listening_is_said_with_the_address() {
    let rig = Rig::new().await;
    let nowhere: Address = "unix:/nonexistent/socket".parse().unwrap();
    let client = bulk::Client::new(&rig.world, identity(1, Role::Mount), nowhere);
    let error = client.call(Message::default(), rig.soon()).await.unwrap_err();
    assert_eq!(error.happened(), Happened::No);
    assert!(error.to_string().contains("unix:/nonexistent/socket"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gentle_stop_answers_what_is_under_way() {
    let mut rig = Rig::new().await;
    let client = rig.client();
    let deadline = rig.soon();
    let waiting = client.call(Message::new(WAIT, vec![9], Bytes::new()), deadline);
    let serving = rig.serving.take().unwrap();
    let (echo, world) = (rig.echo.clone(), rig.world.clone());
    let stopping = async move {
        while echo.calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let release = async {
            tokio::task::yield_now().await;
            echo.release.notify_waiters();
        };
        tokio::join!(serving.stop(deadline), release);
        world.clock.now() < deadline
    };
    let (answer, in_time) = tokio::join!(waiting, stopping);
    assert_eq!(answer.unwrap().head, vec![9]);
    assert!(in_time, "stopped before the deadline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_instead_of_a_hello_ends_the_connection_only() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Rig::new().await;
    let mut noise = rig.world.net.connect(&rig.address).await.unwrap();
    noise.write_all(&[0xee; 200]).await.unwrap();
    let mut rest = Vec::new();
    // The server may reset instead of ending in order: both end the connection.
    let _ = noise.read_to_end(&mut rest).await;
    let reply = rig.client().call(Message::new(ECHO, vec![1], Bytes::new()), rig.soon()).await;
    assert_eq!(reply.unwrap().head, vec![1]);
}

/// Not a test of speed, but a look at it: `--run-ignored only --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn round_trips() {
    let rig = Rig::new().await;
    let client = rig.client();
    for size in [0usize, 4096, 65_536, 1 << 20] {
        let body = body(size, 1);
        let rounds = if size > 100_000 { 500 } else { 5000 };
        let start = rig.world.clock.now();
        for _ in 0..rounds {
            client.call(Message::new(SIZE, vec![1], body.clone()), rig.soon()).await.unwrap();
        }
        let each = rig.world.clock.now().since(start) / rounds;
        println!("{size} bytes: {each:?} a call");
    }
}
