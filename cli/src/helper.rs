//! Called by `mount(8)`: under the name `mount.plumeria` or `mount.fuse.plumeria` the program takes the arguments that
//! `mount` gives to its helpers, so that a line in `/etc/fstab` with the type `plumeria` or `fuse.plumeria` works:
//!
//! `/etc/plumeria/client.toml  /data  plumeria  defaults,_netdev  0 0`

use std::{ffi::OsString, path::Path};

/// The arguments of this process, those of a mount helper as those of `plumeria mount`.
pub(crate) fn arguments(given: Vec<OsString>) -> Vec<OsString> {
    let name = given.first().map(Path::new).and_then(Path::file_name);
    match name.and_then(|name| name.to_str()) {
        Some("mount.plumeria" | "mount.fuse.plumeria") => translate(&given),
        _ => given,
    }
}

/// `SOURCE TARGET [-sfnv] [-o OPTIONS] [-t TYPE] [-N NAMESPACE]`. What is no use here is passed over, except what
/// cannot be obeyed, which clap refuses.
fn translate(given: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["plumeria".into(), "mount".into(), "--detach".into()];
    let mut rest = given.iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("-o") => {
                all.push("-o".into());
                all.extend(rest.next().cloned());
            }
            Some("-t") => {
                rest.next();
            }
            Some("-s" | "-n" | "-v") => {}
            _ => all.push(argument.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::arguments;

    fn given(text: &str) -> Vec<OsString> {
        arguments(text.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn a_mount_helper_s_arguments_become_those_of_plumeria_mount() {
        let same = ["plumeria", "mount", "--detach", "/c.toml", "/mnt", "-o", "rw,_netdev"];
        let helper = "/sbin/mount.fuse.plumeria /c.toml /mnt -n -v -o rw,_netdev -t fuse.plumeria";
        assert_eq!(given(helper), same);
        assert_eq!(given("plumeria status -v"), ["plumeria", "status", "-v"]);
    }
}
