//! The different values of each key: one each for the combiner, all in one line for the reducer. Whether they are names
//! of files or of pages is not known here.

use crate::{
    api::{Emitter, Raw, Reducer, Values},
    error::Error,
};

/// The different values, sorted.
fn distinct(values: &mut Values<'_, Raw>) -> Result<Vec<Vec<u8>>, Error> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut sorted = 0;
    while let Some(value) = values.next()? {
        // Most repetitions follow each other.
        if names.last().is_some_and(|last| last == value) {
            continue;
        }
        names.push(value.to_vec());
        if names.len() > 2 * sorted + 1024 {
            names.sort_unstable();
            names.dedup();
            sorted = names.len();
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// What is made of the different values of a key.
#[derive(Clone)]
pub(super) enum Distinct {
    /// Each of them is emitted once.
    Once,
    /// All of them in one line, with blanks between them.
    Listed,
}

impl Reducer for Distinct {
    type Key = Raw;
    type Value = Raw;
    type OutKey = Raw;
    type OutValue = Raw;

    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_, Raw>,
        out: &mut Emitter<'_, Raw, Raw>,
    ) -> Result<(), Error> {
        let values = distinct(values)?;
        match self {
            Self::Once => values.iter().try_for_each(|value| out.emit(key, value)),
            Self::Listed => out.emit(key, &values.join(&b' ')),
        }
    }
}
