//! F5: no byte of another file, ever. Each value is written once, to one file; a read that shows it elsewhere, or shows
//! what nobody wrote, is a violation at once.

use std::collections::BTreeMap;

use crate::cluster::judge::File;

/// Its name.
pub(in crate::cluster) const NAME: &str = "F5 no byte of another file";

/// Which value was meant for which file.
#[derive(Default)]
pub(in crate::cluster) struct Foreign {
    homes: BTreeMap<u64, File>,
    /// Reads that showed something.
    pub(in crate::cluster) judged: u64,
    /// The first that showed what it must not.
    pub(in crate::cluster) found: Option<String>,
}

impl Foreign {
    /// `value` is about to be written to `file`.
    pub(in crate::cluster) fn writes(&mut self, value: u64, file: File) {
        self.homes.insert(value, file);
    }

    /// Sector `at` of `file` was seen to have `value`, or bytes that are no value at all.
    pub(in crate::cluster) fn saw(&mut self, file: File, at: u64, value: Option<u64>) {
        self.judged += 1;
        let home = value.and_then(|value| self.homes.get(&value));
        if value == Some(0) || home == Some(&file) {
            return;
        }
        self.found.get_or_insert_with(|| match (value, home) {
            (Some(value), Some(home)) => {
                format!("sector {at} of {file:?} has {value}, which was written to {home:?}")
            }
            _ => format!("sector {at} of {file:?} has bytes that nobody wrote"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{File, Foreign};

    #[test]
    fn a_value_of_another_life_of_the_same_inode_is_foreign() {
        let mut foreign = Foreign::default();
        let old = File { ino: 7, generation: 1 };
        let new = File { ino: 7, generation: 2 };
        foreign.writes(5, old);
        foreign.saw(old, 0, Some(5));
        foreign.saw(new, 0, Some(0));
        assert_eq!(foreign.found, None);
        foreign.saw(new, 0, Some(5));
        assert!(foreign.found.is_some());
    }

    #[test]
    fn bytes_that_nobody_wrote_are_foreign() {
        let mut foreign = Foreign::default();
        foreign.saw(File { ino: 7, generation: 1 }, 3, None);
        assert!(foreign.found.is_some());
    }
}
