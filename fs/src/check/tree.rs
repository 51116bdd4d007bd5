//! The second pass of a check: every page of every directory, then what the names add up to.

use std::{collections::BTreeMap, sync::Arc};

use blockstore::{Offset, PAGE, VirtualDisk};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Check, Finding, PARALLEL};
use crate::{
    error::Error,
    layout::{
        dirpage::{DirPage, Entry},
        geometry::{InodeNo, LAST_CLASS, Run},
        hash::{HashKey, NameHash},
        inode::FileType,
    },
};

/// A name that was found.
struct Seen {
    name: String,
    ino: InodeNo,
    kind: FileType,
}

/// What one directory holds.
struct Walked {
    directory: InodeNo,
    names: Vec<Seen>,
    findings: Vec<Finding>,
}

impl Check<'_> {
    /// Reads all directories and compares what they name with the inodes.
    pub(super) async fn tree(&mut self) -> Result<(), Error> {
        let directories = std::mem::take(&mut self.directories);
        let (disk, key) = (Arc::clone(&self.disk), self.key);
        let mut walks = stream::iter(directories)
            .map(|(ino, runs)| walk(&disk, key, ino, runs))
            .buffered(PARALLEL);
        while let Some(walked) = walks.try_next().await? {
            self.add_names(walked);
        }
        self.root();
        self.add_up();
        Ok(())
    }

    fn add_names(&mut self, walked: Walked) {
        for finding in walked.findings {
            self.report.add(finding);
        }
        let directory = walked.directory;
        for Seen { name, ino, kind } in walked.names {
            self.report.counts.entries += 1;
            let Some(node) = self.nodes.get_mut(&ino) else {
                self.report.add(Finding::Dangling { directory, name, ino });
                continue;
            };
            node.names += 1;
            let first = *node.named_in.get_or_insert(directory);
            let is_directory = node.kind == FileType::Directory;
            if node.kind != kind {
                self.report.add(Finding::WrongType { directory, name, ino });
            }
            if is_directory && node.names > 1 {
                self.report.add(Finding::SecondName { ino, first, second: directory });
            }
            if is_directory && let Some(parent) = self.nodes.get_mut(&directory) {
                parent.subdirectories += 1;
            }
        }
    }

    fn root(&mut self) {
        let what = match self.nodes.get_mut(&InodeNo::ROOT) {
            None => "missing",
            Some(root) if root.kind != FileType::Directory => "not a directory",
            Some(root) if root.names > 0 => "has a name",
            Some(root) => {
                root.names = 1;
                root.named_in = Some(InodeNo::ROOT);
                return;
            }
        };
        self.report.add(Finding::BadRoot { what });
    }

    fn add_up(&mut self) {
        let mut children: BTreeMap<InodeNo, Vec<InodeNo>> = BTreeMap::new();
        let mut lost = BTreeMap::new();
        for (ino, node) in &self.nodes {
            let (ino, is_directory) = (*ino, node.kind == FileType::Directory);
            let named = node.names > 0;
            let counted = match (is_directory, named) {
                (true, true) => 2 + node.subdirectories,
                (true, false) => 0,
                (false, _) => node.names,
            };
            // An orphaned directory may keep the link counts of a living one until it is freed.
            if node.links != counted && !(node.orphan && is_directory) {
                self.report.add(Finding::Links { ino, says: node.links, counted });
            }
            if node.orphan && named {
                self.report.add(Finding::OrphanNamed { ino, names: node.names });
            }
            if !node.orphan && !named {
                self.report.add(Finding::Unnamed { ino });
            }
            if let Some(is) = node.named_in.filter(|_| is_directory) {
                if node.parent != is {
                    self.report.add(Finding::Parent { ino, says: node.parent, is });
                }
                if ino != InodeNo::ROOT {
                    children.entry(is).or_default().push(ino);
                }
                lost.insert(ino, ());
            }
        }
        let mut reached = vec![InodeNo::ROOT];
        while let Some(ino) = reached.pop() {
            if lost.remove(&ino).is_some() {
                reached.extend(children.remove(&ino).unwrap_or_default());
            }
        }
        for ino in lost.into_keys() {
            self.report.add(Finding::Unreachable { ino });
        }
    }
}

/// Reads all pages of a directory.
async fn walk(
    disk: &Arc<dyn VirtualDisk>,
    key: HashKey,
    directory: InodeNo,
    runs: Vec<Option<Run>>,
) -> Result<Walked, Error> {
    let mut walked = Walked { directory, names: Vec::new(), findings: Vec::new() };
    let mut todo = vec![(0_u8, 0_u64)];
    while let Some((depth, prefix)) = todo.pop() {
        let Some(run) = runs.get(depth as usize).copied().flatten() else {
            if depth > 0 {
                let what = "a page was split and the run of its halves is missing";
                walked.findings.push(Finding::BadDirectory { ino: directory, what });
            }
            continue;
        };
        let at = Offset(run.address().0 + prefix * PAGE);
        let page = match DirPage::decode(&disk.read(at, PAGE).await?) {
            Ok(page) => page,
            Err(damaged) => {
                walked.findings.push(Finding::BadBlock { at, what: damaged.0 });
                continue;
            }
        };
        if page.is_split() && depth < LAST_CLASS {
            todo.extend([(depth + 1, 2 * prefix + 1), (depth + 1, 2 * prefix)]);
        } else if page.is_split() {
            let what = "a page of the last depth was split";
            walked.findings.push(Finding::BadDirectory { ino: directory, what });
        }
        for entry in page.entries_from(NameHash(0)) {
            walked.entry(entry, key, (depth, prefix));
        }
    }
    Ok(walked)
}

impl Walked {
    fn entry(&mut self, entry: Entry<'_>, key: HashKey, (depth, prefix): (u8, u64)) {
        let name = String::from_utf8_lossy(entry.name).into_owned();
        let special = matches!(entry.name, b"." | b"..");
        let what = if special || entry.name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            Some("no name that can be")
        } else if !entry.hash.same_name_hash(NameHash::of(entry.name, key)) {
            Some("stored under another hash")
        } else if entry.hash.prefix(depth) != prefix {
            Some("stored in the wrong page")
        } else {
            None
        };
        if let Some(what) = what {
            let directory = self.directory;
            self.findings.push(Finding::BadEntry { directory, name: name.clone(), what });
        }
        self.names.push(Seen { name, ino: entry.inode, kind: entry.kind });
    }
}
