//! The word count as a whole job, against a simple count.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use mapreduce::{
    Cluster, Config, Error, Files, JobSpec, Peers, Phase, Place, Programs, Watch, Worker, run,
    server,
};
use world::{Address, World};

use crate::{
    harness::{Counts, Workers, check, input, spec, submission, text},
    memory::{Memory, Through},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_count_as_a_simple_count_does_and_a_second_job_may_not_overwrite() {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let mut cluster = Workers::new();
    cluster.add(files.clone(), 64 << 20).await;
    cluster.add(files.clone(), 64 << 20).await;
    let (summary, last) = cluster.run(&files, spec("/out")).await.unwrap();
    check(&files, "/out", &expected, 3);
    assert_eq!(cluster.left_behind(), 0);
    assert_eq!(last.phase, Phase::Done);
    assert_eq!(last.maps.0, summary.maps);
    assert!(summary.maps >= 8);
    let words: u64 = expected.values().sum();
    assert_eq!(summary.counters.get("wordcount", "words"), words);
    assert_eq!(summary.counters.framework("Map output records"), words);
    assert_eq!(summary.counters.framework("Reduce output records"), expected.len() as u64);
    assert_eq!(summary.counters.get("File System Counters", "Files read"), 202);

    let refused = cluster.run(&files, spec("/out")).await.unwrap_err();
    assert!(matches!(refused, Error::OutputExists(_)), "{refused}");
    let missing = JobSpec { inputs: vec!["/none".to_owned()], ..spec("/out2") };
    assert!(matches!(cluster.run(&files, missing).await.unwrap_err(), Error::NoInput(_)));
    assert!(files.below("/out2").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_little_memory_the_workers_spill_and_the_result_is_the_same() {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let mut cluster = Workers::new();
    cluster.add(files.clone(), 100 << 10).await;
    cluster.run(&files, spec("/out")).await.unwrap();
    check(&files, "/out", &expected, 3);
    assert_eq!(cluster.left_behind(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_always_fails_does_not_fail_the_job_but_all_of_them_do() {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let broken = Arc::new(Through::new(&files));
    broken.broken.store(true, Ordering::SeqCst);
    let mut cluster = Workers::new();
    cluster.add(broken.clone(), 64 << 20).await;
    cluster.add(files.clone(), 64 << 20).await;
    let (summary, _) = cluster.run(&files, spec("/out")).await.unwrap();
    check(&files, "/out", &expected, 3);
    assert!(summary.failures > 0);

    let mut cluster = Workers::new();
    cluster.add(broken, 64 << 20).await;
    let failed = cluster.run(&files, spec("/out3")).await.unwrap_err();
    assert!(matches!(failed, Error::Task { attempts: 4, .. }), "{failed}");
    assert!(files.below("/out3").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_over_the_wire_has_its_maps_run_again() {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let world = World::real();
    let me = wire::Identity {
        cluster: wire::ClusterId(7),
        node: wire::NodeId(1),
        role: wire::Role::Worker,
    };
    let dir = tempfile::tempdir().unwrap();
    // The second worker stops within its third read, and dies there.
    let stopping = Arc::new(Through { stop_after: 2, ..Through::new(&files) });
    let clients: [Arc<dyn Files>; 2] = [files.clone(), stopping.clone()];
    let mut places = Vec::new();
    let mut serving = Vec::new();
    for (number, files) in clients.into_iter().enumerate() {
        let address = Address::Unix(dir.path().join(format!("{number}.sock")));
        let place = Place::from(&address);
        let config = Config {
            place: place.clone(),
            dir: dir.path().join(format!("work-{number}")),
            slots: 1,
            memory: 64 << 20,
            programs: Programs::shipped(),
        };
        // Each has peers of its own, as in a process of its own.
        let peers = Peers::new(&world, Some(me));
        let cluster = Cluster { files, peers, ballots: None };
        let worker = Worker::open(&world, &cluster, config).await.unwrap();
        let server = wire::Server::new(&world, me).service(server(&worker));
        serving.push((server.serve(&address).await.unwrap(), worker));
        places.push(place);
    }
    let peers = Peers::new(&world, Some(me));
    let cluster = Cluster { files: files.clone(), peers, ballots: None };
    let watch = Watch::default();
    let spec = JobSpec { silence: Duration::from_secs(3), ..spec("/out") };
    let job = run(&world, &cluster, &places, submission(spec), &watch);
    let killer = async {
        while stopping.reads.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        drop(serving.pop());
        stopping.gate.close();
    };
    let (summary, ()) = tokio::join!(job, killer);
    check(&files, "/out", &expected, 3);
    assert!(summary.unwrap().failures > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_input_gives_empty_parts_and_success() {
    let files = Arc::new(Memory::new());
    files.put("/in/empty", b"");
    let mut cluster = Workers::new();
    cluster.add(files.clone(), 1 << 20).await;
    cluster.run(&files, spec("/out")).await.unwrap();
    check(&files, "/out", &Counts::new(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_itself_is_fast() {
    let files = Arc::new(Memory::new());
    let content = text(1, 16_000_000);
    for number in 0..4 {
        files.put(&format!("/in/{number}"), &content);
    }
    let mut cluster = Workers::new();
    cluster.add(files.clone(), 64 << 20).await;
    cluster.add(files.clone(), 64 << 20).await;
    let spec = JobSpec { split_bytes: 16 << 20, ..spec("/out") };
    let (summary, _) = cluster.run(&files, spec).await.unwrap();
    let speed = summary.counters.input_bytes() as f64 / summary.elapsed.as_secs_f64() / 1e6;
    eprintln!("{speed:.0} MB/s, {:?}", summary.elapsed);
    assert_eq!(summary.counters.get("wordcount", "words") % 4, 0);
}
