//! Whether what a recovery left is a state that the model passed through, not before the last sync.
//!
//! What other mounts did stays in any case: before they saw anything of the dead one's, it was
//! written out.
//!
//! Names, kinds, links, modes and owners enter the log in the order of the operations, so the tree
//! must be exactly that of one moment. Content is written back on its own: each byte of a file
//! must be one that it had since the file was last synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fs::{InodeNo, Kind, Lookup};

use crate::{
    cluster::Mount,
    drive::{Facts, expected, facts_in, facts_of},
    model::{Id, Model},
    plan::Plan,
};

/// What happened before a mount died.
pub(crate) struct History {
    /// The states of the model, one after each operation.
    states: Vec<Model>,
    /// The operations: by whom, what, and the number that a new node got.
    steps: Vec<(usize, Plan, Id)>,
    /// Who died.
    dead: usize,
    /// What the dead did up to here was synced.
    floor: usize,
    /// The content of a node is at least as new as this state.
    synced: BTreeMap<Id, usize>,
    /// And as this one if the tree is: the dead renamed the node here.
    renamed: Vec<(usize, Id)>,
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
    pub(crate) fn begin(model: &Model, dead: usize) -> Self {
        let states = vec![model.clone()];
        let (steps, synced, renamed) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { states, steps, dead, floor: 0, synced, renamed }
    }

    /// An operation was done, or failed for the disk's sake, and led from `before` to `model`.
    pub(crate) fn add(
        &mut self,
        before: &Model,
        model: &Model,
        (who, plan): (usize, &Plan),
        done: bool,
    ) {
        let now = self.states.len();
        self.states.push(model.clone());
        self.steps.push((who, plan.clone(), before.next));
        let mine = who == self.dead;
        match plan {
            Plan::Fsync(id) if done => {
                self.floor = if mine { now } else { self.floor };
                self.synced.insert(*id, now);
            }
            Plan::Sync if done && mine => {
                self.floor = now;
                self.synced.extend(model.nodes.keys().map(|id| (*id, now)));
            }
            Plan::Rename(from, to, _) if done && mine => {
                // What is behind a name that had something else before.
                for (directory, name) in [from, to] {
                    let [was, is] =
                        [before, model].map(|m| m.lookup(*directory, name).ok().flatten());
                    self.renamed.extend(is.filter(|id| was != Some(*id)).map(|id| (now, id)));
                }
            }
            _ => {}
        }
    }

    /// Compares what `mount` shows with the history; returns the model of what is there.
    pub(crate) async fn judge(self, mount: &Mount, life: u32) -> Model {
        let found = walk(mount).await;
        let shape = shape_of(&found);
        let inodes: BTreeSet<InodeNo> = found.iter().map(|found| found.ino).collect();
        let mut contents = BTreeMap::new();
        for found in found.iter().filter(|found| found.facts.kind == Kind::File) {
            let content = mount.fs.read(found.ino, 0, 4 << 20).await.unwrap().concat();
            assert_eq!(Some(content.len() as u64), found.facts.size);
            contents.insert(found.path.clone(), Arc::new(content));
        }
        let mut wrong = None;
        let mut right = None;
        for k in (self.floor..self.states.len()).rev() {
            let Some(model) = self.without_what_came_after(k) else { continue };
            let named = model.nodes.values().filter(|node| node.links > 0).count();
            if named != inodes.len() || shape_in(&model) != shape {
                continue;
            }
            // Two moments may have the same tree, and another file in one place of it.
            match self.judge_contents(k, &model, &contents) {
                Ok(()) => {
                    right = Some(model);
                    break;
                }
                Err(error) => wrong = Some(error),
            }
        }
        let Some(mut model) = right else { self.explain(life, &shape, wrong) };
        for (path, id) in model.tree() {
            if let Some(content) = contents.get(&path) {
                model.node(id).content = Arc::clone(content);
            }
        }
        let all: Vec<Id> = model.nodes.keys().copied().collect();
        for id in all {
            let node = model.node(id);
            node.opens.remove(&self.dead);
            node.mtime = None;
            model.collect(id);
        }
        model
    }

    /// The model if the dead had done nothing after state `k` and all others the same; `None` if
    /// they could not have.
    fn without_what_came_after(&self, k: usize) -> Option<Model> {
        let mut model = self.states[k].clone();
        for (who, plan, next) in &self.steps[k..] {
            if *who == self.dead {
                continue;
            }
            if !plan.nodes().iter().all(|id| model.nodes.contains_key(id)) {
                return None;
            }
            model.next = *next;
            // What others were refused changes nothing.
            let _ = expected(&mut model, *who, plan);
        }
        model.next = self.states[self.states.len() - 1].next;
        Some(model)
    }

    fn explain(&self, life: u32, shape: &Shape, wrong: Option<String>) -> ! {
        if let Some(wrong) = wrong {
            panic!("life {life}: {wrong}");
        }
        let newest = shape_in(&self.states[self.states.len() - 1]);
        let floor = shape_in(&self.states[self.floor]);
        panic!(
            "life {life}: the tree is of no moment since the last sync ({} to {})\n found, not newest: {:#?}\n newest, not found: {:#?}\n synced, not found: {:#?}",
            self.floor,
            self.states.len() - 1,
            minus(shape, &newest),
            minus(&newest, shape),
            minus(&floor, shape),
        );
    }

    fn judge_contents(
        &self,
        k: usize,
        model: &Model,
        contents: &BTreeMap<Vec<u8>, Arc<Vec<u8>>>,
    ) -> Result<(), String> {
        for (path, id) in model.tree() {
            if let Some(content) = contents.get(&path) {
                self.judge_content(k, id, content)
                    .map_err(|error| format!("{}: {error}", String::from_utf8_lossy(&path)))?;
            }
        }
        Ok(())
    }

    fn judge_content(&self, k: usize, id: Id, content: &[u8]) -> Result<(), String> {
        let renamed = self.renamed.iter().filter(|(at, moved)| *moved == id && *at <= k);
        let synced = self.synced.get(&id).copied().unwrap_or(0);
        let from = renamed.map(|(at, _)| *at).max().unwrap_or(0).max(synced);
        let mut versions: Vec<&Arc<Vec<u8>>> = Vec::new();
        for node in self.states[from..].iter().filter_map(|state| state.nodes.get(&id)) {
            if versions.last().is_none_or(|last| !Arc::ptr_eq(last, &node.content)) {
                versions.push(&node.content);
            }
        }
        let sizes: Vec<usize> = versions.iter().map(|v| v.len()).collect();
        if !sizes.contains(&content.len()) {
            return Err(format!("{} bytes, none of {sizes:?}", content.len()));
        }
        for (i, byte) in content.iter().enumerate() {
            if !versions.iter().any(|v| v.get(i).copied().unwrap_or(0) == *byte) {
                return Err(format!("byte {i} is {byte}, which it never was; sizes {sizes:?}"));
            }
        }
        Ok(())
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
