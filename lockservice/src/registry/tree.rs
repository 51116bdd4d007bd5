//! The registry's state: a tree of versioned nodes. Pure and deterministic: changes in, results
//! out. It does not know who listens ([`Tree::hear`] turns the telling of changes on) nor when a
//! session ends ([`Tree::end`] says so).
//!
//! What it gives is what ZooKeeper gives (Hunt et al., ATC'10): each change is made whole, in one
//! order for all, and is numbered by a [`Revision`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    message::{Change, Done, Happened, Make, Node, Op, Question, Refusal, Revision, Stat, What},
    path::NodePath,
};
use crate::name::SessionId;

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Row {
    pub(super) data: Bytes,
    pub(super) stat: Stat,
    /// The number of the next sequential child.
    pub(super) next: u64,
    pub(super) children: BTreeSet<String>,
}

/// All nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    pub(super) revision: Revision,
    pub(super) rows: BTreeMap<NodePath, Row>,
    owned: BTreeMap<SessionId, BTreeSet<NodePath>>,
    bytes: usize,
    /// Not replicated: somebody at this replica listens.
    heard: bool,
    told: Vec<Change>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            revision: Revision::default(),
            rows: BTreeMap::from([(NodePath::root(), Row::default())]),
            owned: BTreeMap::new(),
            bytes: 0,
            heard: false,
            told: Vec::new(),
        }
    }
}

fn checked(version: Option<u64>, found: u64) -> Result<(), Refusal> {
    match version {
        Some(version) if version != found => Err(Refusal::Version(found)),
        Some(_) | None => Ok(()),
    }
}

impl Tree {
    /// The most bytes of one node's data.
    pub const MOST_DATA: usize = 256 << 10;
    /// The most nodes.
    pub const MOST_NODES: usize = 1_000_000;
    /// The most bytes of all paths and data.
    pub const MOST_BYTES: usize = 256 << 20;

    /// How many changes there were.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Makes a change for `session`, whole or not at all.
    ///
    /// # Errors
    /// Why it was not made.
    pub fn change(&mut self, session: SessionId, op: &Op) -> Result<Done, Refusal> {
        match op {
            Op::Create { path, data, make, version } => {
                self.create(session, path, data, *make, *version)
            }
            Op::Delete { path, version } => self.delete(path, *version),
            Op::Set { path, data, version } => self.set(path, data, *version),
        }
    }

    /// Answers a question.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn read(&self, question: &Question) -> Result<Node, Refusal> {
        let row = self.rows.get(&question.path).ok_or(Refusal::NoNode)?;
        checked(question.version, row.stat.version)?;
        Ok(Node {
            stat: row.stat,
            data: if question.what == What::Data { row.data.clone() } else { Bytes::new() },
            children: match question.what {
                What::Children => row.children.iter().cloned().collect(),
                What::Stat | What::Data => Vec::new(),
            },
        })
    }

    /// The nodes of `session` go.
    pub fn end(&mut self, session: SessionId) {
        for path in self.owned.remove(&session).unwrap_or_default() {
            self.take_out(&path);
        }
    }

    /// From now on changes are kept for [`Tree::drain`].
    pub fn hear(&mut self) {
        self.heard = true;
    }

    /// Nobody listens any more.
    pub fn deafen(&mut self) {
        self.heard = false;
        self.told.clear();
    }

    /// Whether changes have been kept without a gap since [`Tree::hear`].
    #[must_use]
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Takes the changes since the last call.
    pub fn drain(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.told)
    }

    fn tell(&mut self, path: &NodePath, happened: Happened) {
        if self.heard {
            let change = Change { revision: self.revision, path: path.clone(), happened };
            self.told.push(change);
        }
    }

    fn create(
        &mut self,
        session: SessionId,
        path: &NodePath,
        data: &Bytes,
        make: Make,
        version: Option<u64>,
    ) -> Result<Done, Refusal> {
        let Some(above) = path.parent() else { return Err(Refusal::Exists) };
        let parent = self.rows.get(&above).ok_or(Refusal::NoParent)?;
        checked(version, parent.stat.children_version)?;
        if parent.stat.owner.is_some() {
            return Err(Refusal::Forbidden);
        }
        let path = if make.sequential {
            let numbered = format!("{}{:010}", path.name(), parent.next);
            above.child(&numbered).map_err(|_| Refusal::TooLarge)?
        } else {
            path.clone()
        };
        if self.rows.contains_key(&path) {
            return Err(Refusal::Exists);
        }
        let size = path.as_str().len() + data.len();
        if data.len() > Self::MOST_DATA
            || self.rows.len() >= Self::MOST_NODES
            || self.bytes + size > Self::MOST_BYTES
        {
            return Err(Refusal::TooLarge);
        }
        self.revision.0 += 1;
        let owner = make.ephemeral.then_some(session);
        let stat =
            Stat { created: self.revision, changed: self.revision, owner, ..Stat::default() };
        let row = Row { data: data.clone(), stat, ..Row::default() };
        self.put_in(&path, row);
        if let Some(parent) = self.rows.get_mut(&above) {
            parent.stat.children_version += 1;
            parent.next += u64::from(make.sequential);
        }
        self.tell(&path, Happened::Created);
        Ok(Done { path, stat })
    }

    fn delete(&mut self, path: &NodePath, version: Option<u64>) -> Result<Done, Refusal> {
        let row = self.rows.get(path).ok_or(Refusal::NoNode)?;
        checked(version, row.stat.version)?;
        if path.parent().is_none() {
            return Err(Refusal::Forbidden);
        }
        if !row.children.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        let stat = row.stat;
        if let Some(owned) = stat.owner.and_then(|owner| self.owned.get_mut(&owner)) {
            owned.remove(path);
        }
        self.take_out(path);
        Ok(Done { path: path.clone(), stat })
    }

    fn set(
        &mut self,
        path: &NodePath,
        data: &Bytes,
        version: Option<u64>,
    ) -> Result<Done, Refusal> {
        let row = self.rows.get_mut(path).ok_or(Refusal::NoNode)?;
        checked(version, row.stat.version)?;
        let bytes = self.bytes - row.data.len() + data.len();
        if data.len() > Self::MOST_DATA || bytes > Self::MOST_BYTES {
            return Err(Refusal::TooLarge);
        }
        self.bytes = bytes;
        self.revision.0 += 1;
        row.data = data.clone();
        row.stat.version += 1;
        row.stat.changed = self.revision;
        let stat = row.stat;
        self.tell(path, Happened::Set);
        Ok(Done { path: path.clone(), stat })
    }

    /// Puts a row where none is; its parent is there.
    pub(super) fn put_in(&mut self, path: &NodePath, row: Row) {
        self.bytes += path.as_str().len() + row.data.len();
        if let Some(owner) = row.stat.owner {
            self.owned.entry(owner).or_default().insert(path.clone());
        }
        if let Some(parent) = path.parent().and_then(|above| self.rows.get_mut(&above)) {
            parent.children.insert(path.name().to_owned());
            parent.stat.children = parent.children.len() as u64;
        }
        self.rows.insert(path.clone(), row);
    }

    fn take_out(&mut self, path: &NodePath) {
        let Some(row) = self.rows.remove(path) else { return };
        self.bytes -= path.as_str().len() + row.data.len();
        self.revision.0 += 1;
        if let Some(parent) = path.parent().and_then(|above| self.rows.get_mut(&above)) {
            parent.children.remove(path.name());
            parent.stat.children = parent.children.len() as u64;
            parent.stat.children_version += 1;
        }
        self.tell(path, Happened::Deleted);
    }

    /// What must be true between any two changes.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self, lives: impl Fn(SessionId) -> bool) -> Result<(), String> {
        let mut owned = 0;
        for (path, row) in &self.rows {
            let above = path.parent();
            if let Some(above) = &above
                && !self.rows.get(above).is_some_and(|p| p.children.contains(path.name()))
            {
                return Err(format!("{path} is not among the children of {above}"));
            }
            for child in &row.children {
                if !path.child(child).is_ok_and(|child| self.rows.contains_key(&child)) {
                    return Err(format!("{path} has a child {child} that is not there"));
                }
            }
            if row.stat.children != row.children.len() as u64 || row.stat.changed > self.revision {
                return Err(format!("the stat of {path} is wrong: {:?}", row.stat));
            }
            if let Some(owner) = row.stat.owner {
                owned += 1;
                if !lives(owner) || !row.children.is_empty() {
                    return Err(format!("{path} belongs to {owner:?}, which does not live"));
                }
            }
        }
        if owned != self.owned.values().map(BTreeSet::len).sum::<usize>() {
            return Err("nodes of sessions were forgotten".to_owned());
        }
        Ok(())
    }
}
