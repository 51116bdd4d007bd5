//! Merging sorted runs: a heap of readers, the smallest key on top, equal keys in the order of the runs. So the
//! result is the same whatever was spilled when. What the records mean is not known here.

use std::cmp::Ordering;

use super::{
    groups::Sorted,
    order::Order,
    run::{Place, Reader},
};
use crate::error::Error;

struct Head {
    prefix: u64,
    reader: Reader,
}

/// Several runs as one.
pub(crate) struct Merge {
    order: Order,
    heads: Vec<Head>,
    /// Indices of `heads`, a binary heap.
    heap: Vec<usize>,
    started: bool,
}

impl Merge {
    /// Begins before the first record.
    pub(crate) fn new(places: Vec<Place>, order: &Order) -> Result<Self, Error> {
        let heads: Vec<_> = places
            .into_iter()
            .map(|place| Head { prefix: 0, reader: Reader::new(place) })
            .collect();
        let mut merge = Self { order: order.clone(), heads, heap: Vec::new(), started: false };
        for at in 0..merge.heads.len() {
            if merge.pull(at)? {
                merge.heap.push(at);
            }
        }
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sift(at);
        }
        Ok(merge)
    }

    /// The next record of one reader; `false` at its end.
    fn pull(&mut self, at: usize) -> Result<bool, Error> {
        let head = &mut self.heads[at];
        let more = head.reader.advance()?;
        if more {
            head.prefix = self.order.prefix(head.reader.key());
        }
        Ok(more)
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        let (a, b) = (&self.heads[one], &self.heads[other]);
        let order = a
            .prefix
            .cmp(&b.prefix)
            .then_with(|| self.order.compare(a.reader.key(), b.reader.key()))
            .then(one.cmp(&other));
        order == Ordering::Less
    }

    fn sift(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let Some(mut least) = self.heap.get(left).map(|_| left) else { return };
            if left + 1 < self.heap.len() && self.is_before(self.heap[left + 1], self.heap[left]) {
                least = left + 1;
            }
            if !self.is_before(self.heap[least], self.heap[at]) {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

impl Sorted for Merge {
    fn advance(&mut self) -> Result<bool, Error> {
        if !self.started {
            self.started = true;
            return Ok(!self.heap.is_empty());
        }
        let Some(top) = self.heap.first().copied() else { return Ok(false) };
        if !self.pull(top)? {
            self.heap.swap_remove(0);
        }
        self.sift(0);
        Ok(!self.heap.is_empty())
    }

    fn key(&self) -> &[u8] {
        self.heap.first().map_or(&[], |top| self.heads[*top].reader.key())
    }

    fn value(&self) -> &[u8] {
        self.heap.first().map_or(&[], |top| self.heads[*top].reader.value())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::Merge;
    use crate::shuffle::{
        fields::Fields,
        groups::Sorted as _,
        order::Order,
        run::{Packer, Place},
    };

    proptest! {
        #[test]
        fn merged_runs_are_one_stable_sort_of_all_records(
            runs in prop::collection::vec(
                prop::collection::vec((prop::collection::vec(0_u8..4, 0..12), any::<u8>()), 0..40), 0..9),
            reverse in any::<bool>(),
        ) {
            let order = if reverse { Order::Fields(Fields::parse("-r", "\t").unwrap()) } else { Order::Bytes };
            let mut all = Vec::new();
            let mut places = Vec::new();
            for mut run in runs {
                run.sort_by(|a, b| order.compare(&a.0, &b.0));
                let mut packer = Packer::new(true);
                for (key, value) in &run {
                    packer.put(key, &[*value]);
                }
                packer.end_block();
                places.push(Place::Memory(std::mem::take(packer.packed()).into()));
                all.extend(run);
            }
            all.sort_by(|a, b| order.compare(&a.0, &b.0));
            let mut merge = Merge::new(places, &order).unwrap();
            let mut merged = Vec::new();
            while merge.advance().unwrap() {
                merged.push((merge.key().to_vec(), merge.value()[0]));
            }
            prop_assert_eq!(merged, all);
        }
    }
}
