//! F4: every read on every mount returns the latest completed write of any mount whose session lives. Judged with syncs
//! left out: what a dead session had done since another one saw it may be gone.

use crate::cluster::judge::{Deed, Tree};
use crate::wgl::{self, Operation, Verdict};

/// Its name.
pub(in crate::cluster) const NAME: &str = "F4 every read is of the latest write";

/// Placements that the search may try on one register.
const BUDGET: u64 = 2_000_000;

/// Judges every register.
pub(in crate::cluster) fn judge(history: &[Operation<Deed, ()>]) -> Verdict {
    wgl::check(&Tree { syncs: false }, history, BUDGET)
}
