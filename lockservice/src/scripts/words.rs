//! How spans, events, effects and nodes are written in a transcript.

use crate::{
    Held, Mode, Name, SessionId, Span,
    advisory::{Claim, Claimant, Claimed, InTheWay, Patience, Stretch},
    clerk::machine::{Answer, Effect},
    message::{Event, GroupReply, Reply},
    registry::{Change, Changed, Happened, Node, Refusal},
};

/// `5`, or `2/5` for the fifth of segment 2.
pub(super) fn name(text: &str) -> Name {
    match text.split_once('/') {
        Some((segment, index)) => Name::new(0, segment.parse().unwrap(), index.parse().unwrap()),
        None => Name(text.parse().unwrap()),
    }
}

/// `5`, `5..8`, `2/5..2/8`.
pub(super) fn span(text: &str) -> Span {
    match text.split_once("..") {
        Some((start, end)) => Span::new(name(start), name(end)).unwrap(),
        None => Span::one(name(text)),
    }
}

fn said_name(name: Name) -> String {
    match name.segment() {
        0 => name.0.to_string(),
        segment => format!("{segment}/{}", name.index()),
    }
}

pub(super) fn said(span: Span) -> String {
    let (start, end) = (span.start(), span.end());
    let first = said_name(start);
    if end.0 - start.0 == 1 { first } else { format!("{first}..{}", said_name(end)) }
}

pub(super) fn mode(text: &str) -> Mode {
    match text {
        "shared" => Mode::Shared,
        "exclusive" => Mode::Exclusive,
        other => panic!("no mode: {other}"),
    }
}

pub(super) fn said_mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Exclusive => "exclusive",
    }
}

fn keep(keep: Option<Mode>) -> &'static str {
    keep.map_or("nothing", said_mode)
}

pub(super) fn held(held: &Held) -> String {
    format!("{} {} #{}", said(held.span), said_mode(held.mode), held.grant.0)
}

pub(super) fn all(helds: &[Held]) -> String {
    let all: Vec<String> = helds.iter().map(held).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

pub(super) fn event(event: &Event, name: impl Fn(SessionId) -> String) -> String {
    match event {
        Event::Snapshot { seq, newest, view, held, waiting } => {
            let of = view
                .as_ref()
                .map_or_else(String::new, |view| format!(" of {} groups", view.here.len()));
            let waiting: Vec<String> = waiting.iter().map(|t| format!("t{}", t.0)).collect();
            format!(
                "snapshot{of} after batch {}, newest #{}, holds {}, waits {}",
                seq.0,
                newest.0,
                all(held),
                if waiting.is_empty() { "for nothing".to_owned() } else { waiting.join(" ") }
            )
        }
        Event::Granted { ticket, held } => format!("t{} granted {}", ticket.0, all(held)),
        Event::Refused(ticket) => format!("t{} refused", ticket.0),
        Event::Full(ticket) => format!("t{} full", ticket.0),
        Event::Revoke { span, keep: kept } => {
            format!("revoke {}, keep {}", said(*span), keep(*kept))
        }
        Event::Recover { dead, held } => format!("recover {} with {}", name(*dead), all(held)),
        Event::Claimed(ticket, what) => format!("t{} {}", ticket.0, claimed(what)),
        Event::Adopted { by, held, waiting, .. } => {
            let waiting: Vec<String> = waiting.iter().map(|t| format!("t{}", t.0)).collect();
            let waiting = if waiting.is_empty() { "for nothing".into() } else { waiting.join(" ") };
            format!("adopted by move {}: holds {}, waits {waiting}", by.0, all(held))
        }
        Event::Shards(shards) => format!("there are {shards} shards"),
        Event::Report => "report".to_owned(),
        Event::Ended => "ended".to_owned(),
    }
}

/// `5`, `5..8`, `all`: bytes, the last one included.
pub(super) fn stretch(text: &str) -> Stretch {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    if text == "all" {
        Stretch::WHOLE
    } else {
        Stretch::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }
}

pub(super) fn said_stretch(stretch: Stretch) -> String {
    match (stretch.first(), stretch.last()) {
        (0, u64::MAX) => "all".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}..{last}"),
    }
}

fn claimed(claimed: &Claimed) -> String {
    match claimed {
        Claimed::Done => "done".to_owned(),
        Claimed::Busy(InTheWay { stretch, mode, process }) => {
            let who = if *process == 0 { "another's".to_owned() } else { format!("{process}'s") };
            format!("busy: {} is {who}, {}", said_stretch(*stretch), said_mode(*mode))
        }
        Claimed::Deadlock => "would wait for itself".to_owned(),
        Claimed::Cancelled => "cancelled".to_owned(),
        Claimed::Full => "full".to_owned(),
    }
}

pub(super) fn effect(effect: &Effect, name: impl Fn(SessionId) -> String) -> Option<String> {
    Some(match effect {
        Effect::Answer(ticket, answer) => {
            let answer = match answer {
                Answer::Granted(pin, lock) => format!("granted p{}, {}", pin.0, held(lock)),
                Answer::Refused => "refused".to_owned(),
                Answer::Full => "full".to_owned(),
                Answer::Hinted => "hinted".to_owned(),
                Answer::Over(error) => format!("over: {error}"),
            };
            format!("answers t{}: {answer}", ticket.0)
        }
        Effect::Revoke(id, span, kept) => {
            format!("calls its holder r{}: {} down to {}", id.0, said(*span), keep(*kept))
        }
        Effect::Recover(dead, held) => format!("recovers {} with {}", name(*dead), all(held)),
        Effect::Claimed(ticket, Ok(what)) => format!("answers t{}: {}", ticket.0, claimed(what)),
        Effect::Claimed(ticket, Err(error)) => format!("answers t{}: {error}", ticket.0),
        Effect::Renew => "renews".to_owned(),
        Effect::Stale(_) => "listens again: that was the past".to_owned(),
        Effect::Shards(shards) => format!("talks to {shards} shards"),
        Effect::Over(error) => format!("is over: {error}"),
        Effect::Changed => "lets its waiters look again".to_owned(),
        Effect::Send => return None,
    })
}

pub(super) fn reply(reply: &Reply, name: impl Fn(SessionId) -> String) -> Option<String> {
    Some(match reply {
        Reply::Opened(session) => format!("session {}", name(*session)),
        Reply::Done => return None,
        Reply::Expired => "expired".to_owned(),
        Reply::Refused => "refused".to_owned(),
        Reply::Malformed => "malformed".to_owned(),
        Reply::Tree(changed) => changes(changed),
        Reply::Moved { by, .. } => format!("refused as a whole: see move {}", by.0),
        Reply::Unmet => "not met yet".to_owned(),
        Reply::Group(GroupReply::Done) => return None,
        Reply::Group(GroupReply::Refused) => "refused".to_owned(),
        Reply::Group(GroupReply::Needs(from)) => format!("needs all from {} on", said_name(*from)),
        Reply::Group(GroupReply::Met(session)) => format!("has met all up to {}", name(*session)),
    })
}

fn changes(changed: &Changed) -> String {
    let one = |result: &Result<crate::registry::Done, Refusal>| match result {
        Ok(done) => format!("{} version {}", done.path, done.stat.version),
        Err(refusal) => refusal.to_string(),
    };
    let all: Vec<String> = changed.results.iter().map(one).collect();
    format!("{} (revision {})", all.join("; "), changed.revision.0)
}

pub(super) fn node(node: &Node, name: impl Fn(SessionId) -> String) -> String {
    let stat = node.stat;
    let owner = stat.owner.map(|owner| format!(", of {}", name(owner))).unwrap_or_default();
    let children = if node.children.is_empty() {
        String::new()
    } else {
        format!(", children {}", node.children.join(" "))
    };
    format!(
        "{:?} version {}, created {}, changed {}{owner}{children}",
        String::from_utf8_lossy(&node.data),
        stat.version,
        stat.created.0,
        stat.changed.0
    )
}

pub(super) fn change(change: &Change) -> String {
    let happened = match change.happened {
        Happened::Created => "created",
        Happened::Set => "set",
        Happened::Deleted => "deleted",
        Happened::Resumed => "resumed",
    };
    format!("told: {} {happened} ({})", change.path, change.revision.0)
}

/// `claim S FILE BYTES MODE by N [try|test]`.
pub(super) fn claim(words: &[&str]) -> (Claim, Patience) {
    let by: u64 = words[6].parse().unwrap();
    let claim = Claim {
        file: words[2].parse().unwrap(),
        by: Claimant(by),
        process: by as u32,
        stretch: stretch(words[3]),
        mode: (words[4] != "none").then(|| mode(words[4])),
    };
    let patience = match words.get(7) {
        Some(&"try") => Patience::Try,
        Some(&"test") => Patience::Test,
        _ => Patience::Wait,
    };
    (claim, patience)
}
