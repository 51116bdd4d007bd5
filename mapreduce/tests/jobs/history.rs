//! What is known of a job when it is over, and when the workers that ran it are gone.

use std::sync::Arc;

use mapreduce::{Cluster, Error, JobSpec, Known, Phase, Summary, Watch, run, streaming_options};

use crate::{
    harness::{Workers, submission},
    memory::Memory,
    urn::Urn,
};

/// A cluster whose coordinators are elected, as that of a mount.
struct Elected {
    files: Arc<Memory>,
    urn: Arc<Urn>,
    workers: Workers,
}

impl Elected {
    async fn new(files: &Arc<Memory>, count: u64) -> Self {
        let (urn, mut workers) = (Arc::new(Urn::default()), Workers::new());
        for session in 1..=count {
            workers.ballots = Some(urn.voter(&workers.world, session));
            workers.add(files.clone(), 64 << 20).await;
        }
        Self { files: files.clone(), urn, workers }
    }

    async fn run(&self, spec: JobSpec) -> Result<Summary, Error> {
        let cluster = Cluster {
            files: self.files.clone(),
            peers: self.workers.peers.clone(),
            ballots: Some(self.urn.voter(&self.workers.world, 0)),
        };
        let places = self.workers.places();
        run(&self.workers.world, &cluster, &places, submission(spec), &Watch::default()).await
    }

    async fn history(&self) -> Vec<Known> {
        mapreduce::history(&self.workers.peers, &self.workers.places()).await.unwrap()
    }

    /// Labels and texts of the logs of a job.
    async fn logs(&self, job: u64) -> Vec<(String, String)> {
        let logs = mapreduce::logs(&self.workers.peers, &self.workers.places(), job).await.unwrap();
        let text = |text: Vec<u8>| String::from_utf8(text).unwrap();
        logs.into_iter().map(|log| (log.label, text(log.text))).collect()
    }
}

/// A job of shell commands.
fn shell(output: &str, mapper: &str) -> JobSpec {
    let words = ["-input", "/in", "-output", output, "-mapper", mapper, "-reducer", "cat"];
    let more = ["-D", "plumeria.shell=true", "-D", "mapreduce.map.maxattempts=2"];
    let words: Vec<_> = words.iter().chain(&more).map(|word| (*word).to_owned()).collect();
    let options = streaming_options(&words).unwrap();
    options.with(vec!["/in".to_owned()], output.to_owned(), Vec::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_and_logs_are_there_when_the_workers_are_not() {
    let files = Arc::new(Memory::new());
    files.put("/in/one", b"a\nb\n");
    let first = Elected::new(&files, 2).await;
    first.run(shell("/good", "echo it goes well >&2; cat")).await.unwrap();
    let error = first.run(shell("/bad", "echo no luck >&2; exit 3")).await.unwrap_err();
    assert!(error.to_string().contains("no luck"), "{error}");
    drop(first);
    let later = Elected::new(&files, 1).await;
    let places = later.workers.places();
    assert_eq!(mapreduce::jobs(&later.workers.peers, &places).await.unwrap(), []);
    let known = later.history().await;
    let phases: Vec<_> = known.iter().map(|job| job.view.progress.phase).collect();
    assert_eq!(phases, [Phase::Done, Phase::Failed]);
    assert!(known.iter().all(|job| job.over));
    assert_eq!(known[0].view.counters.framework("Map input records"), 2);
    assert!(known[1].view.failures.iter().all(|failed| failed.reason.contains("no luck")));
    let name = format!("{:016x}", known[0].id);
    let found = mapreduce::find(&later.workers.peers, &places, &name).await.unwrap();
    assert_eq!(found.view, known[0].view);
    let said = |label: &str, text: &str| (label.to_owned(), format!("{text}\n"));
    assert_eq!(later.logs(known[0].id).await, [said("m-00000-0", "it goes well")]);
    let both = [said("m-00000-0", "no luck"), said("m-00000-1", "no luck")];
    assert_eq!(later.logs(known[1].id).await, both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_jobs_are_forgotten_with_their_logs() {
    let files = Arc::new(Memory::new());
    files.put("/in/one", b"a\n");
    let cluster = Elected::new(&files, 1).await;
    for number in 0..52 {
        cluster.run(shell(&format!("/out-{number}"), "echo here >&2; cat")).await.unwrap();
    }
    let known = cluster.history().await;
    let outputs: Vec<_> = known.iter().map(|job| job.view.output.clone()).collect();
    let expected: Vec<_> = (2..52).map(|number| format!("/out-{number}")).collect();
    assert_eq!(outputs, expected);
    let kept = files.below("/.plumeria/jobs");
    assert_eq!(kept.iter().filter(|name| name.ends_with("m-00000-0")).count(), 50, "{kept:?}");
}
