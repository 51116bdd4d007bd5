//! What a node is told once, at its start.
//!
//! Kept apart so that drivers can build it without seeing the machine. Knows nothing of files or command lines.

use std::time::Duration;

use crate::Error;
use crate::ids::MemberId;

/// The settings of one member of a group.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// All voting members, this one included; the same on every member. One alone leads at once.
    pub voters: Vec<MemberId>,
    /// The shortest election timeout. Also how long a member that heard its leader refuses to vote for another.
    pub election_min: Duration,
    /// Election timeouts are drawn from `election_min..election_max`. Also how long a leader goes on without hearing
    /// its majority.
    pub election_max: Duration,
    /// The time between heartbeats; well below `election_min`.
    pub heartbeat: Duration,
    /// Bytes of commands in one append; one larger command travels alone.
    pub batch_bytes: usize,
    /// Appends on their way to one follower before an answer is awaited.
    pub window: usize,
    /// Entries kept in the log below a checkpoint, for followers that lag only a little.
    pub keep: u64,
}

impl Config {
    /// Settings for a local network: elections within a third of a second.
    #[must_use]
    pub fn new(id: MemberId, voters: Vec<MemberId>) -> Self {
        Self {
            id,
            voters,
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            heartbeat: Duration::from_millis(40),
            batch_bytes: 256 * 1024,
            window: 16,
            keep: 1024,
        }
    }

    /// Refuses settings under which the protocol would not work.
    ///
    /// # Errors
    /// Names the setting and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let mut sorted = self.voters.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let wrong = if sorted.len() != self.voters.len() {
            "voters name a member twice; name each once"
        } else if !self.voters.contains(&self.id) {
            "voters lack this member; add its id"
        } else if self.voters.len() > 5 {
            "there are more than 5 voters; use 1, 3 or 5"
        } else if self.heartbeat.is_zero() || self.heartbeat * 2 > self.election_min {
            "heartbeat must be above zero and at most half of election_min"
        } else if self.election_max <= self.election_min {
            "election_max must be above election_min"
        } else if self.window == 0 || self.batch_bytes == 0 {
            "window and batch_bytes must be above zero"
        } else {
            return Ok(());
        };
        Err(Error::Config(wrong))
    }
}
