//! What the disk costs in one process: for people, run with `--ignored --nocapture`.

use std::sync::Arc;

use world::World;

use super::harness::{Cluster, pattern};
use crate::{
    client::{Client, ClientConfig},
    disk::{CHUNK, Durability, Fence, Offset, VirtualDisk},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn numbers_of_three_engines_in_one_process() {
    let dir = std::env::var_os("NUMBERS_DIR")
        .map_or_else(|| tempfile::tempdir().unwrap().keep(), std::path::PathBuf::from);
    let world = World::real();
    let clock = Arc::clone(&world.clock);
    let begun = clock.now();
    let mut cluster = Cluster::start_on(Some(dir.clone())).await;
    println!("start: {:?}", clock.now().since(begun));
    let config = ClientConfig::new(Fence(5));
    let (map, lines) = cluster.client_parts();
    let disk = Client::open(&world, map, lines, config).await.unwrap();
    let page = pattern(4096, 3);
    let mut times = Vec::new();
    for i in 0..500_u64 {
        let begun = clock.now();
        let data = vec![page.clone().into()];
        disk.write(Offset(CHUNK * 9 + i % 1000 * 4096), data, Durability::Now).await.unwrap();
        times.push(clock.now().since(begun));
    }
    times.sort_unstable();
    println!("4 KiB durable: p50 {:?} p99 {:?}", times[250], times[495]);
    let mb = bytes::Bytes::from(pattern(1 << 20, 7));
    let begun = clock.now();
    for i in 0..256_u64 {
        disk.write(Offset(i << 20), vec![mb.clone()], Durability::Later).await.unwrap();
    }
    let written = clock.now().since(begun);
    disk.flush().await.unwrap();
    println!("256 x 1 MiB: written {written:?}, flushed {:?}", clock.now().since(begun));
    for round in 0..2 {
        let begun = clock.now();
        for i in 0..256_u64 {
            assert_eq!(disk.read(Offset(i << 20), 1 << 20).await.unwrap(), mb);
        }
        println!("read {round}: {:?}", clock.now().since(begun));
    }
    let begun = clock.now();
    for i in 0..2000_u64 {
        disk.read(Offset(i * 12345 / 4096 % 60000 * 4096), 4096).await.unwrap();
    }
    println!("4 KiB read: {:?}", clock.now().since(begun) / 2000);
    let begun = clock.now();
    for i in 0..2000_u64 {
        let data = vec![page.clone().into()];
        disk.write(Offset(CHUNK * 20 + i * 4096), data, Durability::Later).await.unwrap();
    }
    println!("4 KiB write: {:?}", clock.now().since(begun) / 2000);
    drop(disk);
    for server in 1..=3 {
        cluster.crash(server);
    }
    let begun = clock.now();
    for server in 1..=3 {
        cluster.restart(server).await;
    }
    println!("opened after a crash: {:?}", clock.now().since(begun));
    cluster.serving().await;
    println!("serving after a crash: {:?}", clock.now().since(begun));
    let _ = std::fs::remove_dir_all(dir);
}
