//! Replicated commands: their rate beside that of one synced append stream on the same disk in the
//! same run, what a follower costs that is far behind, and what idle groups cost.
//!
//! Three nodes in this process, each with its own log on the disk. It measures from outside what the
//! `replica` room does; what a command means is nobody's business here.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use replica::{
    Damaged, GroupConfig, GroupId, Host, Image, Index, LocalMesh, Mesh, Runtime, StateMachine,
    Transport,
};
use serde::Serialize;
use wire::{ClusterId, Identity, NodeId, Role};
use world::{Address, Time, World};

use crate::gauge::{Scratch, append_stream, resident, used};

const CLUSTER: ClusterId = ClusterId(1);
const NODES: u64 = 3;
/// Bytes of a command.
const COMMAND: usize = 16;
/// Commands in a piece of the ledger.
const PIECE: usize = 4096;

/// What is measured, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// A directory on the disk to be measured; not a tmpfs.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Commands that the follower is behind.
    #[arg(long, default_value_t = 1_000_000)]
    behind: u64,
    /// Idle groups.
    #[arg(long, default_value_t = 100)]
    groups: u64,
    /// Measure only one: rates, behind or idle.
    #[arg(long)]
    only: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Numbers {
    append_stream_per_second: Option<f64>,
    one_client_per_second: Option<f64>,
    one_client_percent_of_stream: Option<f64>,
    many_clients: Option<u64>,
    many_clients_per_second: Option<f64>,
    behind_commands: Option<u64>,
    behind_seconds: Option<f64>,
    behind_memory_mib: Option<f64>,
    idle_groups: Option<u64>,
    idle_percent_of_core_per_node: Option<f64>,
    idle_memory_mib_per_node: Option<f64>,
}

/// Keeps every command, in pieces that a checkpoint shares.
#[derive(Default)]
struct Ledger {
    full: Vec<Arc<Vec<u8>>>,
    last: Vec<u8>,
    count: u64,
}

struct Frozen(Vec<Arc<Vec<u8>>>);

impl Image for Frozen {
    fn write(self: Box<Self>, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        self.0.iter().try_for_each(|piece| out.write_all(piece))
    }
}

impl StateMachine for Ledger {
    fn apply(&mut self, _: Index, command: &[u8]) -> Bytes {
        self.last.extend_from_slice(command);
        if self.last.len() >= PIECE * COMMAND {
            self.full.push(Arc::new(std::mem::take(&mut self.last)));
        }
        self.count += 1;
        Bytes::new()
    }

    fn checkpoint(&self) -> Box<dyn Image> {
        let mut pieces = self.full.clone();
        pieces.push(Arc::new(self.last.clone()));
        Box::new(Frozen(pieces))
    }

    fn restore(&mut self, checkpoint: &mut dyn Read) -> Result<(), Damaged> {
        *self = Self::default();
        loop {
            let mut piece = Vec::with_capacity(PIECE * COMMAND);
            checkpoint.take((PIECE * COMMAND) as u64).read_to_end(&mut piece)?;
            self.count += (piece.len() / COMMAND) as u64;
            if piece.len() < PIECE * COMMAND {
                self.last = piece;
                return Ok(());
            }
            self.full.push(Arc::new(piece));
        }
    }
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let scratch = Scratch::new(&options.dir)?;
    let mut numbers = Numbers::default();
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    runtime.block_on(async {
        let world = World::real();
        if wanted("rates") {
            rates(&world, &scratch.0, options, &mut numbers).await?;
        }
        if wanted("idle") {
            idle(&world, &scratch.0.join("idle"), options.groups, &mut numbers).await?;
        }
        if wanted("behind") {
            behind(&world, &scratch.0.join("behind"), options.behind, &mut numbers).await?;
        }
        anyhow::Ok(())
    })?;
    print(&numbers, options.json)
}

fn print(numbers: &Numbers, json: bool) -> Result<()> {
    let value = serde_json::to_value(numbers)?;
    if json {
        println!("{value:#}");
        return Ok(());
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some(number) = value.as_f64() {
            println!("{:36} {number:>14.2}", name.replace('_', " "));
        }
    }
    Ok(())
}

fn config(dir: &Path, group: u64, me: NodeId) -> GroupConfig {
    let nodes = (1..=NODES).map(NodeId).collect();
    GroupConfig::new(CLUSTER, GroupId(group), me, nodes, dir.join(format!("node-{me}")))
}

async fn open(world: &World, mesh: &LocalMesh, dir: &Path, me: NodeId) -> Result<Host<Ledger>> {
    Ok(Host::open(world, config(dir, 1, me), Ledger::default(), mesh.transport(me)).await?)
}

async fn leader(world: &World, hosts: &BTreeMap<NodeId, Host<Ledger>>) -> Result<NodeId> {
    let patience = soon(world);
    loop {
        for (node, host) in hosts {
            if host.role().borrow().leads() {
                return Ok(*node);
            }
        }
        if world.clock.now() > patience {
            bail!("no leader was elected");
        }
        world.clock.sleep(Duration::from_millis(5)).await;
    }
}

fn soon(world: &World) -> Time {
    world.clock.now() + Duration::from_secs(60)
}

fn command(number: u64) -> Bytes {
    Bytes::copy_from_slice(&u128::from(number).to_le_bytes())
}

async fn rates(world: &World, dir: &Path, options: &Options, numbers: &mut Numbers) -> Result<()> {
    let time = Duration::from_secs(options.seconds);
    let mesh = LocalMesh::new(world);
    let mut hosts = BTreeMap::new();
    for node in (1..=NODES).map(NodeId) {
        hosts.insert(node, open(world, &mesh, &dir.join("rates"), node).await?);
    }
    let host = hosts[&leader(world, &hosts).await?].clone();
    // Before and after, so that a disk that changes its mind is noticed.
    let before = append_stream(&dir.join("stream-1"), time / 2)?;
    let one = clients(world, &host, 1, time).await?;
    let after = append_stream(&dir.join("stream-2"), time / 2)?;
    let stream = f64::midpoint(before, after);
    let many = clients(world, &host, 256, time).await?;
    numbers.append_stream_per_second = Some(stream);
    numbers.one_client_per_second = Some(one);
    numbers.one_client_percent_of_stream = Some(one / stream * 100.0);
    numbers.many_clients = Some(256);
    numbers.many_clients_per_second = Some(many);
    for host in hosts.values() {
        host.stop().await;
    }
    Ok(())
}

/// Commands per second of so many clients, each of which waits for its answer.
async fn clients(world: &World, host: &Host<Ledger>, count: u64, time: Duration) -> Result<f64> {
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let deadline = soon(world);
    let begun = Instant::now();
    let clients = (0..count).map(|number| {
        let (host, over, done) = (host.clone(), over.clone(), done.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                host.propose(command(number), deadline).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, replica::Error>(())
        })
    });
    let clients: Vec<_> = clients.collect();
    world.clock.sleep(time).await;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// One of three nodes misses many commands and catches up while memory is watched.
async fn behind(world: &World, dir: &Path, count: u64, numbers: &mut Numbers) -> Result<()> {
    let mesh = LocalMesh::new(world);
    let mut hosts = BTreeMap::new();
    for node in (1..=NODES).map(NodeId) {
        hosts.insert(node, open(world, &mesh, dir, node).await?);
    }
    let first = leader(world, &hosts).await?;
    let late = NodeId(first.0 % NODES + 1);
    if let Some(host) = hosts.remove(&late) {
        host.stop().await;
    }
    let host = hosts[&first].clone();
    let (next, deadline) =
        (Arc::new(AtomicU64::new(0)), world.clock.now() + Duration::from_secs(600));
    let fill = (0..512).map(|_| {
        let (host, next) = (host.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, replica::Error>(());
                }
                host.propose(command(number), deadline).await?;
            }
        })
    });
    for client in fill.collect::<Vec<_>>() {
        client.await??;
    }
    // The last checkpoint of the fill may still be on its way to the disk.
    world.clock.sleep(Duration::from_secs(1)).await;
    let resting = resident()?;
    let begun = Instant::now();
    let joined = open(world, &mesh, dir, late).await?;
    let mut most = resting;
    while joined.with(|ledger| ledger.count) < count {
        most = most.max(resident()?);
        if begun.elapsed() > Duration::from_secs(120) {
            bail!("the follower did not catch up: {:?}", joined.status());
        }
        world.clock.sleep(Duration::from_millis(5)).await;
    }
    numbers.behind_commands = Some(count);
    numbers.behind_seconds = Some(begun.elapsed().as_secs_f64());
    numbers.behind_memory_mib = Some(mib(most.max(resident()?).saturating_sub(resting)));
    joined.stop().await;
    for host in hosts.values() {
        host.stop().await;
    }
    Ok(())
}

/// Three nodes with many groups that do nothing, connected by sockets.
async fn idle(world: &World, dir: &Path, groups: u64, numbers: &mut Numbers) -> Result<()> {
    fs::create_dir_all(dir)?;
    let resting = resident()?;
    let address = |node: NodeId| Address::Unix(dir.join(format!("socket-{node}")));
    let addresses: BTreeMap<_, _> =
        (1..=NODES).map(|node| (NodeId(node), address(NodeId(node)))).collect();
    let mut kept = Vec::new();
    let mut first = BTreeMap::new();
    for me in (1..=NODES).map(NodeId) {
        let identity = Identity { cluster: CLUSTER, node: me, role: Role::Coordinator };
        let mesh = Mesh::new(world, identity, &addresses);
        let server = wire::Server::new(world, identity).service(mesh.service());
        let serving = server.serve(&address(me)).await?;
        let home = dir.join(format!("node-{me}"));
        let runtime = Runtime::open(world, CLUSTER, me, &home, true).await?;
        let transport: Arc<dyn Transport> = mesh.clone();
        let mut hosts = Vec::new();
        for group in 1..=groups {
            let config = config(dir, group, me);
            let machine = Ledger::default();
            hosts.push(Host::open_on(world, &runtime, config, machine, transport.clone()).await?);
        }
        first.insert(me, hosts[0].clone());
        kept.push((mesh, serving, runtime, hosts));
    }
    leader(world, &first).await?;
    world.clock.sleep(Duration::from_secs(3)).await;
    let (cpu, begun) = (used()?, Instant::now());
    world.clock.sleep(Duration::from_secs(10)).await;
    let share = (used()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let all_led = kept.iter().flat_map(|(_, _, _, hosts)| hosts);
    let leaders = all_led.filter(|host| host.role().borrow().leads()).count() as u64;
    if leaders != groups {
        bail!("{leaders} of {groups} groups have a leader");
    }
    numbers.idle_groups = Some(groups);
    numbers.idle_percent_of_core_per_node = Some(share * 100.0 / NODES as f64);
    numbers.idle_memory_mib_per_node =
        Some(mib(resident()?.saturating_sub(resting)) / NODES as f64);
    drop(first);
    for (_, _, runtime, hosts) in kept {
        for host in hosts {
            host.stop().await;
        }
        runtime.stop().await;
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
