//! `plumeria mount`: joins a cluster and mounts it, in front or in the background.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use world::World;

use crate::{
    args::Mount,
    config::Client,
    failure::{Failure, Kind, OrFail as _, Outcome},
    interrupted,
    launch::{self, Life},
    options::MountOptions,
    output::Output,
    role::{Mounted, Remote, Tie},
};

/// Starts the same command in the background and returns when the mount is usable.
pub(crate) fn detach(mount: &Mount, timeout: Duration, output: Output) -> Outcome {
    MountOptions::read(&mount.options)?;
    let source = source(&mount.cluster)?;
    let mountpoint = check_mountpoint(&mount.mountpoint)?;
    let mut arguments: Vec<OsString> =
        vec!["mount".into(), source.clone().into(), mountpoint.clone().into()];
    for option in &mount.options {
        arguments.extend(["-o".into(), option.into()]);
    }
    let name = mountpoint
        .file_name()
        .map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned());
    let beside = source.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let started =
        launch::start(&arguments, &beside.join(format!("mount-{name}.log")), Life::Free, timeout)?;
    let pid = started.leave();
    output.line(&format!(
        "mounted on {} (process {pid}); unmount with: plumeria umount {}",
        mountpoint.display(),
        mountpoint.display()
    ));
    output.json(&serde_json::json!({"mountpoint": mountpoint, "pid": pid}));
    Ok(())
}

pub(crate) async fn run(
    world: &World,
    mount: &Mount,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let options = MountOptions::read(&mount.options)?;
    let source = source(&mount.cluster)?;
    let mountpoint = check_mountpoint(&mount.mountpoint)?;
    let client = Client::find(&mount.cluster)?;
    let remote = Remote::new(world, &client, wire::Role::Mount, 0)?;
    let access = remote.access(world);
    let tie = Tie::mount(&mountpoint, mount.of_dev);
    let mounted =
        Mounted::start(world, &access, &source, &mountpoint, tie, &options, timeout).await?;
    launch::tell_ready();
    if !launch::is_background() {
        output.line(&format!("mounted on {}; Ctrl-C unmounts", mountpoint.display()));
    }
    tokio::select! {
        biased;
        done = interrupted() => done?,
        () = mounted.unmounted() => {}
    }
    mounted.stop(timeout).await
}

/// The client configuration file of a cluster: it names the cluster in the kernel's table of mounts.
fn source(cluster: &str) -> Outcome<PathBuf> {
    // Tells what is wrong with the name, if anything.
    Client::find(cluster)?;
    let path = Path::new(cluster);
    let file = if path.is_dir() { path.join("run/client.toml") } else { path.to_path_buf() };
    file.canonicalize().or_fail(Kind::Usage, || format!("cannot find {}", file.display()))
}

/// The mount point, absolute, if something can be mounted there.
pub(crate) fn check_mountpoint(path: &Path) -> Outcome<PathBuf> {
    fuse::check(path, false).map_err(|error| {
        let kind = match error {
            fuse::Error::NoFuse | fuse::Error::DeviceDenied(_) | fuse::Error::Io { .. } => {
                Kind::Failed
            }
            _ => Kind::Usage,
        };
        Failure { kind, error: error.into() }
    })
}
