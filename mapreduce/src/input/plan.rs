//! Cutting the input of a job into map tasks: large files into splits, small files together where the job allows
//! it. Pure, but for walking the directories. What is done with the pieces is not known here.

use fs::{InodeNo, Kind};
use serde::{Deserialize, Serialize};

use super::{
    pattern::{alternatives, is_pattern, matches},
    record::Rule,
};
use crate::{
    error::Error,
    files::{Files, Line, Stat},
    proto::Piece,
    scheduler::NodeNo,
};

/// The last split of a file may be this much larger than asked for, rather than leave a crumb.
const SLOP_PERCENT: u64 = 110;
/// Many tiny files cost more than their bytes.
const FILE_COST: u64 = 64 << 10;

/// What one map task reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Split {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bytes: u64,
    /// How many of them each machine with workers keeps, if that makes a difference.
    pub(crate) held: Vec<(NodeNo, u64)>,
}

impl Split {
    /// The machines that it is best read on: those that keep at least half of it.
    pub(crate) fn near(&self) -> Vec<NodeNo> {
        let most = self.held.iter().filter(|(_, bytes)| *bytes * 2 >= self.bytes.max(1));
        most.map(|(node, _)| *node).collect()
    }
}

/// One file of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    pub(crate) ino: InodeNo,
    pub(crate) size: u64,
    pub(crate) path: String,
}

/// Which files are input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// Names that begin with `.` or `_` too.
    pub(crate) hidden: bool,
    /// What is below directories within the input; without it they are refused.
    pub(crate) nested: bool,
}

/// Every input file below `inputs`, in the order of names.
pub(crate) async fn input_files(
    files: &dyn Files,
    inputs: &[String],
    choice: Choice,
) -> Result<Vec<InputFile>, Error> {
    let mut found = Vec::new();
    for input in inputs {
        if !is_pattern(input) {
            let stat = look(files, input).await?.ok_or_else(|| Error::NoInput(input.clone()))?;
            walk(files, (input.trim_end_matches('/').to_owned(), stat), choice, &mut found).await?;
            continue;
        }
        let mut any = false;
        for pattern in alternatives(input) {
            for path in expand(files, &pattern, choice).await? {
                let Some(stat) = look(files, &path).await? else { continue };
                any = true;
                walk(files, (path, stat), choice, &mut found).await?;
            }
        }
        if !any {
            return Err(Error::NoMatch(input.clone()));
        }
    }
    Ok(found)
}

async fn look(files: &dyn Files, path: &str) -> Result<Option<Stat>, Error> {
    let failed = |error| Error::files(format!("looking at the input {path}"), error);
    files.stat(path).await.map_err(failed)
}

/// Adds the files at and below a path.
async fn walk(
    files: &dyn Files,
    root: (String, Stat),
    choice: Choice,
    found: &mut Vec<InputFile>,
) -> Result<(), Error> {
    // Depth first; the stack holds what is still to be visited, the next on top.
    let mut stack = vec![(root, 0)];
    while let Some(((path, Stat { ino, kind, size }), depth)) = stack.pop() {
        match kind {
            Kind::File => found.push(InputFile { ino, size, path }),
            Kind::Directory if depth > 0 && !choice.nested => {
                return Err(Error::Spec(format!(
                    "the input {path} is a directory in a directory: name it itself, use a pattern, or say -D mapreduce.input.fileinputformat.input.dir.recursive=true"
                )));
            }
            Kind::Directory => {
                let failed = |error| Error::files(format!("listing the input {path}"), error);
                let mut lines = files.list(ino).await.map_err(failed)?;
                lines.retain(|line| choice.hidden || !is_hidden(line));
                lines.sort_by(|a, b| b.name.cmp(&a.name));
                for line in lines {
                    let name = String::from_utf8_lossy(&line.name);
                    stack.push(((format!("{path}/{name}"), line.stat), depth + 1));
                }
            }
            // Links, pipes and devices are no input.
            _ => {}
        }
    }
    Ok(())
}

/// The paths that match a pattern without braces, sorted.
async fn expand(files: &dyn Files, pattern: &str, choice: Choice) -> Result<Vec<String>, Error> {
    let mut paths = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for path in paths {
            if !is_pattern(part) {
                next.push(format!("{path}/{part}"));
                continue;
            }
            let above = if path.is_empty() { "/" } else { path.as_str() };
            let Some(Stat { ino, kind: Kind::Directory, .. }) = look(files, above).await? else {
                continue;
            };
            let failed = |error| Error::files(format!("listing {above}"), error);
            let mut lines = files.list(ino).await.map_err(failed)?;
            lines.retain(|line| {
                (choice.hidden || !is_hidden(line)) && matches(part.as_bytes(), &line.name)
            });
            lines.sort_by(|a, b| a.name.cmp(&b.name));
            let name = |line: &Line| format!("{path}/{}", String::from_utf8_lossy(&line.name));
            next.extend(lines.iter().map(name));
        }
        paths = next;
    }
    Ok(paths)
}

fn is_hidden(line: &Line) -> bool {
    line.name.starts_with(b".") || line.name.starts_with(b"_")
}

/// How files are cut.
#[derive(Clone, Debug)]
pub(crate) struct Cutting {
    /// Bytes of a split, about.
    pub(crate) target: u64,
    /// What the records are.
    pub(crate) rule: Rule,
    /// Small files may share a task.
    pub(crate) together: bool,
}

/// Whether a file must be read from its begin to its end.
pub(crate) fn is_compressed(path: &str) -> bool {
    path.ends_with(".gz")
}

/// Cuts and groups files into splits.
pub(crate) fn splits(files: &[InputFile], cutting: &Cutting) -> Vec<Split> {
    let target = cutting.target.max(1);
    let mut splits = Vec::new();
    let mut group = Split::default();
    let mut group_cost = 0;
    for file in files.iter().filter(|file| file.size > 0 || cutting.rule == Rule::Whole) {
        let whole = is_compressed(&file.path) || !cutting.rule.is_splittable();
        if !cutting.together || file.size > target / 2 {
            cut(file, if whole { u64::MAX } else { target }, &cutting.rule, &mut splits);
            continue;
        }
        if group_cost > 0 && group_cost + file.size + FILE_COST > target {
            splits.push(std::mem::take(&mut group));
            group_cost = 0;
        }
        group.pieces.push(piece(file, 0, file.size));
        group.bytes += file.size;
        group_cost += file.size + FILE_COST;
    }
    if !group.pieces.is_empty() {
        splits.push(group);
    }
    splits
}

fn piece(file: &InputFile, offset: u64, length: u64) -> Piece {
    let last = offset + length == file.size;
    Piece { ino: file.ino.0, offset, length, last, path: file.path.clone() }
}

fn cut(file: &InputFile, target: u64, rule: &Rule, splits: &mut Vec<Split>) {
    let mut offset = 0;
    loop {
        let left = file.size - offset;
        let slop = target.saturating_add(target / 100 * (SLOP_PERCENT - 100));
        let length = if left <= slop { left } else { rule.align(offset + target) - offset };
        // A record that is longer than a split.
        let length = if length == 0 { left } else { length };
        let pieces = vec![piece(file, offset, length)];
        splits.push(Split { pieces, bytes: length, held: Vec::new() });
        offset += length;
        if offset >= file.size {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fs::InodeNo;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Cutting, InputFile, splits};
    use crate::input::record::Rule;

    fn files(sizes: &[u64]) -> Vec<InputFile> {
        let file = |(at, size): (usize, &u64)| InputFile {
            ino: InodeNo(at as u64),
            size: *size,
            path: format!("/{at}"),
        };
        sizes.iter().enumerate().map(file).collect()
    }

    proptest! {
        #[test]
        fn every_byte_of_every_file_is_in_exactly_one_piece(
            sizes in prop::collection::vec(0_u64..5_000_000, 0..40),
            target in 1_000_u64..2_000_000,
            together in any::<bool>(),
            fixed in any::<bool>(),
        ) {
            let rule = if fixed { Rule::Fixed(100) } else { Rule::Lines };
            let mut covered: BTreeMap<u64, u64> = BTreeMap::new();
            for split in splits(&files(&sizes), &Cutting { target, rule, together }) {
                prop_assert!(!split.pieces.is_empty());
                prop_assert!(together || split.pieces.len() == 1);
                prop_assert_eq!(split.bytes, split.pieces.iter().map(|piece| piece.length).sum::<u64>());
                prop_assert!(split.bytes <= target / 100 * 110 + target);
                for piece in split.pieces {
                    let end = covered.entry(piece.ino).or_insert(0);
                    prop_assert_eq!(*end, piece.offset);
                    prop_assert!(!fixed || piece.offset % 100 == 0);
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
        let cutting = Cutting { target: 32 << 20, rule: Rule::Lines, together: true };
        let splits = splits(&files(&[10, 20, 99 << 20]), &cutting);
        let sizes: Vec<_> = splits.iter().map(|split| (split.pieces.len(), split.bytes)).collect();
        assert_eq!(sizes, [(1, 32 << 20), (1, 32 << 20), (1, 35 << 20), (2, 30)]);
    }

    #[test]
    fn a_compressed_file_is_never_cut() {
        let mut files = files(&[99 << 20]);
        files[0].path = "/big.gz".to_owned();
        let cutting = Cutting { target: 1 << 20, rule: Rule::Lines, together: false };
        assert_eq!(splits(&files, &cutting).len(), 1);
    }
}
