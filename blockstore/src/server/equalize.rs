//! Making the members of a chain equal after one of them started anew: the head asks all which
//! blocks they have, brings the highest version of each block to those that lack it, and lets them
//! serve. Also the flush of a chain by its head.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join_all};
use world::Time;

use super::{Inner, Seat};
use crate::{
    chain::Phase,
    link::Member,
    message::{BlockContent, Refusal, Reply, Request, Seen},
    place::{BlockId, BlockVersion, ChainVersion},
};

const ATTEMPT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long a member may take to say that it is there.
const PRESENT: Duration = Duration::from_secs(1);
/// Blocks that are brought to members at the same time.
const ABREAST: usize = 16;

/// What one member has.
struct Holding {
    blocks: BTreeMap<BlockId, BlockVersion>,
    seen: Vec<Seen>,
}

impl Inner {
    /// Makes the chain equal, trying until it is or its version has changed.
    pub(super) async fn equalize(self: Arc<Self>, seat: Arc<Seat>, chain: ChainVersion) {
        let mut pause = FIRST_PAUSE;
        loop {
            {
                let machine = seat.machine.lock();
                if machine.version() != chain || machine.phase() != Phase::Equalizing {
                    return;
                }
            }
            if self.authority.lock().stopped.is_some() {
                return;
            }
            let tried = match self.equalizers.acquire().await {
                Ok(_turn) => self.make_equal(&seat, chain).await,
                Err(_) => return,
            };
            match tried {
                Ok(brought) => {
                    tracing::debug!(group = seat.group.0, brought, "the chain is equal");
                    *seat.stuck.lock() = None;
                    seat.moved();
                    self.equal.lock().insert(seat.group, chain);
                    self.poke.notify_one();
                    return;
                }
                Err((server, refusal)) => {
                    tracing::debug!(group = seat.group.0, server = server.server.0, %refusal, "the chain is not equal yet");
                    *seat.stuck.lock() = Some(match refusal {
                        Refusal::Waiting(server) => server,
                        _ => server.server,
                    });
                }
            }
            self.world.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One attempt; returns how many blocks were brought to members, or who refused.
    async fn make_equal(
        &self,
        seat: &Seat,
        chain: ChainVersion,
    ) -> Result<usize, (Member, Refusal)> {
        let members = match seat.machine.lock().chain() {
            Some(row) if row.version == chain => row.members.clone(),
            _ => return Ok(0),
        };
        // Before the lists, which cost something: is everybody there?
        try_join_all(members.iter().skip(1).map(|member| self.present(member))).await?;
        let asked = members.iter().map(|member| self.holding(seat, chain, member));
        let mut holdings = try_join_all(asked).await?;
        let seen: Vec<Seen> =
            holdings.iter_mut().flat_map(|holding| std::mem::take(&mut holding.seen)).collect();
        let mut versions: BTreeMap<BlockId, Vec<BlockVersion>> = BTreeMap::new();
        for (index, holding) in holdings.into_iter().enumerate() {
            for (block, version) in holding.blocks {
                versions
                    .entry(block)
                    .or_insert_with(|| vec![BlockVersion::default(); members.len()])[index] =
                    version;
            }
        }
        versions.retain(|_, versions| versions.iter().any(|version| *version != versions[0]));
        let unequal: Vec<_> = versions.into_iter().collect();
        for some in unequal.chunks(ABREAST) {
            try_join_all(
                some.iter().map(|(block, has)| self.bring(seat, chain, &members, (*block, has))),
            )
            .await?;
        }
        let serve = |member: &Member| {
            let member = member.clone();
            let request = Request::Serve { group: seat.group, chain, seen: seen.clone() };
            async move { self.ask(&member, request).await.map(drop) }
        };
        try_join_all(members.iter().skip(1).map(serve)).await?;
        serve(&members[0]).await?;
        Ok(unequal.len())
    }

    /// Asks a member, or this server itself, and waits.
    async fn ask(&self, member: &Member, request: Request) -> Result<Reply, (Member, Refusal)> {
        let refused = |refusal| (member.clone(), refusal);
        if member.server == self.config.server {
            return match request {
                Request::List { group, chain, after } => self.list(group, chain, after).await,
                Request::Fetch { group, chain, block } => self.fetch(group, chain, block).await,
                Request::Install { group, chain, block, content } => {
                    self.install(group, chain, block, &content)
                }
                Request::Serve { group, chain, seen } => self.serve(group, chain, &seen).await,
                Request::Flush { groups } => self.flush(&groups).await,
                _ => Err(Refusal::Invalid("not a question among members".to_owned())),
            }
            .map_err(refused);
        }
        let deadline = self.world.clock.now() + ATTEMPT;
        match self.peer(member).call(request, deadline).await {
            Ok(Reply::Refused(refusal)) => Err(refused(refusal)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(refused(Refusal::Waiting(member.server))),
        }
    }

    async fn present(&self, member: &Member) -> Result<(), (Member, Refusal)> {
        let deadline = self.world.clock.now() + PRESENT;
        match self.peer(member).call(Request::Status, deadline).await {
            Ok(Reply::Status(status)) if status.incarnation == member.incarnation => Ok(()),
            _ => Err((member.clone(), Refusal::Waiting(member.server))),
        }
    }

    async fn holding(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        member: &Member,
    ) -> Result<Holding, (Member, Refusal)> {
        let mut holding = Holding { blocks: BTreeMap::new(), seen: Vec::new() };
        let mut after = None;
        loop {
            let request = Request::List { group: seat.group, chain, after };
            let Reply::Blocks { blocks, more, seen, .. } = self.ask(member, request).await? else {
                return Err((member.clone(), Refusal::Invalid("not a list".to_owned())));
            };
            after = blocks.last().map(|(block, _)| *block).or(after);
            let empty = blocks.is_empty();
            holding.blocks.extend(blocks);
            if !more || empty {
                holding.seen = seen;
                return Ok(holding);
            }
        }
    }

    /// Brings the highest version of a block to the members that lack it.
    async fn bring(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        members: &[Member],
        (block, has): (BlockId, &[BlockVersion]),
    ) -> Result<(), (Member, Refusal)> {
        let highest = has.iter().copied().max().unwrap_or_default();
        let holders = members.iter().zip(has).filter(|(_, version)| **version == highest);
        let mut content: Option<BlockContent> = None;
        for (holder, _) in holders {
            let request = Request::Fetch { group: seat.group, chain, block };
            match self.ask(holder, request).await {
                Ok(Reply::Block { content: found, .. }) if found.check() => {
                    content = Some(found);
                    break;
                }
                Ok(_) | Err((_, Refusal::Damaged { .. })) => {}
                Err(refused) => return Err(refused),
            }
        }
        let Some(content) = content else {
            // Every copy is damaged: reads will say so. The chain serves all the rest.
            tracing::error!(block = block.start(), "no member has a good copy of a block");
            return Ok(());
        };
        let lacking = members.iter().zip(has).filter(|(_, version)| **version != highest);
        let installs = lacking.map(|(member, _)| {
            let content = content.clone();
            let request = Request::Install { group: seat.group, chain, block, content };
            self.ask(member, request)
        });
        try_join_all(installs).await.map(drop)
    }

    /// Commits the chain on all its members, as a client's flush would.
    pub(super) async fn flush_members(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        deadline: Time,
    ) -> Result<(), Refusal> {
        let members = match seat.machine.lock().chain() {
            Some(row) => row.members.clone(),
            None => return Err(Refusal::Stale(ChainVersion(0))),
        };
        let flush = members
            .iter()
            .map(|member| self.ask(member, Request::Flush { groups: vec![(seat.group, chain)] }));
        let done = self.world.until(deadline, join_all(flush)).await;
        let done = done.map_err(|_| Refusal::Waiting(self.config.server))?;
        done.into_iter().try_for_each(|answer| answer.map(drop).map_err(|(_, refusal)| refusal))
    }
}
