//! Who speaks: cluster, node and role, and the protocol version spoken. What a node does in its
//! role is not known here.

use std::{fmt, str::FromStr};

use world::Dice;

/// The protocol version of both transports. Peers of another version are refused.
pub const PROTOCOL: u16 = 1;

/// The cluster: made once, when its first node is set up, and stated on every connection so that
/// nodes of different clusters never mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// A fresh one.
    #[must_use]
    pub fn fresh(dice: &dyn Dice) -> Self {
        let mut bytes = [0; 16];
        dice.fill(&mut bytes);
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is no cluster id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cluster id: it has 32 hexadecimal digits")]
pub struct ClusterIdError(pub String);

impl FromStr for ClusterId {
    type Err = ClusterIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(id) if whole => Ok(Self(id)),
            _ => Err(ClusterIdError(text.to_owned())),
        }
    }
}

/// A process of the cluster, by number. Numbers of different roles are of different series.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a process is in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Hosts replicas of the lock and map groups.
    Coordinator,
    /// Keeps blocks.
    Block,
    /// Mounts a volume.
    Mount,
    /// Runs map and reduce tasks.
    Worker,
    /// An operator's command: `status`, `fsck` and the like.
    Tool,
}

impl Role {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Coordinator, "coordinator"),
        (Self::Block, "block"),
        (Self::Mount, "mount"),
        (Self::Worker, "worker"),
        (Self::Tool, "tool"),
    ];

    /// The role's number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The role of a number on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).map(|(role, _)| *role)
    }

    fn name(self) -> &'static str {
        Self::ALL[usize::from(self.number())].1
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who speaks on a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number among the nodes of its role.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of cluster {}", self.role, self.node, self.cluster)
    }
}

impl Identity {
    /// The text of the identity header of a gRPC call: `protocol/cluster/role/node`.
    pub(crate) fn to_header(self) -> String {
        format!("{PROTOCOL}/{}/{}/{}", self.cluster, self.role, self.node)
    }

    /// Reads [`Identity::to_header`] and compares it with the own identity.
    ///
    /// # Errors
    /// A sentence that says what is missing or differs.
    pub(crate) fn read_header(self, text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let protocol = parts.next().and_then(|part| part.parse::<u16>().ok());
        let protocol = protocol.ok_or_else(|| format!("{text:?} is no identity header"))?;
        self.check_protocol(protocol)?;
        let cluster = parts.next().and_then(|part| part.parse::<ClusterId>().ok());
        let role = parts.next().and_then(Role::from_name);
        let node = parts.next().and_then(|part| part.parse::<u64>().ok());
        match (cluster, role, node, parts.next()) {
            (Some(cluster), Some(role), Some(node), None) => {
                let peer = Self { cluster, node: NodeId(node), role };
                self.check_cluster(peer)?;
                Ok(peer)
            }
            _ => Err(format!("{text:?} is no identity header")),
        }
    }

    /// Whether a peer speaks our protocol.
    pub(crate) fn check_protocol(self, theirs: u16) -> Result<(), String> {
        if theirs == PROTOCOL {
            return Ok(());
        }
        Err(format!(
            "{self} speaks protocol version {PROTOCOL} and was called with version {theirs}: run \
             the same release of plumeria on both sides"
        ))
    }

    /// Whether a peer is of our cluster.
    pub(crate) fn check_cluster(self, peer: Self) -> Result<(), String> {
        if peer.cluster == self.cluster {
            return Ok(());
        }
        Err(format!(
            "{} {} belongs to cluster {}, its caller ({} {}) to cluster {}: check the address and \
             the data directory",
            self.role, self.node, self.cluster, peer.role, peer.node, peer.cluster
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Identity {
        Identity { cluster: ClusterId(7), node: NodeId(3), role: Role::Block }
    }

    #[test]
    fn an_identity_header_is_read_back() {
        let peer = Identity { node: NodeId(9), role: Role::Tool, ..me() };
        assert_eq!(me().read_header(&peer.to_header()), Ok(peer));
    }

    #[test]
    fn another_cluster_and_another_protocol_are_named_in_the_refusal() {
        let stranger = Identity { cluster: ClusterId(8), ..me() };
        let refusal = me().read_header(&stranger.to_header()).unwrap_err();
        assert!(refusal.contains("00000000000000000000000000000008"), "{refusal}");
        let refusal = me().read_header("2/x/y/z").unwrap_err();
        assert!(refusal.contains("version 2"), "{refusal}");
        assert!(me().read_header("").is_err());
        assert!(me().read_header("1/07/block/1").is_err(), "a short cluster id");
    }

    #[test]
    fn every_role_has_its_number_and_name() {
        for (role, name) in Role::ALL {
            assert_eq!(Role::from_number(role.number()), Some(role));
            assert_eq!(Role::from_name(name), Some(role));
        }
        assert_eq!(Role::from_number(5), None);
    }
}
