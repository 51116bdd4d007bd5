//! The room against the real kernel: a tiny file system in memory, mounted. Skipped, and said so, where there is no FUSE.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests drive the real machine, and say why they are skipped"
)]

mod tiny;

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fuse::{Ended, Error, Ino, Options, Session, Size, Stale, serve};
use tiny::Tiny;
use world::World;

const PATIENCE: Duration = Duration::from_secs(5);

/// A mounted tiny file system; unmounted, by abort if need be, when it is dropped, also by a failing test.
struct Mount {
    tiny: Arc<Tiny>,
    session: Option<Session>,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Mount {
    fn new() -> Option<Self> {
        Self::with(&Options::default())
    }

    fn with(options: &Options) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tiny = Arc::new(Tiny::new());
        let served = runtime.block_on(async {
            let world = World::real();
            serve(&world, tiny.clone(), dir.path(), options).await
        });
        match served {
            Ok(session) => Some(Self { tiny, session: Some(session), dir, runtime }),
            Err(error @ (Error::NoFuse | Error::DeviceDenied(_) | Error::NotPermitted { .. })) => {
                assert!(std::env::var_os("CI").is_none(), "CI may not skip this: {error}");
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    fn unmount(&self) -> Result<(), Error> {
        self.runtime.block_on(self.session().unmount(PATIENCE))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        self.tiny.gate.close();
        if self.runtime.block_on(session.force_unmount(Duration::from_secs(2))).is_err() {
            let _ = session.abort();
        }
        let _guard = self.runtime.enter();
        drop(session);
    }
}

fn all() -> Stale {
    Stale::pages(0, u64::MAX)
}

fn is_mounted(path: &Path) -> bool {
    fuse::mounted(path).unwrap().is_some()
}

#[test]
fn files_directories_links_and_renames_work_and_the_mount_ends_cleanly() {
    let Some(mount) = Mount::new() else { return };
    let shown = fuse::mounted(mount.dir.path()).unwrap().unwrap();
    assert_eq!((shown.source.as_str(), shown.kind.as_str()), ("plumeria", "fuse.plumeria"));
    let big: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(mount.path("big"), &big).unwrap();
    assert_eq!(fs::read(mount.path("big")).unwrap(), big);
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("dir/inner"), b"inner").unwrap();
    fs::rename(mount.path("dir/inner"), mount.path("outer")).unwrap();
    assert_eq!(fs::read(mount.path("outer")).unwrap(), b"inner");
    std::os::unix::fs::symlink("outer", mount.path("link")).unwrap();
    assert_eq!(fs::read(mount.path("link")).unwrap(), b"inner");
    fs::hard_link(mount.path("outer"), mount.path("hard")).unwrap();
    fs::remove_file(mount.path("outer")).unwrap();
    fs::OpenOptions::new().write(true).open(mount.path("hard")).unwrap().set_len(2).unwrap();
    assert_eq!(fs::read(mount.path("hard")).unwrap(), b"in");
    assert_eq!(fs::metadata(mount.path("none")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    mount.unmount().unwrap();
    assert!(!is_mounted(mount.dir.path()));
    assert_eq!(mount.runtime.block_on(mount.session().ended()), Ended::Unmounted);
}

#[test]
fn a_directory_of_many_names_is_listed_whole_with_and_without_attributes() {
    let Some(mount) = Mount::new() else { return };
    for at in 0..1500 {
        mount.tiny.put(&format!("name-{at:05}"), b"x");
    }
    for omit in [false, true] {
        mount.tiny.omit_attributes.store(omit, Ordering::SeqCst);
        mount
            .runtime
            .block_on(mount.session().notifier().forget(Ino::ROOT, all(), PATIENCE))
            .unwrap();
        let mut names: Vec<_> = fs::read_dir(mount.dir.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(entry.metadata().unwrap().len(), 1);
                entry.file_name().into_string().unwrap()
            })
            .collect();
        names.sort();
        assert_eq!(names.len(), 1500, "omit: {omit}");
        assert_eq!(names[1499], "name-01499");
    }
}

#[test]
fn an_operation_that_must_wait_is_answered_later_and_blocks_nobody() {
    let Some(mount) = Mount::new() else { return };
    let ino = mount.tiny.put("waits", b"slow data");
    mount.tiny.put("other", b"other data");
    std::thread::scope(|scope| {
        let path = mount.path("waits");
        // More readers than event-loop threads.
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                scope.spawn(move || fs::read(path).unwrap())
            })
            .collect();
        while mount.session().waited() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(fs::read(mount.path("other")).unwrap(), b"other data");
        // The page is held by the read that waits: the kernel cannot forget it yet.
        let notifier = mount.session().notifier();
        let stuck = mount.runtime.block_on(notifier.forget(ino, all(), Duration::from_millis(100)));
        assert!(stuck.is_err());
        // Names still can be.
        mount.runtime.block_on(notifier.forget_name(Ino::ROOT, b"other"));
        mount.tiny.gate.add_permits(1000);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), b"slow data");
        }
        mount.runtime.block_on(notifier.forget(ino, all(), PATIENCE)).unwrap();
    });
    mount.unmount().unwrap();
}

#[test]
fn what_changed_elsewhere_is_seen_after_it_was_forgotten_and_served_from_the_kernel_before() {
    let Some(mount) = Mount::new() else { return };
    let ino = mount.tiny.put("file", b"first");
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"first");
    let reads = mount.tiny.reads.load(Ordering::SeqCst);
    mount.tiny.put("file", b"other");
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"first", "the kernel may still believe");
    assert_eq!(mount.tiny.reads.load(Ordering::SeqCst), reads, "and does not ask");
    let notifier = mount.session().notifier();
    mount.runtime.block_on(notifier.forget(ino, all(), PATIENCE)).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"other");

    mount.tiny.put("file", b"longer than before");
    mount.runtime.block_on(notifier.forget(ino, Stale::attributes(), PATIENCE)).unwrap();
    assert_eq!(fs::metadata(mount.path("file")).unwrap().len(), 18);

    assert!(fs::metadata(mount.path("absent")).is_err());
    mount.tiny.put("absent", b"now here");
    assert!(fs::metadata(mount.path("absent")).is_err(), "an absence is remembered");
    mount.runtime.block_on(notifier.forget_name(Ino::ROOT, b"absent"));
    assert_eq!(fs::read(mount.path("absent")).unwrap(), b"now here");

    mount.tiny.take("absent");
    assert!(fs::metadata(mount.path("absent")).is_ok());
    if notifier.can_forget_names() {
        notifier.forget_all_names();
        assert!(fs::metadata(mount.path("absent")).is_err());
        assert_eq!(notifier.epochs(), 1);
    }
    // A warm look at things asks the file system nothing.
    fs::metadata(mount.path("file")).unwrap();
    let lookups = mount.tiny.lookups.load(Ordering::SeqCst);
    for _ in 0..100 {
        fs::metadata(mount.path("file")).unwrap();
    }
    assert_eq!(mount.tiny.lookups.load(Ordering::SeqCst), lookups);
}

#[test]
fn a_file_that_grew_is_read_to_its_end_though_an_invalidation_overtakes_the_answer_on_its_size() {
    use std::os::unix::fs::FileExt;
    let Some(mount) = Mount::new() else { return };
    let ino = mount.tiny.put("file", &[1; 10]);
    let file = fs::File::open(mount.path("file")).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 10);
    mount.tiny.put("file", &[2; 9000]);
    let notifier = mount.session().notifier();
    let forget = |stale| mount.runtime.block_on(notifier.forget(ino, stale, PATIENCE)).unwrap();
    let tell = |bytes, free_page| {
        mount.runtime.block_on(notifier.tell_size(ino, Size { bytes, free_page }, PATIENCE));
    };
    forget(all());
    mount.tiny.slow_getattr.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        // It asks for the size first.
        let reader = scope.spawn(|| {
            let mut buffer = [0; 100];
            (file.read_at(&mut buffer, 8950).unwrap(), buffer)
        });
        while mount.session().waited() == 0 {
            std::thread::yield_now();
        }
        tell(9000, 8192);
        forget(all());
        mount.tiny.gate.add_permits(1000);
        let (length, buffer) = reader.join().unwrap();
        // Without the size the kernel drops the answer and goes on with the 10 bytes that it knew.
        assert_eq!((length, &buffer[..50]), (50, &[2; 50][..]));
    });
    mount.tiny.slow_getattr.store(false, Ordering::SeqCst);
    mount.tiny.put("file", &[3; 20]);
    tell(20, 0);
    forget(all());
    assert_eq!(fs::read(mount.path("file")).unwrap(), [3; 20], "what it is told is a least size");
    drop(file);
    mount.unmount().unwrap();
}

#[test]
fn a_panic_and_an_answer_that_never_comes_are_errors_of_that_request_only() {
    let options = Options { answer_within: Duration::from_millis(200), ..Options::default() };
    let Some(mount) = Mount::with(&options) else { return };
    for _ in 0..5 {
        assert_eq!(fs::metadata(mount.path("panic")).unwrap_err().raw_os_error(), Some(5));
    }
    let began = Instant::now();
    let mut file = fs::File::create(mount.path("file")).unwrap();
    assert_eq!(file.write(b"never answered").unwrap_err().raw_os_error(), Some(5));
    assert!(began.elapsed() < PATIENCE);
    drop(file);
    fs::write(mount.path("still"), b"alive").unwrap();
    assert_eq!(fs::read(mount.path("still")).unwrap(), b"alive");
}

#[test]
fn a_mount_in_use_stays_and_works_until_it_is_left() {
    let Some(mount) = Mount::new() else { return };
    mount.tiny.put("file", b"content");
    let mut held = fs::File::open(mount.path("file")).unwrap();
    let refused = mount.unmount().unwrap_err();
    assert!(matches!(refused, Error::Busy(_)), "{refused}");
    assert!(is_mounted(mount.dir.path()));
    let mut content = String::new();
    held.read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
    let ino = Ino(2);
    mount.runtime.block_on(mount.session().notifier().forget(ino, all(), PATIENCE)).unwrap();
    let again = mount.runtime.block_on(async {
        let world = World::real();
        serve(&world, mount.tiny.clone(), mount.dir.path(), &Options::default()).await.map(|_| ())
    });
    assert!(matches!(again, Err(Error::AlreadyMounted { .. })));
    drop(held);
    mount.unmount().unwrap();
    mount.unmount().unwrap();
}

#[test]
fn an_abort_frees_whoever_waits_and_leaves_a_dead_mount_that_is_named_as_such() {
    let Some(mount) = Mount::new() else { return };
    mount.tiny.put("waits", b"slow data");
    std::thread::scope(|scope| {
        let path = mount.path("waits");
        let reader = scope.spawn(move || fs::read(path));
        while mount.session().waited() == 0 {
            std::thread::yield_now();
        }
        let aborted = fuse::abort(mount.dir.path());
        if aborted.is_err() {
            mount.tiny.gate.close();
        }
        aborted.unwrap();
        assert!(reader.join().unwrap().is_err());
    });
    let again = mount.runtime.block_on(async {
        let world = World::real();
        let deadline = world.clock.now() + Duration::from_secs(5);
        loop {
            let path = mount.dir.path();
            let again =
                serve(&world, mount.tiny.clone(), path, &Options::default()).await.map(drop);
            // The event loop hears of the abort a moment later than its callers.
            if !matches!(again, Err(Error::AlreadyMounted { .. })) || world.clock.now() > deadline {
                return again;
            }
            world.clock.sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(matches!(again, Err(Error::Dead(_) | Error::Missing(_)) | Ok(())), "{:?}", again.err());
}
