//! Making the members of a chain equal after its version changed: the head asks all which blocks
//! they have, brings what `chain::reconcile` says to those that lack it, and lets them serve. Also
//! the flush of a chain by its head.

use std::{sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join_all};
use world::Time;

use super::{Inner, Seat};
use crate::{
    chain::{
        Phase,
        reconcile::{Bring, Holding, judges, plan},
    },
    link::{Member, Standing},
    message::{BlockContent, Refusal, Reply, Request, Seen},
    place::{BlockVersion, ChainVersion},
};

const ATTEMPT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long a member may take to say that it is there.
const PRESENT: Duration = Duration::from_secs(1);
/// Blocks that are brought to members at the same time.
const ABREAST: usize = 16;

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
        try_join_all(members.iter().map(|member| self.present(member))).await?;
        let asked = members.iter().map(|member| self.holding(seat, chain, member));
        let (holdings, mut seen): (Vec<_>, Vec<_>) = try_join_all(asked).await?.into_iter().unzip();
        let standings: Vec<Standing> = members.iter().map(|member| member.standing).collect();
        let judges = judges(&standings);
        let Some(first) = judges.first() else {
            // Nobody who had the data is left in the chain; the map will say when one is back.
            return Err((members[0].clone(), Refusal::NotReady));
        };
        tracing::trace!(group = seat.group.0, judge = members[*first].server.0, "making equal");
        let plan = plan(&standings, &holdings);
        for some in plan.chunks(ABREAST) {
            try_join_all(some.iter().map(|bring| self.bring(seat, chain, &members, bring))).await?;
        }
        // What a member saw that does not decide was done nowhere else, perhaps.
        let seen: Vec<Seen> =
            judges.iter().flat_map(|place| std::mem::take(&mut seen[*place])).collect();
        let serve = |member: &Member| {
            let member = member.clone();
            let request = Request::Serve { group: seat.group, chain, seen: seen.clone() };
            async move { self.ask(&member, request).await.map(drop) }
        };
        let serving = members.iter().filter(|member| member.standing != Standing::Leaving);
        try_join_all(serving.skip(1).map(serve)).await?;
        serve(&members[0]).await?;
        Ok(plan.len())
    }

    /// Asks a member, or this server itself, and waits.
    pub(super) async fn ask(
        &self,
        member: &Member,
        request: Request,
    ) -> Result<Reply, (Member, Refusal)> {
        let deadline = self.world.clock.now() + ATTEMPT;
        let refused = |refusal| (member.clone(), refusal);
        if member.server == self.config.server {
            return match request {
                Request::List { group, chain, after } => self.list(group, chain, after).await,
                Request::Fetch { group, chain, block } => self.fetch(group, chain, block).await,
                Request::Install { group, chain, block, content } => {
                    self.install(group, chain, block, content, deadline).await
                }
                Request::Serve { group, chain, seen } => self.serve(group, chain, &seen).await,
                Request::Flush { groups } => self.flush(&groups).await,
                _ => Err(Refusal::Invalid("not a question among members".to_owned())),
            }
            .map_err(refused);
        }
        match self.peer(member).call(request, deadline).await {
            Ok(Reply::Refused(refusal)) => Err(refused(refusal)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(refused(Refusal::Waiting(member.server))),
        }
    }

    async fn present(&self, member: &Member) -> Result<(), (Member, Refusal)> {
        if member.server == self.config.server {
            return Ok(());
        }
        let deadline = self.world.clock.now() + PRESENT;
        match self.peer(member).call(Request::Status, deadline).await {
            Ok(Reply::Status(status)) if status.incarnation == member.incarnation => Ok(()),
            _ => Err((member.clone(), Refusal::Waiting(member.server))),
        }
    }

    /// What a member has, and what it remembers of writers.
    pub(super) async fn holding(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        member: &Member,
    ) -> Result<(Holding, Vec<Seen>), (Member, Refusal)> {
        let mut holding = Holding::default();
        let mut after = None;
        loop {
            let request = Request::List { group: seat.group, chain, after };
            let Reply::Blocks { blocks, more, seen, swept, .. } = self.ask(member, request).await?
            else {
                return Err((member.clone(), Refusal::Invalid("not a list".to_owned())));
            };
            after = blocks.last().map(|(block, _)| *block).or(after);
            let empty = blocks.is_empty();
            holding.blocks.extend(blocks);
            holding.swept.extend(swept);
            if !more || empty {
                return Ok((holding, seen));
            }
        }
    }

    /// Brings a block to the members that have another version of it.
    async fn bring(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        members: &[Member],
        bring: &Bring,
    ) -> Result<(), (Member, Refusal)> {
        let sources: Vec<&Member> = bring.from.iter().map(|place| &members[*place]).collect();
        let content = self.content(seat, chain, &sources, bring).await?;
        if content.lost != 0 {
            // Reads will say so on every member: none may show what it has of an older version.
            let (block, pages) = (bring.block.start(), content.lost.count_ones());
            tracing::error!(block, pages, "no member has a good copy of pages of a block");
        }
        let installs = bring.to.iter().map(|place| {
            let (block, content) = (bring.block, content.clone());
            let request = Request::Install { group: seat.group, chain, block, content };
            self.ask(&members[*place], request)
        });
        try_join_all(installs).await.map(drop)
    }

    /// A block from these members, which have it; what none has a good copy of is lost.
    pub(super) async fn content(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        sources: &[&Member],
        bring: &Bring,
    ) -> Result<BlockContent, (Member, Refusal)> {
        if bring.version == BlockVersion::default() {
            return Ok(BlockContent::default());
        }
        let everything = BlockContent { lost: u16::MAX, ..BlockContent::default() };
        let mut best = BlockContent { version: bring.version, ..everything };
        let mut found = false;
        for source in sources {
            let request = Request::Fetch { group: seat.group, chain, block: bring.block };
            match self.ask(source, request).await {
                Ok(Reply::Block { content, .. }) if content.check() => {
                    if found {
                        best.complete(&content);
                    } else {
                        (best, found) = (content, true);
                    }
                    if best.lost == 0 {
                        break;
                    }
                }
                Ok(_) | Err((_, Refusal::Damaged { .. })) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(best)
    }

    /// Commits the chain on all its members, as a client's flush would.
    pub(super) async fn flush_members(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        deadline: Time,
    ) -> Result<(), Refusal> {
        let members = match seat.machine.lock().chain() {
            Some(row) => row.serving().cloned().collect::<Vec<_>>(),
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
