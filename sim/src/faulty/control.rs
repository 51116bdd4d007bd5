//! The words by which a test commands the faulty disk, and what it answers. Nothing is done here.

use std::str::FromStr;

/// The file in the root of the mount that takes commands, one a line, and tells the counters.
pub const CONTROL: &str = ".faulty";

/// Which calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `fsync`, `fdatasync`, and `fsync` of directories.
    Sync,
    /// `write` and everything else that changes the content or length of a file.
    Write,
}

/// Whether a cut hits before or after the call did its work. Either way the call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of the call has happened.
    Before,
    /// It was done, and nobody hears of it.
    After,
}

/// A command.
///
/// | line | what happens |
/// |---|---|
/// | `cut` | the power is off from now on |
/// | `cut sync 17 before`, `cut write 3 after` | the power goes off at the 17th sync from now, the 3rd write |
/// | `fail sync 5 EIO`, `fail write 9 ENOSPC` | that one call fails so and does nothing |
/// | `torn 7 40` | later cuts let unsynced sectors survive with a chance of 40 in 100, by seed 7 |
/// | `clean` | later cuts forget all that is not synced; so it begins |
/// | `lie` | syncs answer and do nothing: what relies on them must be seen to break |
/// | `on` | the power is on, with what the cut left; the counters are zero |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Power off.
    Cut,
    /// Power off at a call.
    CutAt(Kind, u64, Moment),
    /// One call fails with this error number.
    FailAt(Kind, u64, i32),
    /// Seed, and survivors in a hundred.
    Torn(u64, u8),
    /// Nothing unsynced survives.
    Clean,
    /// Syncs make nothing durable from now on.
    Lie,
    /// Power on.
    On,
}

impl FromStr for Command {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().map_err(drop);
        let kind = |word: &str| match word {
            "sync" => Ok(Kind::Sync),
            "write" => Ok(Kind::Write),
            _ => Err(()),
        };
        match words.as_slice() {
            ["cut"] => Ok(Self::Cut),
            ["cut", of, n, "before"] => Ok(Self::CutAt(kind(of)?, number(n)?, Moment::Before)),
            ["cut", of, n, "after"] => Ok(Self::CutAt(kind(of)?, number(n)?, Moment::After)),
            ["fail", of, n, "EIO"] => Ok(Self::FailAt(kind(of)?, number(n)?, EIO)),
            ["fail", of, n, "ENOSPC"] => Ok(Self::FailAt(kind(of)?, number(n)?, ENOSPC)),
            ["torn", seed, percent] => {
                let percent = percent.parse::<u8>().map_err(drop)?;
                if percent > 100 { Err(()) } else { Ok(Self::Torn(number(seed)?, percent)) }
            }
            ["clean"] => Ok(Self::Clean),
            ["lie"] => Ok(Self::Lie),
            ["on"] => Ok(Self::On),
            _ => Err(()),
        }
    }
}

pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_table_is_understood_and_nothing_else() {
        let known = [
            ("cut", Command::Cut),
            ("cut sync 17 before", Command::CutAt(Kind::Sync, 17, Moment::Before)),
            ("cut write 3 after\n", Command::CutAt(Kind::Write, 3, Moment::After)),
            ("fail sync 5 EIO", Command::FailAt(Kind::Sync, 5, EIO)),
            ("fail write 9 ENOSPC", Command::FailAt(Kind::Write, 9, ENOSPC)),
            ("torn 7 40", Command::Torn(7, 40)),
            ("clean", Command::Clean),
            ("lie", Command::Lie),
            ("on", Command::On),
        ];
        for (line, command) in known {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
        for line in ["", "cut it", "cut sync x before", "fail sync 1 EPERM", "torn 1 101", "on on"]
        {
            assert_eq!(line.parse::<Command>(), Err(()), "{line}");
        }
    }
}
