//! Reduces that begin before all maps are done.

use std::sync::{Arc, atomic::Ordering};

use mapreduce::{JobSpec, Watch};

use crate::{
    harness::{self, Workers, check, until},
    memory::{Memory, Through},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reduce_fetches_what_is_there_while_the_last_map_runs() {
    let files = Arc::new(Memory::new());
    let expected = harness::few(&files, 4, 20_000);
    let mut workers = Workers::new();
    let stuck = Arc::new(Through { stop_after: 0, ..Through::new(&files) });
    workers.add(stuck.clone(), 64 << 20).await;
    workers.add(files.clone(), 64 << 20).await;
    let spec = JobSpec { together: false, backups: false, ..harness::spec("/out") };
    let watch = Watch::default();
    let job = workers.run_watched(&files, spec, &watch);
    let released = async {
        let page = watch.page.subscribe();
        until(&workers.world, || {
            let view = page.borrow();
            let has_fetched = |reduce: u32| {
                let task = format!("reduce {reduce}");
                view.attempts.iter().any(|one| one.task == task && one.thousandths > 0)
            };
            view.progress.maps == (3, 4) && has_fetched(0) && has_fetched(1)
        })
        .await;
        assert!(stuck.reads.load(Ordering::SeqCst) > 0);
        stuck.gate.add_permits(1000);
    };
    let (done, ()) = tokio::join!(job, released);
    assert_eq!(done.unwrap().failures, 0);
    check(&files, "/out", &expected, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_reduce_waits_a_map_has_the_only_slot() {
    let files = Arc::new(Memory::new());
    let expected = harness::few(&files, 3, 20_000);
    let mut workers = Workers::new();
    workers.add(files.clone(), 64 << 20).await;
    let stuck = Arc::new(Through { stop_after: 0, ..Through::new(&files) });
    workers.add(stuck.clone(), 64 << 20).await;
    // The reads of the second worker fail in the end: its map runs on the first one, whose only slot no reduce may hold.
    let spec = JobSpec { together: false, backups: false, reduces: 1, ..harness::spec("/out") };
    let watch = Watch::default();
    let job = workers.run_watched(&files, spec, &watch);
    let broken = async {
        let page = watch.page.subscribe();
        until(&workers.world, || {
            let view = page.borrow();
            view.attempts.iter().any(|one| one.task == "reduce 0")
        })
        .await;
        stuck.broken.store(true, Ordering::SeqCst);
        stuck.gate.add_permits(1000);
    };
    let (done, ()) = tokio::join!(job, broken);
    assert!(done.unwrap().failures > 0);
    check(&files, "/out", &expected, 1);
}
