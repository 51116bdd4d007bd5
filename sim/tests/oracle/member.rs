//! What a schedule may ask of a core, whichever it is, and what it may look at.
//!
//! Time is counted in ticks, each member's by itself, so that a schedule decides who stands when. Knows neither core.

/// Ticks between two heartbeats.
pub(crate) const HEARTBEAT: u64 = 3;
/// Ticks for which a member that heard its leader votes for no other.
pub(crate) const PATIENCE: u64 = 10;
/// Ticks after which every election timeout is over.
pub(crate) const TIMEOUT: u64 = 21;

/// A change of the group by one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new learner, at once.
    Learner(u64),
    /// A learner becomes a voter, by joint consensus.
    Promote(u64),
    /// A voter leaves, by joint consensus.
    Remove(u64),
}

/// What an entry carries, as far as both cores can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Noop,
    Command(u64),
    Change,
}

/// A look at a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) leads: bool,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) commit: u64,
    /// The entry before the log: a checkpoint stands for all up to it.
    pub(crate) base: u64,
    /// Term and content of each entry after `base`.
    pub(crate) log: Vec<(u64, Word)>,
    /// The commands that the state machine has seen.
    pub(crate) applied: Vec<u64>,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) joint: bool,
    /// Reads that were answered here: which, and the index that the state machine had to reach.
    pub(crate) reads: Vec<(u64, u64)>,
}

impl View {
    /// The entries that this log and another's can both show.
    pub(crate) fn log_beside(&self, other: &Self) -> &[(u64, Word)] {
        let hidden = other.base.saturating_sub(self.base) as usize;
        self.log.get(hidden..).unwrap_or_default()
    }
}

/// A member of a group, with its disk and its state machine.
pub(crate) trait Core {
    type Letter;

    /// A new member of a group of these voters; one that joins later is not among them.
    fn new(id: u64, voters: &[u64]) -> Self;
    /// Stops without farewell and starts from its disk.
    fn restart(&mut self);
    /// A tick passes here. Only a leader does anything about it.
    fn tick(&mut self);
    /// The election timer runs out.
    fn stand(&mut self);
    /// A command arrives from a client.
    fn propose(&mut self, command: u64);
    /// Takes a checkpoint, which replaces the log up to what is applied.
    fn checkpoint(&mut self);
    /// A client wants to read here, proven by a round.
    fn read(&mut self, number: u64);
    fn change(&mut self, change: Change);
    fn transfer(&mut self, to: u64);
    fn take(&mut self, letter: Self::Letter);
    /// Writes, syncs and applies what is to be; then what is to be sent, and to whom.
    fn work(&mut self) -> Vec<(u64, Self::Letter)>;
    fn view(&self) -> View;
}
