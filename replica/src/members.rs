//! Who belongs to a group and where they are reached: changes that operators ask for, and the book
//! of addresses that is replicated beside the machine, so that every node learns of a new one.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft::Configuration;
use wire::NodeId;

use crate::config::member;

/// The longest address, in bytes.
const ADDRESS_MAX: usize = 512;

/// A change of the group by one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is to become a voter; it is brought up to date first.
    Add {
        /// The node, which runs and was told to join.
        node: NodeId,
        /// Where the others reach it.
        address: String,
    },
    /// It is to be no member any more.
    Remove(NodeId),
}

impl Change {
    /// The group after this change.
    pub(crate) fn target(&self, now: &Configuration) -> Configuration {
        let mut target = Configuration { outgoing: Vec::new(), ..now.clone() };
        match self {
            Self::Add { node, .. } => {
                target.learners.retain(|id| *id != member(*node));
                target.voters.push(member(*node));
            }
            Self::Remove(node) => {
                target.learners.retain(|id| *id != member(*node));
                target.voters.retain(|id| *id != member(*node));
            }
        }
        target.voters.sort_unstable();
        target.voters.dedup();
        target
    }
}

pub(crate) fn encode_book(book: &BTreeMap<NodeId, String>) -> Bytes {
    let mut out = BytesMut::new();
    for (node, address) in book {
        out.put_u64_le(node.0);
        out.put_u16_le(address.len() as u16);
        out.put_slice(address.as_bytes());
    }
    out.freeze()
}

/// Reads [`encode_book`]; `None` if the bytes are no book.
pub(crate) fn decode_book(mut bytes: Bytes) -> Option<BTreeMap<NodeId, String>> {
    let mut book = BTreeMap::new();
    while !bytes.is_empty() {
        if bytes.len() < 10 {
            return None;
        }
        let node = NodeId(bytes.get_u64_le());
        let length = usize::from(bytes.get_u16_le());
        if length > ADDRESS_MAX || length > bytes.len() {
            return None;
        }
        let address = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
        book.insert(node, address);
    }
    Some(book)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(voters: &[u64], learners: &[u64]) -> Configuration {
        let ids = |ids: &[u64]| ids.iter().map(|id| member(NodeId(*id))).collect();
        Configuration { voters: ids(voters), outgoing: Vec::new(), learners: ids(learners) }
    }

    #[test]
    fn a_change_keeps_all_others_and_is_the_same_when_asked_twice() {
        let add = Change::Add { node: NodeId(4), address: String::new() };
        let more = add.target(&group(&[1, 2, 9], &[4, 5]));
        assert_eq!(more, group(&[1, 2, 4, 9], &[5]));
        assert_eq!(add.target(&more), more);
        let less = Change::Remove(NodeId(2)).target(&more);
        assert_eq!(less, group(&[1, 4, 9], &[5]));
        assert_eq!(Change::Remove(NodeId(2)).target(&less), less);
    }

    #[test]
    fn a_book_is_read_back_and_a_cut_one_refused() {
        let book = BTreeMap::from([
            (NodeId(1), "127.0.0.1:7000".to_owned()),
            (NodeId(9), "unix:/run/c9".to_owned()),
        ]);
        let bytes = encode_book(&book);
        assert_eq!(decode_book(bytes.clone()), Some(book));
        let first = 10 + "127.0.0.1:7000".len();
        for cut in (1..bytes.len()).filter(|cut| *cut != first) {
            assert_eq!(decode_book(bytes.slice(..cut)), None, "cut at {cut}");
        }
    }
}
