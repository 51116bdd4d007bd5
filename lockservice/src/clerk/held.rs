//! What a session holds, as its clerk knows it: disjoint spans, each with a mode and a number.

use std::collections::BTreeMap;

use crate::{
    locks::Held,
    name::{Grant, Mode, Name, Span},
};

/// The spans by their first name.
#[derive(Clone, Default, Debug)]
pub(crate) struct Holdings {
    map: BTreeMap<Name, (Name, Mode, Grant)>,
}

fn held(start: Name, &(end, mode, grant): &(Name, Mode, Grant)) -> Held {
    Held { span: Span::new(start, end).expect("spans are never empty"), mode, grant }
}

impl Holdings {
    /// The lock that `name` is held under.
    pub(crate) fn get(&self, name: Name) -> Option<Held> {
        let (start, rest) = self.map.range(..=name).next_back()?;
        (rest.0 > name).then(|| held(*start, rest))
    }

    pub(crate) fn all(&self) -> Vec<Held> {
        self.map.iter().map(|(start, rest)| held(*start, rest)).collect()
    }

    /// The parts of `within` that are held.
    pub(crate) fn parts(&self, within: Span) -> impl Iterator<Item = Held> {
        let first = self.get(within.start()).map_or(within.start(), |held| held.span.start());
        self.map.range(first..within.end()).filter_map(move |(start, rest)| {
            let held = held(*start, rest);
            held.span.intersection(within).map(|span| Held { span, ..held })
        })
    }

    /// The lock on the first name of `need`, if all of `need` is held in `mode` or stronger.
    pub(crate) fn covers(&self, need: Span, mode: Mode) -> Option<Held> {
        let mut at = need.start();
        for part in self.parts(need) {
            if part.span.start() != at || part.mode < mode {
                return None;
            }
            at = part.span.end();
        }
        if at < need.end() { None } else { self.get(need.start()) }
    }

    /// Puts `new` over whatever was known of its names.
    pub(crate) fn set(&mut self, new: Held) {
        self.remove(new.span);
        self.map.insert(new.span.start(), (new.span.end(), new.mode, new.grant));
    }

    /// What is held exactly as `old` says goes, or is held in mode `to` under the same number.
    pub(crate) fn change(&mut self, old: &Held, to: Option<Mode>) {
        let parts: Vec<Held> = self.parts(old.span).collect();
        for part in parts.into_iter().filter(|p| (p.mode, p.grant) == (old.mode, old.grant)) {
            match to {
                None => self.remove(part.span),
                Some(mode) => self.set(Held { mode, ..part }),
            }
        }
    }

    /// Forgets `within`; what lies outside keeps its number.
    pub(crate) fn remove(&mut self, within: Span) {
        let parts: Vec<Span> = self.parts(within).map(|part| part.span).collect();
        for part in parts {
            let Some(whole) = self.get(part.start()) else { continue };
            let rest = (whole.mode, whole.grant);
            self.map.remove(&whole.span.start());
            if whole.span.start() < part.start() {
                self.map.insert(whole.span.start(), (part.start(), rest.0, rest.1));
            }
            if part.end() < whole.span.end() {
                self.map.insert(part.end(), (whole.span.end(), rest.0, rest.1));
            }
        }
    }
}
