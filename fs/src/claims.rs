//! Advisory locks (flock, fcntl): between processes of all mounts, kept by the lock service. Nothing
//! here is cached, and nothing that is cached depends on them.

use std::future::Future;

use lockservice::advisory::{Claim, Claimant, Claimed, Patience, Stretch};

use crate::{Error, Fs, InodeNo};

impl Fs {
    /// Claims a lock on a file, or gives one up; see [`lockservice::Locks::claim`]. Whoever must wait
    /// does so until `back` is ready.
    ///
    /// # Errors
    /// If the session is over, or the lock service cannot be reached.
    pub async fn claim_lock(
        &self,
        claim: Claim,
        patience: Patience,
        back: impl Future<Output = ()> + Send,
    ) -> Result<Claimed, Error> {
        Ok(self.locks.claim(claim, patience, Box::pin(back)).await?)
    }

    /// Gives up all that `by` has of a file.
    ///
    /// # Errors
    /// As [`Fs::claim_lock`].
    pub async fn give_up_locks(&self, ino: InodeNo, by: Claimant) -> Result<(), Error> {
        let claim = Claim { file: ino.0, by, process: 0, stretch: Stretch::WHOLE, mode: None };
        self.claim_lock(claim, Patience::Try, std::future::pending()).await.map(|_| ())
    }
}
