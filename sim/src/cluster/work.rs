//! What the users of a mount do: operations on a handful of files in two directories, drawn from the schedule's chance,
//! and a note of each for the judge.

use std::sync::Arc;
use std::time::Duration;

use ::fs::{Allocate, Attributes, Caller, Error, InodeNo, RenameMode, SetAttributes};
use bytes::Bytes;
use parking_lot::Mutex;

use super::judge::{Act, File, Register, Value};
use super::mount::Running;
use super::notes::{Acts, Covers, Notes};
use super::view::View;
use crate::dice::Dice;
use world::{Clock, World};

/// Names in each directory.
pub(super) const NAMES: u64 = 3;
/// Sectors of a file that are written.
pub(super) const SECTORS: u64 = 6;
const SECTOR: usize = 512;
const ME: Caller = Caller { uid: 1000, gid: 1000, umask: 0o022 };

/// One user of one mount.
pub(super) struct Worker {
    /// The mount, as the judge knows it: another number for each of its lives.
    pub(super) client: u64,
    pub(super) world: World,
    /// The true time.
    pub(super) clock: Arc<dyn Clock>,
    pub(super) running: Arc<Mutex<Option<Running>>>,
    pub(super) notes: Arc<Mutex<Notes>>,
    pub(super) dice: Dice,
    pub(super) dirs: Vec<InodeNo>,
    /// Bytes from one sector that is written to the next; zeros in between are written with it.
    pub(super) stride: u64,
    /// The longest pause between two operations, in milliseconds.
    pub(super) longest: u64,
    /// What it is at, as the notes know it.
    pub(super) operation: u64,
}

/// What an operation did and saw. After an error it may have done what it meant to.
type Seen = Result<Acts, Error>;

fn file(known: &Attributes) -> File {
    File { ino: known.ino.0, generation: known.generation }
}

/// A name that is to be worked with.
#[derive(Clone, Copy)]
struct Place {
    dir: InodeNo,
    number: u64,
}

impl Place {
    fn name(self) -> Vec<u8> {
        format!("file-{}", self.number).into_bytes()
    }

    fn register(self) -> Register {
        Register::Name(self.dir.0, self.number)
    }
}

impl Worker {
    /// Works until the schedule wants no more, or the mount is lost.
    pub(super) async fn work(mut self) {
        let Some(running) = self.mounted(|notes| notes.stop).await else { return };
        loop {
            let pause = self.dice.millis(0, self.longest);
            self.world.clock.sleep(pause).await;
            if self.notes.lock().stop {
                return;
            }
            let called = self.now();
            self.operation = self.notes.lock().begin(self.client, called);
            let seen = self.act(&running.view).await;
            let ended = (called, self.now());
            let mut notes = self.notes.lock();
            match seen {
                Ok(acts) => notes.end(self.operation, acts, ended),
                Err(error) => {
                    notes.fail(self.operation);
                    let client = self.client;
                    notes.say(self.clock.now().as_duration(), || {
                        format!("client {client}: {error}")
                    });
                    if matches!(error, Error::Expired | Error::Closed | Error::Lock(_)) {
                        notes.lost(self.client);
                        return;
                    }
                }
            }
        }
    }

    /// Waits for the mount; `None` if `given_up` says that it is no longer wanted.
    async fn mounted(&self, given_up: impl Fn(&Notes) -> bool + Send) -> Option<Running> {
        loop {
            if let Some(running) = self.running.lock().clone() {
                return Some(running);
            }
            if given_up(&self.notes.lock()) {
                return None;
            }
            self.world.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Looks at every name, and at every sector of what it leads to, then says how that ended.
    pub(super) async fn look_at_all(mut self, ended: Arc<Mutex<Option<Result<(), Error>>>>) {
        let Some(running) = self.mounted(|_| false).await else { return };
        let mut seen = Ok(());
        for dir in self.dirs.clone() {
            for number in 0..NAMES {
                let called = self.now();
                self.operation = self.notes.lock().begin(self.client, called);
                match self.look_at(&running.view, Place { dir, number }).await {
                    Ok(acts) => {
                        let ended = (called, self.now());
                        self.notes.lock().end(self.operation, acts, ended);
                    }
                    Err(error) => seen = Err(error),
                }
            }
        }
        *ended.lock() = Some(seen);
    }

    async fn look_at(&self, on: &View, place: Place) -> Seen {
        let (mut acts, found) = look(on, place).await?;
        if let Some(there) = found {
            acts.extend(self.size(on, there).await?);
            for sector in 0..2 * SECTORS {
                acts.extend(self.read(on, there, sector).await?);
            }
        }
        Ok(acts)
    }

    /// Notes what the operation is about to do, in case nobody learns whether it was done.
    fn mean(&self, acts: &[(Register, Act)]) {
        self.notes.lock().mean(self.operation, acts);
    }

    fn now(&self) -> u64 {
        self.clock.now().0
    }

    fn place(&mut self) -> Place {
        let dir = self.dirs[self.dice.pick(self.dirs.len())];
        Place { dir, number: self.dice.between(0, NAMES) }
    }

    /// Does something.
    async fn act(&mut self, on: &View) -> Seen {
        let place = self.place();
        match self.dice.between(0, 100) {
            0..12 => self.create(on, place).await,
            12..24 => look(on, place).await.map(|(acts, _)| acts),
            24..30 => self.remove(on, place).await,
            30..38 => {
                let to = self.place();
                let mode = [RenameMode::Replace, RenameMode::NoReplace][self.dice.pick(2)];
                self.rename(on, place, to, mode).await
            }
            38..94 => self.use_file(on, place).await,
            94..97 => self.sync_dir(on, place).await,
            _ => self.sync(on).await,
        }
    }

    async fn create(&self, on: &View, place: Place) -> Seen {
        let register = place.register();
        self.mean(&[(register, Act::PutSome)]);
        match on.fs.create(place.dir, &place.name(), 0o644, ME).await {
            Ok(entry) => {
                on.renamed(place.dir, &place.name());
                on.fs.release(entry.attributes.ino);
                Ok(vec![(register, Act::Put(Value::File(file(&entry.attributes))))])
            }
            Err(Error::Exists) => Ok(vec![(register, Act::SeeSome)]),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, on: &View, place: Place) -> Seen {
        let taken = vec![(place.register(), Act::Take)];
        self.mean(&taken);
        match on.fs.unlink(place.dir, &place.name()).await {
            Ok(()) => {
                on.renamed(place.dir, &place.name());
                Ok(taken)
            }
            Err(Error::NotFound) => Ok(vec![(place.register(), Act::See(Value::Absent))]),
            Err(error) => Err(error),
        }
    }

    async fn rename(&self, on: &View, from: Place, to: Place, mode: RenameMode) -> Seen {
        let (source, target) = (from.register(), to.register());
        if source == target {
            return Ok(Vec::new());
        }
        let moved = vec![(source, Act::Take), (target, Act::PutSome)];
        self.mean(&moved);
        match on.fs.rename(from.dir, &from.name(), to.dir, &to.name(), mode).await {
            Ok(()) => {
                on.renamed(from.dir, &from.name());
                on.renamed(to.dir, &to.name());
                Ok(moved)
            }
            Err(Error::NotFound) => Ok(vec![(source, Act::See(Value::Absent))]),
            Err(Error::Exists) => Ok(vec![(source, Act::SeeSome), (target, Act::SeeSome)]),
            Err(error) => Err(error),
        }
    }

    /// Opens what a name leads to and does one thing with it.
    async fn use_file(&mut self, on: &View, place: Place) -> Seen {
        let (mut acts, found) = look(on, place).await?;
        let Some(there) = found else { return Ok(acts) };
        // Whatever becomes of the rest, this was seen.
        self.notes.lock().saw(self.operation, self.now(), std::mem::take(&mut acts));
        let ino = InodeNo(there.ino);
        match on.fs.open(ino, false).await {
            Ok(()) => {}
            Err(Error::Stale | Error::NotFound) => return Ok(acts),
            Err(error) => return Err(error),
        }
        let done = self.on_open(on, there).await;
        on.fs.release(ino);
        done
    }

    async fn on_open(&mut self, on: &View, there: File) -> Seen {
        let ino = InodeNo(there.ino);
        // Between the look and the opening the number may have got another life.
        match on.attributes(ino).await {
            Ok(known) if file(&known) == there => {}
            Ok(_) | Err(Error::Stale | Error::NotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let sector = self.dice.between(0, SECTORS);
        match self.dice.between(0, 100) {
            0..35 => self.write(on, there, sector).await,
            35..67 => self.read(on, there, sector).await,
            67..75 => self.append(on, there).await,
            75..81 => self.truncate(on, there, sector).await,
            81..84 => self.punch(on, there, sector).await,
            84..90 => self.size(on, there).await,
            _ => self.sync_file(on, there).await,
        }
    }

    async fn write(&self, on: &View, there: File, sector: u64) -> Seen {
        let value = self.notes.lock().next_value(there);
        let acts = vec![
            (Register::Sector(there, sector), Act::Put(Value::Number(value))),
            (Register::Size(there), Act::Grow(sector + 1)),
        ];
        self.mean(&acts);
        let ino = InodeNo(there.ino);
        on.fs.write(ino, sector * self.stride, self.bytes_of(value)).await?;
        on.changed(ino);
        Ok(acts)
    }

    async fn append(&self, on: &View, there: File) -> Seen {
        let value = self.notes.lock().next_value(there);
        let at = |sector| {
            let put = (Register::Sector(there, sector), Act::Put(Value::Number(value)));
            [put, (Register::Size(there), Act::Extend(sector))]
        };
        let anywhere: Acts = (0..2 * SECTORS).flat_map(at).collect();
        self.mean(&anywhere);
        let ino = InodeNo(there.ino);
        let offset = on.fs.append(ino, self.bytes_of(value)).await?;
        on.changed(ino);
        Ok(at(offset / self.stride).to_vec())
    }

    async fn truncate(&self, on: &View, there: File, sectors: u64) -> Seen {
        let mut acts = vec![(Register::Size(there), Act::Put(Value::Number(sectors)))];
        let cut = sectors..2 * SECTORS;
        acts.extend(cut.map(|at| (Register::Sector(there, at), Act::Put(Value::Number(0)))));
        self.mean(&acts);
        let size = Some(sectors * self.stride);
        let set = SetAttributes { size, ..SetAttributes::default() };
        on.fs.setattr(InodeNo(there.ino), set).await?;
        on.changed(InodeNo(there.ino));
        Ok(acts)
    }

    async fn punch(&self, on: &View, there: File, sector: u64) -> Seen {
        let acts = vec![(Register::Sector(there, sector), Act::Put(Value::Number(0)))];
        self.mean(&acts);
        let (ino, at) = (InodeNo(there.ino), sector * self.stride);
        on.fs.allocate(ino, at, self.stride, Allocate::Punch).await?;
        on.changed(ino);
        Ok(acts)
    }

    /// Reads one sector, and the zeros behind it; one that is not there is as good as zeros.
    async fn read(&self, on: &View, there: File, sector: u64) -> Seen {
        let bytes = on.read(InodeNo(there.ino), sector * self.stride, self.stride).await?;
        let value = value_of(&bytes);
        self.notes.lock().foreign.saw(there, sector, value);
        let seen = Act::See(Value::Number(value.unwrap_or(u64::MAX)));
        Ok(vec![(Register::Sector(there, sector), seen)])
    }

    async fn size(&self, on: &View, there: File) -> Seen {
        let known = on.attributes(InodeNo(there.ino)).await?;
        let size = Value::Number(known.size.div_ceil(self.stride));
        Ok(vec![(Register::Size(there), Act::See(size))])
    }

    /// A sector full of a value, and the zeros behind it.
    fn bytes_of(&self, value: u64) -> Bytes {
        let mut bytes = value.to_le_bytes().repeat(SECTOR / 8);
        bytes.resize(self.stride as usize, 0);
        bytes.into()
    }

    async fn sync_file(&self, on: &View, there: File) -> Seen {
        let called = self.now();
        on.fs.fsync(InodeNo(there.ino)).await?;
        self.notes.lock().synced(self.client, Covers::File(there), (called, self.now()));
        Ok(Vec::new())
    }

    async fn sync_dir(&self, on: &View, place: Place) -> Seen {
        let called = self.now();
        on.fs.fsyncdir(place.dir).await?;
        self.notes.lock().synced(self.client, Covers::Names, (called, self.now()));
        Ok(Vec::new())
    }

    async fn sync(&self, on: &View) -> Seen {
        let called = self.now();
        on.fs.sync().await?;
        self.notes.lock().synced(self.client, Covers::All, (called, self.now()));
        Ok(Vec::new())
    }
}

/// Looks a name up.
async fn look(on: &View, place: Place) -> Result<(Acts, Option<File>), Error> {
    let found = on.lookup(place.dir, &place.name()).await?.map(|known| file(&known));
    let value = found.map_or(Value::Absent, Value::File);
    Ok((vec![(place.register(), Act::See(value))], found))
}

/// The value that a sector is full of; `None` if it is no value, or what is behind it no zeros.
fn value_of(bytes: &[u8]) -> Option<u64> {
    let value = bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (sector, rest) = bytes.split_at(SECTOR.min(bytes.len()));
    // A sector is one write, whole.
    let whole = sector.chunks(8).all(|chunk| value.to_le_bytes().starts_with(chunk));
    (whole && rest.iter().all(|byte| *byte == 0)).then_some(value)
}
