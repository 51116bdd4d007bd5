//! How messages, effects and states are written in a transcript.
//!
//! An entry is `index@term`, a command is told when it is applied.

use raft::{Body, Effect, Entry, Message, Outcome, Payload, Persist, Position, Role, Status};

pub(crate) fn position(at: Position) -> String {
    format!("{}@{}", at.index, at.term)
}

fn list(entries: &[Entry]) -> String {
    entries.iter().map(|e| position(e.position())).collect::<Vec<_>>().join(" ")
}

pub(crate) fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let yes = |granted: &bool| if *granted { "yes" } else { "no" };
    let what = match body {
        Body::PreVote { last } => format!("pre-vote? last {}", position(*last)),
        Body::PreVoteReply { granted } => format!("pre-vote: {}", yes(granted)),
        Body::Vote { last } => format!("vote? last {}", position(*last)),
        Body::VoteReply { granted } => format!("vote: {}", yes(granted)),
        Body::Append(a) if a.entries.is_empty() => {
            format!("heartbeat after {} commit {} round {}", position(a.prev), a.commit, a.round)
        }
        Body::Append(a) => format!(
            "append after {} [{}] commit {} round {}",
            position(a.prev),
            list(&a.entries),
            a.commit,
            a.round
        ),
        Body::AppendReply(r) => match &r.outcome {
            Outcome::Accepted { matched } => format!("accepted to {matched} round {}", r.round),
            Outcome::Rejected { prev, conflict } => match conflict.term {
                Some(term) => {
                    format!("rejected {prev}: term {term} there, from {}", conflict.first)
                }
                None => format!("rejected {prev}: nothing from {}", conflict.first),
            },
        },
        Body::Install(i) => format!("install checkpoint {}", position(i.checkpoint.last)),
    };
    format!("n{from}->n{to} t{term} {what}")
}

fn persist(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(hard) = persist.hard {
        let vote = hard.vote.map_or("nobody".to_owned(), |v| format!("n{v}"));
        parts.push(format!("term {} vote {vote}", hard.term));
    }
    if let Some(checkpoint) = &persist.checkpoint {
        parts.push(format!("checkpoint {}", position(checkpoint.last)));
    }
    if let Some(from) = persist.truncate {
        parts.push(format!("truncate from {from}"));
    }
    if !persist.entries.is_empty() {
        parts.push(format!("entries {}", list(&persist.entries)));
    }
    format!("writes {}", parts.join(", "))
}

fn applied(entry: &Entry) -> String {
    let at = position(entry.position());
    match &entry.payload {
        Payload::Noop => format!("{at} (no-op)"),
        Payload::Command(command) => format!("{at} {}", String::from_utf8_lossy(command)),
    }
}

pub(crate) fn role(role: Role) -> String {
    match role {
        Role::Follower { leader: None } => "follower".to_owned(),
        Role::Follower { leader: Some(leader) } => format!("follower of n{leader}"),
        Role::Candidate => "candidate".to_owned(),
        Role::Leader { ready: false } => "leader".to_owned(),
        Role::Leader { ready: true } => "leader, ready".to_owned(),
    }
}

pub(crate) fn effect(effect: &Effect) -> String {
    let ask = |leader: &Option<raft::MemberId>| {
        leader.map_or("no leader known".to_owned(), |l| format!("ask n{l}"))
    };
    match effect {
        Effect::Persist(p) => persist(p),
        Effect::Send(m) => message(m),
        Effect::Apply(entries) => {
            format!("applies {}", entries.iter().map(applied).collect::<Vec<_>>().join(", "))
        }
        Effect::Restore(c) => format!("restores checkpoint {}", position(c.last)),
        Effect::Trim(index) => format!("trims to {index}"),
        Effect::Accepted { ticket, index, term } => format!("takes #{ticket} as {index}@{term}"),
        Effect::ProposalRefused { ticket, leader } => format!("refuses #{ticket}, {}", ask(leader)),
        Effect::ReadReady { ticket, index } => format!("answers read #{ticket} at {index}"),
        Effect::ReadRefused { ticket, leader } => {
            format!("refuses read #{ticket}, {}", ask(leader))
        }
        Effect::Role { term, role: new } => format!("is {} in term {term}", role(*new)),
        Effect::Halted(why) => format!("halts: {why}"),
    }
}

pub(crate) fn status(status: &Status, terms: &[u64]) -> String {
    let log = terms.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let log = if log.is_empty() { "none" } else { &log };
    format!(
        "n{} t{} {}; commit {} applied {} stable {}; terms {log}",
        status.id,
        status.term,
        role(status.role),
        status.commit,
        status.applied,
        status.stable
    )
}
