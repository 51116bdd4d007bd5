//! What a sequential store would have answered: the model that histories are judged by. It knows nothing of logs.

use super::command::{Reply, Request, Value};
use crate::wgl::{Model, Operation};

/// The model: keys with values.
#[derive(Clone, Copy, Debug)]
pub struct Store;

/// A history of a group's clients.
pub type History = Vec<Operation<(u8, Request), Reply>>;

impl Model for Store {
    type Key = u8;
    type State = Option<Value>;
    type Input = (u8, Request);
    type Output = Reply;

    fn key(&self, input: &Self::Input) -> u8 {
        input.0
    }

    fn initial(&self, _: &u8) -> Option<Value> {
        None
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Reply>,
    ) -> Option<Self::State> {
        let (next, right) = match &input.1 {
            Request::Get => (state.clone(), Reply::Value(state.clone())),
            Request::Put(number) => (Some(vec![*number]), Reply::Done),
            Request::Cas(old, number) if old == state => {
                (Some(vec![*number]), Reply::Swapped(true))
            }
            Request::Cas(..) => (state.clone(), Reply::Swapped(false)),
            Request::Append(number) => {
                let mut value = state.clone().unwrap_or_default();
                value.push(*number);
                (Some(value), Reply::Done)
            }
            Request::Delete => (None, Reply::Done),
        };
        output.is_none_or(|o| *o == right).then_some(next)
    }

    fn observes(&self, input: &Self::Input, output: &Reply) -> bool {
        matches!((&input.1, output), (Request::Get, _) | (Request::Cas(..), Reply::Swapped(false)))
    }
}
