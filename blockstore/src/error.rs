//! What can go wrong for a user of the virtual disk.

/// An error of the virtual disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The session was fenced: it can change nothing any more.
    #[error("session {0} is fenced: its lease was lost and another took over")]
    Fenced(u64),
    /// No answer before the deadline; the request goes on behind the scenes.
    #[error("block server {server} does not answer; start it again")]
    Stalled {
        /// Which server.
        server: String,
    },
    /// Every replica that could answer failed its checksum.
    #[error("damaged data at byte {offset} of the volume: no replica has a good copy")]
    Damaged {
        /// Where.
        offset: u64,
    },
    /// The servers have no space.
    #[error("no space left on the block servers")]
    NoSpace,
    /// No coordinator could answer before the deadline.
    #[error("no coordinator answered before the deadline; are the coordinators up?")]
    Unreachable,
    /// The request was malformed.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
}
