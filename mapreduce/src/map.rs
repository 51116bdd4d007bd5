//! A map task of the word count: reads its pieces, some ahead, counts, combines, and leaves one sorted
//! output on the local disk. Who asked for it and where it goes is not known here.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use fs::InodeNo;
use futures_util::{StreamExt, stream};
use world::World;

use crate::{
    error::Error,
    files::Files,
    proto::{Counters, MapRequest, Piece},
    run::{self, Merge},
    store::{JobStore, Output, Store},
    tally::Tally,
    words::Cutter,
};

/// What is read at once.
const CHUNK: u64 = 1 << 20;
/// Reads under way at once: small files are waited for together, large ones are read ahead.
const ABREAST: usize = 8;
/// Longer words are refused: one must fit in memory.
const WORD_LIMIT: usize = 1 << 30;

pub(crate) struct MapTask {
    pub(crate) world: World,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) store: Arc<Store>,
    pub(crate) job: Arc<JobStore>,
    /// Memory of the table, beyond which it is spilled.
    pub(crate) memory: usize,
}

/// A read to be made: part of a piece, perhaps its end.
#[derive(Clone, Copy)]
struct Chunk {
    piece: Piece,
    offset: u64,
    length: u64,
    first: bool,
    last: bool,
}

/// What goes to and fro between the reading task and the counting threads.
struct Work {
    tally: Tally,
    cutter: Option<Cutter>,
    /// Pieces whose last word may go on behind them.
    open: Vec<(Piece, Cutter)>,
    spills: Vec<Output>,
    words: u64,
}

/// Takes its bytes off the running total when the attempt ends, however it ends.
struct Reading<'a>(&'a JobStore, u64);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl MapTask {
    /// Runs the task. The output is kept in the store under the attempt's number.
    pub(crate) async fn run(&self, request: MapRequest) -> Result<(Vec<u64>, Counters), Error> {
        let mut counters = Counters { input_files: 0, ..Counters::default() };
        let mut reading = Reading(&self.job, 0);
        let mut work = Work {
            tally: Tally::new(),
            cutter: None,
            open: Vec::new(),
            spills: Vec::new(),
            words: 0,
        };
        counters.input_files =
            request.pieces.iter().filter(|piece| piece.offset == 0).count() as u64;
        let chunks = request.pieces.iter().flat_map(|piece| chunks(*piece));
        let reads = stream::iter(chunks.collect::<Vec<_>>()).map(|chunk| self.read(chunk));
        let mut batches = reads.buffered(ABREAST).ready_chunks(ABREAST);
        while let Some(batch) = batches.next().await {
            if self.job.is_over() {
                return Err(Error::Spec("the job is over".to_owned()));
            }
            let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
            let bytes: u64 =
                batch.iter().flat_map(|(_, parts)| parts).map(|part| part.len() as u64).sum();
            counters.input_bytes += bytes;
            self.job.reading.fetch_add(bytes, Ordering::Relaxed);
            reading.1 += bytes;
            work = self.world.blocking(move || count(work, batch)).await?;
            if work.tally.bytes() > self.memory {
                work = self.spill(work, request.job, request.reduces).await?;
            }
        }
        drop(batches);
        work = self.close(work).await?;
        counters.words = work.words;
        let output = self.output(work, request.job, request.reduces, &mut counters).await?;
        let sizes = output.index.iter().map(|(_, length)| *length).collect();
        self.job.add(request.map, request.attempt, output);
        Ok((sizes, counters))
    }

    async fn read(&self, chunk: Chunk) -> Result<(Chunk, Vec<Bytes>), Error> {
        let ino = InodeNo(chunk.piece.ino);
        let parts = self.files.read(ino, chunk.offset, chunk.length).await.map_err(|error| {
            Error::files(format!("reading inode {} at {}", ino.0, chunk.offset), error)
        })?;
        Ok((chunk, parts))
    }

    /// Reads on behind pieces that end within a word.
    async fn close(&self, mut work: Work) -> Result<Work, Error> {
        for (piece, mut cutter) in std::mem::take(&mut work.open) {
            let mut offset = piece.offset + piece.length;
            let mut length = 4096;
            loop {
                let behind = Chunk { piece, offset, length, first: false, last: true };
                let (_, parts) = self.read(behind).await?;
                let got: u64 = parts.iter().map(|part| part.len() as u64).sum();
                let on = parts.iter().all(|part| cutter.extend(part));
                if !on || got == 0 {
                    break;
                }
                check(&cutter)?;
                offset += got;
                length = (length * 4).min(CHUNK);
            }
            let Work { tally, words, .. } = &mut work;
            cutter.finish(|word| {
                *words += 1;
                tally.add(word);
            });
        }
        Ok(work)
    }

    async fn spill(&self, mut work: Work, job: u64, reduces: u32) -> Result<Work, Error> {
        let store = self.store.clone();
        self.world
            .blocking(move || {
                let tally = std::mem::replace(&mut work.tally, Tally::new());
                work.spills.push(write(&tally, &store, job, reduces)?);
                Ok(work)
            })
            .await
    }

    async fn output(
        &self,
        work: Work,
        job: u64,
        reduces: u32,
        counters: &mut Counters,
    ) -> Result<Output, Error> {
        if work.spills.is_empty() {
            counters.map_records = work.tally.len() as u64;
            let store = self.store.clone();
            return self.world.blocking(move || write(&work.tally, &store, job, reduces)).await;
        }
        let work = self.spill(work, job, reduces).await?;
        let store = self.store.clone();
        let merged = self.world.blocking(move || merge(&work.spills, &store, job, reduces)).await;
        let (output, records) = merged?;
        counters.map_records = records;
        Ok(output)
    }
}

/// The reads of a piece. The first also covers the byte before it, which tells whether a word goes on into it.
fn chunks(piece: Piece) -> impl Iterator<Item = Chunk> {
    let begin = piece.offset.saturating_sub(1);
    let end = piece.offset + piece.length;
    let count = (end - begin).div_ceil(CHUNK);
    (0..count).map(move |at| {
        let offset = begin + at * CHUNK;
        let length = CHUNK.min(end - offset);
        Chunk { piece, offset, length, first: at == 0, last: at + 1 == count }
    })
}

fn check(cutter: &Cutter) -> Result<(), Error> {
    if cutter.length() > WORD_LIMIT {
        return Err(Error::Spec("the input has a word of more than 1 GiB".to_owned()));
    }
    Ok(())
}

fn count(mut work: Work, batch: Vec<(Chunk, Vec<Bytes>)>) -> Result<Work, Error> {
    for (chunk, parts) in batch {
        let mut cutter = match work.cutter.take() {
            Some(cutter) if !chunk.first => cutter,
            _ => Cutter::new(chunk.piece.offset > 0),
        };
        let Work { tally, words, .. } = &mut work;
        let mut add = |word: &[u8]| {
            *words += 1;
            tally.add(word);
        };
        for part in parts {
            cutter.feed(&part, &mut add);
        }
        check(&cutter)?;
        if !chunk.last {
            work.cutter = Some(cutter);
        } else if cutter.is_open() && !chunk.piece.last {
            work.open.push((chunk.piece, cutter));
        } else {
            cutter.finish(add);
        }
    }
    Ok(work)
}

fn write(tally: &Tally, store: &Store, job: u64, reduces: u32) -> Result<Output, Error> {
    let mut writer = store.writer(job)?;
    for part in tally.sorted(reduces) {
        for counted in part {
            run::put(counted.key, counted.count, writer.buffer());
            writer.flush_if_large()?;
        }
        writer.end_partition();
    }
    writer.finish()
}

fn merge(spills: &[Output], store: &Store, job: u64, reduces: u32) -> Result<(Output, u64), Error> {
    let mut writer = store.writer(job)?;
    let mut key = Vec::new();
    let mut records = 0;
    for partition in 0..reduces as usize {
        let mut merge = Merge::new(spills.iter().map(|spill| spill.place(partition)).collect())?;
        while let Some(count) = merge.next(&mut key)? {
            records += 1;
            run::put(&key, count, writer.buffer());
            writer.flush_if_large()?;
        }
        writer.end_partition();
    }
    Ok((writer.finish()?, records))
}
