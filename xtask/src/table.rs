//! The dependency table of ARCHITECTURE.md, read from the document itself, so that the document
//! is the only place where an arrow can be added.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

/// Which rooms a room may depend on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// These.
    Rooms(BTreeSet<String>),
    /// Every room but these.
    AllBut(BTreeSet<String>),
}

impl Allowed {
    pub(crate) fn permits(&self, room: &str) -> bool {
        match self {
            Self::Rooms(rooms) => rooms.contains(room),
            Self::AllBut(rooms) => !rooms.contains(room),
        }
    }
}

/// The table: room to what it may depend on.
pub(crate) fn read(root: &Path) -> Result<BTreeMap<String, Allowed>> {
    let path = root.join("ARCHITECTURE.md");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let table = parse(&text);
    if table.is_empty() {
        bail!("ARCHITECTURE.md has no table with the columns `room` and `depends on`");
    }
    Ok(table)
}

fn parse(text: &str) -> BTreeMap<String, Allowed> {
    let mut table = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.trim_start().starts_with('|') {
            inside = false;
        } else if cells.first() == Some(&"room") && cells.last() == Some(&"depends on") {
            inside = true;
        } else if inside && !cells[0].starts_with('-') {
            for room in names(cells[0]) {
                table.insert(room, allowed(cells[cells.len() - 1]));
            }
        }
    }
    table
}

fn allowed(cell: &str) -> Allowed {
    match cell.strip_prefix("all") {
        Some(rest) => Allowed::AllBut(names(rest)),
        None => Allowed::Rooms(names(cell)),
    }
}

/// The words in backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_gives_rooms_lists_and_exceptions() {
        let text = "\n| room | is | depends on |\n|---|---|---|\n| `a` | x | - |\n\
                    | `b`, `c` | y | `a` |\n| `d` | z | all but `c` |\n\nno table `e`\n";
        let table = parse(text);
        assert_eq!(table.len(), 4);
        assert!(!table["a"].permits("b"));
        assert!(table["c"].permits("a") && !table["c"].permits("b"));
        assert!(table["d"].permits("a") && !table["d"].permits("c"));
    }
}
