//! Flushes: one request to each server for all groups that have something unflushed, once every
//! mutation that was issued before has its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use world::{Address, Time};

use super::{Inner, count, driven::Driven};
use crate::{
    error::Error,
    link::Chain,
    message::{Refusal, Reply, Request},
    place::{ChainVersion, Group, ServerId},
};

/// The longest that one attempt waits: a server may have much to write.
const ATTEMPT: Duration = Duration::from_secs(30);

/// A server's share of a flush.
struct Share {
    address: Address,
    groups: Vec<(Group, ChainVersion)>,
}

impl Inner {
    /// Brings everything that was issued before the call to stable storage.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<(), Error> {
        let deadline = self.deadline();
        let mut open: BTreeMap<Group, u64> = BTreeMap::new();
        for lane in &self.lanes {
            if let Some(upto) = lane.memory.lock().unflushed() {
                open.insert(lane.group, upto);
            }
        }
        count(&self.counts.flushes, open.len() as u64);
        let groups: Vec<Group> = open.keys().copied().collect();
        let mut tries = 0;
        loop {
            for (group, upto) in &open {
                self.wait_for_answers(*group, *upto, deadline).await?;
            }
            self.not_lost(&groups)?;
            // What was flushed or forgotten by others meanwhile needs nothing any more.
            open.retain(|group, upto| self.lane(*group).memory.lock().unflushed_upto(*upto));
            let Some((&first, _)) = open.first_key_value() else { return self.not_lost(&groups) };
            let chains = self.ready_chains(&open, deadline).await?;
            let flushed = self.flush_once(&chains, deadline).await;
            for (group, versions) in flushed {
                if let Some(upto) = open.remove(&group) {
                    let weight = self.lane(group).memory.lock().flushed(upto, versions);
                    self.kept.fetch_sub(weight, Ordering::Relaxed);
                    if self.lane(group).memory.lock().unflushed_upto(upto) {
                        open.insert(group, upto);
                    }
                }
            }
            if open.is_empty() {
                return self.not_lost(&groups);
            }
            if self.world.clock.now() >= deadline {
                return Err(self.stalled(first).await);
            }
            self.pause(tries).await;
            tries += 1;
        }
    }

    /// Fails if acknowledged bytes of these groups were lost by their chains and could not be written
    /// again: no flush brings them back.
    fn not_lost(&self, groups: &[Group]) -> Result<(), Error> {
        if self.fenced.load(Ordering::Relaxed) {
            return Err(Error::Fenced(self.config.session.0));
        }
        let failed = |group: &Group| self.lane(*group).memory.lock().failed.clone();
        groups.iter().find_map(failed).map_or(Ok(()), Err)
    }

    /// Waits until every mutation of the group up to `upto` has its answer.
    async fn wait_for_answers(&self, group: Group, upto: u64, deadline: Time) -> Result<(), Error> {
        let lane = self.lane(group);
        loop {
            let answered = lane.answered.notified();
            futures_util::pin_mut!(answered);
            answered.as_mut().enable();
            if !lane.memory.lock().unanswered(upto) {
                return Ok(());
            }
            if self.world.until(deadline, answered).await.is_err() {
                return Err(self.stalled(group).await);
            }
        }
    }

    /// The chains of these groups, each with all that this client knows acknowledged under its
    /// version.
    async fn ready_chains(
        self: &Arc<Self>,
        open: &BTreeMap<Group, u64>,
        deadline: Time,
    ) -> Result<Vec<Chain>, Error> {
        let ready = open.keys().map(|group| {
            let (inner, group) = (Arc::clone(self), *group);
            let work = async move { inner.ready(inner.lane(group)).await };
            self.patiently(group, deadline, work)
        });
        join_all(ready).await.into_iter().collect()
    }

    /// Asks each server once for all its groups; returns the groups that all their members flushed,
    /// with the versions that this covers, from and to.
    async fn flush_once(
        &self,
        chains: &[Chain],
        deadline: Time,
    ) -> Vec<(Group, (ChainVersion, ChainVersion))> {
        let mut shares: BTreeMap<ServerId, Share> = BTreeMap::new();
        for chain in chains {
            for member in chain.serving() {
                let share = shares.entry(member.server).or_insert_with(|| Share {
                    address: member.address.clone(),
                    groups: Vec::new(),
                });
                share.groups.push((chain.group, chain.version));
            }
        }
        let asked = shares.into_iter().map(|(server, share)| async move {
            let service = self.service(server, &share.address);
            let request = Request::Flush { groups: share.groups.clone() };
            let limit = deadline.min(self.world.clock.now() + ATTEMPT);
            let call = Driven::new(&self.world, async move { service.call(request, limit).await });
            let trouble = match self.world.until(limit, call).await {
                Ok(Ok(Reply::Done { .. })) => return Vec::new(),
                Ok(Ok(Reply::Refused(Refusal::Waiting(other) | Refusal::Stopped(other)))) => other,
                Ok(Ok(Reply::Refused(Refusal::Stale(newer)))) => {
                    // One of them, which it does not say. Asking the map once too often does no harm.
                    share.groups.iter().for_each(|(group, _)| self.heard(*group, newer));
                    server
                }
                _ => server,
            };
            for (group, _) in &share.groups {
                self.lane(*group).memory.lock().trouble = Some(trouble);
            }
            share.groups
        });
        let failed: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let done = chains.iter().filter(|chain| !failed.contains(&(chain.group, chain.version)));
        done.map(|chain| (chain.group, (chain.intact, chain.version))).collect()
    }
}
