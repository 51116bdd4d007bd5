//! The network: messages as bytes, each with a fate of its own.
//!
//! Links have no order. Loss, repetition and delay are decided when a message is sent, partitions when it arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::{Fault, Struck};
use crate::dice::Dice;

/// Between two places, one direction.
pub(crate) type Link = (usize, usize);

#[derive(Debug)]
pub(crate) struct Net {
    dice: Dice,
    /// The longest time a message takes without any fault, in milliseconds.
    longest: u64,
    /// Percent of messages that suffer it, and until when.
    rates: BTreeMap<Fault, (u64, Duration)>,
    /// Which fault blocks a link, and until when.
    blocked: BTreeMap<Link, (Fault, Duration)>,
    /// How much longer a link takes, and until when.
    lagging: BTreeMap<Link, (Duration, Duration)>,
    sent: BTreeMap<Link, u64>,
    arrived: BTreeMap<Link, u64>,
}

impl Net {
    pub(crate) fn new(dice: Dice, longest: u64) -> Self {
        Self {
            dice,
            longest,
            rates: BTreeMap::new(),
            blocked: BTreeMap::new(),
            lagging: BTreeMap::new(),
            sent: BTreeMap::new(),
            arrived: BTreeMap::new(),
        }
    }

    /// This share of messages suffers loss, repetition or delay for a while.
    pub(crate) fn set_rate(&mut self, fault: Fault, percent: u64, until: Duration) {
        self.rates.insert(fault, (percent, until));
    }

    pub(crate) fn block(&mut self, link: Link, fault: Fault, until: Duration) {
        self.blocked.insert(link, (fault, until));
    }

    /// Everything on this link takes so much longer for a while.
    pub(crate) fn lag(&mut self, link: Link, by: Duration, until: Duration) {
        self.lagging.insert(link, (by, until));
    }

    pub(crate) fn heal(&mut self) {
        self.rates.clear();
        self.lagging.clear();
        self.blocked.clear();
    }

    fn strikes(&mut self, fault: Fault, now: Duration, struck: &mut Struck) -> bool {
        let Some((percent, until)) = self.rates.get(&fault) else { return false };
        let strikes = now < *until && self.dice.chance(*percent);
        if strikes {
            struck.add(fault);
        }
        strikes
    }

    /// How long a message of a client takes, without any fault.
    pub(crate) fn client(&mut self) -> Duration {
        self.dice.millis(0, self.longest)
    }

    /// When a message that is sent now arrives (never, once or twice), and its number on the link.
    pub(crate) fn send(
        &mut self,
        link: Link,
        now: Duration,
        struck: &mut Struck,
    ) -> (u64, Vec<Duration>) {
        let number = self.sent.entry(link).or_default();
        *number += 1;
        let number = *number;
        if self.strikes(Fault::Loss, now, struck) {
            return (number, Vec::new());
        }
        let copies = if self.strikes(Fault::Duplicate, now, struck) { 2 } else { 1 };
        let mut times = Vec::with_capacity(copies);
        for _ in 0..copies {
            let mut at = now + self.dice.millis(1, self.longest);
            if self.strikes(Fault::Delay, now, struck) {
                at += self.dice.millis(10, 600);
            }
            if let Some((by, until)) = self.lagging.get(&link)
                && now < *until
            {
                struck.add(Fault::Lag);
                at += *by;
            }
            times.push(at);
        }
        (number, times)
    }

    /// Whether a message that arrives now gets through.
    pub(crate) fn arrives(
        &mut self,
        link: Link,
        number: u64,
        now: Duration,
        struck: &mut Struck,
    ) -> bool {
        if let Some((fault, until)) = self.blocked.get(&link)
            && now < *until
        {
            struck.add(*fault);
            return false;
        }
        let newest = self.arrived.entry(link).or_default();
        if number < *newest {
            struck.add(Fault::Reorder);
        }
        *newest = number.max(*newest);
        true
    }
}
