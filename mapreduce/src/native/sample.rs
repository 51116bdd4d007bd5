//! Ranges of keys for a total order: keys are sampled from the begin of splits all over the input, and cut into as many
//! ranges of equal count as there are partitions. What the job does is not known here.

use fs::InodeNo;

use crate::{
    error::Error,
    files::Files,
    input::{
        plan::{Split, is_compressed},
        record::{Cutter, Rule},
    },
    native::raw::RawJob,
    spec::{JobSpec, Shuffle},
};

/// Splits that are looked into.
const SPLITS: usize = 100;
/// Bytes that are looked at in each.
const BYTES: u64 = 64 << 10;

/// The ranges for `job`; none if it has no use for them.
pub(crate) async fn ranges(
    files: &dyn Files,
    job: &dyn RawJob,
    (spec, arguments): (&JobSpec, &[String]),
    splits: &[Split],
) -> Result<Option<Shuffle>, Error> {
    if spec.reduces < 2 || job.sampled(arguments, b"").is_none() {
        return Ok(None);
    }
    let mut keys = Vec::new();
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
        for part in parts {
            cutter.feed(&part, &mut |cut| {
                keys.extend(job.sampled(arguments, cut.bytes).map(<[u8]>::to_vec));
                Ok(())
            })?;
        }
    }
    keys.sort_unstable();
    let parts = spec.reduces as usize;
    let begin = |part: usize| keys.get(keys.len() * part / parts).cloned();
    Ok(Some(Shuffle::ranges((1..parts).filter_map(begin).collect())))
}
