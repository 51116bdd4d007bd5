//! Reads: from any member of the chain, spread over them, those on this host first; from another one when a member does not
//! answer, is not ready, or its copy is damaged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use world::Time;

use super::{Inner, count, driven::Driven};
use crate::{
    error::Error,
    link::{Chain, Member},
    message::{Freshness, Refusal, Reply, Request, page_sums},
    place::{Group, ServerId},
};

/// The longest that the first member is waited for; each round waits twice as long.
const ATTEMPT: Duration = Duration::from_secs(1);
/// A member that has not answered for so long is not waited for alone any more.
const HEDGE: Duration = Duration::from_millis(40);
/// How long a server that did not answer is asked last.
const SHUN: Duration = Duration::from_secs(2);
/// Neighbouring bytes are read from one member, so that its read-ahead is of use.
const STRIPE: u64 = 4 << 20;

/// What came of asking one member.
enum Outcome {
    /// The bytes; none if they are all zeros.
    Bytes(Bytes),
    /// The chain has another version than the chart says.
    Moved,
    /// Its copy is damaged here.
    Damaged(u64),
    /// Ask another one.
    Other,
    /// No member will answer this.
    Never(Error),
}

impl Inner {
    /// The bytes of a range within one chunk; none if they are all zeros.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        group: Group,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Error> {
        let lane = self.lane(group);
        let mut round = 0;
        loop {
            // What the chain may have lost is written again first: this client's reads must show
            // what it wrote.
            let chain = self.ready(lane).await?;
            let (mut damaged, mut at) = (0, offset);
            let members = self.in_order(&chain, offset);
            let mut next = members.iter();
            let mut asked = FuturesUnordered::new();
            let ask =
                |member: &Member| self.ask_one(&chain, member.clone(), (offset, length), round);
            loop {
                if asked.is_empty() {
                    match next.next() {
                        Some(member) => asked.push(ask(member)),
                        None => break,
                    }
                }
                // Who is slow is not waited for alone.
                let hedge =
                    if next.len() == 0 { Time::NEVER } else { self.world.clock.now() + HEDGE };
                let Ok(answer) = self.world.until(hedge, asked.next()).await else {
                    asked.extend(next.next().map(ask));
                    continue;
                };
                let Some((server, outcome)) = answer else { continue };
                match outcome {
                    Outcome::Bytes(bytes) => {
                        lane.memory.lock().trouble = None;
                        return Ok(bytes);
                    }
                    Outcome::Never(error) => return Err(error),
                    Outcome::Moved => break,
                    Outcome::Damaged(place) => (damaged, at) = (damaged + 1, place),
                    Outcome::Other => lane.memory.lock().trouble = Some(server),
                }
            }
            drop(asked);
            if damaged == members.len() && damaged > 0 {
                return Err(Error::Damaged { offset: at });
            }
            self.pause(round).await;
            round += 1;
        }
    }

    /// The members of a chain in the order in which they are asked.
    fn in_order(&self, chain: &Chain, offset: u64) -> Vec<Member> {
        let mut members: Vec<Member> = chain.serving().cloned().collect();
        if !members.is_empty() {
            let spread = (offset / STRIPE).wrapping_add(self.writer.client) as usize;
            let count = members.len();
            members.rotate_left(spread % count);
            if let Some(near) = &self.config.near {
                members.sort_by_key(|member| member.address.host() != *near);
            }
            let shunned = self.shunned.lock();
            if !shunned.is_empty() {
                let now = self.world.clock.now();
                members.sort_by_key(|member| {
                    shunned.get(&member.server).is_some_and(|until| *until > now)
                });
            }
        }
        members
    }

    async fn ask_one(
        &self,
        chain: &Chain,
        member: Member,
        range: (u64, u64),
        round: u32,
    ) -> (ServerId, Outcome) {
        (member.server, self.ask(chain, &member, range, round).await)
    }

    async fn ask(
        &self,
        chain: &Chain,
        member: &Member,
        (offset, length): (u64, u64),
        round: u32,
    ) -> Outcome {
        count(&self.counts.reads, 1);
        let request = Request::Read {
            group: chain.group,
            chain: chain.version,
            volume: self.config.volume,
            offset,
            length: length as u32,
            freshness: Freshness::Strong,
        };
        let service = self.service(member.server, &member.address);
        let now = self.world.clock.now();
        let deadline = now + ATTEMPT * (1 << round.min(4));
        let call = Driven::new(&self.world, async move { service.call(request, deadline).await });
        match self.unless_moved(chain.group, chain.version, call).await {
            None => Outcome::Moved,
            Some(Ok(Reply::Data { chain: version, .. })) if version > chain.version => {
                Outcome::Moved
            }
            Some(Ok(Reply::Data { sums, body, .. })) => {
                if body.is_empty() {
                    count(&self.counts.read_bytes, length);
                    return Outcome::Bytes(body);
                }
                if body.len() as u64 != length || page_sums(offset, &body) != sums {
                    tracing::warn!(server = %member.server, offset, "damaged on the way; again");
                    return Outcome::Other;
                }
                count(&self.counts.read_bytes, length);
                Outcome::Bytes(body)
            }
            Some(Ok(Reply::Refused(Refusal::Damaged { offset }))) => {
                tracing::warn!(server = %member.server, offset, "a damaged replica");
                Outcome::Damaged(offset)
            }
            Some(Ok(Reply::Refused(Refusal::Invalid(reason)))) => {
                tracing::error!(server = %member.server, reason, "a read was refused");
                Outcome::Never(Error::Invalid("refused by the block server; see the log"))
            }
            Some(Ok(Reply::Refused(Refusal::Stale(version)))) if version > chain.version => {
                Outcome::Moved
            }
            Some(Ok(_)) => Outcome::Other,
            Some(Err(error)) => {
                tracing::debug!(server = %member.server, %error, "a read had no answer");
                let until = self.world.clock.now() + SHUN;
                self.shunned.lock().insert(member.server, until);
                Outcome::Other
            }
        }
    }
}
