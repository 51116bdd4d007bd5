//! A scratch directory, jobs given as command lines, and their output.

use std::path::PathBuf;

use mapreduce::{
    JobSpec, Programs, Shipped, Submission, Summary, Watch, run_local, streaming_options,
};
use world::World;

/// Input, output and scratch space of one test.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

/// A job that is done.
pub(crate) struct Ran {
    pub(crate) summary: Summary,
    /// The contents of the parts, in their order.
    pub(crate) parts: Vec<String>,
}

impl Ran {
    pub(crate) fn framework(&self, name: &str) -> u64 {
        self.summary.counters.framework(name)
    }

    pub(crate) fn all(&self) -> String {
        self.parts.concat()
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With one input file.
    pub(crate) fn with(text: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        place.put("in/a.txt", text);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A script that can be run.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        self.put(name, text);
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        self.text(name)
    }

    /// Runs `-input in -output out` with more options; `@` stands for the scratch directory.
    pub(crate) fn run(&self, options: &[&str]) -> Result<Ran, String> {
        let mut all = vec!["-input", "@/in", "-output", "@/out"];
        all.extend_from_slice(options);
        self.run_only(&all)
    }

    /// The same with nothing added.
    pub(crate) fn run_only(&self, options: &[&str]) -> Result<Ran, String> {
        let typed: Vec<_> = options.iter().map(|text| text.replace('@', &self.text(""))).collect();
        let typed: Vec<_> = typed.iter().map(|text| text.replace("//", "/")).collect();
        let options = streaming_options(&typed).map_err(|error| error.to_string())?;
        let give = |give: &mapreduce::Give| Shipped {
            path: give.path.clone(),
            name: give.name.clone(),
            archive: give.archive,
        };
        let files = options.give.iter().map(give).collect();
        let (inputs, output) = (options.spec.inputs.clone(), options.spec.output.clone());
        self.run_spec(options.with(inputs, output, files))
    }

    /// Runs any job.
    pub(crate) fn run_spec(&self, spec: JobSpec) -> Result<Ran, String> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let done = runtime.block_on(async {
            let submission =
                Submission { spec, uploads: Vec::new(), programs: Programs::shipped() };
            run_local(&World::real(), &self.path("scratch"), submission, &Watch::default()).await
        });
        let summary = done.map_err(|error| error.to_string())?;
        Ok(Ran { summary, parts: self.parts("out") })
    }

    /// Runs a job that must succeed.
    pub(crate) fn ok(&self, options: &[&str]) -> Ran {
        self.run(options).unwrap()
    }

    /// Runs a job that must fail; tells why.
    pub(crate) fn refused(&self, options: &[&str]) -> String {
        match self.run(options) {
            Ok(ran) => panic!("{options:?} succeeded with {:?}", ran.parts),
            Err(error) => error,
        }
    }

    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(dir)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn parts(&self, dir: &str) -> Vec<String> {
        let names = self.names(dir);
        let parts = names.iter().filter(|name| name.starts_with("part-") && !name.ends_with(".gz"));
        parts.map(|name| std::fs::read_to_string(self.path(dir).join(name)).unwrap()).collect()
    }
}

/// The lines of a text, sorted.
pub(crate) fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
