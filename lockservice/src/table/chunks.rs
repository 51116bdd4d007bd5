//! The pieces of the map of locks by their first name, kept in chunks that a frozen image shares: to
//! freeze ten million pieces copies some ten thousand pointers, and a chunk is copied only when it is
//! changed while an image has it. Dense, too: a piece takes little more than what it says.
//!
//! It does not know that pieces are disjoint.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::pieces::Hold;
use crate::name::Name;

/// Names that are held alike.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) start: Name,
    pub(crate) end: Name,
    pub(crate) hold: Hold,
}

/// The most pieces of a chunk.
const MOST: usize = 256;

/// Pieces by their first name.
#[derive(Clone, Default, Debug)]
pub(crate) struct Chunks {
    /// By a name that is at most the start of its first piece, and behind all pieces of the chunk
    /// before. The first is at name 0 and may be empty; no other is.
    map: BTreeMap<Name, Arc<Vec<Piece>>>,
}

fn place(chunk: &[Piece], start: Name) -> usize {
    chunk.partition_point(|piece| piece.start < start)
}

impl Chunks {
    /// The chunk in which a piece that starts here is, or would be.
    fn key(&self, start: Name) -> Name {
        self.map.range(..=start).next_back().map_or(Name(0), |(key, _)| *key)
    }

    /// All.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.map.values().flat_map(|chunk| chunk.iter())
    }

    /// All, chunk by chunk.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[Piece]> {
        self.map.values().map(|chunk| chunk.as_slice())
    }

    /// Those that start at `start` or behind it.
    pub(crate) fn from(&self, start: Name) -> impl Iterator<Item = &Piece> {
        let chunks = self.map.range(self.key(start)..);
        chunks.flat_map(move |(_, chunk)| &chunk[place(chunk, start)..])
    }

    /// The last that starts before `end`.
    pub(crate) fn before(&self, end: Name) -> Option<&Piece> {
        let chunks = self.map.range(..end).rev();
        chunks.filter_map(|(_, chunk)| chunk[..place(chunk, end)].last()).next()
    }

    /// The one that starts here, to change all but its start.
    pub(crate) fn get_mut(&mut self, start: Name) -> Option<&mut Piece> {
        let chunk = self.map.get_mut(&self.key(start))?;
        let at = place(chunk, start);
        chunk.get(at).filter(|piece| piece.start == start)?;
        Arc::make_mut(chunk).get_mut(at)
    }

    /// Adds one where none starts.
    pub(crate) fn insert(&mut self, piece: Piece) {
        let key = self.key(piece.start);
        let chunk = Arc::make_mut(self.map.entry(key).or_default());
        let at = place(chunk, piece.start);
        if chunk.len() < MOST {
            chunk.insert(at, piece);
        } else if at == MOST {
            // What is added in order leaves full chunks behind.
            self.map.insert(piece.start, Arc::new(vec![piece]));
        } else {
            let rest = chunk.split_off(MOST / 2);
            chunk.shrink_to(MOST * 5 / 8);
            self.map.insert(rest[0].start, Arc::new(rest));
            self.insert(piece);
        }
    }

    /// Adds many by their first name, where none of them starts: each chunk that takes some is written once.
    pub(crate) fn insert_all(&mut self, pieces: Vec<Piece>) {
        let mut rest = pieces.into_iter().peekable();
        while let Some(first) = rest.peek() {
            let key = self.key(first.start);
            let next = self.map.range((Excluded(key), Unbounded)).next().map(|(next, _)| *next);
            let chunk = Arc::make_mut(self.map.entry(key).or_default());
            let in_order = chunk.last().is_none_or(|last| last.start < first.start);
            while let Some(piece) = rest.next_if(|piece| next.is_none_or(|next| piece.start < next))
            {
                chunk.push(piece);
            }
            if !in_order {
                chunk.sort_by_key(|piece| piece.start);
            }
            self.divide(key, in_order);
        }
    }

    /// Cuts a chunk that has too many into full ones, or into even ones when what came is spread over it.
    fn divide(&mut self, key: Name, full: bool) {
        let Some(chunk) = self.map.get_mut(&key).filter(|chunk| chunk.len() > MOST) else { return };
        let part = if full { MOST } else { MOST / 2 };
        let mut pieces = std::mem::take(Arc::make_mut(chunk)).into_iter();
        let mut parts = std::iter::from_fn(|| {
            let part: Vec<Piece> = pieces.by_ref().take(part).collect();
            (!part.is_empty()).then(|| Arc::new(part))
        });
        if let Some(first) = parts.next() {
            *chunk = first;
        }
        self.map.extend(parts.map(|part| (part[0].start, part)));
    }

    /// Takes the one that starts here.
    pub(crate) fn remove(&mut self, start: Name) -> Option<Piece> {
        let key = self.key(start);
        let chunk = self.map.get_mut(&key)?;
        let at = place(chunk, start);
        chunk.get(at).filter(|piece| piece.start == start)?;
        let chunk = Arc::make_mut(chunk);
        let piece = chunk.remove(at);
        let left = chunk.len();
        if left == 0 && key != Name(0) {
            self.map.remove(&key);
        } else if left < MOST / 8 {
            self.merge(key);
        }
        Some(piece)
    }

    /// Joins a small chunk with the next one, if that is small.
    fn merge(&mut self, key: Name) {
        let next = self.map.range(Name(key.0.saturating_add(1))..).next();
        let Some((&next, small)) = next.filter(|(_, chunk)| chunk.len() < MOST / 4) else { return };
        let more = small.iter().cloned().collect::<Vec<Piece>>();
        self.map.remove(&next);
        if let Some(chunk) = self.map.get_mut(&key) {
            Arc::make_mut(chunk).extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::{Chunks, MOST, Piece};
    use crate::{Grant, Name, SessionId, table::pieces::Hold};

    fn piece(start: u64) -> Piece {
        let hold = Hold::Exclusive(SessionId(1), Grant(start));
        Piece { start: Name(start), end: Name(start + 1), hold }
    }

    fn has(chunks: &Chunks, start: u64) -> bool {
        chunks.from(Name(start)).next().is_some_and(|piece| piece.start.0 == start)
    }

    fn starts<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Vec<u64> {
        pieces.map(|piece| piece.start.0).collect()
    }

    proptest! {
        #[test]
        fn chunks_are_a_sorted_map_and_an_image_stays_as_it_was(
            steps in prop::collection::vec((any::<bool>(), 0..3_000_u64), 1..4_000),
            freeze in 0..4_000_usize,
        ) {
            let (mut chunks, mut model) = (Chunks::default(), BTreeMap::new());
            let mut frozen = None;
            for (number, (add, start)) in steps.iter().enumerate() {
                if number == freeze {
                    frozen = Some((chunks.clone(), starts(model.values())));
                }
                if *add && !model.contains_key(start) {
                    chunks.insert(piece(*start));
                    model.insert(*start, piece(*start));
                } else if !add {
                    let found = chunks.remove(Name(*start)).map(|piece| piece.start.0);
                    prop_assert_eq!(found, model.remove(start).map(|piece| piece.start.0));
                } else if let Some(found) = chunks.get_mut(Name(*start)) {
                    found.end = Name(start + 1);
                }
                let before = model.range(..*start).next_back().map(|(start, _)| *start);
                prop_assert_eq!(chunks.before(Name(*start)).map(|piece| piece.start.0), before);
                prop_assert_eq!(has(&chunks, *start), model.contains_key(start));
            }
            let (from, behind) = (Name(1_500), model.range(1_500..).map(|(_, piece)| piece));
            prop_assert_eq!(starts(chunks.from(from)), starts(behind));
            prop_assert_eq!(starts(chunks.iter()), starts(model.values()));
            if let Some((image, was)) = frozen {
                prop_assert_eq!(starts(image.iter()), was);
            }
        }
    }

    proptest! {
        #[test]
        fn many_added_at_once_lie_as_if_they_had_come_one_by_one(
            rounds in prop::collection::vec(prop::collection::btree_set(0..5_000_u64, 0..900), 1..6),
            frozen in any::<bool>(),
        ) {
            let (mut chunks, mut model) = (Chunks::default(), BTreeSet::new());
            for round in rounds {
                let image = frozen.then(|| (chunks.clone(), model.clone()));
                let fresh: Vec<u64> = round.difference(&model).copied().collect();
                chunks.insert_all(fresh.iter().map(|start| piece(*start)).collect());
                model.extend(fresh);
                prop_assert_eq!(starts(chunks.iter()), Vec::from_iter(model.iter().copied()));
                prop_assert!(chunks.chunks().all(|chunk| chunk.len() <= MOST));
                for start in &round {
                    prop_assert!(has(&chunks, *start));
                }
                if let Some((image, was)) = image {
                    prop_assert_eq!(starts(image.iter()), Vec::from_iter(was));
                }
            }
        }
    }

    #[test]
    fn chunks_are_full_after_additions_in_order_and_go_when_they_are_emptied() {
        let mut chunks = Chunks::default();
        let count = MOST as u64 * 10;
        chunks.insert_all((0..count / 2).map(piece).collect());
        for start in count / 2..count {
            chunks.insert(piece(start));
        }
        assert_eq!(chunks.chunks().count(), 10);
        for start in 0..count {
            assert!(chunks.remove(Name(start)).is_some());
        }
        assert_eq!(starts(chunks.iter()), [0; 0]);
        assert_eq!(chunks.chunks().count(), 1);
    }
}
