//! Golden transcripts: each file in `scripts/` tells one scenario, command by command, with what the members did.
//!
//! A line that begins with `>` is a command (see `script/stage.rs`), one that begins with `#` says why it is there, all
//! others are what came out. `UPDATE=1 cargo test -p plumeria-raft --test scripts` writes them anew; read the diff.
#![expect(clippy::disallowed_methods, reason = "tests read and write their scripts")]

#[path = "script/actor.rs"]
mod actor;
#[path = "script/stage.rs"]
mod stage;
#[path = "script/words.rs"]
mod words;

use std::path::Path;

fn play(script: &str) -> String {
    let mut stage = stage::Stage::default();
    let mut out = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(line);
            out.push('\n');
            for told in stage.play(command) {
                out.push_str("    ");
                out.push_str(&told);
                out.push('\n');
            }
        } else if line.is_empty() || line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[test]
fn every_transcript_is_played_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "where are the scripts?");
    let mut wrong = Vec::new();
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let played = std::panic::catch_unwind(|| play(&written));
        let played = played.unwrap_or_else(|_| panic!("while {} was played", file.display()));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &played).unwrap();
        } else if let Some(line) = first_difference(&written, &played) {
            wrong.push(format!("{}:{line}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "played otherwise (UPDATE=1 writes anew): {}", wrong.join(", "));
}

fn first_difference(written: &str, played: &str) -> Option<String> {
    let (mut a, mut b) = (written.lines(), played.lines());
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some(format!("{line}: written {a:?}, played {b:?}")),
        }
    }
    None
}
