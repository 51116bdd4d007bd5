//! `plumeria watchdog`: the process beside a mount that ends the kernel's connection when the mount's daemon
//! has fallen silent. Its standard error is the daemon's log.

use fuse::watchdog::{Watched, watch};

use crate::{
    args::Watchdog,
    failure::{Kind, OrFail as _, Outcome},
};

pub(crate) fn run(watchdog: &Watchdog) -> Outcome {
    let connection = watchdog.connection;
    match watch(std::io::stdin(), connection)
        .or_fail(Kind::Failed, || "cannot watch over the mount".into())?
    {
        Watched::Ended => {}
        Watched::Aborted => tracing::error!(
            connection,
            "the mount's daemon was silent for too long: its kernel connection is aborted; unmount and mount again"
        ),
    }
    Ok(())
}
