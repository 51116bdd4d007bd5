//! Repair of a damaged block: another member of the chain has the same version, which takes the
//! place of what the checksum refused. The client was answered from that member meanwhile.

use std::{sync::Arc, time::Duration};

use super::{Inner, Seat};
use crate::{
    link::Member,
    message::{BlockContent, Reply, Request},
    place::{BlockId, ChainVersion},
};

/// How often it is tried: a block that is written all the time has another version each time.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);

impl Inner {
    /// Starts to repair a block, unless that is under way.
    pub(super) fn mend(self: &Arc<Self>, seat: &Arc<Seat>, block: BlockId) {
        if self.mending.lock().insert(block) {
            let (inner, seat) = (Arc::clone(self), Arc::clone(seat));
            self.world.spawn("block-mend", async move {
                let mended = inner.mend_block(&seat, block).await;
                let server = inner.config.server.0;
                if mended {
                    tracing::info!(server, at = block.start(), "a damaged block is repaired");
                } else {
                    tracing::error!(
                        server,
                        at = block.start(),
                        "a damaged block could not be repaired yet; the next read tries again"
                    );
                }
                inner.mending.lock().remove(&block);
            });
        }
    }

    async fn mend_block(&self, seat: &Seat, block: BlockId) -> bool {
        for _ in 0..TRIES {
            let (chain, others) = {
                let machine = seat.machine.lock();
                let Some(row) = machine.chain() else { return false };
                let others = row.serving().filter(|other| other.server != self.config.server);
                (row.version, others.cloned().collect::<Vec<Member>>())
            };
            for other in &others {
                let request = Request::Fetch { group: seat.group, chain, block };
                if let Ok(Reply::Block { content, .. }) = self.ask(other, request).await
                    && content.check()
                    && content.lost == 0
                    && self.replace(seat, chain, block, &content)
                {
                    return self.store.commit(vec![self.hashes(seat.group)]).await.is_ok();
                }
            }
            if self.authority.lock().stopped.is_some() {
                return false;
            }
            self.world.clock.sleep(PAUSE).await;
        }
        false
    }

    /// Puts the content in the place of the block's, if that has the same version. No mutation
    /// comes between, because all are applied under the machine's lock.
    fn replace(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        block: BlockId,
        content: &BlockContent,
    ) -> bool {
        let machine = seat.machine.lock();
        machine.serves(chain).is_ok()
            && self.store.version(block).is_ok_and(|version| version == content.version)
            && self.store.install(block, content).is_ok()
    }
}
