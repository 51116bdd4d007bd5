//! Whether what a recovery left is a state that the model passed through, not before the last sync.
//!
//! Names, kinds, links, modes and owners enter the log in the order of the operations, so the tree
//! must be exactly that of one moment. Content is written back on its own: each byte of a file
//! must be one that it had since the file was last synced.

use std::{collections::BTreeMap, sync::Arc};

use fs::{InodeNo, Kind, Lookup};

use crate::{
    cluster::Mount,
    drive::{Facts, facts_in, facts_of},
    model::{Id, Model},
    plan::Plan,
};

/// The states of a model, one after each operation.
pub(crate) struct History {
    states: Vec<Model>,
    /// The tree is at least as new as this state.
    floor: usize,
    /// The content of a node is at least as new as this state.
    synced: BTreeMap<Id, usize>,
}

/// What is compared of a node: all but content, size and times; and the first of its paths.
type Shape = Vec<(Vec<u8>, Facts, Vec<u8>, Vec<u8>)>;

/// A node as it was found after a recovery.
struct Found {
    path: Vec<u8>,
    ino: InodeNo,
    facts: Facts,
    target: Vec<u8>,
}

impl History {
    pub(crate) fn begin(model: &Model) -> Self {
        Self { states: vec![model.clone()], floor: 0, synced: BTreeMap::new() }
    }

    /// `plan` was done, or failed for the disk's sake, and led to `model`.
    pub(crate) fn add(&mut self, model: &Model, plan: &Plan, done: bool) {
        let now = self.states.len();
        self.states.push(model.clone());
        match plan {
            Plan::Fsync(id) if done => {
                self.floor = now;
                self.synced.insert(*id, now);
            }
            Plan::Sync if done => {
                self.floor = now;
                self.synced.extend(model.nodes.keys().map(|id| (*id, now)));
            }
            _ => {}
        }
    }

    /// Compares what `mount` shows with the history; returns the model of what is there.
    pub(crate) async fn judge(self, mount: &Mount, life: u32) -> Model {
        let found = walk(mount).await;
        let shape = shape_of(&found);
        let matching =
            (self.floor..self.states.len()).rev().find(|k| shape_in(&self.states[*k]) == shape);
        let Some(k) = matching else {
            let newest = shape_in(&self.states[self.states.len() - 1]);
            let floor = shape_in(&self.states[self.floor]);
            panic!(
                "life {life}: the tree is of no moment since the last sync ({} to {})\n found, not newest: {:#?}\n newest, not found: {:#?}\n synced, not found: {:#?}",
                self.floor,
                self.states.len() - 1,
                minus(&shape, &newest),
                minus(&newest, &shape),
                minus(&floor, &shape),
            );
        };
        let mut model = self.states[k].clone();
        let ids: BTreeMap<Vec<u8>, Id> = model.tree().into_iter().collect();
        for found in found.iter().filter(|found| found.facts.kind == Kind::File) {
            let id = ids[&found.path];
            let content = mount.fs.read(found.ino, 0, 4 << 20).await.unwrap().concat();
            assert_eq!(Some(content.len() as u64), found.facts.size);
            self.judge_content(id, &found.path, &content);
            model.node(id).content = Arc::new(content);
        }
        let all: Vec<Id> = model.nodes.keys().copied().collect();
        for id in all {
            let node = model.node(id);
            node.opens.clear();
            node.mtime = None;
            model.collect(id);
        }
        model
    }

    fn judge_content(&self, id: Id, path: &[u8], content: &[u8]) {
        let from = self.synced.get(&id).copied().unwrap_or(0);
        let mut versions: Vec<&Arc<Vec<u8>>> = Vec::new();
        for node in self.states[from..].iter().filter_map(|state| state.nodes.get(&id)) {
            if versions.last().is_none_or(|last| !Arc::ptr_eq(last, &node.content)) {
                versions.push(&node.content);
            }
        }
        let path = String::from_utf8_lossy(path);
        let sizes: Vec<usize> = versions.iter().map(|v| v.len()).collect();
        assert!(
            sizes.contains(&content.len()),
            "{path}: {} bytes, none of {sizes:?}",
            content.len()
        );
        for (i, byte) in content.iter().enumerate() {
            let right = versions.iter().any(|v| v.get(i).copied().unwrap_or(0) == *byte);
            assert!(right, "{path}: byte {i} is {byte}, which it never was; sizes {sizes:?}");
        }
    }
}

fn minus<'a>(one: &'a Shape, other: &Shape) -> Vec<(String, &'a Facts)> {
    let only = one.iter().filter(|entry| !other.contains(entry));
    only.map(|(path, facts, ..)| (String::from_utf8_lossy(path).into_owned(), facts)).collect()
}

fn plain(mut facts: Facts) -> Facts {
    facts.size = None;
    facts.mtime = None;
    facts
}

fn shape_of(found: &[Found]) -> Shape {
    let mut first: BTreeMap<InodeNo, Vec<u8>> = BTreeMap::new();
    let mut shape = Vec::new();
    for Found { path, ino, facts, target } in found {
        let one = first.entry(*ino).or_insert_with(|| path.clone()).clone();
        shape.push((path.clone(), plain(facts.clone()), target.clone(), one));
    }
    shape
}

fn shape_in(model: &Model) -> Shape {
    let mut first: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
    let mut shape = Vec::new();
    for (path, id) in model.tree() {
        let one = first.entry(id).or_insert_with(|| path.clone()).clone();
        shape.push((path, plain(facts_in(model, id)), model.get(id).target.clone(), one));
    }
    shape
}

/// Everything that can be reached on `mount`, sorted by path.
async fn walk(mount: &Mount) -> Vec<Found> {
    let fs = &mount.fs;
    let mut found = Vec::new();
    let mut todo = vec![(Vec::new(), InodeNo::ROOT)];
    while let Some((path, ino)) = todo.pop() {
        let facts = facts_of(&fs.getattr(ino).await.unwrap().attributes);
        let mut target = Vec::new();
        if facts.kind == Kind::Symlink {
            target = fs.readlink(ino).await.unwrap().to_vec();
        }
        if facts.kind == Kind::Directory {
            let mut cookie = 0;
            loop {
                let batch = fs.readdir(ino, cookie, 64, false).await.unwrap();
                let Some(last) = batch.last() else { break };
                cookie = last.cookie;
                for entry in batch.iter().filter(|e| !matches!(&e.name[..], b"." | b"..")) {
                    let Lookup::Found(seen) = fs.lookup(ino, &entry.name).await.unwrap() else {
                        panic!("{:?} is listed and not found", entry.name);
                    };
                    fs.forget(seen.attributes.ino, 1);
                    let mut deeper = path.clone();
                    deeper.push(b'/');
                    deeper.extend_from_slice(&entry.name);
                    todo.push((deeper, seen.attributes.ino));
                }
            }
        }
        found.push(Found { path, ino, facts, target });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
