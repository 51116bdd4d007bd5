//! How messages, effects and states are written in a transcript.
//!
//! An entry is `index@term`, a command is told when it is applied.

use std::time::Duration;

use raft::{
    Body, Checkpoint, Chunk, Configuration, Effect, Entry, MemberId, Message, Outcome, Payload,
    Persist, Position, ReadMode, Refusal, Role, Status,
};

pub(crate) fn position(at: Position) -> String {
    format!("{}@{}", at.index, at.term)
}

fn list(entries: &[Entry]) -> String {
    let name = |e: &Entry| match &e.payload {
        Payload::Configuration(c) => format!("{} {}", position(e.position()), group(c)),
        _ => position(e.position()),
    };
    entries.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// `(1 2 3)`, joint `(1 2 4 <- 1 2 3)`, with learners `(1 2 3 + 4)`.
pub(crate) fn group(group: &Configuration) -> String {
    let ids =
        |list: &[MemberId]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut words = ids(&group.voters);
    if group.is_joint() {
        words = format!("{words} <- {}", ids(&group.outgoing));
    }
    if !group.learners.is_empty() {
        words = format!("{words} + {}", ids(&group.learners));
    }
    format!("({words})")
}

fn checkpoint(checkpoint: &Checkpoint) -> String {
    let Checkpoint { last, configuration, size, .. } = checkpoint;
    format!("checkpoint {} {} of {size} bytes", position(*last), group(configuration))
}

fn piece(chunk: &Chunk) -> String {
    format!("{}+{} of {}", chunk.offset, chunk.data.len(), position(chunk.checkpoint.last))
}

fn refusal(why: &Refusal) -> String {
    match why {
        Refusal::NotLeader => "does not lead".to_owned(),
        Refusal::Deposed => "leads no more".to_owned(),
        Refusal::Busy => "busy".to_owned(),
        Refusal::Transferring => "hands leadership on".to_owned(),
        Refusal::NotReady => "nothing of its term is committed".to_owned(),
        Refusal::Changing => "another change is under way".to_owned(),
        Refusal::Invalid(what) => (*what).to_owned(),
        Refusal::Behind(id) => format!("n{id} did not catch up"),
        Refusal::GaveUp => "gave up".to_owned(),
    }
}

pub(crate) fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let yes = |granted: &bool| if *granted { "yes" } else { "no" };
    let what = match body {
        Body::PreVote { last } => format!("pre-vote? last {}", position(*last)),
        Body::PreVoteReply { granted } => format!("pre-vote: {}", yes(granted)),
        Body::Vote { last, transfer: false } => format!("vote? last {}", position(*last)),
        Body::Vote { last, transfer: true } => format!("vote, transfer? last {}", position(*last)),
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
            Outcome::Accepted { matched } if r.rebuilding.is_some() => {
                format!("accepted to {matched} round {}, rebuilding", r.round)
            }
            Outcome::Accepted { matched } => format!("accepted to {matched} round {}", r.round),
            Outcome::Rejected { prev, conflict } => match conflict.term {
                Some(term) => {
                    format!("rejected {prev}: term {term} there, from {}", conflict.first)
                }
                None => format!("rejected {prev}: nothing from {}", conflict.first),
            },
        },
        Body::Install(i) if i.chunk.data.is_empty() && i.chunk.checkpoint.size > 0 => {
            format!("install? how far, {}", piece(&i.chunk))
        }
        Body::Install(i) => format!("install {}", piece(&i.chunk)),
        Body::InstallReply(r) => {
            let again = if r.again { ", again from there" } else { "" };
            format!("has {} bytes of {}{again}", r.received, position(r.last))
        }
        Body::TimeoutNow => "timeout now".to_owned(),
        Body::ReadIndex { mode: ReadMode::Quorum, .. } => "read index?".to_owned(),
        Body::ReadIndex { mode: ReadMode::Lease, .. } => "read index by lease?".to_owned(),
        Body::ReadIndexReply { index: Some(index), .. } => format!("read index: {index}"),
        Body::ReadIndexReply { index: None, .. } => "read index: unknown".to_owned(),
        Body::Rebuilt { upto, .. } => format!("rebuilt up to {upto}"),
    };
    format!("n{from}->n{to} t{term} {what}")
}

fn persist(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(hard) = persist.hard {
        let vote = hard.vote.map_or("nobody".to_owned(), |v| format!("n{v}"));
        let rebuilding = if hard.rebuilding { " (rebuilding)" } else { "" };
        parts.push(format!("term {} vote {vote}{rebuilding}", hard.term));
    }
    for chunk in &persist.chunks {
        parts.push(format!("chunk {}", piece(chunk)));
    }
    if let Some(whole) = &persist.checkpoint {
        parts.push(checkpoint(whole));
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
        Payload::Configuration(configuration) => format!("{at} {}", group(configuration)),
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
    let ask = |leader: &Option<MemberId>| {
        leader.map_or("no leader known".to_owned(), |l| format!("ask n{l}"))
    };
    match effect {
        Effect::Persist(p) => persist(p),
        Effect::Send(m) => message(m),
        Effect::Apply(entries) => {
            format!("applies {}", entries.iter().map(applied).collect::<Vec<_>>().join(", "))
        }
        Effect::Restore(c) => format!("restores checkpoint {}", position(c.last)),
        Effect::ReadChunk { to, checkpoint, offset, limit } => {
            format!("reads {offset}+{limit} of {} for n{to}", position(checkpoint.last))
        }
        Effect::Trim(index) => format!("trims to {index}"),
        Effect::Accepted { ticket, index, term } => format!("takes #{ticket} as {index}@{term}"),
        Effect::ProposalRefused { ticket, leader, why: Refusal::NotLeader } => {
            format!("refuses #{ticket}, {}", ask(leader))
        }
        Effect::ProposalRefused { ticket, why, .. } => {
            format!("refuses #{ticket}: {}", refusal(why))
        }
        Effect::Changed { ticket, index } => format!("has changed the group #{ticket}, at {index}"),
        Effect::ChangeRefused { ticket, why, .. } => {
            format!("refuses change #{ticket}: {}", refusal(why))
        }
        Effect::Transferred { ticket } => format!("has handed leadership on #{ticket}"),
        Effect::TransferRefused { ticket, why, .. } => {
            format!("refuses transfer #{ticket}: {}", refusal(why))
        }
        Effect::ReadReady { ticket, index } => format!("answers read #{ticket} at {index}"),
        Effect::ReadRefused { ticket, leader } => {
            format!("refuses read #{ticket}, {}", ask(leader))
        }
        Effect::Role { term, role: new } => format!("is {} in term {term}", role(*new)),
        Effect::Halted(why) => format!("halts: {why}"),
    }
}

pub(crate) fn status(status: &Status, terms: &[u64], now: Duration) -> String {
    let log = terms.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let log = if log.is_empty() { "none" } else { &log };
    let mut words = format!(
        "n{} t{} {}; commit {} applied {} stable {}; terms {log}",
        status.id,
        status.term,
        role(status.role),
        status.commit,
        status.applied,
        status.stable
    );
    if status.configured.0 > 0 {
        words = format!("{words}; group {} at {}", group(&status.configuration), status.configured);
    }
    let marks =
        [("rebuilding", status.rebuilding), ("lease", status.lease.is_some_and(|end| now < end))];
    for (mark, _) in marks.into_iter().filter(|(_, on)| *on) {
        words = format!("{words}; {mark}");
    }
    words
}
