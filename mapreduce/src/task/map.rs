//! A map attempt: reads its pieces, some ahead, cuts them into records, maps them on a thread of its own, and leaves
//! one sorted output on the local disk, or, in a job without reduces, a part of the job's output. Who asked
//! for it is not known here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::mpsc;

use super::{
    Bench, Gauge, MapWork,
    collect::{Collector, Combiner, Setup},
    sink::{self, PartFile, Sink},
};
use crate::{
    api::OutputFormat,
    counters::{BYTES, Counters, name},
    error::Error,
    input::{
        plan::is_compressed,
        read::{Feed, QUEUE, Reader},
        record::{Cutter, Rule},
    },
    native::raw::{RawMapper, RawOutput, RawRecord},
    proto::Piece,
    store::Output,
    streaming::{map as streaming, task},
};

/// What a map attempt leaves.
pub(crate) struct MapDone {
    /// Bytes of each partition; none in a job without reduces.
    pub(crate) sizes: Vec<u64>,
    pub(crate) counters: Counters,
}

/// Where the records of a map go.
pub(crate) enum Out {
    /// To the reduces.
    Collect(Box<Collector>),
    /// Straight to the job's output.
    Part(Box<Sink>, OutputFormat),
}

impl Out {
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match self {
            Self::Collect(collector) => collector.put(key, value),
            Self::Part(sink, format) => sink.record(&format.record(key, value)),
        }
    }

    pub(crate) fn finish(self) -> Result<(Option<Output>, Counters), Error> {
        match self {
            Self::Collect(collector) => {
                let (output, counters) = collector.finish()?;
                Ok((Some(output), counters))
            }
            Self::Part(sink, _) => {
                let mut counters = Counters::default();
                counters.count(name::MAP_OUTPUT_RECORDS, sink.finish()?);
                Ok((None, counters))
            }
        }
    }
}

/// Runs the attempt. Its output is kept in the store under the attempt's number.
pub(crate) async fn run(bench: &Bench, work: MapWork) -> Result<MapDone, Error> {
    let (to, inbox) = mpsc::channel(QUEUE);
    bench.gauge.all.store(work.pieces.iter().map(|piece| piece.length).sum(), Ordering::Relaxed);
    let reader = Reader {
        world: bench.world.clone(),
        files: bench.files.clone(),
        rule: bench.spec.records.clone(),
        pieces: work.pieces.clone(),
        to,
        read: bench.gauge.read.clone(),
    };
    let (part, writer) = match bench.spec.reduces {
        0 => {
            let (sink, file) = sink::part(&bench.files, &work.temporary, bench.spec.gzip);
            (Some(sink), Some(file))
        }
        _ => (None, None),
    };
    let mapping = async {
        match bench.streaming() {
            None => native(bench, &work, inbox, part).await,
            Some(program) => {
                let place = task::Task::map(bench, &work);
                streaming::run(bench, program, &place, &work, inbox, part).await
            }
        }
    };
    let (read, mapped, written) = tokio::join!(reader.run(), mapping, write(writer));
    let () = read;
    let (output, mut counters) = match (mapped, written) {
        // The thread that could not hand its lines over only knows that the writer was gone.
        (Err(Error::Cancelled), Err(error)) => return Err(error),
        (Err(error), _) => return Err(error),
        (Ok(_), Err(error)) => return Err(error),
        (Ok(mapped), Ok(size)) => {
            let (output, mut counters) = mapped;
            counters.add(BYTES, name::BYTES_WRITTEN, size);
            (output, counters)
        }
    };
    let files = work.pieces.iter().filter(|piece| piece.offset == 0).count() as u64;
    counters.add(BYTES, name::FILES_READ, files);
    counters.add(BYTES, name::BYTES_READ, work.pieces.iter().map(|piece| piece.length).sum());
    let sizes = output.as_ref().map(|output| output.index.iter().map(|(_, length)| *length));
    let sizes = sizes.map(Iterator::collect).unwrap_or_default();
    if let Some(output) = output {
        bench.job.add(work.map, work.attempt, output);
    }
    Ok(MapDone { sizes, counters })
}

async fn write(file: Option<PartFile>) -> Result<u64, Error> {
    match file {
        Some(file) => file.write().await,
        None => Ok(0),
    }
}

/// How much memory the records of a map may take.
pub(crate) fn setup(bench: &Bench) -> Setup {
    let wanted = if bench.spec.sort_bytes == 0 { u64::MAX } else { bench.spec.sort_bytes };
    Setup {
        store: bench.store.clone(),
        job: bench.number,
        reduces: bench.spec.reduces,
        route: bench.route(),
        compress: bench.spec.compress,
        memory: wanted.min(bench.memory) as usize,
    }
}

async fn native(
    bench: &Bench,
    work: &MapWork,
    inbox: mpsc::Receiver<Result<Feed, Error>>,
    part: Option<Sink>,
) -> Result<(Option<Output>, Counters), Error> {
    let Some(job) = &bench.native else { return Err(Error::Cancelled) };
    let is_output = part.is_some();
    let out = match part {
        Some(sink) => Out::Part(Box::new(sink), job.format),
        None => {
            let combiner = Combiner::from(&job.combine);
            Out::Collect(Box::new(Collector::new(setup(bench), combiner)))
        }
    };
    let mapping = Mapping {
        mapper: (job.mapper)(is_output),
        out: Counted { out, counters: Counters::default() },
        rule: bench.spec.records.clone(),
        pieces: work.pieces.clone(),
        skip: work.skip.clone(),
        gauge: bench.gauge.clone(),
        number: 0,
        current: None,
        skipped: 0,
    };
    bench.world.blocking(move || mapping.all(inbox)).await
}

/// The output with the counters of the job's own functions.
struct Counted {
    out: Out,
    counters: Counters,
}

impl RawOutput for Counted {
    fn emit(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.out.put(key, value)
    }

    fn count(&mut self, group: &str, name: &str, amount: u64) {
        self.counters.add(group, name, amount);
    }
}

/// A native map on its thread.
struct Mapping {
    mapper: Box<dyn RawMapper>,
    out: Counted,
    rule: Rule,
    pieces: Vec<Piece>,
    skip: Vec<u64>,
    gauge: Arc<Gauge>,
    /// Of the next record in the split.
    number: u64,
    /// The record under way: number, piece, offset.
    current: Option<(u64, usize, u64)>,
    skipped: u64,
}

impl Mapping {
    fn all(
        mut self,
        mut inbox: mpsc::Receiver<Result<Feed, Error>>,
    ) -> Result<(Option<Output>, Counters), Error> {
        let mut open: Option<(usize, Cutter)> = None;
        let mut closed = 0;
        while let Some(feed) = inbox.blocking_recv() {
            self.gauge.check()?;
            match feed? {
                Feed::Open(piece) => open = Some((piece, cutter(&self.rule, &self.pieces[piece]))),
                Feed::Bytes(bytes) => {
                    if let Some((piece, cutter)) = &mut open {
                        self.guarded(|this| {
                            cutter.feed(&bytes, &mut |cut| this.one(*piece, &cut)).map(|_| ())
                        })?;
                    }
                }
                Feed::Close => {
                    closed += 1;
                    if let Some((piece, cutter)) = open.take() {
                        self.guarded(|this| cutter.finish(&mut |cut| this.one(piece, &cut)))?;
                    }
                }
            }
            self.gauge.records.store(self.number, Ordering::Relaxed);
        }
        if closed < self.pieces.len() {
            return Err(Error::Cancelled);
        }
        self.guarded(|this| this.mapper.finish(&mut this.out))?;
        let (output, mut counters) = self.out.out.finish()?;
        counters.merge(&self.out.counters);
        counters.count(name::MAP_INPUT_RECORDS, self.number - self.skipped);
        counters.count(name::SKIPPED, self.skipped);
        Ok((output, counters))
    }

    fn one(&mut self, piece: usize, cut: &crate::input::record::Cut<'_>) -> Result<(), Error> {
        let number = self.number;
        self.number += 1;
        if self.skip.contains(&number) {
            self.skipped += 1;
            return Ok(());
        }
        self.current = Some((number, piece, cut.offset));
        let path = &self.pieces[piece].path;
        let record = RawRecord { path, offset: cut.offset, bytes: cut.bytes };
        let mapped = self.mapper.map(&record, &mut self.out);
        if mapped.is_ok() {
            self.current = None;
        }
        mapped
    }

    /// Runs the job's functions; a failure or panic names the record.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let reason = match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.is_ours() => return Err(error),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(panic.as_ref()),
        };
        Err(match self.current {
            Some((number, piece, offset)) => {
                Error::Record { path: self.pieces[piece].path.clone(), offset, number, reason }
            }
            None => Error::Spec(reason),
        })
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the function panicked: {}", text.unwrap_or_default())
}

/// For a piece: a compressed file is cut as a whole.
pub(crate) fn cutter(rule: &Rule, piece: &Piece) -> Cutter {
    if is_compressed(&piece.path) {
        return Cutter::new(rule, 0, u64::MAX);
    }
    Cutter::new(rule, piece.offset, (piece.offset + piece.length).max(1))
}
