//! The bytes of block messages, and a server called over a real socket.

use std::time::Duration;

use proptest::prelude::*;
use wire::{ClusterId, NodeId, Role};

use super::*;
use crate::{
    disk::Fence,
    message::{
        BlockContent, Change, Discard, Freshness, Seen, ServerStatus, Swept, Ticket, Write, Writer,
        page_sums,
    },
    place::{BlockId, BlockVersion, ChainVersion, Group, Order, Sequence, Volume},
};

fn ticket() -> Ticket {
    let writer = Writer { session: Fence(1), client: 2 };
    Ticket { writer, sequence: Sequence(3), floor: Sequence(4) }
}

fn requests() -> Vec<Request> {
    let (group, chain) = (Group(5), ChainVersion(6));
    let block = BlockId { volume: Volume(1), block: 77 };
    let body = Bytes::from(vec![8; 8192]);
    let condition = Some(BlockVersion { chain, order: Order(5) });
    let sums = page_sums(4096, &body);
    let (volume, offset) = (Volume(1), 4096);
    let write = Write { volume, offset, durable: true, condition, sums, body: body.clone() };
    let discard = Discard { volume, offset: 4096, length: 1 << 40 };
    let seen = Seen { writer: ticket().writer, floor: Sequence(2), done: vec![Sequence(9)] };
    let sums = page_sums(0, &body);
    let content =
        BlockContent { version: BlockVersion::default(), pages: 3, lost: 0x8100, sums, body };
    let (change, order) = (Change::Write(write), Order(9));
    vec![
        Request::Read { group, chain, volume, offset, length: 512, freshness: Freshness::Any },
        Request::Mutate { group, chain, ticket: ticket(), change: change.clone() },
        Request::Mutate { group, chain, ticket: ticket(), change: Change::Discard(discard) },
        Request::Flush { groups: vec![(group, chain), (Group(1), chain)] },
        Request::Forward { group, chain, order, ticket: ticket(), change },
        Request::Applied { group, chain },
        Request::List { group, chain, after: Some(block) },
        Request::List { group, chain, after: None },
        Request::Fetch { group, chain, block },
        Request::Install { group, chain, block, content },
        Request::Serve { group, chain, seen: vec![seen] },
        Request::Status,
    ]
}

fn replies() -> Vec<Reply> {
    let chain = ChainVersion(6);
    let block = BlockId { volume: Volume(1), block: 77 };
    let version = BlockVersion { chain, order: Order(2) };
    let seen = Seen { writer: ticket().writer, floor: Sequence(2), done: vec![Sequence(9)] };
    let swept = Swept { volume: Volume(1), first: 4096, last: u64::MAX, version };
    let refusals = [
        Refusal::Stale(chain),
        Refusal::NotReady,
        Refusal::Misplaced,
        Refusal::Fenced(Fence(7)),
        Refusal::Answered,
        Refusal::Changed(version),
        Refusal::Waiting(ServerId(2)),
        Refusal::Damaged { offset: 5 },
        Refusal::Garbled,
        Refusal::NoSpace(ServerId(1)),
        Refusal::Stopped(ServerId(1)),
        Refusal::Invalid("why".to_owned()),
    ];
    let mut replies = vec![
        Reply::Data { chain, sums: vec![1], body: Bytes::from_static(b"x") },
        Reply::Done { chain },
        Reply::Applied { chain, order: Order(3) },
        Reply::Blocks {
            chain,
            blocks: vec![(block, version)],
            more: true,
            seen: vec![seen],
            swept: vec![swept],
        },
        Reply::Block { chain, content: BlockContent::default() },
        Reply::Status(ServerStatus { chains: 5, ..ServerStatus::default() }),
    ];
    replies.extend(refusals.map(Reply::Refused));
    replies
}

#[test]
fn every_message_is_read_back_and_every_cut_of_it_is_rejected() {
    for request in requests() {
        let (kind, head, body) = encode_request(&request);
        assert_eq!(decode_request(kind, &head, body.clone()), Ok(request));
        for cut in 0..head.len() {
            assert!(decode_request(kind, &head[..cut], body.clone()).is_err());
        }
    }
    for reply in replies() {
        let (kind, head, body) = encode_reply(&reply);
        assert_eq!(decode_reply(kind, &head, body.clone()), Ok(reply));
        for cut in 0..head.len() {
            assert!(decode_reply(kind, &head[..cut], body.clone()).is_err());
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        kind in prop_oneof![0u16..12, 100u16..110, any::<u16>()],
        head in proptest::collection::vec(any::<u8>(), 0..200),
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let body = Bytes::from(body);
        let _ = decode_reply(kind, &head, body.clone());
        if let Ok(Request::Mutate { change, .. }) = decode_request(kind, &head, body) {
            let _ = change.check();
        }
    }
}

struct Echo;

#[async_trait]
impl Service for Echo {
    async fn call(&self, request: Request, _deadline: Time) -> Result<Reply, Unanswered> {
        Ok(match request {
            Request::Mutate { change: Change::Write(write), .. } => {
                Reply::Data { chain: ChainVersion(1), sums: write.sums, body: write.body }
            }
            _ => Reply::Refused(Refusal::Misplaced),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_another_process_and_one_in_this_answer_alike() {
    let world = World::real();
    let me = Identity { cluster: ClusterId(3), node: NodeId(1), role: Role::Block };
    let dir = tempfile::tempdir().unwrap();
    let address = Address::Unix(dir.path().join("s"));
    let listener = world.net.listen(&address).await.unwrap();
    let service: Arc<dyn Service> = Arc::new(Echo);
    let answers = Arc::new(Answers::new(&world, Arc::clone(&service)));
    let serving = wire::bulk::serve(&world, me, listener, answers);
    let lines = Lines::new(&world, me);
    let peer = lines.dial(ServerId(1), &address);
    let request = &requests()[1];
    let deadline = world.clock.now() + Duration::from_secs(10);
    let far = peer.call(request.clone(), deadline).await.unwrap();
    lines.attach(ServerId(1), service);
    let near = peer.call(request.clone(), deadline).await.unwrap();
    assert_eq!(far, near);
    assert!(matches!(near, Reply::Data { .. }));
    serving.stop(deadline).await;
}
