//! Does each operation on a mount and on the model, and compares what they answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use fs::{
    Allocate, Attributes, Caller, Error, InodeNo, Kind, Lookup, Node, SetAttributes, SetTime,
};
use world::Wall;

use crate::{
    cluster::Mount,
    crash::History,
    model::{EINVAL, Id, Model, ROOT},
    plan::Plan,
};

const EIO: i32 = 5;
const NOBODY: Caller = Caller { uid: 0, gid: 0, umask: 0 };

/// What an operation answered, as far as the model knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done,
    Absent,
    Facts(Facts),
    Offset(u64),
    Content(Vec<u8>),
    Names(BTreeMap<Vec<u8>, Kind>),
}

/// What `stat` tells, as far as the model knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u32,
    /// Of files.
    pub(crate) size: Option<u64>,
    /// If the model knows it.
    pub(crate) mtime: Option<i64>,
}

pub(crate) type Outcome = Result<Answer, i32>;

/// Mounts and the model that they are compared with.
pub(crate) struct Player {
    pub(crate) model: Model,
    pub(crate) history: Option<History>,
    mounts: Vec<Mount>,
    /// The inodes of nodes, as first seen.
    inodes: BTreeMap<Id, InodeNo>,
}

pub(crate) fn facts_of(attributes: &Attributes) -> Facts {
    let file = attributes.kind == Kind::File;
    Facts {
        kind: attributes.kind,
        mode: attributes.mode,
        owner: (attributes.uid, attributes.gid),
        links: attributes.nlink,
        size: file.then_some(attributes.size),
        mtime: Some(attributes.mtime.seconds),
    }
}

pub(crate) fn facts_in(model: &Model, id: Id) -> Facts {
    let node = model.get(id);
    Facts {
        kind: node.kind,
        mode: node.mode,
        owner: (node.uid, node.gid),
        links: node.links,
        size: (node.kind == Kind::File).then_some(node.content.len() as u64),
        mtime: node.mtime,
    }
}

impl Player {
    pub(crate) fn new(mounts: Vec<Mount>) -> Self {
        Self::with_model(mounts, Model::new())
    }

    pub(crate) fn with_model(mounts: Vec<Mount>, model: Model) -> Self {
        let inodes = BTreeMap::from([(ROOT, InodeNo::ROOT)]);
        Self { model, history: None, mounts, inodes }
    }

    /// The mounts as they are, and what happened on them.
    pub(crate) fn die(self) -> (Vec<Mount>, History) {
        (self.mounts, self.history.expect("a history was begun"))
    }

    pub(crate) async fn close(self) {
        for mount in self.mounts {
            mount.fs.close().await.unwrap();
        }
    }

    /// Plays `plan` on mount `who` and on the model. `false`: it failed for the disk's sake.
    pub(crate) async fn play(&mut self, who: usize, plan: &Plan) -> bool {
        if let Plan::Many { directory, from, count } = plan {
            for i in *from..from + count {
                let name = format!("many-{i}").into_bytes();
                let (directory, target) = (*directory, Vec::new());
                let step = Plan::Make { directory, name, kind: Kind::File, mode: 0o600, target };
                if !self.step(who, &step).await {
                    return false;
                }
            }
            return true;
        }
        self.step(who, plan).await
    }

    async fn step(&mut self, who: usize, plan: &Plan) -> bool {
        let before = self.model.clone();
        let mut real = self.real(who, plan).await;
        let expected = expected(&mut self.model, who, plan);
        if let Some(history) = &mut self.history {
            history.add(&before, &self.model, (who, plan), real.is_ok());
            if real == Err(EIO) {
                return false;
            }
        }
        if let (Ok(Answer::Facts(real)), Ok(Answer::Facts(expected))) = (&mut real, &expected)
            && expected.mtime.is_none()
        {
            real.mtime = None;
        }
        assert!(
            real == expected,
            "mount {who}: {plan:?}\n  answers {}\n instead of {}\n with the tree {:?}",
            short(&real),
            short(&expected),
            before
                .tree()
                .iter()
                .map(|(p, id)| (String::from_utf8_lossy(p), id))
                .collect::<Vec<_>>(),
        );
        true
    }

    /// The inode of `id`, looked up name by name if it has any.
    async fn inode(&mut self, who: usize, id: Id) -> Result<InodeNo, i32> {
        let Some(path) = self.model.path(id) else {
            return Ok(*self.inodes.get(&id).expect("an open file was seen before"));
        };
        let fs = &self.mounts[who].fs;
        let mut at = InodeNo::ROOT;
        for name in path {
            match fs.lookup(at, &name).await.map_err(|error| error.errno())? {
                Lookup::Found(entry) => {
                    at = entry.attributes.ino;
                    fs.forget(at, 1);
                }
                Lookup::Absent { .. } => panic!("mount {who}: {name:?} of node {id} is not there"),
            }
        }
        let known = *self.inodes.entry(id).or_insert(at);
        assert!(known == at, "node {id} was {known} and is {at}");
        Ok(at)
    }

    async fn real(&mut self, who: usize, plan: &Plan) -> Outcome {
        match plan {
            Plan::Lookup(directory, name) => {
                let at = self.inode(who, *directory).await?;
                let fs = &self.mounts[who].fs;
                match fs.lookup(at, name).await.map_err(|e| errno(&e))? {
                    Lookup::Found(entry) => {
                        fs.forget(entry.attributes.ino, 1);
                        Ok(Answer::Facts(facts_of(&entry.attributes)))
                    }
                    Lookup::Absent { .. } => Ok(Answer::Absent),
                }
            }
            Plan::Make { .. } | Plan::Create { .. } | Plan::Link(..) => self.made(who, plan).await,
            Plan::Unlink(directory, name) => {
                let at = self.inode(who, *directory).await?;
                done(self.mounts[who].fs.unlink(at, name).await)
            }
            Plan::Rmdir(directory, name) => {
                let at = self.inode(who, *directory).await?;
                done(self.mounts[who].fs.rmdir(at, name).await)
            }
            Plan::Rename(from, to, mode) => {
                let old = self.inode(who, from.0).await?;
                let new = self.inode(who, to.0).await?;
                done(self.mounts[who].fs.rename(old, &from.1, new, &to.1, *mode).await)
            }
            Plan::List(directory) => self.list(who, *directory).await,
            Plan::Sync => done(self.mounts[who].fs.sync().await),
            Plan::Many { .. } => unreachable!("played step by step"),
            Plan::Stat(id)
            | Plan::Write { id, .. }
            | Plan::Append { id, .. }
            | Plan::Read(id, ..)
            | Plan::Truncate(id, _)
            | Plan::Clear { id, .. }
            | Plan::Chmod(id, ..)
            | Plan::Utimes(id, _)
            | Plan::Readlink(id)
            | Plan::Open(id)
            | Plan::Release(id)
            | Plan::Fsync(id) => {
                let ino = self.inode(who, *id).await?;
                self.on_inode(who, ino, plan).await
            }
        }
    }

    async fn made(&mut self, who: usize, plan: &Plan) -> Outcome {
        let fs = std::sync::Arc::clone(&self.mounts[who].fs);
        let entry = match plan {
            Plan::Make { directory, name, kind, mode, target } => {
                let at = self.inode(who, *directory).await?;
                let target = Bytes::copy_from_slice(target);
                let node = Node { kind: *kind, mode: *mode, rdev: 0, target };
                fs.make(at, name, node, NOBODY).await
            }
            Plan::Create { directory, name } => {
                let at = self.inode(who, *directory).await?;
                let entry = fs.create(at, name, 0o644, NOBODY).await;
                if let Ok(entry) = &entry {
                    fs.release(entry.attributes.ino);
                }
                entry
            }
            Plan::Link(id, directory, name) => {
                let ino = self.inode(who, *id).await?;
                let at = self.inode(who, *directory).await?;
                fs.link(ino, at, name).await
            }
            _ => unreachable!("makes no inode"),
        };
        let attributes = entry.map_err(|e| errno(&e))?.attributes;
        fs.forget(attributes.ino, 1);
        Ok(Answer::Facts(facts_of(&attributes)))
    }

    async fn on_inode(&self, who: usize, ino: InodeNo, plan: &Plan) -> Outcome {
        let fs = &self.mounts[who].fs;
        let set = |set: SetAttributes| async move {
            fs.setattr(ino, set).await.map(|entry| Answer::Facts(facts_of(&entry.attributes)))
        };
        match plan {
            Plan::Write { offset, length, fill, .. } => {
                done(fs.write(ino, *offset, vec![*fill; *length].into()).await)
            }
            Plan::Append { length, fill, .. } => fs
                .append(ino, vec![*fill; *length].into())
                .await
                .map(Answer::Offset)
                .map_err(|e| errno(&e)),
            Plan::Read(_, offset, length) => {
                let pieces = fs.read(ino, *offset, *length).await.map_err(|e| errno(&e))?;
                Ok(Answer::Content(pieces.concat()))
            }
            Plan::Clear { offset, length, how, .. } => {
                done(fs.allocate(ino, *offset, *length, *how).await)
            }
            Plan::Truncate(_, size) => {
                set(SetAttributes { size: Some(*size), ..SetAttributes::default() })
                    .await
                    .map_err(|e| errno(&e))
            }
            Plan::Chmod(_, mode, owner) => {
                let (uid, gid) = (Some(*owner), Some(owner + 1));
                set(SetAttributes { mode: Some(*mode), uid, gid, ..SetAttributes::default() })
                    .await
                    .map_err(|e| errno(&e))
            }
            Plan::Utimes(_, seconds) => {
                let mtime = Some(SetTime::At(Wall { seconds: *seconds, nanos: 7 }));
                set(SetAttributes { mtime, ..SetAttributes::default() })
                    .await
                    .map_err(|e| errno(&e))
            }
            Plan::Readlink(_) => {
                let target = fs.readlink(ino).await.map_err(|e| errno(&e))?;
                Ok(Answer::Content(target.to_vec()))
            }
            Plan::Open(_) => done(fs.open(ino, false).await),
            Plan::Release(id) => {
                // The model releases what this mount opened; nothing if it did not.
                if self.model.get(*id).opens.contains_key(&who) {
                    fs.release(ino);
                }
                Ok(Answer::Done)
            }
            Plan::Fsync(_) => done(fs.fsync(ino).await),
            _ => {
                let entry = fs.getattr(ino).await.map_err(|e| errno(&e))?;
                Ok(Answer::Facts(facts_of(&entry.attributes)))
            }
        }
    }

    async fn list(&mut self, who: usize, directory: Id) -> Outcome {
        let at = self.inode(who, directory).await?;
        let fs = &self.mounts[who].fs;
        let (mut names, mut cookie, mut seen) = (BTreeMap::new(), 0, Vec::new());
        loop {
            let batch = fs
                .readdir(at, cookie, 50, directory.is_multiple_of(2))
                .await
                .map_err(|e| errno(&e))?;
            let Some(last) = batch.last() else { break };
            cookie = last.cookie;
            for entry in batch {
                if let Some(known) = entry.entry {
                    fs.forget(known.attributes.ino, 1);
                    assert_eq!(known.attributes.ino, entry.ino);
                }
                seen.push(entry.name.to_vec());
                if !matches!(&entry.name[..], b"." | b"..") {
                    assert!(
                        names.insert(entry.name.to_vec(), entry.kind).is_none(),
                        "a name twice"
                    );
                }
            }
        }
        assert_eq!(seen[..2], [b".".to_vec(), b"..".to_vec()]);
        Ok(Answer::Names(names))
    }

    /// Everything that can be reached is, on every mount, what the model says.
    pub(crate) async fn compare_all(&mut self) {
        for who in 0..self.mounts.len() {
            for (_, id) in self.model.tree() {
                let kind = self.model.get(id).kind;
                self.step(who, &Plan::Stat(id)).await;
                match kind {
                    Kind::Directory => self.step(who, &Plan::List(id)).await,
                    Kind::Symlink => self.step(who, &Plan::Readlink(id)).await,
                    Kind::File => self.step(who, &Plan::Read(id, 0, 1 << 20)).await,
                    _ => true,
                };
            }
        }
    }
}

/// Does `plan` for mount `who` on `model` and answers what it should.
pub(crate) fn expected(model: &mut Model, who: usize, plan: &Plan) -> Outcome {
    let facts = |model: &Model, id| Ok(Answer::Facts(facts_in(model, id)));
    match plan {
        Plan::Lookup(directory, name) => match model.lookup(*directory, name)? {
            Some(id) => facts(model, id),
            None => Ok(Answer::Absent),
        },
        Plan::Make { directory, name, kind, mode, target } => {
            let id = model.make(*directory, name, *kind, *mode, target)?;
            facts(model, id)
        }
        Plan::Create { directory, name } => {
            let id = model.make(*directory, name, Kind::File, 0o644, b"")?;
            facts(model, id)
        }
        Plan::Link(id, directory, name) => {
            model.link(*id, *directory, name)?;
            facts(model, *id)
        }
        Plan::Unlink(directory, name) => model.unlink(*directory, name).map(|()| Answer::Done),
        Plan::Rmdir(directory, name) => model.rmdir(*directory, name).map(|()| Answer::Done),
        Plan::Rename(from, to, mode) => {
            model.rename((from.0, &from.1), (to.0, &to.1), *mode).map(|()| Answer::Done)
        }
        Plan::List(directory) => {
            let kinds = model.get(*directory).entries.iter();
            let names = kinds.map(|(name, id)| (name.clone(), model.get(*id).kind)).collect();
            Ok(Answer::Names(names))
        }
        _ => expected_on_inode(model, who, plan),
    }
}

fn expected_on_inode(model: &mut Model, who: usize, plan: &Plan) -> Outcome {
    let facts = |model: &Model, id| Ok(Answer::Facts(facts_in(model, id)));
    match plan {
        Plan::Write { id, offset, length, fill } => {
            model.write(*id, *offset, &vec![*fill; *length]);
            Ok(Answer::Done)
        }
        Plan::Append { id, length, fill } => {
            let end = model.get(*id).content.len() as u64;
            model.write(*id, end, &vec![*fill; *length]);
            Ok(Answer::Offset(end))
        }
        Plan::Read(id, offset, length) => {
            let content = &model.get(*id).content;
            let from = content.len().min(*offset as usize);
            let to = content.len().min(from + *length as usize);
            Ok(Answer::Content(content[from..to].to_vec()))
        }
        Plan::Clear { id, offset, length, how } => {
            let keep_size = *how != Allocate::Zero { keep_size: false };
            model.clear(*id, *offset, *length, keep_size);
            Ok(Answer::Done)
        }
        Plan::Truncate(id, size) => {
            model.truncate(*id, *size);
            facts(model, *id)
        }
        Plan::Chmod(id, mode, owner) => {
            let node = model.node(*id);
            (node.mode, node.uid, node.gid) = (*mode, *owner, owner + 1);
            facts(model, *id)
        }
        Plan::Utimes(id, seconds) => {
            model.node(*id).mtime = Some(*seconds);
            facts(model, *id)
        }
        Plan::Readlink(id) => match model.get(*id).kind {
            Kind::Symlink => Ok(Answer::Content(model.get(*id).target.clone())),
            _ => Err(EINVAL),
        },
        Plan::Open(id) => {
            *model.node(*id).opens.entry(who).or_default() += 1;
            Ok(Answer::Done)
        }
        Plan::Release(id) => {
            let opens = &mut model.node(*id).opens;
            if let Some(times) = opens.get_mut(&who) {
                *times -= 1;
            }
            opens.retain(|_, times| *times > 0);
            model.collect(*id);
            Ok(Answer::Done)
        }
        Plan::Stat(id) => facts(model, *id),
        _ => Ok(Answer::Done),
    }
}

fn errno(error: &Error) -> i32 {
    if error.errno() == EIO {
        eprintln!("(an operation failed: {error})");
    }
    error.errno()
}

fn done(result: Result<(), Error>) -> Outcome {
    result.map(|()| Answer::Done).map_err(|e| errno(&e))
}

/// An outcome for people; content as stretches of equal bytes.
fn short(outcome: &Outcome) -> String {
    let Ok(Answer::Content(bytes)) = outcome else { return format!("{outcome:?}") };
    let mut stretches: Vec<(usize, u8)> = Vec::new();
    for byte in bytes {
        match stretches.last_mut() {
            Some((count, of)) if of == byte => *count += 1,
            _ => stretches.push((1, *byte)),
        }
    }
    format!("{} bytes {stretches:?}", bytes.len())
}
