//! Golden transcripts: each file in `scripts/` tells one scenario, command by command, with what the members did.
//!
//! A line that begins with `>` is a command (see `script/stage.rs`), one that begins with `#` says why it is there, all
//! others are what came out. `UPDATE=1 cargo test -p plumeria-raft --test scripts` writes them anew; read the diff.
#![expect(clippy::disallowed_methods, reason = "tests read and write their scripts")]

#[path = "script/actor.rs"]
mod actor;
#[path = "script/stage.rs"]
mod stage;
#[path = "script/transcript.rs"]
mod transcript;
#[path = "script/words.rs"]
mod words;

use std::path::Path;

#[test]
fn every_transcript_is_played_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    transcript::check(&folder, 10, || {
        let mut stage = stage::Stage::default();
        move |command: &str| stage.play(command)
    });
}
