//! Where the two cores rightly differ: each test shows both, and says why ours is right, or no worse.
//!
//! Everything else that a schedule does must come out equal; see `schedule`, which refers to these.

use crate::group::{Group, Op};
use crate::member::{Change, Core as _, View};
use crate::ours::Ours;
use crate::theirs::Theirs;

/// Both cores' views of a member after the same happenings in a group of three.
fn after(ops: &[Op], id: u64) -> (View, View) {
    let (mut ours, mut theirs) = (Group::<Ours>::new(3, 1), Group::<Theirs>::new(3, 1));
    for op in ops {
        ours.run(op);
        theirs.run(op);
    }
    (ours.view(id), theirs.view(id))
}

/// To a follower that never answered, the oracle tells commitment only as far as it has *acknowledged* entries, because its
/// heartbeat does not check the log. Ours is an append without entries, which does (section 5.3), so that it may say
/// all. A member whose answers are lost is thus up to date, and whatever it applies is committed all the same.
#[test]
fn a_follower_whose_answers_are_lost_still_learns_what_is_committed_from_ours() {
    let ops = [
        Op::Lapse(2),
        Op::Beat(2),
        // All have the command, but 2 does not know, and stands down.
        Op::Cut(vec![(1, 2), (3, 2)]),
        Op::Propose(2, vec![7]),
        Op::Pass,
        Op::Heal,
        Op::Cut(vec![(3, 1)]),
        Op::Lapse(1),
        Op::Beat(1),
    ];
    let (ours, theirs) = after(&ops, 3);
    assert_eq!(ours.leader, Some(1));
    assert_eq!(ours.log, theirs.log);
    assert_eq!((ours.commit, ours.applied), (2, vec![7]));
    assert_eq!((theirs.commit, theirs.applied), (1, vec![]));
}

/// In the oracle a candidate tells how far it has committed, and who is asked for a vote takes that for its own if its log
/// agrees. In ours only a leader tells it (figure 2); one whose answers the leader does not hear waits for the next one.
#[test]
fn candidates_tell_what_is_committed_in_the_oracle_only() {
    let ops = [
        Op::Lapse(1),
        Op::Beat(1),
        Op::Cut(vec![(3, 2)]),
        Op::Transfer(1, 2),
        Op::Beat(2),
        Op::Stand(vec![1, 3]),
    ];
    let (ours, theirs) = after(&ops, 3);
    assert_eq!(ours.log, theirs.log);
    assert_eq!((ours.commit, theirs.commit), (1, 2));
}

/// The oracle stores its commit index with term and vote. Ours does not: it is not part of the persistent state of
/// section 5.2 (figure 2), saves a write, and a leader tells it with its first message. The state machine begins at its
/// checkpoint in any case.
#[test]
fn a_restarted_member_of_ours_learns_the_commit_index_from_the_next_leader() {
    let before = [Op::Lapse(1), Op::Propose(1, vec![7]), Op::Beat(1), Op::Restart(3)];
    let (ours, theirs) = after(&before, 3);
    assert_eq!(ours.log, theirs.log);
    assert_eq!((ours.commit, ours.applied), (0, vec![]));
    assert_eq!((theirs.commit, theirs.applied), (2, vec![7]));
    let heard = [&before[..], &[Op::Beat(1)]].concat();
    let (ours, theirs) = after(&heard, 3);
    assert_eq!((ours.commit, ours.applied), (theirs.commit, theirs.applied));
}

/// A member that starts again may have heard a leader a moment before, whose lease rests on that; ours refuses every
/// vote for one shortest election timeout (thesis, 6.4.1). The oracle forgets the leader with the restart and votes at
/// once, so that its lease reads are wrong if a member restarts that fast. Schedules let that time pass.
#[test]
fn a_member_that_has_just_started_again_votes_for_nobody_in_ours() {
    let led = [Op::Lapse(1), Op::Propose(1, vec![7]), Op::Beat(1)];
    let away = Op::Cut(vec![(1, 2), (2, 1), (1, 3), (3, 1)]);
    let at_once = [&led[..], &[away.clone(), Op::Reboot(3), Op::Stand(vec![2])]].concat();
    let (ours, theirs) = after(&at_once, 2);
    assert_eq!((ours.leads, ours.term), (false, 1));
    assert_eq!((theirs.leads, theirs.term), (true, 2));
    let later = [&led[..], &[away, Op::Restart(3), Op::Stand(vec![2])]].concat();
    let (ours, theirs) = after(&later, 2);
    assert!(ours.leads && theirs.leads);
    assert_eq!(ours.term, theirs.term);
}

/// A pre-vote for the term that the asked one is in already: the oracle grants it if no vote was given in that term. Ours
/// grants only a term above its own, and its refusal tells the candidate the term, so that its next try asks for
/// the next one. It takes one more try in a rare case; in return a granted pre-vote always means that the term is free.
#[test]
fn a_pre_vote_for_a_term_that_has_begun_is_granted_by_the_oracle_only() {
    let all = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];
    let ops = [
        Op::Lapse(1),
        Op::Beat(1),
        // 3 campaigns in term 2 because 1 asks it to, but nobody hears it.
        Op::Cut(all.into_iter().filter(|link| !matches!(link, (1, 3))).collect()),
        Op::Transfer(1, 3),
        Op::Heal,
        Op::Cut(vec![(3, 2), (2, 3)]),
        // 1 hears of term 2 and stands down; 2 is in term 1.
        Op::Pass,
        Op::Lapse(2),
    ];
    let (ours, theirs) = after(&ops, 2);
    assert_eq!((ours.leads, ours.term), (false, 2));
    assert_eq!((theirs.leads, theirs.term), (true, 2));
    let again = [&ops[..], &[Op::Lapse(2)]].concat();
    let (ours, _) = after(&again, 2);
    assert_eq!((ours.leads, ours.term), (true, 3));
}

/// The oracle passes a proposal on to the leader that it knows. Ours refuses it and names the leader: the host's client
/// tries there, with its session number, so that no command travels twice.
#[test]
fn a_proposal_at_a_follower_is_refused_by_ours_and_passed_on_by_the_oracle() {
    let ops = [Op::Lapse(1), Op::Beat(1), Op::Propose(2, vec![7]), Op::Beat(1)];
    let (ours, theirs) = after(&ops, 1);
    assert!(ours.leads && theirs.leads);
    assert_eq!(ours.applied, []);
    assert_eq!(theirs.applied, [7]);
}

/// In ours a configuration is in force as soon as it stands in the log (section 6); in the oracle when it is applied.
/// Both are safe, each with its own rule for the next change; ours needs no committed entry to take a lost member out of
/// the count, and undoes the configuration with the entry if another leader replaces it.
#[test]
fn a_configuration_is_in_force_when_appended_in_ours_and_when_applied_in_the_oracle() {
    let links = [(1, 2), (2, 1), (1, 3), (3, 1)];
    let alone =
        [Op::Lapse(1), Op::Beat(1), Op::Cut(links.to_vec()), Op::Change(1, Change::Learner(4))];
    let (ours, theirs) = after(&alone, 1);
    assert_eq!(ours.log, theirs.log);
    assert_eq!(ours.commit, theirs.commit, "not committed in either");
    assert_eq!((ours.learners, theirs.learners), (vec![4], vec![]));
    let undone = [&alone[..], &[Op::Pass, Op::Lapse(2), Op::Heal, Op::Pass]].concat();
    let (ours, theirs) = after(&undone, 1);
    assert_eq!(ours.leader, Some(2));
    assert_eq!(ours, theirs);
    assert_eq!(ours.learners, []);
}

/// In ours the first entry of a log says who founded the group, where the oracle has an empty one: its founders are part of
/// no log, so a member that joins by the log alone must be told them (`theirs` does), and its checkpoints would otherwise
/// name nobody.
#[test]
fn one_who_joins_by_the_log_learns_the_founders_from_it_in_ours() {
    let ops = [Op::Lapse(1), Op::Beat(1), Op::Change(1, Change::Learner(4))];
    let founding = Ours::new(4, &[1, 2, 3]).view();
    assert_eq!(founding.voters, [], "told nothing");
    let (ours, theirs) = after(&ops, 4);
    assert_eq!(ours, theirs);
    assert_eq!((ours.voters, ours.learners), (vec![1, 2, 3], vec![4]));
}

/// A leader that took itself out of the group hands over in ours as soon as that is committed: it tells the voter that has
/// most of the log to campaign, and leads no more. In the oracle it stays the leader of a group to which it does not belong,
/// until its driver stops it, and then the group waits for a timeout.
#[test]
fn a_leader_that_removed_itself_hands_over_in_ours_and_stays_in_the_oracle() {
    let ops = [Op::Lapse(1), Op::Beat(1), Op::Change(1, Change::Remove(1))];
    let both = [after(&ops, 2), after(&ops, 3)];
    let ours: Vec<_> = both.iter().filter(|(ours, _)| ours.leads).collect();
    assert_eq!(ours.len(), 1, "one of the others leads");
    for (ours, theirs) in &both {
        assert_eq!((&ours.voters, ours.term), (&vec![2, 3], 2));
        assert_eq!((theirs.leads, theirs.leader, theirs.term), (false, Some(1), 1));
        assert_eq!(theirs.voters, [2, 3]);
    }
}
