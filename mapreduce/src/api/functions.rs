//! The functions of a native job, and what they are given. How they are called is in `job`.

use std::marker::PhantomData;

use super::{datum::Datum, datum::Key, format::InputFormat};
use crate::{error::Error, native::raw::RawOutput};

/// One record of the input.
pub struct Record<'a, I: InputFormat> {
    /// The file it is from.
    pub path: &'a str,
    /// Where it begins there, in bytes (of the decompressed file).
    pub offset: u64,
    /// What the input format makes of it.
    pub data: I::Ref<'a>,
}

/// Room for the bytes of one key and one value.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Where functions put what they make.
pub struct Emitter<'a, K, V> {
    out: &'a mut dyn RawOutput,
    scratch: &'a mut Scratch,
    /// For people, not for reduces.
    shown: bool,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<'a, K: Datum, V: Datum> Emitter<'a, K, V> {
    pub(crate) fn new(out: &'a mut dyn RawOutput, scratch: &'a mut Scratch, shown: bool) -> Self {
        Self { out, scratch, shown, kinds: PhantomData }
    }

    /// Gives a record on.
    ///
    /// # Errors
    /// If it cannot be kept, or the attempt is over: to be passed on.
    pub fn emit(&mut self, key: K::Ref<'_>, value: V::Ref<'_>) -> Result<(), Error> {
        let Scratch { key: key_room, value: value_room } = &mut *self.scratch;
        if self.shown {
            self.out.emit(K::shown(key, key_room), V::shown(value, value_room))
        } else {
            self.out.emit(K::encoded(key, key_room)?, V::encoded(value, value_room)?)
        }
    }

    /// Adds to a counter of the job.
    pub fn count(&mut self, group: &str, name: &str, amount: u64) {
        self.out.count(group, name, amount);
    }
}

/// Values one after the other, as bytes.
pub trait NextValue {
    /// The next one.
    ///
    /// # Errors
    /// If the sorted records cannot be read.
    fn next_value(&mut self) -> Result<Option<&[u8]>, Error>;
}

/// The values of one key, one after the other; only the present one is in memory.
pub struct Values<'a, V> {
    raw: &'a mut dyn NextValue,
    kind: PhantomData<fn() -> V>,
}

impl<'a, V: Datum> Values<'a, V> {
    pub(crate) fn new(raw: &'a mut dyn NextValue) -> Self {
        Self { raw, kind: PhantomData }
    }

    /// The next value.
    ///
    /// # Errors
    /// If the sorted records cannot be read: to be passed on.
    #[expect(clippy::should_implement_trait, reason = "a value lives only until the next one")]
    pub fn next(&mut self) -> Result<Option<V::Ref<'_>>, Error> {
        self.raw.next_value()?.map(V::read).transpose()
    }
}

/// The map function, with what it keeps between the records of one task: each task begins with a clone.
pub trait Mapper: Send {
    /// What it reads.
    type Input: InputFormat;
    /// The key of what it emits.
    type Key: Key;
    /// The value.
    type Value: Datum;

    /// Takes a record.
    ///
    /// # Errors
    /// [`Error::Job`] if it cannot be mapped: the attempt fails, and the record is skipped if it does so twice
    /// and the job allows.
    fn map(
        &mut self,
        record: &Record<'_, Self::Input>,
        out: &mut Emitter<'_, Self::Key, Self::Value>,
    ) -> Result<(), Error>;

    /// The split is at its end.
    ///
    /// # Errors
    /// As for [`Mapper::map`].
    fn finish(&mut self, out: &mut Emitter<'_, Self::Key, Self::Value>) -> Result<(), Error> {
        let _ = out;
        Ok(())
    }
}

/// The reduce function, with what it keeps between the keys of one partition: each task begins with a clone.
pub trait Reducer: Send {
    /// The key of what it takes.
    type Key: Key;
    /// The values of what it takes.
    type Value: Datum;
    /// The key of what it emits.
    type OutKey: Datum;
    /// The value.
    type OutValue: Datum;

    /// Takes all values of a key; keys come in their order.
    ///
    /// # Errors
    /// [`Error::Job`] if they cannot be reduced: the attempt fails.
    fn reduce(
        &mut self,
        key: <Self::Key as Datum>::Ref<'_>,
        values: &mut Values<'_, Self::Value>,
        out: &mut Emitter<'_, Self::OutKey, Self::OutValue>,
    ) -> Result<(), Error>;

    /// The partition is at its end.
    ///
    /// # Errors
    /// As for [`Reducer::reduce`].
    fn finish(&mut self, out: &mut Emitter<'_, Self::OutKey, Self::OutValue>) -> Result<(), Error> {
        let _ = out;
        Ok(())
    }
}

/// A reducer that makes of the values of a key fewer ones of the same key, before they leave the map's worker. It may
/// run any number of times on any part of them, and may emit nothing but the key that it was given.
pub trait Combiner:
    Reducer<OutKey = <Self as Reducer>::Key, OutValue = <Self as Reducer>::Value>
{
}

impl<R> Combiner for R where
    R: Reducer<OutKey = <R as Reducer>::Key, OutValue = <R as Reducer>::Value>
{
}

/// Chooses the partition of a key.
pub trait Partitioner<K: Key>: Send + Sync {
    /// The partition, below `partitions`; always the same for the same key.
    fn partition(&self, key: K::Ref<'_>, partitions: u32) -> u32;
}
