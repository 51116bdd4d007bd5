//! The lock service by itself: three coordinators in this process with synced logs, and clerks that reach
//! them by function call. Each number stands beside what the disk does alone, measured in the same run.

mod many;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use clap::Args;
use lockservice::{
    Clerk, Held, Locks as _, Mode, Name, RecoverError, Recoverer, Router, Server, Service,
    SessionId, Span, Table,
    clerk::{self, Nothing},
    engine::Replicated,
    message::{Client, Kind, Renewal},
    server,
};
use replica::{GroupConfig, GroupId, Host, LocalMesh};
use serde_json::json;
use wire::{ClusterId, NodeId};
use world::World;

use crate::gauge::{Scratch, append_stream, used};

/// What to measure, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// A directory on the disk to be measured; not a tmpfs.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

const LEASE: Duration = Duration::from_secs(30);
/// The lease of clients that are killed.
const SHORT: Duration = Duration::from_secs(8);
/// How many are killed.
const KILLS: u32 = 50;

struct Cluster {
    world: World,
    hosts: Vec<Host<Table>>,
    servers: Vec<Arc<Server>>,
    next: std::sync::atomic::AtomicU32,
}

/// Measures everything and prints one line of JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scratch = Scratch::new(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(&scratch.0, Duration::from_secs(options.seconds)))?;
    println!("{measured}");
    Ok(())
}

async fn measure(dir: &Path, time: Duration) -> Result<serde_json::Value> {
    // What a commit costs at least.
    let append = Duration::from_secs_f64(1.0 / append_stream(&dir.join("append"), time)?);
    let cluster = Cluster::start(&dir.join("long"), LEASE).await?;
    let single = cluster.single().await?;
    let rate = cluster.rate(64, time).await?;
    let batch = cluster.batch().await?;
    let turns = cluster.turns(time).await?;
    let renewal = cluster.renewals(10_000).await?;
    cluster.stop().await;
    let cluster = Cluster::start(&dir.join("short"), SHORT).await?;
    let after_kill = cluster.kills().await?;
    cluster.stop().await;
    let many = many::measure(10_000_000)?;
    Ok(json!({
        "synced_append_us": append.as_micros(),
        "acquire_p50_us": single.as_micros(),
        "acquire_p50_in_appends": ratio(single, append),
        "acquires_per_second_64_clients": rate,
        "batch_of_1000_in_single_acquires": ratio(batch, single),
        "hand_overs_per_second": turns,
        "core_share_of_10000_sessions_renewing_every_10s": renewal,
        "after_kill_p99_of_50_ms": after_kill.as_millis(),
        "after_kill_p99_beyond_the_lease_ms": after_kill.saturating_sub(SHORT).as_millis(),
        "mib_of_ten_million_ranges": many.bytes >> 20,
        "checkpoint_of_them_freezes_us": many.frozen.as_micros(),
        "longest_grant_while_they_are_written_us": many.longest.as_micros(),
        "seconds_to_write_them": many.written.as_secs_f64(),
    }))
}

/// Finds nothing to recover.
struct Empty;

#[async_trait]
impl Recoverer for Empty {
    async fn recover(&self, _: SessionId, _: Vec<Held>) -> std::result::Result<(), RecoverError> {
        Ok(())
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

impl Cluster {
    async fn start(dir: &Path, lease: Duration) -> Result<Self> {
        let world = World::real();
        let mesh = LocalMesh::new(&world);
        let ids: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let (mut hosts, mut servers) = (Vec::new(), Vec::new());
        for id in &ids {
            let home = dir.join(format!("node{id}"));
            let config = GroupConfig::new(ClusterId(7), GroupId(1), *id, ids.clone(), home);
            let host = Host::open(&world, config, Table::new(), mesh.transport(*id)).await?;
            let engine = Arc::new(Replicated::new(host.clone()));
            servers.push(Server::start(world.clone(), engine, server::Config { lease }));
            hosts.push(host);
        }
        Ok(Self { world, hosts, servers, next: std::sync::atomic::AtomicU32::new(0) })
    }

    fn router(&self) -> Arc<Router> {
        let member =
            |(server, id): (&Arc<Server>, u64)| (id, Arc::clone(server) as Arc<dyn Service>);
        Router::new(self.world.clone(), self.servers.iter().zip(1..).map(member).collect())
    }

    async fn clerk(&self, owner: &str) -> Result<Arc<Clerk>> {
        let config = clerk::Config {
            owner: owner.to_owned(),
            host: "bench".to_owned(),
            kind: Kind::Tool,
            replace: false,
            patience: None,
        };
        let clerk = Clerk::open(self.world.clone(), self.router(), config).await?;
        clerk.attach(Arc::new(Nothing), None);
        Ok(clerk)
    }

    /// A name that nobody has asked for.
    fn fresh(&self) -> Span {
        let number = self.next.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        Span::one(Name::new(9, number >> 20, number & 0xf_ffff))
    }

    async fn get(&self, clerk: &Clerk, span: Span) -> Result<()> {
        clerk.acquire(span, span, Mode::Exclusive).await.map(drop).context("acquire")
    }

    async fn single(&self) -> Result<Duration> {
        let clerk = self.clerk("single").await?;
        let mut times = Vec::new();
        for _ in 0..500 {
            let began = Instant::now();
            self.get(&clerk, self.fresh()).await?;
            times.push(began.elapsed());
        }
        clerk.close().await?;
        Ok(middle(times))
    }

    async fn rate(&self, clients: usize, time: Duration) -> Result<f64> {
        let mut clerks = Vec::new();
        for number in 0..clients {
            clerks.push(self.clerk(&format!("rate {number}")).await?);
        }
        let began = Instant::now();
        let work = clerks.iter().map(|clerk| async move {
            let mut done = 0_u64;
            // A mount has many operations under way: eight each.
            while began.elapsed() < time {
                let eight = (0..8).map(|_| self.get(clerk, self.fresh()));
                futures_util::future::try_join_all(eight).await?;
                done += 8;
            }
            anyhow::Ok(done)
        });
        let done: u64 = futures_util::future::try_join_all(work).await?.iter().sum();
        let rate = done as f64 / began.elapsed().as_secs_f64();
        for clerk in clerks {
            clerk.close().await?;
        }
        Ok(rate)
    }

    async fn batch(&self) -> Result<Duration> {
        let clerk = self.clerk("batch").await?;
        let mut times = Vec::new();
        for _ in 0..200 {
            let names: Vec<Name> = (0..1000).map(|_| self.fresh().start()).collect();
            let began = Instant::now();
            clerk.hint(&names, Mode::Exclusive).await?;
            times.push(began.elapsed());
            ensure!(clerk.held(names[999], Mode::Exclusive).is_some(), "a free name was not given");
        }
        clerk.close().await?;
        Ok(middle(times))
    }

    async fn turns(&self, time: Duration) -> Result<f64> {
        let (one, two) = (self.clerk("one").await?, self.clerk("two").await?);
        let span = self.fresh();
        let began = Instant::now();
        let mut turns = 0_u64;
        while began.elapsed() < time {
            self.get(&one, span).await?;
            self.get(&two, span).await?;
            turns += 2;
        }
        let rate = turns as f64 / began.elapsed().as_secs_f64();
        one.close().await?;
        two.close().await?;
        Ok(rate)
    }

    /// The share of one core that so many sessions cost, renewing every third of a 30 s lease.
    async fn renewals(&self, sessions: u64) -> Result<f64> {
        let router = self.router();
        let deadline = self.world.clock.now() + Duration::from_secs(600);
        let mut open = Vec::new();
        for group in 0..sessions / 500 {
            let some = (0..500).map(|number| {
                let nonce = group * 500 + number + 1;
                let (owner, host) = (format!("session {nonce}"), "bench".to_owned());
                let client = Client { owner, host, kind: Kind::Tool, able: false, nonce };
                router.open(client, false, deadline)
            });
            open.extend(futures_util::future::try_join_all(some).await?);
        }
        let before = used()?;
        for group in open.chunks(500) {
            let renew = |one: &lockservice::message::Opened| {
                router.renew(one.session, Renewal::default(), deadline)
            };
            futures_util::future::try_join_all(group.iter().map(renew)).await?;
        }
        // Until the next round 10 s pass.
        Ok((used()? - before).as_secs_f64() / 10.0)
    }

    /// From the end of a client without a word to the grant of its lock to another, who waits for it:
    /// all but the slowest of a hundred. There is nothing to fence and no log to replay.
    async fn kills(&self) -> Result<Duration> {
        let heir = self.clerk("heir").await?;
        heir.attach(Arc::new(Nothing), Some(Arc::new(Empty)));
        let killed = (0..KILLS).map(|number| {
            let heir = &heir;
            async move {
                let clerk = self.clerk(&format!("killed {number}")).await?;
                let span = self.fresh();
                self.get(&clerk, span).await?;
                // At any time since its last renewal.
                self.world.clock.sleep(SHORT * number / KILLS).await;
                clerk.abandon();
                let began = Instant::now();
                self.get(heir, span).await?;
                anyhow::Ok(began.elapsed())
            }
        });
        let mut times = futures_util::future::try_join_all(killed).await?;
        heir.close().await?;
        times.sort_unstable();
        Ok(times[times.len() * 99 / 100])
    }

    async fn stop(self) {
        for server in self.servers {
            server.stop();
        }
        for host in self.hosts {
            host.stop().await;
        }
    }
}
