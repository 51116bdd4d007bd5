//! Cutting the input of a job into map tasks: large files into splits, small files together. Pure, but for
//! walking the directories. What is done with the pieces is not known here.

use fs::{InodeNo, Kind};

use crate::{
    error::Error,
    files::{Files, Line, Stat},
    proto::Piece,
};

/// A split may be this much larger than asked for, rather than leave a crumb.
const SLOP_PERCENT: u64 = 110;
/// Many tiny files cost more than their bytes.
const FILE_COST: u64 = 64 << 10;

/// What one map task reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Split {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bytes: u64,
}

/// Every input file below `inputs`, in the order of names, hidden ones only on request.
pub(crate) async fn input_files(
    files: &dyn Files,
    inputs: &[String],
    hidden: bool,
) -> Result<Vec<(InodeNo, u64)>, Error> {
    let mut found = Vec::new();
    for input in inputs {
        let failed = |error| Error::files(format!("looking at the input {input}"), error);
        let stat = files
            .stat(input)
            .await
            .map_err(failed)?
            .ok_or_else(|| Error::NoInput(input.clone()))?;
        // Depth first; the stack holds what is still to be visited, the next on top.
        let mut stack = vec![stat];
        while let Some(Stat { ino, kind, size }) = stack.pop() {
            match kind {
                Kind::File => found.push((ino, size)),
                Kind::Directory => {
                    let mut lines = files.list(ino).await.map_err(failed)?;
                    lines.retain(|line| hidden || !is_hidden(line));
                    lines.sort_by(|a, b| b.name.cmp(&a.name));
                    stack.extend(lines.into_iter().map(|line| line.stat));
                }
                // Links, pipes and devices are no input.
                _ => {}
            }
        }
    }
    Ok(found)
}

fn is_hidden(line: &Line) -> bool {
    line.name.starts_with(b".") || line.name.starts_with(b"_")
}

/// Cuts and groups files into splits of about `target` bytes.
pub(crate) fn splits(files: &[(InodeNo, u64)], target: u64) -> Vec<Split> {
    let target = target.max(1);
    let mut splits = Vec::new();
    let mut group = Split::default();
    let mut group_cost = 0;
    for (ino, size) in files.iter().copied().filter(|(_, size)| *size > 0) {
        if size > target / 2 {
            cut(ino, size, target, &mut splits);
            continue;
        }
        if group_cost > 0 && group_cost + size + FILE_COST > target {
            splits.push(std::mem::take(&mut group));
            group_cost = 0;
        }
        group.pieces.push(Piece { ino: ino.0, offset: 0, length: size, last: true });
        group.bytes += size;
        group_cost += size + FILE_COST;
    }
    if !group.pieces.is_empty() {
        splits.push(group);
    }
    splits
}

fn cut(ino: InodeNo, size: u64, target: u64, splits: &mut Vec<Split>) {
    let mut offset = 0;
    while offset < size {
        let left = size - offset;
        let length = if left <= target / 100 * SLOP_PERCENT { left } else { target.min(left) };
        let last = offset + length == size;
        splits.push(Split {
            pieces: vec![Piece { ino: ino.0, offset, length, last }],
            bytes: length,
        });
        offset += length;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fs::InodeNo;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::splits;

    proptest! {
        #[test]
        fn every_byte_of_every_file_is_in_exactly_one_piece(
            sizes in prop::collection::vec(0_u64..5_000_000, 0..40),
            target in 1_000_u64..2_000_000,
        ) {
            let files: Vec<_> = sizes.iter().enumerate().map(|(at, size)| (InodeNo(at as u64), *size)).collect();
            let mut covered: BTreeMap<u64, u64> = BTreeMap::new();
            for split in splits(&files, target) {
                prop_assert!(!split.pieces.is_empty());
                prop_assert_eq!(split.bytes, split.pieces.iter().map(|piece| piece.length).sum::<u64>());
                prop_assert!(split.bytes <= target / 100 * 110 + target);
                for piece in split.pieces {
                    let end = covered.entry(piece.ino).or_insert(0);
                    prop_assert_eq!(*end, piece.offset);
                    *end += piece.length;
                    prop_assert_eq!(piece.last, *end == sizes[piece.ino as usize]);
                }
            }
            let total: u64 = sizes.iter().sum();
            prop_assert_eq!(covered.values().sum::<u64>(), total);
        }
    }

    #[test]
    fn small_files_share_a_task_and_a_large_one_is_cut() {
        let files = [(InodeNo(1), 10), (InodeNo(2), 20), (InodeNo(3), 99 << 20)];
        let splits = splits(&files, 32 << 20);
        let sizes: Vec<_> = splits.iter().map(|split| (split.pieces.len(), split.bytes)).collect();
        assert_eq!(sizes, [(1, 32 << 20), (1, 32 << 20), (1, 35 << 20), (2, 30)]);
    }
}
