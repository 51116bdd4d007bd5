//! Who leaves memory when the cap is reached: a clock over inodes, metadata pages and file pages.
//! Only what is clean can leave; each call looks at a bounded number of things.

use blockstore::Offset;

use crate::{
    layout::geometry::InodeNo,
    state::{INODE_COST, State},
};

/// A thing that can leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Inode(InodeNo),
    Page(Offset),
    Data(InodeNo, u64),
}

/// Things that one call looks at, at most: each is a few hundred nanoseconds under the mutex.
const STEPS: usize = 64;

impl State {
    /// Makes room until `cap` is kept, as far as a bounded effort goes; says whether it is kept.
    pub(crate) fn evict(&mut self, cap: u64) -> bool {
        if self.cached + self.home_bytes() <= cap {
            return true;
        }
        for _ in 0..STEPS {
            let Some(key) = self.clock.pop_front() else { break };
            let stays = match key {
                Key::Inode(ino) => self.inode_stays(ino),
                Key::Page(at) => self.page_stays(at),
                Key::Data(ino, page) => self.data_stays(ino, page),
            };
            if stays {
                self.clock.push_back(key);
            }
            if self.cached + self.home_bytes() <= cap {
                break;
            }
        }
        self.cached + self.home_bytes() <= cap
    }

    /// Bytes of images that wait to be written in place.
    pub(crate) fn home_bytes(&self) -> u64 {
        (self.home.len() + self.homing.len()) as u64 * 1024
    }

    fn inode_stays(&mut self, ino: InodeNo) -> bool {
        let Some(slot) = self.inodes.get_mut(&ino) else { return false };
        if std::mem::take(&mut slot.touched) {
            return true;
        }
        let busy = slot.changed
            || slot.writing
            || slot.dirty.is_some()
            || slot.failed.is_some()
            || slot.pages > 0
            || !slot.data.is_empty();
        if busy {
            return true;
        }
        self.inodes.remove(&ino);
        self.cached -= INODE_COST;
        false
    }

    fn page_stays(&mut self, at: Offset) -> bool {
        let Some(page) = self.pages.get_mut(&at) else { return false };
        if std::mem::take(&mut page.touched) || page.changed {
            return true;
        }
        self.remove_page(at);
        false
    }

    fn data_stays(&mut self, ino: InodeNo, page: u64) -> bool {
        let Some(slot) = self.inodes.get_mut(&ino) else { return false };
        let Some(found) = slot.data.get_mut(page) else { return false };
        if std::mem::take(&mut found.touched) {
            return true;
        }
        match slot.data.evict(page) {
            Some(delta) => {
                self.account(delta);
                false
            }
            None => true,
        }
    }
}
