//! Golden transcripts: each file of `tests/scripts` tells one scenario of the table, the clerk, the
//! registry or recovery, command by command, with what came of it.
//!
//! A line that begins with `>` is a command (see `scripts/stage.rs`), one that begins with `#` says why
//! it is there, all others are what came out. `UPDATE=1 cargo test -p plumeria-lockservice scripts`
//! writes them anew; read the diff.
#![expect(clippy::disallowed_methods, reason = "tests read and write their scripts")]

mod clerks;
mod shards;
mod stage;
#[path = "../../raft/tests/script/transcript.rs"]
mod transcript;
mod words;

use std::path::Path;

use stage::Stage;

#[test]
fn every_transcript_is_played_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    transcript::check(&folder, 50, || {
        let mut stage = Stage::default();
        move |command: &str| stage.play(command)
    });
}
