//! The READs and WRITEs under way, by the range of pages that the kernel holds locked for each until it is answered.
//!
//! Invalidating such a page waits for that answer; if the answer waits for the lock that is being given up, nobody would
//! ever go on. So a revocation leaves out what is under way and waiting: a READ that waits
//! will be answered under the next lock, so its page will be right; the page of a WRITE is dropped
//! when the WRITE is answered.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fuse::Ino;
use parking_lot::Mutex;
use world::Time;

const PAGE: u64 = 4096;
/// As many as make 1 MiB.
const LAST_PAGES: u64 = 256;

/// Bytes of a file, by their first and the one behind their last.
pub(crate) type Range = (u64, u64);

#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u64,
    range: Range,
    write: bool,
    begun: Time,
    tainted: bool,
}

#[derive(Default)]
pub(crate) struct Flights {
    flying: Mutex<BTreeMap<(Ino, u64), Flight>>,
    next: AtomicU64,
}

/// A request under way; it ends when this is dropped, or with [`Guard::land`].
pub(crate) struct Guard {
    flights: Arc<Flights>,
    key: (Ino, u64),
}

impl Guard {
    /// The request is answered. Tells what must still be dropped, because it was passed over by a revocation.
    pub(crate) fn land(self) -> Option<Range> {
        let flight = self.flights.flying.lock().remove(&self.key)?;
        (flight.write && flight.tainted).then_some(flight.range)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flights.flying.lock().remove(&self.key);
    }
}

impl Flights {
    pub(crate) fn begin(
        self: &Arc<Self>,
        now: Time,
        ino: Ino,
        from: u64,
        length: u64,
        write: bool,
    ) -> Guard {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let range =
            (from / PAGE * PAGE, from.saturating_add(length).div_ceil(PAGE).saturating_mul(PAGE));
        let flight = Flight { id, range, write, begun: now, tainted: false };
        self.flying.lock().insert((ino, id), flight);
        Guard { flights: self.clone(), key: (ino, id) }
    }

    fn on(flying: &BTreeMap<(Ino, u64), Flight>, ino: Ino) -> impl Iterator<Item = &Flight> {
        flying.range((ino, 0)..=(ino, u64::MAX)).map(|(_, flight)| flight)
    }

    /// The requests on `ino` within `range`, by number.
    pub(crate) fn within(&self, ino: Ino, range: Range) -> Vec<(u64, Range)> {
        let flying = self.flying.lock();
        let meets = |flight: &&Flight| flight.range.0 < range.1 && range.0 < flight.range.1;
        Self::on(&flying, ino).filter(meets).map(|flight| (flight.id, flight.range)).collect()
    }

    /// Whether a request is still under way; if so its page will be dropped when it ends.
    pub(crate) fn taint(&self, ino: Ino, id: u64) -> bool {
        match self.flying.lock().get_mut(&(ino, id)) {
            Some(flight) => {
                flight.tainted = true;
                true
            }
            None => false,
        }
    }

    /// Whether requests on `ino` have been under way since `then`; their pages will be dropped when they end.
    pub(crate) fn taint_since(&self, ino: Ino, then: Time) -> bool {
        let mut any = false;
        let mut flying = self.flying.lock();
        for (_, flight) in flying.range_mut((ino, 0)..=(ino, u64::MAX)) {
            if flight.begun <= then {
                flight.tainted = true;
                any = true;
            }
        }
        any
    }
}

/// Of the last pages of a file of `size` bytes one that is in none of `holes`, by its first byte.
pub(crate) fn free_page(size: u64, holes: &[(u64, Range)]) -> Option<u64> {
    let last = size.checked_sub(1)? / PAGE;
    let pages = (last.saturating_sub(LAST_PAGES - 1)..=last).rev().map(|page| page * PAGE);
    pages.into_iter().find(|at| !holes.iter().any(|(_, (from, to))| (*from..*to).contains(at)))
}

/// What of `range` is in none of `holes`.
pub(crate) fn around(range: Range, holes: &[(u64, Range)]) -> Vec<Range> {
    let mut sorted: Vec<Range> = holes.iter().map(|(_, hole)| *hole).collect();
    sorted.sort_unstable();
    let mut rest = Vec::new();
    let mut at = range.0;
    for (from, to) in sorted {
        if from.min(range.1) > at {
            rest.push((at, from.min(range.1)));
        }
        at = at.max(to);
    }
    if at < range.1 {
        rest.push((at, range.1));
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fuse::Ino;
    use world::Time;

    use super::{Flights, around, free_page};

    const ALL: (u64, u64) = (0, u64::MAX);

    #[test]
    fn what_is_under_way_is_left_out_by_whole_pages() {
        let flights = Arc::new(Flights::default());
        let write = flights.begin(Time::ZERO, Ino(7), 5000, 10, true);
        let _read = flights.begin(Time::ZERO, Ino(7), 16384, 4096, false);
        let _other = flights.begin(Time::ZERO, Ino(8), 0, 1, false);
        let holes = flights.within(Ino(7), ALL);
        assert_eq!(around(ALL, &holes), [(0, 4096), (8192, 16384), (20480, u64::MAX)]);
        assert_eq!(around((4096, 8192), &holes), []);
        drop(write);
        assert_eq!(flights.within(Ino(7), (0, 16384)), []);
    }

    #[test]
    fn a_free_page_is_one_of_the_last_that_no_request_holds() {
        assert_eq!(free_page(0, &[]), None);
        assert_eq!(free_page(1, &[]), Some(0));
        assert_eq!(free_page(8193, &[]), Some(8192));
        assert_eq!(free_page(8193, &[(1, (4096, u64::MAX))]), Some(0));
        assert_eq!(free_page(4096, &[(1, (0, 4096))]), None);
        assert_eq!(free_page(10 << 20, &[(1, ((9 << 20), u64::MAX))]), None);
    }

    #[test]
    fn only_a_write_that_was_passed_over_has_its_page_dropped_when_it_ends() {
        let flights = Arc::new(Flights::default());
        let write = flights.begin(Time(5), Ino(7), 0, 10, true);
        let read = flights.begin(Time(5), Ino(7), 0, 10, false);
        assert!(!flights.taint_since(Ino(7), Time(4)));
        assert!(flights.taint_since(Ino(7), Time(5)));
        assert_eq!(read.land(), None);
        assert_eq!(write.land(), Some((0, 4096)));
        let fresh = flights.begin(Time(6), Ino(7), 0, 10, true);
        assert_eq!(fresh.land(), None);
    }
}
