//! The registry: the tree by itself, and clients of one service in this process.

#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use world::{Time, World};

use super::{
    Happened, Make, NodePath, Op, Question, Refusal, Registry, Revision, Scope, Store, Tree,
    Watching, What,
};
use crate::{
    Clerk, Error, Locks, SessionId, Table,
    local::LocalLocks,
    message::{Client, Command, Kind, Reply, Seq},
};

const ONE: SessionId = SessionId(1);
const PLAIN: Make = Make { ephemeral: false, sequential: false };
const EPHEMERAL: Make = Make { ephemeral: true, sequential: false };
const NUMBERED: Make = Make { ephemeral: false, sequential: true };

fn path(text: &str) -> NodePath {
    NodePath::new(text).unwrap()
}

fn create(text: &str, make: Make) -> Op {
    Op::Create { path: path(text), data: Bytes::from_static(b"x"), make, version: None }
}

fn soon() -> Time {
    World::real().clock.now() + Duration::from_secs(5)
}

fn names(tree: &Tree, text: &str) -> Vec<String> {
    let question = Question { path: path(text), what: What::Children, version: None };
    tree.read(&question).unwrap().children
}

#[test]
fn each_change_is_refused_for_its_own_reason() {
    let mut tree = Tree::default();
    let mut change = |op| tree.change(ONE, &op).map(|done| done.stat.version);
    let delete = |text: &str, version| Op::Delete { path: path(text), version };
    let set = |text: &str, version| Op::Set { path: path(text), data: Bytes::new(), version };
    assert_eq!(change(create("/a/b", PLAIN)), Err(Refusal::NoParent));
    assert_eq!(change(create("/a", PLAIN)), Ok(0));
    assert_eq!(change(create("/a", PLAIN)), Err(Refusal::Exists));
    assert_eq!(change(create("/", PLAIN)), Err(Refusal::Exists));
    assert_eq!(change(create("/a/b", EPHEMERAL)), Ok(0));
    assert_eq!(change(create("/a/b/c", PLAIN)), Err(Refusal::Forbidden));
    assert_eq!(change(delete("/a", None)), Err(Refusal::NotEmpty));
    assert_eq!(change(delete("/", None)), Err(Refusal::Forbidden));
    assert_eq!(change(set("/a", Some(3))), Err(Refusal::Version(0)));
    assert_eq!(change(set("/a", Some(0))), Ok(1));
    assert_eq!(change(delete("/a/b", Some(1))), Err(Refusal::Version(0)));
    assert_eq!(change(delete("/a/b", Some(0))), Ok(0));
    assert_eq!(change(set("/a/b", None)), Err(Refusal::NoNode));
    let stale =
        Op::Create { path: path("/a/d"), data: Bytes::new(), make: PLAIN, version: Some(1) };
    assert_eq!(change(stale), Err(Refusal::Version(2)), "its children changed twice");
    tree.check(|_| true).unwrap();
}

#[test]
fn sequential_names_only_grow_and_sort_in_the_order_of_their_making() {
    let mut tree = Tree::default();
    tree.change(ONE, &create("/q", PLAIN)).unwrap();
    for _ in 0..3 {
        tree.change(ONE, &create("/q/n-", NUMBERED)).unwrap();
    }
    let last = Op::Delete { path: path("/q/n-0000000002"), version: None };
    tree.change(ONE, &last).unwrap();
    let done = tree.change(ONE, &create("/q/n-", NUMBERED)).unwrap();
    assert_eq!(done.path, path("/q/n-0000000003"), "a number is not used again");
    assert_eq!(names(&tree, "/q"), ["n-0000000000", "n-0000000001", "n-0000000003"]);
}

#[test]
fn a_node_too_large_is_refused_and_changes_nothing() {
    let mut tree = Tree::default();
    let data = Bytes::from(vec![0; Tree::MOST_DATA + 1]);
    let large = Op::Create { path: path("/a"), data, make: PLAIN, version: None };
    assert_eq!(tree.change(ONE, &large), Err(Refusal::TooLarge));
    assert_eq!((tree.revision(), names(&tree, "/").len()), (Revision(0), 0));
}

fn session(table: &mut Table, nonce: u64) -> SessionId {
    let owner = nonce.to_string();
    let client = Client { owner, host: String::new(), kind: Kind::Tool, able: false, nonce };
    match table.handle(Command::Open { client, replace: false }) {
        Reply::Opened(session) => session,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_that_is_repeated_answers_the_same_and_is_made_once() {
    let mut table = Table::new();
    let session = session(&mut table, 1);
    let ops = vec![create("/q-", NUMBERED)];
    let batch = Command::Tree { session, seq: Seq(1), ops: ops.clone() };
    let first = table.handle(batch.clone());
    assert!(matches!(&first, Reply::Tree(changed) if changed.results[0].is_ok()), "{first:?}");
    assert_eq!(table.handle(batch.clone()), first);
    let mut table = Table::load(&table.save()).unwrap();
    assert_eq!(table.handle(batch.clone()), first, "also after a checkpoint");
    table.handle(Command::Tree { session, seq: Seq(2), ops });
    assert_eq!(table.handle(batch), Reply::Refused, "an older one is given up");
    assert_eq!(names(table.tree(), "/").len(), 2);
}

#[test]
fn ephemeral_nodes_end_with_their_session_however_that_ends() {
    let mut table = Table::new();
    let (one, two, three) =
        (session(&mut table, 1), session(&mut table, 2), session(&mut table, 3));
    for session in [one, two, three] {
        let text = format!("/e{}", session.0);
        let ops = vec![create(&text, EPHEMERAL)];
        table.handle(Command::Tree { session, seq: Seq(1), ops });
    }
    table.handle(Command::Expire(one));
    table.check().unwrap();
    assert_eq!(names(table.tree(), "/"), ["e2", "e3"], "although it awaits its recovery");
    table.handle(Command::Close(two));
    table.check().unwrap();
    assert_eq!(names(table.tree(), "/"), ["e3"]);
    let saved = table.save();
    assert_eq!(Table::load(&saved).unwrap().tree(), table.tree());
}

async fn join(locals: &LocalLocks, owner: &str) -> (Arc<Clerk>, Registry) {
    let clerk = locals.open(owner).await.unwrap();
    clerk.attach(Arc::new(crate::clerk::Nothing), None);
    let registry = clerk.registry();
    (clerk, registry)
}

#[tokio::test]
async fn calls_that_nobody_waits_between_take_effect_in_their_order() {
    let locals = LocalLocks::new(World::real());
    let (_clerk, registry) = join(&locals, "a").await;
    let node = path("/n");
    let made = registry.create(&node, "0", PLAIN);
    let sets: Vec<_> = (0..600).map(|n: u32| registry.set(&node, n.to_string(), None)).collect();
    let read = registry.get(&node);
    let gone = registry.delete(&node, None);
    let after = registry.exists(&node);
    assert_eq!(after.await.unwrap(), None);
    gone.await.unwrap();
    assert_eq!(read.await.unwrap().unwrap().data, "599");
    made.await.unwrap();
    for (number, set) in sets.into_iter().enumerate() {
        assert_eq!(set.await.unwrap().version, number as u64 + 1);
    }
}

#[tokio::test]
async fn a_watch_has_told_of_a_change_before_a_later_call_answers_with_it() {
    let locals = LocalLocks::new(World::real());
    let (_a, one) = join(&locals, "a").await;
    let (_b, two) = join(&locals, "b").await;
    let node = path("/n");
    one.create(&node, "0", PLAIN).await.unwrap();
    let watch = two.watch(&node, Scope::Node).await.unwrap();
    for round in 1..=50 {
        let writer = one.clone();
        let set = writer.set(&node, round.to_string(), None);
        // Read until the change is seen; the moment it is, the watch must have told of it.
        while two.get(&node).await.unwrap().unwrap().stat.version < round {
            assert!(round > 0);
        }
        let change = watch.ready().expect("it was told before it was read");
        assert_eq!(change.happened, Happened::Set);
        set.await.unwrap();
    }
    assert!(watch.ready().is_none(), "and once each");
}

#[tokio::test]
async fn watches_tell_what_their_scope_says_and_nothing_else() {
    let locals = LocalLocks::new(World::real());
    let (_a, registry) = join(&locals, "a").await;
    registry.create(&path("/d"), "", PLAIN).await.unwrap();
    let node = registry.watch(&path("/d"), Scope::Node).await.unwrap();
    let children = registry.watch(&path("/d"), Scope::Children).await.unwrap();
    let below = registry.watch(&path("/d"), Scope::Below).await.unwrap();
    registry.create(&path("/d/x"), "", PLAIN).await.unwrap();
    registry.set(&path("/d/x"), "1", None).await.unwrap();
    registry.set(&path("/d"), "1", None).await.unwrap();
    registry.create(&path("/dd"), "", PLAIN).await.unwrap();
    registry.delete(&path("/d/x"), None).await.unwrap();
    registry.delete(&path("/d"), None).await.unwrap();
    let told = |watch: &super::Watch| {
        let mut told = Vec::new();
        while let Some(change) = watch.ready() {
            told.push((change.path.to_string(), change.happened));
        }
        told
    };
    use Happened::{Created, Deleted, Set};
    let (d, x) = (|| "/d".to_owned(), || "/d/x".to_owned());
    assert_eq!(told(&node), [(d(), Set), (d(), Deleted)]);
    assert_eq!(told(&children), [(x(), Created), (x(), Deleted), (d(), Deleted)]);
    let all = [(x(), Created), (x(), Set), (d(), Set), (x(), Deleted), (d(), Deleted)];
    assert_eq!(told(&below), all);
}

#[tokio::test]
async fn a_dead_client_is_seen_to_leave() {
    let locals = LocalLocks::new(World::real());
    let (a, one) = join(&locals, "a").await;
    let (_b, two) = join(&locals, "b").await;
    two.ensure(&path("/members")).await.unwrap();
    let watch = two.watch(&path("/members"), Scope::Children).await.unwrap();
    one.create(&path("/members/a"), "", EPHEMERAL).await.unwrap();
    assert_eq!(watch.next(soon()).await.unwrap().happened, Happened::Created);
    locals.kill(a.session()).await.unwrap();
    assert_eq!(watch.next(soon()).await.unwrap().happened, Happened::Deleted);
    assert!(two.children(&path("/members")).await.unwrap().is_empty());
    assert_eq!(one.create(&path("/x"), "", PLAIN).await.err(), Some(Error::Expired));
}

#[tokio::test]
async fn a_watch_that_is_opened_again_says_if_something_was_missed() {
    let locals = LocalLocks::new(World::real());
    let (_a, registry) = join(&locals, "a").await;
    registry.create(&path("/n"), "", PLAIN).await.unwrap();
    let server = locals.server();
    let open = async |since: Revision| {
        let watching = Watching { path: path("/n"), scope: Scope::Node, since: Some(since) };
        let mut stream = server.watch(watching, Revision(0), soon()).await.unwrap();
        futures_util::StreamExt::next(&mut stream).await.unwrap()
    };
    let now = registry.seen();
    assert!(open(now).await.changes.is_empty());
    let missed = open(Revision(now.0 - 1)).await;
    assert_eq!(missed.changes[0].happened, Happened::Resumed);
    assert_eq!(missed.tide, now);
}

#[tokio::test]
async fn nobody_is_shown_less_than_what_it_has_seen() {
    let locals = LocalLocks::new(World::real());
    let (_a, registry) = join(&locals, "a").await;
    registry.create(&path("/n"), "", PLAIN).await.unwrap();
    let question = [Question { path: path("/n"), what: What::Stat, version: None }];
    let later = Revision(registry.seen().0 + 1);
    let soon = World::real().clock.now() + Duration::from_millis(50);
    let early = locals.server().read(&question, later, soon).await.err();
    assert_eq!(early, Some(Error::Unreachable), "rather no answer than an old one");
    let server = locals.server();
    let waits = tokio::spawn(async move { server.read(&question, later, self::soon()).await });
    registry.set(&path("/n"), "1", None).await.unwrap();
    let answers = waits.await.unwrap().unwrap();
    assert_eq!(answers.results[0].as_ref().unwrap().stat.version, 1);
}
