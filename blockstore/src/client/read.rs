//! Reads: from any member of the chain, spread over them; from another one when a member does not
//! answer, is not ready, or its copy is damaged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Inner, count, driven::Driven};
use crate::{
    error::Error,
    link::{Chain, Member},
    message::{Freshness, Refusal, Reply, Request, page_sums},
    place::Group,
};

/// The longest that the first member is waited for; each round waits twice as long.
const ATTEMPT: Duration = Duration::from_secs(1);
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
            for member in &members {
                match self.ask(&chain, member, offset, length, round).await {
                    Outcome::Bytes(bytes) => {
                        lane.memory.lock().trouble = None;
                        return Ok(bytes);
                    }
                    Outcome::Never(error) => return Err(error),
                    Outcome::Moved => break,
                    Outcome::Damaged(place) => (damaged, at) = (damaged + 1, place),
                    Outcome::Other => lane.memory.lock().trouble = Some(member.server),
                }
            }
            if damaged == members.len() && damaged > 0 {
                return Err(Error::Damaged { offset: at });
            }
            self.pause(round).await;
            round += 1;
        }
    }

    /// The members of a chain in the order in which they are asked.
    fn in_order(&self, chain: &Chain, offset: u64) -> Vec<Member> {
        let mut members = chain.members.clone();
        if !members.is_empty() {
            let spread = (offset / STRIPE).wrapping_add(self.writer.client) as usize;
            let count = members.len();
            members.rotate_left(spread % count);
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

    async fn ask(
        &self,
        chain: &Chain,
        member: &Member,
        offset: u64,
        length: u64,
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
