//! Mount options as `mount(8)` and `/etc/fstab` write them.

use mount::Without;

use crate::failure::{Failure, Outcome};

/// How something is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) read_only: bool,
    pub(crate) synchronous: bool,
    pub(crate) without: Vec<Without>,
}

impl MountOptions {
    /// Later options win over earlier ones, as with `mount(8)`.
    pub(crate) fn read(options: &[String]) -> Outcome<Self> {
        let mut read = Self::default();
        for option in options {
            match option.as_str() {
                "ro" => read.read_only = true,
                "rw" => read.read_only = false,
                "sync" | "dirsync" => read.synchronous = true,
                "async" => read.synchronous = false,
                "nosuid" => read.deny(Without::Suid, true),
                "suid" => read.deny(Without::Suid, false),
                "nodev" => read.deny(Without::Devices, true),
                "dev" => read.deny(Without::Devices, false),
                "noexec" => read.deny(Without::Programs, true),
                "exec" => read.deny(Without::Programs, false),
                other if is_for_mount(other) => {}
                other => {
                    return Err(Failure::usage(format!(
                        "unknown mount option {other:?}; known are ro, rw, sync, async, nosuid, nodev and noexec"
                    )));
                }
            }
        }
        Ok(read)
    }

    fn deny(&mut self, what: Without, denied: bool) {
        self.without.retain(|known| *known != what);
        if denied {
            self.without.push(what);
        }
    }
}

/// What `mount(8)` and systemd read in `/etc/fstab` for themselves, and what is always so here.
fn is_for_mount(option: &str) -> bool {
    let words = ["", "defaults", "auto", "noauto", "nofail", "_netdev", "relatime", "allow_other"];
    words.contains(&option) || option.starts_with("x-") || option.starts_with("comment=")
}

#[cfg(test)]
mod tests {
    use super::{MountOptions, Without};

    fn read(text: &str) -> Option<MountOptions> {
        MountOptions::read(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).ok()
    }

    #[test]
    fn options_of_fstab_are_read_the_last_word_counts_and_unknown_ones_are_refused() {
        let strict = read("defaults,_netdev,nofail,x-systemd.automount,ro,sync,nosuid,nodev,suid");
        let strict = strict.unwrap();
        assert!(strict.read_only && strict.synchronous);
        assert_eq!(strict.without, [Without::Devices]);
        assert_eq!(read("ro,sync,rw,async"), Some(MountOptions::default()));
        assert_eq!(read("quota"), None);
    }
}
