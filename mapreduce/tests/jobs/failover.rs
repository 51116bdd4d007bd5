//! Coordinators that are lost at every point of a job: a standby goes on, the output is the same, and no reduce whose
//! part has its name runs again.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use fs::InodeNo;
use mapreduce::{Cluster, Error, Files, JobSpec, Line, Place, Stat, Watch, run};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    harness::{self, Counts, Workers, check, submission, until},
    memory::{Memory, Through},
    urn::Urn,
};

/// The files of a coordinator that dies in its n-th call, before or after that had its effect. What it wrote, or did to
/// names, and did not make durable is then as if it had not been.
struct Doomed {
    files: Arc<Memory>,
    left: AtomicI64,
    after: bool,
    dead: AtomicBool,
    died: Semaphore,
    unsettled: Mutex<VecDeque<Unsettled>>,
}

/// A change that is not durable.
enum Unsettled {
    Made { path: String },
    Removed { path: String, ino: InodeNo },
    Moved { from: String, to: String },
    Written { ino: InodeNo, offset: u64 },
}

impl Doomed {
    fn new(files: &Arc<Memory>, calls: i64, after: bool) -> Arc<Self> {
        let (files, died) = (files.clone(), Semaphore::new(0));
        let (dead, unsettled) = (false.into(), Mutex::default());
        Arc::new(Self { files, left: calls.into(), after, dead, died, unsettled })
    }

    /// What is not durable is lost with whoever did it.
    async fn lose(&self) {
        let unsettled = std::mem::take(&mut *self.unsettled.lock());
        for change in unsettled.into_iter().rev() {
            match change {
                Unsettled::Made { path } => self.files.remove(&path).await.unwrap(),
                Unsettled::Removed { path, ino } => self.files.name(&path, ino),
                Unsettled::Moved { from, to } => self.files.rename(&to, &from).await.unwrap(),
                Unsettled::Written { ino, offset } => self.files.cut(ino, offset),
            }
        }
    }

    /// A call that makes durable what was done before it.
    async fn settling<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let settled = self.unsettled.lock().len();
        let work = async {
            let done = work.await;
            let mut unsettled = self.unsettled.lock();
            let settled = settled.min(unsettled.len());
            unsettled.drain(..settled);
            drop(unsettled);
            done
        };
        self.call(work).await
    }

    /// A call that changes something.
    async fn changing<T>(
        &self,
        change: Option<Unsettled>,
        work: impl Future<Output = Result<T, fs::Error>> + Send,
    ) -> Result<T, fs::Error> {
        let work = async {
            let done = work.await;
            if done.is_ok() {
                self.unsettled.lock().extend(change);
            }
            done
        };
        self.call(work).await
    }

    /// The making of what is not there yet.
    fn made(&self, path: &str) -> Option<Unsettled> {
        let is_new = self.files.named(path).is_none();
        is_new.then(|| Unsettled::Made { path: path.to_owned() })
    }

    async fn call<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left < 1 || (left == 1 && !self.after) {
            self.die().await;
        }
        let done = work.await;
        if left == 1 {
            self.die().await;
        }
        done
    }

    async fn die(&self) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            self.lose().await;
        }
        self.died.add_permits(1);
        std::future::pending::<()>().await;
    }

    async fn died(&self) {
        self.died.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl Files for Doomed {
    async fn stat(&self, path: &str) -> Result<Option<Stat>, fs::Error> {
        self.call(self.files.stat(path)).await
    }
    async fn list(&self, directory: InodeNo) -> Result<Vec<Line>, fs::Error> {
        self.call(self.files.list(directory)).await
    }
    async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, fs::Error> {
        self.call(self.files.read(ino, offset, length)).await
    }
    async fn make_directories(&self, path: &str) -> Result<(), fs::Error> {
        // One by one, as a file system does it.
        for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            let part = &path[..end];
            if let Some(change) = self.made(part) {
                self.changing(Some(change), self.files.make_directories(part)).await?;
            }
        }
        Ok(())
    }
    async fn create(&self, path: &str) -> Result<InodeNo, fs::Error> {
        self.changing(self.made(path), self.files.create(path)).await
    }
    async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), fs::Error> {
        let change = Some(Unsettled::Written { ino, offset });
        self.changing(change, self.files.write(ino, offset, data)).await
    }
    async fn sync(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.settling(self.files.sync(ino)).await
    }
    async fn finish(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.settling(self.files.finish(ino)).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<(), fs::Error> {
        let change = Unsettled::Moved { from: from.to_owned(), to: to.to_owned() };
        self.changing(Some(change), self.files.rename(from, to)).await
    }
    async fn remove(&self, path: &str) -> Result<(), fs::Error> {
        // One by one, as a file system does it.
        let below = self.files.below(path).into_iter().rev().map(|name| format!("{path}/{name}"));
        for path in below.chain([path.to_owned()]) {
            let ino = self.files.named(&path);
            let change = ino.map(|ino| Unsettled::Removed { path: path.clone(), ino });
            self.changing(change, self.files.remove(&path)).await?;
        }
        Ok(())
    }
    async fn settle(&self) -> Result<(), fs::Error> {
        self.settling(self.files.settle()).await
    }
}

/// The session of the process that submits.
const CLIENT: u64 = 0;

fn input(files: &Memory) -> Counts {
    let mut counts = Counts::new();
    for number in 0..6 {
        let content = harness::text(number, 3000);
        harness::count(&mut counts, &content);
        files.put(&format!("/in/{number}"), &content);
    }
    counts
}

fn spec() -> JobSpec {
    JobSpec { split_bytes: 6000, ..harness::spec("/out") }
}

/// Two workers that are standbys when asked, and the election.
async fn cluster(files: &Arc<Memory>, urn: &Arc<Urn>) -> Workers {
    let mut workers = Workers::new();
    for session in 1..=2 {
        workers.ballots = Some(urn.voter(&workers.world, session));
        workers.add(files.clone(), 64 << 20).await;
    }
    workers
}

/// Whether everything is in its place, and nothing else.
fn is_over(files: &Memory) -> bool {
    files.get("/out/_SUCCESS").is_some() && leftovers(files).is_empty()
}

/// What only a job under way needs.
fn leftovers(files: &Memory) -> Vec<String> {
    let mut names = files.below("");
    names.retain(|name| name.starts_with("_job-") || name.starts_with("out/_journal"));
    names
}

/// No attempt of a reduce began to write after its part had its name.
fn check_once(files: &Memory) {
    let log = files.log();
    for part in 0..3 {
        let named = |line: &String| {
            line.starts_with("rename") && line.ends_with(&format!("/part-{part:05}"))
        };
        let named = log.iter().position(named).unwrap();
        let begun = format!("create /out/_temporary/part-{part:05}-");
        let again = log[named..].iter().find(|line| line.starts_with(&begun));
        assert_eq!(again, None, "a finished reduce ran again");
    }
}

/// Runs the job with a coordinator that is lost in call `point`; `false` if it had less calls than that.
async fn survives(point: i64, after: bool) -> bool {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let urn = Arc::new(Urn::default());
    let workers = cluster(&files, &urn).await;
    let doomed = Doomed::new(&files, point, after);
    let coordinator = Cluster {
        files: doomed.clone(),
        peers: workers.peers.clone(),
        ballots: Some(urn.voter(&workers.world, CLIENT)),
    };
    let (places, watch) = (workers.places(), Watch::default());
    let done = tokio::select! {
        biased;
        // What it began is dropped with it, as with a process.
        () = doomed.died() => None,
        done = run(&workers.world, &coordinator, &places, submission(spec()), &watch) => Some(done),
    };
    let lost = done.is_none();
    if let Some(done) = done {
        done.unwrap();
        doomed.lose().await;
        assert_eq!(leftovers(&files), [""; 0], "it said that it was done, and died");
    }
    urn.end(CLIENT);
    if files.named("/out").is_none() {
        // It had begun nothing that anybody could see, and what it had prepared goes with it.
        assert!(lost);
        until(&workers.world, || urn.standing() == 0).await;
        assert_eq!(files.below("").iter().find(|name| !name.starts_with("in")), None);
        return true;
    }
    until(&workers.world, || is_over(&files)).await;
    check(&files, "/out", &expected, 3);
    check_once(&files);
    until(&workers.world, || urn.standing() == 0).await;
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_may_be_lost_in_each_of_its_calls() {
    // Every second one before its effect; the soak runs both.
    let both = std::env::var_os("PLUMERIA_CASES").is_some();
    let mut points = 0;
    loop {
        points += 1;
        let lost = survives(points, points % 2 == 0).await;
        if both {
            survives(points, points % 2 != 0).await;
        }
        if !lost {
            break;
        }
    }
    assert!(points > 30, "{points} points");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_was_taken_for_dead_stops_and_leaves_the_job_to_its_successor() {
    let files = Arc::new(Memory::new());
    let expected = input(&files);
    let urn = Arc::new(Urn::default());
    let mut workers = Workers::new();
    // Its reads of input wait, so that the job is under way for as long as it takes.
    let waiting = Arc::new(Through { stop_after: 0, ..Through::new(&files) });
    workers.ballots = Some(urn.voter(&workers.world, 1));
    workers.add(waiting.clone(), 64 << 20).await;
    let coordinator = Cluster {
        files: files.clone(),
        peers: workers.peers.clone(),
        ballots: Some(urn.voter(&workers.world, CLIENT)),
    };
    let (places, watch): (Vec<Place>, _) = (workers.places(), Watch::default());
    let job = run(&workers.world, &coordinator, &places, submission(spec()), &watch);
    let taken_for_dead = async {
        until(&workers.world, || waiting.reads.load(Ordering::SeqCst) > 0).await;
        urn.end(CLIENT);
    };
    let (done, ()) = tokio::join!(job, taken_for_dead);
    let error = done.unwrap_err();
    assert!(matches!(error, Error::Deposed), "{error}");
    waiting.gate.add_permits(1000);
    until(&workers.world, || is_over(&files)).await;
    check(&files, "/out", &expected, 3);
}
