//! Input, its counts, workers of this process, and what a finished job must have left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mapreduce::{
    Ballots, Cluster, Config, Error, Files, JobSpec, Peers, Place, Programs, Progress, Submission,
    Summary, Watch, Worker, run,
};
use world::World;

use crate::memory::Memory;

pub(crate) type Counts = BTreeMap<Vec<u8>, u64>;

/// Text with every kind of blank, bytes that are no UTF-8, and words of all lengths; the same for the same seed.
pub(crate) fn text(seed: u64, bytes: usize) -> Vec<u8> {
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

pub(crate) fn count(counts: &mut Counts, bytes: &[u8]) {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    for word in bytes.split(blank).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_vec()).or_insert(0) += 1;
    }
}

/// So many files of words, and the counts of these.
pub(crate) fn few(files: &Memory, number: u64, bytes: usize) -> Counts {
    let mut counts = Counts::new();
    for number in 0..number {
        let content = text(number, bytes);
        count(&mut counts, &content);
        files.put(&format!("/in/{number}"), &content);
    }
    counts
}

/// The input of most tests, and its counts.
pub(crate) fn input(files: &Memory) -> Counts {
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
pub(crate) fn check(files: &Memory, output: &str, expected: &Counts, reduces: u32) {
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

/// Workers of this process.
pub(crate) struct Workers {
    pub(crate) world: World,
    pub(crate) peers: Peers,
    /// Where those that are added from now on may be elected.
    pub(crate) ballots: Option<Arc<dyn Ballots>>,
    workers: Vec<Arc<Worker>>,
    dir: tempfile::TempDir,
}

impl Workers {
    pub(crate) fn new() -> Self {
        let world = World::real();
        let peers = Peers::new(&world, None);
        let (ballots, workers) = (None, Vec::new());
        Self { world, peers, ballots, workers, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn add(&mut self, files: Arc<dyn Files>, memory: u64) {
        let name = format!("worker-{}", self.workers.len());
        let config = Config {
            place: Place(name.clone()),
            dir: self.dir.path().join(&name),
            slots: 1,
            memory,
            programs: Programs::shipped(),
        };
        let cluster = Cluster { files, peers: self.peers.clone(), ballots: self.ballots.clone() };
        self.workers.push(Worker::open(&self.world, &cluster, config).await.unwrap());
    }

    pub(crate) async fn run(
        &self,
        files: &Arc<Memory>,
        spec: JobSpec,
    ) -> Result<(Summary, Progress), Error> {
        let watch = Watch::default();
        let summary = self.run_watched(files, spec, &watch).await?;
        let last = *watch.progress.borrow();
        Ok((summary, last))
    }

    pub(crate) async fn run_watched(
        &self,
        files: &Arc<Memory>,
        spec: JobSpec,
        watch: &Watch,
    ) -> Result<Summary, Error> {
        let cluster = Cluster { files: files.clone(), peers: self.peers.clone(), ballots: None };
        run(&self.world, &cluster, &self.places(), submission(spec), watch).await
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        self.workers.iter().map(|worker| worker.place().clone()).collect()
    }

    pub(crate) fn left_behind(&self) -> usize {
        self.workers
            .iter()
            .map(|worker| {
                std::fs::read_dir(self.dir.path().join(&worker.place().0)).unwrap().count()
            })
            .sum()
    }
}

pub(crate) fn submission(spec: JobSpec) -> Submission {
    Submission { spec, uploads: Vec::new(), programs: Programs::shipped() }
}

pub(crate) fn spec(output: &str) -> JobSpec {
    JobSpec {
        inputs: vec!["/in".to_owned()],
        output: output.to_owned(),
        reduces: 3,
        split_bytes: 700_000,
        ..JobSpec::default()
    }
}

/// Waits until `what` is so.
pub(crate) async fn until(world: &World, what: impl Fn() -> bool) {
    let deadline = world.clock.now() + Duration::from_secs(60);
    while !what() {
        assert!(world.clock.now() < deadline, "it does not come to it");
        world.clock.sleep(Duration::from_millis(5)).await;
    }
}
