//! POSIX on real mounts: what only the kernel and two daemons together can show. The long forms of
//! these run by `cargo xtask soak`.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags, copy_file_range,
    fallocate, getxattr, listxattr, mknodat, open, removexattr, renameat_with, seek, setxattr,
};

use crate::harness::Cluster;

/// Small, and the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// How many operations a random test makes: few in CI, many in a soak.
fn operations(few: u64) -> u64 {
    std::env::var("PLUMERIA_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

#[test]
fn appends_of_two_mounts_are_whole_and_none_is_lost() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let (one, two) = (cluster.path("mnt/log"), cluster.path("mnt2/log"));
    fs::write(&one, "").unwrap();
    let lines = operations(300);
    std::thread::scope(|scope| {
        for (path, tag) in [(&one, "one"), (&two, "two, which is longer")] {
            scope.spawn(move || {
                let mut file = fs::File::options().append(true).open(path).unwrap();
                for number in 0..lines {
                    file.write_all(format!("{tag} {number}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    let all = fs::read_to_string(&one).unwrap();
    assert_eq!(all, fs::read_to_string(&two).unwrap());
    for tag in ["one", "two, which is longer"] {
        let numbers: Vec<u64> =
            all.lines().filter_map(|line| line.strip_prefix(tag)?.trim().parse().ok()).collect();
        assert_eq!(numbers, (0..lines).collect::<Vec<_>>(), "the lines of {tag}");
    }
    assert_eq!(all.lines().count() as u64, 2 * lines);
}

#[test]
fn an_open_file_that_another_mount_unlinked_can_be_used_until_it_is_closed() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let content = vec![7; 300_000];
    fs::write(cluster.path("mnt/f"), &content).unwrap();
    let mut open = fs::File::options().read(true).write(true).open(cluster.path("mnt/f")).unwrap();
    open.sync_all().unwrap();
    fs::remove_file(cluster.path("mnt2/f")).unwrap();
    assert!(fs::metadata(cluster.path("mnt/f")).is_err());
    // Longer than files without a name gather to be freed.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let mut read = Vec::new();
    open.read_to_end(&mut read).unwrap();
    assert!(read == content, "it is not what was written");
    open.write_all_at(b"still here", 5).unwrap();
    open.sync_all().unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    drop(open);
    cluster.run(&["umount", &cluster.text("mnt2")]);
    cluster.stop();
    cluster.start(&[]);
    cluster.run(&["fsck", &cluster.text("data")]);
}

/// Says where two ranges of bytes begin to differ and for how long, not only that they do.
fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    if got == expected {
        return;
    }
    let wrong: Vec<usize> =
        got.iter().zip(expected).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
    let zeros = wrong.iter().filter(|i| got[**i] == 0).count();
    panic!(
        "{what}: {} bytes instead of {}, {} of them wrong ({zeros} are zeros), from {:?} to {:?}",
        got.len(),
        expected.len(),
        wrong.len(),
        wrong.first(),
        wrong.last()
    );
}

#[test]
fn two_mounts_and_a_model_agree_on_one_file() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let paths = [cluster.path("mnt/f"), cluster.path("mnt2/f")];
    fs::write(&paths[0], "").unwrap();
    let seed = std::env::var("PLUMERIA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut dice = Dice(seed);
    let options = || fs::File::options().read(true).write(true).to_owned();
    let mut files = [options().open(&paths[0]).unwrap(), options().open(&paths[1]).unwrap()];
    let mut model: Vec<u8> = Vec::new();
    for step in 0..operations(800) {
        let which = dice.below(2) as usize;
        let (at, length) = (dice.below(200_000), 1 + dice.below(20_000));
        let what = format!("seed {seed}, step {step}, mount {which}");
        let file = &files[which];
        match dice.below(12) {
            0..=3 => {
                let bytes: Vec<u8> = (0..length).map(|i| (i + step) as u8 | 1).collect();
                file.write_all_at(&bytes, at).unwrap();
                let end = (at + length) as usize;
                model.resize(model.len().max(end), 0);
                model[at as usize..end].copy_from_slice(&bytes);
            }
            4..=7 => {
                let mut bytes = vec![0; length as usize];
                let read = file.read_at(&mut bytes, at).unwrap();
                let from = model.len().min(at as usize);
                let to = model.len().min((at + length) as usize);
                // A read over two pages may be short only at the end of the file.
                assert_same(
                    &bytes[..read],
                    &model[from..to],
                    &format!("{what}: read {at}+{length}"),
                );
            }
            8 => {
                file.set_len(at).unwrap();
                model.resize(at as usize, 0);
            }
            9 => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, flags, at, length).unwrap();
                let from = model.len().min(at as usize);
                let to = model.len().min((at + length) as usize);
                model[from..to].fill(0);
            }
            10 => {
                files[which].sync_all().unwrap();
                files[which] = options().open(&paths[which]).unwrap();
            }
            _ => {
                assert_eq!(
                    fs::metadata(&paths[which]).unwrap().len(),
                    model.len() as u64,
                    "{what}"
                );
            }
        }
    }
    for path in &paths {
        let what = format!("seed {seed}: {} at the end", path.display());
        assert_same(&fs::read(path).unwrap(), &model, &what);
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn what_linux_adds_to_files_works_on_a_mount() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    let path = cluster.path("mnt/f");
    write_at(&path, 0, &[7; 100_000]);

    setxattr(&path, "user.one", b"value", XattrFlags::CREATE).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(getxattr(&path, "user.one", &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"value");
    assert_eq!(listxattr(&path, &mut buffer).unwrap(), 9);
    removexattr(&path, "user.one").unwrap();
    assert!(getxattr(&path, "user.one", &mut buffer).is_err());

    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 10_000, 50_000).unwrap();
    let mut expected = vec![7; 100_000];
    expected[10_000..60_000].fill(0);
    assert!(fs::read(&path).unwrap() == expected, "a hole was punched");
    fallocate(&file, FallocateFlags::empty(), 0, 150_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 150_000);
    write_at(&path, 1 << 30, b"far");
    assert!(file.metadata().unwrap().blocks() < 2_000, "a sparse file takes what was written");
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Data(1 << 30)).unwrap(), 1 << 30);
    assert_eq!(seek(&file, rustix::fs::SeekFrom::Hole(1 << 30)).unwrap(), (1 << 30) + 3);

    let mut copy = fs::File::create_new(cluster.path("mnt/copy")).unwrap();
    let (mut from, mut to) = (0, 0);
    assert_eq!(
        copy_file_range(&file, Some(&mut from), &copy, Some(&mut to), 9_000).unwrap(),
        9_000
    );
    assert_eq!(copy.seek(SeekFrom::End(0)).unwrap(), 9_000);

    let pipe = cluster.path("mnt/pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let long = cluster.path("mnt").join("n".repeat(255));
    fs::write(&long, "x").unwrap();
    assert!(fs::write(cluster.path("mnt").join("n".repeat(256)), "x").is_err());
    let taken = renameat_with(CWD, &long, CWD, &pipe, RenameFlags::NOREPLACE);
    assert_eq!(taken, Err(rustix::io::Errno::EXIST));
    renameat_with(CWD, &long, CWD, &pipe, RenameFlags::EXCHANGE).unwrap();
    assert!(fs::metadata(&long).unwrap().file_type().is_fifo());
    let target = "t".repeat(4_000);
    std::os::unix::fs::symlink(&target, cluster.path("mnt/link")).unwrap();
    assert_eq!(fs::read_link(cluster.path("mnt/link")).unwrap(), Path::new(&target));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    std::os::unix::fs::chown(&path, Some(1), Some(1)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
    let unnamed = open(cluster.path("mnt"), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR);
    assert_eq!(unnamed.unwrap_err(), rustix::io::Errno::OPNOTSUPP);
}
