//! Advisory locks of all sessions: which claimant holds which bytes of which file, who waits, and
//! who would wait for itself.
//!
//! Nobody is passed over for long but by those whose claims do not conflict: as in Linux, a waiter is
//! served when nothing that is *held* is in its way, the first to come first. Who waits in a circle is
//! told so, both when it begins to wait and when what it waits for changes hands. A claimant that waits is
//! taken to be stuck as a whole, also if another thread of it could go on (so does Linux).

use std::collections::{BTreeMap, BTreeSet};

use super::Table;
use crate::{
    advisory::{Claim, ClaimRow, Claimant, Claimed, InTheWay, Patience, Stretch},
    message::{Event, Ticket},
    name::{Mode, SessionId},
};

/// A claimant of a session.
type Who = (SessionId, Claimant);

/// What one claimant holds from a byte on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    last: u64,
    mode: Mode,
    process: u32,
}

/// Who holds and who waits for parts of one file.
#[derive(Default)]
struct File {
    held: BTreeMap<(Who, u64), Part>,
    waits: BTreeSet<u64>,
}

/// Whoever waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    pub(crate) session: SessionId,
    pub(crate) ticket: Ticket,
    pub(crate) claim: Claim,
}

impl Wait {
    fn who(&self) -> Who {
        (self.session, self.claim.by)
    }
}

/// Answers, in the order in which they came about.
pub(crate) type Answers = Vec<(SessionId, Ticket, Claimed)>;

/// The advisory locks of one lock group.
#[derive(Default)]
pub(crate) struct Advisory {
    files: BTreeMap<u64, File>,
    waits: BTreeMap<u64, Wait>,
    /// The places in `waits` of each claimant.
    waiting: BTreeMap<Who, BTreeSet<u64>>,
    /// Parts and waits of each session, by file.
    shares: BTreeMap<SessionId, BTreeMap<u64, usize>>,
    next: u64,
}

fn conflict(one: Mode, other: Mode) -> bool {
    one == Mode::Exclusive || other == Mode::Exclusive
}

impl File {
    /// What of others is in the way of a claim.
    fn against(&self, who: Who, claim: &Claim) -> impl Iterator<Item = (Who, Stretch, Part)> {
        let (stretch, mode) = (claim.stretch, claim.mode);
        self.held.iter().filter_map(move |(&(holder, first), part)| {
            let held = Stretch::new(first, part.last)?;
            let hit = holder != who
                && held.overlaps(stretch)
                && mode.is_some_and(|mode| conflict(mode, part.mode));
            hit.then_some((holder, held, *part))
        })
    }

    /// Makes what `who` holds of the claim's bytes what it says. Whether others may profit.
    fn set(&mut self, who: Who, claim: &Claim) -> bool {
        let (first, last) = (claim.stretch.first(), claim.stretch.last());
        let own: Vec<(u64, Part)> = self
            .held
            .range((who, 0)..=(who, last))
            .filter(|(_, part)| part.last >= first)
            .map(|(&(_, from), part)| (from, *part))
            .collect();
        let mut freed = false;
        for (from, part) in own {
            self.held.remove(&(who, from));
            if from < first {
                self.held.insert((who, from), Part { last: first - 1, ..part });
            }
            if part.last > last {
                self.held.insert((who, last + 1), part);
            }
            freed |= claim.mode.is_none_or(|mode| mode < part.mode);
        }
        if let Some(mode) = claim.mode {
            self.held.insert((who, first), Part { last, mode, process: claim.process });
            self.join(who, first, last);
        }
        freed
    }

    /// Joins what is held alike at both ends of a part.
    fn join(&mut self, who: Who, first: u64, last: u64) {
        let before = self.held.range((who, 0)..(who, first)).next_back();
        let before = before.map(|(&(_, from), part)| (from, *part));
        if let Some((from, part)) = before
            && let Some(mine) = self.held.get(&(who, first)).copied()
            && part.last.checked_add(1) == Some(first)
            && part.mode == mine.mode
        {
            self.held.remove(&(who, first));
            self.held.insert((who, from), mine);
        }
        let Some(next) = last.checked_add(1) else { return };
        let behind = self.held.get(&(who, next)).copied();
        let mine = self.held.range_mut((who, 0)..=(who, last)).next_back();
        if let (Some(behind), Some((_, mine))) = (behind, mine)
            && behind.mode == mine.mode
        {
            mine.last = behind.last;
            self.held.remove(&(who, next));
        }
    }

    fn parts_of(&self, session: SessionId) -> usize {
        let (from, to) = ((session, Claimant(0)), (session, Claimant(u64::MAX)));
        self.held.range((from, 0)..=(to, u64::MAX)).count()
    }
}

impl Advisory {
    /// The most parts and waits of one session.
    pub(crate) const MOST: usize = 1 << 16;

    /// Somebody claims something. Answers it, and whoever profits, unless it waits.
    pub(crate) fn claim(&mut self, wait: Wait, patience: Patience, answers: &mut Answers) {
        let Wait { session, ticket, claim } = wait;
        let full = self.count(session) >= Self::MOST;
        let file = self.files.entry(claim.file).or_default();
        let hit = file.against(wait.who(), &claim).next();
        let answer = match hit {
            None if patience == Patience::Test => Claimed::Done,
            // Giving up may split a part in two; that is let pass.
            None if claim.mode.is_some() && full => Claimed::Full,
            None => {
                file.set(wait.who(), &claim);
                answers.push((session, ticket, Claimed::Done));
                self.recount(session, claim.file);
                // Also when nothing became free: those who wait may wait for somebody new now.
                self.serve(claim.file, answers);
                self.tidy(claim.file);
                return;
            }
            Some((holder, stretch, part)) if patience != Patience::Wait => {
                let process = if holder.0 == session { part.process } else { 0 };
                Claimed::Busy(InTheWay { stretch, mode: part.mode, process })
            }
            Some(_) if full => Claimed::Full,
            Some(_) if self.waits_for_itself(&wait) => Claimed::Deadlock,
            Some(_) => {
                let place = self.next;
                self.insert(place, wait);
                self.next += 1;
                return;
            }
        };
        self.tidy(claim.file);
        answers.push((session, ticket, answer));
    }

    /// Puts a waiter at its place.
    pub(crate) fn insert(&mut self, place: u64, wait: Wait) {
        self.files.entry(wait.claim.file).or_default().waits.insert(place);
        self.waiting.entry(wait.who()).or_default().insert(place);
        self.waits.insert(place, wait);
        self.recount(wait.session, wait.claim.file);
    }

    fn remove(&mut self, place: u64) -> Option<Wait> {
        let wait = self.waits.remove(&place)?;
        if let Some(file) = self.files.get_mut(&wait.claim.file) {
            file.waits.remove(&place);
        }
        if let Some(places) = self.waiting.get_mut(&wait.who()) {
            places.remove(&place);
            if places.is_empty() {
                self.waiting.remove(&wait.who());
            }
        }
        self.recount(wait.session, wait.claim.file);
        self.tidy(wait.claim.file);
        Some(wait)
    }

    /// Takes a claim back, if it waits.
    pub(crate) fn cancel(&mut self, session: SessionId, ticket: Ticket, answers: &mut Answers) {
        let place =
            self.of(session).find(|(_, wait)| wait.ticket == ticket).map(|(place, _)| place);
        if place.and_then(|place| self.remove(place)).is_some() {
            answers.push((session, ticket, Claimed::Cancelled));
        }
    }

    /// The session is over: all that it holds is free.
    pub(crate) fn end(&mut self, session: SessionId, answers: &mut Answers) {
        let places: Vec<u64> = self.of(session).map(|(place, _)| place).collect();
        for place in places {
            self.remove(place);
        }
        let Some(files) = self.shares.remove(&session) else { return };
        for number in files.into_keys() {
            if let Some(file) = self.files.get_mut(&number) {
                file.held.retain(|((holder, _), _), _| *holder != session);
            }
            self.serve(number, answers);
            self.tidy(number);
        }
    }

    /// Serves those of a file whom nothing stands in the way of any more; and tells those who now wait
    /// for themselves.
    fn serve(&mut self, number: u64, answers: &mut Answers) {
        let mut again = true;
        while std::mem::take(&mut again) {
            let places: Vec<u64> = self
                .files
                .get(&number)
                .map(|f| f.waits.iter().copied().collect())
                .unwrap_or_default();
            for place in places {
                let Some(wait) = self.waits.get(&place).copied() else { continue };
                let Some(file) = self.files.get_mut(&number) else { return };
                if file.against(wait.who(), &wait.claim).next().is_none() {
                    again |= file.set(wait.who(), &wait.claim);
                    self.remove(place);
                    self.recount(wait.session, number);
                    answers.push((wait.session, wait.ticket, Claimed::Done));
                }
            }
        }
        let places: Vec<u64> =
            self.files.get(&number).map(|f| f.waits.iter().copied().collect()).unwrap_or_default();
        for place in places {
            if let Some(wait) = self.waits.get(&place).copied()
                && self.waits_for_itself(&wait)
            {
                self.remove(place);
                answers.push((wait.session, wait.ticket, Claimed::Deadlock));
            }
        }
    }

    /// Whether whoever is in the way of a claim waits, perhaps by way of others, for the claimant.
    fn waits_for_itself(&self, wait: &Wait) -> bool {
        let ahead = |wait: &Wait| -> Vec<Who> {
            let file = self.files.get(&wait.claim.file);
            file.into_iter()
                .flat_map(|file| file.against(wait.who(), &wait.claim))
                .map(|(who, ..)| who)
                .collect()
        };
        let mut seen: BTreeSet<Who> = BTreeSet::new();
        let mut open = ahead(wait);
        while let Some(who) = open.pop() {
            if who == wait.who() {
                return true;
            }
            if !seen.insert(who) {
                continue;
            }
            for place in self.waiting.get(&who).into_iter().flatten() {
                if let Some(next) = self.waits.get(place) {
                    open.extend(ahead(next));
                }
            }
        }
        false
    }

    /// The waits of a session, by arrival.
    pub(crate) fn of(&self, session: SessionId) -> impl Iterator<Item = (u64, &Wait)> {
        let (from, to) = ((session, Claimant(0)), (session, Claimant(u64::MAX)));
        let places = self.waiting.range(from..=to).flat_map(|(_, places)| places);
        places.filter_map(|place| self.waits.get(place).map(|wait| (*place, wait)))
    }

    fn count(&self, session: SessionId) -> usize {
        self.shares.get(&session).map_or(0, |files| files.values().sum())
    }

    /// Counts anew what a session has to do with a file.
    fn recount(&mut self, session: SessionId, number: u64) {
        let Some(file) = self.files.get(&number) else { return };
        let waits = self.of(session).filter(|(_, wait)| wait.claim.file == number).count();
        let count = file.parts_of(session) + waits;
        let share = self.shares.entry(session).or_default();
        if count == 0 {
            share.remove(&number);
        } else {
            share.insert(number, count);
        }
        if share.is_empty() {
            self.shares.remove(&session);
        }
    }

    fn tidy(&mut self, number: u64) {
        if self.files.get(&number).is_some_and(|f| f.held.is_empty() && f.waits.is_empty()) {
            self.files.remove(&number);
        }
    }

    /// All that is held, by file and holder.
    pub(crate) fn held(&self) -> impl Iterator<Item = (SessionId, Claim)> {
        self.files.iter().flat_map(|(&number, file)| {
            file.held.iter().filter_map(move |(&((session, by), first), part)| {
                let stretch = Stretch::new(first, part.last)?;
                let (process, mode) = (part.process, Some(part.mode));
                Some((session, Claim { file: number, by, process, stretch, mode }))
            })
        })
    }

    /// All who wait, by arrival.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (u64, &Wait)> {
        self.waits.iter().map(|(&place, wait)| (place, wait))
    }

    /// The place that the next waiter gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// One of a checkpoint: whether it fits to the others.
    pub(crate) fn restore(&mut self, session: SessionId, claim: Claim) -> bool {
        let file = self.files.entry(claim.file).or_default();
        let fits =
            claim.mode.is_some() && file.against((session, claim.by), &claim).next().is_none();
        if fits {
            file.set((session, claim.by), &claim);
            self.recount(session, claim.file);
        }
        fits
    }

    /// As a checkpoint says.
    pub(crate) fn set_next(&mut self, next: u64) {
        self.next = next;
    }

    /// As `plumeria locks` shows them.
    pub(crate) fn list(&self) -> impl Iterator<Item = ClaimRow> {
        let held = self.held().map(|(session, claim)| ClaimRow { session, claim, waits: false });
        let waits = self.waits.values().map(|wait| ClaimRow {
            session: wait.session,
            claim: wait.claim,
            waits: true,
        });
        held.chain(waits)
    }

    /// Nobody holds what conflicts with another's, nobody waits for nothing or for itself, and only
    /// those do who live.
    pub(crate) fn check(&self, lives: impl Fn(SessionId) -> bool) -> Result<(), String> {
        for (session, claim) in self.held() {
            if !lives(session) {
                return Err(format!("{claim:?} is held by {session:?}, which is over"));
            }
            let clash = self.files.get(&claim.file);
            let clash = clash.and_then(|file| file.against((session, claim.by), &claim).next());
            if let Some(clash) = clash {
                return Err(format!("{claim:?} of {session:?} conflicts with {clash:?}"));
            }
        }
        for wait in self.waits.values() {
            let file = self.files.get(&wait.claim.file);
            let waits = file.is_some_and(|f| f.against(wait.who(), &wait.claim).next().is_some());
            if !lives(wait.session) || !waits || self.waits_for_itself(wait) {
                return Err(format!("{wait:?} waits for nothing, or for itself, or is dead"));
            }
        }
        Ok(())
    }
}

impl Table {
    pub(super) fn claim(&mut self, wait: Wait, patience: Patience) {
        let mut answers = Answers::new();
        self.advisory.claim(wait, patience, &mut answers);
        self.tell_claims(answers);
    }

    pub(super) fn cancel_claim(&mut self, session: SessionId, ticket: Ticket) {
        let mut answers = Answers::new();
        self.advisory.cancel(session, ticket, &mut answers);
        self.tell_claims(answers);
    }

    /// They end with the session, and wait for no recovery: they protect nothing that is cached.
    pub(super) fn end_claims(&mut self, session: SessionId) {
        let mut answers = Answers::new();
        self.advisory.end(session, &mut answers);
        self.tell_claims(answers);
    }

    fn tell_claims(&mut self, answers: Answers) {
        for (session, ticket, claimed) in answers {
            self.tell(session, || Event::Claimed(ticket, claimed));
        }
    }
}
