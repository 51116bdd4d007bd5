//! Which inodes the kernel knows, with how many look-ups it has not given back. So a revocation of
//! something that the kernel never saw costs no notification, and a lost lease finds all that must be dropped.

use std::collections::BTreeMap;

use fuse::Ino;
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Known(Mutex<BTreeMap<u64, u64>>);

impl Known {
    /// One more look-up is about to be answered.
    pub(crate) fn add(&self, ino: Ino) {
        *self.0.lock().entry(ino.0).or_insert(0) += 1;
    }

    /// The kernel gave look-ups back.
    pub(crate) fn take(&self, ino: Ino, count: u64) {
        let mut known = self.0.lock();
        if let Some(left) = known.get_mut(&ino.0) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                known.remove(&ino.0);
            }
        }
    }

    /// The root is always known: no look-up leads to it.
    pub(crate) fn has(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || self.0.lock().contains_key(&ino.0)
    }

    pub(crate) fn all(&self) -> Vec<Ino> {
        let mut all = vec![Ino::ROOT];
        all.extend(self.0.lock().keys().map(|ino| Ino(*ino)));
        all
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use fuse::Ino;

    use super::Known;

    #[test]
    fn an_inode_is_known_until_as_many_look_ups_are_given_back_as_were_answered() {
        let known = Known::default();
        known.add(Ino(7));
        known.add(Ino(7));
        known.take(Ino(7), 1);
        assert!(known.has(Ino(7)));
        known.take(Ino(7), 1);
        assert!(!known.has(Ino(7)));
        known.take(Ino(7), 5);
        assert!(known.has(Ino::ROOT));
        assert_eq!(known.all(), [Ino::ROOT]);
    }
}
