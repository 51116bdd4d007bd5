//! A job made of typed functions, and how these are called with bytes. Which workers know it is in [`Programs`]; what
//! it is run on is not known here.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use super::{
    datum::{Datum, Key},
    format::{InputFormat as _, OutputFormat},
    functions::{
        Combiner, Emitter, Mapper, NextValue, Partitioner, Record, Reducer, Scratch, Values,
    },
};
use crate::{
    error::Error,
    input::record::Rule,
    native::raw::{RawMapper, RawOutput, RawRecord, RawReducer},
    shuffle::order::{self, Partition},
};

type MakeMapper = Arc<dyn Fn(bool) -> Box<dyn RawMapper> + Send + Sync>;
type MakeReducer = Arc<dyn Fn() -> Box<dyn RawReducer> + Send + Sync>;

/// How the output of maps is combined before it goes to the reduces.
#[derive(Clone)]
pub(crate) enum Combine {
    /// Not at all.
    No,
    /// Values are `u64` and are added up: kept in a table, not sorted.
    Sum(MakeReducer),
    With(MakeReducer),
}

/// A native job: its functions and formats.
#[derive(Clone)]
pub struct Job {
    /// Makes a mapper; `true`: its output is that of the job.
    pub(crate) mapper: MakeMapper,
    pub(crate) reducer: MakeReducer,
    pub(crate) combine: Combine,
    pub(crate) partition: Arc<dyn Partition>,
    /// The partitions shall be ranges of keys, so that the parts of the output are in total order.
    pub(crate) total_order: bool,
    pub(crate) format: OutputFormat,
    pub(crate) rule: Option<Rule>,
}

/// A job whose keys are `K` and whose values are `V` between maps and reduces.
pub struct Definition<K, V> {
    job: Job,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl Job {
    /// Maps with clones of `mapper`, reduces with clones of `reducer`.
    pub fn of<M, R>(mapper: M, reducer: R) -> Definition<M::Key, M::Value>
    where
        M: Mapper + Clone + Sync + 'static,
        R: Reducer<Key = M::Key, Value = M::Value> + Clone + Sync + 'static,
    {
        let make_mapper = move |shown| -> Box<dyn RawMapper> {
            let (function, scratch) = (mapper.clone(), Scratch::default());
            Box::new(Called { function, scratch, shown })
        };
        let job = Self {
            mapper: Arc::new(make_mapper),
            reducer: called(reducer, true),
            combine: Combine::No,
            partition: Arc::new(order::Partitioner::Hash),
            total_order: false,
            format: OutputFormat::LINES,
            rule: M::Input::rule(),
        };
        Definition { job, kinds: PhantomData }
    }

    /// How its input is cut, if that is not for the submitter to say.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        self.rule.clone()
    }
}

impl<K: Key, V: Datum> Definition<K, V> {
    /// Combines with clones of `combiner`.
    #[must_use]
    pub fn combine<C>(mut self, combiner: C) -> Self
    where
        C: Combiner<Key = K, Value = V> + Clone + Sync + 'static,
    {
        self.job.combine = Combine::With(called(combiner, false));
        self
    }

    /// Spreads keys by `partitioner` instead of by a hash of them.
    #[must_use]
    pub fn partition(mut self, partitioner: impl Partitioner<K> + 'static) -> Self {
        self.job.partition = Arc::new(Spread { partitioner, kind: PhantomData });
        self
    }

    /// Has the parts of the output, one after the other, in the order of the keys: ranges of keys are chosen from a
    /// sample of the input.
    #[must_use]
    pub fn total_order(mut self) -> Self {
        self.job.total_order = true;
        self
    }

    /// How the output is written; lines if nothing is said.
    #[must_use]
    pub fn output(mut self, format: OutputFormat) -> Self {
        self.job.format = format;
        self
    }
}

impl<K: Key> Definition<K, u64> {
    /// Combines by adding up.
    #[must_use]
    pub fn sum(mut self) -> Self {
        self.job.combine = Combine::Sum(called(Total::<K>::default(), false));
        self
    }
}

impl<K, V> From<Definition<K, V>> for Job {
    fn from(definition: Definition<K, V>) -> Self {
        definition.job
    }
}

/// Functions that know their types and nothing else.
macro_rules! stateless {
    ($($(#[$doc:meta])* $name:ident<$($kind:ident),+>;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<$($kind),+>(PhantomData<fn() -> ($($kind,)+)>);

        impl<$($kind),+> Default for $name<$($kind),+> {
            fn default() -> Self {
                Self(PhantomData)
            }
        }
    )+};
}

stateless! {
    /// Adds up the numbers of each key.
    Total<K>;
    /// Every key and value as they came, in the order of the keys.
    Each<K, V>;
}

impl<K: Key> Reducer for Total<K> {
    type Key = K;
    type Value = u64;
    type OutKey = K;
    type OutValue = u64;

    fn reduce(
        &mut self,
        key: K::Ref<'_>,
        values: &mut Values<'_, u64>,
        out: &mut Emitter<'_, K, u64>,
    ) -> Result<(), Error> {
        let mut sum = 0_u64;
        while let Some(value) = values.next()? {
            sum = sum.saturating_add(value);
        }
        out.emit(key, sum)
    }
}

impl<K: Key, V: Datum> Reducer for Each<K, V> {
    type Key = K;
    type Value = V;
    type OutKey = K;
    type OutValue = V;

    fn reduce(
        &mut self,
        key: K::Ref<'_>,
        values: &mut Values<'_, V>,
        out: &mut Emitter<'_, K, V>,
    ) -> Result<(), Error> {
        while let Some(value) = values.next()? {
            out.emit(key, value)?;
        }
        Ok(())
    }
}

/// A typed function, called with bytes.
struct Called<F> {
    function: F,
    scratch: Scratch,
    /// What it emits is for people.
    shown: bool,
}

fn called<R>(reducer: R, shown: bool) -> MakeReducer
where
    R: Reducer + Clone + Sync + 'static,
{
    Arc::new(move || {
        Box::new(Called { function: reducer.clone(), scratch: Scratch::default(), shown })
    })
}

impl<M: Mapper> RawMapper for Called<M> {
    fn map(&mut self, record: &RawRecord<'_>, out: &mut dyn RawOutput) -> Result<(), Error> {
        let data = M::Input::read(record.bytes)?;
        let record = Record { path: record.path, offset: record.offset, data };
        self.function.map(&record, &mut Emitter::new(out, &mut self.scratch, self.shown))
    }

    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error> {
        self.function.finish(&mut Emitter::new(out, &mut self.scratch, self.shown))
    }
}

impl<R: Reducer> RawReducer for Called<R> {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut dyn NextValue,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        let out = &mut Emitter::new(out, &mut self.scratch, self.shown);
        self.function.reduce(R::Key::read(key)?, &mut Values::new(values), out)
    }

    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error> {
        self.function.finish(&mut Emitter::new(out, &mut self.scratch, self.shown))
    }
}

/// A typed partitioner, called with bytes.
struct Spread<P, K> {
    partitioner: P,
    kind: PhantomData<fn() -> K>,
}

impl<K: Key, P: Partitioner<K>> Partition for Spread<P, K> {
    fn of(&self, key: &[u8], partitions: u32) -> Result<u32, Error> {
        let chosen = self.partitioner.partition(K::read(key)?, partitions);
        if chosen < partitions {
            return Ok(chosen);
        }
        Err(Error::Job(format!(
            "the partitioner chose partition {chosen}, and there are {partitions}, counted from 0"
        )))
    }
}

/// Makes a job of the arguments that it was submitted with.
pub type Make = Arc<dyn Fn(&[String]) -> Result<Job, Error> + Send + Sync>;

/// The native jobs that a worker knows, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Programs {
    jobs: Arc<BTreeMap<String, Make>>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.jobs.keys()).finish()
    }
}

impl Programs {
    /// These and one more.
    #[must_use]
    pub fn with(
        &self,
        name: &str,
        make: impl Fn(&[String]) -> Result<Job, Error> + Send + Sync + 'static,
    ) -> Self {
        let mut jobs = self.jobs.as_ref().clone();
        jobs.insert(name.to_owned(), Arc::new(make));
        Self { jobs: Arc::new(jobs) }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.jobs.keys().map(String::as_str)
    }

    /// The job `name` with `arguments`.
    ///
    /// # Errors
    /// [`Error::NoProgram`], or that the arguments make no sense.
    pub fn make(&self, name: &str, arguments: &[String]) -> Result<Job, Error> {
        let known = || self.names().collect::<Vec<_>>().join(", ");
        let make = self.jobs.get(name);
        let make =
            make.ok_or_else(|| Error::NoProgram { name: name.to_owned(), known: known() })?;
        make(arguments)
    }
}
