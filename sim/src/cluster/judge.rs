//! What file-system clients were told, and whether it can be so.
//!
//! The tree is cut into registers that do not touch each other: a name in a directory says which file it leads to; a
//! sector of a file says what was written there last; the size of a file is one, too. For each [`crate::wgl`] looks for
//! an order: every answer must be that of one moment between call and return, on whichever mount.
//!
//! A client that dies takes with it what it had not made durable. So a register remembers which values a death of its last
//! writer may bring back: those since its last sync (F1), and none any more once another client has seen the register,
//! since a lock passes on only when what is under it was written out. Which invariant it is that a register shows is the
//! business of [`super::check`].

use std::collections::BTreeSet;

use crate::wgl::Model;

/// A file, in one of the lives of its inode number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct File {
    pub(super) ino: u64,
    pub(super) generation: u64,
}

/// What is judged by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Register {
    /// A name of a directory, both by number.
    Name(u64, u64),
    /// A sector of a file.
    Sector(File, u64),
    /// The size of a file, in sectors.
    Size(File),
}

/// What a register says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Value {
    /// A name that leads nowhere.
    Absent,
    /// Where a name leads to.
    File(File),
    /// What a sector has, zero before it was written; how many sectors a file has.
    Number(u64),
}

/// What a client did to a register, or saw in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// It says this now.
    Put(Value),
    /// A name leads to some file now, which the client does not know.
    PutSome,
    /// A file has at least so many sectors now.
    Grow(u64),
    /// A file had so many sectors, and has one more now.
    Extend(u64),
    /// A name that led to some file leads nowhere now.
    Take,
    /// It said this.
    See(Value),
    /// A name led to some file.
    SeeSome,
    /// All that the client did before is durable.
    Sync,
    /// The client is gone, and with it some of what it had not made durable, or nothing.
    Die,
}

/// By whom, and of which register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deed {
    pub(super) client: u64,
    pub(super) register: Register,
    pub(super) act: Act,
}

/// What a register may say: one of these, or, if `any_file`, any file at all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct May {
    values: BTreeSet<Value>,
    any_file: bool,
}

impl May {
    fn one(value: Value) -> Self {
        Self { values: BTreeSet::from([value]), any_file: false }
    }

    /// What is left of it when this was seen; `None` if it cannot have been.
    fn only(&self, seen: impl Fn(&Value) -> bool) -> Option<Self> {
        let values: BTreeSet<Value> = self.values.iter().copied().filter(seen).collect();
        (!values.is_empty()).then_some(Self { values, any_file: false })
    }

    /// What of it is a file; `None` if nothing is.
    pub(super) fn files(&self) -> Option<Self> {
        let values = self.values.iter().copied().filter(|value| *value != Value::Absent);
        let files = Self { values: values.collect(), any_file: self.any_file };
        files.leads_to_a_file().then_some(files)
    }

    fn leads_to_a_file(&self) -> bool {
        self.any_file || self.values.iter().any(|value| matches!(value, Value::File(_)))
    }

    fn after(&self, act: Act) -> Option<Self> {
        match act {
            Act::Put(value) => Some(Self::one(value)),
            Act::PutSome => Some(Self { values: BTreeSet::new(), any_file: true }),
            Act::See(value @ Value::File(_)) if self.any_file => Some(Self::one(value)),
            Act::See(value) => self.only(|other| *other == value),
            Act::SeeSome => self.files(),
            Act::Take => self.leads_to_a_file().then(|| Self::one(Value::Absent)),
            Act::Grow(least) => {
                let grown = self.values.iter().map(|value| match value {
                    Value::Number(size) => Value::Number(*size.max(&least)),
                    other => *other,
                });
                Some(Self { values: grown.collect(), any_file: false })
            }
            Act::Extend(from) => self
                .only(|other| *other == Value::Number(from))
                .map(|_| Self::one(Value::Number(from + 1))),
            Act::Sync | Act::Die => Some(self.clone()),
        }
    }

    fn or(mut self, other: &Self) -> Self {
        self.values.extend(&other.values);
        self.any_file |= other.any_file;
        self
    }
}

/// A register, and what the death of its last writer would bring back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct State {
    now: May,
    writer: Option<u64>,
    /// What it said since the writer last made it durable, the durable value included.
    before: Option<May>,
    /// Who is dead does nothing more, and syncs nothing.
    dead: BTreeSet<u64>,
}

impl State {
    /// What it may say now.
    pub(super) fn may(&self) -> &May {
        &self.now
    }

    /// It is known better what it says.
    pub(super) fn becomes(&mut self, may: May) {
        self.now = may;
    }
}

/// All registers of a tree.
pub(super) struct Tree {
    /// A sync keeps what was done from being undone by a death.
    pub(super) syncs: bool,
}

impl Model for Tree {
    type Key = Register;
    type State = State;
    type Input = Deed;
    type Output = ();

    fn key(&self, deed: &Deed) -> Register {
        deed.register
    }

    fn initial(&self, register: &Register) -> State {
        let value = match register {
            Register::Name(..) => Value::Absent,
            Register::Sector(..) | Register::Size(_) => Value::Number(0),
        };
        State { now: May::one(value), writer: None, before: None, dead: BTreeSet::new() }
    }

    fn step(&self, state: &State, deed: &Deed, _: Option<&()>) -> Option<State> {
        if state.dead.contains(&deed.client) {
            return None;
        }
        let mut next = state.clone();
        let mine = state.writer == Some(deed.client);
        if deed.act == Act::Die {
            next.dead.insert(deed.client);
        }
        match deed.act {
            Act::Sync if mine && self.syncs => next.before = None,
            Act::Die if mine => {
                if let Some(older) = next.before.take() {
                    next.now = next.now.or(&older);
                }
                next.writer = None;
            }
            Act::Sync | Act::Die => {}
            Act::See(_) | Act::SeeSome => {
                next.now = state.now.after(deed.act)?;
                if !mine {
                    next.before = None;
                    next.writer = None;
                }
            }
            act => {
                next.now = state.now.after(act)?;
                let older = next.before.take().filter(|_| mine);
                next.writer = Some(deed.client);
                next.before = Some(match older {
                    Some(older) => older.or(&state.now),
                    None => state.now.clone(),
                });
            }
        }
        Some(next)
    }

    fn observes(&self, _: &Deed, (): &()) -> bool {
        // Even a look changes what a death may bring back.
        false
    }
}

#[cfg(test)]
mod tests;
