//! F1: what a sync acknowledged survives every crash. Judged only where [`super::latest`] holds, so what fails here is what
//! was synced.

use crate::cluster::judge::{Deed, Tree};
use crate::wgl::{self, Operation, Verdict};

/// Its name.
pub(in crate::cluster) const NAME: &str = "F1 what was synced survives";

/// Placements that the search may try on one register.
const BUDGET: u64 = 2_000_000;

/// Judges every register.
pub(in crate::cluster) fn judge(history: &[Operation<Deed, ()>]) -> Verdict {
    wgl::check(&Tree { syncs: true }, history, BUDGET)
}
