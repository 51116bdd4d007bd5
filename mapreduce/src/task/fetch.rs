//! Bringing the parts of map output that a reduce needs to it, as it is told of them: into memory as long as there is room, then
//! onto the local disk. What they hold is not known here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::Ordering,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{Bench, collect::FACTOR};
use crate::{
    error::Error,
    peers,
    proto::{FetchReply, FetchRequest, MapOutput, Source},
    shuffle::{groups::Sorted as _, merge::Merge, order::Order, run::Place},
    store::{Output, Store, Writer},
};

/// Parts fetched at once.
const ABREAST: usize = 5;
/// While maps run, a reduce that waits for them has this part of its memory.
const WAITING: u64 = 4;
/// Bytes of one answer.
const PIECE: u64 = 4 << 20;

/// Some parts could not be had: the maps that made them must run again.
pub(crate) struct Lost {
    pub(crate) maps: Vec<MapOutput>,
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
    /// Bytes that were fetched.
    pub(crate) fetched: u64,
    /// Files that places lie in.
    spilled: Vec<Output>,
}

impl Parts {
    fn add(&mut self, map: u32, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.fetched += bytes.len() as u64;
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

/// What is known of the output of maps, and what was fetched of it.
struct Fetching<'a> {
    bench: &'a Bench,
    /// The latest that was told of maps whose part is not here.
    latest: BTreeMap<u32, Source>,
    /// Maps whose part is here.
    here: BTreeSet<u32>,
    /// To be fetched.
    next: VecDeque<Source>,
    /// Maps whose part could not be had, and why, until more is told of them.
    missing: BTreeMap<u32, String>,
}

impl Fetching<'_> {
    /// Takes what was told: a map that is told of again was done again, because its output was lost.
    fn take(&mut self, sources: Vec<Source>) {
        for source in sources {
            let map = source.map;
            if self.here.contains(&map) {
                continue;
            }
            let is_new = self.latest.insert(map, source.clone()).is_none();
            if is_new {
                // Fetching is half of the work, reducing the other.
                self.bench.gauge.all.fetch_add(source.size * 2, Ordering::Relaxed);
            }
            if self.missing.remove(&map).is_some() || is_new {
                self.next.push_back(source);
            }
        }
    }

    /// Notes that a part could not be had; it is tried again if its map was done again meanwhile.
    fn fail(&mut self, source: &Source, error: &Error) {
        let map = source.map;
        match self.latest.get(&map) {
            Some(latest) if latest != source => self.next.push_back(latest.clone()),
            _ => {
                let reason = format!("the output of map {map} cannot be had: {error}");
                self.missing.insert(map, reason);
            }
        }
    }
}

/// Fetches the parts of all maps that the attempt is told of, until it was told of all.
pub(crate) async fn all(bench: &Bench, partition: u32) -> Result<Result<Parts, Lost>, Error> {
    let mut fetching = Fetching {
        bench,
        latest: BTreeMap::new(),
        here: BTreeSet::new(),
        next: VecDeque::new(),
        missing: BTreeMap::new(),
    };
    let mut parts = Parts::default();
    let mut under_way = FuturesUnordered::new();
    let mut complete = false;
    loop {
        while under_way.len() < ABREAST
            && let Some(source) = fetching.next.pop_front()
        {
            under_way.push(fetch(bench, partition, source));
        }
        if complete && under_way.is_empty() {
            break;
        }
        let fetched = tokio::select! {
            biased;
            () = bench.gauge.cancelled() => return Err(Error::Cancelled),
            feed = bench.gauge.fed() => {
                complete = feed.complete;
                fetching.take(feed.sources);
                continue;
            }
            Some(fetched) = under_way.next(), if !under_way.is_empty() => fetched,
        };
        match fetched {
            (source, Ok(bytes)) => {
                fetching.latest.remove(&source.map);
                fetching.here.insert(source.map);
                parts.add(source.map, bytes);
            }
            (source, Err(error)) => fetching.fail(&source, &error),
        }
        // While it waits, others work with the memory.
        let room = if complete { bench.memory } else { bench.memory / WAITING };
        if parts.bytes > room {
            let writer = bench.store.writer(bench.number, false)?;
            parts = bench.world.blocking(move || parts.spill(writer)).await?;
        }
    }
    let missing = fetching.missing.keys().filter_map(|map| fetching.latest.get(map));
    let maps: Vec<_> = missing
        .map(|Source { map, attempt, .. }| MapOutput { map: *map, attempt: *attempt })
        .collect();
    let reason = fetching.missing.into_values().next_back().unwrap_or_default();
    Ok(if maps.is_empty() { Ok(parts) } else { Err(Lost { maps, reason }) })
}

async fn fetch(bench: &Bench, partition: u32, source: Source) -> (Source, Result<Bytes, Error>) {
    let fetched = one(bench, partition, &source).await;
    (source, fetched)
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
