//! What must hold of a whole cluster, one invariant a file: when it is judged, and how. Where histories come from is not
//! known here.

pub(super) mod atomic;
pub(super) mod foreign;
pub(super) mod latest;
pub(super) mod locks;
pub(super) mod synced;
pub(super) mod whole;
