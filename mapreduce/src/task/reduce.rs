//! A reduce attempt: fetches its partition of every map, merges, reduces, and writes its part of the output under a
//! temporary name. Giving it its name is the coordinator's. Who asked for it is not known here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    Bench, ReduceWork,
    fetch::{self, Lost, Parts, Runs},
    map::panic_text,
    sink::{self, Sink},
};
use crate::{
    api::OutputFormat,
    counters::{BYTES, Counters, name},
    error::Error,
    native::raw::RawOutput,
    shuffle::{groups, merge::Merge, order::Order},
    streaming::{reduce as streaming, task},
};

/// Why a reduce did not work.
pub(crate) enum Failed {
    Lost(Lost),
    Other(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Brings the parts of all maps here.
pub(crate) async fn fetch(bench: &Bench, reduce: u32) -> Result<Parts, Failed> {
    fetch::all(bench, reduce).await?.map_err(Failed::Lost)
}

/// Reduces what was fetched.
pub(crate) async fn run(bench: &Bench, work: ReduceWork, parts: Parts) -> Result<Counters, Failed> {
    let shuffled = parts.fetched;
    let order = bench.route().order;
    let (store, number, compress) = (bench.store.clone(), bench.number, bench.spec.compress);
    let by = order.clone();
    let merging = move || parts.merge(&Runs { store: &store, job: number, compress, order: &by });
    let (merge, kept) = bench.world.blocking(merging).await?;
    let (sink, file) = sink::part(&bench.files, &work.temporary, bench.spec.gzip);
    let reducing = async {
        match bench.streaming() {
            None => native(bench, merge, order, sink).await,
            Some(program) => {
                let place = task::Task::reduce(bench, &work);
                streaming::run(bench, program, &place, merge, sink).await
            }
        }
    };
    let (reduced, written) = tokio::join!(reducing, file.write());
    drop(kept);
    let mut counters = match (reduced, written) {
        // The thread that could not hand its lines over only knows that the writer was gone.
        (Err(Error::Cancelled), Err(error)) => return Err(error.into()),
        (Err(error), _) => return Err(error.into()),
        (Ok(_), Err(error)) => return Err(error.into()),
        (Ok(mut counters), Ok(size)) => {
            counters.add(BYTES, name::BYTES_WRITTEN, size);
            counters
        }
    };
    counters.count(name::SHUFFLED_BYTES, shuffled);
    Ok(counters)
}

async fn native(
    bench: &Bench,
    mut merge: Merge,
    order: Order,
    sink: Sink,
) -> Result<Counters, Error> {
    let Some(job) = &bench.native else { return Err(Error::Cancelled) };
    let mut reducer = (job.reducer)();
    let mut lines = Lines {
        sink,
        format: job.format,
        counters: Counters::default(),
        gauge: bench.gauge.clone(),
    };
    let work = move || {
        let reduce = || groups::reduce(&mut merge, &order, reducer.as_mut(), &mut lines);
        let seen = catch_unwind(AssertUnwindSafe(reduce))
            .map_err(|panic| Error::Spec(panic_text(panic.as_ref())))??;
        let mut counters = lines.counters;
        counters.count(name::REDUCE_RECORDS, seen.records);
        counters.count(name::REDUCE_GROUPS, seen.groups);
        counters.count(name::OUTPUT_RECORDS, lines.sink.finish()?);
        Ok(counters)
    };
    bench.world.blocking(work).await
}

/// Writes what a reducer emits.
struct Lines {
    sink: Sink,
    format: OutputFormat,
    counters: Counters,
    gauge: std::sync::Arc<super::Gauge>,
}

impl RawOutput for Lines {
    fn emit(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.gauge.check()?;
        self.sink.record(&self.format.record(key, value))
    }

    fn count(&mut self, group: &str, name: &str, amount: u64) {
        self.counters.add(group, name, amount);
    }
}
