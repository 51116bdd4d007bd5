//! What is encoded is decoded to the same, and bytes that nobody encoded do no harm.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::{format, start};
use crate::{
    disk::{Fence, SpaceAsk},
    map::{
        api::MapError,
        codec::{
            decode_command, decode_map, decode_outcome, encode_command, encode_map, encode_outcome,
        },
        log::apply,
        machine::{Command, Map},
    },
    place::{ChainVersion, Group, Incarnation, ServerId},
};

fn commands() -> impl Strategy<Value = Command> {
    let server = (1..5_u64).prop_map(ServerId);
    let groups = prop::collection::vec((0..9_u32, 0..9_u64), 0..4).prop_map(|groups| {
        groups.into_iter().map(|(g, v)| (Group(g), ChainVersion(v))).collect::<Vec<_>>()
    });
    prop_oneof![
        Just(format()),
        (1..5_u64, 1..5_u128, any::<bool>())
            .prop_map(|(server, at, clean)| Command::Register(start(server, at, clean))),
        (server.clone(), 0..5_u64, groups).prop_map(|(server, incarnation, groups)| {
            Command::Equal { server, incarnation: Incarnation(incarnation), groups }
        }),
        (server, 0..5_u64).prop_map(|(server, incarnation)| Command::Expire {
            server,
            incarnation: Incarnation(incarnation)
        }),
        (0..9_u64).prop_map(|session| Command::Fence(Fence(session))),
        (0..9_u64, 0..99_u64, 0..999_u64, 0..9999_u64).prop_map(|(session, least, more, room)| {
            let ask = SpaceAsk { spent: 0, holds: more, least, most: least + more };
            Command::Grant { session: Fence(session), ask, room }
        }),
    ]
}

proptest! {
    #[test]
    fn commands_and_the_maps_they_lead_to_survive_their_encoding(
        script in prop::collection::vec(commands(), 0..40)
    ) {
        let (mut direct, mut replayed) = (Map::new(), Map::new());
        let _ = direct.handle(format());
        apply(&mut replayed, &encode_command(&format()));
        for command in script {
            let bytes = encode_command(&command);
            assert_eq!(decode_command(&bytes).unwrap(), command);
            let version = direct.version;
            let outcome = direct.handle(command);
            assert!(direct.version >= version);
            assert_eq!(decode_outcome(&apply(&mut replayed, &bytes)).unwrap(), outcome);
            replayed = decode_map(&encode_map(&replayed)).unwrap();
            assert_eq!(direct, replayed);
        }
    }

    #[test]
    fn strange_bytes_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut map = Map::new();
        let _ = map.handle(format());
        let before = map.clone();
        if decode_command(&bytes).is_err() {
            apply(&mut map, &bytes);
            assert_eq!(map, before);
        }
        let _ = decode_map(&bytes);
        let _ = decode_outcome(&bytes);
    }
}

#[test]
fn another_format_version_is_refused_by_its_number() {
    let mut bytes = encode_map(&Map::new()).to_vec();
    bytes[0] = 9;
    let error = decode_map(&bytes).unwrap_err();
    assert!(error.to_string().contains("format version 9"), "{error}");
}

#[test]
fn outcomes_carry_their_failure() {
    for outcome in [
        Ok(3),
        Err(MapError::NotLeader { leader: Some(2) }),
        Err(MapError::NotLeader { leader: None }),
        Err(MapError::Deadline),
        Err(MapError::NotFormatted),
        Err(MapError::Superseded(ServerId(3))),
        Err(MapError::Refused("no".to_owned())),
        Err(MapError::Stopped("gone".to_owned())),
        Err(MapError::NotYet("soon".to_owned())),
    ] {
        assert_eq!(decode_outcome(&encode_outcome(&outcome)).unwrap(), outcome);
    }
}
