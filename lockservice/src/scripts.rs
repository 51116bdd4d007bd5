//! Golden transcripts: each file of `tests/scripts` tells one scenario of the table, the clerk, the
//! registry or recovery, command by command, with what came of it.
//!
//! A line that begins with `>` is a command (see `scripts/stage.rs`), one that begins with `#` says why
//! it is there, all others are what came out. `UPDATE=1 cargo test -p plumeria-lockservice scripts`
//! writes them anew; read the diff.
#![expect(clippy::disallowed_methods, reason = "tests read and write their scripts")]

mod clerks;
mod stage;
mod words;

use std::path::Path;

use stage::Stage;

fn play(script: &str) -> String {
    let mut stage = Stage::default();
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

#[test]
fn every_transcript_is_played_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 50, "where are the scripts?");
    let mut wrong = Vec::new();
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let played = play(&written);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &played).unwrap();
        } else if let Some(line) = first_difference(&written, &played) {
            wrong.push(format!("{}:{line}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "played otherwise (UPDATE=1 writes anew): {}", wrong.join(", "));
}
