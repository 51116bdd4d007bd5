//! fsck that only reads: walks every inode, directory and bitmap of a volume and says what does
//! not fit together.
//!
//! The volume should be at rest: what a mount has not written yet looks like damage, and an unreplayed
//! log is said first. With locks it brings the volume to rest, segment by segment and in the order of their
//! names, as every operation asks for them. Segments are taken lowest free
//! first, so it stops looking for used ones after as many blank ones as there can be mounts. It
//! does not repair, and knows neither sessions nor servers.

mod inodes;
mod rest;
mod space;
mod tree;

use std::{collections::BTreeMap, fmt, sync::Arc};

use blockstore::{Offset, VirtualDisk};
use futures_util::{StreamExt, TryStreamExt, stream};
use lockservice::Locks;

use self::rest::Rest;
use crate::{
    error::Error,
    layout::{
        geometry::{InodeNo, LOCK_TAKING_INODES, LOCK_TAKING_SPACE, LOG_SLOTS, Run, log_start},
        hash::HashKey,
        inode::FileType,
        logheader::LogHeader,
    },
    mkfs::superblock,
    recover::scan,
};

/// Requests under way at one time.
const PARALLEL: usize = 16;
/// More findings than this are only counted.
const FINDINGS: usize = 10_000;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What does not fit together, at most 10,000 of it.
    pub findings: Vec<Finding>,
    /// Findings that are damage.
    pub damage: u64,
    /// Findings that are not: space that is not used, work that the next owner finishes.
    pub notes: u64,
    /// What there is.
    pub counts: Counts,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.damage == 0
    }

    fn add(&mut self, finding: Finding) {
        if finding.is_damage() {
            self.damage += 1;
        } else {
            self.notes += 1;
        }
        if self.findings.len() < FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// What there is on a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes and sockets.
    pub others: u64,
    /// Inodes without a name that are not freed yet; contained in the numbers above.
    pub orphans: u64,
    /// Names in directories.
    pub entries: u64,
    /// Bytes of regular files by their sizes.
    pub bytes: u64,
    /// Runs in use.
    pub runs: u64,
    /// Inode segments in use.
    pub inode_segments: u32,
    /// Space segments in use.
    pub space_segments: u32,
}

/// Something that does not fit together.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the sentence of each is its text")]
pub enum Finding {
    LogInUse { slot: u32, session: u64, records: u64 },
    BadLog { slot: u32, what: String },
    BadBlock { at: Offset, what: &'static str },
    BadInode { ino: InodeNo, what: &'static str },
    NotInMap { ino: InodeNo },
    FreeInMap { ino: InodeNo },
    OrphanFree { ino: InodeNo },
    OrphanNamed { ino: InodeNo, names: u32 },
    Unnamed { ino: InodeNo },
    Unreachable { ino: InodeNo },
    Links { ino: InodeNo, says: u32, counted: u32 },
    Parent { ino: InodeNo, says: InodeNo, is: InodeNo },
    SecondName { ino: InodeNo, first: InodeNo, second: InodeNo },
    Dangling { directory: InodeNo, name: String, ino: InodeNo },
    WrongType { directory: InodeNo, name: String, ino: InodeNo },
    BadEntry { directory: InodeNo, name: String, what: &'static str },
    BadDirectory { ino: InodeNo, what: &'static str },
    BadRoot { what: &'static str },
    RunTwice { run: Run, one: InodeNo, other: InodeNo },
    RunNotInMap { run: Run, ino: InodeNo },
    RunLost { run: Run },
    RunPastEnd { run: Run, ino: InodeNo },
    NoSuchRun { at: Offset, bit: u32 },
}

impl Finding {
    /// Whether it is damage; else it is unused space, or work that the next owner finishes.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        !matches!(self, Self::LogInUse { .. } | Self::RunLost { .. } | Self::RunPastEnd { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogInUse { slot, session, records } => write!(
                f,
                "log {slot} of session {session} holds {records} records: the volume is in use, or waits for recovery"
            ),
            Self::BadLog { slot, what } => write!(f, "log {slot}: {what}"),
            Self::BadBlock { at, what } => {
                write!(f, "metadata at byte {:#x}: damaged {what}", at.0)
            }
            Self::BadInode { ino, what } => write!(f, "inode {ino}: damaged {what}"),
            Self::NotInMap { ino } => write!(f, "inode {ino} is in use and its bit says free"),
            Self::FreeInMap { ino } => write!(f, "inode {ino} is free and its bit says in use"),
            Self::OrphanFree { ino } => write!(f, "inode {ino} is free and on the orphan list"),
            Self::OrphanNamed { ino, names } => {
                write!(f, "inode {ino} is on the orphan list and has {names} names")
            }
            Self::Unnamed { ino } => {
                write!(f, "inode {ino} has no name and is not on the orphan list")
            }
            Self::Unreachable { ino } => {
                write!(f, "directory {ino} cannot be reached from the root")
            }
            Self::Links { ino, says, counted } => {
                write!(f, "inode {ino} says {says} links and has {counted}")
            }
            Self::Parent { ino, says, is } => {
                write!(f, "directory {ino} says its parent is {says}, it is {is}")
            }
            Self::SecondName { ino, first, second } => {
                write!(f, "directory {ino} has names in {first} and in {second}")
            }
            Self::Dangling { directory, name, ino } => {
                write!(f, "{name:?} in directory {directory} names inode {ino}, which is free")
            }
            Self::WrongType { directory, name, ino } => {
                write!(f, "{name:?} in directory {directory} gives inode {ino} another type")
            }
            Self::BadEntry { directory, name, what } => {
                write!(f, "{name:?} in directory {directory}: {what}")
            }
            Self::BadDirectory { ino, what } => write!(f, "directory {ino}: {what}"),
            Self::BadRoot { what } => write!(f, "the root directory: {what}"),
            Self::RunTwice { run, one, other } => {
                write!(f, "{run:?} belongs to inode {one} and to inode {other}")
            }
            Self::RunNotInMap { run, ino } => {
                write!(f, "{run:?} belongs to inode {ino} and its bit says free")
            }
            Self::RunLost { run } => {
                write!(f, "{run:?} belongs to no inode and its bit says in use")
            }
            Self::RunPastEnd { run, ino } => {
                write!(f, "{run:?} lies past the end of inode {ino}: a truncation was not finished")
            }
            Self::NoSuchRun { at, bit } => {
                write!(f, "bit {bit} of the run bitmap at byte {:#x} stands for no run", at.0)
            }
        }
    }
}

/// What is kept of an inode.
struct Node {
    kind: FileType,
    links: u32,
    parent: InodeNo,
    orphan: bool,
    /// Names that were found.
    names: u32,
    /// Directories that were found in it.
    subdirectories: u32,
    /// The directory where the first name was found.
    named_in: Option<InodeNo>,
}

/// What the passes hand on.
struct Check<'a> {
    disk: Arc<dyn VirtualDisk>,
    rest: Rest<'a>,
    key: HashKey,
    report: Report,
    nodes: BTreeMap<InodeNo, Node>,
    runs: BTreeMap<Run, InodeNo>,
    /// The runs of each directory, by depth.
    directories: BTreeMap<InodeNo, Vec<Option<Run>>>,
}

/// Checks the volume on `disk`, reading only. It is at rest, or is brought to rest with `locks`: whoever has
/// something unwritten writes it back, and nobody changes anything until the check is over.
///
/// # Errors
/// If the volume is not formatted, a mount keeps its locks, or the disk fails. Damage is not an error.
pub async fn check(disk: Arc<dyn VirtualDisk>, locks: Option<&dyn Locks>) -> Result<Report, Error> {
    let key = superblock(&disk).await?.hash_key;
    let mut check = Check {
        disk,
        rest: Rest::new(locks),
        key,
        report: Report::default(),
        nodes: BTreeMap::new(),
        runs: BTreeMap::new(),
        directories: BTreeMap::new(),
    };
    let walked = check.walk().await;
    check.rest.end().await?;
    walked.map(|()| check.report)
}

impl Check<'_> {
    async fn walk(&mut self) -> Result<(), Error> {
        self.rest.keep(LOCK_TAKING_INODES).await?;
        self.inodes().await?;
        self.tree().await?;
        self.rest.keep(LOCK_TAKING_SPACE).await?;
        self.space().await?;
        // Last, when everything was written back.
        self.logs().await
    }

    async fn logs(&mut self) -> Result<(), Error> {
        let disk = &self.disk;
        let findings: Vec<Option<Finding>> = stream::iter(0..LOG_SLOTS)
            .map(|slot| log(disk, slot))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        // Said first: they may explain all the rest.
        let rest = std::mem::take(&mut self.report.findings);
        findings.into_iter().flatten().for_each(|finding| self.report.add(finding));
        let room = FINDINGS - self.report.findings.len();
        self.report.findings.extend(rest.into_iter().take(room));
        Ok(())
    }
}

async fn log(disk: &Arc<dyn VirtualDisk>, slot: u32) -> Result<Option<Finding>, Error> {
    let sector = disk.read(log_start(slot), blockstore::SECTOR).await?;
    let session = match LogHeader::decode(&sector) {
        Ok(Some(header)) if header.session.0 != 0 => header.session,
        Ok(_) => return Ok(None),
        Err(damaged) => return Ok(Some(Finding::BadLog { slot, what: damaged.to_string() })),
    };
    match scan(disk, session, slot).await {
        Ok(records) => {
            let records = records.map_or(0, |records| records.len() as u64);
            let finding = Finding::LogInUse { slot, session: session.0, records };
            Ok((records > 0).then_some(finding))
        }
        Err(Error::Damaged(what)) => Ok(Some(Finding::BadLog { slot, what })),
        Err(error) => Err(error),
    }
}
