//! A reduce attempt of a streaming job: sorted lines go to the program, what it writes becomes the output. Where
//! the lines are from and where the output goes is not known here.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Streaming,
    lines::line,
    pass::{self, CHUNK, Heard},
    process,
    ship::Workplace,
    task::Task,
};
use crate::{
    counters::{Counters, name},
    error::Error,
    shuffle::{groups::Sorted as _, merge::Merge, order::Order},
    task::{Bench, Gauge, sink::Sink},
};

/// Runs the attempt.
pub(crate) async fn run(
    bench: &Bench,
    program: &Streaming,
    task: &Task,
    merge: Merge,
    sink: Sink,
) -> Result<Counters, Error> {
    let place = Workplace::prepare(bench, program, &task.label).await?;
    let (to_program, from_merge) = mpsc::channel(process::QUEUE);
    let (said, hear) = mpsc::channel(process::QUEUE);
    let (separator, order) = (program.reduce_input.clone(), bench.route().order);
    let gauge = bench.gauge.clone();
    let feeding =
        bench.world.blocking(move || feed(merge, &order, &separator, &gauge, &to_program));
    let reducer = (program, program.reducer.as_ref());
    let running = pass::through(bench, reducer, (task, &place), from_merge, said);
    let format = program.reduce_output.clone();
    let separator = program.output.clone();
    let writing = bench.world.blocking(move || write(sink, hear, &format, &separator));
    let (fed, ran, written) = tokio::join!(feeding, running, writing);
    place.leave().await;
    ran?;
    let mut counters = Counters::default();
    counters.count(name::OUTPUT_RECORDS, written?);
    let (records, groups) = fed?;
    counters.count(name::REDUCE_RECORDS, records);
    counters.count(name::REDUCE_GROUPS, groups);
    counters.merge(&bench.gauge.counters.lock());
    Ok(counters)
}

/// Gives the sorted records to the program as lines; tells how many records and keys there were.
fn feed(
    mut merge: Merge,
    order: &Order,
    separator: &str,
    gauge: &Arc<Gauge>,
    to: &mpsc::Sender<Result<Bytes, Error>>,
) -> Result<(u64, u64), Error> {
    let (mut records, mut groups) = (0, 0);
    let mut key: Option<Vec<u8>> = None;
    let mut lines = Vec::with_capacity(CHUNK + 1024);
    loop {
        let more = match merge.advance() {
            Ok(more) => more,
            Err(error) => {
                let reason = error.to_string();
                let _ = to.blocking_send(Err(error));
                return Err(Error::Spec(reason));
            }
        };
        if !more || lines.len() >= CHUNK {
            gauge.check()?;
            // The program has stopped reading: the rest is counted all the same.
            let _ = to.blocking_send(Ok(std::mem::take(&mut lines).into()));
        }
        if !more {
            return Ok((records, groups));
        }
        records += 1;
        if key.as_deref().is_none_or(|key| order.compare(key, merge.key()).is_ne()) {
            groups += 1;
            key.get_or_insert_default().clear();
            key.get_or_insert_default().extend_from_slice(merge.key());
        }
        for part in line(merge.key(), merge.value(), separator) {
            lines.extend_from_slice(part);
        }
    }
}

/// Takes what the program writes.
fn write(
    mut sink: Sink,
    hear: mpsc::Receiver<Bytes>,
    format: &super::lines::Format,
    separator: &str,
) -> Result<u64, Error> {
    let mut take = |key: &[u8], packed: &[u8]| sink.record(&line(key, packed, separator));
    Heard::new(format).all(hear, &mut take)?;
    sink.finish()
}
