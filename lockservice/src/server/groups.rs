//! Several shards: the leader at home tells the others what became of sessions, and carries out the
//! moves of groups that home recorded. Whatever it does it can do again, and so can the next leader:
//! what is left to do is always read from the tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use world::{Task, Time, World};

use super::{Inner, Server};
use crate::{
    error::Error,
    group::{LockGroup, MoveId, Shard},
    message::{Ask, Command, GroupCommand, GroupReply, GroupRow, LoadRow, News, Part},
    name::SessionId,
    service::Service,
};

/// Pieces of a group that go to another shard in one message.
pub(super) const MOST_PIECES: usize = 2048;
/// The least time between two looks at what other shards have to be told.
const ROUND: Duration = Duration::from_millis(5);
/// After something did not work.
const AGAIN: Duration = Duration::from_millis(50);
/// How long one call to another shard may take.
const CALL: Duration = Duration::from_secs(5);

/// How the servers of a coordinator reach all shards.
#[derive(Default)]
pub struct Peers {
    shards: Vec<Arc<dyn Service>>,
    tasks: Vec<Task>,
}

impl Peers {
    pub(super) fn end(&mut self) {
        self.shards.clear();
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

/// What a leader at home knows that a shard was told.
#[derive(Default)]
struct Told {
    met: SessionId,
    died: BTreeSet<SessionId>,
    ended: BTreeSet<SessionId>,
}

impl Told {
    /// What is new of all that might be told.
    fn new_of(&self, mut news: News) -> Option<News> {
        news.died.retain(|session| !self.died.contains(session));
        news.ended.retain(|session| !self.ended.contains(session));
        let nothing = news.died.is_empty() && news.ended.is_empty() && news.until == self.met;
        (!nothing).then_some(news)
    }
}

impl Server {
    /// Joins the servers of one coordinator into one service of several shards, by shard. `peers` are the
    /// shards as they are reached from here, whoever leads them.
    pub fn join(servers: &[Arc<Self>], peers: &[Arc<dyn Service>]) {
        let siblings: Vec<Weak<Self>> = servers.iter().map(Arc::downgrade).collect();
        for server in servers {
            // A second time changes nothing.
            let _ = server.siblings.set(siblings.clone());
            let mut tasks = Vec::new();
            if server.shard == Shard::HOME {
                let world = &server.world;
                let news = tell_news(Arc::downgrade(server), world.clone(), peers.to_vec());
                let moves = carry_moves(Arc::downgrade(server), world.clone(), peers.to_vec());
                tasks.push(world.spawn("lock-news", news));
                tasks.push(world.spawn("lock-moves", moves));
            }
            *server.peers.lock() = Peers { shards: peers.to_vec(), tasks };
        }
    }

    /// Counts what is asked for each group. What is asked for at home only is refused elsewhere.
    pub(super) fn count(&self, asks: &[Ask]) -> Result<(), Error> {
        for ask in asks {
            let name = match ask {
                Ask::Acquire(acquire) => acquire.need.start(),
                Ask::Release(held) | Ask::Downgrade(held) => held.span.start(),
                Ask::Hint { names, .. } => match names.first() {
                    Some(name) => *name,
                    None => continue,
                },
                Ask::Claim { .. } | Ask::Able if self.shard != Shard::HOME => {
                    return Err(Error::Protocol(format!("{ask:?} is for home")));
                }
                Ask::Claim { .. } | Ask::Able | Ask::Cancel(_) | Ask::Seen(_) | Ask::At(..) => {
                    continue;
                }
            };
            let group = usize::from(LockGroup::of(name).number());
            self.asked[group].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn loads(&self) -> Vec<LoadRow> {
        let mut rows = self.look(|table| table.loads());
        for row in &mut rows {
            let asked = &self.asked[usize::from(row.group.number())];
            row.asked = asked.load(Ordering::Relaxed);
        }
        rows
    }

    /// A session is to expire although it renews.
    pub(super) fn fence(
        self: &Arc<Self>,
        inner: &mut Inner,
        session: SessionId,
        hopeless: bool,
        now: Time,
    ) {
        if self.shard == Shard::HOME {
            return inner.leases.doom(session, now);
        }
        let Some(home) = self.peers.lock().shards.first().cloned() else { return };
        let deadline = now + self.config.lease;
        self.world.spawn("lock-accuse", async move {
            // If it fails, the next look at who does not answer asks again.
            let _ = home.accuse(session, hopeless, deadline).await;
        });
    }

    /// Tells one shard what it has not been told.
    async fn inform(&self, peer: &dyn Service, told: &mut Told) -> Result<(), Error> {
        loop {
            let news = self.look(|table| table.news_for(told.met));
            let Some(news) = told.new_of(news) else { return Ok(()) };
            let deadline = self.world.clock.now() + CALL;
            let command = GroupCommand::News(news.clone());
            let GroupReply::Met(met) = peer.direct(command, deadline).await? else {
                return Err(Error::Protocol("no answer to news of sessions".to_owned()));
            };
            let heard = |session: &SessionId| *session <= met;
            told.died.extend(news.died.into_iter().filter(heard));
            told.ended.extend(news.ended.into_iter().filter(heard));
            told.met = met;
            if met >= news.until {
                return Ok(());
            }
        }
    }

    /// The sessions of which all shards know that they have come to their end go for good.
    async fn retire(&self, told: &BTreeMap<Shard, Told>) -> Result<(), Error> {
        let mut over = self.look(|table| table.news_for(SessionId(0))).ended;
        over.retain(|session| told.values().all(|told| told.ended.contains(session)));
        if over.is_empty() {
            return Ok(());
        }
        let deadline = self.world.clock.now() + CALL;
        let command = Command::Group(GroupCommand::Ended(over));
        self.propose(command, deadline).await.map(|_| ())
    }

    /// Carries out one move, from wherever it stands.
    async fn carry(
        &self,
        row: &GroupRow,
        to: Shard,
        by: MoveId,
        peers: &[Arc<dyn Service>],
    ) -> Result<(), Error> {
        let group = row.group;
        let at = |shard: Shard| {
            let missing = || Error::Protocol(format!("{shard:?} is not configured here"));
            peers.get(shard.0 as usize).ok_or_else(missing)
        };
        let (loser, gainer) = (at(row.shard)?, at(to)?);
        let deadline = || self.world.clock.now() + CALL;
        let mut part = Part::nothing();
        let mut frozen = false;
        loop {
            let adopt = GroupCommand::Adopt { group, by, part };
            let needs = match gainer.direct(adopt, deadline()).await? {
                GroupReply::Done => break,
                GroupReply::Needs(name) => name,
                // It will be told of its sessions.
                GroupReply::Met(_) => return Err(Error::Unmet),
                GroupReply::Refused => {
                    return Err(Error::Protocol(format!("{to:?} cannot take {group:?}")));
                }
            };
            if !frozen {
                let freeze = GroupCommand::Freeze { group, by };
                if loser.direct(freeze, deadline()).await? != GroupReply::Done {
                    return Err(Error::Straddles);
                }
                frozen = true;
            }
            part = loser.export(group, by, needs, deadline()).await?;
        }
        loser.direct(GroupCommand::Forget { group, by }, deadline()).await?;
        let placed = Command::Group(GroupCommand::Placed { group, by });
        self.propose(placed, deadline()).await?;
        tracing::info!(group = group.number(), from = row.shard.0, to = to.0, "a lock group moved");
        Ok(())
    }
}

/// Tells all shards what became of sessions, as long as this server leads at home.
async fn tell_news(server: Weak<Server>, world: World, peers: Vec<Arc<dyn Service>>) {
    let Some(mut moves) = server.upgrade().map(|server| server.engine.moves()) else { return };
    let mut term = None;
    let mut told: BTreeMap<Shard, Told> = BTreeMap::new();
    let mut seen = None;
    loop {
        let Some(server) = server.upgrade() else { return };
        let leading = server.engine.leading();
        if leading != term {
            (term, seen) = (leading, None);
            told.clear();
        }
        let (shards, stirred) = server.look(|table| (table.shards(), table.stirred()));
        let mut pause = server.config.lease / 20;
        if term.is_some() && shards > 1 && seen != Some(stirred) {
            for shard in 1..shards {
                told.entry(Shard(shard)).or_default();
            }
            let each = told.iter_mut().map(|(shard, told)| {
                let (server, peer) = (&server, peers.get(shard.0 as usize));
                async move {
                    match peer {
                        Some(peer) => server.inform(peer.as_ref(), told).await,
                        None => Err(Error::Protocol(format!("{shard:?} is not configured here"))),
                    }
                }
            });
            let results = join_all(each).await;
            let retired = server.retire(&told).await;
            let failed = results.into_iter().chain([retired]).find_map(Result::err);
            match failed {
                None => seen = Some(stirred),
                Some(error) => {
                    tracing::debug!(%error, "a shard could not be told of sessions yet");
                    pause = AGAIN;
                }
            }
        }
        drop(server);
        world.clock.sleep(ROUND).await;
        // What ends the wait does not matter.
        let _ = world.until(world.clock.now() + pause, moves.next()).await;
    }
}

/// Carries out the moves that home recorded, one after the other, as long as this server leads there.
async fn carry_moves(server: Weak<Server>, world: World, peers: Vec<Arc<dyn Service>>) {
    let Some(mut moves) = server.upgrade().map(|server| server.engine.moves()) else { return };
    loop {
        let Some(server) = server.upgrade() else { return };
        let grown = server.look(|table| table.shards()) as usize;
        let mut pause = server.config.lease / 20;
        if server.engine.leading().is_some() {
            let deadline = world.clock.now() + CALL;
            if grown < peers.len() {
                let shards = u32::try_from(peers.len()).unwrap_or(Shard::MOST);
                let command = Command::Group(GroupCommand::Shards(shards));
                if let Err(error) = server.propose(command, deadline).await {
                    tracing::debug!(%error, "the number of shards could not be recorded yet");
                }
            }
            let open = server.look(|table| table.assignment()).groups;
            for row in open {
                let Some((to, by)) = row.moving else { continue };
                if let Err(error) = server.carry(&row, to, by, &peers).await {
                    tracing::debug!(%error, group = row.group.number(), "a move waits");
                    pause = AGAIN;
                }
            }
        }
        drop(server);
        world.clock.sleep(ROUND).await;
        let _ = world.until(world.clock.now() + pause, moves.next()).await;
    }
}
