//! What is asked of the registry and what it answers. How these look as bytes is in `convert`, what
//! they do in `tree`.

use bytes::Bytes;

use super::path::NodePath;
use crate::name::SessionId;

/// How many changes the registry has seen: a point of its history. A client carries the last one
/// that it saw, so that no server shows it an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

/// How a node is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Make {
    /// It goes when the session that made it ends. It has no children.
    pub ephemeral: bool,
    /// Ten digits that only grow are put behind its name.
    pub sequential: bool,
}

/// A change that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A new node.
    Create {
        /// Where; of a sequential node without its number.
        path: NodePath,
        /// What it says; at most [`super::Tree::MOST_DATA`] bytes.
        data: Bytes,
        /// How.
        make: Make,
        /// The children version that the parent must have.
        version: Option<u64>,
    },
    /// A node without children goes.
    Delete {
        /// Which.
        path: NodePath,
        /// The version that it must have.
        version: Option<u64>,
    },
    /// A node says something else.
    Set {
        /// Which.
        path: NodePath,
        /// What.
        data: Bytes,
        /// The version that it must have.
        version: Option<u64>,
    },
}

/// What is known of a node besides its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// The change that made it.
    pub created: Revision,
    /// The last change of its data.
    pub changed: Revision,
    /// How often its data was changed.
    pub version: u64,
    /// How often its children changed.
    pub children_version: u64,
    /// How many children it has.
    pub children: u64,
    /// Whose end ends it.
    pub owner: Option<SessionId>,
}

/// What is asked of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Whether it is there, and its [`Stat`].
    Stat,
    /// Its data too.
    Data,
    /// Its children's names too.
    Children,
}

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Of which node.
    pub path: NodePath,
    /// What.
    pub what: What,
    /// The version that it must have.
    pub version: Option<u64>,
}

/// A node as a question found it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// What is known of it.
    pub stat: Stat,
    /// What it says; empty if that was not asked.
    pub data: Bytes,
    /// Its children's names in order; empty if that was not asked.
    pub children: Vec<String>,
}

/// A change that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The node; of a sequential one with its number.
    pub path: NodePath,
    /// As it is now; of a deleted one as it was.
    pub stat: Stat,
}

/// Why a change was not made or a question has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such node.
    #[error("there is no such node")]
    NoNode,
    /// The node above does not exist.
    #[error("the node above does not exist; create it first")]
    NoParent,
    /// There is one already.
    #[error("the node exists")]
    Exists,
    /// It has children.
    #[error("the node has children; delete them first")]
    NotEmpty,
    /// Its version is another one.
    #[error("the node has version {0}; read it again")]
    Version(u64),
    /// Nodes that end with a session have no children; the root cannot be deleted.
    #[error("this node cannot have that done to it")]
    Forbidden,
    /// More bytes than a node, or more nodes and bytes than the registry, may have.
    #[error("the registry takes no more, or not so large a node")]
    TooLarge,
}

/// What a watch is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The node comes, changes, goes.
    Node,
    /// Its children come and go; or it goes itself.
    Children,
    /// Everything at and below it.
    Below,
}

/// What happened to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// It is there now.
    Created,
    /// It says something else.
    Set,
    /// It is gone.
    Deleted,
    /// The connection was lost and the registry changed meanwhile: look again.
    Resumed,
}

/// A change that a watch is told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub revision: Revision,
    /// To which node.
    pub path: NodePath,
    /// What.
    pub happened: Happened,
}

/// What a watch is opened with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watching {
    /// Where.
    pub path: NodePath,
    /// Of what it is told.
    pub scope: Scope,
    /// Opened again after a loss: until where it has heard everything.
    pub since: Option<Revision>,
}

impl Watching {
    /// Whether it is told of `change`.
    #[must_use]
    pub fn wants(&self, change: &Change) -> bool {
        match self.scope {
            Scope::Node => change.path == self.path,
            Scope::Below => self.path.holds(&change.path),
            Scope::Children => match change.happened {
                Happened::Set => false,
                Happened::Deleted | Happened::Created | Happened::Resumed => {
                    change.path == self.path || change.path.parent().as_ref() == Some(&self.path)
                }
            },
        }
    }
}

/// What a watch is told at a time: all that happened up to `tide`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tidings {
    /// What happened, in order.
    pub changes: Vec<Change>,
    /// Everything until here was told.
    pub tide: Revision,
}

/// The answers to a batch of changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// Where the registry was after the batch.
    pub revision: Revision,
    /// One for each.
    pub results: Vec<Result<Done, Refusal>>,
}

/// The answers to questions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers {
    /// Where the registry was.
    pub revision: Revision,
    /// One for each.
    pub results: Vec<Result<Node, Refusal>>,
}
