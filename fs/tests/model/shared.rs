//! Two mounts that work at the same time in the same directories, each on names of its own: each
//! must see its own names exactly right, whatever the other does beside it.

use std::collections::BTreeMap;

use fs::{Caller, Error, InodeNo, Kind, Lookup, Node, RenameMode};

use crate::{
    cluster::{Cluster, Mount},
    plan::Dice,
};

const NOBODY: Caller = Caller { uid: 0, gid: 0, umask: 0 };
const STEPS: u32 = 120;

/// One mount and what it knows of its own names: (directory, name) to content.
struct Worker {
    mount: Mount,
    tag: char,
    directories: Vec<InodeNo>,
    files: BTreeMap<(usize, Vec<u8>), Vec<u8>>,
    dice: Dice,
}

pub(crate) async fn run(seed: u64) {
    let cluster = Cluster::new(seed).await;
    let (a, b) = (cluster.mount("a").await, cluster.mount("b").await);
    let mut directories = vec![InodeNo::ROOT];
    for (fs, name) in [(&a.fs, "one"), (&b.fs, "two")] {
        let made = fs.make(InodeNo::ROOT, name.as_bytes(), Node::directory(0o755), NOBODY).await;
        directories.push(made.unwrap().attributes.ino);
    }
    let worker = |mount, tag, salt| Worker {
        mount,
        tag,
        directories: directories.clone(),
        files: BTreeMap::new(),
        dice: Dice(seed ^ salt),
    };
    let (mut a, mut b) = (worker(a, 'a', 1 << 40), worker(b, 'b', 2 << 40));
    tokio::join!(a.work(), b.work());
    // Each sees the other's names, too.
    a.verify(&b.files).await;
    b.verify(&a.files).await;
    let counts = (a.count().await, b.count().await);
    assert_eq!(counts.0, a.files.len() + b.files.len() + 2);
    assert_eq!(counts.0, counts.1);
    a.mount.fs.close().await.unwrap();
    b.mount.fs.close().await.unwrap();
    cluster.check().await;
}

impl Worker {
    async fn work(&mut self) {
        for step in 0..STEPS {
            let directory = self.dice.below(3) as usize;
            let name = format!("{}{}", self.tag, self.dice.below(12)).into_bytes();
            let key = (directory, name);
            match self.dice.below(8) {
                0..=2 => self.write(key, step).await,
                3 => self.unlink(key).await,
                4 | 5 => self.rename(key).await,
                6 => {
                    let files = std::mem::take(&mut self.files);
                    self.verify(&files).await;
                    self.files = files;
                }
                _ => self.sync(key).await,
            }
        }
    }

    fn at(&self, key: &(usize, Vec<u8>)) -> InodeNo {
        self.directories[key.0]
    }

    async fn find(&self, key: &(usize, Vec<u8>)) -> Option<InodeNo> {
        match self.mount.fs.lookup(self.at(key), &key.1).await.unwrap() {
            Lookup::Found(entry) => {
                self.mount.fs.forget(entry.attributes.ino, 1);
                Some(entry.attributes.ino)
            }
            Lookup::Absent { .. } => None,
        }
    }

    async fn write(&mut self, key: (usize, Vec<u8>), step: u32) {
        let ino = match self.find(&key).await {
            Some(ino) => ino,
            None => {
                let made =
                    self.mount.fs.make(self.at(&key), &key.1, Node::file(0o644), NOBODY).await;
                let ino = made.unwrap().attributes.ino;
                self.mount.fs.forget(ino, 1);
                ino
            }
        };
        let known = self.files.entry(key).or_default();
        let data = vec![step as u8; 1 + self.dice.below(9000) as usize];
        let offset = self.mount.fs.append(ino, data.clone().into()).await.unwrap();
        assert_eq!(offset as usize, known.len());
        known.extend_from_slice(&data);
    }

    async fn unlink(&mut self, key: (usize, Vec<u8>)) {
        let result = self.mount.fs.unlink(self.at(&key), &key.1).await;
        match self.files.remove(&key) {
            Some(_) => result.unwrap(),
            None => assert_eq!(result, Err(Error::NotFound)),
        }
    }

    async fn rename(&mut self, key: (usize, Vec<u8>)) {
        let directory = self.dice.below(3) as usize;
        let to = (directory, format!("{}{}", self.tag, self.dice.below(12)).into_bytes());
        let fs = &self.mount.fs;
        let renamed =
            fs.rename(self.at(&key), &key.1, self.at(&to), &to.1, RenameMode::Replace).await;
        match self.files.remove(&key) {
            Some(content) => {
                renamed.unwrap();
                self.files.insert(to, content);
            }
            None => assert_eq!(renamed, Err(Error::NotFound)),
        }
    }

    async fn sync(&mut self, key: (usize, Vec<u8>)) {
        if let Some(ino) = self.find(&key).await {
            self.mount.fs.fsync(ino).await.unwrap();
        }
    }

    async fn verify(&self, files: &BTreeMap<(usize, Vec<u8>), Vec<u8>>) {
        for (key, content) in files {
            let Some(ino) = self.find(key).await else { panic!("{key:?} is gone") };
            let read = self.mount.fs.read(ino, 0, 4 << 20).await.unwrap().concat();
            assert!(read == *content, "{key:?}: {} bytes, not {}", read.len(), content.len());
        }
    }

    /// All names, in all directories.
    async fn count(&self) -> usize {
        let mut count = 0;
        for directory in &self.directories {
            let mut cookie = 0;
            loop {
                let batch = self.mount.fs.readdir(*directory, cookie, 7, false).await.unwrap();
                let Some(last) = batch.last() else { break };
                cookie = last.cookie;
                count += batch.iter().filter(|e| !matches!(&e.name[..], b"." | b"..")).count();
                assert!(batch.iter().all(|e| e.kind == Kind::File || e.kind == Kind::Directory));
            }
        }
        count
    }
}
