//! Bringing the parts of map output that a reduce needs to it: into memory as long as there is room, then
//! onto the local disk. What they hold is not known here.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{Bench, collect::FACTOR};
use crate::{
    error::Error,
    peers,
    proto::{FetchReply, FetchRequest, Source},
    shuffle::{groups::Sorted as _, merge::Merge, order::Order, run::Place},
    store::{Output, Store, Writer},
};

/// Parts fetched at once.
const ABREAST: usize = 5;
/// Bytes of one answer.
const PIECE: u64 = 4 << 20;

/// Some parts could not be had: the maps that made them must run again.
pub(crate) struct Lost {
    pub(crate) maps: Vec<u32>,
    pub(crate) reason: String,
}

/// The parts of all maps, here.
#[derive(Default)]
pub(crate) struct Parts {
    /// By map, so that equal keys come in the order of the maps whatever came first.
    places: Vec<(u32, Place)>,
    /// Parts in memory, by their place in `places`.
    memory: Vec<usize>,
    bytes: u64,
    /// Files that places lie in.
    spilled: Vec<Output>,
}

impl Parts {
    fn add(&mut self, map: u32, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.memory.push(self.places.len());
        self.places.push((map, Place::Memory(bytes)));
    }

    /// Writes what is in memory to one file, part after part.
    fn spill(mut self, mut writer: Writer) -> Result<Self, Error> {
        for at in &self.memory {
            if let Place::Memory(bytes) = &self.places[*at].1 {
                writer.append(bytes)?;
            }
            writer.end_partition();
        }
        let output = writer.finish()?;
        for (number, at) in self.memory.drain(..).enumerate() {
            self.places[at].1 = output.place(number);
        }
        self.bytes = 0;
        self.spilled.push(output);
        Ok(self)
    }

    /// The runs to be merged, at most [`FACTOR`]; neighbours are merged before if there are more.
    pub(crate) fn merge(mut self, setup: &Runs<'_>) -> Result<(Merge, Vec<Output>), Error> {
        self.places.sort_by_key(|(map, _)| *map);
        let mut places: Vec<_> = self.places.into_iter().map(|(_, place)| place).collect();
        while places.len() > FACTOR {
            let mut fewer = Vec::new();
            for some in places.chunks(FACTOR) {
                let mut merge = Merge::new(some.to_vec(), setup.order)?;
                let mut writer = setup.store.writer(setup.job, setup.compress)?;
                while merge.advance()? {
                    writer.put(merge.key(), merge.value())?;
                }
                writer.end_partition();
                let output = writer.finish()?;
                fewer.push(output.place(0));
                self.spilled.push(output);
            }
            places = fewer;
        }
        Ok((Merge::new(places, setup.order)?, self.spilled))
    }
}

/// What merging needs.
pub(crate) struct Runs<'a> {
    pub(crate) store: &'a Store,
    pub(crate) job: u64,
    pub(crate) compress: bool,
    pub(crate) order: &'a Order,
}

/// Fetches all parts.
pub(crate) async fn all(
    bench: &Bench,
    partition: u32,
    sources: Vec<Source>,
) -> Result<Result<Parts, Lost>, Error> {
    let mut fetches = stream::iter(sources)
        .map(|source| async move { (source.map, one(bench, partition, &source).await) })
        .buffer_unordered(ABREAST);
    let mut parts = Parts::default();
    let mut lost = Lost { maps: Vec::new(), reason: String::new() };
    while let Some((map, fetched)) = fetches.next().await {
        bench.gauge.check()?;
        match fetched {
            Ok(bytes) => parts.add(map, bytes),
            Err(error) => {
                lost.maps.push(map);
                lost.reason = format!("the output of map {map} cannot be had: {error}");
            }
        }
        if parts.bytes > bench.memory {
            let writer = bench.store.writer(bench.number, false)?;
            parts = bench.world.blocking(move || parts.spill(writer)).await?;
        }
    }
    Ok(if lost.maps.is_empty() { Ok(parts) } else { Err(lost) })
}

async fn one(bench: &Bench, partition: u32, source: &Source) -> Result<Bytes, Error> {
    let peer = bench.peers.get(&peers::Place(source.place.clone()))?;
    let mut pieces = Vec::new();
    let mut offset = 0;
    // Only about as many were said to be there; none at all is exact.
    let mut total = source.size.min(1);
    while offset < total {
        let request = FetchRequest {
            job: bench.number,
            map: source.map,
            attempt: source.attempt,
            partition,
            offset,
            length: PIECE,
        };
        let FetchReply { data, total: all } = peer.fetch(request).await?;
        total = all;
        if data.is_empty() {
            return Err(Error::Damaged("it is shorter than was said"));
        }
        offset += data.len() as u64;
        bench.gauge.read.fetch_add(data.len() as u64, Ordering::Relaxed);
        pieces.push(data);
    }
    Ok(match pieces.pop() {
        Some(only) if pieces.is_empty() => only.into(),
        last => {
            pieces.extend(last);
            pieces.concat().into()
        }
    })
}
