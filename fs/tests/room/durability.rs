//! What survives: power loss of all servers, the death of a mount, a lost lease.

use crate::common::{ME, ROOT, Volume, errno};
use bytes::Bytes;
use fs::{Node, RenameMode, SetAttributes};
use lockservice::Locks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fsync_acknowledged_survives_the_mount_and_a_power_loss() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let dir = m.dir(ROOT, "d").await;
    let mut synced = Vec::new();
    for i in 0..40_u8 {
        let ino = m.file(dir, &format!("f{i}"), &vec![i; 1000 * i as usize + 1]).await;
        if i % 2 == 0 {
            m.fs.fsync(ino).await.unwrap();
            synced.push((i, ino));
        }
    }
    m.fs.rename(dir, b"f0", ROOT, b"moved", RenameMode::Replace).await.unwrap();
    m.fs.fsyncdir(ROOT).await.unwrap();
    m.file(dir, "never synced", b"x").await;
    let dead = m.clerk.session();
    m.clerk.abandon();
    volume.disk.crash(7);

    let other = volume.mount().await;
    volume.locks.kill(dead).await.unwrap();
    for (i, ino) in synced {
        assert!(other.content(ino).await == vec![i; 1000 * i as usize + 1], "file {i}");
    }
    assert!(other.find(dir, "f0").await.is_none());
    assert!(other.find(ROOT, "moved").await.is_some());
    assert_eq!(errno(m.fs.fsync(dir).await), 5);
    other.file(dir, "new", b"after").await;
    other.fs.close().await.unwrap();
    volume.check().await;
}

/// Found by killing a whole cluster: the log was pushed between a rename and the write-back of what was renamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_renamed_before_it_was_written_is_whole_under_every_name_after_a_power_loss() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let other_name = m.file(ROOT, "over", b"older").await;
    m.fs.fsync(other_name).await.unwrap();
    for (from, to) in [("one", "fresh"), ("two", "over")] {
        m.file(ROOT, from, &[7; 70_000]).await;
        m.fs.rename(ROOT, from.as_bytes(), ROOT, to.as_bytes(), RenameMode::Replace).await.unwrap();
    }
    m.file(ROOT, "left", &[8; 5000]).await;
    m.file(ROOT, "right", &[9; 6000]).await;
    m.fs.rename(ROOT, b"left", ROOT, b"right", RenameMode::Exchange).await.unwrap();
    m.file(ROOT, "plain", b"written back by nobody").await;
    // The names are pushed; nobody asked for the content.
    m.fs.fsyncdir(ROOT).await.unwrap();
    let dead = m.clerk.session();
    m.clerk.abandon();
    volume.disk.crash(3);

    let other = volume.mount().await;
    volume.locks.kill(dead).await.unwrap();
    for (name, content) in [
        ("fresh", vec![7; 70_000]),
        ("over", vec![7; 70_000]),
        ("right", vec![8; 5000]),
        ("left", vec![9; 6000]),
    ] {
        let ino = other.find(ROOT, name).await.unwrap().attributes.ino;
        assert!(other.content(ino).await == content, "{name}");
    }
    let plain = other.find(ROOT, "plain").await.unwrap().attributes;
    assert_eq!(plain.size, 0, "a push waits for the data of what was renamed, not for all");
    other.fs.close().await.unwrap();
    volume.check().await;
}

/// The log waits for the data of renamed files, and freeing what was cut off them waits for the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_cut_and_written_and_renamed_again_and_again_hold_up_nobody() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let empty = SetAttributes { size: Some(0), ..SetAttributes::default() };
    let mut name = String::from("n0");
    let ino = m.file(ROOT, &name, &[1; 300_000]).await;
    m.fs.fsync(ino).await.unwrap();
    for round in 1..60_u8 {
        m.fs.setattr(ino, empty).await.unwrap();
        m.fs.write(ino, 0, Bytes::from(vec![round; 3000 * usize::from(round)])).await.unwrap();
        let next = format!("n{round}");
        m.fs.rename(ROOT, name.as_bytes(), ROOT, next.as_bytes(), RenameMode::Replace)
            .await
            .unwrap();
        name = next;
        if round % 3 == 0 {
            m.fs.fsyncdir(ROOT).await.unwrap();
        }
    }
    assert!(m.content(ino).await == vec![59; 3000 * 59]);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_request_leaves_a_volume_that_is_whole() {
    for cut in (0..60).step_by(2).chain((60..200).step_by(11)) {
        let volume = Volume::new().await;
        let m = volume.mount().await;
        volume.disk.break_after(cut);
        let work = async {
            let size = SetAttributes { size: Some(100), ..SetAttributes::default() };
            for i in 0..12_u8 {
                let dir = m.fs.make(ROOT, &[b'd', i + 65], Node::directory(0o755), ME).await?;
                let dir = dir.attributes.ino;
                let file = m.fs.create(dir, b"f", 0o644, ME).await?.attributes.ino;
                m.fs.write(file, 0, Bytes::from(vec![i; 9000])).await?;
                m.fs.release(file);
                m.fs.fsync(file).await?;
                m.fs.setattr(file, size).await?;
                m.fs.rename(dir, b"f", ROOT, &[b'f', i + 65], RenameMode::Replace).await?;
                m.fs.unlink(ROOT, &[b'f', i + 64])
                    .await
                    .or_else(|error| if error.errno() == 2 { Ok(()) } else { Err(error) })?;
                m.fs.sync().await?;
            }
            Ok::<_, fs::Error>(())
        };
        // A disk that does not answer makes the work wait for ever; the crash ends it.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(150), work).await;
        let dead = m.clerk.session();
        m.clerk.abandon();
        volume.disk.fence(blockstore::Fence(dead.0));
        volume.disk.crash(cut);
        let other = volume.mount().await;
        volume.locks.kill(dead).await.unwrap();
        for name in other.names(ROOT).await {
            let ino = other.find(ROOT, &name).await.unwrap().attributes.ino;
            if name.starts_with('f') {
                let fill = name.as_bytes()[1] - 65;
                let content = other.content(ino).await;
                assert!(content.iter().all(|byte| *byte == fill), "cut {cut}: {name}");
            }
        }
        other.file(ROOT, "after", b"the crash").await;
        other.fs.sync().await.unwrap();
        other.fs.close().await.unwrap();
        volume.check().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_lost_its_lease_fails_every_call() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", b"x").await;
    let other = volume.mount().await;
    volume.locks.kill(m.clerk.session()).await.unwrap();
    // The other mount gets the locks only when the first was told or fenced.
    assert!(other.find(ROOT, "f").await.is_none(), "it was never synced");
    let mut failed = false;
    for _ in 0..5000 {
        failed = m.fs.getattr(ino).await.is_err();
        if failed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(failed);
    assert_eq!(errno(m.fs.write(ino, 0, Bytes::from_static(b"y")).await), 5);
    assert_eq!(errno(m.fs.fsync(ino).await), 5);
    other.fs.close().await.unwrap();
    volume.check().await;
}
