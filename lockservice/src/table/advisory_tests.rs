//! Random claims against a model that knows each byte: nobody gets what conflicts, everybody gets what
//! does not, parts split and join as they should, and a checkpoint changes nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Table;
use crate::{
    SessionId,
    advisory::{Claim, Claimant, Claimed, Patience, Stretch},
    message::{Ask, Client, Command, Event, Kind, Reply, Seq, Ticket},
    name::Mode,
};

const BYTES: u64 = 10;

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim {
        who: usize,
        by: u64,
        file: u64,
        first: u64,
        len: u64,
        mode: Option<Mode>,
        patience: Patience,
    },
    Cancel {
        who: usize,
    },
    Expire {
        who: usize,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..3usize;
    let mode =
        prop_oneof![Just(None), Just(Some(Mode::Shared)), Just(Some(Mode::Exclusive))].boxed();
    let patience =
        prop_oneof![3 => Just(Patience::Wait), 2 => Just(Patience::Try), 1 => Just(Patience::Test)];
    let claim = (who.clone(), 0..2u64, 0..2u64, 0..BYTES, 1..6u64, mode, patience).prop_map(
        |(who, by, file, first, len, mode, patience)| Step::Claim {
            who,
            by,
            file,
            first,
            len,
            mode,
            patience,
        },
    );
    let step = prop_oneof![
        20 => claim,
        2 => who.clone().prop_map(|who| Step::Cancel { who }),
        1 => who.prop_map(|who| Step::Expire { who }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

type Who = (SessionId, Claimant);

/// Who has which byte of which file.
#[derive(Default, PartialEq, Debug)]
struct Bytes(BTreeMap<(u64, u64), BTreeMap<Who, Mode>>);

impl Bytes {
    fn clashes(&self, who: Who, claim: &Claim) -> bool {
        let Some(mode) = claim.mode else { return false };
        (claim.stretch.first()..=claim.stretch.last()).any(|byte| {
            let holders = self.0.get(&(claim.file, byte)).into_iter().flatten();
            let mut others = holders.filter(|(holder, _)| **holder != who);
            others.any(|(_, held)| [*held, mode].contains(&Mode::Exclusive))
        })
    }

    fn set(&mut self, who: Who, claim: &Claim) {
        for byte in claim.stretch.first()..=claim.stretch.last() {
            let holders = self.0.entry((claim.file, byte)).or_default();
            match claim.mode {
                Some(mode) => holders.insert(who, mode),
                None => holders.remove(&who),
            };
            if holders.is_empty() {
                self.0.remove(&(claim.file, byte));
            }
        }
    }

    fn end(&mut self, session: SessionId) {
        for holders in self.0.values_mut() {
            holders.retain(|(holder, _), _| *holder != session);
        }
        self.0.retain(|_, holders| !holders.is_empty());
    }
}

struct Run {
    table: Table,
    sessions: Vec<SessionId>,
    model: Bytes,
    open: BTreeMap<(SessionId, Ticket), Claim>,
    next: u64,
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            table: Table::new(),
            sessions: Vec::new(),
            model: Bytes::default(),
            open: BTreeMap::new(),
            next: 0,
        };
        for _ in 0..3 {
            let session = run.session();
            run.sessions.push(session);
        }
        run
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn session(&mut self) -> SessionId {
        let nonce = self.fresh();
        let (owner, host) = (nonce.to_string(), String::new());
        let client = Client { owner, host, kind: Kind::Mount, able: true, nonce };
        let Reply::Opened(session) = self.table.handle(Command::Open { client, replace: false })
        else {
            panic!("it opens")
        };
        self.table.listen(session);
        session
    }

    fn ask(&mut self, session: SessionId, ask: Ask) {
        let seq = Seq(self.fresh());
        self.table.handle(Command::Batch { session, seq, asks: vec![ask] });
    }

    /// What the table said, in order: each thing that was done could be done.
    fn hear(&mut self) -> BTreeMap<(SessionId, Ticket), Claimed> {
        let mut heard = BTreeMap::new();
        for (session, event) in self.table.drain() {
            let Event::Claimed(ticket, claimed) = event else { continue };
            let claim = self.open.remove(&(session, ticket)).expect("it was asked, and only once");
            if claimed == Claimed::Done {
                let who = (session, claim.by);
                assert!(!self.model.clashes(who, &claim), "{claim:?} of {who:?} is in conflict");
                self.model.set(who, &claim);
            }
            heard.insert((session, ticket), claimed);
        }
        heard
    }

    fn claim(&mut self, session: SessionId, claim: Claim, patience: Patience) {
        let ticket = Ticket(self.fresh());
        let clashes = self.model.clashes((session, claim.by), &claim);
        // A test changes nothing, so the model must not follow it.
        let said = if patience == Patience::Test {
            Claim { mode: None, stretch: Stretch::new(BYTES * 9, BYTES * 9).unwrap(), ..claim }
        } else {
            claim
        };
        self.open.insert((session, ticket), said);
        self.ask(session, Ask::Claim { ticket, claim, patience });
        let heard = self.hear();
        let answer = heard.get(&(session, ticket));
        match (clashes, patience) {
            (false, _) => assert_eq!(answer, Some(&Claimed::Done), "nothing is in the way"),
            (true, Patience::Wait) => {
                assert!(matches!(answer, None | Some(Claimed::Deadlock)), "{answer:?}");
            }
            (true, _) => assert!(matches!(answer, Some(Claimed::Busy(_))), "{answer:?}"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim { who, by, file, first, len, mode, patience } => {
                let stretch = Stretch::new(first, first + len - 1).unwrap();
                let claim = Claim { file, by: Claimant(by), process: 1, stretch, mode };
                self.claim(self.sessions[who], claim, patience);
            }
            Step::Cancel { who } => {
                let session = self.sessions[who];
                let first = self.open.keys().find(|(of, _)| *of == session).copied();
                if let Some((_, ticket)) = first {
                    self.ask(session, Ask::Cancel(ticket));
                    let heard = self.hear();
                    assert_eq!(heard.get(&(session, ticket)), Some(&Claimed::Cancelled));
                }
            }
            Step::Expire { who } => {
                let gone = self.sessions[who];
                self.sessions[who] = self.session();
                self.model.end(gone);
                self.open.retain(|(session, _), _| *session != gone);
                self.table.handle(Command::Expire(gone));
                self.hear();
            }
            Step::Restart => {
                self.table = Table::load(&self.table.save()).unwrap();
                for &session in &self.sessions {
                    self.table.listen(session);
                }
            }
        }
        self.table.check().unwrap();
        let mut found = Bytes::default();
        for (session, claim) in self.table.advisory.held() {
            assert!(!found.clashes((session, claim.by), &claim));
            found.set((session, claim.by), &claim);
        }
        assert_eq!(found, self.model);
        assert_eq!(self.table.advisory.waits().count(), self.open.len(), "each waits once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn claims_agree_with_a_model_of_each_byte(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
    }
}

#[test]
fn what_lies_side_by_side_and_is_held_alike_is_one_part() {
    let mut run = Run::new();
    let session = run.sessions[0];
    for first in [0, 2, 1, 4, 3] {
        let stretch = Stretch::new(first, first).unwrap();
        let mode = Some(Mode::Exclusive);
        let claim = Claim { file: 1, by: Claimant(1), process: 1, stretch, mode };
        run.claim(session, claim, Patience::Try);
    }
    let parts: Vec<Claim> = run.table.advisory.held().map(|(_, claim)| claim).collect();
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].stretch, Stretch::new(0, 4).unwrap());
}
