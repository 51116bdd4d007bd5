//! What is said about shards and lock groups, as messages and back. Numbers of groups are checked here;
//! how much a message may hold the transport bounds.

use super::{
    Odd, Read, acquire_of, held_to, helds_of, id_of, option_of, owner_of, owner_to, span_of,
};
use crate::{
    group::{LockGroup, MoveId, Shard},
    message::{
        Acquire, Ask, Assignment, Estate, GroupCommand, GroupReply, GroupRow, LoadRow, News, Part,
        View,
    },
    name::{Grant, Name, SessionId},
    proto,
};

pub(crate) fn group_of(number: u32) -> Read<LockGroup> {
    u8::try_from(number).ok().and_then(LockGroup::new).ok_or(Odd("no such lock group"))
}

pub(crate) fn at_to(group: LockGroup, by: MoveId) -> proto::GroupAt {
    proto::GroupAt { group: u32::from(group.number()), by: by.0 }
}

pub(crate) fn at_of(at: Option<proto::GroupAt>) -> Read<(LockGroup, MoveId)> {
    let at = option_of(at)?;
    Ok((group_of(at.group)?, MoveId(at.by)))
}

pub(crate) fn view_to(view: &View) -> proto::View {
    let here = view.here.iter().map(|(group, by)| at_to(*group, *by)).collect();
    proto::View { shards: view.shards, here }
}

pub(crate) fn view_of(view: proto::View) -> Read<View> {
    let here = view.here.into_iter().map(|at| at_of(Some(at))).collect::<Read<_>>()?;
    if view.shards > Shard::MOST {
        return Err(Odd("too many shards"));
    }
    Ok(View { shards: view.shards, here })
}

pub(crate) fn waiter_to(number: u64, session: SessionId, ask: &Acquire) -> proto::Waiter {
    let acquire = match (&Ask::Acquire(*ask)).into() {
        proto::Ask { ask: Some(proto::ask::Ask::Acquire(acquire)) } => Some(acquire),
        proto::Ask { .. } => None,
    };
    proto::Waiter { number, session: session.0, acquire }
}

pub(crate) fn waiter_of(waiter: proto::Waiter) -> Read<(u64, SessionId, Acquire)> {
    let ask = acquire_of(option_of(waiter.acquire)?)?;
    Ok((waiter.number, id_of(waiter.session)?, ask))
}

impl From<&Part> for proto::GroupPart {
    fn from(part: &Part) -> Self {
        let piece = |(span, owners): &(crate::name::Span, Vec<crate::message::Owner>)| {
            let owners = owners.iter().copied().map(owner_to).collect();
            proto::GroupPiece { span: Some((*span).into()), owners }
        };
        let waiters =
            part.waiters.iter().map(|(place, session, ask)| waiter_to(*place, *session, ask));
        Self {
            from: part.from.0,
            to: part.to.0,
            pieces: part.pieces.iter().map(piece).collect(),
            waiters: waiters.collect(),
            newest: part.newest.0,
        }
    }
}

pub(crate) fn part_of(part: proto::GroupPart) -> Read<Part> {
    let piece = |piece: proto::GroupPiece| {
        let owners = piece.owners.into_iter().map(owner_of).collect::<Read<Vec<_>>>()?;
        let exclusive = owners.iter().any(|owner| owner.mode == crate::name::Mode::Exclusive);
        if owners.is_empty() || (exclusive && owners.len() > 1) {
            return Err(Odd("a piece that nobody holds, or conflicting owners"));
        }
        Ok((span_of(piece.span)?, owners))
    };
    Ok(Part {
        from: Name(part.from),
        to: Name(part.to),
        pieces: part.pieces.into_iter().map(piece).collect::<Read<_>>()?,
        waiters: part.waiters.into_iter().map(waiter_of).collect::<Read<_>>()?,
        newest: Grant(part.newest),
    })
}

fn ids_to(sessions: &[SessionId]) -> Vec<u64> {
    sessions.iter().map(|session| session.0).collect()
}

fn ids_of(sessions: Vec<u64>) -> Read<Vec<SessionId>> {
    sessions.into_iter().map(id_of).collect()
}

fn news_to(news: &News) -> proto::News {
    let fresh = news
        .fresh
        .iter()
        .map(|(session, live)| proto::FreshSession { session: session.0, live: *live });
    proto::News {
        after: news.after.0,
        until: news.until.0,
        fresh: fresh.collect(),
        died: ids_to(&news.died),
        ended: ids_to(&news.ended),
        newest: news.newest.0,
    }
}

fn news_of(news: proto::News) -> Read<News> {
    let fresh = news.fresh.into_iter().map(|fresh| Ok((id_of(fresh.session)?, fresh.live)));
    Ok(News {
        after: SessionId(news.after),
        until: SessionId(news.until),
        fresh: fresh.collect::<Read<_>>()?,
        died: ids_of(news.died)?,
        ended: ids_of(news.ended)?,
        newest: Grant(news.newest),
    })
}

impl From<&GroupCommand> for proto::GroupCommand {
    fn from(command: &GroupCommand) -> Self {
        use proto::group_command::Command as P;
        let command = match command {
            GroupCommand::Shards(shards) => P::Shards(*shards),
            GroupCommand::Move { group, to } => {
                P::Move(proto::MoveGroup { group: u32::from(group.number()), to: to.0 })
            }
            GroupCommand::Placed { group, by } => P::Placed(at_to(*group, *by)),
            GroupCommand::Ended(sessions) => {
                P::Ended(proto::Sessions { sessions: ids_to(sessions) })
            }
            GroupCommand::News(news) => P::News(news_to(news)),
            GroupCommand::Freeze { group, by } => P::Freeze(at_to(*group, *by)),
            GroupCommand::Adopt { group, by, part } => P::Adopt(proto::AdoptGroup {
                group: Some(at_to(*group, *by)),
                part: Some(part.into()),
            }),
            GroupCommand::Forget { group, by } => P::Forget(at_to(*group, *by)),
        };
        Self { command: Some(command) }
    }
}

pub(crate) fn command_of(command: proto::GroupCommand) -> Read<GroupCommand> {
    use proto::group_command::Command as P;
    Ok(match option_of(command.command)? {
        P::Shards(shards) => GroupCommand::Shards(shards),
        P::Move(moved) => GroupCommand::Move { group: group_of(moved.group)?, to: Shard(moved.to) },
        P::Placed(at) => {
            let (group, by) = at_of(Some(at))?;
            GroupCommand::Placed { group, by }
        }
        P::Ended(sessions) => GroupCommand::Ended(ids_of(sessions.sessions)?),
        P::News(news) => GroupCommand::News(news_of(news)?),
        P::Freeze(at) => {
            let (group, by) = at_of(Some(at))?;
            GroupCommand::Freeze { group, by }
        }
        P::Adopt(adopt) => {
            let (group, by) = at_of(adopt.group)?;
            GroupCommand::Adopt { group, by, part: part_of(option_of(adopt.part)?)? }
        }
        P::Forget(at) => {
            let (group, by) = at_of(Some(at))?;
            GroupCommand::Forget { group, by }
        }
    })
}

impl From<GroupReply> for proto::GroupReply {
    fn from(reply: GroupReply) -> Self {
        use proto::group_reply::Reply as P;
        let reply = match reply {
            GroupReply::Done => P::Done(proto::Done {}),
            GroupReply::Refused => P::Refused(proto::Done {}),
            GroupReply::Needs(name) => P::Needs(name.0),
            GroupReply::Met(session) => P::Met(session.0),
        };
        Self { reply: Some(reply) }
    }
}

pub(crate) fn reply_of(reply: proto::GroupReply) -> Read<GroupReply> {
    use proto::group_reply::Reply as P;
    Ok(match option_of(reply.reply)? {
        P::Done(_) => GroupReply::Done,
        P::Refused(_) => GroupReply::Refused,
        P::Needs(name) => GroupReply::Needs(Name(name)),
        P::Met(session) => GroupReply::Met(SessionId(session)),
    })
}

impl From<&Assignment> for proto::Assignment {
    fn from(assignment: &Assignment) -> Self {
        let row = |row: &GroupRow| {
            let (to, number) = row.moving.unwrap_or_default();
            proto::GroupRow {
                group: u32::from(row.group.number()),
                shard: row.shard.0,
                by: row.by.0,
                moving: row.moving.is_some(),
                to: to.0,
                r#move: number.0,
            }
        };
        Self {
            shards: assignment.shards,
            newest: assignment.newest.0,
            groups: assignment.groups.iter().map(row).collect(),
        }
    }
}

pub(crate) fn assignment_of(assignment: proto::Assignment) -> Read<Assignment> {
    let row = |row: proto::GroupRow| {
        Ok(GroupRow {
            group: group_of(row.group)?,
            shard: Shard(row.shard),
            by: MoveId(row.by),
            moving: row.moving.then_some((Shard(row.to), MoveId(row.r#move))),
        })
    };
    if assignment.shards == 0 || assignment.shards > Shard::MOST {
        return Err(Odd("no shards, or too many"));
    }
    Ok(Assignment {
        shards: assignment.shards,
        newest: MoveId(assignment.newest),
        groups: assignment.groups.into_iter().map(row).collect::<Read<_>>()?,
    })
}

impl From<&LoadRow> for proto::LoadRow {
    fn from(row: &LoadRow) -> Self {
        let LoadRow { group, spans, waiters, asked } = *row;
        Self { group: u32::from(group.number()), spans, waiters, asked }
    }
}

pub(crate) fn loads_of(loads: proto::Loads) -> Read<Vec<LoadRow>> {
    let row = |row: proto::LoadRow| {
        let group = group_of(row.group)?;
        Ok(LoadRow { group, spans: row.spans, waiters: row.waiters, asked: row.asked })
    };
    loads.rows.into_iter().map(row).collect()
}

pub(crate) fn estate_to(estate: &Estate) -> proto::Estate {
    let held = estate.held.iter().map(held_to).collect();
    let here = estate.here.iter().map(|group| u32::from(group.number())).collect();
    proto::Estate { held, newest: estate.newest.0, here }
}

pub(crate) fn estate_of(estate: &proto::Estate) -> Read<Estate> {
    let here = estate.here.iter().map(|group| group_of(*group)).collect::<Read<_>>()?;
    Ok(Estate { held: helds_of(&estate.held)?, here, newest: Grant(estate.newest) })
}
