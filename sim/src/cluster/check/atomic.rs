//! F3: an operation on names is seen by other mounts whole or not at all. Where [`super::latest`] judges each name by
//! itself, here all names are one object: what a rename takes from one name it gives to another in the same moment.

use std::collections::BTreeMap;

use crate::cluster::judge::{Act, Deed, May, Register, State, Tree};
use crate::wgl::{self, Model, Operation, Verdict};

/// Its name.
pub(in crate::cluster) const NAME: &str = "F3 operations on names are whole";

/// Placements that the search may try. A history in which many answers are missing takes more than anybody can wait for;
/// then nothing is judged.
const BUDGET: u64 = 60_000;

/// What one operation of a client did to names, or saw of them, in one moment.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Step {
    pub(in crate::cluster) client: u64,
    pub(in crate::cluster) acts: Vec<(Register, Act)>,
}

/// All names of a tree.
struct Names;

impl Model for Names {
    type Key = ();
    type State = BTreeMap<Register, State>;
    type Input = Step;
    type Output = ();

    fn key(&self, _: &Step) {}

    fn initial(&self, (): &()) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, step: &Step, answer: Option<&()>) -> Option<Self::State> {
        let tree = Tree { syncs: false };
        let mut next = state.clone();
        let mut taken: Option<May> = None;
        for (register, act) in &step.acts {
            let old = next.get(register).cloned().unwrap_or_else(|| tree.initial(register));
            let deed = Deed { client: step.client, register: *register, act: *act };
            let mut new = tree.step(&old, &deed, answer)?;
            match (act, &taken) {
                (Act::Take, _) => taken = old.may().files(),
                (Act::PutSome, Some(taken)) => new.becomes(taken.clone()),
                _ => {}
            }
            next.insert(*register, new);
        }
        Some(next)
    }

    fn observes(&self, _: &Step, (): &()) -> bool {
        // Even a look says that the name's last change was written out.
        false
    }
}

/// Judges all names together.
pub(in crate::cluster) fn judge(history: &[Operation<Step, ()>]) -> Verdict {
    wgl::check(&Names, history, BUDGET)
}

#[cfg(test)]
mod tests {
    use super::{Act, Register, Step, judge};
    use crate::cluster::judge::{File, Value};
    use crate::wgl::{Operation, Outcome, Verdict};

    const A: Register = Register::Name(1, 1);
    const B: Register = Register::Name(1, 2);
    const FILE: Value = Value::File(File { ino: 7, generation: 1 });

    fn at(client: u64, when: (u64, u64), acts: &[(Register, Act)]) -> Operation<Step, ()> {
        let input = Step { client, acts: acts.to_vec() };
        let outcome = Outcome::Returned { at: when.1, output: () };
        Operation { client, called: when.0, input, outcome }
    }

    fn holds(history: &[Operation<Step, ()>]) -> bool {
        matches!(judge(history), Verdict::Linearizable { .. })
    }

    #[test]
    fn a_rename_that_is_seen_at_its_new_name_is_not_seen_at_its_old_one() {
        let made = at(1, (0, 1), &[(A, Act::Put(FILE))]);
        let moved = at(1, (2, 9), &[(A, Act::Take), (B, Act::PutSome)]);
        let (old, new) = ((A, Act::See(FILE)), (B, Act::See(FILE)));
        let in_order = [made.clone(), moved.clone(), at(2, (3, 4), &[old]), at(2, (5, 6), &[new])];
        assert!(holds(&in_order));
        let half = [made, moved, at(2, (3, 4), &[new]), at(2, (5, 6), &[old])];
        assert!(!holds(&half));
    }

    #[test]
    fn what_is_moved_is_what_was_there() {
        let other = Value::File(File { ino: 8, generation: 1 });
        let made = at(1, (0, 1), &[(A, Act::Put(FILE))]);
        let moved = at(1, (2, 3), &[(A, Act::Take), (B, Act::PutSome)]);
        assert!(holds(&[made.clone(), moved.clone(), at(2, (4, 5), &[(B, Act::See(FILE))])]));
        assert!(!holds(&[made, moved, at(2, (4, 5), &[(B, Act::See(other))])]));
    }
}
