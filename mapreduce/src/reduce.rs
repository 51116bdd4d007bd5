//! A reduce task of the word count: fetches its partition of every map, merges, and writes lines `word TAB count` in
//! byte order, first under a temporary name. Who asked for it is not known here.

use std::sync::Arc;

use bytes::Bytes;
use world::World;

use crate::{
    error::Error,
    fetch::{Fetch, Lost, Part},
    files::Files,
    proto::{Counters, ReduceRequest},
    run::Merge,
};

/// What is written at once.
const PIECE: usize = 1 << 20;

pub(crate) struct ReduceTask {
    pub(crate) world: World,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) fetch: Fetch,
}

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

impl ReduceTask {
    pub(crate) async fn run(&self, request: ReduceRequest) -> Result<Counters, Failed> {
        let mut counters = Counters {
            shuffled_bytes: request.sources.iter().map(|source| source.size).sum(),
            ..Counters::default()
        };
        let parts = self.fetch.all(request.sources).await.map_err(Failed::Lost)?;
        let failed = |error| Error::files(format!("writing {}", request.temporary), error);
        let ino = self.files.create(&request.temporary).await.map_err(failed)?;
        let written = self.write(ino, parts, &mut counters).await;
        let finished = self.files.finish(ino).await.map_err(failed);
        written?;
        finished?;
        self.files
            .rename(&request.temporary, &request.output)
            .await
            .map_err(|error| Error::files(format!("naming {}", request.output), error))?;
        Ok(counters)
    }

    async fn write(
        &self,
        ino: fs::InodeNo,
        parts: Vec<Part>,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        let places = parts.iter().map(Part::place).collect();
        let mut merge = self.world.blocking(move || Merge::new(places)).await?;
        loop {
            let (lines, records, rest) = self.world.blocking(move || lines(merge)).await?;
            merge = rest;
            if lines.is_empty() {
                counters.reduce_records = merge.records;
                return Ok(());
            }
            let length = lines.len() as u64;
            self.files
                .write(ino, counters.output_bytes, lines)
                .await
                .map_err(|error| Error::files("writing the output of a reduce", error))?;
            counters.output_bytes += length;
            counters.output_records += records;
        }
    }
}

/// The next lines of the output; none at its end.
fn lines(mut merge: Merge) -> Result<(Bytes, u64, Merge), Error> {
    let mut lines = Vec::with_capacity(PIECE + 4096);
    let mut key = Vec::new();
    let mut records = 0;
    while lines.len() < PIECE {
        let Some(count) = merge.next(&mut key)? else { break };
        lines.extend_from_slice(&key);
        lines.push(b'\t');
        put_decimal(count, &mut lines);
        lines.push(b'\n');
        records += 1;
    }
    Ok((lines.into(), records, merge))
}

fn put_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::put_decimal;

    #[test]
    fn counts_are_written_in_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            put_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
