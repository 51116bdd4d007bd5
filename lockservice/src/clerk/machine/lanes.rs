//! The clerk and several shards: to each goes a lane of numbered batches, from each comes a stream.
//!
//! A group is asked for at the shard that the clerk believes in, which changes only when another shard
//! tells, by a later move, all that the session has of the group; what the shard before still says of
//! it is then past. While a batch with asks for the group is on its way to the old shard nobody knows
//! yet whether it was done, so the clerk does not believe the new one before that is answered: it
//! listens again. Each batch says for its groups by which move the clerk knows them, and is refused if
//! that is not the last: so what it asks is never done before what the gainer told of the group has been
//! heard. A batch that is refused because of one group was refused as a whole; its asks go back
//! to the head of the queue, so that those for one group never change places.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, BATCH, Batch, Effect, Machine, Question};
use crate::{
    bug::{Bug, seeded},
    clerk::held::Holdings,
    group::{LockGroup, MoveId, Shard},
    locks::Held,
    message::{Acquire, Ask, Event, Seq, Ticket, View},
    name::{Grant, Mode, Name, Span},
};

/// What is on its way to a shard, and what is known to have been done there.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) in_flight: Option<Batch>,
    sent: Seq,
    /// The last batch that is known to be applied.
    applied: Seq,
    /// The last batch known to be applied when listening began: no snapshot may be older.
    floor: Seq,
    /// Batches that were applied since: the snapshot may or may not show them. `None` when it came.
    recent: Option<Vec<Batch>>,
}

/// Where the groups are, as far as the clerk knows; all others are at home.
#[derive(Default)]
pub(super) struct Atlas {
    shards: u32,
    views: BTreeMap<LockGroup, (MoveId, Shard)>,
    /// Groups that are on their way: nothing is asked before the shard that gained them by this move, or
    /// by a later one, has spoken.
    blocked: BTreeMap<LockGroup, MoveId>,
}

impl Atlas {
    fn view(&self, group: LockGroup) -> (MoveId, Shard) {
        self.views.get(&group).copied().unwrap_or_default()
    }

    /// Whether there is but one shard, as far as is known.
    pub(super) fn is_plain(&self) -> bool {
        self.shards <= 1 && self.views.is_empty() && self.blocked.is_empty()
    }

    /// Whether what `shard` says of `span` still counts.
    pub(super) fn believes(&self, shard: Shard, span: Span) -> bool {
        seeded(Bug::LoserBelieved) || self.view(LockGroup::of(span.start())).1 == shard
    }

    /// Where a group can be asked for now.
    fn route(&self, group: LockGroup) -> Option<Shard> {
        (!self.blocked.contains_key(&group)).then(|| self.view(group).1)
    }

    /// Where all of a span can be asked for.
    fn route_span(&self, span: Span) -> Option<Shard> {
        match LockGroup::only(span) {
            Some(group) => self.route(group),
            // What spans several groups was given at home before there were other shards.
            None => Some(Shard::HOME),
        }
    }
}

/// The groups that a snapshot tells of; `None`: all.
type Covered = Option<BTreeSet<LockGroup>>;

fn covers(covered: &Covered, span: Span) -> bool {
    covered.as_ref().is_none_or(|groups| LockGroup::touched(span).is_subset(groups))
}

/// What a shard says that the session has.
pub(super) struct Told<'a> {
    pub(super) held: &'a [Held],
    pub(super) waiting: &'a [Ticket],
}

fn about(ask: &Ask, group: LockGroup) -> bool {
    groups_of(ask).contains(&group)
}

/// The groups that an ask is about.
fn groups_of(ask: &Ask) -> BTreeSet<LockGroup> {
    match ask {
        Ask::Acquire(acquire) => LockGroup::touched(acquire.need),
        Ask::Release(held) | Ask::Downgrade(held) => LockGroup::touched(held.span),
        Ask::Hint { names, .. } => names.iter().map(|name| LockGroup::of(*name)).collect(),
        Ask::Cancel(_) | Ask::Able | Ask::Claim { .. } | Ask::Seen(_) | Ask::At(..) => {
            BTreeSet::new()
        }
    }
}

impl Machine {
    /// Where an ask goes; nowhere for now if its group is on its way.
    fn route(&self, ask: &Ask) -> Option<Shard> {
        if self.atlas.is_plain() {
            return Some(Shard::HOME);
        }
        match ask {
            Ask::Acquire(acquire) => self.atlas.route_span(acquire.need),
            Ask::Release(held) | Ask::Downgrade(held) => self.atlas.route_span(held.span),
            Ask::Hint { names, .. } => {
                names.first().and_then(|name| self.atlas.route(LockGroup::of(*name)))
            }
            Ask::Cancel(ticket) => match self.questions.get(ticket).and_then(|q| q.need) {
                Some(need) => self.atlas.route_span(need),
                None => Some(Shard::HOME),
            },
            Ask::Able | Ask::Claim { .. } | Ask::Seen(_) | Ask::At(..) => Some(Shard::HOME),
        }
    }

    /// Names by the shard that can be asked for them now.
    pub(super) fn by_shard(&self, names: Vec<Name>) -> BTreeMap<Shard, Vec<Name>> {
        let mut by: BTreeMap<Shard, Vec<_>> = BTreeMap::new();
        for name in names {
            if let Some(shard) = self.atlas.route(LockGroup::of(name)) {
                by.entry(shard).or_default().push(name);
            }
        }
        by
    }

    /// The batch that is to be sent to a shard, or sent again.
    pub fn batch(&mut self, shard: Shard) -> Option<Batch> {
        let free = self.lanes.get(&shard).is_none_or(|lane| lane.in_flight.is_none());
        if free && !self.queue.is_empty() && self.over.is_none() {
            let mut asks = self.take_asks(shard);
            if !asks.is_empty() {
                if !self.atlas.is_plain() {
                    let groups: BTreeSet<LockGroup> = asks.iter().flat_map(groups_of).collect();
                    let at = groups.into_iter().map(|group| (group, self.atlas.view(group).0));
                    let at = at.filter(|(_, by)| *by > MoveId(0));
                    let mut first = vec![Ask::Seen(self.newest)];
                    first.extend(at.map(|(group, by)| Ask::At(group, by)));
                    asks.splice(0..0, first);
                }
                let lane = self.lanes.entry(shard).or_default();
                lane.sent.0 += 1;
                lane.in_flight = Some((lane.sent, asks.into()));
            }
        }
        self.lanes.get(&shard).and_then(|lane| lane.in_flight.clone())
    }

    fn take_asks(&mut self, shard: Shard) -> Vec<Ask> {
        if self.atlas.is_plain() {
            let rest = self.queue.split_off(self.queue.len().min(BATCH));
            return std::mem::replace(&mut self.queue, rest);
        }
        let (mut asks, mut rest) = (Vec::new(), Vec::new());
        for ask in std::mem::take(&mut self.queue) {
            if asks.len() < BATCH && self.route(&ask) == Some(shard) {
                asks.push(ask);
            } else {
                rest.push(ask);
            }
        }
        self.queue = rest;
        asks
    }

    /// The batch was applied.
    pub fn acked(&mut self, shard: Shard, seq: Seq) {
        let Some(lane) = self.lanes.get_mut(&shard) else { return };
        if let Some(batch) = lane.in_flight.take_if(|(sent, _)| *sent == seq) {
            lane.applied = seq;
            if let Some(recent) = &mut lane.recent {
                recent.push(batch);
            }
        }
    }

    /// The batch was refused as a whole: a group of it is not served there, since move `by`.
    pub fn refused_batch(
        &mut self,
        shard: Shard,
        seq: Seq,
        (group, by): (LockGroup, MoveId),
    ) -> Vec<Effect> {
        let lane = self.lanes.get_mut(&shard);
        let batch = lane.and_then(|lane| lane.in_flight.take_if(|(sent, _)| *sent == seq));
        let Some((_, asks)) = batch else { return Vec::new() };
        let asks = asks.iter().filter(|ask| !matches!(ask, Ask::Seen(_) | Ask::At(..))).cloned();
        self.queue.splice(0..0, asks.collect::<Vec<Ask>>());
        if self.atlas.view(group).0 < by {
            let blocked = self.atlas.blocked.entry(group).or_default();
            *blocked = by.max(*blocked);
        }
        let mut effects = self.drop_hints(group);
        effects.push(Effect::Send);
        effects
    }

    /// A stream is about to be opened: its snapshot shows all that is known to be applied now.
    pub fn listening(&mut self, shard: Shard) {
        let lane = self.lanes.entry(shard).or_default();
        lane.floor = lane.applied;
        lane.recent = Some(Vec::new());
    }

    /// Whether a stream says something whose snapshot was refused: all of it belongs to that snapshot, and
    /// comes again after the next.
    pub(super) fn is_unheard(&self, shard: Shard, event: &Event) -> bool {
        let begun = matches!(event, Event::Snapshot { .. } | Event::Ended);
        !begun && self.lanes.get(&shard).is_some_and(|lane| lane.recent.is_some())
    }

    /// There are so many shards.
    pub(super) fn grown(&mut self, shards: u32) -> Vec<Effect> {
        if shards <= self.atlas.shards.max(1) || shards > Shard::MOST {
            return Vec::new();
        }
        self.atlas.shards = shards;
        vec![Effect::Shards(shards)]
    }

    /// Hints for names of a group that goes elsewhere get nothing: they never wait.
    fn drop_hints(&mut self, group: LockGroup) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut gone = Vec::new();
        self.queue.retain(|ask| match ask {
            Ask::Hint { ticket, .. } if about(ask, group) => {
                gone.push(*ticket);
                false
            }
            _ => true,
        });
        for ticket in gone {
            if let Some(question) = self.questions.remove(&ticket) {
                effects.extend(self.answer(ticket, &question));
            }
        }
        effects
    }

    fn is_in_flight(&self, group: LockGroup) -> bool {
        let mut asks = self.lanes.values().filter_map(|lane| lane.in_flight.as_ref());
        asks.any(|(_, asks)| asks.iter().any(|ask| about(ask, group)))
    }

    /// From here on the clerk believes what `shard` says of the group.
    fn switch(&mut self, group: LockGroup, by: MoveId, shard: Shard) -> Vec<Effect> {
        self.atlas.views.insert(group, (by, shard));
        self.atlas.blocked.retain(|blocked, until| *blocked != group || *until > by);
        let mut effects = self.drop_hints(group);
        effects.push(Effect::Send);
        effects
    }

    /// Makes what is known equal to what a shard says, plus what is still on its way there.
    pub(super) fn snapshot(
        &mut self,
        shard: Shard,
        (seq, newest): (Seq, Grant),
        view: Option<View>,
        told: &Told<'_>,
    ) -> Vec<Effect> {
        let lane = self.lanes.entry(shard).or_default();
        if seq < lane.floor {
            return vec![Effect::Stale(shard)];
        }
        let mut effects = Vec::new();
        let covered = match view {
            None => None,
            Some(view) => {
                let news = view.here.iter().filter(|(group, by)| *by > self.atlas.view(*group).0);
                let news: Vec<(LockGroup, MoveId)> = news.copied().collect();
                if news.iter().any(|(group, _)| self.is_in_flight(*group)) {
                    return vec![Effect::Stale(shard)];
                }
                effects.extend(self.grown(view.shards));
                for (group, by) in news {
                    effects.extend(self.switch(group, by, shard));
                }
                let believed = view
                    .here
                    .into_iter()
                    .filter(|(group, by)| self.atlas.view(*group) == (*by, shard));
                Some(believed.map(|(group, _)| group).collect())
            }
        };
        self.newest = self.newest.max(newest);
        let lane = self.lanes.entry(shard).or_default();
        let unseen = lane.recent.take().into_iter().flatten().chain(lane.in_flight.clone());
        let mut pending: Vec<Ask> =
            unseen.filter(|(sent, _)| *sent > seq).flat_map(|(_, asks)| asks.to_vec()).collect();
        pending.extend(self.queue.iter().cloned());
        effects.extend(self.replace((shard, covered), &pending, told, true));
        effects
    }

    /// A shard serves a group from here on.
    pub(super) fn adopted(
        &mut self,
        shard: Shard,
        (group, by): (LockGroup, MoveId),
        told: &Told<'_>,
    ) -> Vec<Effect> {
        if by <= self.atlas.view(group).0 {
            return Vec::new();
        }
        if self.is_in_flight(group) {
            return vec![Effect::Stale(shard)];
        }
        let mut effects = self.switch(group, by, shard);
        let pending = self.queue.clone();
        let covered = Some(BTreeSet::from([group]));
        effects.extend(self.replace((shard, covered), &pending, told, false));
        effects
    }

    /// What is known of the groups that are covered becomes what was told, less what is still to be
    /// given back; and what is no longer open there is answered.
    fn replace(
        &mut self,
        (shard, covered): (Shard, Covered),
        pending: &[Ask],
        told: &Told<'_>,
        whole: bool,
    ) -> Vec<Effect> {
        let mut now = Holdings::default();
        for held in told.held.iter().filter(|held| covers(&covered, held.span)) {
            now.set(*held, self.now);
            if held.mode == Mode::Exclusive {
                // Perhaps it was given at another shard, which could not tell any more.
                self.newest = self.newest.max(held.grant);
            }
        }
        let (mut unasked, mut cancelled) = (Vec::new(), Vec::new());
        for ask in pending {
            match ask {
                Ask::Release(gone) => now.change(gone, None, self.now),
                Ask::Downgrade(less) => now.change(less, Some(Mode::Shared), self.now),
                Ask::Acquire(Acquire { ticket, .. })
                | Ask::Hint { ticket, .. }
                | Ask::Claim { ticket, .. } => unasked.push(*ticket),
                Ask::Cancel(ticket) => cancelled.push(*ticket),
                Ask::Able | Ask::Seen(_) | Ask::At(..) => {}
            }
        }
        let known: Vec<Held> =
            self.held.all().into_iter().filter(|old| covers(&covered, old.span)).collect();
        let lost = known.iter().find(|old| now.covers(old.span, old.mode).is_none());
        if let Some(lost) = lost {
            tracing::error!(?lost, "the lock service no longer knows of a lock; session given up");
            return self.end(crate::error::Error::Expired);
        }
        if covered.is_none() {
            self.held = now;
        } else {
            known.iter().for_each(|old| self.held.remove(old.span));
            now.all().into_iter().for_each(|held| self.held.set(held, self.now));
        }
        let settled: Vec<Ticket> = self
            .questions
            .iter()
            .filter(|(_, question)| match question.need {
                Some(need) => covers(&covered, need),
                None => whole && question.shard == shard,
            })
            .map(|(ticket, _)| *ticket)
            .filter(|ticket| !unasked.contains(ticket) && !told.waiting.contains(ticket))
            .collect();
        let mut effects = vec![Effect::Changed];
        if whole && shard == Shard::HOME {
            effects.extend(self.ask_again(&unasked, told.waiting));
        }
        if covered.is_some() {
            effects.extend(self.cancel_again(&cancelled, told.waiting));
        }
        for ticket in settled {
            if let Some(question) = self.questions.remove(&ticket) {
                effects.extend(self.answer(ticket, &question));
            }
        }
        effects
    }

    /// A cancel that reached a shard after it had lost the group did nothing there.
    fn cancel_again(&mut self, cancelled: &[Ticket], waiting: &[Ticket]) -> Vec<Effect> {
        let open = |ticket: &&Ticket| {
            !cancelled.contains(ticket) && self.questions.get(ticket).is_some_and(|q| q.cancelled)
        };
        let again: Vec<Ask> = waiting.iter().filter(open).map(|t| Ask::Cancel(*t)).collect();
        let sends = if again.is_empty() { Vec::new() } else { vec![Effect::Send] };
        self.queue.extend(again);
        sends
    }

    /// The answer that follows from what is held. The pin is made here, before any later revoke
    /// can be looked at: it is the least time that a fresh grant is held.
    pub(super) fn answer(&mut self, ticket: Ticket, question: &Question) -> Vec<Effect> {
        if question.cancelled {
            return vec![Effect::Changed];
        }
        let answer = match question.need {
            None => Answer::Hinted,
            // A part that was held before may be on its way out: a pin comes too late for it.
            Some(need) => match self.held.covers(need, question.mode) {
                Some(held) if !self.is_going(need) => Answer::Granted(self.pin(need), held),
                Some(_) | None => Answer::Refused,
            },
        };
        vec![Effect::Answer(ticket, answer), Effect::Changed]
    }

    /// Nothing more is sent.
    pub(super) fn stop_lanes(&mut self) {
        self.queue.clear();
        for lane in self.lanes.values_mut() {
            lane.in_flight = None;
        }
    }

    /// How many shards there are, as far as is known.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.atlas.shards.max(1)
    }
}
