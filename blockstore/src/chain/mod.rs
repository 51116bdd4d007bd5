//! One member's part in the chain of one group, as a pure machine: which mutation is ordered or
//! applied next, which are complete, what a read may see, when the chain serves. Disk, network,
//! time and leases are not known here; the block server asks and does what the answers say.
//!
//! The head numbers mutations within a chain version from 1; every member applies them in that
//! order, in memory, and passes them on; what the tail has is complete. A member that has applied
//! what the tail may not have yet does not show it (`Machine::dirty`). A new chain version ends
//! what is under way: its members are made equal first, clients send again what had no answer, and
//! what any deciding member had applied counts as done.

pub(crate) mod reconcile;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use seen::Known;
use seen::SeenTable;

use crate::{
    bug::{self, Bug},
    disk::Fence,
    link::{Chain, Member, Standing},
    message::{BlockContent, Change, Refusal, Seen, Swept, Ticket, Write},
    place::{BlockId, BlockVersion, ChainVersion, Incarnation, Order, ServerId, Volume},
};

/// Whether the member serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No member, or not of this start.
    Out,
    /// Being brought what it lacks, outside the chain.
    Joining,
    /// A member until it heard of this version: it serves nothing, and gives what it has.
    Leaving,
    /// The members are being made equal (by the head).
    Equalizing,
    /// Yes.
    Serving,
}

/// What the head does with a mutation of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// Apply it under this order, now, and see it through.
    New(Order),
    /// It is on its way already: wait for this order.
    Wait(Order),
    /// It was done before.
    Done,
    /// No.
    Refused(Refusal),
}

/// What a member does with a mutation from its predecessor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Receipt {
    /// Apply it now, then pass it on.
    Apply,
    /// One before it has not come yet: wait.
    Early,
    /// It is applied already; it may still have to be passed on.
    Known,
    /// No.
    Refused(Refusal),
}

/// A mutation under way at this member.
#[derive(Clone, Debug)]
struct Pending {
    ticket: Ticket,
    volume: Volume,
    /// First and last byte.
    span: (u64, u64),
    discard: bool,
}

/// One member's part in a chain.
pub(crate) struct Machine {
    me: ServerId,
    incarnation: Incarnation,
    chain: Option<Chain>,
    phase: Phase,
    /// The last order that was applied here.
    applied: Order,
    /// The last order that the tail is known to have.
    complete: Order,
    pending: BTreeMap<Order, Pending>,
    /// At the head: orders that were given and whose answer is not known yet.
    open: BTreeMap<Order, Ticket>,
    seen: SeenTable,
    /// Discards applied under older versions that others may lack. They leave no block to compare.
    swept: Vec<Swept>,
    /// Blocks brought to a member that has everything acknowledged, until the chain serves.
    staged: BTreeMap<BlockId, BlockContent>,
}

impl Machine {
    pub(crate) fn new(me: ServerId, incarnation: Incarnation) -> Self {
        Self {
            me,
            incarnation,
            chain: None,
            phase: Phase::Out,
            applied: Order(0),
            complete: Order(0),
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            seen: SeenTable::default(),
            swept: Vec::new(),
            staged: BTreeMap::new(),
        }
    }

    pub(crate) fn version(&self) -> ChainVersion {
        self.chain.as_ref().map_or(ChainVersion(0), |chain| chain.version)
    }

    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The server goes on as a new incarnation, with all that it has. The next row tells its part.
    pub(crate) fn reborn(&mut self, incarnation: Incarnation) {
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.phase = Phase::Out;
        }
    }

    fn is_me(&self, member: &Member) -> bool {
        member.server == self.me && member.incarnation == self.incarnation
    }

    /// The place in the chain, of those that serve.
    fn place(&self) -> Option<usize> {
        self.chain.as_ref()?.serving().position(|member| self.is_me(member))
    }

    /// What the map says that this member has.
    fn standing(&self) -> Option<Standing> {
        let mut members = self.chain.as_ref()?.members.iter();
        members.find(|member| self.is_me(member)).map(|member| member.standing)
    }

    pub(crate) fn is_head(&self) -> bool {
        self.place() == Some(0)
    }

    pub(crate) fn is_tail(&self) -> bool {
        self.chain.as_ref().and_then(|chain| chain.serving().last()).is_some_and(|m| self.is_me(m))
    }

    /// A row of the map. Returns whether the version is new here; then everything that was under
    /// way is over, and who waits for it must look again.
    pub(crate) fn install(&mut self, chain: Chain) -> bool {
        if chain.version < self.version() {
            return false;
        }
        let (before, new) = (self.version(), chain.version > self.version());
        let equal = chain.equal;
        self.chain = Some(chain);
        if !new {
            // A member's part changes with versions only; who is brought what it lacks may change.
            if self.standing().is_none() {
                self.phase = self.outside();
            }
            return false;
        }
        // What was applied here will be on all members once they are equal.
        for (order, pending) in std::mem::take(&mut self.pending) {
            self.seen.done(&pending.ticket);
            if pending.discard {
                let (volume, (first, last)) = (pending.volume, pending.span);
                let version = BlockVersion { chain: before, order };
                self.swept.push(Swept { volume, first, last, version });
            }
        }
        for ticket in std::mem::take(&mut self.open).into_values() {
            self.seen.done(&ticket);
        }
        self.staged.clear();
        self.applied = Order(0);
        self.complete = Order(0);
        self.phase = match self.standing() {
            None => self.outside(),
            Some(Standing::Leaving) => Phase::Leaving,
            Some(_) if equal => Phase::Serving,
            Some(_) => Phase::Equalizing,
        };
        if matches!(self.standing(), None | Some(Standing::Syncing)) {
            // What was applied here and nowhere else is lost: it must not count as done.
            self.seen = SeenTable::default();
            self.swept.clear();
        }
        if self.phase == Phase::Serving {
            self.swept.clear();
        }
        true
    }

    fn outside(&self) -> Phase {
        let joiner = self.chain.as_ref().and_then(|chain| chain.joiner.as_ref());
        if joiner.is_some_and(|joiner| self.is_me(joiner)) { Phase::Joining } else { Phase::Out }
    }

    /// Whether this server keeps nothing of the group any more: others serve it without.
    pub(crate) fn is_done_with(&self) -> bool {
        self.chain.as_ref().is_some_and(|chain| {
            let member = chain.members.iter().any(|member| member.server == self.me);
            chain.equal && !member && !chain.spare.contains(&self.me)
        })
    }

    /// Whether this member is at chain version `chain`, whatever its phase.
    pub(crate) fn at(&self, chain: ChainVersion) -> Result<(), Refusal> {
        let other = chain != self.version() && !bug::on(Bug::IgnoreVersion);
        if self.chain.is_none() || other || self.phase == Phase::Out {
            return Err(Refusal::Stale(self.version()));
        }
        Ok(())
    }

    /// Whether this member serves chain version `chain`.
    pub(crate) fn serves(&self, chain: ChainVersion) -> Result<(), Refusal> {
        self.at(chain)?;
        if self.phase == Phase::Serving { Ok(()) } else { Err(Refusal::NotReady) }
    }

    /// At the head: a client's mutation. `fenced`: its session is. `version` tells a block's version,
    /// for a conditional write: everything ordered so far is applied.
    pub(crate) fn admit(
        &mut self,
        chain: ChainVersion,
        ticket: &Ticket,
        change: &Change,
        fenced: bool,
        version: impl FnOnce(BlockId) -> Result<BlockVersion, Refusal>,
    ) -> Admission {
        if let Err(refusal) = self.serves(chain) {
            return Admission::Refused(refusal);
        }
        if !self.is_head() {
            return Admission::Refused(Refusal::Misplaced);
        }
        if fenced {
            return Admission::Refused(Refusal::Fenced(ticket.writer.session));
        }
        match self.seen.look(ticket) {
            Known::Below => Admission::Refused(Refusal::Answered),
            Known::Done => Admission::Done,
            Known::Ordered(order) => Admission::Wait(order),
            Known::New => {
                if let Change::Write(Write { condition: Some(wanted), volume, offset, .. }) = change
                {
                    match version(BlockId::holding(*volume, *offset)) {
                        Ok(version) if version == *wanted => {}
                        Ok(version) => return Admission::Refused(Refusal::Changed(version)),
                        Err(refusal) => return Admission::Refused(refusal),
                    }
                }
                let order = Order(self.applied.0 + 1);
                self.take(order, ticket, change);
                self.open.insert(order, *ticket);
                Admission::New(order)
            }
        }
    }

    /// Whether a mutation was ordered before, or answered.
    pub(crate) fn knows(&mut self, ticket: &Ticket) -> bool {
        self.seen.look(ticket) != Known::New
    }

    /// At the others: a mutation from the predecessor.
    pub(crate) fn receive(
        &mut self,
        chain: ChainVersion,
        order: Order,
        ticket: &Ticket,
        change: &Change,
    ) -> Receipt {
        if let Err(refusal) = self.serves(chain) {
            return Receipt::Refused(refusal);
        }
        if self.is_head() {
            return Receipt::Refused(Refusal::Misplaced);
        }
        if order <= self.applied {
            return Receipt::Known;
        }
        if order.0 != self.applied.0 + 1 {
            return Receipt::Early;
        }
        self.take(order, ticket, change);
        if self.is_tail() {
            self.reached_tail(order);
        }
        Receipt::Apply
    }

    fn take(&mut self, order: Order, ticket: &Ticket, change: &Change) {
        self.seen.ordered(ticket, order);
        self.applied = order;
        let (volume, span, discard) = match change {
            Change::Write(write) => {
                let last = write.offset.saturating_add((write.body.len() as u64).saturating_sub(1));
                (write.volume, (write.offset, last), false)
            }
            Change::Discard(discard) => {
                let last = discard.offset.saturating_add(discard.length.saturating_sub(1));
                (discard.volume, (discard.offset, last), true)
            }
        };
        self.pending.insert(order, Pending { ticket: *ticket, volume, span, discard });
    }

    /// The tail has `order`, hence all before it.
    pub(crate) fn reached_tail(&mut self, order: Order) {
        self.complete = self.complete.max(order);
        let later = self.pending.split_off(&Order(order.0 + 1));
        for (order, pending) in std::mem::replace(&mut self.pending, later) {
            // At the head, a mutation is done when it is answered: it may have to be durable.
            if !self.open.contains_key(&order) {
                self.seen.done(&pending.ticket);
            }
        }
    }

    /// At the head: `order` is on all members, as durably as was asked for.
    pub(crate) fn settled(&mut self, chain: ChainVersion, order: Order) {
        if chain != self.version() {
            return;
        }
        if let Some(ticket) = self.open.remove(&order) {
            self.seen.done(&ticket);
        }
        self.reached_tail(order);
    }

    /// At the head: whether `order` still waits to be settled.
    pub(crate) fn is_open(&self, chain: ChainVersion, order: Order) -> bool {
        chain == self.version() && self.open.contains_key(&order)
    }

    /// Whether the tail is known to have `order`.
    pub(crate) fn is_complete(&self, chain: ChainVersion, order: Order) -> bool {
        chain == self.version() && order <= self.complete
    }

    /// The last mutation over these bytes that the tail may not have yet.
    pub(crate) fn dirty(&self, volume: Volume, offset: u64, length: u32) -> Option<Order> {
        let last = offset.saturating_add(u64::from(length).saturating_sub(1));
        self.pending
            .iter()
            .rev()
            .find(|(_, pending)| {
                pending.volume == volume && pending.span.0 <= last && offset <= pending.span.1
            })
            .map(|(order, _)| *order)
    }

    pub(crate) fn applied(&self) -> Order {
        self.applied
    }

    /// What is remembered of writers, for the other members.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.list()
    }

    /// Discards that this member may have applied alone.
    pub(crate) fn swept(&self) -> Vec<Swept> {
        self.swept.clone()
    }

    /// A block that the head brings. Given back if it takes effect at once. Else it does so when the
    /// chain is equal, together with the others and with what is remembered of writers: until then
    /// this member may become the last one that has everything, and would take a retry of what it was
    /// brought for something new.
    pub(crate) fn stage(&mut self, block: BlockId, content: BlockContent) -> Option<BlockContent> {
        if self.phase != Phase::Equalizing || self.standing() != Some(Standing::Serving) {
            return Some(content);
        }
        self.staged.insert(block, content);
        None
    }

    /// All members are equal but for what was staged at them, which takes effect now, and know `seen`.
    pub(crate) fn settle(
        &mut self,
        chain: ChainVersion,
        seen: &[Seen],
    ) -> Result<BTreeMap<BlockId, BlockContent>, Refusal> {
        self.at(chain)?;
        if self.phase == Phase::Equalizing {
            self.seen.merge(seen);
        }
        Ok(std::mem::take(&mut self.staged))
    }

    /// All of that is on stable storage: this member serves.
    pub(crate) fn serve(&mut self, chain: ChainVersion) -> Result<(), Refusal> {
        self.at(chain)?;
        if self.phase == Phase::Equalizing {
            self.phase = Phase::Serving;
            self.swept.clear();
        }
        Ok(())
    }

    /// Nothing of a fenced session is under way here, and, as far as this member heads the chain,
    /// nothing of it can come to be (it must be refused from now on).
    pub(crate) fn is_quiet(&mut self, session: Fence) -> bool {
        // While members are made equal nothing is read; what they are then, they stay.
        if self.phase != Phase::Serving || !self.is_head() || bug::on(Bug::ConfirmAtOnce) {
            return true;
        }
        let of_session = |ticket: &Ticket| ticket.writer.session == session;
        let quiet = !self.open.values().any(of_session)
            && !self.pending.values().any(|pending| of_session(&pending.ticket));
        if quiet {
            self.seen.drop_session(session);
        }
        quiet
    }

    /// Whether nothing is under way here.
    pub(crate) fn is_idle(&self) -> bool {
        let quiet = self.open.is_empty() && self.pending.is_empty();
        self.phase == Phase::Out || (quiet && self.phase != Phase::Equalizing)
    }

    /// The members after this one.
    pub(crate) fn successor(&self) -> Option<&Member> {
        let place = self.place()?;
        self.chain.as_ref()?.serving().nth(place + 1)
    }

    /// The last member.
    pub(crate) fn tail(&self) -> Option<&Member> {
        self.chain.as_ref()?.serving().last()
    }
}
