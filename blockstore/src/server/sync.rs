//! Bringing a server that is to become a member what it lacks, while the chain serves: the head
//! compares block versions, sends what differs, and looks again, until only the last changes are
//! missing. Those are brought when the chain takes the server in. A returning server so gets only
//! what it missed; one rate bounds what a head sends.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures_util::future::try_join_all;

use super::{Inner, Seat};
use crate::{
    chain::{
        Phase,
        reconcile::{Bring, plan},
    },
    disk::{BLOCK, PAGE},
    link::{Member, Standing},
    message::{Refusal, Reply, Request},
    place::{ChainVersion, ServerId},
};

/// Joiners that one head brings up to date at the same time.
pub(super) const ABREAST: usize = 4;
/// Blocks under way to one joiner.
const WINDOW: usize = 16;
/// With no more blocks missing the rest may wait until the joiner is taken in, which stops the chain
/// for as long as that takes.
const FEW: usize = 32;
/// Rounds after which a chain that changes faster than it can be copied takes the joiner in anyway.
const ROUNDS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// Starts to bring the joiner of a chain what it lacks, if this server heads the chain and has
    /// not started yet.
    pub(super) fn sync_joiner(self: &Arc<Self>, seat: &Arc<Seat>) {
        let target = self.joiner(seat);
        let mut bringing = seat.bringing.lock();
        if *bringing == target {
            return;
        }
        bringing.clone_from(&target);
        seat.owed.store(0, SeqCst);
        drop(bringing);
        if let Some(target) = target {
            self.world.spawn("block-sync", Arc::clone(self).sync(Arc::clone(seat), target));
        }
    }

    /// Whom this server is to bring what it lacks, under which version of the chain.
    fn joiner(&self, seat: &Seat) -> Option<(ChainVersion, Member)> {
        let machine = seat.machine.lock();
        if machine.phase() != Phase::Serving || !machine.is_head() {
            return None;
        }
        let joiner = machine.chain()?.joiner.clone()?;
        Some((machine.version(), joiner))
    }

    async fn sync(self: Arc<Self>, seat: Arc<Seat>, target: (ChainVersion, Member)) {
        let mut pause = FIRST_PAUSE;
        let wanted = || {
            self.joiner(&seat).as_ref() == Some(&target) && self.authority.lock().stopped.is_none()
        };
        while wanted() {
            let tried = match self.syncs.acquire().await {
                Ok(_turn) => self.bring_joiner(&seat, &target).await,
                Err(_) => return,
            };
            match tried {
                Ok(()) => {
                    let (version, joiner) = target;
                    self.ready.lock().insert(seat.group, (version, joiner.server));
                    self.poke.notify_one();
                    return;
                }
                Err((member, refusal)) => {
                    tracing::debug!(group = seat.group.0, server = member.server.0, %refusal, "a joiner waits");
                }
            }
            self.world.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let mut bringing = seat.bringing.lock();
        if bringing.as_ref() == Some(&target) {
            *bringing = None;
            seat.owed.store(0, SeqCst);
        }
    }

    async fn bring_joiner(
        &self,
        seat: &Seat,
        (version, joiner): &(ChainVersion, Member),
    ) -> Result<(), (Member, Refusal)> {
        let me = {
            let machine = seat.machine.lock();
            match machine.chain().and_then(|chain| chain.members.first()) {
                Some(me) => me.clone(),
                None => return Err((joiner.clone(), Refusal::NotReady)),
            }
        };
        for round in 1..=ROUNDS {
            let (mine, theirs) = futures_util::future::try_join(
                self.holding(seat, *version, &me),
                self.holding(seat, *version, joiner),
            )
            .await?;
            let plan = plan(&[Standing::Serving, Standing::Syncing], &[mine.0, theirs.0]);
            tracing::debug!(
                group = seat.group.0,
                round,
                blocks = plan.len(),
                "a joiner lacks blocks"
            );
            seat.owed.store(plan.len() as u64 * BLOCK, SeqCst);
            if plan.len() <= FEW {
                break;
            }
            for some in plan.chunks(WINDOW) {
                try_join_all(
                    some.iter().map(|bring| self.give(seat, (*version, joiner), &me, bring)),
                )
                .await?;
            }
        }
        Ok(())
    }

    async fn give(
        &self,
        seat: &Seat,
        (version, joiner): (ChainVersion, &Member),
        me: &Member,
        bring: &Bring,
    ) -> Result<(), (Member, Refusal)> {
        let content = self.content(seat, version, &[me], bring).await?;
        self.pace(content.body.len() as u64 + PAGE).await;
        let (group, block) = (seat.group, bring.block);
        let request = Request::Install { group, chain: version, block, content };
        match self.ask(joiner, request).await? {
            Reply::Done { .. } => {}
            _ => return Err((joiner.clone(), Refusal::NotReady)),
        }
        let less = |owed: u64| Some(owed.saturating_sub(BLOCK));
        let _ = seat.owed.fetch_update(SeqCst, SeqCst, less);
        Ok(())
    }

    /// Waits until so many bytes more may go to joiners.
    async fn pace(&self, bytes: u64) {
        let rate = self.rate.load(SeqCst);
        if rate == 0 {
            return;
        }
        let until = {
            let mut next = self.next.lock();
            let from = (*next).max(self.world.clock.now());
            *next = from + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
            from
        };
        self.world.clock.sleep_until(until).await;
    }

    /// What joiners of chains that this server heads still lack, in bytes.
    pub(super) fn owed(&self) -> Vec<(ServerId, u64)> {
        let mut owed = std::collections::BTreeMap::<ServerId, u64>::new();
        for seat in self.seats.read().values() {
            if let Some((_, joiner)) = &*seat.bringing.lock() {
                *owed.entry(joiner.server).or_default() += seat.owed.load(SeqCst);
            }
        }
        owed.into_iter().collect()
    }
}
