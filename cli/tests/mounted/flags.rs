//! What the flags of `open(2)` and the limits of files promise, between two mounts.

use std::{
    fs,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rustix::fs::OFlags;

use crate::harness::{Cluster, eventually, kill};

const PAGE: usize = 4096;
const EFBIG: i32 = 27;

fn open(path: &Path, flags: OFlags) -> fs::File {
    let flags = i32::try_from(flags.bits()).unwrap();
    let mut options = fs::File::options();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)
        .unwrap()
}

/// A buffer of `pages` pages that begins at a page, as O_DIRECT wants it on other file systems.
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
    length: usize,
}

impl Aligned {
    fn new(pages: usize, fill: u8) -> Self {
        let bytes = vec![fill; (pages + 1) * PAGE];
        let from = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, from, length: pages * PAGE }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.length]
    }
}

#[test]
fn direct_reads_and_writes_see_and_are_seen_by_buffered_ones_of_the_other_mount() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let (one, two) = (cluster.path("mnt/f"), cluster.path("mnt2/f"));
    fs::write(&two, vec![1; 8 * PAGE]).unwrap();
    let direct = open(&one, OFlags::DIRECT);
    for round in 2..30_u8 {
        let at = usize::from(round % 7) * PAGE;
        direct.write_all_at(Aligned::new(1, round).bytes(), at as u64).unwrap();
        // In the kernel's pages on the other mount from the round before.
        let seen = fs::read(&two).unwrap();
        assert_eq!(seen[at..at + PAGE], vec![round; PAGE], "round {round}: a direct write is seen");
        let buffered = open(&two, OFlags::empty());
        buffered.write_all_at(&vec![round + 100; PAGE], 7 * PAGE as u64).unwrap();
        let mut page = Aligned::new(1, 0);
        direct.read_exact_at(page.bytes(), 7 * PAGE as u64).unwrap();
        assert_eq!(page.bytes(), vec![round + 100; PAGE], "round {round}: a direct read sees");
    }
}

#[test]
fn what_was_written_with_o_sync_or_o_dsync_survives_the_mount_that_wrote_it() {
    let cluster = Cluster::new();
    cluster.start(&["--processes", "--lease", "2s"]);
    let victim = cluster.mount_again();
    let flags = [("sync", OFlags::SYNC), ("dsync", OFlags::DSYNC)];
    for (name, flag) in flags {
        let file = open(&cluster.path("mnt2").join(name), flag);
        for part in 0..10_u64 {
            file.write_all_at(&[part as u8; 3000], part * 3000).unwrap();
        }
    }
    kill(victim);
    for (name, _) in flags {
        let content = eventually(Duration::from_secs(60), || {
            fs::read(cluster.path("mnt").join(name)).map_err(|error| error.to_string())
        });
        let expected: Vec<u8> = (0..10_u8).flat_map(|part| [part; 3000]).collect();
        assert!(content == expected, "{name}: {} bytes, or other ones", content.len());
    }
}

#[test]
fn a_file_has_sixteen_tebibytes_of_room_and_says_when_there_is_no_more() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let file = open(&cluster.path("mnt/f"), OFlags::empty());
    let last = (16_u64 << 40) - 3;
    file.write_all_at(b"end", last).unwrap();
    file.sync_all().unwrap();
    let other = open(&cluster.path("mnt2/f"), OFlags::empty());
    assert_eq!(other.metadata().unwrap().len(), 16 << 40);
    let mut bytes = [9; 6];
    other.read_exact_at(&mut bytes, last - 3).unwrap();
    assert_eq!(&bytes, b"\0\0\0end");
    let refused = file.set_len(1 << 62).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(EFBIG), "{refused}");
    other.set_len(5).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5);
}
