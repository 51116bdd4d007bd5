//! A cluster on a disk that is too small for what is written to it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::harness::{Cluster, eventually};

const MIB: usize = 1 << 20;
const ENOSPC: i32 = 28;

/// A small disk in memory, unmounted when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "a tmpfs can be mounted (by root only)");
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes a file of 4 MiB and brings it to stable storage.
fn fill(path: &Path) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    for _ in 0..4 {
        file.write_all(&vec![7; MIB])?;
    }
    file.sync_all()
}

#[test]
fn a_full_disk_is_told_and_the_mount_goes_on_reading_deleting_and_then_writing() {
    let cluster = Cluster::new();
    let _small = Small::mount(cluster.path("data"), "1200m");
    cluster.start(&[]);
    fs::write(cluster.path("mnt/first"), vec![3; MIB]).unwrap();
    let (mut written, mut error) = (Vec::new(), None);
    for number in 0..200 {
        let path = cluster.path(&format!("mnt/f{number}"));
        match fill(&path) {
            Ok(()) => written.push(path),
            Err(full) => {
                error = Some(full);
                break;
            }
        }
    }
    let error = error.expect("800 MiB in three copies do not fit");
    assert_eq!(error.raw_os_error(), Some(ENOSPC), "{error} after {} files", written.len());
    assert!(written.len() > 10, "only {} files were taken", written.len());
    assert!(fs::read(cluster.path("mnt/first")).unwrap() == vec![3; MIB]);
    for path in &written {
        assert!(fs::read(path).unwrap() == vec![7; 4 * MIB], "{}", path.display());
    }
    fs::create_dir(cluster.path("mnt/dir")).unwrap();
    for path in &written {
        fs::remove_file(path).unwrap();
    }
    eventually(Duration::from_secs(60), || {
        fill(&cluster.path("mnt/again")).map_err(|error| error.to_string())
    });
    assert!(fs::read(cluster.path("mnt/again")).unwrap() == vec![7; 4 * MIB]);
    cluster.stop();
}

#[test]
fn the_free_space_of_a_mount_falls_when_something_is_written_and_rises_when_it_is_deleted() {
    let cluster = Cluster::new();
    let _small = Small::mount(cluster.path("data"), "2g");
    cluster.start(&[]);
    cluster.mount_again();
    let free = |mount: &str| {
        let told = rustix::fs::statvfs(cluster.path(mount)).unwrap();
        assert!(told.f_bfree <= told.f_blocks && told.f_bavail <= told.f_bfree);
        told.f_bavail * told.f_frsize
    };
    let path = cluster.path("mnt/f");
    fs::write(&path, vec![5; MIB]).unwrap();
    fs::File::open(&path).unwrap().sync_all().unwrap();
    let before = free("mnt");
    for number in 0..25 {
        fill(&cluster.path(&format!("mnt/f{number}"))).unwrap();
    }
    // Both mounts tell it, as soon as the servers have. Here the three of them share one disk: it falls by more.
    let fallen = before - 100 * MIB as u64;
    let is = |mount: &str, right: &dyn Fn(u64) -> bool| {
        let told = free(mount);
        if right(told) { Ok(()) } else { Err(format!("{mount}: {told} free, {before} before")) }
    };
    for mount in ["mnt", "mnt2"] {
        eventually(Duration::from_secs(30), || is(mount, &|told| told <= fallen));
    }
    let lowest = free("mnt");
    for number in 0..25 {
        fs::remove_file(cluster.path(&format!("mnt/f{number}"))).unwrap();
    }
    for mount in ["mnt", "mnt2"] {
        let risen = |told| told >= lowest + 100 * MIB as u64;
        eventually(Duration::from_secs(60), || is(mount, &risen));
    }
    cluster.run(&["umount", &cluster.text("mnt2")]);
    cluster.stop();
}
