//! Open files when their locks move. A file without a name lives while anybody has it open, on any
//! mount. While a mount holds an inode's lock its opens are nobody else's business; before it gives
//! the lock up it takes a second one, shared, on the inode's *open name*, and keeps it until its
//! last close. Whoever frees an inode must hold that name exclusively, and the owner of an inode
//! segment does, for all of it, from when it took the segment: so nothing is asked for a file that
//! only its maker ever saw. The exclusive name is asked for only by requests that do not wait, so
//! nobody is ever made to give up a shared one; whoever holds one exclusively that another asks for
//! shares it, and then gives it up unless it has the inode open itself. A mount that dies loses
//! these locks with all others.
//!
//! The same is kept here of files that may be mapped for writing, of which the kernel says nothing.

use std::time::Duration;

use lockservice::{Mode, Name, Span};
use world::Time;

use crate::{
    attributes::InodeNo,
    error::Error,
    fs::Fs,
    layout::geometry::LOCK_OPENS,
    revoke::{inodes, inodes_by},
    tx::After,
};

/// How long an inode that is open elsewhere rests before it is looked at again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long the owner of a segment gets to give up the names of what it has not open.
const SETTLE: Duration = Duration::from_millis(20);

impl Fs {
    /// Counts an open of `ino` that may be mapped for writing; see [`Fs::unmap`]. While there is
    /// one, what the kernel reads is read under the exclusive lock: it may be written to without a
    /// word.
    ///
    /// # Errors
    /// [`Error::Stale`].
    pub async fn open_mapped(&self, ino: InodeNo) -> Result<(), Error> {
        self.map(ino);
        let opened = self
            .run(|tx| {
                // What the kernel read under a shared lock is forgotten with that.
                tx.hold(ino.lock(), Mode::Exclusive)?;
                tx.live(ino)?;
                tx.after.push(After::Opened(ino));
                Ok(())
            })
            .await;
        if opened.is_err() {
            self.unmap(ino);
        }
        opened
    }

    /// Counts a possible mapping of an inode of which the kernel has no page.
    pub fn map(&self, ino: InodeNo) {
        *self.state.lock().mapped.entry(ino).or_default() += 1;
    }

    /// A possible mapping of `ino` ended.
    pub fn unmap(&self, ino: InodeNo) {
        let mut state = self.state.lock();
        if let Some(left) = state.mapped.get_mut(&ino) {
            *left -= 1;
            if *left == 0 {
                state.mapped.remove(&ino);
            }
        }
    }

    /// One open of `ino` ended.
    pub fn release(&self, ino: InodeNo) {
        {
            let mut state = self.state.lock();
            let Some(left) = state.opens.get_mut(&ino) else { return };
            *left -= 1;
            if *left > 0 {
                return;
            }
            state.opens.remove(&ino);
            state.untold.remove(&ino);
            if state.nameless.remove(&ino) {
                state.orphans.insert(ino);
                if self.is_sole(ino) {
                    state.drop_data(ino);
                }
                self.signals.reap.notify_one();
            }
        }
        let declared = self.locks.held(ino.open_lock(), Mode::Shared);
        if declared.is_some_and(|held| held.mode == Mode::Shared)
            && let Some(fs) = self.me.upgrade()
        {
            self.world.spawn("last close", async move {
                // A session that ends gives it up, too.
                let _ = fs.locks.give_up(Span::one(ino.open_lock())).await;
            });
        }
    }

    /// Whether no other mount has `ino` open, or can have.
    pub(crate) fn is_sole(&self, ino: InodeNo) -> bool {
        self.locks.held(ino.open_lock(), Mode::Exclusive).is_some()
    }

    /// Tells all mounts which of the inodes under `span`, whose locks are going, are open here.
    pub(crate) async fn declare_opens(&self, span: Span) {
        let Some((from, to)) = inodes(span) else { return };
        let open: Vec<Name> =
            self.state.lock().opens.range(from..to).map(|(ino, _)| ino.open_lock()).collect();
        let unsaid = |names: &[Name]| -> Vec<Name> {
            let held = |name: &&Name| self.locks.held(**name, Mode::Shared).is_none();
            names.iter().filter(held).copied().collect()
        };
        let mut missing = unsaid(&open);
        if missing.is_empty() {
            return;
        }
        let _ = self.locks.hint(&missing, Mode::Shared).await;
        missing = unsaid(&missing);
        for name in missing {
            let one = Span::one(name);
            if let Err(error) = self.locks.acquire(one, one, Mode::Shared).await {
                tracing::error!(?name, %error, "an open file may be freed under its readers");
            }
        }
    }

    /// Asks, in one message, for the right to free those of `inos` that others may have open.
    pub(crate) async fn ask_sole(&self, inos: &[InodeNo]) -> Result<(), Error> {
        let mut asked: Vec<Name> = {
            let state = self.state.lock();
            let nameless =
                |ino: &&InodeNo| state.orphans.contains(ino) && !state.opens.contains_key(ino);
            inos.iter().filter(nameless).map(|ino| ino.open_lock()).collect()
        };
        asked.retain(|name| self.locks.held(*name, Mode::Exclusive).is_none());
        if asked.is_empty() {
            return Ok(());
        }
        self.locks.hint(&asked, Mode::Exclusive).await?;
        asked.retain(|name| self.locks.held(*name, Mode::Exclusive).is_none());
        for span in stretches(&asked) {
            // The owner of the segment has the names of all its inodes; who only has one open is not
            // in the way of this, and keeps it.
            drop(self.locks.acquire(span, span, Mode::Shared).await?);
            self.locks.give_up(span).await?;
        }
        if !asked.is_empty() {
            self.world.clock.sleep(SETTLE).await;
            self.locks.hint(&asked, Mode::Exclusive).await?;
        }
        Ok(())
    }

    /// Gives up the names under `span` of inodes that nobody here has open: somebody else asked.
    pub(crate) fn leave_closed(&self, span: Span) {
        let Some(fs) = self.me.upgrade() else { return };
        self.world.spawn("open names", async move {
            for part in fs.closed_in(span) {
                // A session that ends gives it up, too.
                let _ = fs.locks.give_up(part).await;
            }
        });
    }

    /// The parts of `span` whose inodes nobody here has open.
    fn closed_in(&self, span: Span) -> Vec<Span> {
        let Some((from, to)) = inodes_by(span, LOCK_OPENS) else { return Vec::new() };
        let state = self.state.lock();
        let open = state.opens.range(from..to).map(|(ino, _)| ino.open_lock());
        let mut parts = Vec::new();
        let mut at = span.start();
        for name in open {
            parts.extend(Span::new(at, name));
            at = Name(name.0 + 1);
        }
        parts.extend(Span::new(at, span.end()));
        parts
    }

    /// When an inode that is open elsewhere is looked at again.
    pub(crate) fn look_again(&self) -> Time {
        self.world.clock.now() + AGAIN
    }
}

/// Names that follow each other, as spans.
fn stretches(names: &[Name]) -> Vec<Span> {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let mut all: Vec<(Name, Name)> = Vec::new();
    for name in sorted {
        match all.last_mut() {
            Some((_, end)) if *end == name => end.0 += 1,
            _ => all.push((name, Name(name.0 + 1))),
        }
    }
    all.into_iter().filter_map(|(from, to)| Span::new(from, to)).collect()
}

/// Whether `span` is one of open names only: nothing is kept under these.
pub(crate) fn is_of_opens(span: Span) -> bool {
    span.start().kind() == LOCK_OPENS && Name(span.end().0 - 1).kind() == LOCK_OPENS
}
