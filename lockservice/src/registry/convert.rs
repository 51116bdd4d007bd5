//! Between the generated messages and ours. What came from outside is checked here.

use super::{
    message::{
        Answers, Change, Changed, Done, Happened, Make, Node, Op, Question, Refusal, Revision,
        Scope, Stat, Tidings, Watching, What,
    },
    path::NodePath,
    store::MOST_ASKED,
    tree::{Row, Tree},
};
use crate::{
    convert::{Odd, Read, option_of},
    name::SessionId,
    proto,
};

fn path_of(text: String) -> Read<NodePath> {
    NodePath::new(text).map_err(|_| Odd("a path of the registry that is none"))
}

impl From<&Op> for proto::NodeOp {
    fn from(op: &Op) -> Self {
        use proto::node_op::Op as P;
        let op = match op {
            Op::Create { path, data, make, version } => P::Create(proto::NodeCreate {
                path: path.to_string(),
                data: data.to_vec(),
                ephemeral: make.ephemeral,
                sequential: make.sequential,
                version: *version,
            }),
            Op::Delete { path, version } => {
                P::Delete(proto::NodeDelete { path: path.to_string(), version: *version })
            }
            Op::Set { path, data, version } => P::Set(proto::NodeSet {
                path: path.to_string(),
                data: data.to_vec(),
                version: *version,
            }),
        };
        Self { op: Some(op) }
    }
}

fn op_of(op: proto::NodeOp) -> Read<Op> {
    use proto::node_op::Op as P;
    let data = |data: Vec<u8>| {
        if data.len() > Tree::MOST_DATA { Err(Odd("a node too large")) } else { Ok(data.into()) }
    };
    Ok(match option_of(op.op)? {
        P::Create(create) => Op::Create {
            path: path_of(create.path)?,
            data: data(create.data)?,
            make: Make { ephemeral: create.ephemeral, sequential: create.sequential },
            version: create.version,
        },
        P::Delete(delete) => Op::Delete { path: path_of(delete.path)?, version: delete.version },
        P::Set(set) => {
            Op::Set { path: path_of(set.path)?, data: data(set.data)?, version: set.version }
        }
    })
}

pub(crate) fn ops_of(ops: Vec<proto::NodeOp>) -> Read<Vec<Op>> {
    if ops.len() > MOST_ASKED {
        return Err(Odd("more changes of the registry than one call may ask for"));
    }
    ops.into_iter().map(op_of).collect()
}

fn stat_to(stat: &Stat) -> proto::NodeStat {
    proto::NodeStat {
        created: stat.created.0,
        changed: stat.changed.0,
        version: stat.version,
        children_version: stat.children_version,
        children: stat.children,
        owner: stat.owner.map_or(0, |owner| owner.0),
    }
}

fn stat_of(stat: Option<proto::NodeStat>) -> Read<Stat> {
    let stat = option_of(stat)?;
    Ok(Stat {
        created: Revision(stat.created),
        changed: Revision(stat.changed),
        version: stat.version,
        children_version: stat.children_version,
        children: stat.children,
        owner: (stat.owner != 0).then_some(SessionId(stat.owner)),
    })
}

fn refusal_to(refusal: Refusal) -> proto::NodeRefusal {
    use proto::RefusalKind as K;
    let (kind, version) = match refusal {
        Refusal::NoNode => (K::NoNode, 0),
        Refusal::NoParent => (K::NoParent, 0),
        Refusal::Exists => (K::Exists, 0),
        Refusal::NotEmpty => (K::NotEmpty, 0),
        Refusal::Version(version) => (K::Version, version),
        Refusal::Forbidden => (K::Forbidden, 0),
        Refusal::TooLarge => (K::TooLarge, 0),
    };
    proto::NodeRefusal { kind: kind as i32, version }
}

fn refusal_of(refusal: proto::NodeRefusal) -> Read<Refusal> {
    use proto::RefusalKind as K;
    Ok(match K::try_from(refusal.kind) {
        Ok(K::NoNode) => Refusal::NoNode,
        Ok(K::NoParent) => Refusal::NoParent,
        Ok(K::Exists) => Refusal::Exists,
        Ok(K::NotEmpty) => Refusal::NotEmpty,
        Ok(K::Version) => Refusal::Version(refusal.version),
        Ok(K::Forbidden) => Refusal::Forbidden,
        Ok(K::TooLarge) => Refusal::TooLarge,
        Ok(K::RefusalUnknown) | Err(_) => return Err(Odd("an unknown refusal")),
    })
}

impl From<&Changed> for proto::TreeChanged {
    fn from(changed: &Changed) -> Self {
        use proto::node_result::Result as P;
        let result = |result: &Result<Done, Refusal>| proto::NodeResult {
            result: Some(match result {
                Ok(done) => P::Done(proto::NodeDone {
                    path: done.path.to_string(),
                    stat: Some(stat_to(&done.stat)),
                }),
                Err(refusal) => P::Refused(refusal_to(*refusal)),
            }),
        };
        Self { revision: changed.revision.0, results: changed.results.iter().map(result).collect() }
    }
}

pub(crate) fn changed_of(changed: proto::TreeChanged) -> Read<Changed> {
    use proto::node_result::Result as P;
    let result = |result: proto::NodeResult| {
        Ok(match option_of(result.result)? {
            P::Done(done) => Ok(Done { path: path_of(done.path)?, stat: stat_of(done.stat)? }),
            P::Refused(refusal) => Err(refusal_of(refusal)?),
        })
    };
    Ok(Changed {
        revision: Revision(changed.revision),
        results: changed.results.into_iter().map(result).collect::<Read<_>>()?,
    })
}

impl From<&Question> for proto::NodeQuestion {
    fn from(question: &Question) -> Self {
        let what = match question.what {
            What::Stat => proto::NodeWhat::Stat,
            What::Data => proto::NodeWhat::Data,
            What::Children => proto::NodeWhat::Children,
        };
        Self { path: question.path.to_string(), what: what as i32, version: question.version }
    }
}

pub(super) fn questions_of(questions: Vec<proto::NodeQuestion>) -> Read<Vec<Question>> {
    if questions.len() > MOST_ASKED {
        return Err(Odd("more questions to the registry than one call may ask"));
    }
    let question = |question: proto::NodeQuestion| {
        let what = match proto::NodeWhat::try_from(question.what) {
            Ok(proto::NodeWhat::Stat) => What::Stat,
            Ok(proto::NodeWhat::Data) => What::Data,
            Ok(proto::NodeWhat::Children) => What::Children,
            Err(_) => return Err(Odd("an unknown question")),
        };
        Ok(Question { path: path_of(question.path)?, what, version: question.version })
    };
    questions.into_iter().map(question).collect()
}

impl From<Answers> for proto::TreeAnswers {
    fn from(answers: Answers) -> Self {
        use proto::node_answer::Answer as P;
        let answer = |answer: Result<Node, Refusal>| proto::NodeAnswer {
            answer: Some(match answer {
                Ok(node) => P::Node(proto::NodeFound {
                    stat: Some(stat_to(&node.stat)),
                    data: node.data.to_vec(),
                    children: node.children,
                }),
                Err(refusal) => P::Refused(refusal_to(refusal)),
            }),
        };
        Self {
            revision: answers.revision.0,
            answers: answers.results.into_iter().map(answer).collect(),
        }
    }
}

pub(super) fn answers_of(answers: proto::TreeAnswers) -> Read<Answers> {
    use proto::node_answer::Answer as P;
    let answer = |answer: proto::NodeAnswer| {
        Ok(match option_of(answer.answer)? {
            P::Node(node) => Ok(Node {
                stat: stat_of(node.stat)?,
                data: node.data.into(),
                children: node.children,
            }),
            P::Refused(refusal) => Err(refusal_of(refusal)?),
        })
    };
    Ok(Answers {
        revision: Revision(answers.revision),
        results: answers.answers.into_iter().map(answer).collect::<Read<_>>()?,
    })
}

impl From<&Watching> for proto::WatchTree {
    fn from(watching: &Watching) -> Self {
        let scope = match watching.scope {
            Scope::Node => proto::WatchScope::OneNode,
            Scope::Children => proto::WatchScope::ItsChildren,
            Scope::Below => proto::WatchScope::AllBelow,
        };
        Self {
            path: watching.path.to_string(),
            scope: scope as i32,
            since: watching.since.map(|since| since.0),
            seen: 0,
        }
    }
}

pub(super) fn watching_of(watch: proto::WatchTree) -> Read<Watching> {
    let scope = match proto::WatchScope::try_from(watch.scope) {
        Ok(proto::WatchScope::OneNode) => Scope::Node,
        Ok(proto::WatchScope::ItsChildren) => Scope::Children,
        Ok(proto::WatchScope::AllBelow) => Scope::Below,
        Err(_) => return Err(Odd("an unknown scope of a watch")),
    };
    Ok(Watching { path: path_of(watch.path)?, scope, since: watch.since.map(Revision) })
}

impl From<&Tidings> for proto::TreeTidings {
    fn from(tidings: &Tidings) -> Self {
        let change = |change: &Change| proto::NodeChange {
            revision: change.revision.0,
            path: change.path.to_string(),
            happened: match change.happened {
                Happened::Created => proto::NodeHappened::Created,
                Happened::Set => proto::NodeHappened::WasSet,
                Happened::Deleted => proto::NodeHappened::Deleted,
                Happened::Resumed => proto::NodeHappened::Resumed,
            } as i32,
        };
        Self { tide: tidings.tide.0, changes: tidings.changes.iter().map(change).collect() }
    }
}

pub(super) fn tidings_of(tidings: proto::TreeTidings) -> Read<Tidings> {
    let change = |change: proto::NodeChange| {
        let happened = match proto::NodeHappened::try_from(change.happened) {
            Ok(proto::NodeHappened::Created) => Happened::Created,
            Ok(proto::NodeHappened::WasSet) => Happened::Set,
            Ok(proto::NodeHappened::Deleted) => Happened::Deleted,
            Ok(proto::NodeHappened::Resumed) => Happened::Resumed,
            Err(_) => return Err(Odd("an unknown change of a node")),
        };
        let (revision, path) = (Revision(change.revision), path_of(change.path)?);
        Ok(Change { revision, path, happened })
    };
    Ok(Tidings {
        tide: Revision(tidings.tide),
        changes: tidings.changes.into_iter().map(change).collect::<Read<_>>()?,
    })
}

impl From<&Tree> for proto::TreeState {
    fn from(tree: &Tree) -> Self {
        let row = |(path, row): (&NodePath, &Row)| proto::NodeRow {
            path: path.to_string(),
            data: row.data.to_vec(),
            stat: Some(stat_to(&row.stat)),
            next: row.next,
        };
        Self { revision: tree.revision.0, rows: tree.rows.iter().map(row).collect() }
    }
}

/// The tree of a checkpoint.
pub(crate) fn tree_of(state: proto::TreeState) -> Read<Tree> {
    let mut tree = Tree::default();
    tree.revision = Revision(state.revision);
    for row in state.rows {
        let (path, stat) = (path_of(row.path)?, stat_of(row.stat)?);
        let row = Row { data: row.data.into(), stat, next: row.next, ..Row::default() };
        // In order of paths a parent comes before its children.
        let Some(parent) = path.parent() else {
            tree.rows.insert(path, Row { stat: Stat { children: 0, ..row.stat }, ..row });
            continue;
        };
        if !tree.rows.contains_key(&parent) || tree.rows.contains_key(&path) {
            return Err(Odd("a node without a parent, or twice"));
        }
        let row = Row { stat: Stat { children: 0, ..row.stat }, ..row };
        tree.put_in(&path, row);
    }
    Ok(tree)
}
