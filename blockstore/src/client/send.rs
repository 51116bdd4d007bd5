//! Mutations on their way: one is sent to the head of its chain, with the same sequence, until it
//! is answered or the session ends. Before anything is sent under a new version of the chain, what
//! the chain may have lost is written again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    future::{Either, select},
    stream::{self, StreamExt},
};

use super::{
    Inner, count,
    driven::Driven,
    lane::{Content, Issue, Lane, Part},
};
use crate::{
    error::Error,
    link::Chain,
    map::Chart,
    message::{Change, Discard, Refusal, Reply, Request, Ticket, Unanswered, Write, page_sums},
    place::{ChainVersion, Group, Sequence, ServerId},
};

/// The longest that one attempt waits for its answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pieces that are written again at the same time.
const AT_ONCE: usize = 8;

/// What came of an attempt.
enum Outcome {
    /// Done, under this version.
    Done(ChainVersion),
    /// Not done, or nobody knows; try again. Who is in the way.
    Again(ServerId),
    /// Will never be done.
    Never(Error),
}

impl Inner {
    /// Sends a mutation until it is answered.
    pub(super) async fn send(
        self: Arc<Self>,
        group: Group,
        part: Part,
        durable: bool,
    ) -> Result<(), Error> {
        let lane = self.lane(group);
        self.kept.fetch_add(part.weight(), Ordering::Relaxed);
        let change = self.change(&part, durable);
        let offset = part.offset;
        let (issue, sequence) = lane.memory.lock().issue(part);
        let mut tries = 0;
        loop {
            let done = {
                let chain = self.ready(lane).await?;
                let _attempt = lane.gate.read().await;
                if lane.memory.lock().version != chain.version {
                    continue;
                }
                let acks = lane.memory.lock().acks();
                let outcome = self.attempt(lane, &chain, sequence, change.clone()).await;
                let covers = durable.then_some((offset, acks, chain.version));
                self.judge(lane, issue, sequence, outcome, covers)
            };
            if let Some(result) = done {
                lane.answered.notify_waiters();
                return result;
            }
            self.pause(tries).await;
            tries += 1;
        }
    }

    /// Takes in what came of an attempt: `None` if there must be another.
    fn judge(
        &self,
        lane: &Lane,
        issue: Issue,
        sequence: Sequence,
        outcome: Outcome,
        covers: Option<(u64, u64, ChainVersion)>,
    ) -> Option<Result<(), Error>> {
        let mut memory = lane.memory.lock();
        let (result, forgotten) = match outcome {
            Outcome::Again(server) => {
                memory.trouble = Some(server);
                return None;
            }
            Outcome::Done(version) => {
                memory.trouble = None;
                let mut forgotten = memory.ack(issue, version);
                // It is on stable storage itself, and what was acknowledged before it was sent
                // is too, unless the chain changed meanwhile.
                if let Some((offset, acks, sent)) = covers
                    && sent == version
                {
                    forgotten += memory.covered(issue, offset, acks, version);
                }
                (Ok(()), forgotten)
            }
            Outcome::Never(error) => (Err(error), memory.refused(issue)),
        };
        memory.end(sequence);
        drop(memory);
        self.kept.fetch_sub(forgotten, Ordering::Relaxed);
        Some(result)
    }

    fn change(&self, part: &Part, durable: bool) -> Change {
        let volume = self.config.volume;
        match &part.content {
            Content::Bytes(bytes) => Change::Write(Write {
                volume,
                offset: part.offset,
                durable,
                condition: None,
                sums: page_sums(part.offset, bytes),
                body: bytes.clone(),
            }),
            Content::Nothing => {
                Change::Discard(Discard { volume, offset: part.offset, length: part.length })
            }
        }
    }

    /// One attempt at the head of `chain`. Ends early when the chart has another version of it.
    async fn attempt(
        &self,
        lane: &Lane,
        chain: &Chain,
        sequence: Sequence,
        change: Change,
    ) -> Outcome {
        let Some(head) = chain.members.first() else { return Outcome::Again(ServerId(0)) };
        match &change {
            Change::Write(write) => {
                count(&self.counts.writes, 1);
                count(&self.counts.written_bytes, write.body.len() as u64);
            }
            Change::Discard(_) => count(&self.counts.discards, 1),
        }
        let floor = lane.memory.lock().floor();
        let ticket = Ticket { writer: self.writer, sequence, floor };
        let request = Request::Mutate { group: lane.group, chain: chain.version, ticket, change };
        let service = self.service(head.server, &head.address);
        let deadline = self.world.clock.now() + ATTEMPT;
        // A call that is given up goes on: the server may be this very process.
        let call = Driven::new(&self.world, async move { service.call(request, deadline).await });
        let reply = self.unless_moved(lane.group, chain.version, call).await;
        self.read_answer(head.server, reply)
    }

    /// The answer of `call`, or `None` once the chart has another version of the chain.
    pub(super) async fn unless_moved(
        &self,
        group: Group,
        version: ChainVersion,
        call: Driven<Result<Reply, Unanswered>>,
    ) -> Option<Result<Reply, Unanswered>> {
        let newer = |chart: &Chart| chart.chain(group).is_some_and(|chain| chain.version > version);
        let moved = self.charts.until(newer);
        futures_util::pin_mut!(moved);
        let Either::Left((reply, _)) = select(call, moved).await else { return None };
        if let Ok(Reply::Refused(Refusal::Stale(newer)) | Reply::Data { chain: newer, .. }) = &reply
        {
            self.heard(group, *newer);
        }
        Some(reply)
    }

    fn read_answer(&self, head: ServerId, reply: Option<Result<Reply, Unanswered>>) -> Outcome {
        match reply {
            Some(Ok(Reply::Done { chain })) => Outcome::Done(chain),
            Some(Ok(Reply::Refused(refusal))) => match refusal {
                Refusal::Fenced(_) => {
                    self.fenced.store(true, Ordering::Relaxed);
                    Outcome::Never(Error::Fenced(self.config.session.0))
                }
                Refusal::NoSpace(_) => Outcome::Never(Error::NoSpace),
                Refusal::Damaged { offset } => Outcome::Never(Error::Damaged { offset }),
                Refusal::Invalid(reason) => {
                    tracing::error!(server = %head, reason, "a block server refused a mutation");
                    Outcome::Never(Error::Invalid("refused by the block server; see the log"))
                }
                Refusal::Waiting(server) | Refusal::Stopped(server) => Outcome::Again(server),
                other => {
                    tracing::debug!(server = %head, %other, "a mutation has to wait");
                    Outcome::Again(head)
                }
            },
            Some(Ok(other)) => {
                tracing::error!(server = %head, ?other, "an answer to another question");
                Outcome::Again(head)
            }
            Some(Err(error)) => {
                tracing::debug!(server = %head, %error, "a mutation had no answer");
                Outcome::Again(head)
            }
            None => Outcome::Again(head),
        }
    }

    /// The chain of a lane, once everything that was acknowledged in the lane was acknowledged
    /// under its version. Fails only when the client is gone.
    pub(super) async fn ready(self: &Arc<Self>, lane: &Lane) -> Result<Chain, Error> {
        let mut tries = 0;
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(Error::Unreachable);
            }
            match self.chain(lane.group) {
                Some(chain) if lane.memory.lock().version == chain.version => return Ok(chain),
                Some(_) => {
                    // Goes on when the request that began it is given up.
                    let (inner, group) = (Arc::clone(self), lane.group);
                    let settle = async move { inner.settle(inner.lane(group)).await };
                    Driven::new(&self.world, settle).await;
                }
                None => self.pause(tries).await,
            }
            tries += 1;
        }
    }

    /// Writes again what a new version of the chain may have lost.
    async fn settle(&self, lane: &Lane) {
        let _alone = lane.gate.write().await;
        while let Some(chain) = self.chain(lane.group)
            && !self.closed.load(Ordering::Relaxed)
        {
            let lost = {
                let mut memory = lane.memory.lock();
                if memory.version >= chain.version {
                    return;
                }
                let lost = memory.lost(chain.intact);
                if lost.is_empty() {
                    let change = memory.rewritten(chain.intact, Vec::new());
                    memory.version = chain.version;
                    drop(memory);
                    return self.weigh(change);
                }
                lost
            };
            let version = chain.intact;
            tracing::info!(
                group = lane.group.0,
                version = version.0,
                pieces = lost.len(),
                "all members of a chain started anew: writing again what no flush has covered"
            );
            let again = lost.into_iter().map(|(issue, part)| async move {
                let acked = self.write_again(lane, &part).await;
                acked.map(|acked| (issue, part, acked))
            });
            let done: Vec<_> = stream::iter(again).buffer_unordered(AT_ONCE).collect().await;
            let (mut parts, mut failed) = (Vec::new(), None);
            for one in done {
                match one {
                    Ok(part) => parts.push(part),
                    Err(error) => failed = Some(error),
                }
            }
            let mut memory = lane.memory.lock();
            // Whoever flushes is told, now and later.
            memory.failed = failed.or(memory.failed.take());
            let change = memory.rewritten(version, parts);
            drop(memory);
            self.weigh(change);
        }
    }

    fn weigh(&self, (before, after): (u64, u64)) {
        self.kept.fetch_add(after, Ordering::Relaxed);
        self.kept.fetch_sub(before, Ordering::Relaxed);
    }

    /// Sends one piece again until it is acknowledged.
    async fn write_again(&self, lane: &Lane, part: &Part) -> Result<ChainVersion, Error> {
        let sequence = lane.memory.lock().begin();
        let change = self.change(part, false);
        let (mut acked, mut tries) = (Err(Error::Unreachable), 0);
        while let Some(chain) = self.chain(lane.group)
            && !self.closed.load(Ordering::Relaxed)
        {
            match self.attempt(lane, &chain, sequence, change.clone()).await {
                Outcome::Done(version) => {
                    acked = Ok(version);
                    break;
                }
                Outcome::Never(Error::NoSpace) => {}
                Outcome::Never(error) => {
                    tracing::error!(%error, "what a chain lost cannot be written again");
                    acked = Err(error);
                    break;
                }
                Outcome::Again(server) => lane.memory.lock().trouble = Some(server),
            }
            self.pause(tries).await;
            tries += 1;
        }
        lane.memory.lock().end(sequence);
        acked
    }
}
