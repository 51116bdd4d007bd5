//! Where the paths of a job lie: inside a mount, as the file system names them, or on this machine. What the job
//! does is not known here.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Failure, Kind, OrFail as _, Outcome},
    mounts,
};

/// The paths of a job.
pub(super) struct Places {
    /// The client configuration file of the cluster; none for files of this machine.
    pub(super) source: Option<PathBuf>,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
}

impl Places {
    /// Paths inside a mount.
    pub(super) fn mounted(inputs: &[PathBuf], output: &Path) -> Outcome<Self> {
        let place = locate(output)?;
        let mut found = Vec::new();
        for input in inputs {
            let one = locate(input)?;
            if one.mount.source != place.mount.source {
                return Err(Failure::usage(format!(
                    "{} and {} are not of one cluster",
                    input.display(),
                    output.display()
                )));
            }
            found.push(one.inside);
        }
        Ok(Self { source: Some(place.mount.source), inputs: found, output: place.inside })
    }

    /// Paths of this machine.
    pub(super) fn local(inputs: &[PathBuf], output: &Path) -> Outcome<Self> {
        let inputs = inputs.iter().map(|input| text(&resolved(input)?)).collect::<Outcome<_>>()?;
        Ok(Self { source: None, inputs, output: text(&resolved(output)?)? })
    }

    pub(super) fn of(inputs: &[PathBuf], output: &Path, local: bool) -> Outcome<Self> {
        if local { Self::local(inputs, output) } else { Self::mounted(inputs, output) }
    }
}

/// A path of this machine, as the mount that holds it and the path inside of it.
struct Located {
    mount: mounts::Ours,
    inside: String,
}

fn locate(path: &Path) -> Outcome<Located> {
    let resolved = resolved(path)?;
    let shown = path.display();
    let Some(mount) = mounts::holding(&resolved)? else {
        return Err(Failure::usage(format!(
            "{shown} is not inside a mount of Plumeria (--local runs a job on any files of this machine)"
        )));
    };
    let inside = resolved.strip_prefix(&mount.mountpoint).unwrap_or(&resolved);
    let inside = format!("/{}", text(inside)?);
    Ok(Located { inside, mount })
}

/// An absolute path without links; its last part need not exist, and parts from the first pattern on are left alone.
fn resolved(path: &Path) -> Outcome<PathBuf> {
    let shown = path.display();
    let is_pattern = |part: &&std::ffi::OsStr| part.as_bytes().iter().any(|c| b"*?[{".contains(c));
    let absolute =
        std::path::absolute(path).or_fail(Kind::Usage, || format!("{shown} is no path"))?;
    let plain: PathBuf = absolute.iter().take_while(|part| !is_pattern(part)).collect();
    if plain != absolute {
        let rest = absolute.strip_prefix(&plain).unwrap_or(&absolute).to_owned();
        let base = plain
            .canonicalize()
            .or_fail(Kind::Usage, || format!("{} is not there", plain.display()))?;
        return Ok(base.join(rest));
    }
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Failure::usage(format!("{shown} is no path of a file or directory")));
    };
    let parent = parent
        .canonicalize()
        .or_fail(Kind::Usage, || format!("{} is not there", parent.display()))?;
    Ok(parent.join(name))
}

fn text(path: &Path) -> Outcome<String> {
    std::str::from_utf8(path.as_os_str().as_bytes())
        .map(str::to_owned)
        .or_fail(Kind::Usage, || format!("{} is not UTF-8", path.display()))
}
