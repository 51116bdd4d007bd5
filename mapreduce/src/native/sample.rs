//! Ranges of keys for a total order: keys are sampled from the begin of splits all over the input, and cut into as many
//! ranges of equal count as there are partitions. What the job does is not known here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fs::InodeNo;

use crate::{
    api::Job,
    error::Error,
    files::Files,
    input::{
        plan::{Split, is_compressed},
        record::{Cutter, Rule},
    },
    native::raw::{RawOutput, RawRecord},
    spec::{JobSpec, Shuffle},
};

/// Splits that are looked into.
const SPLITS: usize = 100;
/// Bytes that are looked at in each.
const BYTES: u64 = 64 << 10;

/// Keeps the keys that a mapper emits.
struct Keys(Vec<Vec<u8>>);

impl RawOutput for Keys {
    fn emit(&mut self, key: &[u8], _: &[u8]) -> Result<(), Error> {
        self.0.push(key.to_vec());
        Ok(())
    }

    fn count(&mut self, _: &str, _: &str, _: u64) {}
}

/// The ranges for `job`; none if it has no use for them.
pub(crate) async fn ranges(
    files: &dyn Files,
    job: &Job,
    spec: &JobSpec,
    splits: &[Split],
) -> Result<Option<Shuffle>, Error> {
    if spec.reduces < 2 || !job.total_order {
        return Ok(None);
    }
    let mut keys = Keys(Vec::new());
    let step = splits.len().div_ceil(SPLITS).max(1);
    for split in splits.iter().step_by(step) {
        let Some(piece) = split.pieces.first().filter(|piece| !is_compressed(&piece.path)) else {
            continue;
        };
        let length = BYTES.min(piece.length);
        let failed = |error| Error::files(format!("sampling {}", piece.path), error);
        let parts = files.read(InodeNo(piece.ino), piece.offset, length).await.map_err(failed)?;
        let end = if spec.records == Rule::Whole { 0 } else { piece.offset + length };
        let mut cutter = Cutter::new(&spec.records, piece.offset, end);
        let mut mapper = (job.mapper)(false);
        for part in parts {
            cutter.feed(&part, &mut |cut| {
                let record = RawRecord { path: &piece.path, offset: cut.offset, bytes: cut.bytes };
                // A bad record is the business of the attempt that maps it.
                let mapped = catch_unwind(AssertUnwindSafe(|| mapper.map(&record, &mut keys)));
                if mapped.is_err() {
                    mapper = (job.mapper)(false);
                }
                Ok(())
            })?;
        }
    }
    let Keys(mut keys) = keys;
    keys.sort_unstable();
    let parts = spec.reduces as usize;
    let begin = |part: usize| keys.get(keys.len() * part / parts).cloned();
    Ok(Some(Shuffle::ranges((1..parts).filter_map(begin).collect())))
}
