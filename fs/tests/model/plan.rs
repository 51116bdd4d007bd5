//! Random operations that make sense on a given model, and now and then some that do not.

use fs::{Allocate, Kind, RenameMode};

use crate::model::{Id, Model};

/// Splitmix: numbers that a seed decides.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.roll() % end }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.below(of.len() as u64) as usize).copied()
    }
}

/// One operation, in terms of the model.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Lookup(Id, Vec<u8>),
    Stat(Id),
    Make {
        directory: Id,
        name: Vec<u8>,
        kind: Kind,
        mode: u32,
        target: Vec<u8>,
    },
    /// Many files in one directory, so that its pages split.
    Many {
        directory: Id,
        from: u32,
        count: u32,
    },
    Create {
        directory: Id,
        name: Vec<u8>,
    },
    Link(Id, Id, Vec<u8>),
    Unlink(Id, Vec<u8>),
    Rmdir(Id, Vec<u8>),
    Rename((Id, Vec<u8>), (Id, Vec<u8>), RenameMode),
    Write {
        id: Id,
        offset: u64,
        length: usize,
        fill: u8,
    },
    Append {
        id: Id,
        length: usize,
        fill: u8,
    },
    Read(Id, u64, u64),
    Truncate(Id, u64),
    /// Makes a range zeros, by a hole or not.
    Clear {
        id: Id,
        offset: u64,
        length: u64,
        how: Allocate,
    },
    Chmod(Id, u32, u32),
    Utimes(Id, i64),
    List(Id),
    Readlink(Id),
    Open(Id),
    Release(Id),
    Fsync(Id),
    Sync,
}

const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "longer name", "\u{e4}", "x"];

fn name(dice: &mut Dice) -> Vec<u8> {
    match dice.below(40) {
        0 => vec![b'y'; 255],
        1 => vec![b'z'; 256],
        n => NAMES[n as usize % NAMES.len()].as_bytes().to_vec(),
    }
}

fn offset(dice: &mut Dice) -> u64 {
    match dice.below(8) {
        0 => dice.below(600_000),
        1 => 4096 * dice.below(40),
        2 | 3 => dice.below(70_000),
        _ => dice.below(9_000),
    }
}

fn length(dice: &mut Dice) -> usize {
    match dice.below(6) {
        0 => 1 + dice.below(150_000) as usize,
        1 => 4096,
        _ => 1 + dice.below(6_000) as usize,
    }
}

impl Plan {
    /// An operation on `model`, whose mounts are `mounts`: with several, nothing is unlinked that
    /// some mount has open, because open files are not handed over yet.
    pub(crate) fn roll(dice: &mut Dice, model: &Model, mounts: usize) -> Self {
        loop {
            let plan = Self::any(dice, model);
            if mounts == 1 || !plan.unlinks_open(model) {
                return plan;
            }
        }
    }

    fn unlinks_open(&self, model: &Model) -> bool {
        let open = |directory: &Id, name: &Vec<u8>| {
            let found = model.nodes.get(directory).and_then(|node| node.entries.get(name));
            found.is_some_and(|id| !model.get(*id).opens.is_empty())
        };
        match self {
            Self::Unlink(directory, name) | Self::Rmdir(directory, name) => open(directory, name),
            Self::Rename(_, (directory, name), _) => open(directory, name),
            _ => false,
        }
    }

    /// The nodes that it speaks of.
    pub(crate) fn nodes(&self) -> Vec<Id> {
        match self {
            Self::Lookup(id, _)
            | Self::Stat(id)
            | Self::Make { directory: id, .. }
            | Self::Many { directory: id, .. }
            | Self::Create { directory: id, .. }
            | Self::Unlink(id, _)
            | Self::Rmdir(id, _)
            | Self::Write { id, .. }
            | Self::Append { id, .. }
            | Self::Read(id, ..)
            | Self::Truncate(id, _)
            | Self::Clear { id, .. }
            | Self::Chmod(id, ..)
            | Self::Utimes(id, _)
            | Self::List(id)
            | Self::Readlink(id)
            | Self::Open(id)
            | Self::Release(id)
            | Self::Fsync(id) => vec![*id],
            Self::Link(id, directory, _) => vec![*id, *directory],
            Self::Rename((from, _), (to, _), _) => vec![*from, *to],
            Self::Sync => Vec::new(),
        }
    }

    fn any(dice: &mut Dice, model: &Model) -> Self {
        let of = |kind| -> Vec<Id> {
            let is = |(id, node): (&Id, &crate::model::Node)| (node.kind == kind).then_some(*id);
            model.nodes.iter().filter_map(is).collect()
        };
        let named = |ids: Vec<Id>| -> Vec<Id> {
            ids.into_iter().filter(|id| model.get(*id).links > 0).collect()
        };
        let directories = named(of(Kind::Directory));
        let directory = dice.pick(&directories).unwrap_or(1);
        let files = of(Kind::File);
        let everything: Vec<Id> = named(model.nodes.keys().copied().collect());
        let any = dice.pick(&everything).unwrap_or(1);
        let Some(file) = dice.pick(&files) else {
            return Self::Create { directory, name: name(dice) };
        };
        let fill = 1 + dice.below(255) as u8;
        match dice.below(50) {
            0 => Self::Lookup(directory, name(dice)),
            1 | 2 => Self::Stat(any),
            3..=5 => Self::make(dice, directory),
            6 => Self::Many { directory, from: dice.below(300) as u32, count: 120 },
            7..=10 => Self::Create { directory, name: name(dice) },
            11 => Self::Link(any, directory, name(dice)),
            12..=14 => Self::Unlink(directory, existing(dice, model, directory)),
            15 => Self::Rmdir(directory, existing(dice, model, directory)),
            16..=20 => {
                let to = dice.pick(&directories).unwrap_or(1);
                let from = (directory, existing(dice, model, directory));
                let mode = match dice.below(6) {
                    0 => RenameMode::NoReplace,
                    1 => RenameMode::Exchange,
                    _ => RenameMode::Replace,
                };
                Self::Rename(from, (to, name(dice)), mode)
            }
            21..=26 => Self::Write { id: file, offset: offset(dice), length: length(dice), fill },
            27 | 28 => Self::Append { id: file, length: length(dice), fill },
            29..=31 => Self::Read(file, offset(dice), length(dice) as u64),
            32 | 33 => Self::Truncate(file, if dice.below(2) == 0 { 0 } else { offset(dice) }),
            34 => Self::Chmod(any, dice.below(0o1000) as u32, dice.below(3) as u32),
            35 => Self::Utimes(any, dice.below(1 << 33) as i64 - (1 << 31)),
            36 | 37 => Self::List(directory),
            38 => Self::Readlink(dice.pick(&named(of(Kind::Symlink))).unwrap_or(any)),
            39 | 40 => Self::Open(dice.pick(&named(files.clone())).unwrap_or(any)),
            41 => Self::Release(any_open(dice, model).unwrap_or(any)),
            42..=44 => Self::Fsync(file),
            45..=48 => {
                let how = match dice.below(4) {
                    0 => Allocate::Zero { keep_size: false },
                    1 => Allocate::Zero { keep_size: true },
                    _ => Allocate::Punch,
                };
                Self::Clear { id: file, offset: offset(dice), length: length(dice) as u64, how }
            }
            _ => Self::Sync,
        }
    }

    fn make(dice: &mut Dice, directory: Id) -> Self {
        let kind = match dice.below(5) {
            0 => Kind::Symlink,
            1 => Kind::Fifo,
            2 => Kind::File,
            _ => Kind::Directory,
        };
        let target = match kind {
            // Longer ones are data, and not durable with their names yet.
            Kind::Symlink if dice.below(3) == 0 => vec![b't'; 1 + dice.below(352) as usize],
            Kind::Symlink => b"some/where".to_vec(),
            _ => Vec::new(),
        };
        let mode = if kind == Kind::Symlink { 0o777 } else { dice.below(0o1000) as u32 };
        Self::Make { directory, name: name(dice), kind, mode, target }
    }
}

fn existing(dice: &mut Dice, model: &Model, directory: Id) -> Vec<u8> {
    let names: Vec<&Vec<u8>> = model.get(directory).entries.keys().collect();
    match dice.pick(&names) {
        Some(found) if dice.below(8) > 0 => found.clone(),
        _ => name(dice),
    }
}

fn any_open(dice: &mut Dice, model: &Model) -> Option<Id> {
    let open: Vec<Id> =
        model.nodes.iter().filter(|(_, node)| !node.opens.is_empty()).map(|(id, _)| *id).collect();
    dice.pick(&open)
}
