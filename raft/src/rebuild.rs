//! A member that was emptied, or found a hole in its log, is filled again before it may vote.
//!
//! It may have promised what it has forgotten: a vote, or entries that were committed because it had them. So it takes
//! part as a receiver that says so in every answer. The leader counts it for nothing, appends an entry made *after* it
//! heard of it, and when a majority of the group **without** that member has committed this entry (and the member has it
//! too), tells it to vote again. Why that is safe:
//! - Every majority Q that rested on a forgotten promise shares a member M, other than the emptied one, with the
//!   majority C that committed the entry, since |C| + |Q| - 1 exceeds the number of the others.
//! - Were Q about a later term than the entry's, M would have refused the entry. So what Q committed is in this leader's
//!   log (leader completeness), and now in the member's; and a candidate who still holds the forgotten vote has a log
//!   without the entry, and M refuses it. In the term of the entry itself the member counts as having voted for its leader.
//! - Until then it votes for nobody, so the worst is that nobody can be elected.
//!
//! Each life has a drawn name, so that a late word to an earlier life ends nothing. A late answer *of* an earlier life can
//! make the leader think that a member was emptied that is sound; the answer to a round that the leader began since says
//! better: whoever was emptied before that round says so, or was told that it may vote. A group of one or two cannot rebuild
//! a voter: without it there is no majority. Nothing here says what is on the disk.

use crate::effect::HardState;
use crate::ids::{Index, MemberId, Round, Sequence, Serial};
use crate::message::{Body, Entry, Payload};
use crate::node::{Node, State};

/// What a leader knows of a member that was emptied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rebuilding {
    life: Serial,
    /// The newest round when it was heard.
    round: Round,
    /// An entry that was made since.
    made: Index,
    /// It was told that it may vote.
    told: bool,
}

impl Node {
    /// A follower said, before anything else, whether it is being rebuilt; false if an earlier life of it speaks, of what
    /// it has no more.
    pub(crate) fn note_rebuilding(
        &mut self,
        from: MemberId,
        round: Round,
        life: Option<Serial>,
    ) -> bool {
        let State::Leader(leader) = &mut self.state else { return false };
        let newest = leader.round;
        let Some(progress) = leader.progress.get_mut(&from) else { return false };
        if life.is_some() && life == progress.rebuilt {
            // Said before it was told that it may vote, and late: it must not be taken for emptied again.
            return false;
        }
        match (progress.rebuilding, life) {
            (None, None) => {}
            (Some(Rebuilding { life: known, .. }), Some(life)) if known == life => {}
            (Some(Rebuilding { life, told, round: heard, .. }), None) => {
                if !told && round <= heard {
                    return false;
                }
                progress.rebuilding = None;
                progress.rebuilt = Some(life);
            }
            (_, Some(life)) => {
                progress.forget();
                let (index, term) = (self.log.last().index.next(), self.hard.term);
                progress.rebuilding =
                    Some(Rebuilding { life, round: newest, made: index, told: false });
                self.log.append(Entry { index, term, payload: Payload::Noop });
            }
        }
        true
    }

    /// Tells a member that it may vote again, if it may.
    pub(crate) fn tell_rebuilt(&mut self, to: MemberId) {
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let matched = progress.matched;
        if let Some(Rebuilding { life, made, told, .. }) = &mut progress.rebuilding
            && self.commit >= *made
            && matched >= *made
        {
            *told = true;
            let (life, made) = (*life, *made);
            self.send(to, Body::Rebuilt { upto: made, life }, Sequence::ZERO);
        }
    }

    /// The leader says that this member has all that it may have promised.
    pub(crate) fn rebuilt(&mut self, from: MemberId, upto: Index, life: Serial) {
        let State::Follower(follower) = &self.state else { return };
        let named = self.hard.rebuilding && life == self.life;
        if named && follower.leader == Some(from) && self.log.stable() >= upto {
            self.set_hard(HardState { vote: Some(from), rebuilding: false, ..self.hard });
            self.arm();
        }
    }
}
