//! flock and fcntl between two mounts: who waits, who is told what, and what ends a lock.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock, flock},
    io::Errno,
};

use crate::harness::{Cluster, eventually, kill};

const SOON: Duration = Duration::from_secs(20);
/// Of each of four threads.
const STEPS: u64 = 40;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn two_mounts() -> (Cluster, u32) {
    let cluster = Cluster::new();
    // Short, so that what a killed mount held is free soon.
    cluster.start(&["--lease", "3s"]);
    let second = cluster.mount_again();
    (cluster, second)
}

/// Takes a lock as soon as it is free; what was there before must have ended by then.
fn soon(file: &File, operation: FlockOperation) {
    eventually(SOON, || fcntl_lock(file, operation).map_err(|error| error.to_string()));
}

/// Waits for the end of a child that must not need anybody's help.
fn ended(child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_counter_under_flock_on_two_mounts_loses_no_step() {
    let (cluster, _) = two_mounts();
    let paths = [cluster.path("mnt/counter"), cluster.path("mnt2/counter")];
    open(&paths[0]).write_all_at(&0_u64.to_le_bytes(), 0).unwrap();
    std::thread::scope(|scope| {
        for path in [&paths[0], &paths[1], &paths[0], &paths[1]] {
            scope.spawn(move || {
                let file = open(path);
                for _ in 0..STEPS {
                    flock(&file, FlockOperation::LockExclusive).unwrap();
                    let mut bytes = [0; 8];
                    file.read_exact_at(&mut bytes, 0).unwrap();
                    let next = u64::from_le_bytes(bytes) + 1;
                    file.write_all_at(&next.to_le_bytes(), 0).unwrap();
                    flock(&file, FlockOperation::Unlock).unwrap();
                }
            });
        }
    });
    let mut bytes = [0; 8];
    open(&paths[1]).read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), 4 * STEPS);
}

#[test]
fn locks_of_another_mount_stand_in_the_way_until_a_close_a_signal_or_the_end_of_the_mount() {
    let (cluster, second) = two_mounts();
    let (here, there) = (cluster.path("mnt/file"), cluster.path("mnt2/file"));
    let mine = open(&here);

    // flock ends with the last close of the open file.
    let other = open(&there);
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let busy = flock(&mine, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(busy, Err(Errno::WOULDBLOCK));
    let shown = cluster.json(&["locks", &cluster.text("data")]).remove(0);
    assert_eq!(shown["advisory"][0]["process"], std::process::id(), "{shown}");
    drop(other);
    let try_ = || flock(&mine, FlockOperation::NonBlockingLockExclusive);
    eventually(SOON, || try_().map_err(|error| error.to_string()));

    // Whoever waits is let go by a signal, and then has nothing.
    let mut waiting = Command::new("flock").arg(&there).arg("true").spawn().unwrap();
    eventually(SOON, || {
        let shown = cluster.json(&["locks", &cluster.text("data")]).remove(0);
        let waits = shown["advisory"].as_array().unwrap().iter().any(|row| row["waits"] == true);
        if waits { Ok(()) } else { Err(shown.to_string()) }
    });
    kill(waiting.id());
    assert!(ended(&mut waiting), "a process that waits for a lock cannot be killed");
    flock(&mine, FlockOperation::Unlock).unwrap();

    // A reader's fcntl lock ends with its close too, though that is not told to the daemon.
    let reader = File::open(&there).unwrap();
    fcntl_lock(&reader, FlockOperation::LockShared).unwrap();
    let busy = fcntl_lock(&mine, FlockOperation::NonBlockingLockExclusive);
    assert_eq!(busy, Err(Errno::AGAIN));
    drop(reader);
    soon(&mine, FlockOperation::NonBlockingLockExclusive);
    fcntl_lock(&mine, FlockOperation::Unlock).unwrap();

    // What a mount held ends with its session.
    let other = open(&there);
    fcntl_lock(&other, FlockOperation::LockExclusive).unwrap();
    assert!(fcntl_lock(&mine, FlockOperation::NonBlockingLockExclusive).is_err());
    kill(second);
    soon(&mine, FlockOperation::NonBlockingLockExclusive);
}

#[test]
fn two_who_wait_for_each_other_are_told_and_neither_hangs() {
    let (cluster, _) = two_mounts();
    let paths =
        |name: &str| (cluster.path(&format!("mnt/{name}")), cluster.path(&format!("mnt2/{name}")));
    let (a, b) = (paths("a"), paths("b"));
    let (a, b) = ((open(&a.0), open(&a.1)), (open(&b.0), open(&b.1)));
    // A process has one set of locks on each mount: that is two claimants.
    fcntl_lock(&a.0, FlockOperation::LockExclusive).unwrap();
    fcntl_lock(&b.1, FlockOperation::LockExclusive).unwrap();
    let results: Vec<Result<(), Errno>> = std::thread::scope(|scope| {
        // Each gives up what it has once it knows, so whoever was not told gets what it waits for.
        let first = scope.spawn(|| {
            let told = fcntl_lock(&b.0, FlockOperation::LockExclusive);
            fcntl_lock(&a.0, FlockOperation::Unlock).unwrap();
            told
        });
        let second = scope.spawn(|| {
            let told = fcntl_lock(&a.1, FlockOperation::LockExclusive);
            fcntl_lock(&b.1, FlockOperation::Unlock).unwrap();
            told
        });
        vec![first.join().unwrap(), second.join().unwrap()]
    });
    let told = results.iter().filter(|result| **result == Err(Errno::DEADLK)).count();
    assert_eq!(told, 1, "one is told, the other gets its lock: {results:?}");
}
