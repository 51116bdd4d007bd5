//! Two mounts of one volume, in memory, through the real kernel. Skipped, and said so, where there is no FUSE.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests drive the real machine, and say why they are skipped"
)]

use std::{
    collections::BTreeSet,
    fs as os,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use blockstore::{Fence, VirtualDisk, memory::MemoryDisk};
use fs::{Config, Fs, Recovery, mkfs};
use lockservice::{Clerk, Locks, local::LocalLocks};
use mount::{Error, Mount, Options};
use tokio::runtime::Runtime;
use world::World;

const PATIENCE: Duration = Duration::from_secs(10);

struct Volume {
    runtime: Runtime,
    world: World,
    disk: MemoryDisk,
    locks: LocalLocks,
}

/// One mount; gone, by force if need be, when it is dropped, also by a failing test.
struct Mounted<'a> {
    volume: &'a Volume,
    mount: Option<Mount>,
    fs: Arc<Fs>,
    _clerk: Arc<Clerk>,
    dir: tempfile::TempDir,
}

impl Volume {
    fn new() -> Self {
        // RUST_LOG=debug shows what the rooms do.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .try_init();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (world, disk, locks) = runtime.block_on(async {
            let world = World::real();
            let disk = MemoryDisk::new();
            let format: Arc<dyn VirtualDisk> = disk.open(Fence(u64::MAX));
            let root = mkfs::Root { uid: 0, gid: 0, mode: 0o755 };
            mkfs::format(&world, &format, root).await.unwrap();
            let locks = LocalLocks::new(world.clone());
            (world, disk, locks)
        });
        Self { runtime, world, disk, locks }
    }

    fn mount(&self) -> Option<Mounted<'_>> {
        let dir = tempfile::tempdir().unwrap();
        let (fs, clerk, mount) = self.runtime.block_on(async {
            let clerk = self.locks.open("test").await.unwrap();
            let disk: Arc<dyn VirtualDisk> = self.disk.open(Fence(clerk.session().0));
            let config = Config { patience: PATIENCE, ..Config::default() };
            let fs = Fs::new(self.world.clone(), disk.clone(), clerk.clone() as _, config);
            clerk.attach(fs.clone() as _, Some(Recovery::new(self.world.clone(), disk)));
            fs.start().await.unwrap();
            let mount =
                mount::serve(&self.world, fs.clone(), dir.path(), &Options::default()).await;
            (fs, clerk, mount)
        });
        match mount {
            Ok(mount) => Some(Mounted { volume: self, mount: Some(mount), fs, _clerk: clerk, dir }),
            Err(Error::Fuse(
                error @ (fuse::Error::NoFuse
                | fuse::Error::DeviceDenied(_)
                | fuse::Error::NotPermitted { .. }),
            )) => {
                assert!(std::env::var_os("CI").is_none(), "CI may not skip this: {error}");
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Mounted<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn unmount(&self) -> Result<(), Error> {
        let mount = self.mount.as_ref().unwrap();
        self.volume.runtime.block_on(mount.unmount(PATIENCE, false))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _guard = self.volume.runtime.enter();
        if let Some(mount) = self.mount.take() {
            let _ = self.volume.runtime.block_on(mount.unmount(Duration::from_secs(3), true));
        }
    }
}

fn names(path: &Path) -> BTreeSet<String> {
    os::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn what_a_program_does_with_files_works() {
    let volume = Volume::new();
    let Some(mount) = volume.mount() else { return };
    let big: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 253) as u8).collect();
    os::write(mount.path("big"), &big).unwrap();
    assert!(os::read(mount.path("big")).unwrap() == big);
    os::create_dir_all(mount.path("a/b/c")).unwrap();
    os::write(mount.path("a/b/c/file"), b"content").unwrap();
    os::rename(mount.path("a/b/c/file"), mount.path("a/moved")).unwrap();
    os::hard_link(mount.path("a/moved"), mount.path("hard")).unwrap();
    std::os::unix::fs::symlink("a/moved", mount.path("link")).unwrap();
    os::remove_file(mount.path("a/moved")).unwrap();
    assert_eq!(os::read(mount.path("hard")).unwrap(), b"content");
    assert_eq!(os::read_link(mount.path("link")).unwrap(), Path::new("a/moved"));
    assert!(os::read(mount.path("link")).is_err());
    assert!(os::remove_dir(mount.path("a/b")).is_err(), "not empty");
    os::remove_dir_all(mount.path("a")).unwrap();
    let mut file = os::OpenOptions::new().append(true).open(mount.path("hard")).unwrap();
    file.write_all(b" and more").unwrap();
    file.sync_all().unwrap();
    file.set_len(10).unwrap();
    assert_eq!(os::read(mount.path("hard")).unwrap(), b"content an");
    drop(file);
    let mut held = os::File::open(mount.path("hard")).unwrap();
    os::remove_file(mount.path("hard")).unwrap();
    let mut still = String::new();
    held.read_to_string(&mut still).unwrap();
    assert_eq!(still, "content an", "an unlinked file is readable while it is open");
    drop(held);
    for at in 0..400 {
        os::write(mount.path(&format!("many-{at}")), at.to_string()).unwrap();
    }
    assert_eq!(names(mount.dir.path()).len(), 402);
    mount.unmount().unwrap();
}

#[test]
fn each_mount_sees_at_once_what_the_other_did() {
    let volume = Volume::new();
    let (Some(a), Some(b)) = (volume.mount(), volume.mount()) else { return };
    os::write(a.path("file"), b"from a").unwrap();
    assert_eq!(os::read(b.path("file")).unwrap(), b"from a");
    os::write(b.path("file"), b"from b, longer").unwrap();
    assert_eq!(os::metadata(a.path("file")).unwrap().len(), 14);
    assert_eq!(os::read(a.path("file")).unwrap(), b"from b, longer");

    // An absence that one remembers, a name that it remembers, a listing that it remembers.
    assert!(os::metadata(a.path("later")).is_err());
    os::write(b.path("later"), b"now").unwrap();
    assert_eq!(os::read(a.path("later")).unwrap(), b"now");
    assert_eq!(names(a.dir.path()), ["file", "later"].map(str::to_owned).into());
    os::rename(b.path("later"), b.path("renamed")).unwrap();
    assert!(os::metadata(a.path("later")).is_err());
    assert_eq!(names(a.dir.path()), ["file", "renamed"].map(str::to_owned).into());
    os::remove_file(a.path("renamed")).unwrap();
    assert!(os::read(b.path("renamed")).is_err());

    // An open file whose pages are cached.
    let mut open = os::File::open(a.path("file")).unwrap();
    let mut seen = String::new();
    open.read_to_string(&mut seen).unwrap();
    os::write(b.path("file"), b"changed underneath").unwrap();
    open.rewind().unwrap();
    seen.clear();
    open.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "changed underneath");
    drop(open);
    b.unmount().unwrap();
    a.unmount().unwrap();
}

#[test]
fn two_mounts_that_write_in_turn_always_read_each_other_s_last_write() {
    let volume = Volume::new();
    let (Some(a), Some(b)) = (volume.mount(), volume.mount()) else { return };
    os::create_dir(a.path("dir")).unwrap();
    for round in 0..40_u32 {
        let (writer, reader) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let content = vec![round as u8; 100 + round as usize * 700];
        os::write(writer.path("shared"), &content).unwrap();
        assert!(os::read(reader.path("shared")).unwrap() == content, "round {round}");
        os::write(writer.path(&format!("dir/{round}")), b"x").unwrap();
        assert_eq!(names(&reader.path("dir")).len(), round as usize + 1);
        let mut log =
            os::OpenOptions::new().append(true).create(true).open(writer.path("log")).unwrap();
        writeln!(log, "{round}").unwrap();
    }
    let log = os::read_to_string(a.path("log")).unwrap();
    let expected: String = (0..40).map(|round| format!("{round}\n")).collect();
    assert_eq!(log, expected, "appends of both are there, in order");
    b.unmount().unwrap();
    a.unmount().unwrap();
}

#[test]
fn two_mounts_working_in_one_directory_at_once_end_with_every_file_whole() {
    let volume = Volume::new();
    let (Some(a), Some(b)) = (volume.mount(), volume.mount()) else { return };
    os::create_dir(a.path("dir")).unwrap();
    std::thread::scope(|scope| {
        for (who, mount) in [("a", &a), ("b", &b)] {
            scope.spawn(move || {
                for at in 0..100 {
                    let path = mount.path(&format!("dir/{who}-{at}"));
                    os::write(&path, format!("{who} {at}")).unwrap();
                    os::read_dir(mount.path("dir")).unwrap().for_each(|entry| drop(entry.unwrap()));
                    if at % 10 == 9 {
                        os::remove_file(path).unwrap();
                    }
                }
            });
        }
    });
    for mount in [&a, &b] {
        assert_eq!(names(&mount.path("dir")).len(), 180);
        for who in ["a", "b"] {
            assert_eq!(
                os::read_to_string(mount.path(&format!("dir/{who}-42"))).unwrap(),
                format!("{who} 42")
            );
        }
    }
    b.unmount().unwrap();
    a.unmount().unwrap();
}

#[test]
fn what_is_warm_is_answered_by_the_kernel_and_a_clean_unmount_leaves_everything_on_the_disk() {
    let volume = Volume::new();
    let Some(mount) = volume.mount() else { return };
    os::write(mount.path("file"), b"content").unwrap();
    os::read(mount.path("file")).unwrap();
    os::metadata(mount.path("file")).unwrap();
    let before = mount.fs.numbers().operations;
    for _ in 0..200 {
        os::metadata(mount.path("file")).unwrap();
    }
    assert!(mount.fs.numbers().operations < before + 10);

    let held = os::File::open(mount.path("file")).unwrap();
    let refused = mount.unmount().unwrap_err();
    assert!(matches!(refused, Error::Fuse(fuse::Error::Busy(_))), "{refused}");
    os::write(mount.path("other"), b"still works").unwrap();
    drop(held);
    mount.unmount().unwrap();
    drop(mount);
    volume.disk.crash_to_flushed();
    let Some(mount) = volume.mount() else { return };
    assert_eq!(os::read(mount.path("file")).unwrap(), b"content");
    assert_eq!(os::read(mount.path("other")).unwrap(), b"still works");
}
