//! A map attempt of a streaming job: lines of the split go to the program, what it writes is cut into keys and
//! values on a thread of its own. Where the split is from and where the output goes is not known here.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Streaming,
    combine::ProcessCombiner,
    lines::line,
    pass::{self, CHUNK, Heard},
    process,
    ship::Workplace,
    task::Task,
};
use crate::{
    api::OutputFormat,
    counters::{Counters, name},
    error::Error,
    input::{read::Feed, record::Cut},
    store::Output,
    task::{
        Bench, Gauge, MapWork,
        collect::{Collector, Combiner},
        map::{self, Out},
        sink::Sink,
    },
};

/// Runs the attempt on what comes through `inbox`.
pub(crate) async fn run(
    bench: &Bench,
    program: &Streaming,
    task: &Task,
    work: &MapWork,
    inbox: mpsc::Receiver<Result<Feed, Error>>,
    part: Option<Sink>,
) -> Result<(Option<Output>, Counters), Error> {
    let place = Workplace::prepare(bench, program, &task.label).await?;
    let combiner = match &program.combiner {
        None => Combiner::No,
        Some(words) => Combiner::Process(Box::new(ProcessCombiner {
            world: bench.world.clone(),
            gauge: bench.gauge.clone(),
            program: program.clone(),
            command: task.command(words, program, place.dir())?,
        })),
    };
    let out = match part {
        Some(sink) => Out::Part(Box::new(sink), OutputFormat::LINES),
        None => Out::Collect(Box::new(Collector::new(map::setup(bench), combiner))),
    };
    let (to_program, from_split) = mpsc::channel(process::QUEUE);
    let (said, hear) = mpsc::channel(process::QUEUE);
    let feeding = feed(bench, program, work, inbox, to_program);
    let mapper = (program, program.mapper.as_ref());
    let running = pass::through(bench, mapper, (task, &place), from_split, said);
    let (format, separator) = (program.map_output.clone(), program.output.clone());
    let collecting = bench.world.blocking(move || collect(out, hear, &format, &separator));
    let (records, ran, collected) = tokio::join!(feeding, running, collecting);
    // The thread's error is the cause when the program only found nobody listening.
    let out = match (ran, collected) {
        (Err(error), Ok(_)) => return Err(blame(&bench.gauge, work, error)),
        (_, Err(error)) => return Err(error),
        (Ok(()), Ok(out)) => out,
    };
    // The combiner still runs in the directory.
    let finished = bench.world.blocking(move || out.finish()).await;
    place.leave().await;
    let (output, mut counters) = finished?;
    counters.merge(&bench.gauge.counters.lock());
    let (taken, skipped) = records;
    counters.count(name::MAP_INPUT_RECORDS, taken);
    counters.count(name::SKIPPED, skipped);
    Ok((output, counters))
}

/// Names the record if the program told how far it was.
fn blame(gauge: &Gauge, work: &MapWork, error: Error) -> Error {
    let processed = gauge.counters.lock().get("SkippingTaskCounters", "MapProcessedRecords");
    match (&error, work.pieces.first()) {
        (Error::Program { .. }, Some(piece)) if processed > 0 || work.pieces.len() == 1 => {
            let known = processed > 0;
            // Skipped records are not among the processed ones.
            let mut number = processed;
            for skipped in &work.skip {
                number += u64::from(*skipped <= number);
            }
            Error::Split {
                path: piece.path.clone(),
                offset: piece.offset,
                length: piece.length,
                number: known.then_some(number),
                reason: error.to_string(),
            }
        }
        _ => error,
    }
}

/// Makes lines of the split's records; tells how many were given and how many skipped.
async fn feed(
    bench: &Bench,
    program: &Streaming,
    work: &MapWork,
    mut inbox: mpsc::Receiver<Result<Feed, Error>>,
    to: mpsc::Sender<Result<Bytes, Error>>,
) -> (u64, u64) {
    let mut lines = Vec::new();
    let (mut number, mut skipped) = (0, 0);
    let mut cutter = None;
    while let Some(feed) = inbox.recv().await {
        let mut take = |cut: Cut<'_>| {
            let skip = work.skip.contains(&number);
            number += 1;
            if skip {
                skipped += 1;
                return Ok(());
            }
            if program.with_offset {
                lines.extend_from_slice(cut.offset.to_string().as_bytes());
                lines.extend_from_slice(program.map_input.as_bytes());
            }
            match program.key_value.as_deref().and_then(|mark| halves(cut.bytes, mark)) {
                Some((key, value)) => {
                    for part in [key, program.map_input.as_bytes(), value, b"\n"] {
                        lines.extend_from_slice(part);
                    }
                }
                None => {
                    lines.extend_from_slice(cut.bytes);
                    lines.push(b'\n');
                }
            }
            Ok(())
        };
        let cut = match feed {
            Err(error) => Err(error),
            Ok(Feed::Open(piece)) => {
                cutter = Some(map::cutter(&bench.spec.records, &work.pieces[piece]));
                Ok(())
            }
            Ok(Feed::Bytes(bytes)) => match &mut cutter {
                Some(cutter) => cutter.feed(&bytes, &mut take).map(|_| ()),
                None => Ok(()),
            },
            Ok(Feed::Close) => match cutter.take() {
                Some(cutter) => cutter.finish(&mut take),
                None => Ok(()),
            },
        };
        bench.gauge.records.store(number, Ordering::Relaxed);
        if let Err(error) = cut {
            let _ = to.send(Err(error)).await;
            break;
        }
        if lines.len() >= CHUNK {
            let bytes = Bytes::from(std::mem::take(&mut lines));
            // The program has stopped reading.
            if to.send(Ok(bytes)).await.is_err() {
                break;
            }
        }
    }
    if !lines.is_empty() {
        let _ = to.send(Ok(lines.into())).await;
    }
    (number - skipped, skipped)
}

fn halves<'a>(record: &'a [u8], mark: &str) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(record, mark.as_bytes())?;
    Some((&record[..at], &record[at + mark.len()..]))
}

/// Takes what the program writes.
fn collect(
    mut out: Out,
    hear: mpsc::Receiver<Bytes>,
    format: &super::lines::Format,
    separator: &str,
) -> Result<Out, Error> {
    Heard::new(format).all(hear, &mut |key, packed| match &mut out {
        Out::Collect(collector) => collector.put(key, packed),
        Out::Part(sink, _) => sink.record(&line(key, packed, separator)),
    })?;
    Ok(out)
}
