//! Whole jobs with real workers, in this process and over sockets, against a simple count.
#![expect(clippy::unwrap_used, reason = "tests")]

mod memory;

use std::{collections::BTreeMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use mapreduce::{
    Config, Error, Files, JobSpec, Peers, Phase, Place, Programs, Progress, Submission, Summary,
    Watch, Worker, run, server,
};
use memory::{Memory, Through};
use world::{Address, World};

type Counts = BTreeMap<Vec<u8>, u64>;

/// Text with every kind of blank, bytes that are no UTF-8, and words of all lengths; the same for the same seed.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut roll = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut text = Vec::with_capacity(bytes + 64);
    while text.len() < bytes {
        let word = (roll() % 5000).min(roll() % 5000);
        match word % 50 {
            7 => text.extend_from_slice(&[0xff, 0xfe, 0x80 | (word as u8 & 0x3f)]),
            8 => text.extend_from_slice(format!("long-{word}-").repeat(20).as_bytes()),
            _ => text.extend_from_slice(format!("w{word}").as_bytes()),
        }
        text.push(b" \n\t\r\x0b\x0c  "[roll() as usize % 8]);
    }
    text
}

fn count(counts: &mut Counts, bytes: &[u8]) {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    for word in bytes.split(blank).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_vec()).or_insert(0) += 1;
    }
}

/// The input of most tests, and its counts.
fn input(files: &Memory) -> Counts {
    let mut counts = Counts::new();
    for number in 0..200 {
        let content = text(number, 500 + number as usize * 20);
        count(&mut counts, &content);
        files.put(&format!("/in/small/{number:03}"), &content);
    }
    for number in 0..2 {
        let content = text(1000 + number, 3_000_000);
        count(&mut counts, &content);
        files.put(&format!("/in/large-{number}"), &content);
    }
    files.put("/in/.hidden", b"hidden hidden");
    files.put("/in/_log/x", b"hidden");
    files.put("/in/empty", b"");
    counts
}

/// Parts are sorted, disjoint, and together what they should be.
fn check(files: &Memory, output: &str, expected: &Counts, reduces: u32) {
    let mut all = Counts::new();
    for part in 0..reduces {
        let path = format!("{output}/part-{part:05}");
        let content = files.get(&path).unwrap_or_else(|| panic!("{path} is missing"));
        assert!(files.is_synced(&path));
        let mut before: Option<Vec<u8>> = None;
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap();
            let tab = line.iter().rposition(|byte| *byte == b'\t').unwrap();
            let (word, number) =
                (line[..tab].to_vec(), std::str::from_utf8(&line[tab + 1..]).unwrap());
            assert!(before.as_ref().is_none_or(|before| *before < word));
            before = Some(word.clone());
            assert_eq!(all.insert(word, number.parse().unwrap()), None);
        }
    }
    assert!(all == *expected, "the counts differ");
    let mut names = files.below(output);
    names.retain(|name| !name.starts_with("part-"));
    assert_eq!(names, ["_SUCCESS"]);
}

struct Cluster {
    world: World,
    peers: Peers,
    workers: Vec<Arc<Worker>>,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let world = World::real();
        let peers = Peers::new(&world, None);
        Self { world, peers, workers: Vec::new(), dir: tempfile::tempdir().unwrap() }
    }

    async fn add(&mut self, files: Arc<dyn Files>, memory: u64) {
        let name = format!("worker-{}", self.workers.len());
        let config = Config {
            place: Place(name.clone()),
            dir: self.dir.path().join(&name),
            slots: 1,
            memory,
            programs: Programs::shipped(),
        };
        self.workers.push(Worker::open(&self.world, files, &self.peers, config).await.unwrap());
    }

    async fn run(&self, files: &Arc<Memory>, spec: JobSpec) -> Result<(Summary, Progress), Error> {
        let places: Vec<_> = self.workers.iter().map(|worker| worker.place().clone()).collect();
        let watch = Watch::default();
        let summary =
            run(&self.world, files.clone(), &self.peers, &places, submission(spec), &watch).await?;
        let last = *watch.progress.borrow();
        Ok((summary, last))
    }

    fn left_behind(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| {
                std::fs::read_dir(self.dir.path().join(&worker.place().0)).unwrap().count()
            })
            .sum()
    }
}

fn submission(spec: JobSpec) -> Submission {
    Submission { spec, uploads: Vec::new(), programs: Programs::shipped() }
}

fn spec(output: &str) -> JobSpec {
    JobSpec {
        inputs: vec!["/in".to_owned()],
        output: output.to_owned(),
        reduces: 3,
        split_bytes: 700_000,
        ..JobSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_count_as_a_simple_count_does_and_a_second_job_may_not_overwrite() {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let mut cluster = Cluster::new();
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
    let mut cluster = Cluster::new();
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
    let mut cluster = Cluster::new();
    cluster.add(broken.clone(), 64 << 20).await;
    cluster.add(files.clone(), 64 << 20).await;
    let (summary, _) = cluster.run(&files, spec("/out")).await.unwrap();
    check(&files, "/out", &expected, 3);
    assert!(summary.failures > 0);

    let mut cluster = Cluster::new();
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
        let worker =
            Worker::open(&world, files, &Peers::new(&world, Some(me)), config).await.unwrap();
        let server = wire::Server::new(&world, me).service(server(&worker));
        serving.push((server.serve(&address).await.unwrap(), worker));
        places.push(place);
    }
    let peers = Peers::new(&world, Some(me));
    let watch = Watch::default();
    let spec = JobSpec { silence: Duration::from_secs(3), ..spec("/out") };
    let job = run(&world, files.clone(), &peers, &places, submission(spec), &watch);
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
    let mut cluster = Cluster::new();
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
    let mut cluster = Cluster::new();
    cluster.add(files.clone(), 64 << 20).await;
    cluster.add(files.clone(), 64 << 20).await;
    let spec = JobSpec { split_bytes: 16 << 20, ..spec("/out") };
    let (summary, _) = cluster.run(&files, spec).await.unwrap();
    let speed = summary.counters.input_bytes() as f64 / summary.elapsed.as_secs_f64() / 1e6;
    eprintln!("{speed:.0} MB/s, {:?}", summary.elapsed);
    assert_eq!(summary.counters.get("wordcount", "words") % 4, 0);
}
