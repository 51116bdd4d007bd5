//! Reads, flushes, and what the head of a chain asks of its members.

use std::sync::Arc;

use world::Time;

use super::Inner;
use crate::{
    bug::{self, Bug},
    chain::Phase,
    disk::{CHUNK, SECTOR},
    message::{BlockContent, Freshness, MAX_BODY, Refusal, Reply, Request, Seen},
    place::{BlockId, ChainVersion, Group, Volume},
    store::{Found, StoreError},
};

/// Blocks in one answer to `List`.
const LIST: usize = 8192;

/// A read, as it was asked.
#[derive(Clone, Copy)]
pub(super) struct Read {
    pub(super) group: Group,
    pub(super) chain: ChainVersion,
    pub(super) volume: Volume,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) freshness: Freshness,
}

impl Read {
    fn check(&self) -> Result<(), Refusal> {
        let length = u64::from(self.length);
        let aligned = self.offset.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
        if !aligned || length == 0 || length > MAX_BODY as u64 {
            return Err(Refusal::Invalid("a read is whole sectors, at most 4 MiB".to_owned()));
        }
        if self.offset / CHUNK != self.offset.saturating_add(length - 1) / CHUNK {
            return Err(Refusal::Invalid("a read stays within one chunk".to_owned()));
        }
        Ok(())
    }

    fn request(self) -> Request {
        Request::Read {
            group: self.group,
            chain: self.chain,
            volume: self.volume,
            offset: self.offset,
            length: self.length,
            freshness: self.freshness,
        }
    }
}

impl Inner {
    pub(super) async fn read(
        self: &Arc<Self>,
        read: Read,
        deadline: Time,
    ) -> Result<Reply, Refusal> {
        read.check()?;
        let seat = self.seat(read.group)?;
        seat.machine.lock().serves(read.chain).map_err(|refusal| seat.explain(refusal))?;
        let found = match self.store.try_read(read.volume, read.offset, read.length) {
            Some(found) => found,
            None => {
                let store = Arc::clone(&self.store);
                let work = move || store.read(read.volume, read.offset, read.length);
                match self.world.blocking(work).await {
                    Ok(found) => found,
                    Err(error) => {
                        if let StoreError::Damaged { offset } = error {
                            self.mend(&seat, BlockId::holding(read.volume, offset));
                        }
                        return Err(self.refuse(&error));
                    }
                }
            }
        };
        // Looked at after the bytes were: whatever they show, the tail must have it.
        let (dirty, tail) = {
            let machine = seat.machine.lock();
            machine.serves(read.chain)?;
            let shows = read.freshness == Freshness::Any || bug::on(Bug::ShowUncommitted);
            if shows || machine.is_tail() {
                (None, None)
            } else {
                let dirty = machine.dirty(read.volume, read.offset, read.length);
                (dirty, machine.tail().cloned())
            }
        };
        self.live()?;
        let (Some(order), Some(tail)) = (dirty, tail) else {
            return Ok(data(read.chain, found));
        };
        let peer = self.peer(&tail);
        let ask = Request::Applied { group: read.group, chain: read.chain };
        match peer.call(ask, deadline).await {
            Ok(Reply::Applied { chain, order: there }) if chain == read.chain && there >= order => {
                Ok(data(read.chain, found))
            }
            Ok(Reply::Applied { .. }) => match peer.call(read.request(), deadline).await {
                Ok(Reply::Refused(refusal)) => Err(refusal),
                Ok(reply) => Ok(reply),
                Err(_) => Err(Refusal::Waiting(tail.server)),
            },
            Ok(Reply::Refused(refusal)) => Err(refusal),
            Ok(_) | Err(_) => Err(Refusal::Waiting(tail.server)),
        }
    }

    pub(super) async fn flush(&self, groups: &[(Group, ChainVersion)]) -> Result<Reply, Refusal> {
        let mut scope = Vec::with_capacity(groups.len());
        let mut last = ChainVersion(0);
        for (group, chain) in groups {
            let seat = self.seat(*group)?;
            seat.machine.lock().serves(*chain).map_err(|refusal| seat.explain(refusal))?;
            scope.push(self.hashes(*group));
            last = *chain;
        }
        if !bug::on(Bug::FlushNothing) {
            self.store.commit(scope).await.map_err(|error| self.refuse(&error))?;
        }
        for (group, chain) in groups {
            self.seat(*group)?.machine.lock().serves(*chain)?;
        }
        Ok(Reply::Done { chain: last })
    }

    pub(super) fn applied(&self, group: Group, chain: ChainVersion) -> Result<Reply, Refusal> {
        let seat = self.seat(group)?;
        let machine = seat.machine.lock();
        machine.serves(chain)?;
        if !machine.is_tail() {
            return Err(Refusal::Misplaced);
        }
        Ok(Reply::Applied { chain, order: machine.applied() })
    }

    pub(super) async fn list(
        &self,
        group: Group,
        chain: ChainVersion,
        after: Option<BlockId>,
    ) -> Result<Reply, Refusal> {
        let seat = self.seat(group)?;
        let (seen, swept) = {
            let machine = seat.machine.lock();
            machine.at(chain)?;
            (machine.seen(), machine.swept())
        };
        let store = Arc::clone(&self.store);
        let hashes = self.hashes(group);
        let listed = self.world.blocking(move || store.list(hashes, after, LIST)).await;
        let (blocks, more) = listed.map_err(|error| self.refuse(&error))?;
        let (seen, swept) = if more { (Vec::new(), Vec::new()) } else { (seen, swept) };
        Ok(Reply::Blocks { chain, blocks, more, seen, swept })
    }

    pub(super) async fn fetch(
        &self,
        group: Group,
        chain: ChainVersion,
        block: BlockId,
    ) -> Result<Reply, Refusal> {
        self.seat(group)?.machine.lock().at(chain)?;
        let store = Arc::clone(&self.store);
        let fetched = self.world.blocking(move || store.fetch(block)).await;
        let content = fetched.map_err(|error| self.refuse(&error))?;
        Ok(Reply::Block { chain, content })
    }

    pub(super) async fn install(
        &self,
        group: Group,
        chain: ChainVersion,
        block: BlockId,
        content: BlockContent,
        deadline: Time,
    ) -> Result<Reply, Refusal> {
        if !content.check() {
            return Err(Refusal::Garbled);
        }
        if self.bits.read().of_hash(block.hash()) != group {
            return Err(Refusal::Invalid("the block is of another group".to_owned()));
        }
        let seat = self.seat(group)?;
        self.room(deadline).await?;
        let installed = {
            let mut machine = seat.machine.lock();
            machine.at(chain)?;
            if !matches!(machine.phase(), Phase::Equalizing | Phase::Joining) {
                return Err(Refusal::Invalid("the chain serves already".to_owned()));
            }
            match machine.stage(block, content) {
                Some(content) => self.store.install(block, &content),
                None => Ok(()),
            }
        };
        installed.map_err(|error| self.refuse(&error))?;
        Ok(Reply::Done { chain })
    }

    pub(super) async fn serve(
        &self,
        group: Group,
        chain: ChainVersion,
        seen: &[Seen],
    ) -> Result<Reply, Refusal> {
        let seat = self.seat(group)?;
        {
            let mut machine = seat.machine.lock();
            for (block, content) in machine.settle(chain, seen)? {
                self.store.install(block, &content).map_err(|error| self.refuse(&error))?;
            }
        }
        let commit = self.store.commit(vec![self.hashes(group)]);
        commit.await.map_err(|error| self.refuse(&error))?;
        seat.machine.lock().serve(chain)?;
        seat.moved();
        Ok(Reply::Done { chain })
    }
}

fn data(chain: ChainVersion, found: Found) -> Reply {
    Reply::Data { chain, sums: found.sums, body: found.body }
}
