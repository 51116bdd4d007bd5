//! Several shards: home records which group lies where and tells the other shards what became of sessions;
//! a group's grants and waiters go from one table to another.
//!
//! Each command can come twice, late, or from a leader that was deposed. What a shard is told of
//! sessions only ever goes one way (met, dead, gone), and what it is told of a group names the move.

use std::collections::BTreeMap;

use super::{
    Session, State, Table,
    pieces::Hold,
    queue::Waiter,
    slots::{Slot, Standing},
};
use crate::{
    bug::{Bug, seeded},
    group::{LockGroup, MoveId, Shard},
    locks::Held,
    message::{
        Assignment, Client, Estate, Event, GroupCommand, GroupReply, Kind, LoadRow, News, Part,
        Seq, Ticket, View,
    },
    name::{Grant, Name, SessionId, Span},
};

/// The name behind all names.
const END: Name = Name(u64::MAX);

fn everything() -> Span {
    Span::new(Name(0), END).expect("it is not empty")
}

impl Table {
    /// An empty table for a shard; that of home serves every group at first, others none.
    #[must_use]
    pub fn of(shard: Shard) -> Self {
        let mut table = Self::default();
        table.slots.shard = shard;
        table
    }

    /// Which shard this table is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.slots.shard
    }

    /// Where every group lies; only home knows.
    #[must_use]
    pub fn assignment(&self) -> Assignment {
        self.directory.rows()
    }

    /// How many shards there are; only home knows.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.directory.shards
    }

    pub(super) fn group(&mut self, command: GroupCommand) -> GroupReply {
        let home = self.shard() == Shard::HOME;
        match command {
            GroupCommand::Shards(shards) if home => {
                let before = self.directory.shards;
                let reply = self.directory.grow(shards);
                if self.directory.shards > before {
                    self.tell_all(|_, table| Event::Shards(table.directory.shards));
                }
                reply
            }
            GroupCommand::Move { group, to } if home => self.directory.begin(group, to),
            GroupCommand::Placed { group, by } if home => self.directory.placed(group, by),
            GroupCommand::Ended(sessions) if home => {
                self.sessions.retain(|id, row| row.state != State::Over || !sessions.contains(id));
                GroupReply::Done
            }
            GroupCommand::News(news) if !home => self.news(news),
            GroupCommand::Freeze { group, by } => self.freeze_group(group, by),
            GroupCommand::Adopt { group, by, part } => self.adopt(group, by, part),
            GroupCommand::Forget { group, by } => self.forget_group(group, by),
            _ => GroupReply::Refused,
        }
    }

    /// What a stream begins with, once there is more than one shard.
    pub(crate) fn view(&self) -> Option<View> {
        let home = self.shard() == Shard::HOME;
        let shards = if home { self.directory.shards } else { 0 };
        (shards != 1).then(|| View { shards, here: self.slots.here() })
    }

    /// Whether this table has not yet been told of a session that may live.
    #[must_use]
    pub fn is_unmet(&self, session: SessionId) -> bool {
        self.shard() != Shard::HOME && session.0 > self.next_session
    }

    fn tell_all(&mut self, event: impl Fn(SessionId, &Self) -> Event) {
        for session in self.listeners.clone() {
            let event = event(session, self);
            self.outbox.push((session, event));
        }
    }

    fn news(&mut self, news: News) -> GroupReply {
        self.newest = self.newest.max(news.newest);
        if news.after.0 == self.next_session || seeded(Bug::LateNewsBelieved) {
            for (session, lives) in news.fresh {
                let state = if lives { State::Live } else { State::Dead { recoverer: None } };
                self.sessions.insert(session, stranger(session, state));
            }
            self.next_session = self.next_session.max(news.until.0);
        }
        for session in news.died {
            self.die(session);
        }
        for session in news.ended {
            if self.sessions.contains_key(&session) {
                self.unwait(session);
                self.forget(session);
                self.tell(session, || Event::Ended);
            }
        }
        GroupReply::Met(SessionId(self.next_session))
    }

    /// The group is served no more. What is here of it stays as it is, but for sessions that end.
    fn freeze_group(&mut self, group: LockGroup, by: MoveId) -> GroupReply {
        let slot = self.slots.get(group);
        if slot.by >= by {
            return GroupReply::Done;
        }
        if slot.standing != Standing::Here || self.is_straddled(group) {
            return GroupReply::Refused;
        }
        self.slots.set(group, by, Standing::Frozen);
        GroupReply::Done
    }

    /// Whether somebody holds, or waits for, names of this group and of another in one.
    fn is_straddled(&self, group: LockGroup) -> bool {
        let wide = |span: Span| {
            LockGroup::only(span).is_none() && LockGroup::touched(span).contains(&group)
        };
        self.pieces.iter().any(|(span, _)| wide(span))
            || self.queue.iter().any(|(_, waiter)| wide(waiter.ask.need))
    }

    /// The state of a frozen group from a name on, at most so many pieces of it.
    #[must_use]
    pub fn export(&self, group: LockGroup, by: MoveId, from: Name, most: usize) -> Option<Part> {
        let slot = self.slots.get(group);
        if slot.by != by || slot.standing != Standing::Frozen {
            return None;
        }
        let within = Span::new(from, END)?;
        let mut pieces = Vec::new();
        let mut to = END;
        for (span, hold) in self.pieces.overlaps(within) {
            if LockGroup::of(span.start()) != group {
                continue;
            }
            if pieces.len() == most {
                to = span.start();
                break;
            }
            pieces.push((span, hold.owners()));
        }
        let part = Span::new(from, to)?;
        let waiters = self
            .queue
            .iter()
            .filter(|(_, waiter)| {
                let start = waiter.ask.need.start();
                part.contains(start) && LockGroup::of(start) == group
            })
            .map(|(place, waiter)| (place, waiter.session, waiter.ask))
            .collect();
        Some(Part { from, to, pieces, waiters, newest: self.newest })
    }

    fn adopt(&mut self, group: LockGroup, by: MoveId, part: Part) -> GroupReply {
        let Slot { by: last, standing } = self.slots.get(group);
        let (next, mut waiters) = match standing {
            Standing::Arriving { next, waiters } if last == by => (next, waiters),
            // It was adopted, and perhaps has gone on since; or this is of a move long past.
            _ if last >= by => return GroupReply::Done,
            Standing::Away => (Name(0), BTreeMap::new()),
            Standing::Here | Standing::Frozen | Standing::Arriving { .. } => {
                return GroupReply::Refused;
            }
        };
        if part.from != next || part.to < part.from {
            return GroupReply::Needs(next);
        }
        let named = part.pieces.iter().flat_map(|(_, owners)| owners.iter().map(|o| o.session));
        let mut named = named.chain(part.waiters.iter().map(|(_, session, _)| *session));
        if named.any(|session| self.is_unmet(session)) {
            return GroupReply::Met(SessionId(self.next_session));
        }
        if !seeded(Bug::NumbersFallOverAMove) {
            self.newest = self.newest.max(part.newest);
        }
        for (span, mut owners) in part.pieces {
            // Whoever is not known any more has come to its end, as home recorded: its locks are free.
            owners.retain(|owner| self.is_known(owner.session));
            let hold = match owners.as_slice() {
                [] => continue,
                [one] => Hold::only(*one),
                many => Hold::shared(many.iter().map(|owner| (owner.session, owner.grant))),
            };
            self.pieces.insert_raw(span, hold);
        }
        for (place, session, ask) in part.waiters {
            waiters.insert(place, Waiter { session, ask });
        }
        if part.to < END {
            self.slots.set(group, by, Standing::Arriving { next: part.to, waiters });
            return GroupReply::Needs(part.to);
        }
        self.slots.set(group, by, Standing::Here);
        self.begin_to_serve(group, by, waiters);
        GroupReply::Done
    }

    /// All of a group is here: whoever waited waits here, in the old order, and all who listen are told
    /// what they have of it.
    fn begin_to_serve(&mut self, group: LockGroup, by: MoveId, waiters: BTreeMap<u64, Waiter>) {
        let mut needs = Vec::new();
        for waiter in waiters.into_values() {
            if self.lives(waiter.session) && !seeded(Bug::WaitersLostInAMove) {
                needs.push(waiter.ask.need);
                self.queue.push(waiter);
            }
        }
        for session in self.listeners.clone() {
            let held = self.held_in(session, group);
            let waiting = self.waiting_in(session, group);
            let revokes = self.wanted(session, &held);
            self.tell(session, || Event::Adopted { group, by, held, waiting });
            for revoke in revokes {
                self.tell(session, || revoke);
            }
        }
        self.settle(&needs);
    }

    fn held_in(&self, session: SessionId, group: LockGroup) -> Vec<Held> {
        let mut held = self.pieces.held_by(session);
        held.retain(|held| LockGroup::of(held.span.start()) == group);
        held
    }

    fn waiting_in(&self, session: SessionId, group: LockGroup) -> Vec<Ticket> {
        let waits = self.queue.of(session);
        let of_it = waits.filter(|(_, waiter)| LockGroup::of(waiter.ask.need.start()) == group);
        of_it.map(|(_, waiter)| waiter.ask.ticket).collect()
    }

    /// The gaining shard serves the group: nothing of it is needed here any more.
    fn forget_group(&mut self, group: LockGroup, by: MoveId) -> GroupReply {
        let slot = self.slots.get(group);
        if slot.by == by && slot.standing == Standing::Frozen {
            let places: Vec<u64> = self
                .queue
                .iter()
                .filter(|(_, waiter)| LockGroup::of(waiter.ask.need.start()) == group)
                .map(|(place, _)| place)
                .collect();
            for place in places {
                self.queue.remove(place);
            }
            self.pieces.remove(everything(), |span| LockGroup::of(span.start()) == group);
            self.slots.set(group, by, Standing::Away);
        }
        if slot.by < by { GroupReply::Refused } else { GroupReply::Done }
    }

    /// What a dead session holds here; `None` while it is not known to be dead.
    #[must_use]
    pub fn estate(&self, session: SessionId) -> Option<Estate> {
        if self.lives(session) || self.is_unmet(session) {
            return None;
        }
        let mut held = self.pieces.held_by(session);
        held.retain(|held| self.slots.serves(held.span));
        let here = self.slots.here().into_iter().map(|(group, _)| group).collect();
        Some(Estate { held, here, newest: self.newest })
    }

    /// How much there is of each group that is served here.
    #[must_use]
    pub fn loads(&self) -> Vec<LoadRow> {
        let mut rows: BTreeMap<LockGroup, LoadRow> = self
            .slots
            .here()
            .into_iter()
            .map(|(group, _)| (group, LoadRow { group, spans: 0, waiters: 0, asked: 0 }))
            .collect();
        for (span, _) in self.pieces.iter() {
            if let Some(row) = rows.get_mut(&LockGroup::of(span.start())) {
                row.spans += 1;
            }
        }
        for (_, waiter) in self.queue.iter() {
            if let Some(row) = rows.get_mut(&LockGroup::of(waiter.ask.need.start())) {
                row.waiters += 1;
            }
        }
        rows.into_values().collect()
    }

    /// What home must tell a shard that has met all sessions up to `after`.
    #[must_use]
    pub fn news_for(&self, after: SessionId) -> News {
        let mut news = News {
            after,
            until: SessionId(self.next_session),
            newest: self.newest,
            ..News::default()
        };
        for (&session, row) in &self.sessions {
            if row.state == State::Over {
                news.ended.push(session);
                continue;
            }
            let lives = row.state == State::Live;
            if session > after {
                news.fresh.push((session, lives));
            }
            // Also of those: the shard may have met them before.
            if !lives {
                news.died.push(session);
            }
        }
        news
    }

    /// The newest number of a grant.
    #[must_use]
    pub fn newest(&self) -> Grant {
        self.newest
    }

    /// Whether a session is in the table and has not come to its end.
    pub(super) fn is_known(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|row| row.state != State::Over)
    }
}

/// A session of which this shard knows only that it is there.
fn stranger(session: SessionId, state: State) -> Session {
    let client = Client {
        owner: String::new(),
        host: String::new(),
        kind: Kind::Tool,
        able: false,
        nonce: session.0,
    };
    Session::new(client, state)
}

impl Session {
    pub(super) fn new(client: Client, state: State) -> Self {
        Self {
            client,
            seq: Seq(0),
            refused: None,
            newest: Grant(0),
            state,
            tree_seq: Seq(0),
            tree_last: None,
        }
    }
}
