//! What a session holds, as its clerk knows it: disjoint spans, each with a mode and a number.

use std::collections::BTreeMap;

use world::Time;

use crate::{
    locks::Held,
    name::{Grant, Mode, Name, Span},
};

#[derive(Clone, Copy, Debug)]
struct Part {
    end: Name,
    mode: Mode,
    grant: Grant,
    used: Time,
}

/// The spans by their first name, and when each was last used.
#[derive(Clone, Default, Debug)]
pub(crate) struct Holdings {
    map: BTreeMap<Name, Part>,
}

fn held(start: Name, part: &Part) -> Held {
    let span = Span::new(start, part.end).expect("spans are never empty");
    Held { span, mode: part.mode, grant: part.grant }
}

impl Holdings {
    /// The lock that `name` is held under.
    pub(crate) fn get(&self, name: Name) -> Option<Held> {
        let (start, rest) = self.map.range(..=name).next_back()?;
        (rest.end > name).then(|| held(*start, rest))
    }

    /// As [`Holdings::get`], and notes that it was used at `now`.
    pub(crate) fn touch(&mut self, name: Name, now: Time) -> Option<Held> {
        let (start, part) = self.map.range_mut(..=name).next_back()?;
        if part.end <= name {
            return None;
        }
        part.used = now;
        Some(held(*start, part))
    }

    /// Those of `names` (in order) that nothing is held of. Looks once for each gap and each span, not for each name.
    pub(crate) fn missing(&self, mut names: Vec<Name>) -> Vec<Name> {
        // Up to here it is known whether there is a gap.
        let (mut known, mut gap) = (Name(0), true);
        names.retain(|&name| {
            if name >= known {
                let held = self.get(name);
                gap = held.is_none();
                let next =
                    || self.map.range(name..).next().map_or(Name(u64::MAX), |(next, _)| *next);
                known = held.map_or_else(next, |held| held.span.end());
            }
            gap
        });
        names
    }

    /// How many spans there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// What of `within` was last used at `until` or before, the oldest first, at most `most` spans.
    pub(crate) fn unused(&self, within: Span, until: Time, most: usize) -> Vec<Span> {
        let mut old: Vec<(Time, Span)> = self
            .map
            .iter()
            .filter(|(_, part)| part.used <= until)
            .map(|(start, part)| (part.used, held(*start, part).span))
            .filter(|(_, span)| within.covers(*span))
            .collect();
        old.sort_unstable();
        old.into_iter().take(most).map(|(_, span)| span).collect()
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
    pub(crate) fn set(&mut self, new: Held, used: Time) {
        self.remove(new.span);
        let part = Part { end: new.span.end(), mode: new.mode, grant: new.grant, used };
        self.map.insert(new.span.start(), part);
    }

    /// What is held exactly as `old` says goes, or is held in mode `to` under the same number.
    pub(crate) fn change(&mut self, old: &Held, to: Option<Mode>, now: Time) {
        let parts: Vec<Held> = self.parts(old.span).collect();
        for part in parts.into_iter().filter(|p| (p.mode, p.grant) == (old.mode, old.grant)) {
            match to {
                None => self.remove(part.span),
                Some(mode) => self.set(Held { mode, ..part }, now),
            }
        }
    }

    /// Forgets `within`; what lies outside keeps its number.
    pub(crate) fn remove(&mut self, within: Span) {
        // Of a new grant mostly nothing was known: one look tells.
        let last = self.map.range(..within.end()).next_back();
        if last.is_none_or(|(_, part)| part.end <= within.start()) {
            return;
        }
        let parts: Vec<Span> = self.parts(within).map(|part| part.span).collect();
        for part in parts {
            let Some(whole) = self.get(part.start()) else { continue };
            let Some(old) = self.map.remove(&whole.span.start()) else { continue };
            if whole.span.start() < part.start() {
                self.map.insert(whole.span.start(), Part { end: part.start(), ..old });
            }
            if part.end() < whole.span.end() {
                self.map.insert(part.end(), old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use world::Time;

    use super::Holdings;
    use crate::{
        locks::Held,
        name::{Grant, Mode, Name, Span},
    };

    proptest! {
        #[test]
        fn what_is_missing_is_what_no_single_look_finds(
            spans in prop::collection::vec((0..60_u64, 1..9_u64), 0..20),
            gone in prop::collection::vec((0..60_u64, 1..9_u64), 0..5),
            names in prop::collection::btree_set((0..70_u64).prop_map(Name), 0..40),
        ) {
            let span = |(start, length)| Span::new(Name(start), Name(start + length)).unwrap();
            let mut held = Holdings::default();
            let mut model = std::collections::BTreeSet::new();
            for within in spans.into_iter().map(span) {
                held.set(Held { span: within, mode: Mode::Shared, grant: Grant(1) }, Time::ZERO);
                model.extend(within.start().0..within.end().0);
            }
            for within in gone.into_iter().map(span) {
                held.remove(within);
                model.retain(|name| !(within.start().0..within.end().0).contains(name));
            }
            let expected: Vec<Name> = names.iter().copied().filter(|name| !model.contains(&name.0)).collect();
            prop_assert_eq!(held.missing(names.into_iter().collect()), expected);
        }
    }
}
