//! The pure clerk against the pure table, under every order of messages, lost answers, repeated
//! batches and broken streams that chance finds: what the clerks hold never conflicts (L1), and
//! when all is delivered nobody waits. The same with three tables between which groups move, each
//! step of a move at any time, by anybody who can, and once more when it is long past.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use proptest::prelude::*;

use super::machine::{Answer, Effect, Machine, PinId, RevocationId, Want};
use crate::{
    Error, Grant, Held, LockGroup, Mode, Name, SessionId, Shard, Span, Table,
    message::{
        Ask, Client, Command, Event, GroupCommand, GroupReply, GroupRow, Kind, Part, Reply, Seq,
        Ticket,
    },
};

const NAMES: u64 = 6;
const CLERKS: usize = 3;
const SHARDS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Want { who: usize, start: u64, len: u64, exclusive: bool, wait: bool },
    Hint { who: usize, names: Vec<u64>, exclusive: bool },
    Send { who: usize, shard: usize, lost: bool },
    Deliver { who: usize, shard: usize },
    Flushed { who: usize },
    Unpin { who: usize },
    GiveUp { who: usize, start: u64, len: u64 },
    Cancel { who: usize },
    Reconnect { who: usize, shard: usize },
    Move { name: u64, to: u32 },
    Drive { which: usize },
    Late { which: usize },
    Restart { shard: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, shard) = (0..CLERKS, 0..SHARDS);
    let step = prop_oneof![
        6 => (who.clone(), 0..NAMES, 1..3u64, any::<bool>(), any::<bool>()).prop_map(
            |(who, start, len, exclusive, wait)| Step::Want { who, start, len, exclusive, wait }
        ),
        1 => (who.clone(), prop::collection::vec(0..NAMES, 1..5), any::<bool>())
            .prop_map(|(who, names, exclusive)| Step::Hint { who, names, exclusive }),
        8 => (who.clone(), shard.clone(), any::<bool>())
            .prop_map(|(who, shard, lost)| Step::Send { who, shard, lost }),
        8 => (who.clone(), shard.clone()).prop_map(|(who, shard)| Step::Deliver { who, shard }),
        5 => who.clone().prop_map(|who| Step::Flushed { who }),
        5 => who.clone().prop_map(|who| Step::Unpin { who }),
        1 => (who.clone(), 0..NAMES, 1..NAMES)
            .prop_map(|(who, start, len)| Step::GiveUp { who, start, len }),
        1 => who.clone().prop_map(|who| Step::Cancel { who }),
        1 => (who, shard.clone()).prop_map(|(who, shard)| Step::Reconnect { who, shard }),
        1 => (0..NAMES, 0..SHARDS as u32).prop_map(|(name, to)| Step::Move { name, to }),
        4 => any::<usize>().prop_map(|which| Step::Drive { which }),
        1 => any::<usize>().prop_map(|which| Step::Late { which }),
        1 => shard.prop_map(|shard| Step::Restart { shard }),
    ];
    prop::collection::vec(step, 1..250)
}

#[derive(Default)]
struct Clerk {
    machine: Machine,
    /// By shard.
    streams: [VecDeque<Event>; SHARDS],
    /// Streams that must be opened anew.
    stale: BTreeSet<usize>,
    pins: VecDeque<(PinId, Span)>,
    flushing: VecDeque<(RevocationId, Span)>,
    /// How, if it waits for one name: such a wait is not refused.
    asked: BTreeMap<Ticket, (Option<Mode>, Span)>,
}

struct Run {
    /// By shard.
    tables: Vec<Table>,
    clerks: Vec<Clerk>,
    /// What was said about groups, and to which shard.
    said: Vec<(usize, GroupCommand)>,
}

fn span(start: u64, len: u64) -> Span {
    Span::new(Name(start), Name(start + len)).unwrap()
}

/// Two names of each of a few segments.
fn far(number: u64) -> Name {
    Name(((number / 2) << Name::INDEX_BITS) | (number % 2))
}

fn mode(exclusive: bool) -> Mode {
    if exclusive { Mode::Exclusive } else { Mode::Shared }
}

fn session(who: usize) -> SessionId {
    SessionId(who as u64 + 1)
}

impl Run {
    /// With one shard all names are in one segment; with several there are more.
    fn new(shards: usize) -> Self {
        let tables = (0..shards).map(|shard| Table::of(Shard(shard as u32))).collect();
        let mut run = Self { tables, clerks: Vec::new(), said: Vec::new() };
        for who in 0..CLERKS {
            let client = Client {
                owner: format!("clerk{who}"),
                host: String::new(),
                kind: Kind::Mount,
                able: true,
                nonce: who as u64,
            };
            let reply = run.tables[0].handle(Command::Open { client, replace: false });
            assert_eq!(reply, Reply::Opened(session(who)));
            run.clerks.push(Clerk::default());
        }
        if shards > 1 {
            run.say(0, GroupCommand::Shards(shards as u32));
            let news = run.tables[0].news_for(SessionId(0));
            for shard in 1..shards {
                run.say(shard, GroupCommand::News(news.clone()));
            }
            while run.drive(0) {}
            run.said.clear();
            run.say(0, GroupCommand::Shards(shards as u32));
        }
        for who in 0..CLERKS {
            (0..shards).for_each(|shard| run.reconnect(who, shard));
        }
        run
    }

    fn is_one(&self) -> bool {
        self.tables.len() == 1
    }

    fn name(&self, number: u64) -> Name {
        if self.is_one() { Name(number) } else { far(number) }
    }

    /// With several shards it ends with its segment at the latest.
    fn span(&self, start: u64, len: u64) -> Span {
        if self.is_one() {
            return span(start, len);
        }
        let len = if start % 2 == 1 { 1 } else { len.min(2) };
        Span::new(far(start), Name(far(start).0 + len)).unwrap()
    }

    fn say(&mut self, shard: usize, command: GroupCommand) -> GroupReply {
        let Reply::Group(reply) = self.tables[shard].handle(Command::Group(command.clone())) else {
            panic!("no answer to {command:?}")
        };
        self.said.push((shard, command));
        self.tables[shard].check().unwrap();
        self.pump();
        reply
    }

    /// The next step of a move that is under way, a piece at a time.
    fn drive(&mut self, which: usize) -> bool {
        let mut rows = self.tables[0].assignment().groups;
        rows.retain(|row| row.moving.is_some());
        if rows.is_empty() {
            return false;
        }
        let GroupRow { group, shard, moving, .. } = rows[which % rows.len()];
        let (to, by) = moving.unwrap();
        let (from, to) = (shard.0 as usize, to.0 as usize);
        let part = Part::nothing();
        match self.say(to, GroupCommand::Adopt { group, by, part }) {
            GroupReply::Needs(name) => match self.tables[from].export(group, by, name, 1) {
                Some(part) => {
                    self.say(to, GroupCommand::Adopt { group, by, part });
                }
                None => {
                    let frozen = self.say(from, GroupCommand::Freeze { group, by });
                    assert_eq!(frozen, GroupReply::Done);
                }
            },
            GroupReply::Done => {
                assert_eq!(self.say(from, GroupCommand::Forget { group, by }), GroupReply::Done);
                assert_eq!(self.say(0, GroupCommand::Placed { group, by }), GroupReply::Done);
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn reconnect(&mut self, who: usize, shard: usize) {
        self.pump();
        self.clerks[who].stale.remove(&shard);
        self.clerks[who].machine.listening(Shard(shard as u32));
        self.clerks[who].streams[shard] = self.tables[shard].listen(session(who)).into();
    }

    fn pump(&mut self) {
        for (shard, table) in self.tables.iter_mut().enumerate() {
            for (session, event) in table.drain() {
                self.clerks[session.0 as usize - 1].streams[shard].push_back(event);
            }
        }
    }

    fn effects(&mut self, who: usize, effects: Vec<Effect>) {
        for effect in effects {
            let clerk = &mut self.clerks[who];
            match effect {
                Effect::Answer(ticket, answer) => {
                    let wanted = clerk.asked.remove(&ticket);
                    let (certain, need) = wanted.unwrap_or((None, span(99, 1)));
                    match answer {
                        Answer::Granted(pin, _) => clerk.pins.push_back((pin, need)),
                        Answer::Refused => {
                            assert!(
                                certain.is_none() || !self.is_one(),
                                "a wait for one name fails"
                            );
                            // It had the name already, which the shard that lost the group could not tell, and gave it
                            // up before the answer came. As any waiter it looks again.
                            if let Some(mode) = certain {
                                self.want(who, need, mode, true);
                            }
                        }
                        Answer::Hinted => {}
                        Answer::Full => panic!("a few locks are not too many"),
                        Answer::Over(error) => panic!("{error}"),
                    }
                }
                Effect::Revoke(id, span, _) => {
                    let pinned = clerk.pins.iter().any(|(_, need)| need.overlaps(span));
                    assert!(!pinned, "a pinned lock is being revoked");
                    clerk.flushing.push_back((id, span));
                }
                Effect::Stale(shard) => {
                    assert!(self.tables.len() > 1, "a snapshot of the newest state is never stale");
                    clerk.stale.insert(shard.0 as usize);
                }
                Effect::Shards(_) => {}
                Effect::Over(error) => panic!("{error}"),
                Effect::Claimed(..) => panic!("nobody claims anything"),
                Effect::Recover(..) | Effect::Renew | Effect::Send | Effect::Changed => {}
            }
        }
    }

    fn send(&mut self, who: usize, shard: usize, lost: bool) -> bool {
        let at = Shard(shard as u32);
        let Some((seq, asks)) = self.clerks[who].machine.batch(at) else { return false };
        let batch = Command::Batch { session: session(who), seq, asks: asks.to_vec() };
        let reply = self.tables[shard].handle(batch);
        self.tables[shard].check().unwrap();
        self.pump();
        match reply {
            _ if lost => {}
            Reply::Done => self.clerks[who].machine.acked(at, seq),
            Reply::Moved { group, by } => {
                assert!(!self.is_one(), "there is nowhere to go");
                let effects = self.clerks[who].machine.refused_batch(at, seq, (group, by));
                self.effects(who, effects);
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn deliver(&mut self, who: usize, shard: usize) -> bool {
        if self.clerks[who].stale.contains(&shard) {
            self.reconnect(who, shard);
            return true;
        }
        let Some(event) = self.clerks[who].streams[shard].pop_front() else { return false };
        let effects = self.clerks[who].machine.event(Shard(shard as u32), event);
        self.effects(who, effects);
        true
    }

    fn flushed(&mut self, who: usize) -> bool {
        let Some((id, _)) = self.clerks[who].flushing.pop_front() else { return false };
        let effects = self.clerks[who].machine.revoked(id);
        self.effects(who, effects);
        true
    }

    fn unpin(&mut self, who: usize) -> bool {
        let Some((pin, _)) = self.clerks[who].pins.pop_front() else { return false };
        let effects = self.clerks[who].machine.unpin(pin);
        self.effects(who, effects);
        true
    }

    fn want(&mut self, who: usize, need: Span, mode: Mode, wait: bool) {
        let one = need.end().0 - need.start().0 == 1;
        let (want, effects) = self.clerks[who].machine.want((need, need, mode), wait);
        match want {
            Want::Asked(ticket) => {
                let certain = (wait && one).then_some(mode);
                self.clerks[who].asked.insert(ticket, (certain, need));
            }
            Want::Have(pin, _) => self.clerks[who].pins.push_back((pin, need)),
            Want::Revoking | Want::Asking => {}
            Want::Straddles => panic!("{need:?} is in one segment"),
            Want::Over(error) => panic!("{error}"),
        }
        self.effects(who, effects);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Want { who, start, len, exclusive, wait } => {
                let need = self.span(start, len);
                self.want(who, need, mode(exclusive), wait);
            }
            Step::Hint { who, names, exclusive } => {
                let names: Vec<Name> = names.into_iter().map(|name| self.name(name)).collect();
                for ticket in self.clerks[who].machine.hint(&names, mode(exclusive)) {
                    self.clerks[who].asked.insert(ticket, (None, span(99, 1)));
                }
            }
            Step::Send { who, shard, lost } => {
                self.send(who, shard % self.tables.len(), lost);
            }
            Step::Deliver { who, shard } => {
                self.deliver(who, shard % self.tables.len());
            }
            Step::Flushed { who } => {
                self.flushed(who);
            }
            Step::Unpin { who } => {
                self.unpin(who);
            }
            Step::GiveUp { who, start, len } => {
                let span = self.span(start, len);
                let effects = self.clerks[who].machine.revoke(span, None);
                self.effects(who, effects);
            }
            Step::Cancel { who } => {
                if let Some((ticket, _)) = self.clerks[who].asked.pop_first() {
                    let effects = self.clerks[who].machine.cancel(ticket);
                    self.effects(who, effects);
                }
            }
            Step::Reconnect { who, shard } => self.reconnect(who, shard % self.tables.len()),
            Step::Move { .. } | Step::Drive { .. } | Step::Late { .. } if self.is_one() => {}
            Step::Move { name, to } => {
                let group = LockGroup::of(far(name));
                // Refused while it is on its way elsewhere.
                self.say(0, GroupCommand::Move { group, to: Shard(to) });
            }
            Step::Drive { which } => {
                self.drive(which);
            }
            Step::Late { which } => {
                let (shard, command) = self.said[which % self.said.len()].clone();
                self.say(shard, command);
            }
            Step::Restart { shard } => {
                let shard = shard % self.tables.len();
                self.tables[shard] = Table::load(&self.tables[shard].save()).unwrap();
                (0..CLERKS).for_each(|who| self.reconnect(who, shard));
            }
        }
    }

    fn check(&self) {
        for name in (0..2 * NAMES).map(|number| self.name(number)) {
            let owners: Vec<(usize, Held)> = self
                .clerks
                .iter()
                .enumerate()
                .filter_map(|(who, clerk)| clerk.machine.held.get(name).map(|held| (who, held)))
                .collect();
            let exclusive = owners.iter().any(|(_, held)| held.mode == Mode::Exclusive);
            assert!(!exclusive || owners.len() == 1, "L1: {name:?}: {owners:?}");
        }
    }

    /// Lets everything happen that is still to happen.
    fn settle(&mut self) {
        loop {
            let mut moved = self.drive(0);
            for who in 0..CLERKS {
                moved |= self.unpin(who);
                moved |= self.flushed(who);
                for shard in 0..self.tables.len() {
                    moved |= self.send(who, shard, false);
                    moved |= self.deliver(who, shard);
                }
                self.check();
            }
            if !moved {
                break;
            }
        }
        for (who, clerk) in self.clerks.iter().enumerate() {
            assert!(clerk.asked.is_empty(), "clerk {who} still waits: {:?}", clerk.asked);
            let all = Span::new(Name(0), Name(u64::MAX)).unwrap();
            assert!(!clerk.machine.giving_up(all), "clerk {who} still gives up");
            assert!(!clerk.machine.asking(), "clerk {who} has an open question");
            let locks: Vec<Held> =
                self.tables.iter().flat_map(|table| table.held_by(session(who))).collect();
            for name in (0..2 * NAMES).map(|number| self.name(number)) {
                let table = locks.iter().find(|held| held.span.contains(name));
                let known = clerk.machine.held.get(name);
                assert_eq!(known.map(|held| held.mode), table.map(|held| held.mode), "{name:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clerks_never_hold_conflicting_locks_and_every_waiter_gets_its_lock(steps in steps()) {
        let mut run = Run::new(1);
        for step in steps {
            run.step(step);
            run.check();
        }
        run.settle();
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_holds_while_lock_groups_move_between_three_shards(steps in steps()) {
        let mut run = Run::new(SHARDS);
        for step in steps {
            run.step(step);
            run.check();
        }
        run.settle();
    }
}

#[test]
fn a_name_that_was_had_unknowingly_and_given_up_is_asked_for_again() {
    let mut run = Run::new(SHARDS);
    for step in [
        Step::Hint { who: 2, names: vec![3], exclusive: false },
        Step::Move { name: 2, to: 0 },
        Step::Send { who: 2, shard: 2, lost: false },
        Step::Drive { which: 0 },
        Step::Restart { shard: 2 },
        Step::Deliver { who: 2, shard: 2 },
        Step::Want { who: 0, start: 3, len: 1, exclusive: true, wait: true },
        Step::Want { who: 2, start: 3, len: 1, exclusive: false, wait: true },
    ] {
        run.step(step);
        run.check();
    }
    run.settle();
}

fn snapshot(seq: u64, held: Vec<Held>) -> Event {
    Event::Snapshot { seq: Seq(seq), newest: Grant(9), view: None, held, waiting: Vec::new() }
}

fn exclusive(start: u64, len: u64) -> Held {
    Held { span: span(start, len), mode: Mode::Exclusive, grant: Grant(9) }
}

#[test]
fn a_snapshot_of_the_past_is_refused() {
    let mut machine = Machine::default();
    machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 1)]));
    let effects = machine.revoke(span(1, 1), None);
    let [Effect::Revoke(id, ..)] = effects.as_slice() else { panic!("{effects:?}") };
    machine.revoked(*id);
    let (seq, asks) = machine.batch(Shard::HOME).unwrap();
    assert_eq!(*asks, [Ask::Release(exclusive(1, 1))]);
    machine.acked(Shard::HOME, seq);
    machine.listening(Shard::HOME);
    assert_eq!(
        machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 1)])),
        [Effect::Stale(Shard::HOME)]
    );
    assert!(machine.held.get(Name(1)).is_none(), "what was given back stays given back");
}

/// A recoverer whose first snapshot was refused heard of a dead session before it heard of the second
/// shard, and replayed only what lay at home (schedule 6233).
#[test]
fn what_follows_a_refused_snapshot_is_not_heard() {
    let mut machine = Machine::default();
    machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 1)]));
    let effects = machine.revoke(span(1, 1), None);
    let [Effect::Revoke(id, ..)] = effects.as_slice() else { panic!("{effects:?}") };
    machine.revoked(*id);
    let (seq, _) = machine.batch(Shard::HOME).unwrap();
    machine.acked(Shard::HOME, seq);
    machine.listening(Shard::HOME);
    let stale = machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 1)]));
    assert_eq!(stale, [Effect::Stale(Shard::HOME)]);
    let recover = || Event::Recover { dead: SessionId(7), held: Vec::new() };
    assert_eq!(machine.event(Shard::HOME, recover()), []);
    assert_eq!(machine.event(Shard::HOME, Event::Shards(2)), []);
    machine.listening(Shard::HOME);
    machine.event(Shard::HOME, snapshot(seq.0, Vec::new()));
    assert_eq!(
        machine.event(Shard::HOME, recover()),
        [Effect::Recover(SessionId(7), Vec::new())],
        "it comes again after a snapshot that counts"
    );
}

#[test]
fn a_release_on_its_way_is_taken_off_a_snapshot() {
    let mut machine = Machine::default();
    machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 4)]));
    let effects = machine.revoke(span(2, 1), None);
    let [Effect::Revoke(id, ..)] = effects.as_slice() else { panic!("{effects:?}") };
    machine.revoked(*id);
    machine.batch(Shard::HOME).unwrap();
    machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 4)]));
    assert!(machine.held.get(Name(2)).is_none());
    assert!(machine.held.get(Name(3)).is_some());
}

#[test]
fn a_grant_that_came_while_nobody_listened_is_answered_from_the_snapshot() {
    let mut machine = Machine::default();
    let (want, _) = machine.want((span(1, 1), span(1, 1), Mode::Exclusive), true);
    let Want::Asked(ticket) = want else { panic!("{want:?}") };
    let (seq, asks): (Seq, Arc<[Ask]>) = machine.batch(Shard::HOME).unwrap();
    assert_eq!((seq, asks.len()), (Seq(1), 1));
    let effects = machine.event(Shard::HOME, snapshot(1, vec![exclusive(1, 1)]));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Answer(t, Answer::Granted(..)) if *t == ticket)),
        "{effects:?}"
    );
}

#[test]
fn a_service_that_forgot_a_lock_ends_the_session() {
    let mut machine = Machine::default();
    machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 1)]));
    let effects = machine.event(Shard::HOME, snapshot(0, Vec::new()));
    assert!(effects.contains(&Effect::Over(Error::Expired)), "{effects:?}");
}

#[test]
fn a_pin_that_goes_wakes_those_whom_it_barred_although_the_revocation_still_waits_for_another() {
    let mut machine = Machine::default();
    machine.event(Shard::HOME, snapshot(0, vec![exclusive(1, 2)]));
    let ask = |start| (span(start, 1), span(start, 1), Mode::Exclusive);
    let (Want::Have(first, _), _) = machine.want(ask(1), true) else { panic!() };
    let (Want::Have(second, _), _) = machine.want(ask(2), true) else { panic!() };
    assert!(machine.revoke(span(1, 2), None).is_empty(), "it waits for both pins");
    assert_eq!(machine.want(ask(2), true).0, Want::Revoking);
    assert_eq!(machine.unpin(second), [Effect::Changed], "or the waiter sleeps to its deadline");
    let (Want::Have(again, _), _) = machine.want(ask(2), true) else { panic!() };
    machine.unpin(again);
    let effects = machine.unpin(first);
    assert!(matches!(effects[..], [Effect::Revoke(_, _, None)]), "{effects:?}");
}
