//! `plumeria umount`: a clean unmount, or the abort of a kernel connection whose daemon is gone.

use std::{path::Path, time::Duration};

use crate::{
    args::Umount,
    failure::{Failure, Kind, OrFail as _, Outcome},
    launch,
    output::Output,
    role,
};

pub(crate) fn run(umount: &Umount, timeout: Duration, output: Output) -> Outcome {
    let path = &umount.mountpoint;
    let shown = path.display();
    let mounted = fuse::mounted(path).or_fail(Kind::Failed, || "cannot list the mounts".into())?;
    let Some(mounted) = mounted.filter(|mounted| mounted.kind == "fuse.plumeria") else {
        return Err(Failure::usage(format!("{shown} is no mount point of Plumeria")));
    };
    if umount.force {
        fuse::abort(path)
            .or_fail(Kind::Failed, || format!("cannot abort the connection of {shown}"))?;
    }
    let pid = role::daemon_of(Path::new(&mounted.source), &mounted.path);
    match fuse::unmount(path, umount.force) {
        // The daemon of an aborted connection may have unmounted it first.
        Ok(()) | Err(fuse::Error::NotMounted(_)) => {}
        Err(error) => {
            return Err(error).or_fail(Kind::Failed, || format!("cannot unmount {shown}"));
        }
    }
    // The daemon writes back what it has before it ends; the data is safe when it is gone.
    let gone = launch::wait(timeout, || !pid.is_some_and(launch::is_alive));
    if !gone && !umount.force {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "{shown} is unmounted, but its process is still writing back: wait for it before you switch anything off"
            ),
        ));
    }
    output.line(&format!("unmounted {shown}"));
    output.json(&serde_json::json!({"unmounted": path}));
    Ok(())
}
