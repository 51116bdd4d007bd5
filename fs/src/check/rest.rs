//! Bringing a volume to rest: the locks of what a check is about to read, held until the check is over.
//!
//! One lock for many segments is one message; where it would lie in several lock shards each segment is
//! asked for by itself. It does not know what is in a segment.

use std::ops::Range;

use lockservice::{Locks, Mode, Name, Pin, Span};

use super::inodes::segment;
use crate::error::Error;

/// What was brought to rest so far; it stays so until [`Rest::end`].
#[derive(Default)]
pub(super) struct Rest<'a> {
    /// `None`: nobody else uses the volume.
    locks: Option<&'a dyn Locks>,
    taking: Vec<Pin>,
    pins: Vec<(Span, Pin)>,
}

impl<'a> Rest<'a> {
    pub(super) fn new(locks: Option<&'a dyn Locks>) -> Self {
        Self { locks, ..Self::default() }
    }

    /// From now on nobody takes a segment of this kind that is not in use. Inodes come first: whoever writes them
    /// back may have to take space for that.
    pub(super) async fn keep(&mut self, taking: Name) -> Result<(), Error> {
        if let Some(locks) = self.locks {
            let span = Span::one(taking);
            self.taking.push(locks.acquire(span, span, Mode::Exclusive).await?);
        }
        Ok(())
    }

    /// All inodes of the segments `numbers`, and their bitmaps.
    pub(super) async fn inodes(&mut self, numbers: Range<u32>) -> Result<(), Error> {
        self.segments(numbers, |number| segment(number).inode_locks()).await
    }

    /// The run bitmaps of the space segments `numbers`.
    pub(super) async fn space(&mut self, numbers: Range<u32>) -> Result<(), Error> {
        self.segments(numbers, |number| Span::one(segment(number).space_lock())).await
    }

    /// Everybody goes on. First the segments are free: who takes one before would pass by those that are not.
    pub(super) async fn end(self) -> Result<(), Error> {
        let Some(locks) = self.locks else { return Ok(()) };
        for (span, pin) in self.pins {
            drop(pin);
            locks.give_up(span).await?;
        }
        drop(self.taking);
        Ok(())
    }

    async fn segments(
        &mut self,
        numbers: Range<u32>,
        span: impl Fn(u32) -> Span,
    ) -> Result<(), Error> {
        let Some(locks) = self.locks else { return Ok(()) };
        let ends = |first: Span, last: Span| Span::new(first.start(), last.end());
        if let Some(all) = ends(span(numbers.start), span(numbers.end - 1)) {
            match locks.acquire(all, all, Mode::Shared).await {
                Ok(pin) => {
                    self.pins.push((all, pin));
                    return Ok(());
                }
                Err(lockservice::Error::Straddles) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // In order, and each kept while the next is waited for, as operations do: so nobody waits in a circle.
        for span in numbers.map(span) {
            self.pins.push((span, locks.acquire(span, span, Mode::Shared).await?));
        }
        Ok(())
    }
}
