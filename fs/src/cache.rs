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
    /// A page of a file, and the number that it got when it came.
    Data(InodeNo, u64, u64),
}

/// Things that one call looks at when the cap is kept but for a little; and at most: each is about
/// a hundred nanoseconds under the mutex.
const STEPS: u64 = 64;
const MOST_STEPS: u64 = 8192;
/// Keys that may be in the clock without a thing to them before they are swept out.
const STALE: usize = 4096;

impl State {
    /// Makes room until `cap` is kept, as far as a bounded effort goes; says whether it is kept.
    pub(crate) fn evict(&mut self, cap: u64) -> bool {
        let over = (self.cached + self.home_bytes()).saturating_sub(cap);
        if over == 0 {
            return true;
        }
        // A thing that was used since is passed over once.
        let steps = (STEPS + 3 * over / 4096).min(MOST_STEPS);
        for _ in 0..steps {
            let Some(key) = self.clock.pop_front() else { break };
            let stays = match key {
                Key::Inode(ino) => self.inode_stays(ino),
                Key::Page(at) => self.page_stays(at),
                Key::Data(ino, page, key) => self.data_stays(ino, page, key),
            };
            if stays {
                self.clock.push_back(key);
            }
            if self.cached + self.home_bytes() <= cap {
                return true;
            }
        }
        false
    }

    /// Sweeps keys out of the clock whose thing went on another way, some of them; says whether
    /// there are more to look at.
    pub(crate) fn sweep_clock(&mut self) -> bool {
        if self.sweep == 0 {
            if self.clock.len() <= 2 * self.swept + STALE {
                return false;
            }
            self.sweep = self.clock.len();
        }
        for _ in 0..self.sweep.min(1024) {
            self.sweep -= 1;
            let Some(key) = self.clock.pop_front() else { break };
            let there = match key {
                Key::Inode(ino) => self.inodes.contains_key(&ino),
                Key::Page(at) => self.pages.contains_key(&at),
                Key::Data(ino, page, key) => {
                    let found = self.inodes.get(&ino).and_then(|slot| slot.data.get(page));
                    found.is_some_and(|page| page.key == key)
                }
            };
            if there {
                self.clock.push_back(key);
            }
        }
        self.swept = self.clock.len();
        self.sweep > 0
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

    fn data_stays(&mut self, ino: InodeNo, page: u64, key: u64) -> bool {
        let Some(slot) = self.inodes.get_mut(&ino) else { return false };
        let Some(found) = slot.data.get_mut(page).filter(|found| found.key == key) else {
            return false;
        };
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
