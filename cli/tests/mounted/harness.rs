//! A real cluster of real processes for tests: started on a scratch directory, and whatever it
//! mounted or started is gone when the value is dropped, also after a failure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_plumeria");

/// Runs `plumeria` with `arguments`.
pub(crate) fn plumeria(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("the program starts")
}

/// What a process said, for a failing assertion.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A scratch directory with a cluster that may be running on it.
pub(crate) struct Cluster {
    pub(crate) scratch: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        // Not /tmp: a tmpfs has no disk to sync.
        let scratch =
            tempfile::Builder::new().prefix("plumeria-test.").tempdir_in("/var/tmp").unwrap();
        for name in ["mnt", "mnt2"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        Self { scratch }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Starts the cluster on `data`, mounted on `mnt`.
    pub(crate) fn start(&self, flags: &[&str]) {
        let (data, mnt) = (self.text("data"), self.text("mnt"));
        let mut arguments = vec!["dev", &data, &mnt, "--detach"];
        arguments.extend_from_slice(flags);
        let output = plumeria(&arguments);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Mounts it on `mnt2` in a process of its own, whose id it returns.
    pub(crate) fn mount_again(&self) -> u32 {
        self.run(&["mount", &self.text("data"), &self.text("mnt2"), "--detach"]);
        self.pid("mount-mnt2")
    }

    pub(crate) fn pid(&self, name: &str) -> u32 {
        let file = self.path("data/run").join(name).with_extension("pid");
        fs::read_to_string(&file)
            .unwrap_or_else(|_| panic!("{}", file.display()))
            .trim()
            .parse()
            .unwrap()
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = plumeria(arguments);
        assert!(output.status.success(), "plumeria {arguments:?}: {}", said(&output));
        output
    }

    /// Runs a command that must succeed, with `--json`; the lines that it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).expect("it prints text");
        text.lines().map(|line| serde_json::from_str(line).expect("it prints JSON")).collect()
    }

    pub(crate) fn stop(&self) {
        self.run(&["stop", &self.text("data")]);
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        self.json(&["status", &self.text("data")]).remove(0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for name in ["mnt2", "mnt"] {
            if is_mounted(&self.path(name)) {
                let _ = plumeria(&["umount", "--force", &self.text(name)]);
            }
        }
        let _ = plumeria(&["stop", "--force", "--timeout", "10s", &self.text("data")]);
        for name in ["mnt2", "mnt"] {
            if is_mounted(&self.path(name)) {
                let _ = Command::new("umount").arg("-l").arg(self.path(name)).status();
            }
        }
        if std::thread::panicking() {
            for entry in fs::read_dir(self.path("data/run")).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    eprintln!("--- {}\n{text}", entry.path().display());
                }
            }
        }
    }
}

/// Whether something is mounted on `path`.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

/// Ends a process the hard way.
pub(crate) fn kill(pid: u32) {
    signal(pid, "-KILL");
}

fn signal(pid: u32, which: &str) {
    let status = Command::new("kill").args([which, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "process {pid} was not there to get {which}");
}

/// A process that is stopped in its tracks until this is dropped.
pub(crate) struct Frozen(u32);

impl Frozen {
    pub(crate) fn new(pid: u32) -> Self {
        signal(pid, "-STOP");
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0.to_string()]).status();
    }
}

/// Tries until it succeeds; panics with the last failure after `patience`.
pub(crate) fn eventually<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "after {patience:?}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
