//! Advisory locks as clients were told of them, byte by byte.

use std::collections::BTreeMap;

use lockservice::{
    Mode, SessionId,
    advisory::{Claim, Claimant},
};

type Who = (SessionId, Claimant);

/// What somebody had of the bytes of a claim.
pub(super) type Before = Vec<(u64, Mode)>;

/// Who was told that it has which byte of which file.
#[derive(Default)]
pub(super) struct Claims(BTreeMap<(u64, u64), BTreeMap<Who, Mode>>);

impl Claims {
    /// A claim is about to be made: of what is held stays only what the claim leaves. What there was.
    pub(super) fn lower(&mut self, session: SessionId, claim: &Claim) -> Before {
        let who = (session, claim.by);
        let mut before = Vec::new();
        for byte in claim.stretch.first()..=claim.stretch.last() {
            let Some(holders) = self.0.get_mut(&(claim.file, byte)) else { continue };
            let held = holders.remove(&who);
            before.extend(held.map(|mode| (byte, mode)));
            let kept = held.and_then(|held| claim.mode.map(|mode| mode.min(held)));
            holders.extend(kept.map(|mode| (who, mode)));
        }
        before
    }

    /// A claim was refused: everything is as it was before.
    pub(super) fn restore(&mut self, session: SessionId, claim: &Claim, before: Before) {
        for (byte, mode) in before {
            self.0.entry((claim.file, byte)).or_default().insert((session, claim.by), mode);
        }
    }

    /// A claim was granted; who was told before that it has what conflicts, and was not told otherwise.
    pub(super) fn take(&mut self, session: SessionId, claim: &Claim) -> Option<(Who, Mode)> {
        let who = (session, claim.by);
        let mode = claim.mode?;
        let mut clash = None;
        for byte in claim.stretch.first()..=claim.stretch.last() {
            let holders = self.0.entry((claim.file, byte)).or_default();
            let mut others = holders.iter().filter(|(holder, _)| **holder != who);
            let found = others.find(|(_, held)| [**held, mode].contains(&Mode::Exclusive));
            clash = clash.or(found.map(|(holder, held)| (*holder, *held)));
            holders.insert(who, mode);
        }
        clash
    }

    /// Whether whoever claims was told that it has all of this.
    pub(super) fn has(&self, session: SessionId, claim: &Claim) -> bool {
        let who = (session, claim.by);
        (claim.stretch.first()..=claim.stretch.last()).all(|byte| {
            let holders = self.0.get(&(claim.file, byte));
            holders.and_then(|holders| holders.get(&who).copied()) == claim.mode
        })
    }

    /// A session is over.
    pub(super) fn end(&mut self, session: SessionId) {
        for holders in self.0.values_mut() {
            holders.retain(|(holder, _), _| *holder != session);
        }
    }
}
