//! The third pass of a check: the bits of runs against the runs that inodes have.

use blockstore::{Offset, PAGE};

use super::{Check, Finding, inodes::segment};
use crate::{
    error::Error,
    layout::{
        geometry::{LAST_CLASS, Run, SEGMENTS, SegmentNo, Use},
        version::head,
    },
};

/// Blank space segments after which no used one is expected. Fewer than there can be mounts,
/// because each costs 256 KiB to look at; segments that a run names are looked at in any case.
const BLANK: u32 = 64;
/// Pages between the bitmaps of one segment and those of the next.
const PAGES: u64 = 64;

impl Check<'_> {
    /// Compares the run bitmaps with the runs that were found.
    pub(super) async fn space(&mut self) -> Result<(), Error> {
        let last_named =
            self.runs.keys().map(|run| run.segment().get()).max().map_or(0, |last| last + 1);
        let (mut at, mut blank) = (0, 0);
        while at < SEGMENTS && (at < last_named || blank < BLANK) {
            if at % BLANK == 0 {
                self.rest.space(at..at + BLANK).await?;
            }
            let used = self.space_segment(segment(at)).await?;
            if used {
                blank = 0;
                self.report.counts.space_segments += 1;
            } else {
                blank += 1;
            }
            at += 1;
        }
        Ok(())
    }

    /// Says whether any bit of the segment is set.
    async fn space_segment(&mut self, segment: SegmentNo) -> Result<bool, Error> {
        let pages = self.disk.read(segment.space_head(), PAGES * PAGE).await?;
        let mut used = false;
        for use_ in [Use::Metadata, Use::Data] {
            for class in 0..=LAST_CLASS {
                let at = segment.run_map(use_, class);
                let from = (at.0 - segment.space_head().0) as usize;
                let page = &pages[from..from + PAGE as usize];
                used |= self.run_map((segment, use_, class), at, page);
            }
        }
        Ok(used)
    }

    fn run_map(&mut self, map: (SegmentNo, Use, u8), at: Offset, page: &[u8]) -> bool {
        let (segment, use_, class) = map;
        let low = Run::new(use_, class, segment, 0).expect("every class has a slot");
        let owned: Vec<_> = self
            .runs
            .range(low..)
            .take_while(|(run, _)| {
                (run.use_(), run.class(), run.segment()) == (use_, class, segment)
            })
            .map(|(run, ino)| (*run, *ino))
            .collect();
        if owned.is_empty() && matches!(head(page), Ok(None)) {
            return false;
        }
        let bits = self.bitmap(at, page);
        for (run, ino) in &owned {
            if !bits.get(run.slot()) {
                self.report.add(Finding::RunNotInMap { run: *run, ino: *ino });
            }
        }
        for bit in bits.ones() {
            match Run::new(use_, class, segment, bit) {
                None => self.report.add(Finding::NoSuchRun { at, bit }),
                Some(run) if !self.runs.contains_key(&run) => {
                    self.report.add(Finding::RunLost { run });
                }
                Some(_) => {}
            }
        }
        bits.count() > 0
    }
}
