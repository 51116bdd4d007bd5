//! The working directory of an attempt: made with links to the job's shipped files, and removed with all that its
//! programs left in it. What the files are is not known here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use world::{File, OpenMode, World};

use super::{Shipped, Streaming};
use crate::{error::Error, task::Bench};

/// What is copied at once.
const PIECE: u64 = 1 << 20;

/// A directory that is removed when it is left or dropped.
pub(crate) struct Workplace {
    world: World,
    dir: PathBuf,
    log: PathBuf,
    left: bool,
}

impl Workplace {
    /// Makes the directory of the attempt called `label`, with the job's files, which the first attempt of a worker
    /// brings there.
    pub(crate) async fn prepare(
        bench: &Bench,
        program: &Streaming,
        label: &str,
    ) -> Result<Self, Error> {
        let home = bench.store.home(bench.number);
        let files = home.join("files");
        bench.job.shipped.get_or_try_init(|| ship(bench, &program.files, &files)).await?;
        let (dir, log) = (home.join("work").join(label), home.join("logs").join(label));
        let names: Vec<_> = program.files.iter().map(|file| file.name.clone()).collect();
        let (disk, made) = (bench.world.disk.clone(), dir.clone());
        let logs = home.join("logs");
        let work = move || {
            disk.create_dir_all(&made)?;
            disk.create_dir_all(&logs)?;
            for name in names {
                disk.link(&files.join(&name), &made.join(&name))?;
            }
            Ok(())
        };
        let place = Self { world: bench.world.clone(), dir, log, left: false };
        let failed =
            |error| Error::disk(format!("making the directory {}", place.dir.display()), error);
        bench.world.blocking(work).await.map_err(failed)?;
        Ok(place)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Where standard error goes; none if the disk does not let.
    pub(crate) async fn log(&self) -> Option<Arc<dyn File>> {
        let (disk, log) = (self.world.disk.clone(), self.log.clone());
        self.world.blocking(move || disk.open(&log, OpenMode::Create)).await.ok()
    }

    /// Removes the directory.
    pub(crate) async fn leave(mut self) {
        self.left = true;
        let (disk, dir) = (self.world.disk.clone(), self.dir.clone());
        self.world.blocking(move || remove(disk.as_ref(), &dir)).await;
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if !self.left {
            let (disk, dir) = (self.world.disk.clone(), self.dir.clone());
            self.world.tasks.blocking(Box::new(move || remove(disk.as_ref(), &dir)));
        }
    }
}

fn remove(disk: &dyn world::Disk, dir: &Path) {
    if let Err(error) = disk.remove_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "a working directory stays behind");
    }
}

/// Brings the job's files from the file system to the local disk.
async fn ship(bench: &Bench, shipped: &[Shipped], to: &Path) -> Result<(), Error> {
    let failed = |error| Error::disk(format!("copying the job's files to {}", to.display()), error);
    let (disk, dir) = (bench.world.disk.clone(), to.to_owned());
    bench.world.blocking(move || disk.create_dir_all(&dir)).await.map_err(failed)?;
    for file in shipped {
        let target = to.join(&file.name);
        if !file.archive {
            copy(bench, &file.path, &target).await?;
            continue;
        }
        let packed = to.join(format!("{}.packed", file.name));
        copy(bench, &file.path, &packed).await?;
        unpack(bench, &packed, &target).await?;
    }
    Ok(())
}

async fn copy(bench: &Bench, from: &str, to: &Path) -> Result<(), Error> {
    let failed = |error| Error::files(format!("reading the job's file {from}"), error);
    let stat = bench.files.stat(from).await.map_err(failed)?;
    let stat = stat.ok_or_else(|| Error::NoInput(from.to_owned()))?;
    let disk = bench.world.disk.clone();
    let target = to.to_owned();
    let write_failed = |error| Error::disk(format!("writing {}", to.display()), error);
    let open = move || {
        let file = disk.open(&target, OpenMode::Create)?;
        file.set_size(0)?;
        disk.make_executable(&target)?;
        Ok(file)
    };
    let file = bench.world.blocking(open).await.map_err(write_failed)?;
    let mut offset = 0;
    while offset < stat.size {
        let length = PIECE.min(stat.size - offset);
        let parts = bench.files.read(stat.ino, offset, length).await.map_err(failed)?;
        let before = offset;
        for part in parts {
            let (file, at) = (file.clone(), offset);
            offset += part.len() as u64;
            let write = move || file.write_all_at(&part, at);
            bench.world.blocking(write).await.map_err(write_failed)?;
        }
        if offset == before {
            break;
        }
    }
    Ok(())
}

async fn unpack(bench: &Bench, packed: &Path, to: &Path) -> Result<(), Error> {
    let (disk, dir) = (bench.world.disk.clone(), to.to_owned());
    let failed = |error| Error::disk(format!("unpacking to {}", to.display()), error);
    bench.world.blocking(move || disk.create_dir_all(&dir)).await.map_err(failed)?;
    let command = world::Command {
        program: "tar".to_owned(),
        arguments: vec!["-xf".to_owned(), packed.display().to_string()],
        directory: to.to_owned(),
        ..world::Command::default()
    };
    let mut process = bench.world.tasks.process(&command).map_err(failed)?;
    drop(process.input.take());
    match process.wait().await.map_err(failed)? {
        world::Exit::Code(0) => Ok(()),
        end => Err(Error::Spec(format!(
            "the archive {} cannot be unpacked: tar ended with {end}",
            packed.display()
        ))),
    }
}
