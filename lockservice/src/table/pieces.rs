//! The map of what is held: disjoint pieces of the name space, each with one exclusive owner or
//! some shared ones, so that two conflicting owners cannot even be written down; and for each
//! session, where its pieces are. It knows neither waiters nor whether a session lives.

use std::collections::BTreeMap;

use super::{
    chunks::{Chunks, Piece},
    shares::Shares,
};
use crate::{
    bug::{Bug, seeded},
    group::is_border,
    locks::Held,
    message::Owner,
    name::{Grant, Mode, Name, SessionId, Span},
};

/// Who owns a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// One owner, with its grant.
    Exclusive(SessionId, Grant),
    /// One or more owners, by id.
    #[expect(clippy::box_collection, reason = "ten million exclusive pieces must stay small")]
    Shared(Box<BTreeMap<SessionId, Grant>>),
}

impl Hold {
    pub(crate) fn conflicts(&self, session: SessionId, mode: Mode) -> bool {
        match self {
            Self::Exclusive(owner, _) => *owner != session,
            Self::Shared(_) if seeded(Bug::SharedIgnored) => false,
            Self::Shared(owners) => {
                mode == Mode::Exclusive && owners.keys().any(|owner| *owner != session)
            }
        }
    }

    pub(crate) fn owners(&self) -> Vec<Owner> {
        match self {
            Self::Exclusive(session, grant) => {
                vec![Owner { session: *session, mode: Mode::Exclusive, grant: *grant }]
            }
            Self::Shared(owners) => owners
                .iter()
                .map(|(&session, &grant)| Owner { session, mode: Mode::Shared, grant })
                .collect(),
        }
    }

    /// What `owner` holds, and nobody else.
    pub(crate) fn only(owner: Owner) -> Self {
        match owner.mode {
            Mode::Exclusive => Self::Exclusive(owner.session, owner.grant),
            Mode::Shared => Self::shared([(owner.session, owner.grant)]),
        }
    }

    /// A shared hold.
    pub(crate) fn shared(owners: impl IntoIterator<Item = (SessionId, Grant)>) -> Self {
        Self::Shared(Box::new(owners.into_iter().collect()))
    }

    pub(super) fn sessions(&self, mut each: impl FnMut(SessionId)) {
        match self {
            Self::Exclusive(session, _) => each(*session),
            Self::Shared(owners) => owners.keys().copied().for_each(each),
        }
    }

    pub(crate) fn of(&self, session: SessionId) -> Option<(Mode, Grant)> {
        match self {
            Self::Exclusive(owner, grant) => {
                (*owner == session).then_some((Mode::Exclusive, *grant))
            }
            Self::Shared(owners) => owners.get(&session).map(|grant| (Mode::Shared, *grant)),
        }
    }
}

/// The pieces by their first name.
#[derive(Default)]
pub(crate) struct Pieces {
    map: Chunks,
    shares: Shares,
}

fn span(start: Name, end: Name) -> Span {
    Span::new(start, end).expect("pieces are never empty")
}

impl Pieces {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Span, &Hold)> {
        self.map.iter().map(|piece| (span(piece.start, piece.end), &piece.hold))
    }

    /// The pieces as they are now, for whoever writes them down later.
    pub(crate) fn freeze(&self) -> Chunks {
        self.map.clone()
    }

    /// The pieces that have a name in `within`, cut to it.
    pub(crate) fn overlaps(&self, within: Span) -> impl Iterator<Item = (Span, &Hold)> {
        let first = self.first_at(within.start());
        let pieces = self.map.from(first).take_while(move |piece| piece.start < within.end());
        pieces.filter_map(move |piece| {
            span(piece.start, piece.end).intersection(within).map(|cut| (cut, &piece.hold))
        })
    }

    /// The start of the piece that contains `name`, or `name`.
    fn first_at(&self, name: Name) -> Name {
        // One that starts at the name itself is as good an answer.
        match self.map.before(name) {
            Some(piece) if piece.end > name => piece.start,
            _ => name,
        }
    }

    pub(crate) fn free(&self, need: Span, mode: Mode, session: SessionId) -> bool {
        !self.overlaps(need).any(|(_, hold)| hold.conflicts(session, mode))
    }

    /// The largest span within `wish` around `need` of whose added names nobody holds any.
    pub(crate) fn room(&self, need: Span, wish: Span) -> Span {
        let below = match self.map.before(need.start()) {
            Some(piece) => piece.end.min(need.start()).max(wish.start()),
            None => wish.start(),
        };
        let inner = self.first_at(need.end());
        let above = if inner < need.end() {
            need.end()
        } else {
            let next = self.map.from(need.end()).next();
            next.map_or(wish.end(), |piece| wish.end().min(piece.start))
        };
        Span::new(below.min(need.start()), above.max(need.end())).unwrap_or(need)
    }

    /// Gives `within` to `session`. Exclusive parts of its own keep their number. Nobody else's
    /// hold may conflict. Returns what came to what the session held.
    pub(crate) fn give(&mut self, within: Span, owner: Owner) -> Vec<Held> {
        self.cut(within.start());
        self.cut(within.end());
        let mut given: Vec<Held> = Vec::new();
        let mut note = |part: Span| match given.last_mut() {
            Some(last) if last.span.end() == part.start() => {
                last.span = span(last.span.start(), part.end());
            }
            _ => given.push(Held { span: part, mode: owner.mode, grant: owner.grant }),
        };
        let shares = &mut self.shares;
        let mut gaps = Vec::new();
        let mut at = within.start();
        let there = self.map.from(within.start()).take_while(|piece| piece.start < within.end());
        let starts: Vec<Name> = there.map(|piece| piece.start).collect();
        for start in starts {
            let Some(Piece { end, hold, .. }) = self.map.get_mut(start) else { continue };
            let end = *end;
            if at < start {
                gaps.push((at, start));
                note(span(at, start));
            }
            at = end;
            match hold {
                Hold::Exclusive(holder, _) => {
                    debug_assert_eq!(*holder, owner.session, "a conflicting grant");
                }
                Hold::Shared(owners) if owner.mode == Mode::Shared => {
                    owners.entry(owner.session).or_insert_with(|| {
                        note(span(start, end));
                        shares.add(owner.session, start, end);
                        owner.grant
                    });
                }
                Hold::Shared(owners) => {
                    debug_assert!(
                        owners.keys().all(|holder| *holder == owner.session),
                        "a conflicting grant"
                    );
                    *hold = Hold::only(owner);
                    note(span(start, end));
                }
            }
        }
        if at < within.end() {
            gaps.push((at, within.end()));
            note(span(at, within.end()));
        }
        for (start, end) in gaps {
            shares.add(owner.session, start, end);
            self.map.insert(Piece { start, end, hold: Hold::only(owner) });
        }
        self.join(within);
        given
    }

    /// Divides `names` (in order) into spans that nobody holds anything of, none over the border of a segment, and
    /// the names that somebody holds. Looks once for each gap among the pieces, not for each name.
    pub(crate) fn divide(&self, names: &[Name]) -> (Vec<Span>, Vec<Name>) {
        let (mut free, mut others): (Vec<Span>, Vec<Name>) = (Vec::new(), Vec::new());
        let mut gap = Name(0);
        for &name in names {
            if name >= gap {
                let Some(end) = self.gap_end(name) else {
                    others.push(name);
                    continue;
                };
                gap = end;
            }
            let one = Span::one(name);
            match free.last_mut() {
                Some(last) if last.end() == name && !is_border(name) => {
                    *last = span(last.start(), one.end());
                }
                _ => free.push(one),
            }
        }
        (free, others)
    }

    /// Gives what [`Pieces::divide`] found free to `owner`; as giving each alone, but each chunk is written once.
    pub(crate) fn give_free(&mut self, free: &[Span], owner: Owner) {
        let piece =
            |span: &Span| Piece { start: span.start(), end: span.end(), hold: Hold::only(owner) };
        self.map.insert_all(free.iter().map(piece).collect());
        let ends = free.iter().map(|span| (span.start(), span.end()));
        self.shares.add_all(owner.session, ends);
        if owner.mode == Mode::Shared {
            // What the session was given before may have the same number.
            free.iter().for_each(|span| self.join(*span));
        }
    }

    /// Where the gap around `name` ends, if nobody holds the name.
    fn gap_end(&self, name: Name) -> Option<Name> {
        if self.map.before(name).is_some_and(|piece| piece.end > name) {
            return None;
        }
        match self.map.from(name).next() {
            Some(piece) if piece.start == name => None,
            Some(piece) => Some(piece.start),
            None => Some(Name(u64::MAX)),
        }
    }

    /// Takes from `session` what it holds as `held` says. Whether there was anything.
    pub(crate) fn take(&mut self, held: &Held, session: SessionId) -> bool {
        self.change(held, session, |hold| match hold {
            Hold::Exclusive(..) => None,
            Hold::Shared(mut owners) => {
                owners.remove(&session);
                (!owners.is_empty()).then_some(Hold::Shared(owners))
            }
        })
    }

    /// Makes what `session` holds exclusively, as `held` says, shared. The number of the grant
    /// ends as one of an exclusive grant and stays as a mark by which it is found again.
    pub(crate) fn downgrade(&mut self, held: &Held, session: SessionId) -> bool {
        let shared = Hold::shared([(session, held.grant)]);
        held.mode == Mode::Exclusive && self.change(held, session, |_| Some(shared.clone()))
    }

    /// Takes everything of `session`; tells what that was.
    pub(crate) fn take_all(&mut self, session: SessionId) -> Vec<Span> {
        let all = self.held_by(session);
        for held in &all {
            self.take(held, session);
        }
        all.into_iter().map(|held| held.span).collect()
    }

    /// All that `session` holds.
    pub(crate) fn held_by(&self, session: SessionId) -> Vec<Held> {
        let piece = |piece: &Piece| {
            let (mode, grant) = piece.hold.of(session)?;
            Some(Held { span: span(piece.start, piece.end), mode, grant })
        };
        let places = self.shares.places(session);
        let near = places.flat_map(|(first, last)| {
            self.map.from(first).take_while(move |piece| piece.start <= last)
        });
        near.filter_map(piece).collect()
    }

    /// Whether what is known of each session is what the pieces say.
    pub(crate) fn counted(&self) -> bool {
        let mut again = Shares::default();
        for piece in self.map.iter() {
            piece.hold.sessions(|session| again.add(session, piece.start, piece.end));
        }
        again == self.shares
    }

    /// How many spans and how many names `session` holds.
    pub(crate) fn count(&self, session: SessionId) -> (u64, u64) {
        self.shares.count(session)
    }

    pub(crate) fn insert_raw(&mut self, at: Span, hold: Hold) -> bool {
        if self.overlaps(at).next().is_some() {
            return false;
        }
        hold.sessions(|session| self.shares.add(session, at.start(), at.end()));
        self.map.insert(Piece { start: at.start(), end: at.end(), hold });
        true
    }

    /// Takes the pieces of `within` that `which` names, whoever owns them.
    pub(crate) fn remove(&mut self, within: Span, which: impl Fn(Span) -> bool) {
        let gone: Vec<Span> =
            self.overlaps(within).map(|(span, _)| span).filter(|span| which(*span)).collect();
        for gone in gone {
            if let Some(Piece { start, end, hold }) = self.map.remove(gone.start()) {
                hold.sessions(|session| self.shares.sub(session, start, end));
            }
        }
    }

    fn change(
        &mut self,
        held: &Held,
        session: SessionId,
        to: impl Fn(Hold) -> Option<Hold>,
    ) -> bool {
        let mine: Vec<Span> = self
            .overlaps(held.span)
            .filter(|(_, hold)| hold.of(session) == Some((held.mode, held.grant)))
            .map(|(part, _)| part)
            .collect();
        for part in &mine {
            self.cut(part.start());
            self.cut(part.end());
            let Some(Piece { start, end, hold }) = self.map.remove(part.start()) else { continue };
            let rest = to(hold);
            if rest.as_ref().is_none_or(|hold| hold.of(session).is_none()) {
                self.shares.sub(session, start, end);
            }
            if let Some(hold) = rest {
                self.map.insert(Piece { start, end, hold });
            }
        }
        if !mine.is_empty() {
            self.join(held.span);
        }
        !mine.is_empty()
    }

    /// Makes `at` a border if it lies inside a piece. Both parts keep their owners and numbers.
    fn cut(&mut self, at: Name) {
        let Some(start) = self.map.before(at).filter(|piece| piece.end > at).map(|p| p.start)
        else {
            return;
        };
        let Some(piece) = self.map.get_mut(start) else { return };
        let rest = Piece { start: at, ..piece.clone() };
        piece.end = at;
        if seeded(Bug::SplitLosesRange) {
            return;
        }
        self.shares.cut(&rest.hold, at);
        self.map.insert(rest);
    }

    /// Joins neighbours with the very same owners and numbers, in and at the borders of `within`.
    fn join(&mut self, within: Span) {
        let first = self.map.before(within.start()).map_or(within.start(), |piece| piece.start);
        let mut joins = Vec::new();
        let mut last: Option<(Name, Name, &Hold)> = None;
        for piece in self.map.from(first).take_while(|piece| piece.start <= within.end()) {
            let Piece { start, end, hold } = piece;
            match last {
                // Never over the border of a segment: the two sides may go to different shards.
                Some((from, to, same)) if to == *start && same == hold && !is_border(to) => {
                    joins.push((from, *start, *end));
                    last = Some((from, *end, same));
                }
                _ => last = Some((*start, *end, hold)),
            }
        }
        for (from, gone, end) in joins {
            if let Some(piece) = self.map.remove(gone) {
                self.shares.join(&piece.hold, gone);
            }
            if let Some(piece) = self.map.get_mut(from) {
                piece.end = end;
            }
        }
    }
}
