//! The files of this machine as a job's files: for `--local`, and for tests. Paths are absolute host paths. What a
//! job does with them is not known here.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use fs::{InodeNo, Kind};
use parking_lot::Mutex;
use world::{Disk, File, Look, OpenMode, What, World};

use crate::{
    api::Programs,
    error::Error,
    files::{Files, Line, Stat},
    job::{self, Cluster, Submission, Summary, Watch},
    peers::{Peers, Place},
    worker::{Config, Worker},
};

/// Workers of a job on this machine.
const WORKERS: u32 = 2;
/// Memory of one of their attempts.
const MEMORY: u64 = 256 << 20;

/// Runs a job on the files of this machine, in this process; `scratch` is a directory for map output, to be
/// removed afterwards.
///
/// # Errors
/// As for [`crate::run`].
pub async fn run_local(
    world: &World,
    scratch: &Path,
    submission: Submission,
    watch: &Watch,
) -> Result<Summary, Error> {
    let cluster = Cluster {
        files: Arc::new(LocalFiles::new(world)),
        peers: Peers::new(world, None),
        ballots: None,
    };
    let programs = submission.programs.clone();
    let workers = crew(world, &cluster, (scratch, WORKERS), programs).await?;
    let places: Vec<_> = workers.iter().map(|worker| worker.place().clone()).collect();
    job::run(world, &cluster, &places, submission, watch).await
}

/// Workers of this process, `count` of them, whose directories are below `scratch`.
///
/// # Errors
/// As for [`Worker::open`].
pub async fn crew(
    world: &World,
    cluster: &Cluster,
    (scratch, count): (&Path, u32),
    programs: Programs,
) -> Result<Vec<Arc<Worker>>, Error> {
    let mut workers = Vec::new();
    for number in 0..count {
        let name = format!("worker-{number}");
        let config = Config {
            dir: scratch.join(&name),
            place: Place(name),
            slots: 1,
            memory: MEMORY,
            programs: programs.clone(),
        };
        workers.push(Worker::open(world, cluster, config).await?);
    }
    Ok(workers)
}

/// Paths by the numbers that stand for their inodes.
#[derive(Default)]
struct Names {
    by_number: BTreeMap<u64, PathBuf>,
    by_path: BTreeMap<PathBuf, u64>,
    writing: BTreeMap<u64, Arc<dyn File>>,
}

impl Names {
    fn number(&mut self, path: &Path) -> InodeNo {
        if let Some(number) = self.by_path.get(path) {
            return InodeNo(*number);
        }
        let number = self.by_number.len() as u64 + 1;
        self.by_number.insert(number, path.to_owned());
        self.by_path.insert(path.to_owned(), number);
        InodeNo(number)
    }

    fn path(&self, ino: InodeNo) -> io::Result<PathBuf> {
        self.by_number.get(&ino.0).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Files of this machine.
pub struct LocalFiles {
    world: World,
    names: Arc<Mutex<Names>>,
}

impl LocalFiles {
    /// All files that this process can reach.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), names: Arc::default() }
    }

    /// Runs `work` where it may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Disk, &Mutex<Names>) -> io::Result<T> + Send + 'static,
    ) -> Result<T, fs::Error> {
        let (disk, names) = (self.world.disk.clone(), self.names.clone());
        self.world
            .blocking(move || work(disk.as_ref(), &names))
            .await
            .map_err(|failed| error(&failed))
    }
}

fn error(error: &io::Error) -> fs::Error {
    match error.kind() {
        io::ErrorKind::NotFound => fs::Error::NotFound,
        io::ErrorKind::AlreadyExists => fs::Error::Exists,
        io::ErrorKind::PermissionDenied => fs::Error::NotPermitted,
        io::ErrorKind::StorageFull => fs::Error::NoSpace,
        io::ErrorKind::NotADirectory => fs::Error::NotDirectory,
        io::ErrorKind::DirectoryNotEmpty => fs::Error::NotEmpty,
        _ => fs::Error::Format(error.to_string()),
    }
}

fn stat(names: &Mutex<Names>, path: &Path, look: Look) -> Stat {
    let kind = match look.what {
        What::File => Kind::File,
        What::Directory => Kind::Directory,
        What::Other => Kind::Fifo,
    };
    Stat { ino: names.lock().number(path), kind, size: look.size }
}

#[async_trait]
impl Files for LocalFiles {
    async fn stat(&self, path: &str) -> Result<Option<Stat>, fs::Error> {
        let path = PathBuf::from(path);
        self.on_disk(move |disk, names| match disk.look(&path) {
            Ok(look) => Ok(Some(stat(names, &path, look))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn list(&self, directory: InodeNo) -> Result<Vec<Line>, fs::Error> {
        self.on_disk(move |disk, names| {
            use std::os::unix::ffi::OsStrExt as _;
            let directory = names.lock().path(directory)?;
            let mut lines = Vec::new();
            for path in disk.list(&directory)? {
                // A link that leads nowhere is no input.
                let Ok(look) = disk.look(&path) else { continue };
                let name = path.file_name().map(|name| Bytes::copy_from_slice(name.as_bytes()));
                lines.push(Line { name: name.unwrap_or_default(), stat: stat(names, &path, look) });
            }
            Ok(lines)
        })
        .await
    }

    async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, fs::Error> {
        self.on_disk(move |disk, names| {
            let path = names.lock().path(ino)?;
            let file = disk.open(&path, OpenMode::Read)?;
            let length = length.min(file.size()?.saturating_sub(offset));
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(vec![bytes.into()])
        })
        .await
    }

    async fn make_directories(&self, path: &str) -> Result<(), fs::Error> {
        let path = PathBuf::from(path);
        self.on_disk(move |disk, _| disk.create_dir_all(&path)).await
    }

    async fn create(&self, path: &str) -> Result<InodeNo, fs::Error> {
        let path = PathBuf::from(path);
        self.on_disk(move |disk, names| {
            let file = disk.open(&path, OpenMode::Create)?;
            file.set_size(0)?;
            let mut names = names.lock();
            let ino = names.number(&path);
            names.writing.insert(ino.0, file);
            Ok(ino)
        })
        .await
    }

    async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), fs::Error> {
        self.on_disk(move |_, names| {
            let file = names.lock().writing.get(&ino.0).cloned();
            file.ok_or(io::ErrorKind::NotFound)?.write_all_at(&data, offset)
        })
        .await
    }

    async fn sync(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.on_disk(move |_, names| {
            let file = names.lock().writing.get(&ino.0).cloned();
            file.ok_or(io::ErrorKind::NotFound)?.sync()
        })
        .await
    }

    async fn finish(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.on_disk(move |_, names| {
            let file = names.lock().writing.remove(&ino.0);
            file.ok_or(io::ErrorKind::NotFound)?.sync()
        })
        .await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), fs::Error> {
        let (from, to) = (PathBuf::from(from), PathBuf::from(to));
        self.on_disk(move |disk, _| disk.rename(&from, &to)).await
    }

    async fn remove(&self, path: &str) -> Result<(), fs::Error> {
        let path = PathBuf::from(path);
        self.on_disk(move |disk, _| disk.remove_all(&path)).await
    }

    /// Names outlive the process by themselves, and nobody goes on with such a job after a power cut.
    async fn settle(&self) -> Result<(), fs::Error> {
        Ok(())
    }
}
