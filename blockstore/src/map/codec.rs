//! The volume map's bytes: its commands, outcomes and checkpoint, and the questions and answers of
//! its service. What is decoded is checked: numbers in range, addresses readable, sizes bounded by
//! the input. What it means is the machine's business.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::{
    api::{Chart, MapError, ServerInfo, ServerState},
    machine::{Command, Map, Row, Server},
};
use crate::{
    disk::{Fence, Space},
    link::{Chain, Granted, Heartbeat, Known, Member, News, Registration},
    pb,
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId, Volume},
};

/// The version of the checkpoint's and the commands' format, their first byte.
const FORMAT: u8 = 1;

/// Bytes that are no message, or not one that this version understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the volume map cannot read this: {0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    fn missing(what: &str) -> Self {
        Self(format!("{what} is missing"))
    }
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

type Result<T> = std::result::Result<T, Malformed>;

fn versioned(message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    message.encode(&mut bytes).expect("a vector grows");
    bytes.into()
}

fn unversioned<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(M::decode(rest)?),
        Some((other, _)) => Err(Malformed(format!("format version {other}, this is {FORMAT}"))),
        None => Err(Malformed::missing("the format version")),
    }
}

fn uuid(x: u128) -> Option<pb::Uuid> {
    Some(pb::Uuid { high: (x >> 64) as u64, low: x as u64 })
}

fn from_uuid(x: Option<pb::Uuid>) -> u128 {
    x.map_or(0, |x| u128::from(x.high) << 64 | u128::from(x.low))
}

fn space(space: Space) -> Option<pb::Bytes> {
    Some(pb::Bytes { total: space.total, free: space.free })
}

fn from_space(space: Option<pb::Bytes>) -> Space {
    space.map_or(Space::default(), |x| Space { total: x.total, free: x.free })
}

fn known(known: Known) -> Option<pb::Known> {
    Some(pb::Known { map: known.map, fences: known.fences })
}

fn from_known(known: Option<pb::Known>) -> Known {
    known.map_or(Known::default(), |x| Known { map: x.map, fences: x.fences })
}

fn from_address(text: &str) -> Result<world::Address> {
    text.parse().map_err(|error: world::AddressError| Malformed(error.to_string()))
}

fn from_bits(bits: u32) -> Result<GroupBits> {
    match u8::try_from(bits) {
        Ok(bits) if bits <= 24 => Ok(GroupBits(bits)),
        _ => Err(Malformed(format!("2^{bits} groups are too many"))),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn versions(groups: &[(Group, ChainVersion)]) -> Vec<pb::GroupVersion> {
    groups.iter().map(|(g, v)| pb::GroupVersion { group: g.0, version: v.0 }).collect()
}

fn from_versions(groups: &[pb::GroupVersion]) -> Vec<(Group, ChainVersion)> {
    groups.iter().map(|row| (Group(row.group), ChainVersion(row.version))).collect()
}

pub(crate) fn registration(x: &Registration) -> pb::Registration {
    pb::Registration {
        server: x.server.0,
        directory: uuid(x.directory),
        start: uuid(x.start),
        address: x.address.to_string(),
        clean: x.clean,
        space: space(x.space),
    }
}

pub(crate) fn from_registration(x: &pb::Registration) -> Result<Registration> {
    Ok(Registration {
        server: ServerId(x.server),
        directory: from_uuid(x.directory),
        start: from_uuid(x.start),
        address: from_address(&x.address)?,
        clean: x.clean,
        space: from_space(x.space),
    })
}

pub(crate) fn heartbeat(x: &Heartbeat) -> pb::Heartbeat {
    pb::Heartbeat {
        server: x.server.0,
        incarnation: x.incarnation.0,
        known: known(x.known),
        space: space(x.space),
        dirty: x.dirty_bytes,
        equal: versions(&x.equal),
        confirmed: x.confirmed,
    }
}

pub(crate) fn from_heartbeat(x: &pb::Heartbeat) -> Heartbeat {
    Heartbeat {
        server: ServerId(x.server),
        incarnation: Incarnation(x.incarnation),
        known: from_known(x.known),
        space: from_space(x.space),
        dirty_bytes: x.dirty,
        equal: from_versions(&x.equal),
        confirmed: x.confirmed,
    }
}

fn chain(x: &Chain) -> pb::Chain {
    let members = x.members.iter().map(|member| pb::Member {
        server: member.server.0,
        incarnation: member.incarnation.0,
        address: member.address.to_string(),
    });
    pb::Chain { group: x.group.0, version: x.version.0, members: members.collect(), equal: x.equal }
}

fn from_chain(x: pb::Chain) -> Result<Chain> {
    let member = |member: pb::Member| {
        Ok(Member {
            server: ServerId(member.server),
            incarnation: Incarnation(member.incarnation),
            address: from_address(&member.address)?,
        })
    };
    Ok(Chain {
        group: Group(x.group),
        version: ChainVersion(x.version),
        members: x.members.into_iter().map(member).collect::<Result<_>>()?,
        equal: x.equal,
    })
}

fn from_chains(chains: Vec<pb::Chain>) -> Result<Vec<Chain>> {
    chains.into_iter().map(from_chain).collect()
}

pub(crate) fn news(x: &News) -> pb::News {
    pb::News {
        known: known(x.known),
        bits: u32::from(x.bits.0),
        chains: x.chains.iter().map(chain).collect(),
        fenced: x.fenced.iter().map(|session| session.0).collect(),
    }
}

pub(crate) fn from_news(x: pb::News) -> Result<News> {
    Ok(News {
        known: from_known(x.known),
        bits: from_bits(x.bits)?,
        chains: from_chains(x.chains)?,
        fenced: x.fenced.into_iter().map(Fence).collect(),
    })
}

pub(crate) fn granted(x: &Granted) -> pb::Granted {
    pb::Granted { lease: nanos(x.lease), news: Some(news(&x.news)) }
}

pub(crate) fn from_granted(x: pb::Granted) -> Result<Granted> {
    let news = x.news.ok_or_else(|| Malformed::missing("the news of a lease"))?;
    Ok(Granted { lease: Duration::from_nanos(x.lease), news: from_news(news)? })
}

pub(crate) fn chart(x: &Chart) -> pb::Chart {
    pb::Chart {
        version: x.version,
        bits: u32::from(x.bits.0),
        replication: u32::from(x.replication),
        chains: x.chains.iter().map(chain).collect(),
        absent: x.absent.iter().map(|id| id.0).collect(),
    }
}

pub(crate) fn from_chart(x: pb::Chart) -> Result<Chart> {
    let chains = from_chains(x.chains)?;
    if !chains.is_sorted_by(|a, b| a.group < b.group) {
        return Err(Malformed("the chains of the chart are not in order".to_owned()));
    }
    Ok(Chart {
        version: x.version,
        bits: from_bits(x.bits)?,
        replication: u8::try_from(x.replication).map_err(|e| Malformed(e.to_string()))?,
        chains,
        absent: x.absent.into_iter().map(ServerId).collect(),
    })
}

pub(crate) fn server_info(x: &ServerInfo) -> pb::ServerInfo {
    let state = match x.state {
        ServerState::Expected => pb::server_info::State::Expected,
        ServerState::Up => pb::server_info::State::Up,
        ServerState::Equalizing => pb::server_info::State::Equalizing,
        ServerState::Down => pb::server_info::State::Down,
    };
    pb::ServerInfo {
        server: x.server.0,
        address: x.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        incarnation: x.incarnation.0,
        state: state.into(),
        lease_left: nanos(x.lease_left),
        space: space(x.space),
        dirty: x.dirty_bytes,
        groups: x.groups,
        unequal: x.unequal,
    }
}

pub(crate) fn from_server_info(x: &pb::ServerInfo) -> Result<ServerInfo> {
    Ok(ServerInfo {
        server: ServerId(x.server),
        address: optional_address(&x.address)?,
        incarnation: Incarnation(x.incarnation),
        state: match x.state() {
            pb::server_info::State::Expected => ServerState::Expected,
            pb::server_info::State::Up => ServerState::Up,
            pb::server_info::State::Equalizing => ServerState::Equalizing,
            pb::server_info::State::Down => ServerState::Down,
            pb::server_info::State::Unknown => {
                return Err(Malformed("a server is in no known state".to_owned()));
            }
        },
        lease_left: Duration::from_nanos(x.lease_left),
        space: from_space(x.space),
        dirty_bytes: x.dirty,
        groups: x.groups,
        unequal: x.unequal,
    })
}

fn optional_address(text: &str) -> Result<Option<world::Address>> {
    if text.is_empty() { Ok(None) } else { from_address(text).map(Some) }
}

pub(crate) fn failure(error: &MapError) -> pb::Failure {
    use pb::failure::Kind;
    let (kind, node, text) = match error {
        MapError::NotLeader { leader } => (Kind::NotLeader, leader.unwrap_or(0), String::new()),
        MapError::Deadline => (Kind::Deadline, 0, String::new()),
        MapError::NotFormatted => (Kind::NotFormatted, 0, String::new()),
        MapError::Superseded(server) => (Kind::Superseded, server.0, String::new()),
        MapError::Refused(text) => (Kind::Refused, 0, text.clone()),
        MapError::Stopped(text) => (Kind::Stopped, 0, text.clone()),
    };
    pb::Failure { kind: kind.into(), node, text }
}

pub(crate) fn from_failure(x: pb::Failure) -> MapError {
    use pb::failure::Kind;
    match x.kind() {
        Kind::NotLeader => MapError::NotLeader { leader: (x.node != 0).then_some(x.node) },
        Kind::Deadline => MapError::Deadline,
        Kind::NotFormatted => MapError::NotFormatted,
        Kind::Superseded => MapError::Superseded(ServerId(x.node)),
        Kind::Refused => MapError::Refused(x.text),
        Kind::Stopped => MapError::Stopped(x.text),
        Kind::Unknown => MapError::Stopped("an answer of a later version".to_owned()),
    }
}

pub(crate) fn encode_command(command: &Command) -> Bytes {
    use pb::command::What;
    let what = match command {
        Command::Format { cluster, servers, replication, bits } => What::Format(pb::Format {
            cluster: uuid(*cluster),
            servers: servers.iter().map(|id| id.0).collect(),
            replication: u32::from(*replication),
            bits: u32::from(bits.0),
        }),
        Command::Register(x) => What::Register(registration(x)),
        Command::Equal { server, incarnation, groups } => What::Equal(pb::Equal {
            server: server.0,
            incarnation: incarnation.0,
            groups: versions(groups),
        }),
        Command::Expire { server, incarnation } => {
            What::Expire(pb::Expire { server: server.0, incarnation: incarnation.0 })
        }
        Command::Fence(session) => What::Fence(session.0),
    };
    versioned(&pb::Command { what: Some(what) })
}

pub(crate) fn decode_command(bytes: &[u8]) -> Result<Command> {
    use pb::command::What;
    let command: pb::Command = unversioned(bytes)?;
    Ok(match command.what.ok_or_else(|| Malformed::missing("the command"))? {
        What::Format(x) => Command::Format {
            cluster: from_uuid(x.cluster),
            servers: x.servers.into_iter().map(ServerId).collect(),
            replication: u8::try_from(x.replication).map_err(|e| Malformed(e.to_string()))?,
            bits: from_bits(x.bits)?,
        },
        What::Register(x) => Command::Register(from_registration(&x)?),
        What::Equal(x) => Command::Equal {
            server: ServerId(x.server),
            incarnation: Incarnation(x.incarnation),
            groups: from_versions(&x.groups),
        },
        What::Expire(x) => {
            Command::Expire { server: ServerId(x.server), incarnation: Incarnation(x.incarnation) }
        }
        What::Fence(session) => Command::Fence(Fence(session)),
    })
}

pub(crate) fn encode_outcome(outcome: &std::result::Result<u64, MapError>) -> Bytes {
    use pb::outcome::What;
    let what = match outcome {
        Ok(number) => What::Number(*number),
        Err(error) => What::Failure(failure(error)),
    };
    pb::Outcome { what: Some(what) }.encode_to_vec().into()
}

pub(crate) fn decode_outcome(bytes: &[u8]) -> Result<std::result::Result<u64, MapError>> {
    use pb::outcome::What;
    match pb::Outcome::decode(bytes)?.what {
        Some(What::Number(number)) => Ok(Ok(number)),
        Some(What::Failure(x)) => Ok(Err(from_failure(x))),
        None => Err(Malformed::missing("the outcome")),
    }
}

pub(crate) fn encode_map(map: &Map) -> Bytes {
    let server = |(id, x): (&ServerId, &Server)| pb::Server {
        server: id.0,
        address: x.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        incarnation: x.incarnation.0,
        up: x.up,
        directory: uuid(x.directory),
        start: uuid(x.start),
        space: space(x.space),
    };
    let row = |x: &Row| pb::Row {
        version: x.version.0,
        chain: x.chain.iter().map(|id| id.0).collect(),
        changed: x.changed,
        equal: x.equal,
        tainted: x.tainted,
        clean: x.clean.iter().map(|id| id.0).collect(),
    };
    let volume = |(id, name): (&Volume, &String)| pb::Volume { volume: id.0, name: name.clone() };
    versioned(&pb::Checkpoint {
        cluster: map.cluster.and_then(uuid),
        bits: u32::from(map.bits),
        replication: u32::from(map.replication),
        version: map.version,
        servers: map.servers.iter().map(server).collect(),
        rows: map.rows.iter().map(row).collect(),
        fenced: map.fenced.iter().map(|session| session.0).collect(),
        volumes: map.volumes.iter().map(volume).collect(),
    })
}

pub(crate) fn decode_map(bytes: &[u8]) -> Result<Map> {
    let x: pb::Checkpoint = unversioned(bytes)?;
    let server = |x: pb::Server| {
        Ok((
            ServerId(x.server),
            Server {
                address: optional_address(&x.address)?,
                incarnation: Incarnation(x.incarnation),
                up: x.up,
                directory: from_uuid(x.directory),
                start: from_uuid(x.start),
                space: from_space(x.space),
            },
        ))
    };
    let row = |x: pb::Row| Row {
        version: ChainVersion(x.version),
        chain: x.chain.into_iter().map(ServerId).collect(),
        changed: x.changed,
        equal: x.equal,
        tainted: x.tainted,
        clean: x.clean.into_iter().map(ServerId).collect(),
    };
    let bits = from_bits(x.bits)?;
    let cluster = x.cluster.map(|id| from_uuid(Some(id)));
    if cluster.is_some() && x.rows.len() != bits.groups() as usize {
        return Err(Malformed(format!("{} rows for 2^{} groups", x.rows.len(), bits.0)));
    }
    Ok(Map {
        cluster,
        bits: bits.0,
        replication: u8::try_from(x.replication).map_err(|e| Malformed(e.to_string()))?,
        version: x.version,
        servers: x.servers.into_iter().map(server).collect::<Result<_>>()?,
        rows: x.rows.into_iter().map(row).collect(),
        fenced: x.fenced.into_iter().map(Fence).collect(),
        volumes: x.volumes.into_iter().map(|x| (Volume(x.volume), x.name)).collect(),
    })
}
