//! What is measured: a `plumeria dev` cluster and a bindfs mount, both on one scratch directory,
//! both gone when the value is dropped, also after a failure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Both file systems, mounted.
pub(crate) struct Cluster {
    root: PathBuf,
    program: PathBuf,
}

impl Cluster {
    /// Mounts both below the new directory `root`.
    pub(crate) fn start(root: PathBuf) -> Result<Self> {
        let me = std::env::current_exe().context("find this program")?;
        let program = me.with_file_name("plumeria");
        if !program.is_file() {
            bail!(
                "{} is not built: run `cargo build --release -p plumeria-cli`",
                program.display()
            );
        }
        for dir in ["mnt", "bind", "backing"] {
            fs::create_dir_all(root.join(dir))
                .with_context(|| format!("make {}", root.display()))?;
        }
        let cluster = Self { root, program };
        let mut dev = Command::new(&cluster.program);
        dev.arg("dev").arg(cluster.root.join("data")).arg(cluster.mounted()).arg("--detach");
        succeed(dev.stdout(Stdio::null()))?;
        let mut bind = Command::new("bindfs");
        bind.arg(cluster.root.join("backing")).arg(cluster.bound());
        succeed(&mut bind)?;
        Ok(cluster)
    }

    /// Where Plumeria is mounted.
    pub(crate) fn mounted(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// Where bindfs is mounted.
    pub(crate) fn bound(&self) -> PathBuf {
        self.root.join("bind")
    }

    /// What `plumeria status --json` says.
    pub(crate) fn status(&self) -> Result<serde_json::Value> {
        let output = Command::new(&self.program)
            .args(["status", "--json"])
            .arg(self.root.join("data"))
            .output()
            .context("start plumeria status")?;
        if !output.status.success() {
            bail!("plumeria status: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("parse the status")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stop = |command: &mut Command| {
            if let Err(error) = succeed(command) {
                eprintln!("warning: {error:#}");
            }
        };
        stop(Command::new("umount").arg(self.bound()));
        let data = self.root.join("data");
        stop(
            Command::new(&self.program).args(["stop", "--force"]).arg(&data).stdout(Stdio::null()),
        );
        remove(&self.root);
    }
}

/// Removes the scratch directory, but never what is still mounted in it.
fn remove(root: &Path) {
    let mounted = fs::read_to_string("/proc/self/mounts").is_ok_and(|table| {
        table.lines().any(|line| line.contains(&format!("{}/", root.display())))
    });
    if !mounted {
        let _ = fs::remove_dir_all(root);
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
