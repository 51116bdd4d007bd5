//! When the table was where: so that a leader knows how long somebody has waited, or held, without
//! a time in the table. It begins with the leader's term; it does not know what the marks mean.

use std::{collections::VecDeque, time::Duration};

use world::Time;

use crate::{name::Grant, table::Mark};

/// Marks by time; the older they are, the fewer are kept.
#[derive(Default)]
pub(crate) struct Marks(VecDeque<(Time, Mark)>);

/// How many marks are kept before every second of the older half goes.
const MOST: usize = 4096;

impl Marks {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn push(&mut self, now: Time, mark: Mark) {
        if self.0.back().is_some_and(|(_, last)| *last == mark) {
            return;
        }
        self.0.push_back((now, mark));
        if self.0.len() > MOST {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place > MOST / 2 || place % 2 == 1
            });
        }
    }

    /// Where the table was at `time`, if that is known.
    pub(crate) fn at(&self, time: Time) -> Option<Mark> {
        let after = self.0.partition_point(|(when, _)| *when <= time);
        self.0.get(after.checked_sub(1)?).map(|(_, mark)| *mark)
    }

    /// For how long, at least, the waiter at `place` has waited.
    pub(crate) fn waited(&self, place: u64, now: Time) -> Duration {
        self.age(now, |mark| mark.waiter <= place)
    }

    /// For how long, at least, a grant with this number has been given.
    pub(crate) fn held(&self, grant: Grant, now: Time) -> Duration {
        self.age(now, |mark| mark.newest < grant)
    }

    fn age(&self, now: Time, before: impl Fn(&Mark) -> bool) -> Duration {
        let first = self.0.partition_point(|(_, mark)| before(mark));
        self.0.get(first).map(|(when, _)| now.since(*when)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use world::Time;

    use super::{MOST, Marks};
    use crate::{name::Grant, table::Mark};

    fn second(number: u64) -> Time {
        Time(number * 1_000_000_000)
    }

    fn mark(waiter: u64, newest: u64) -> Mark {
        Mark { waiter, newest: Grant(newest) }
    }

    #[test]
    fn ages_are_told_from_the_first_mark_that_shows_the_thing() {
        let mut marks = Marks::default();
        marks.push(second(1), mark(0, 0));
        marks.push(second(2), mark(5, 1));
        marks.push(second(3), mark(5, 1));
        marks.push(second(4), mark(6, 9));
        assert_eq!(marks.waited(4, second(10)), Duration::from_secs(8));
        assert_eq!(marks.waited(5, second(10)), Duration::from_secs(6));
        assert_eq!(marks.waited(6, second(10)), Duration::ZERO, "it came just now");
        assert_eq!(marks.held(Grant(2), second(10)), Duration::from_secs(6));
        assert_eq!(marks.at(second(3)), Some(mark(5, 1)));
        assert_eq!(marks.at(Time::ZERO), None, "before the term nothing is known");
    }

    #[test]
    fn many_marks_keep_the_first_and_the_last() {
        let mut marks = Marks::default();
        for number in 0..50_000 {
            marks.push(second(number), mark(number, 0));
        }
        assert!(marks.0.len() <= MOST);
        assert_eq!(marks.at(second(0)), Some(mark(0, 0)));
        assert_eq!(marks.at(second(60_000)), Some(mark(49_999, 0)));
    }
}
