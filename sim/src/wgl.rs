//! A checker of linearizability: is there an order of the operations, each at one moment between its call and its
//! return, in which a sequential object would have answered the same?
//!
//! The search is that of Wing and Gong (*Testing and Verifying Concurrent Objects*, 1993) with the undoing list and the
//! memory of Lowe (*Testing for linearizability*, 2017): a pair of "what is placed" and "state" is never entered twice.
//! Histories fall apart into one for each key, since linearizability is local. The object is a [`Model`]; this file knows
//! nothing of where a history comes from.

mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use list::{End, List};

/// A sequential object: what the operations should have done, had they come one after the other.
pub trait Model {
    /// Operations on different keys do not touch each other.
    type Key: Clone + Ord + fmt::Debug;
    /// The state of one key.
    type State: Clone + Ord + fmt::Debug;
    /// What is asked.
    type Input: fmt::Debug;
    /// What is answered.
    type Output: fmt::Debug;

    /// Which key an operation is about.
    fn key(&self, input: &Self::Input) -> Self::Key;

    /// The state of a key before any operation.
    fn initial(&self, key: &Self::Key) -> Self::State;

    /// The state after this operation, or `None` if the object would not have answered so. Without an `output` the
    /// answer is not known, and any is right.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;
}

/// How an operation ended. Moments are numbers that grow; their unit is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<O> {
    /// Answered: it happened between its call and this moment.
    Returned {
        /// When the answer was seen.
        at: u64,
        /// The answer.
        output: O,
    },
    /// Never answered: it happened after its call, or not at all.
    Unknown {
        /// It cannot happen after this moment; `None` if it can at any time.
        until: Option<u64>,
    },
}

/// One operation of a history.
#[derive(Clone, Debug)]
pub struct Operation<I, O> {
    /// Who asked; for the reader of a report.
    pub client: u64,
    /// When it was asked.
    pub called: u64,
    /// What was asked.
    pub input: I,
    /// What became of it.
    pub outcome: Outcome<O>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable {
        /// Placements that were tried, over all keys.
        tried: u64,
    },
    /// There is none.
    Violated {
        /// The history of the key, with the longest order that was found; for a human.
        report: String,
    },
    /// The search was given up: nothing was shown.
    Exhausted {
        /// The key at which that happened.
        key: String,
    },
}

/// Looks for an order. After `budget` placements on one key the search is given up.
pub fn check<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    budget: u64,
) -> Verdict {
    let mut keys: BTreeMap<M::Key, Vec<&Operation<M::Input, M::Output>>> = BTreeMap::new();
    for operation in history {
        keys.entry(model.key(&operation.input)).or_default().push(operation);
    }
    let mut tried = 0;
    for (key, operations) in keys {
        let mut search = Search::new(model, &key, operations);
        match search.run(budget) {
            Some(true) => tried += search.tried,
            Some(false) => return Verdict::Violated { report: search.report(&key) },
            None => return Verdict::Exhausted { key: format!("{key:?}") },
        }
    }
    Verdict::Linearizable { tried }
}

/// A set of operations, by number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Placed(Vec<u64>);

impl Placed {
    fn flip(&mut self, operation: usize) {
        self.0[operation / 64] ^= 1 << (operation % 64);
    }
}

/// A choice that can be undone.
struct Choice<S> {
    operation: usize,
    before: S,
    /// It was chosen that this unanswered operation never happened.
    dropped: bool,
}

/// The search on one key.
struct Search<'a, M: Model> {
    model: &'a M,
    operations: Vec<&'a Operation<M::Input, M::Output>>,
    list: List,
    state: M::State,
    placed: Placed,
    seen: BTreeSet<(Placed, M::State)>,
    choices: Vec<Choice<M::State>>,
    /// The longest order found, for the report.
    longest: Vec<usize>,
    tried: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(
        model: &'a M,
        key: &M::Key,
        operations: Vec<&'a Operation<M::Input, M::Output>>,
    ) -> Self {
        let spans = operations.iter().map(|operation| {
            let end = match &operation.outcome {
                Outcome::Returned { at, .. } => Some(*at),
                Outcome::Unknown { until } => *until,
            };
            (operation.called, end)
        });
        Self {
            list: List::new(spans),
            state: model.initial(key),
            placed: Placed(vec![0; operations.len().div_ceil(64)]),
            seen: BTreeSet::new(),
            choices: Vec::new(),
            longest: Vec::new(),
            tried: 0,
            model,
            operations,
        }
    }

    /// Whether an order exists; `None` if the budget was too small.
    fn run(&mut self, budget: u64) -> Option<bool> {
        let mut at = self.list.first();
        // What never ends need not be placed.
        while self.list.open() > 0 {
            if self.tried > budget {
                return None;
            }
            at = match self.list.end(at) {
                End::Call(operation) => {
                    let Operation { input, outcome, .. } = self.operations[operation];
                    let output = match outcome {
                        Outcome::Returned { output, .. } => Some(output),
                        Outcome::Unknown { .. } => None,
                    };
                    let next = self.model.step(&self.state, input, output);
                    if next.is_some_and(|next| self.choose(operation, next, false)) {
                        self.list.first()
                    } else {
                        self.list.after(at)
                    }
                }
                End::Return(operation) => {
                    let outcome = &self.operations[operation].outcome;
                    let optional = matches!(outcome, Outcome::Unknown { .. });
                    let state = self.state.clone();
                    if optional && self.choose(operation, state, true) {
                        self.list.first()
                    } else {
                        match self.undo() {
                            Some(at) => at,
                            None => return Some(false),
                        }
                    }
                }
            };
        }
        Some(true)
    }

    /// Places an operation next, unless that leads where the search has been.
    fn choose(&mut self, operation: usize, next: M::State, dropped: bool) -> bool {
        self.tried += 1;
        self.placed.flip(operation);
        if !self.seen.insert((self.placed.clone(), next.clone())) {
            self.placed.flip(operation);
            return false;
        }
        let before = std::mem::replace(&mut self.state, next);
        self.choices.push(Choice { operation, before, dropped });
        self.list.lift(operation);
        if self.choices.len() > self.longest.len() {
            self.longest = self.choices.iter().map(|c| c.operation).collect();
        }
        true
    }

    /// Takes the last placement back; where to go on, or `None` if there is nothing left to try.
    fn undo(&mut self) -> Option<usize> {
        loop {
            let Choice { operation, before, dropped } = self.choices.pop()?;
            self.state = before;
            self.placed.flip(operation);
            let call = self.list.put_back(operation);
            // Dropping was the last thing to be tried there.
            if !dropped {
                return Some(self.list.after(call));
            }
        }
    }

    fn report(&self, key: &M::Key) -> String {
        let mut lines = vec![format!("no order of the operations on {key:?} explains all answers")];
        let mut state = self.model.initial(key);
        lines.push(format!("  the longest that was found, from {state:?}:"));
        for number in &self.longest {
            let operation = self.operations[*number];
            let output = match &operation.outcome {
                Outcome::Returned { output, .. } => Some(output),
                Outcome::Unknown { .. } => None,
            };
            if let Some(next) = self.model.step(&state, &operation.input, output) {
                state = next;
            }
            lines.push(format!("    {operation:?} -> {state:?}"));
        }
        lines.push("  what could not follow:".to_owned());
        for (number, operation) in self.operations.iter().enumerate() {
            if !self.longest.contains(&number) {
                lines.push(format!("    {operation:?}"));
            }
        }
        lines.truncate(80);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests;
