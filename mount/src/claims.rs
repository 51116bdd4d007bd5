//! Who on this mount holds advisory locks, so that a close knows what it ends. The locks themselves are
//! the lock service's.
//!
//! A claimant's locks on a file end when it closes any descriptor of it (fcntl), or the last of an open
//! file (flock). The kernel tells of the former by FLUSH, which it leaves out for descriptors that
//! cannot write; what was claimed through such a one ends when the open file does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use fuse::Ino;
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Claims {
    handles: AtomicU64,
    /// The handles through which a claimant may have locks on a file.
    noted: Mutex<BTreeMap<(u64, u64), BTreeSet<u64>>>,
}

impl Claims {
    /// A handle that no open file has.
    pub(crate) fn handle(&self) -> u64 {
        self.handles.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// `claimant` is about to have locks on a file.
    pub(crate) fn note(&self, ino: Ino, claimant: u64, handle: u64) {
        self.noted.lock().entry((ino.0, claimant)).or_default().insert(handle);
    }

    /// It has none any more. Whether it may have had any.
    pub(crate) fn take(&self, ino: Ino, claimant: u64) -> bool {
        self.noted.lock().remove(&(ino.0, claimant)).is_some()
    }

    /// Those whose locks came through this handle: they have none any more.
    pub(crate) fn take_through(&self, ino: Ino, handle: u64) -> Vec<u64> {
        let mut noted = self.noted.lock();
        let of_file = noted.range((ino.0, 0)..=(ino.0, u64::MAX));
        let found: Vec<u64> = of_file
            .filter(|(_, h)| h.contains(&handle))
            .map(|(&(_, claimant), _)| claimant)
            .collect();
        for claimant in &found {
            noted.remove(&(ino.0, *claimant));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use fuse::Ino;

    use super::Claims;

    #[test]
    fn a_close_ends_what_its_claimant_has_and_an_open_file_what_came_through_it() {
        let (claims, file, other) = (Claims::default(), Ino(7), Ino(8));
        let handle = claims.handle();
        claims.note(file, 1, handle);
        claims.note(file, 2, claims.handle());
        claims.note(other, 1, handle);
        assert!(!claims.take(file, 3), "it has none");
        assert_eq!(claims.take_through(file, handle), [1]);
        assert!(!claims.take(file, 1), "they are gone");
        assert!(claims.take(file, 2) && claims.take(other, 1));
    }
}
