//! Trials of time: how fast a killed leader is replaced, and that a flapping follower disturbs nobody.
//!
//! Each trial is a group of its own on a healthy network (1 to 4 ms a message, up to 3 ms a sync), with the same checks
//! after every step as any schedule.

use std::time::Duration;

use ::raft::{Config, Event, MemberId, Term, Ticket};

use super::faults::Fault;
use super::group::Group;
use super::member::Member;
use super::net::Net;
use super::{Command, Machine};
use crate::Error;
use crate::dice::Dice;

/// The longest election timeout of the trials.
pub const ELECTION_MAX: Duration = Duration::from_millis(300);

enum Actor {
    Command,
    Kill,
    Flap(bool),
    End,
}

struct Trial {
    seed: u64,
    group: Group<Actor>,
    dice: Dice,
    ticket: Ticket,
}

impl Trial {
    fn new(seed: u64, size: u64) -> Self {
        let mut dice = Dice::new(seed);
        let voters: Vec<MemberId> = (1..=size).map(MemberId).collect();
        let config = |id: &MemberId| Config {
            election_min: Duration::from_millis(150),
            election_max: ELECTION_MAX,
            heartbeat: Duration::from_millis(40),
            ..Config::new(*id, voters.clone())
        };
        let member = |id| Member::new(config(id), 1000, 200, Box::new(Machine::default()));
        let members = voters.iter().map(member).collect();
        let net = Net::new(dice.fork(), 4);
        let group = Group::new(dice.fork(), members, net, None);
        Self { seed, group, dice, ticket: Ticket::ZERO }
    }

    /// Commands keep coming, so that logs differ a little when something happens.
    fn command(&mut self) {
        self.ticket = self.ticket.next();
        let command = Command { ticket: self.ticket, step: None }.encode();
        if let Some(leader) = self.group.leader() {
            self.group.step(leader, Event::Propose { ticket: self.ticket, command });
        }
        let at = self.group.now + self.dice.millis(1, 20);
        self.group.at(at, Actor::Command);
    }

    fn next(&mut self) -> Result<Option<Actor>, Error> {
        let Some(actor) = self.group.next() else { return Ok(Some(Actor::End)) };
        if let Some((invariant, what)) = self.group.wrong.take() {
            let step = self.group.events;
            return Err(Error::Violated { seed: self.seed, step, invariant, what });
        }
        Ok(actor)
    }

    /// The term of the leader, if there is one.
    fn term(&self) -> Option<Term> {
        self.group.leader().and_then(|l| self.group.statuses[l].as_ref()).map(|s| s.term)
    }

    fn stuck(&self, what: &str) -> Error {
        Error::Stuck { seed: self.seed, step: self.group.events, what: what.to_owned() }
    }
}

/// Kills the leader of a group of `size` at a random moment; how long it took until another one led.
///
/// # Errors
/// An invariant that was violated, or that nobody led within ten seconds.
pub fn kill(seed: u64, size: u64) -> Result<Duration, Error> {
    let mut trial = Trial::new(seed, size);
    trial.group.at(Duration::from_millis(1), Actor::Command);
    let at = Duration::from_millis(1500) + trial.dice.millis(0, 1000);
    trial.group.at(at, Actor::Kill);
    trial.group.at(at + Duration::from_secs(10), Actor::End);
    let mut killed = None;
    loop {
        match trial.next()? {
            Some(Actor::Command) => trial.command(),
            Some(Actor::Kill) => {
                let Some(leader) = trial.group.leader() else {
                    return Err(trial.stuck("nobody led at first"));
                };
                killed = Some(trial.group.now);
                trial.group.kill(leader, Fault::Crash);
            }
            Some(Actor::Flap(_)) | None => {}
            Some(Actor::End) => return Err(trial.stuck("nobody led after the leader was killed")),
        }
        if let Some(killed) = killed
            && trial.group.leader().is_some()
        {
            return Ok(trial.group.now - killed);
        }
    }
}

/// One of two followers is cut off and comes back at random times for 20 s; how many elections that caused.
///
/// # Errors
/// An invariant that was violated, or that nobody led at first.
pub fn flap(seed: u64) -> Result<u64, Error> {
    let mut trial = Trial::new(seed, 3);
    trial.group.at(Duration::from_millis(1), Actor::Command);
    let begin = Duration::from_millis(1500);
    trial.group.at(begin, Actor::Flap(true));
    trial.group.at(begin + Duration::from_secs(20), Actor::End);
    let mut began = None;
    loop {
        match trial.next()? {
            Some(Actor::Command) => trial.command(),
            Some(Actor::Flap(down)) => {
                let first = trial.group.leader().zip(trial.term());
                let Some((leader, term)) = began.or(first) else {
                    return Err(trial.stuck("nobody led at first"));
                };
                began = Some((leader, term));
                let victim = (leader + 1) % 3;
                let until = trial.group.now + trial.dice.millis(5, 600);
                for other in (0..3).filter(|o| down && *o != victim) {
                    trial.group.net.block((other, victim), Fault::Flap, until);
                    trial.group.net.block((victim, other), Fault::Flap, until);
                }
                trial.group.at(until, Actor::Flap(!down));
            }
            Some(Actor::Kill) | None => {}
            Some(Actor::End) => {
                let term = trial.term().ok_or_else(|| trial.stuck("nobody leads any more"))?;
                return Ok(began.map_or(0, |(_, first)| term.0 - first.0));
            }
        }
    }
}
