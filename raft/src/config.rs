//! What a node is told once, at its start.
//!
//! Kept apart so that drivers can build it without seeing the machine. Knows nothing of files or command lines.

use std::time::Duration;

use crate::Error;
use crate::configuration::{Configuration, MOST_VOTERS};
use crate::ids::MemberId;

/// The settings of one member of a group.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// The voting members with which the group began, this one included; the same on every one of them, for good. A
    /// member that joins later has an **empty** list and waits to be told. It counts only until the log or a checkpoint
    /// says otherwise: the first leader makes it the first entry. One alone leads at once.
    pub voters: Vec<MemberId>,
    /// The shortest election timeout. Also how long a member that heard its leader refuses to vote for another.
    pub election_min: Duration,
    /// Election timeouts are drawn from `election_min..election_max`. Also how long a leader goes on without hearing
    /// its majority, and how long it tries to hand leadership on.
    pub election_max: Duration,
    /// The time between heartbeats; well below `election_min`.
    pub heartbeat: Duration,
    /// By how many thousandths the clocks of two members may differ in speed, at the most. A leader's lease is shorter
    /// than `election_min` by that share. Clocks must go on while a machine sleeps.
    pub drift: u32,
    /// Bytes of commands in one append; one larger command travels alone.
    pub batch_bytes: usize,
    /// Appends on their way to one follower before an answer is awaited.
    pub window: usize,
    /// Bytes of one chunk of a checkpoint.
    pub chunk_bytes: u64,
    /// Chunks on their way to one follower. With `chunk_bytes` it bounds the memory of a transfer on both sides.
    pub chunk_window: u64,
    /// Entries kept in the log below a checkpoint, for followers that lag only a little.
    pub keep: u64,
    /// The most bytes of entries that are kept there, also while a checkpoint travels.
    pub keep_bytes: usize,
    /// A leader refuses proposals while so many bytes are not committed.
    pub uncommitted_bytes: usize,
    /// A leader refuses proposals while its log in memory holds so many bytes: the driver's checkpoints lag.
    pub log_bytes: usize,
    /// A new voter must get one round of what came meanwhile within `election_min`; it has so many tries.
    pub catch_up_rounds: u32,
    /// A new voter that gets nothing done for so long is given up.
    pub catch_up_patience: Duration,
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
            drift: 50,
            batch_bytes: 256 * 1024,
            window: 16,
            chunk_bytes: 1024 * 1024,
            chunk_window: 4,
            keep: 1024,
            keep_bytes: 16 * 1024 * 1024,
            uncommitted_bytes: 32 * 1024 * 1024,
            log_bytes: 128 * 1024 * 1024,
            catch_up_rounds: 10,
            catch_up_patience: Duration::from_secs(5),
        }
    }

    /// How long a lease lasts, from the sending of the round that confirms it (thesis, section 6.4.1).
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.election_min * 1000u32.saturating_sub(self.drift) / 1000
    }

    /// Refuses settings under which the protocol would not work.
    ///
    /// # Errors
    /// Names the setting and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let group = Configuration::of(self.voters.clone());
        let wrong = if group.voters.windows(2).any(|pair| pair[0] == pair[1]) {
            "voters name a member twice; name each once"
        } else if !group.voters.is_empty() && !self.voters.contains(&self.id) {
            "voters lack this member; add its id, or name none if it joins a group"
        } else if group.voters.len() > MOST_VOTERS {
            "there are more than 7 voters; use 1, 3 or 5"
        } else if self.heartbeat.is_zero() || self.heartbeat * 2 > self.election_min {
            "heartbeat must be above zero and at most half of election_min"
        } else if self.election_max <= self.election_min {
            "election_max must be above election_min"
        } else if self.drift >= 1000 {
            "drift must be below 1000 thousandths"
        } else if self.window == 0 || self.batch_bytes == 0 {
            "window and batch_bytes must be above zero"
        } else if self.chunk_bytes == 0 || self.chunk_window == 0 {
            "chunk_bytes and chunk_window must be above zero"
        } else if self.uncommitted_bytes == 0 || self.log_bytes == 0 || self.catch_up_rounds == 0 {
            "uncommitted_bytes, log_bytes and catch_up_rounds must be above zero"
        } else {
            return Ok(());
        };
        Err(Error::Config(wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::new(MemberId(1), [1, 2, 3].map(MemberId).to_vec());
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn settings_that_break_the_protocol_are_refused_by_name() {
        assert_eq!(refusal(|_| {}), "none");
        assert_eq!(refusal(|c| c.voters.clear()), "none", "one that joins");
        assert!(refusal(|c| c.voters.push(MemberId(2))).contains("twice"));
        assert!(refusal(|c| c.id = MemberId(4)).contains("lack this member"));
        assert!(refusal(|c| c.voters.extend((4..=8).map(MemberId))).contains("7 voters"));
        assert!(refusal(|c| c.heartbeat = c.election_min).contains("heartbeat"));
        assert!(refusal(|c| c.election_max = c.election_min).contains("election_max"));
        assert!(refusal(|c| c.drift = 1000).contains("drift"));
        assert!(refusal(|c| c.window = 0).contains("window"));
        assert!(refusal(|c| c.chunk_bytes = 0).contains("chunk_bytes"));
        assert!(refusal(|c| c.catch_up_rounds = 0).contains("catch_up_rounds"));
    }

    #[test]
    fn a_lease_is_shorter_than_the_election_timeout_by_the_drift() {
        let mut config = Config::new(MemberId(1), vec![MemberId(1)]);
        config.election_min = Duration::from_millis(200);
        config.drift = 100;
        assert_eq!(config.lease(), Duration::from_millis(180));
    }
}
