//! Golden transcripts: what the scheduler is told, and what it says, word for word. A line with `>` is told, at a
//! time in seconds; the lines with `<` below it are all that it says. A first line `= maps 2 reduces 1` begins a job.

use std::time::Duration;

use world::Time;

use super::{Effect, Event, Limits, NodeNo, Scheduler, Sizes, Task, WorkerNo, tests::LIMITS};

fn number(word: &str) -> u32 {
    let digits: String = word.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{word:?} has no number"))
}

/// `m3.0` is attempt 0 of map 3.
fn attempt(word: &str) -> (Task, u32) {
    let (task, attempt) = word.split_once('.').unwrap_or_else(|| panic!("{word:?}"));
    let task = match task.split_at(1) {
        ("m", number) => Task::Map(number.parse().unwrap()),
        ("r", number) => Task::Reduce(number.parse().unwrap()),
        _ => panic!("{word:?} is no attempt"),
    };
    (task, attempt.parse().unwrap())
}

fn name(task: Task) -> String {
    match task {
        Task::Map(number) => format!("m{number}"),
        Task::Reduce(number) => format!("r{number}"),
    }
}

/// What comes behind `key=`.
fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn list(words: &[&str], key: &str) -> Vec<u32> {
    value(words, key).map_or(Vec::new(), |list| list.split(',').map(number).collect())
}

/// `m0.1,m2.0` are attempts of maps.
fn outputs(words: &[&str], key: &str) -> Vec<(u32, u32)> {
    let output = |word| match attempt(word) {
        (Task::Map(map), attempt) => (map, attempt),
        (Task::Reduce(_), _) => panic!("{word:?} is no map"),
    };
    value(words, key).map_or(Vec::new(), |list| list.split(',').map(output).collect())
}

fn begin(words: &[&str]) -> Scheduler {
    let of = |key: &str| value(words, key).map(number);
    let mut hosts = vec![Vec::new(); of("maps").unwrap() as usize];
    for (map, node) in list(words, "at").into_iter().enumerate() {
        hosts[map].push(NodeNo(node));
    }
    let early_percent = of("early").unwrap_or(LIMITS.early_percent);
    let limits = Limits { skip: of("skip").unwrap_or(0), early_percent, ..LIMITS };
    Scheduler::new(hosts, of("reduces").unwrap(), limits)
}

fn event(words: &[&str]) -> Event {
    let worker = |at: usize| WorkerNo(number(words[at]));
    match words[0] {
        "joined" => Event::Joined {
            worker: worker(1),
            incarnation: value(words, "incarnation").map_or(1, |word| u64::from(number(word))),
            slots: value(words, "slots").map_or(1, number),
            node: value(words, "node").map(|node| NodeNo(number(node))),
        },
        "heard" => Event::Heard { worker: worker(1) },
        "lost" => Event::Lost { worker: worker(1) },
        "tick" => Event::Tick,
        "resumed" => Event::Resumed,
        "committed" => {
            let (task, attempt) = attempt(words[1]);
            Event::Committed { task, attempt }
        }
        "progress" => {
            let (task, attempt) = attempt(words[2]);
            Event::Progress { worker: worker(1), task, attempt, thousandths: number(words[3]) }
        }
        "done" => {
            let (task, attempt) = attempt(words[2]);
            Event::Done { worker: worker(1), task, attempt, sizes: Sizes::new(&[9; 4]) }
        }
        "failed" => {
            let (task, attempt) = attempt(words[2]);
            let record = value(words, "record").map(|record| u64::from(number(record)));
            let lost = outputs(words, "lost");
            let reason = "no luck".to_owned();
            Event::Failed { worker: worker(1), task, attempt, reason, lost, record }
        }
        other => panic!("{other} is no event"),
    }
}

fn said(effect: &Effect) -> String {
    match effect {
        Effect::Start { worker, task, attempt, skip } if skip.is_empty() => {
            format!("start w{} {}.{attempt}", worker.0, name(*task))
        }
        Effect::Start { worker, task, attempt, skip } => {
            format!("start w{} {}.{attempt} without {skip:?}", worker.0, name(*task))
        }
        Effect::Accept { task, attempt } => format!("accept {}.{attempt}", name(*task)),
        Effect::Commit { task, attempt } => format!("commit {}.{attempt}", name(*task)),
        Effect::Cancel { worker, task, attempt } => {
            format!("cancel w{} {}.{attempt}", worker.0, name(*task))
        }
        Effect::Finished => "finished".to_owned(),
        Effect::GiveUp { task, attempts, reason } => {
            format!("give up {} after {attempts}: {reason}", task.map_or("all".to_owned(), name))
        }
    }
}

/// What really happens, in the form of the transcript.
fn replay(transcript: &str) -> String {
    let mut scheduler = None;
    let mut lines = Vec::new();
    for line in transcript.lines().filter(|line| !line.trim_start().starts_with('<')) {
        lines.push(line.to_owned());
        let words: Vec<_> = line.split_whitespace().collect();
        match words.split_first() {
            Some((&"=", rest)) => scheduler = Some(begin(rest)),
            Some((&">", rest)) => {
                let scheduler: &mut Scheduler = scheduler.as_mut().expect("a line with = first");
                let seconds: f64 = rest[0].parse().unwrap();
                let now = Time::ZERO + Duration::from_secs_f64(seconds);
                let effects = scheduler.handle(now, event(&rest[1..]));
                lines.extend(effects.iter().map(|effect| format!("    < {}", said(effect))));
            }
            _ => {}
        }
    }
    lines.join("\n") + "\n"
}

fn check(transcript: &str) {
    let really = replay(transcript);
    assert!(really == transcript, "the transcript should be:\n{really}");
}

#[test]
fn a_job_without_trouble() {
    check(include_str!("transcripts/plain.txt"));
}

#[test]
fn workers_that_are_lost_or_silent() {
    check(include_str!("transcripts/lost.txt"));
}

#[test]
fn another_coordinator_goes_on() {
    check(include_str!("transcripts/resumed.txt"));
}

#[test]
fn attempts_that_fail() {
    check(include_str!("transcripts/failed.txt"));
}

#[test]
fn bad_records() {
    check(include_str!("transcripts/records.txt"));
}

#[test]
fn backup_attempts() {
    check(include_str!("transcripts/backups.txt"));
}

#[test]
fn input_that_lies_somewhere() {
    check(include_str!("transcripts/locality.txt"));
}

#[test]
fn reduces_that_begin_early() {
    check(include_str!("transcripts/early.txt"));
}
