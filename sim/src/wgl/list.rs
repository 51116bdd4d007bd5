//! Calls and returns in the order of time, in a list from which an operation can be lifted and put back.
//!
//! The two ends of an operation leave together; what is put back must be what was lifted last, so that the neighbours
//! are the same as then. It knows nothing of states.

/// One end of an operation, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Call(usize),
    Return(usize),
}

/// The ends. Place 0 is before the first and after the last.
#[derive(Debug)]
pub(super) struct List {
    ends: Vec<End>,
    before: Vec<usize>,
    after: Vec<usize>,
    /// By operation: the places of its call and of its return, if it has one.
    places: Vec<(usize, Option<usize>)>,
    open: usize,
}

impl List {
    /// From the moments of call and return of each operation. A call at the same moment as a return comes first:
    /// the two overlap.
    pub(super) fn new(spans: impl Iterator<Item = (u64, Option<u64>)>) -> Self {
        let mut moments = Vec::new();
        let mut places = Vec::new();
        for (operation, (called, returned)) in spans.enumerate() {
            moments.push((called, false, operation));
            moments.extend(returned.map(|at| (at, true, operation)));
            places.push((0, None));
        }
        moments.sort_unstable();
        let mut ends = vec![End::Call(usize::MAX)];
        let mut open = 0;
        for (_, is_return, operation) in moments {
            let place = ends.len();
            if is_return {
                places[operation].1 = Some(place);
                ends.push(End::Return(operation));
                open += 1;
            } else {
                places[operation].0 = place;
                ends.push(End::Call(operation));
            }
        }
        let count = ends.len();
        Self {
            before: (0..count).map(|i| (i + count - 1) % count).collect(),
            after: (0..count).map(|i| (i + 1) % count).collect(),
            ends,
            places,
            open,
        }
    }

    pub(super) fn first(&self) -> usize {
        self.after[0]
    }

    pub(super) fn after(&self, place: usize) -> usize {
        self.after[place]
    }

    pub(super) fn end(&self, place: usize) -> End {
        self.ends[place]
    }

    /// Operations that end and have not been lifted.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn lift(&mut self, operation: usize) {
        let (call, end) = self.places[operation];
        self.unlink(call);
        if let Some(end) = end {
            self.unlink(end);
            self.open -= 1;
        }
    }

    /// Undoes the last [`List::lift`]; the place of the call.
    pub(super) fn put_back(&mut self, operation: usize) -> usize {
        let (call, end) = self.places[operation];
        if let Some(end) = end {
            self.link(end);
            self.open += 1;
        }
        self.link(call);
        call
    }

    fn unlink(&mut self, place: usize) {
        let (before, after) = (self.before[place], self.after[place]);
        self.after[before] = after;
        self.before[after] = before;
    }

    fn link(&mut self, place: usize) {
        let (before, after) = (self.before[place], self.after[place]);
        self.after[before] = place;
        self.before[after] = place;
    }
}
