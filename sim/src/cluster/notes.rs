//! What all users of a schedule note, and the histories that come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::atomic::Step;
use super::check::foreign::Foreign;
use super::judge::{Act, Deed, File, Register};
use crate::simulation::Lines;
use crate::wgl::{Operation, Outcome};

/// What a sync makes durable. Names go with everything: there is one log.
#[derive(Clone, Copy)]
pub(super) enum Covers {
    Names,
    File(File),
    All,
}

impl Covers {
    fn covers(self, register: Register) -> bool {
        match (self, register) {
            (Self::All, _) | (_, Register::Name(..)) => true,
            (Self::Names, _) => false,
            (Self::File(file), Register::Sector(of, _) | Register::Size(of)) => file == of,
        }
    }
}

/// A sync that was answered.
struct Synced {
    client: u64,
    what: Covers,
    when: (u64, u64),
}

/// An operation that was not answered yet.
struct UnderWay {
    client: u64,
    called: u64,
    means: Acts,
}

/// What was done to registers, or seen in them.
pub(super) type Acts = Vec<(Register, Act)>;

/// The notes of one schedule.
#[derive(Default)]
pub(super) struct Notes {
    /// Nobody begins anything any more.
    pub(super) stop: bool,
    value: u64,
    operations: Vec<Operation<Deed, ()>>,
    /// The same as far as names are concerned, with what belongs together in one.
    steps: Vec<Operation<Step, ()>>,
    pub(super) foreign: Foreign,
    syncs: Vec<Synced>,
    /// When a client was gone, or at the earliest.
    deaths: BTreeMap<u64, u64>,
    /// Clients that lost their lease and were not replaced yet.
    pub(super) lost: BTreeSet<u64>,
    /// When a client last began something that was answered.
    last: BTreeMap<u64, u64>,
    under_way: BTreeMap<u64, UnderWay>,
    begun: u64,
    lines: Lines,
}

impl Notes {
    pub(super) fn new(lines: Option<usize>) -> Self {
        Self { lines: Lines::new(lines), ..Self::default() }
    }

    /// A value that nobody wrote before, to be written to this file.
    pub(super) fn next_value(&mut self, to: File) -> u64 {
        self.value += 1;
        self.foreign.writes(self.value, to);
        self.value
    }

    /// Operations that were answered or given up.
    pub(super) fn count(&self) -> u64 {
        self.operations.len() as u64
    }

    /// An operation begins; its number.
    pub(super) fn begin(&mut self, client: u64, called: u64) -> u64 {
        self.begun += 1;
        self.under_way.insert(self.begun, UnderWay { client, called, means: Vec::new() });
        self.begun
    }

    /// What an operation is about to do.
    pub(super) fn mean(&mut self, operation: u64, acts: &[(Register, Act)]) {
        if let Some(under_way) = self.under_way.get_mut(&operation) {
            under_way.means = acts.to_vec();
        }
    }

    /// What an operation has seen before it goes on; the rest of it begins now.
    pub(super) fn saw(&mut self, operation: u64, now: u64, acts: Acts) {
        let Some(under_way) = self.under_way.get_mut(&operation) else { return };
        let (client, called) = (under_way.client, std::mem::replace(&mut under_way.called, now));
        self.did(client, acts, (called, now));
    }

    /// An operation was answered.
    pub(super) fn end(&mut self, operation: u64, acts: Acts, (called, at): (u64, u64)) {
        let Some(UnderWay { client, called: since, .. }) = self.under_way.remove(&operation) else {
            return;
        };
        self.did(client, acts, (called.max(since), at));
    }

    /// An operation failed: what it meant to do may have happened.
    pub(super) fn fail(&mut self, operation: u64) {
        if let Some(under_way) = self.under_way.remove(&operation) {
            self.try_all(under_way, None);
        }
    }

    fn try_all(&mut self, UnderWay { client, called, means }: UnderWay, until: Option<u64>) {
        self.note(client, means, called, Outcome::Unknown { until });
    }

    fn note(&mut self, client: u64, acts: Acts, called: u64, outcome: Outcome<()>) {
        let of_names = |(register, _): &(Register, Act)| matches!(register, Register::Name(..));
        let names: Acts = acts.iter().copied().filter(of_names).collect();
        for (register, act) in acts {
            let input = Deed { client, register, act };
            self.operations.push(Operation { client, called, input, outcome: outcome.clone() });
        }
        if !names.is_empty() {
            let input = Step { client, acts: names };
            self.steps.push(Operation { client, called, input, outcome });
        }
    }

    /// Whether anybody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    fn did(&mut self, client: u64, acts: Acts, (called, at): (u64, u64)) {
        let last = self.last.entry(client).or_default();
        *last = called.max(*last);
        self.note(client, acts, called, Outcome::Returned { at, output: () });
    }

    pub(super) fn synced(&mut self, client: u64, what: Covers, when: (u64, u64)) {
        self.syncs.push(Synced { client, what, when });
    }

    /// A client found that its lease is lost, and is to be replaced.
    pub(super) fn lost(&mut self, client: u64) {
        if self.gone(client) {
            self.lost.insert(client);
        }
    }

    /// A client found that its lease is lost. Whether that is news.
    pub(super) fn gone(&mut self, client: u64) -> bool {
        // What it had not made durable may have been gone since its last answer.
        let last = self.last.get(&client).copied().unwrap_or_default();
        self.deaths.insert(client, last).is_none()
    }

    /// A client was killed; what it had under way is never answered. It may have been frozen before, and recovered: so
    /// its death, too, may have been at any moment since its last answer.
    pub(super) fn died(&mut self, client: u64, now: u64) {
        self.gone(client);
        let mine = self.under_way.extract_if(.., |_, under_way| under_way.client == client);
        let mine: Vec<UnderWay> = mine.map(|(_, under_way)| under_way).collect();
        for under_way in mine {
            // Who is dead does nothing more.
            self.try_all(under_way, Some(now));
        }
    }

    pub(super) fn say(&mut self, now: Duration, line: impl FnOnce() -> String) {
        self.lines.say_at(now, line);
    }

    pub(super) fn keeps_lines(&self) -> bool {
        self.lines.are_kept()
    }

    pub(super) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take()
    }

    /// All that clients did and saw, register by register, with their syncs and deaths.
    pub(super) fn history(&self) -> Vec<Operation<Deed, ()>> {
        let mut history = self.operations.clone();
        let mut touched: BTreeMap<u64, BTreeSet<Register>> = BTreeMap::new();
        for operation in &history {
            touched.entry(operation.client).or_default().insert(operation.input.register);
        }
        let none = BTreeSet::new();
        for Synced { client, what, when: (called, at) } in &self.syncs {
            let mine = touched.get(client).unwrap_or(&none).iter();
            for register in mine.filter(|register| what.covers(**register)) {
                let input = Deed { client: *client, register: *register, act: Act::Sync };
                let outcome = Outcome::Returned { at: *at, output: () };
                history.push(Operation { client: *client, called: *called, input, outcome });
            }
        }
        for (client, called) in &self.deaths {
            for register in touched.get(client).unwrap_or(&none) {
                history.push(death(
                    Deed { client: *client, register: *register, act: Act::Die },
                    (*client, *called),
                ));
            }
        }
        history
    }

    /// What clients did to names and saw of them, operation by operation, with their deaths.
    pub(super) fn steps(&mut self) -> Vec<Operation<Step, ()>> {
        let mut steps = std::mem::take(&mut self.steps);
        let mut touched: BTreeMap<u64, BTreeSet<Register>> = BTreeMap::new();
        for step in &steps {
            let names = step.input.acts.iter().map(|(register, _)| *register);
            touched.entry(step.client).or_default().extend(names);
        }
        for (client, called) in &self.deaths {
            let Some(names) = touched.get(client) else { continue };
            let acts = names.iter().map(|name| (*name, Act::Die)).collect();
            steps.push(death(Step { client: *client, acts }, (*client, *called)));
        }
        steps
    }
}

/// Nobody saw when it happened, if it did.
fn death<I>(input: I, (client, called): (u64, u64)) -> Operation<I, ()> {
    Operation { client, called, input, outcome: Outcome::Unknown { until: None } }
}

#[cfg(test)]
mod tests {
    use super::{Notes, Register};
    use crate::cluster::judge::{Act, File, Value};

    #[test]
    fn who_is_frozen_and_then_killed_may_have_died_when_it_was_frozen() {
        // As in seed 207 of the file system: others had recovered the session before it was killed.
        let mut notes = Notes::new(None);
        let sector = Register::Sector(File { ino: 7, generation: 1 }, 0);
        let operation = notes.begin(1, 10);
        notes.end(operation, vec![(sector, Act::Put(Value::Number(5)))], (10, 12));
        notes.died(1, 100);
        let history = notes.history();
        let death = history.iter().find(|operation| operation.input.act == Act::Die).unwrap();
        assert_eq!((death.client, death.called), (1, 10));
    }
}
