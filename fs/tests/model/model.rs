//! The reference: a file system that is a map in memory. It knows what POSIX says and nothing of
//! disks, logs or locks.

use std::{collections::BTreeMap, sync::Arc};

use fs::{Kind, RenameMode};

pub(crate) type Id = u32;

pub(crate) const ROOT: Id = 1;

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENOTDIR: i32 = 20;
pub(crate) const EISDIR: i32 = 21;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENAMETOOLONG: i32 = 36;
pub(crate) const ENOTEMPTY: i32 = 39;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) content: Arc<Vec<u8>>,
    pub(crate) target: Vec<u8>,
    pub(crate) entries: BTreeMap<Vec<u8>, Id>,
    pub(crate) parent: Id,
    /// Who has it open: (mount, times).
    pub(crate) opens: BTreeMap<usize, u32>,
    /// Known only between setting it and the next change.
    pub(crate) mtime: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<Id, Node>,
    /// The number of the next node that is made.
    pub(crate) next: Id,
}

impl Model {
    pub(crate) fn new() -> Self {
        let mut model = Self { nodes: BTreeMap::new(), next: ROOT };
        let root = model.add(Kind::Directory, 0o755, ROOT);
        model.node(root).links = 2;
        model
    }

    pub(crate) fn add(&mut self, kind: Kind, mode: u32, parent: Id) -> Id {
        let id = self.next;
        self.next += 1;
        let node = Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            links: if kind == Kind::Directory { 2 } else { 1 },
            content: Arc::default(),
            target: Vec::new(),
            entries: BTreeMap::new(),
            parent,
            opens: BTreeMap::new(),
            mtime: None,
        };
        self.nodes.insert(id, node);
        id
    }

    pub(crate) fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(crate) fn get(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    /// The names that lead to a node that has any; empty for the root.
    pub(crate) fn path(&self, id: Id) -> Option<Vec<Vec<u8>>> {
        if id == ROOT {
            return Some(Vec::new());
        }
        let (directory, name) = self.nodes.iter().find_map(|(directory, node)| {
            let (name, _) = node.entries.iter().find(|(_, to)| **to == id)?;
            Some((*directory, name.clone()))
        })?;
        let mut path = self.path(directory)?;
        path.push(name);
        Some(path)
    }

    fn directory(&self, id: Id) -> Result<&Node, i32> {
        let node = self.get(id);
        if node.kind == Kind::Directory { Ok(node) } else { Err(ENOTDIR) }
    }

    fn free_name(&self, directory: Id, name: &[u8]) -> Result<(), i32> {
        if name.len() > 255 {
            return Err(ENAMETOOLONG);
        }
        if self.directory(directory)?.entries.contains_key(name) { Err(EEXIST) } else { Ok(()) }
    }

    pub(crate) fn lookup(&self, directory: Id, name: &[u8]) -> Result<Option<Id>, i32> {
        if name.len() > 255 {
            return Err(ENAMETOOLONG);
        }
        Ok(self.directory(directory)?.entries.get(name).copied())
    }

    pub(crate) fn make(
        &mut self,
        directory: Id,
        name: &[u8],
        kind: Kind,
        mode: u32,
        target: &[u8],
    ) -> Result<Id, i32> {
        self.free_name(directory, name)?;
        let id = self.add(kind, mode, directory);
        self.node(id).target = target.to_vec();
        self.enter(directory, name, id);
        Ok(id)
    }

    fn enter(&mut self, directory: Id, name: &[u8], id: Id) {
        let is_directory = self.get(id).kind == Kind::Directory;
        let parent = self.node(directory);
        parent.entries.insert(name.to_vec(), id);
        parent.mtime = None;
        if is_directory {
            parent.links += 1;
            self.node(id).parent = directory;
        }
    }

    fn leave(&mut self, directory: Id, name: &[u8]) {
        let parent = self.node(directory);
        let id = parent.entries.remove(name).unwrap();
        parent.mtime = None;
        if self.get(id).kind == Kind::Directory {
            self.node(directory).links -= 1;
        }
    }

    pub(crate) fn link(&mut self, id: Id, directory: Id, name: &[u8]) -> Result<(), i32> {
        if name.len() > 255 {
            return Err(ENAMETOOLONG);
        }
        if self.get(id).kind == Kind::Directory {
            return Err(EPERM);
        }
        self.free_name(directory, name)?;
        self.enter(directory, name, id);
        self.node(id).links += 1;
        Ok(())
    }

    pub(crate) fn unlink(&mut self, directory: Id, name: &[u8]) -> Result<(), i32> {
        let id = self.lookup(directory, name)?.ok_or(ENOENT)?;
        if self.get(id).kind == Kind::Directory {
            return Err(EISDIR);
        }
        self.leave(directory, name);
        self.drop_link(id);
        Ok(())
    }

    fn drop_link(&mut self, id: Id) {
        let node = self.node(id);
        node.links = if node.kind == Kind::Directory { 0 } else { node.links - 1 };
        self.collect(id);
    }

    /// Forgets a node that has neither name nor open.
    pub(crate) fn collect(&mut self, id: Id) {
        let node = self.get(id);
        if node.links == 0 && node.opens.is_empty() {
            self.nodes.remove(&id);
        }
    }

    pub(crate) fn rmdir(&mut self, directory: Id, name: &[u8]) -> Result<(), i32> {
        let id = self.lookup(directory, name)?.ok_or(ENOENT)?;
        if self.get(id).kind != Kind::Directory {
            return Err(ENOTDIR);
        }
        if !self.get(id).entries.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.leave(directory, name);
        self.drop_link(id);
        Ok(())
    }

    /// Whether `id` is `of` or lies above it.
    fn is_above(&self, id: Id, of: Id) -> bool {
        let mut at = of;
        loop {
            if at == id {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.get(at).parent;
        }
    }

    pub(crate) fn rename(
        &mut self,
        from: (Id, &[u8]),
        to: (Id, &[u8]),
        mode: RenameMode,
    ) -> Result<(), i32> {
        let source = self.lookup(from.0, from.1)?;
        let target = self.lookup(to.0, to.1)?;
        let source = source.ok_or(ENOENT)?;
        let is_directory = self.get(source).kind == Kind::Directory;
        if mode == RenameMode::Exchange {
            let target = target.ok_or(ENOENT)?;
            if source == target {
                return Ok(());
            }
            let under = |a, b| self.get(a).kind == Kind::Directory && self.is_above(a, b);
            if under(source, to.0) || under(target, from.0) {
                return Err(EINVAL);
            }
            self.leave(from.0, from.1);
            self.leave(to.0, to.1);
            self.enter(from.0, from.1, target);
            self.enter(to.0, to.1, source);
            return Ok(());
        }
        if let Some(target) = target {
            if mode == RenameMode::NoReplace {
                return Err(EEXIST);
            }
            if source == target {
                return Ok(());
            }
            if is_directory && self.is_above(source, to.0) {
                return Err(EINVAL);
            }
            match (is_directory, self.get(target).kind == Kind::Directory) {
                (true, false) => return Err(ENOTDIR),
                (false, true) => return Err(EISDIR),
                (true, true) if !self.get(target).entries.is_empty() => return Err(ENOTEMPTY),
                _ => {}
            }
            self.leave(to.0, to.1);
            self.drop_link(target);
        } else if is_directory && self.is_above(source, to.0) {
            return Err(EINVAL);
        }
        self.leave(from.0, from.1);
        self.enter(to.0, to.1, source);
        Ok(())
    }

    pub(crate) fn write(&mut self, id: Id, offset: u64, data: &[u8]) {
        let node = self.node(id);
        let content = Arc::make_mut(&mut node.content);
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(data);
        node.mtime = None;
    }

    /// A range becomes zeros; the file grows to its end, or keeps its size.
    pub(crate) fn clear(&mut self, id: Id, offset: u64, length: u64, keep_size: bool) {
        let node = self.node(id);
        let content = Arc::make_mut(&mut node.content);
        let end = (offset + length) as usize;
        let from = content.len().min(offset as usize);
        let to = content.len().min(end);
        content[from..to].fill(0);
        if !keep_size && content.len() < end {
            content.resize(end, 0);
        }
        node.mtime = None;
    }

    pub(crate) fn truncate(&mut self, id: Id, size: u64) {
        let node = self.node(id);
        Arc::make_mut(&mut node.content).resize(size as usize, 0);
        node.mtime = None;
    }

    /// What can be reached: path to node, in order.
    pub(crate) fn tree(&self) -> Vec<(Vec<u8>, Id)> {
        let mut tree = Vec::new();
        let mut todo = vec![(Vec::new(), ROOT)];
        while let Some((path, id)) = todo.pop() {
            for (name, child) in &self.get(id).entries {
                let mut deeper: Vec<u8> = path.clone();
                deeper.push(b'/');
                deeper.extend_from_slice(name);
                todo.push((deeper, *child));
            }
            tree.push((path, id));
        }
        tree.sort();
        tree
    }
}
