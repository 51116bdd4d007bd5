//! Bringing the parts of map output that a reduce needs to it. What they hold is not known here.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use world::World;

use crate::{
    error::Error,
    peers::{self, Peers},
    proto::{FetchRequest, Source},
    run,
    store::{Output, Store},
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

pub(crate) struct Fetch {
    pub(crate) world: World,
    pub(crate) peers: Peers,
    pub(crate) store: Arc<Store>,
    pub(crate) job: u64,
    pub(crate) partition: u32,
    /// What may be held in memory; the rest goes to the local disk.
    pub(crate) memory: u64,
}

/// One part, here.
pub(crate) enum Part {
    Memory(Bytes),
    Disk(Output),
}

impl Part {
    pub(crate) fn place(&self) -> run::Place {
        match self {
            Self::Memory(bytes) => run::Place::Memory(bytes.clone()),
            Self::Disk(output) => output.place(0),
        }
    }
}

impl Fetch {
    pub(crate) async fn all(&self, sources: Vec<Source>) -> Result<Vec<Part>, Lost> {
        let total: u64 = sources.iter().map(|source| source.size).sum();
        let in_memory = total <= self.memory;
        let fetched: Vec<_> = stream::iter(sources)
            .map(|source| async move { (source.map, self.one(&source, in_memory).await) })
            .buffer_unordered(ABREAST)
            .collect()
            .await;
        let mut parts = Vec::new();
        let mut lost = Lost { maps: Vec::new(), reason: String::new() };
        for (map, fetched) in fetched {
            match fetched {
                Ok(part) => parts.push(part),
                Err(error) => {
                    lost.maps.push(map);
                    lost.reason = format!("the output of map {map} cannot be had: {error}");
                }
            }
        }
        if lost.maps.is_empty() { Ok(parts) } else { Err(lost) }
    }

    async fn one(&self, source: &Source, in_memory: bool) -> Result<Part, Error> {
        let peer = self.peers.get(&peers::Place(source.place.clone()))?;
        let mut all = Vec::new();
        let mut writer = if in_memory { None } else { Some(self.store.writer(self.job)?) };
        let mut offset = 0;
        while offset < source.size {
            let request = FetchRequest {
                job: self.job,
                map: source.map,
                attempt: source.attempt,
                partition: self.partition,
                offset,
                length: PIECE.min(source.size - offset),
            };
            let data = peer.fetch(request).await?.data;
            if data.is_empty() {
                return Err(Error::Damaged("it is shorter than was said"));
            }
            offset += data.len() as u64;
            writer = match writer {
                None => {
                    all.extend_from_slice(&data);
                    None
                }
                Some(mut writer) => {
                    let written = self.world.blocking(move || {
                        writer.buffer().extend_from_slice(&data);
                        writer.flush_if_large().map(|()| writer)
                    });
                    Some(written.await?)
                }
            };
        }
        let Some(mut writer) = writer else { return Ok(Part::Memory(all.into())) };
        writer.end_partition();
        self.world.blocking(move || writer.finish()).await.map(Part::Disk)
    }
}
