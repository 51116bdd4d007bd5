//! What can go wrong for a client of the lock service.

/// An error of the lock service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The session's lease ran out or the service ended it.
    #[error("the session's lease is lost; unmount and mount again")]
    Expired,
    /// No coordinator could answer before the deadline.
    #[error("no coordinator answered before the deadline; are the coordinators up?")]
    Unreachable,
    /// The wait for other holders reached its deadline.
    #[error("the lock was not given up before the deadline")]
    Deadline,
    /// The session was closed by this client.
    #[error("the session is closed")]
    Closed,
}
