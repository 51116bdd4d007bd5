//! Golden transcripts: one scenario a file in `scripts`, played on the volume map and the chain
//! machines of a few servers, one step a line, with what each step answered below it.
//!
//! `PLUMERIA_GOLDEN=write cargo test` writes the answers anew; read the difference before you
//! believe it. The stores are only block versions here: that is all that chains decide by.

#![expect(clippy::disallowed_methods, reason = "transcripts are files of the checkout")]

mod stage;

use std::{fmt::Write as _, fs, path::PathBuf};

use stage::Stage;

fn scripts() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/script/scripts");
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Plays the steps of a script, and gives it back with their answers.
fn play(text: &str) -> String {
    let mut stage = Stage::default();
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for answer in stage.step(line) {
            writeln!(out, "  {answer}").unwrap();
        }
    }
    out
}

#[test]
fn every_transcript_is_what_the_machines_do() {
    let write = std::env::var("PLUMERIA_GOLDEN").is_ok_and(|value| value == "write");
    let mut wrong = Vec::new();
    let scripts = scripts();
    assert!(scripts.len() >= 20, "the transcripts are not there");
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        let played = play(&text);
        if write {
            fs::write(&path, &played).unwrap();
        } else if played != text {
            wrong.push(format!("{}:\n{played}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "these went another way:\n{}", wrong.join("\n"));
}
