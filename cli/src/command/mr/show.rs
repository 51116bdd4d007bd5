//! How far a job is, and what became of it, for people and as JSON.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use mapreduce::{Phase, Progress, Summary};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::output::{self, Output};

/// Keeps a progress line up to date.
pub(super) async fn show(mut progress: watch::Receiver<Progress>, output: Output) {
    if output.json {
        return;
    }
    let bar = ProgressBar::new(0);
    let style = "{prefix:10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {msg}";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        bar.set_length(now.bytes.1);
        bar.set_position(now.bytes.0);
        bar.set_prefix(match now.phase {
            Phase::Reduce => "reducing",
            _ => "mapping",
        });
        let (maps, reduces) = (now.maps, now.reduces);
        bar.set_message(format!(
            "maps {}/{} reduces {}/{} failed {} slow {} backups {}",
            maps.0, maps.1, reduces.0, reduces.1, now.failures, now.stragglers, now.backups
        ));
    }
    bar.finish_and_clear();
}

/// What a job did, in a sentence or as JSON.
pub(super) fn tell(summary: &Summary, name: &str, path: &Path, output: Output) {
    let counters = &summary.counters;
    let read = counters.input_bytes();
    let rate = read as f64 / summary.elapsed.as_secs_f64().max(0.001);
    let counted = |group: &str, what: &str| counters.get(group, what);
    let sentence = match name {
        "wordcount" => format!(
            "{} words counted, {} of them distinct",
            counted("wordcount", "words"),
            counters.framework("Reduce output records")
        ),
        "grep" => format!("{} lines match", counted("grep", "matches")),
        _ => format!(
            "{} records read, {} written",
            counters.framework("Map input records"),
            match summary.reduces {
                0 => counters.framework("Map output records"),
                _ => counters.framework("Reduce output records"),
            }
        ),
    };
    output.line(&format!(
        "{sentence} in {} files ({}) in {} ({}/s); the result is in {}/part-*",
        counted("File System Counters", "Files read"),
        output::bytes(read),
        output::seconds(summary.elapsed),
        output::bytes(rate as u64),
        path.display(),
    ));
    for skip in &summary.skips {
        output.line(&format!("{} without record {}: {}", skip.task, skip.record, skip.reason));
    }
    let mut groups = Map::new();
    for (group, name, value) in counters.iter() {
        let group = groups.entry(group).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(names) = group {
            names.insert(name.to_owned(), json!(value));
        }
    }
    output.json(&json!({
        "job": name,
        "output": path,
        "seconds": summary.elapsed.as_secs_f64(),
        "maps": summary.maps,
        "reduces": summary.reduces,
        "failed_attempts": summary.failures,
        "backup_attempts": summary.backups.0,
        "input_bytes": read,
        "skipped": summary.skips,
        "counters": groups,
    }));
}

/// All counters, as Hadoop prints them.
pub(super) fn counters(summary: &Summary, output: Output) {
    let mut before = "";
    for (group, name, value) in summary.counters.iter() {
        if group != before {
            output.line(&format!("\t{group}"));
            before = group;
        }
        output.line(&format!("\t\t{name}={value}"));
    }
}
