//! Where maps run: on the machine that keeps their input, if a worker there has room.

use std::sync::{Arc, atomic::Ordering};

use mapreduce::JobSpec;

use crate::{
    harness::{self, Counts, Workers, check, until},
    memory::{Memory, Through},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_runs_on_the_machine_that_keeps_its_input() {
    let files = Arc::new(Memory::new());
    let mut expected = Counts::new();
    // The worker that answers first would get the first map, if that were all.
    let mut bytes = 0;
    for (number, host) in [(0, "worker-1"), (1, "worker-0")] {
        let (path, content) = (format!("/in/{number}"), harness::text(number, 5000));
        bytes += content.len() as u64;
        harness::count(&mut expected, &content);
        files.put(&path, &content);
        files.keep(&path, host);
    }
    let mut workers = Workers::new();
    let (first, second) = (
        Arc::new(Through { stop_after: 0, ..Through::new(&files) }),
        Arc::new(Through::new(&files)),
    );
    workers.add(first.clone(), 64 << 20).await;
    workers.add(second.clone(), 64 << 20).await;
    let spec = JobSpec { together: false, ..harness::spec("/out") };
    // One does not end before the other has begun: none of them has time for both.
    let released = async {
        until(&workers.world, || second.reads.load(Ordering::SeqCst) > 0).await;
        first.gate.add_permits(1000);
    };
    let (done, ()) = tokio::join!(workers.run(&files, spec), released);
    let (summary, _) = done.unwrap();
    let counted = |name| summary.counters.get("Job Counters", name);
    assert_eq!(counted("Data-local map tasks"), 2);
    assert_eq!(counted("Remote map tasks"), 0);
    assert_eq!((counted("Data-local bytes"), counted("Remote bytes")), (bytes, 0));
    check(&files, "/out", &expected, 3);
}
