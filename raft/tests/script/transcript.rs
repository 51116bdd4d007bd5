//! Plays golden transcripts: files of commands, each with what came of it. What a command does, a stage knows.
//!
//! Rooms that may not import each other use this file by its path.

use std::path::Path;

/// Plays each file of `folder` on a stage of its own, and compares it with what is written; with `UPDATE` set, writes it
/// anew.
///
/// # Panics
/// If there are fewer files than `least`, or one of them is played otherwise than it is written.
pub(crate) fn check<S: FnMut(&str) -> Vec<String>>(
    folder: &Path,
    least: usize,
    stage: impl Fn() -> S + std::panic::RefUnwindSafe,
) {
    let mut files: Vec<_> = folder
        .read_dir()
        .expect("the folder of the transcripts")
        .map(|entry| entry.expect("a name in it").path())
        .collect();
    files.sort();
    assert!(files.len() >= least, "where are the scripts?");
    let mut wrong = Vec::new();
    for file in files {
        let written = std::fs::read_to_string(&file).expect("a transcript");
        let played = std::panic::catch_unwind(|| play(&written, stage()));
        let played = played.unwrap_or_else(|_| panic!("while {} was played", file.display()));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &played).expect("the transcript is written anew");
        } else if let Some(line) = first_difference(&written, &played) {
            wrong.push(format!("{}:{line}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "played otherwise (UPDATE=1 writes anew): {}", wrong.join(", "));
}

fn play(script: &str, mut stage: impl FnMut(&str) -> Vec<String>) -> String {
    let mut out = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            out.push_str(line);
            out.push('\n');
            for told in stage(command) {
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
