//! The pure clerk against the pure table, under every order of messages, lost answers, repeated
//! batches and broken streams that chance finds: what the clerks hold never conflicts (L1), and
//! when all is delivered nobody waits.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use proptest::prelude::*;

use super::machine::{Answer, Effect, Machine, PinId, RevocationId, Want};
use crate::{
    Error, Grant, Held, Mode, Name, SessionId, Span, Table,
    message::{Ask, Client, Command, Event, Kind, Reply, Seq, Ticket},
};

const NAMES: u64 = 6;
const CLERKS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Want { who: usize, start: u64, len: u64, exclusive: bool, wait: bool },
    Hint { who: usize, names: Vec<u64>, exclusive: bool },
    Send { who: usize, lost: bool },
    Deliver { who: usize },
    Flushed { who: usize },
    Unpin { who: usize },
    GiveUp { who: usize, start: u64, len: u64 },
    Cancel { who: usize },
    Reconnect { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..CLERKS;
    let step = prop_oneof![
        6 => (who.clone(), 0..NAMES, 1..3u64, any::<bool>(), any::<bool>()).prop_map(
            |(who, start, len, exclusive, wait)| Step::Want { who, start, len, exclusive, wait }
        ),
        1 => (who.clone(), prop::collection::vec(0..NAMES, 1..5), any::<bool>())
            .prop_map(|(who, names, exclusive)| Step::Hint { who, names, exclusive }),
        8 => (who.clone(), any::<bool>()).prop_map(|(who, lost)| Step::Send { who, lost }),
        8 => who.clone().prop_map(|who| Step::Deliver { who }),
        5 => who.clone().prop_map(|who| Step::Flushed { who }),
        5 => who.clone().prop_map(|who| Step::Unpin { who }),
        1 => (who.clone(), 0..NAMES, 1..NAMES)
            .prop_map(|(who, start, len)| Step::GiveUp { who, start, len }),
        1 => who.clone().prop_map(|who| Step::Cancel { who }),
        1 => who.prop_map(|who| Step::Reconnect { who }),
    ];
    prop::collection::vec(step, 1..250)
}

#[derive(Default)]
struct Clerk {
    machine: Machine,
    stream: VecDeque<Event>,
    pins: VecDeque<(PinId, Span)>,
    flushing: VecDeque<(RevocationId, Span)>,
    /// With whether it can be refused: not if it waits for one name.
    asked: BTreeMap<Ticket, (bool, Span)>,
}

struct Run {
    table: Table,
    clerks: Vec<Clerk>,
}

fn span(start: u64, len: u64) -> Span {
    Span::new(Name(start), Name(start + len)).unwrap()
}

fn mode(exclusive: bool) -> Mode {
    if exclusive { Mode::Exclusive } else { Mode::Shared }
}

fn session(who: usize) -> SessionId {
    SessionId(who as u64 + 1)
}

impl Run {
    fn new() -> Self {
        let mut run = Self { table: Table::new(), clerks: Vec::new() };
        for who in 0..CLERKS {
            let client = Client {
                owner: format!("clerk{who}"),
                host: String::new(),
                kind: Kind::Mount,
                able: true,
                nonce: who as u64,
            };
            let reply = run.table.handle(Command::Open { client, replace: false });
            assert_eq!(reply, Reply::Opened(session(who)));
            run.clerks.push(Clerk::default());
            run.reconnect(who);
        }
        run
    }

    fn reconnect(&mut self, who: usize) {
        self.pump();
        self.clerks[who].machine.listening();
        self.clerks[who].stream = self.table.listen(session(who)).into();
    }

    fn pump(&mut self) {
        for (session, event) in self.table.drain() {
            self.clerks[session.0 as usize - 1].stream.push_back(event);
        }
    }

    fn effects(&mut self, who: usize, effects: Vec<Effect>) {
        for effect in effects {
            let clerk = &mut self.clerks[who];
            match effect {
                Effect::Answer(ticket, answer) => {
                    let wanted = clerk.asked.remove(&ticket);
                    let (certain, need) = wanted.unwrap_or((false, span(99, 1)));
                    match answer {
                        Answer::Granted(pin, _) => clerk.pins.push_back((pin, need)),
                        Answer::Refused => assert!(!certain, "a wait for one name fails"),
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
                Effect::Stale => panic!("a snapshot of the newest state is never stale"),
                Effect::Over(error) => panic!("{error}"),
                Effect::Claimed(..) => panic!("nobody claims anything"),
                Effect::Recover(..) | Effect::Renew | Effect::Send | Effect::Changed => {}
            }
        }
    }

    fn send(&mut self, who: usize, lost: bool) -> bool {
        let Some((seq, asks)) = self.clerks[who].machine.batch() else { return false };
        let batch = Command::Batch { session: session(who), seq, asks: asks.to_vec() };
        assert_eq!(self.table.handle(batch), Reply::Done);
        self.table.check().unwrap();
        self.pump();
        if !lost {
            self.clerks[who].machine.acked(seq);
        }
        true
    }

    fn deliver(&mut self, who: usize) -> bool {
        let Some(event) = self.clerks[who].stream.pop_front() else { return false };
        let effects = self.clerks[who].machine.event(event);
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

    fn step(&mut self, step: Step) {
        match step {
            Step::Want { who, start, len, exclusive, wait } => {
                let need = span(start, len);
                let (want, effects) =
                    self.clerks[who].machine.want((need, need, mode(exclusive)), wait);
                match want {
                    Want::Asked(ticket) => {
                        self.clerks[who].asked.insert(ticket, (wait && len == 1, need));
                    }
                    Want::Have(pin, _) => self.clerks[who].pins.push_back((pin, need)),
                    Want::Revoking | Want::Asking => {}
                    Want::Over(error) => panic!("{error}"),
                }
                self.effects(who, effects);
            }
            Step::Hint { who, names, exclusive } => {
                let names: Vec<Name> = names.into_iter().map(Name).collect();
                if let Some(ticket) = self.clerks[who].machine.hint(&names, mode(exclusive)) {
                    self.clerks[who].asked.insert(ticket, (false, span(99, 1)));
                }
            }
            Step::Send { who, lost } => {
                self.send(who, lost);
            }
            Step::Deliver { who } => {
                self.deliver(who);
            }
            Step::Flushed { who } => {
                self.flushed(who);
            }
            Step::Unpin { who } => {
                self.unpin(who);
            }
            Step::GiveUp { who, start, len } => {
                let effects = self.clerks[who].machine.revoke(span(start, len), None);
                self.effects(who, effects);
            }
            Step::Cancel { who } => {
                if let Some((ticket, _)) = self.clerks[who].asked.pop_first() {
                    let effects = self.clerks[who].machine.cancel(ticket);
                    self.effects(who, effects);
                }
            }
            Step::Reconnect { who } => self.reconnect(who),
        }
    }

    fn check(&self) {
        for name in (0..2 * NAMES).map(Name) {
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
            let mut moved = false;
            for who in 0..CLERKS {
                moved |= self.unpin(who);
                moved |= self.flushed(who);
                moved |= self.send(who, false);
                moved |= self.deliver(who);
                self.check();
            }
            if !moved {
                break;
            }
        }
        for (who, clerk) in self.clerks.iter().enumerate() {
            assert!(clerk.asked.is_empty(), "clerk {who} still waits: {:?}", clerk.asked);
            assert!(!clerk.machine.giving_up(span(0, 99)), "clerk {who} still gives up");
            assert!(!clerk.machine.asking(), "clerk {who} has an open question");
            let locks = self.table.held_by(session(who));
            for name in (0..2 * NAMES).map(Name) {
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
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            run.check();
        }
        run.settle();
    }
}

fn snapshot(seq: u64, held: Vec<Held>) -> Event {
    Event::Snapshot { seq: Seq(seq), newest: Grant(9), held, waiting: Vec::new() }
}

fn exclusive(start: u64, len: u64) -> Held {
    Held { span: span(start, len), mode: Mode::Exclusive, grant: Grant(9) }
}

#[test]
fn a_snapshot_of_the_past_is_refused() {
    let mut machine = Machine::default();
    machine.event(snapshot(0, vec![exclusive(1, 1)]));
    let effects = machine.revoke(span(1, 1), None);
    let [Effect::Revoke(id, ..)] = effects.as_slice() else { panic!("{effects:?}") };
    machine.revoked(*id);
    let (seq, asks) = machine.batch().unwrap();
    assert_eq!(*asks, [Ask::Release(exclusive(1, 1))]);
    machine.acked(seq);
    machine.listening();
    assert_eq!(machine.event(snapshot(0, vec![exclusive(1, 1)])), [Effect::Stale]);
    assert!(machine.held.get(Name(1)).is_none(), "what was given back stays given back");
}

#[test]
fn a_release_on_its_way_is_taken_off_a_snapshot() {
    let mut machine = Machine::default();
    machine.event(snapshot(0, vec![exclusive(1, 4)]));
    let effects = machine.revoke(span(2, 1), None);
    let [Effect::Revoke(id, ..)] = effects.as_slice() else { panic!("{effects:?}") };
    machine.revoked(*id);
    machine.batch().unwrap();
    machine.event(snapshot(0, vec![exclusive(1, 4)]));
    assert!(machine.held.get(Name(2)).is_none());
    assert!(machine.held.get(Name(3)).is_some());
}

#[test]
fn a_grant_that_came_while_nobody_listened_is_answered_from_the_snapshot() {
    let mut machine = Machine::default();
    let (want, _) = machine.want((span(1, 1), span(1, 1), Mode::Exclusive), true);
    let Want::Asked(ticket) = want else { panic!("{want:?}") };
    let (seq, asks): (Seq, Arc<[Ask]>) = machine.batch().unwrap();
    assert_eq!((seq, asks.len()), (Seq(1), 1));
    let effects = machine.event(snapshot(1, vec![exclusive(1, 1)]));
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
    machine.event(snapshot(0, vec![exclusive(1, 1)]));
    let effects = machine.event(snapshot(0, Vec::new()));
    assert!(effects.contains(&Effect::Over(Error::Expired)), "{effects:?}");
}

#[test]
fn a_pin_that_goes_wakes_those_whom_it_barred_although_the_revocation_still_waits_for_another() {
    let mut machine = Machine::default();
    machine.event(snapshot(0, vec![exclusive(1, 2)]));
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
