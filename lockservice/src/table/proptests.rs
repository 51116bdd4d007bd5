//! Random commands: the table keeps its invariants, no two sessions ever believe that they hold
//! conflicting locks, nobody is forgotten, and a checkpoint changes nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Table, pieces::Pieces};
use crate::{
    Grant, Held, Mode, Name, SessionId, Span,
    message::{Acquire, Ask, Client, Command, Event, Kind, Owner, Reply, Seq, Ticket},
};

const NAMES: u64 = 12;

#[derive(Clone, Debug)]
enum Step {
    Open { able: bool, replace: bool },
    Acquire { who: usize, start: u64, len: u64, room: u64, exclusive: bool, wait: bool },
    Hint { who: usize, names: Vec<u64>, exclusive: bool },
    Cancel { who: usize },
    Release { who: usize, start: u64, len: u64 },
    Downgrade { who: usize, start: u64, len: u64 },
    Expire { who: usize },
    Recover,
    Close { who: usize },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..6usize;
    let step = prop_oneof![
        2 => (any::<bool>(), any::<bool>()).prop_map(|(able, replace)| Step::Open { able, replace }),
        12 => (who.clone(), 0..NAMES, 1..4u64, 0..3u64, any::<bool>(), any::<bool>()).prop_map(
            |(who, start, len, room, exclusive, wait)| Step::Acquire { who, start, len, room, exclusive, wait }
        ),
        3 => (who.clone(), prop::collection::vec(0..NAMES, 0..6), any::<bool>())
            .prop_map(|(who, names, exclusive)| Step::Hint { who, names, exclusive }),
        1 => who.clone().prop_map(|who| Step::Cancel { who }),
        10 => (who.clone(), 0..NAMES, 1..5u64)
            .prop_map(|(who, start, len)| Step::Release { who, start, len }),
        4 => (who.clone(), 0..NAMES, 1..5u64)
            .prop_map(|(who, start, len)| Step::Downgrade { who, start, len }),
        1 => who.clone().prop_map(|who| Step::Expire { who }),
        3 => Just(Step::Recover),
        1 => who.prop_map(|who| Step::Close { who }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

/// What the sessions were told, name by name, and the highest number ever told.
#[derive(Default)]
struct Believed {
    names: BTreeMap<u64, BTreeMap<SessionId, (Mode, Grant)>>,
    newest: Grant,
}

impl Believed {
    fn check(&self) {
        for (name, owners) in &self.names {
            let exclusive = owners.values().any(|(mode, _)| *mode == Mode::Exclusive);
            assert!(!exclusive || owners.len() == 1, "L1: name {name}: {owners:?}");
        }
    }

    fn grant(&mut self, session: SessionId, held: &Held) {
        if held.mode == Mode::Exclusive {
            assert!(held.grant >= self.newest, "numbers grow");
            self.newest = held.grant;
        }
        for name in held.span.start().0..held.span.end().0 {
            self.names.entry(name).or_default().insert(session, (held.mode, held.grant));
        }
    }

    fn release(&mut self, session: SessionId, span: Span) {
        for name in span.start().0..span.end().0 {
            self.names.entry(name).or_default().remove(&session);
        }
    }

    fn downgrade(&mut self, session: SessionId, span: Span) {
        for name in span.start().0..span.end().0 {
            if let Some((mode, _)) = self.names.entry(name).or_default().get_mut(&session) {
                *mode = Mode::Shared;
            }
        }
    }

    fn of(&self, session: SessionId) -> BTreeMap<u64, Mode> {
        self.names
            .iter()
            .filter_map(|(name, owners)| owners.get(&session).map(|(mode, _)| (*name, *mode)))
            .collect()
    }
}

struct Run {
    table: Table,
    believed: Believed,
    sessions: Vec<SessionId>,
    next: u64,
}

impl Run {
    fn who(&self, who: usize) -> Option<SessionId> {
        self.sessions.get(who % self.sessions.len().max(1)).copied()
    }

    fn batch(&mut self, who: usize, ask: impl FnOnce(u64) -> Ask) -> Option<(SessionId, Command)> {
        let session = self.who(who)?;
        self.next += 1;
        let asks = vec![ask(self.next)];
        Some((session, Command::Batch { session, seq: Seq(self.next), asks }))
    }

    /// One ask for each part of what `session` holds in `span`.
    fn parts(&mut self, session: SessionId, span: Span, ask: fn(Held) -> Ask) -> Command {
        self.next += 1;
        let cut = |held: Held| held.span.intersection(span).map(|span| ask(Held { span, ..held }));
        let asks = self.table.held_by(session).into_iter().filter_map(cut).collect();
        Command::Batch { session, seq: Seq(self.next), asks }
    }

    fn command(&mut self, step: Step) -> Option<Command> {
        let mode = |exclusive| if exclusive { Mode::Exclusive } else { Mode::Shared };
        let span = |start: u64, len: u64| Span::new(Name(start), Name(start + len)).unwrap();
        Some(match step {
            Step::Open { able, replace } => {
                self.next += 1;
                let owner = format!("owner{}", self.next % 3);
                let host = String::new();
                let client = Client { owner, host, kind: Kind::Mount, able, nonce: self.next };
                Command::Open { client, replace }
            }
            Step::Acquire { who, start, len, room, exclusive, wait } => {
                let need = span(start, len);
                let wish = span(start.saturating_sub(room), len + room + start.min(room));
                let mode = mode(exclusive);
                let ask =
                    |next| Ask::Acquire(Acquire { ticket: Ticket(next), need, wish, mode, wait });
                self.batch(who, ask)?.1
            }
            Step::Hint { who, names, exclusive } => {
                let names = names.into_iter().map(Name).collect();
                let ask = |next| Ask::Hint { ticket: Ticket(next), names, mode: mode(exclusive) };
                self.batch(who, ask)?.1
            }
            Step::Cancel { who } => {
                self.batch(who, |next| Ask::Cancel(Ticket(next.saturating_sub(3))))?.1
            }
            Step::Release { who, start, len } => {
                let session = self.who(who)?;
                self.believed.release(session, span(start, len));
                self.parts(session, span(start, len), Ask::Release)
            }
            Step::Downgrade { who, start, len } => {
                let session = self.who(who)?;
                self.believed.downgrade(session, span(start, len));
                self.parts(session, span(start, len), Ask::Downgrade)
            }
            Step::Expire { who } => Command::Expire(self.who(who)?),
            Step::Recover => self.recovery()?,
            Step::Close { who } => Command::Close(self.who(who)?),
            Step::Restart => {
                self.restart();
                return None;
            }
        })
    }

    fn recovery(&self) -> Option<Command> {
        let rows = self.table.list_sessions();
        let row = rows.iter().find(|row| !row.live && row.recoverer.is_some())?;
        Some(Command::Recovered { dead: row.session, by: row.recoverer?, seen: Grant(0) })
    }

    fn restart(&mut self) {
        let saved = self.table.save();
        self.table = Table::load(&saved).unwrap();
        assert_eq!(self.table.save(), saved);
        for session in &self.sessions {
            let events = self.table.listen(*session);
            let Some(Event::Snapshot { held, .. }) = events.first() else { continue };
            let mut told = BTreeMap::new();
            for held in held {
                for name in held.span.start().0..held.span.end().0 {
                    told.insert(name, held.mode);
                }
            }
            assert_eq!(told, self.believed.of(*session), "{session:?} is told what it knew");
        }
    }

    fn apply(&mut self, command: Command) {
        let dead = match &command {
            Command::Recovered { dead, .. } | Command::Close(dead) => Some(*dead),
            _ => None,
        };
        let reply = self.table.handle(command);
        if let Reply::Opened(session) = reply {
            self.table.listen(session);
            self.sessions.push(session);
        }
        if let (Some(dead), Reply::Done) = (dead, reply) {
            let all = Span::new(Name(0), Name(2 * NAMES)).unwrap();
            self.believed.release(dead, all);
        }
        self.table.check().unwrap();
        for (session, event) in self.table.drain() {
            match event {
                Event::Granted { held, .. } => {
                    held.iter().for_each(|held| self.believed.grant(session, held));
                }
                Event::Revoke { span, keep } => {
                    let of = self.believed.of(session);
                    let touched = (span.start().0..span.end().0).any(|name| {
                        of.get(&name).is_some_and(|mode| keep.is_none_or(|keep| *mode > keep))
                    });
                    assert!(touched, "a revoke names what the session holds");
                }
                Event::Ended => self.sessions.retain(|other| *other != session),
                _ => {}
            }
        }
        self.believed.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_sessions_ever_hold_conflicting_locks(steps in steps()) {
        let mut run = Run {
            table: Table::new(),
            believed: Believed::default(),
            sessions: Vec::new(),
            next: 0,
        };
        for _ in 0..3 {
            let command = run.command(Step::Open { able: true, replace: false }).unwrap();
            run.apply(command);
        }
        for step in steps {
            if let Some(command) = run.command(step) {
                run.apply(command);
            }
        }
    }

    #[test]
    fn commands_from_outside_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(command) = Command::decode(&bytes) {
            let mut table = Table::new();
            table.handle(command);
            table.check().unwrap();
        }
    }
}

fn pieces_of(gives: &[(u64, u64, u64, bool, u64)]) -> Pieces {
    let mut pieces = Pieces::default();
    for &(session, start, length, shared, grant) in gives {
        let mode = if shared { Mode::Shared } else { Mode::Exclusive };
        let session = SessionId(session);
        let within = Span::new(Name(start), Name(start + length)).unwrap();
        if pieces.free(within, mode, session) {
            pieces.give(within, Owner { session, mode, grant: Grant(grant) });
        }
    }
    pieces
}

proptest! {
    #[test]
    fn many_names_given_at_once_are_held_as_if_given_one_by_one(
        gives in prop::collection::vec((1..4_u64, 0..400_u64, 1..12_u64, any::<bool>(), 1..4_u64), 0..60),
        names in prop::collection::btree_set(0..420_u64, 0..200),
        shared in any::<bool>(),
        border in 0..3_u64,
    ) {
        // Some of them lie on both sides of the end of a segment.
        let base = (border << Name::INDEX_BITS).saturating_sub(200);
        let gives: Vec<_> = gives.into_iter().map(|(s, at, l, m, g)| (s, base + at, l, m, g)).collect();
        let names: Vec<Name> = names.into_iter().map(|name| Name(base + name)).collect();
        let (session, mode) = (SessionId(1), if shared { Mode::Shared } else { Mode::Exclusive });
        let grant = if shared { Grant(3) } else { Grant(9) };
        let owner = Owner { session, mode, grant };
        let (mut one_by_one, mut together) = (pieces_of(&gives), pieces_of(&gives));

        let (free, held) = together.divide(&names);
        let nobodys = |name: &Name| one_by_one.overlaps(Span::one(*name)).next().is_none();
        let expected: Vec<Name> = names.iter().copied().filter(nobodys).collect();
        let found = free.iter().flat_map(|span| span.start().0..span.end().0).map(Name);
        prop_assert_eq!(found.collect::<Vec<Name>>(), expected);
        together.give_free(&free, owner);
        let take = |pieces: &mut Pieces, names: &[Name]| {
            for name in names {
                if pieces.free(Span::one(*name), mode, session) {
                    pieces.give(Span::one(*name), owner);
                }
            }
        };
        take(&mut together, &held);
        take(&mut one_by_one, &names);
        let all = |pieces: &Pieces| pieces.iter().map(|(s, h)| (s, h.clone())).collect::<Vec<_>>();
        prop_assert_eq!(all(&together), all(&one_by_one));
        for session in (1..4).map(SessionId) {
            prop_assert_eq!(together.held_by(session), one_by_one.held_by(session));
            prop_assert_eq!(together.count(session), one_by_one.count(session));
        }
    }
}
