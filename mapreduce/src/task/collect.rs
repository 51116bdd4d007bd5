//! The output of a map: collected in memory, sorted and combined when the memory is full, spilled, and merged
//! into one run with an index of its partitions. What the records mean is not known here.

use std::sync::Arc;

use crate::{
    api::Combine,
    counters::{Counters, name},
    error::Error,
    native::raw::{RawOutput, RawReducer, number},
    shuffle::{
        buffer::SortBuffer,
        groups::{self, Sorted},
        merge::Merge,
        order::{Order, Route},
        tally::Tally,
    },
    store::{Output, Store, Writer},
    streaming::combine::ProcessCombiner,
};

/// Runs that are merged at once: each has a buffer.
pub(crate) const FACTOR: usize = 64;
/// The output of a map has so many spills before its combiner program runs once more while they are merged.
const COMBINE_AGAIN: usize = 3;

/// How the output is combined.
pub(crate) enum Combiner {
    No,
    /// By adding up numbers, in a table where the order allows.
    Sum(Box<dyn RawReducer>),
    Native(Box<dyn RawReducer>),
    Process(Box<ProcessCombiner>),
}

impl From<&Combine> for Combiner {
    fn from(combine: &Combine) -> Self {
        match combine {
            Combine::No => Self::No,
            Combine::Sum(make) => Self::Sum(make()),
            Combine::With(make) => Self::Native(make()),
        }
    }
}

enum Table {
    Sort(SortBuffer),
    Tally(Tally),
}

/// What a collector needs to know.
pub(crate) struct Setup {
    pub(crate) store: Arc<Store>,
    pub(crate) job: u64,
    pub(crate) reduces: u32,
    pub(crate) route: Route,
    pub(crate) compress: bool,
    /// Memory of the table.
    pub(crate) memory: usize,
}

/// Takes the records of one attempt.
pub(crate) struct Collector {
    setup: Setup,
    combiner: Combiner,
    table: Table,
    spills: Vec<Output>,
    records: u64,
    bytes: u64,
    counters: Counters,
}

impl Collector {
    pub(crate) fn new(setup: Setup, combiner: Combiner) -> Self {
        let table = match (&combiner, &setup.route.order) {
            (Combiner::Sum(_), Order::Bytes) => Table::Tally(Tally::new()),
            (_, order) => Table::Sort(SortBuffer::new(order)),
        };
        let (spills, counters) = (Vec::new(), Counters::default());
        Self { setup, combiner, table, spills, records: 0, bytes: 0, counters }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.records += 1;
        let length = key.len() + value.len();
        self.bytes += length as u64;
        let memory = match &mut self.table {
            Table::Tally(tally) => {
                let amount = number(value).ok_or(Error::Damaged("a number that is none"))?;
                tally.add(key, amount);
                tally.bytes()
            }
            Table::Sort(buffer) => {
                if !buffer.has_room(length) {
                    if length > u32::MAX as usize {
                        return Err(Error::Spec("a record of more than 4 GiB".to_owned()));
                    }
                    self.spill()?;
                    return self.put_sorted(key, value);
                }
                return self.put_sorted(key, value);
            }
        };
        if memory >= self.setup.memory { self.spill() } else { Ok(()) }
    }

    fn put_sorted(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let Table::Sort(buffer) = &mut self.table else { return Ok(()) };
        let partition = self.setup.route.partition.of(key, self.setup.reduces)?;
        buffer.put(partition, key, value);
        if buffer.memory() >= self.setup.memory { self.spill() } else { Ok(()) }
    }

    /// Writes what is in memory to a run of its own.
    fn spill(&mut self) -> Result<(), Error> {
        let Setup { store, job, reduces, route, compress, .. } = &self.setup;
        let mut writer = store.writer(*job, *compress)?;
        let mut spilled = 0;
        match &mut self.table {
            Table::Tally(full) => {
                let of = |key: &[u8], hash| route.partition.of_hashed(key, hash, *reduces);
                for part in full.sorted(*reduces, of)? {
                    for counted in part {
                        writer.put(counted.key, &counted.count.to_be_bytes())?;
                        spilled += 1;
                    }
                    writer.end_partition();
                }
                self.counters.count(name::COMBINE_OUTPUT, spilled);
                *full = Tally::new();
            }
            Table::Sort(buffer) => {
                buffer.sort();
                for number in 0..*reduces {
                    let mut run =
                        Run { writer: &mut writer, counters: &mut self.counters, records: 0 };
                    run.write(&mut buffer.partition(number), &route.order, &mut self.combiner)?;
                    spilled += run.records;
                    writer.end_partition();
                }
                buffer.clear();
            }
        }
        self.counters.count(name::SPILLED, spilled);
        self.spills.push(writer.finish()?);
        Ok(())
    }

    /// Several runs as one; `last` says that the result is the output of the map.
    fn merge(&mut self, spills: &[Output], last: bool) -> Result<Output, Error> {
        let Setup { store, job, reduces, route, compress, .. } = &self.setup;
        let mut writer = store.writer(*job, *compress)?;
        let again = last && spills.len() >= COMBINE_AGAIN;
        let mut no = Combiner::No;
        for number in 0..*reduces as usize {
            let places = spills.iter().map(|spill| spill.place(number)).collect();
            let mut merge = Merge::new(places, &route.order)?;
            let combiner = match &mut self.combiner {
                Combiner::Process(_) if !again => &mut no,
                combiner => combiner,
            };
            let mut run = Run { writer: &mut writer, counters: &mut self.counters, records: 0 };
            run.write(&mut merge, &route.order, combiner)?;
            let records = run.records;
            self.counters.count(name::SPILLED, records);
            writer.end_partition();
        }
        writer.finish()
    }

    /// The output, and what was counted.
    pub(crate) fn finish(mut self) -> Result<(Output, Counters), Error> {
        let is_empty = match &self.table {
            Table::Tally(tally) => tally.len() == 0,
            Table::Sort(buffer) => buffer.len() == 0,
        };
        if !is_empty || self.spills.is_empty() {
            self.spill()?;
        }
        // Neighbours are merged, so that equal keys keep the order in which they came.
        while self.spills.len() > FACTOR {
            let mut fewer = Vec::new();
            let mut spills = std::mem::take(&mut self.spills);
            while !spills.is_empty() {
                let rest = spills.split_off(spills.len().min(FACTOR));
                fewer.push(self.merge(&spills, false)?);
                spills = rest;
            }
            self.spills = fewer;
        }
        let mut spills = std::mem::take(&mut self.spills);
        let output = match spills.pop() {
            Some(only) if spills.is_empty() => only,
            Some(last) => {
                spills.push(last);
                self.merge(&spills, true)?
            }
            None => return Err(Error::Damaged("a map without output")),
        };
        if !matches!(self.combiner, Combiner::No) {
            self.counters.count(name::COMBINE_INPUT, self.records);
        }
        self.counters.count(name::MAP_OUTPUT_RECORDS, self.records);
        self.counters.count(name::MAP_OUTPUT_BYTES, self.bytes);
        let packed = output.index.iter().map(|(_, length)| length).sum();
        self.counters.count(name::MATERIALIZED_BYTES, packed);
        Ok((output, self.counters))
    }
}

/// One partition of a run under way.
struct Run<'a> {
    writer: &'a mut Writer,
    counters: &'a mut Counters,
    records: u64,
}

impl Run<'_> {
    /// Writes sorted records, combined.
    fn write(
        &mut self,
        source: &mut dyn Sorted,
        order: &Order,
        combiner: &mut Combiner,
    ) -> Result<(), Error> {
        match combiner {
            Combiner::No => {
                while source.advance()? {
                    self.writer.put(source.key(), source.value())?;
                    self.records += 1;
                }
                return Ok(());
            }
            Combiner::Sum(reducer) | Combiner::Native(reducer) => {
                let mut out = InOrder { run: self, last: Vec::new(), order };
                groups::reduce(source, order, reducer.as_mut(), &mut out)?;
            }
            Combiner::Process(process) => {
                // A program may say its lines in any order.
                let mut buffer = SortBuffer::new(order);
                process.run(source, &mut |key, value| {
                    if !buffer.has_room(key.len() + value.len()) {
                        return Err(Error::Spec("the combiner wrote more than 4 GiB".to_owned()));
                    }
                    buffer.put(0, key, value);
                    Ok(())
                })?;
                buffer.sort();
                let mut sorted = buffer.partition(0);
                while sorted.advance()? {
                    self.writer.put(sorted.key(), sorted.value())?;
                    self.records += 1;
                }
            }
        }
        self.counters.count(name::COMBINE_OUTPUT, self.records);
        Ok(())
    }
}

/// Takes what a combiner emits, which must stay sorted.
struct InOrder<'a, 'b> {
    run: &'a mut Run<'b>,
    last: Vec<u8>,
    order: &'a Order,
}

impl RawOutput for InOrder<'_, '_> {
    fn emit(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.run.records > 0 && self.order.compare(&self.last, key).is_gt() {
            return Err(Error::Spec(format!(
                "the combiner emitted the key {:?} out of order: it may only emit the key that it was given",
                String::from_utf8_lossy(key)
            )));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.run.records += 1;
        self.run.writer.put(key, value)
    }

    fn count(&mut self, group: &str, name: &str, amount: u64) {
        self.run.counters.add(group, name, amount);
    }
}
