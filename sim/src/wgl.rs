//! A checker of linearizability: is there an order of the operations, each at one moment between its call and its
//! return, in which a sequential object would have answered the same?
//!
//! A search in the manner of Wing and Gong (*Testing and Verifying Concurrent Objects*, 1993), one operation placed after the
//! other, with the memory of Lowe (*Testing for linearizability*, 2017): a pair of "what is placed" and "state" is never
//! entered twice. Histories fall apart into one for each key, since linearizability is local. What makes it long are
//! operations without an answer: each may have happened at any later time, or not at all. So
//! - an answer that shows a state and changes none is placed as soon as it fits, and nothing else is tried there;
//! - the memory also refuses a place that differs from a known one only in that more unanswered operations are spent;
//! - places where few are spent come first, which is why the known ones are mostly those.
//!
//! The object is a [`Model`]; this file knows nothing of where a history comes from.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

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

    /// Whether this operation with this answer leaves every state in which it is possible as it is: a read, a refused swap.
    fn observes(&self, input: &Self::Input, output: &Self::Output) -> bool;
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
struct Set(Vec<u64>);

impl Set {
    fn add(&mut self, operation: usize) {
        self.0[operation / 64] |= 1 << (operation % 64);
    }

    fn has(&self, operation: usize) -> bool {
        self.0[operation / 64] & (1 << (operation % 64)) != 0
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, others)| mine & !others == 0)
    }
}

/// A place in the search: what is placed, and the state after it.
struct Node<S> {
    /// What was placed last, and the node before that; the root has none.
    from: Option<(usize, usize)>,
    /// The answered operations that are placed.
    placed: Set,
    /// How many are not.
    left: usize,
    /// The unanswered operations that are placed.
    spent: Set,
    /// The latest call of what is placed: whatever ended before it can be placed no more.
    latest: u64,
    state: S,
}

/// What is looked at first: few unanswered operations spent, then few answered ones left, then what was found last.
type Rank = (Reverse<u32>, Reverse<usize>, usize);

/// The search on one key.
struct Search<'a, M: Model> {
    model: &'a M,
    /// In the order of their calls.
    operations: Vec<&'a Operation<M::Input, M::Output>>,
    nodes: Vec<Node<M::State>>,
    /// Nodes to go on from.
    open: BinaryHeap<Rank>,
    /// By the answered operations placed and the state: the sets of unanswered ones that were spent on the way there.
    seen: BTreeMap<(Set, M::State), Vec<Set>>,
    tried: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(
        model: &'a M,
        key: &M::Key,
        mut operations: Vec<&'a Operation<M::Input, M::Output>>,
    ) -> Self {
        operations.sort_by_key(|operation| operation.called);
        let answered = |o: &&&Operation<_, _>| matches!(o.outcome, Outcome::Returned { .. });
        let none = Set(vec![0; operations.len().div_ceil(64)]);
        let root = Node {
            from: None,
            placed: none.clone(),
            left: operations.iter().filter(answered).count(),
            spent: none,
            latest: 0,
            state: model.initial(key),
        };
        Self {
            model,
            operations,
            open: BinaryHeap::from([(Reverse(0), Reverse(root.left), 0)]),
            nodes: vec![root],
            seen: BTreeMap::new(),
            tried: 0,
        }
    }

    /// Whether an order exists; `None` if the budget was too small.
    fn run(&mut self, budget: u64) -> Option<bool> {
        while let Some((_, Reverse(left), node)) = self.open.pop() {
            if left == 0 {
                return Some(true);
            }
            for (operation, next) in self.candidates(&self.nodes[node]) {
                if self.tried >= budget {
                    return None;
                }
                self.place(node, operation, next);
            }
        }
        Some(false)
    }

    /// The first end of what must still be placed after a node, and of what can be.
    fn ends(&self, node: &Node<M::State>) -> (u64, u64) {
        let (mut must, mut can) = (u64::MAX, u64::MAX);
        for (number, operation) in self.operations.iter().enumerate() {
            match operation.outcome {
                Outcome::Returned { at, .. } if !node.placed.has(number) => must = must.min(at),
                Outcome::Unknown { until: Some(until) }
                    if until >= node.latest && !node.spent.has(number) =>
                {
                    can = can.min(until);
                }
                _ => {}
            }
        }
        (must, can.min(must))
    }

    /// What may be placed after a node, and the state after it.
    fn candidates(&self, node: &Node<M::State>) -> Vec<(usize, M::State)> {
        let (must, can) = self.ends(node);
        let mut candidates = Vec::new();
        for (number, operation) in self.operations.iter().enumerate() {
            let Operation { called, input, outcome, .. } = operation;
            if *called > must {
                break;
            } else if node.placed.has(number) || node.spent.has(number) {
                continue;
            }
            match outcome {
                Outcome::Returned { output, .. } => {
                    let next = self.model.step(&node.state, input, Some(output));
                    let Some(next) = next else { continue };
                    if *called <= can && self.model.observes(input, output) {
                        // It fits here and changes nothing, so whatever order there is, it may as well come first.
                        return vec![(number, next)];
                    }
                    candidates.push((number, next));
                }
                Outcome::Unknown { until } => {
                    let next = self.model.step(&node.state, input, None);
                    // What changes nothing and answers nobody can be left out.
                    let next = next.filter(|next| *next != node.state);
                    let runs = until.is_none_or(|until| until >= node.latest);
                    candidates.extend(next.filter(|_| runs).map(|next| (number, next)));
                }
            }
        }
        candidates
    }

    /// Places an operation after a node, unless that leads where the search has been.
    fn place(&mut self, after: usize, operation: usize, state: M::State) {
        self.tried += 1;
        let before = &self.nodes[after];
        let (mut placed, mut spent, mut left) =
            (before.placed.clone(), before.spent.clone(), before.left);
        match self.operations[operation].outcome {
            Outcome::Returned { .. } => {
                placed.add(operation);
                left -= 1;
            }
            Outcome::Unknown { .. } => spent.add(operation),
        }
        let latest = before.latest.max(self.operations[operation].called);
        // Whatever can be done from here could be done from a node that differs only in having spent less.
        let known = self.seen.entry((placed.clone(), state.clone())).or_default();
        if known.iter().any(|known| known.is_within(&spent)) {
            return;
        }
        known.retain(|known| !spent.is_within(known));
        known.push(spent.clone());
        self.open.push((Reverse(spent.count()), Reverse(left), self.nodes.len()));
        let from = Some((operation, after));
        self.nodes.push(Node { from, placed, left, spent, latest, state });
    }

    /// The longest order that was found.
    fn longest(&self) -> Vec<usize> {
        let last = self.nodes.iter().min_by_key(|node| node.left);
        let before = |node: &&Node<M::State>| Some(&self.nodes[node.from?.1]);
        let nodes = std::iter::successors(last, before);
        let mut order: Vec<usize> = nodes.filter_map(|node| Some(node.from?.0)).collect();
        order.reverse();
        order
    }

    fn report(&self, key: &M::Key) -> String {
        let mut lines = vec![format!("no order of the operations on {key:?} explains all answers")];
        let mut state = self.model.initial(key);
        lines.push(format!("  the longest that was found, from {state:?}:"));
        let longest = self.longest();
        for number in &longest {
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
            if !longest.contains(&number) {
                lines.push(format!("    {operation:?}"));
            }
        }
        lines.truncate(80);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests;
