//! Sorted records, one group of equal keys after the other, and who reduces them. What a reducer does with a group
//! is not known here.

use std::cmp::Ordering;

use super::order::Order;
use crate::{
    api::NextValue,
    error::Error,
    native::raw::{RawOutput, RawReducer},
};

/// Records in order.
pub(crate) trait Sorted {
    /// Goes to the next record, at first to the first; `false` at the end.
    fn advance(&mut self) -> Result<bool, Error>;
    /// The key of the record.
    fn key(&self) -> &[u8];
    /// Its value.
    fn value(&self) -> &[u8];
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// The first value was not yet taken.
    First,
    Within,
    /// At the first record of the next group.
    Next,
    End,
}

/// The values of one key, one after the other; only the present one is in memory.
struct Group<'a> {
    source: &'a mut dyn Sorted,
    order: &'a Order,
    key: &'a [u8],
    at: At,
    taken: u64,
}

impl NextValue for Group<'_> {
    fn next_value(&mut self) -> Result<Option<&[u8]>, Error> {
        match self.at {
            At::Next | At::End => return Ok(None),
            At::First => self.at = At::Within,
            At::Within => {
                if !self.source.advance()? {
                    self.at = At::End;
                } else if self.order.compare(self.source.key(), self.key) != Ordering::Equal {
                    self.at = At::Next;
                }
            }
        }
        if self.at != At::Within {
            return Ok(None);
        }
        self.taken += 1;
        Ok(Some(self.source.value()))
    }
}

/// What was seen while reducing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) records: u64,
    pub(crate) groups: u64,
}

/// Gives every group of `source` to `reducer`.
pub(crate) fn reduce(
    source: &mut dyn Sorted,
    order: &Order,
    reducer: &mut dyn RawReducer,
    out: &mut dyn RawOutput,
) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    let mut more = source.advance()?;
    let mut key = Vec::new();
    while more {
        key.clear();
        key.extend_from_slice(source.key());
        let mut values = Group { source, order, key: &key, at: At::First, taken: 0 };
        reducer.reduce(&key, &mut values, out)?;
        // What it did not want to see.
        while values.next_value()?.is_some() {}
        more = values.at == At::Next;
        seen.records += values.taken;
        seen.groups += 1;
    }
    reducer.finish(out)?;
    Ok(seen)
}
