//! Mutations on their way down a chain: admitted and ordered at the head, applied by every member,
//! passed on while they are committed, repeated by the head until all members have them.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{join, ready},
};
use world::Time;

use super::{Inner, Seat};
use crate::{
    bug::{self, Bug},
    chain::{Admission, Receipt},
    disk::CHUNK,
    message::{Change, Refusal, Reply, Request, Ticket},
    place::{BlockVersion, ChainVersion, Group, Order, chunk_hash},
    store::{Committing, Hashes},
};

/// How long one attempt to reach the next member may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a mutation waits for the one before it; then the head sends it again. Those that wait
/// take room on the connection that the one before it needs.
const EARLY: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A mutation with its place in the order of its chain.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) chain: ChainVersion,
    pub(super) order: Order,
    pub(super) ticket: Ticket,
    pub(super) change: Change,
}

impl Link {
    fn version(&self) -> BlockVersion {
        BlockVersion { chain: self.chain, order: self.order }
    }
}

/// The chunk that must be durable before the change is answered, if one must.
fn durable(change: &Change) -> Option<Hashes> {
    match change {
        Change::Write(write) if write.durable => {
            let hash = chunk_hash(write.volume, write.offset / CHUNK);
            Some(Hashes { first: hash, last: hash })
        }
        _ => None,
    }
}

impl Inner {
    /// A client's mutation, at the head.
    pub(super) async fn mutate(
        self: &Arc<Self>,
        (group, chain): (Group, ChainVersion),
        ticket: Ticket,
        change: Change,
        deadline: Time,
    ) -> Result<Reply, Refusal> {
        self.check(group, &change)?;
        let seat = self.seat(group)?;
        if self.draining.load(SeqCst) {
            return Err(Refusal::NotReady);
        }
        // What was ordered before is no new write: it will be done, so it may not be refused.
        if self.is_full(&change) && !seat.machine.lock().knows(&ticket) {
            return Err(Refusal::NoSpace(self.config.server));
        }
        self.room(deadline).await?;
        let admission = self.admit(&seat, chain, &ticket, &change)?;
        let order = match admission {
            Admission::Refused(refusal) => return Err(seat.explain(refusal)),
            Admission::Done => {
                if durable(&change).is_some() {
                    self.flush_members(&seat, chain, deadline).await?;
                }
                return Ok(Reply::Done { chain });
            }
            Admission::Wait(order) => order,
            Admission::New(order) => {
                let link = Link { chain, order, ticket, change };
                let mut work = Arc::clone(self).see_through(Arc::clone(&seat), link).boxed();
                // Often done at once where all members are in this process. Else by a task of its
                // own: the caller may go, the members after this one must get it.
                if (&mut work).now_or_never().is_none() {
                    self.world.spawn("block-chain", work);
                }
                order
            }
        };
        self.settled(&seat, chain, order, deadline).await
    }

    fn check(&self, group: Group, change: &Change) -> Result<(), Refusal> {
        change.check()?;
        if let Change::Write(write) = change
            && self.bits.read().of(write.volume, write.offset) != group
        {
            return Err(Refusal::Invalid("the chunk is of another group".to_owned()));
        }
        Ok(())
    }

    /// Whether the disk has no space for clients any more. Looked up again whenever so much was admitted
    /// that it may have run out since.
    fn is_full(&self, change: &Change) -> bool {
        let Change::Write(write) = change else { return false };
        let more = write.body.len() as u64;
        let admitted = self.admitted.fetch_add(more, SeqCst) + more;
        if admitted > self.config.reserve / 8 {
            self.look_at_space();
        }
        self.out.load(SeqCst) || self.full.load(SeqCst) && !write.durable
    }

    pub(super) async fn room(&self, deadline: Time) -> Result<(), Refusal> {
        let room = self.world.until(deadline, self.store.room()).await;
        room.map_err(|_| Refusal::Waiting(self.config.server))
    }

    /// Orders and applies in one step, so that what is applied is in order.
    fn admit(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        ticket: &Ticket,
        change: &Change,
    ) -> Result<Admission, Refusal> {
        let hashes = self.hashes(seat.group);
        let (admission, applied) = {
            let mut machine = seat.machine.lock();
            // Looked up under the lock: who learns of a fence passes through it afterwards.
            self.live()?;
            let fenced =
                self.fences.read().contains(&ticket.writer.session) && !bug::on(Bug::AdmitFenced);
            let version = |block| self.store.version(block).map_err(|error| self.refuse(&error));
            let admission = machine.admit(chain, ticket, change, fenced, version);
            let applied = match admission {
                Admission::New(order) => {
                    self.store.apply(hashes, change, BlockVersion { chain, order })
                }
                _ => Ok(()),
            };
            (admission, applied)
        };
        applied.map_err(|error| self.refuse(&error))?;
        Ok(admission)
    }

    /// Sees an ordered mutation through: committed here if it must be, and on all other members.
    async fn see_through(self: Arc<Self>, seat: Arc<Seat>, link: Link) {
        let commit = self.commit(&link.change);
        if bug::on(Bug::AnswerBeforeTail) {
            seat.machine.lock().settled(link.chain, link.order);
            seat.moved();
        }
        let (committed, passed) = join(commit, self.pass_until_done(&seat, &link)).await;
        if let Err(error) = committed {
            self.refuse(&error);
            return;
        }
        if passed {
            seat.machine.lock().settled(link.chain, link.order);
            seat.moved();
        }
    }

    fn commit(&self, change: &Change) -> Committing {
        match durable(change) {
            Some(chunk) => self.store.commit(vec![chunk]),
            None => Box::pin(ready(Ok(()))),
        }
    }

    /// Repeats until the members after this one have it, or the chain has changed (`false`).
    async fn pass_until_done(&self, seat: &Seat, link: &Link) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            if seat.machine.lock().at(link.chain).is_err()
                || self.authority.lock().stopped.is_some()
            {
                return false;
            }
            let deadline = self.world.clock.now() + ATTEMPT;
            match self.pass(seat, link, deadline).await {
                Ok(()) => {
                    *seat.stuck.lock() = None;
                    return true;
                }
                Err(refusal) => {
                    if let Refusal::Waiting(server) = refusal {
                        *seat.stuck.lock() = Some(server);
                    }
                    tracing::debug!(group = seat.group.0, %refusal, "a mutation waits");
                }
            }
            self.world.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Gives a mutation to the next member, if there is one.
    async fn pass(&self, seat: &Seat, link: &Link, deadline: Time) -> Result<(), Refusal> {
        let next = {
            let machine = seat.machine.lock();
            machine.at(link.chain)?;
            match machine.successor() {
                None => return Ok(()),
                Some(next) => next.clone(),
            }
        };
        let request = Request::Forward {
            group: seat.group,
            chain: link.chain,
            order: link.order,
            ticket: link.ticket,
            change: link.change.clone(),
        };
        match self.peer(&next).call(request, deadline).await {
            Ok(Reply::Done { .. }) => Ok(()),
            Ok(Reply::Refused(waiting @ Refusal::Waiting(_))) => Err(waiting),
            Ok(other) => {
                tracing::debug!(server = next.server.0, ?other, "the next member refuses");
                Err(Refusal::Waiting(next.server))
            }
            Err(lost) => {
                tracing::debug!(server = next.server.0, %lost, "the next member does not answer");
                Err(Refusal::Waiting(next.server))
            }
        }
    }

    /// Waits until the head has settled `order`.
    async fn settled(
        &self,
        seat: &Seat,
        chain: ChainVersion,
        order: Order,
        deadline: Time,
    ) -> Result<Reply, Refusal> {
        let mut moved = seat.moved.subscribe();
        let wait = moved.wait_for(|_| {
            let machine = seat.machine.lock();
            machine.at(chain).is_err()
                || !machine.is_open(chain, order)
                || self.authority.lock().stopped.is_some()
        });
        if self.world.until(deadline, wait).await.is_err() {
            return Err(Refusal::Waiting(seat.stuck.lock().unwrap_or(self.config.server)));
        }
        seat.machine.lock().at(chain)?;
        if self.authority.lock().stopped.is_some() {
            return Err(Refusal::Stopped(self.config.server));
        }
        Ok(Reply::Done { chain })
    }

    /// A mutation from the predecessor.
    pub(super) async fn forward(
        self: &Arc<Self>,
        group: Group,
        link: Link,
        deadline: Time,
    ) -> Result<Reply, Refusal> {
        link.change.check()?;
        let seat = self.seat(group)?;
        self.room(deadline).await?;
        let known = self.receive(&seat, &link, deadline).await?;
        if known
            && durable(&link.change).is_none()
            && seat.machine.lock().is_complete(link.chain, link.order)
        {
            return Ok(Reply::Done { chain: link.chain });
        }
        let commit = self.commit(&link.change);
        let (committed, passed) = join(commit, self.pass(&seat, &link, deadline)).await;
        committed.map_err(|error| self.refuse(&error))?;
        passed?;
        let mut machine = seat.machine.lock();
        machine.at(link.chain)?;
        machine.reached_tail(link.order);
        drop(machine);
        seat.moved();
        Ok(Reply::Done { chain: link.chain })
    }

    /// Applies a forwarded mutation when its turn has come; returns whether it was known.
    async fn receive(&self, seat: &Seat, link: &Link, deadline: Time) -> Result<bool, Refusal> {
        let hashes = self.hashes(seat.group);
        let mut moved = seat.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let (receipt, applied) = {
                let mut machine = seat.machine.lock();
                self.live()?;
                let receipt = machine.receive(link.chain, link.order, &link.ticket, &link.change);
                let applied = match receipt {
                    Receipt::Apply => self.store.apply(hashes, &link.change, link.version()),
                    _ => Ok(()),
                };
                (receipt, applied)
            };
            applied.map_err(|error| self.refuse(&error))?;
            match receipt {
                Receipt::Refused(refusal) => return Err(refusal),
                Receipt::Known => return Ok(true),
                Receipt::Apply => {
                    seat.moved();
                    return Ok(false);
                }
                Receipt::Early => {
                    let soon = deadline.min(self.world.clock.now() + EARLY);
                    let next = self.world.until(soon, moved.changed()).await;
                    if !matches!(next, Ok(Ok(()))) {
                        return Err(Refusal::NotReady);
                    }
                }
            }
        }
    }
}
