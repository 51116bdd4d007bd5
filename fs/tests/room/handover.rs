//! Hand-overs at an awkward moment: a lock goes while something under it is half done. Each test
//! holds the disk at that moment, so that the order is always the same.

use std::{sync::Arc, time::Duration};

use crate::common::{ROOT, Volume};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_closes_while_it_frees_a_file_of_another_does_not_wait_for_a_deadline() {
    let volume = Volume::new().await;
    let maker = volume.mount().await;
    let ino = maker.file(ROOT, "f", &[7; 20_000]).await;
    maker.fs.fsync(ino).await.unwrap();
    let (closer, held) = volume.mount_odd(0, 0).await;
    closer.fs.unlink(ROOT, b"f").await.unwrap();
    held.begun.subscribe().wait_for(|begun| *begun > 0).await.unwrap();
    // The bitmap that says that the run is in use is the maker's, who wants it back now, when all of the closer's locks
    // are about to go: it stays until the run is freed.
    let wanted = tokio::spawn(async move {
        let other = maker.file(ROOT, "g", &[8; 20_000]).await;
        maker.fs.fsync(other).await.unwrap();
        maker.fs.unlink(ROOT, b"g").await.unwrap();
        maker
    });
    let fs = Arc::clone(&closer.fs);
    let mut closed = tokio::spawn(async move { fs.close().await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut closed).await;
    assert!(early.is_err(), "it closed with a file half freed");
    held.go.add_permits(1000);
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.expect("closing waits for itself").unwrap().unwrap();
    let wanted = tokio::time::timeout(Duration::from_secs(5), wanted).await;
    let maker = wanted.expect("the bitmap does not come back").unwrap();
    maker.fs.close().await.unwrap();
    volume.check().await;
}
