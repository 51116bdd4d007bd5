//! The command line of Hadoop Streaming: `-input ... -output ... -mapper ...`, with the generic options `-D`,
//! `-files` and `-archives`, turned into a job. Files are named by host paths here; where they lie in the file
//! system is the caller's business.

use std::{collections::BTreeMap, time::Duration};

use super::{Shipped, Streaming, lines::Format, words};
use crate::{
    error::Error,
    input::{pattern::split_outside_braces, record::Rule},
    shuffle::{fields::Fields, order::Partitioner},
    spec::{JobSpec, Program, Shuffle},
};

/// A file or archive to be given along, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Give {
    /// The host path.
    pub path: String,
    /// What it is called in the tasks' directory.
    pub name: String,
    /// To be unpacked.
    pub archive: bool,
}

/// A command line, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The job; inputs and output are as they were typed.
    pub spec: JobSpec,
    /// Files to be given along.
    pub give: Vec<Give>,
    /// On any local path, without a cluster.
    pub local: bool,
    /// The cluster, if one was named.
    pub cluster: Option<String>,
    /// Print JSON.
    pub json: bool,
    /// The port of a status page.
    pub page: Option<u16>,
    /// Say more.
    pub verbose: bool,
}

impl Options {
    /// The job, with what is given along where it was put.
    #[must_use]
    pub fn with(self, inputs: Vec<String>, output: String, files: Vec<Shipped>) -> JobSpec {
        let mut spec = JobSpec { inputs, output, ..self.spec };
        if let Program::Streaming(programs) = &mut spec.program {
            programs.files = files;
        }
        spec
    }
}

/// What was typed, before it is put together.
#[derive(Default)]
struct Typed {
    inputs: Vec<String>,
    output: Option<String>,
    mapper: Option<String>,
    combiner: Option<String>,
    reducer: Option<String>,
    partitioner: Option<String>,
    input_format: Option<String>,
    output_format: Option<String>,
    reduces: Option<String>,
    environment: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    give: Vec<Give>,
    local: bool,
    cluster: Option<String>,
    page: Option<String>,
    json: bool,
    verbose: bool,
}

/// How the command is used.
const USAGE: &str = "\
usage: plumeria mr streaming [generic options] -input PATH -output DIR -mapper CMD [options]

  -input PATH           file, directory or pattern; may be given several times
  -output DIR           made by the job; must not exist yet
  -mapper CMD           reads lines, writes lines: key, tab, value (default: the lines as they are)
  -reducer CMD|NONE     reads the sorted lines; NONE: the maps' output is the result
  -combiner CMD         run on each map's sorted output
  -partitioner CLASS    HashPartitioner or KeyFieldBasedPartitioner
  -numReduceTasks N     parts of the output (default 1)
  -inputformat CLASS    TextInputFormat, KeyValueTextInputFormat, FixedLengthInputFormat, WholeFileInputFormat
  -outputformat CLASS   TextOutputFormat
  -cmdenv NAME=VALUE    in the environment of the programs
  -file PATH            given along with the job, found in the tasks' directory
  -verbose              say more
generic options
  -D NAME=VALUE         a property; see docs/mapreduce.md for those that matter
  -files A,B#NAME       as -file, separated by commas
  -archives A,B#NAME    tar archives, unpacked into directories
of Plumeria
  --local               on any local path, without a cluster
  --cluster CLUSTER     if it is not to be found by the paths
  --page PORT           show the job in a browser of this machine
  --json                the result as JSON";

fn usage(text: impl std::fmt::Display) -> Error {
    Error::Spec(format!("{text}\n{USAGE}"))
}

/// Understands a command line.
///
/// # Errors
/// What is wrong with it, and how it is used.
pub fn parse(arguments: &[String]) -> Result<Options, Error> {
    let mut typed = Typed::default();
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        // `-Dname=value` is as good as `-D name=value`.
        if let Some(property) = option.strip_prefix("-D").filter(|rest| !rest.is_empty()) {
            typed.property(property)?;
            continue;
        }
        match option.as_str() {
            "--local" => typed.local = true,
            "--json" => typed.json = true,
            "-verbose" => typed.verbose = true,
            _ => {
                let value =
                    rest.next().ok_or_else(|| usage(format_args!("{option} needs a value")));
                typed.take(option, value)?;
            }
        }
    }
    typed.options()
}

impl Typed {
    fn take(&mut self, option: &str, value: Result<&String, Error>) -> Result<(), Error> {
        let once = match option {
            "-input" => {
                let parts = split_outside_braces(value?);
                self.inputs.extend(parts.into_iter().map(str::to_owned));
                return Ok(());
            }
            "-cmdenv" => {
                let value = value?;
                let pair = value.split_once('=');
                let (name, value) =
                    pair.ok_or_else(|| usage(format_args!("-cmdenv {value} has no =")))?;
                self.environment.insert(name.to_owned(), value.to_owned());
                return Ok(());
            }
            "-D" => return self.property(value?),
            "-file" => {
                self.give(value?, false);
                return Ok(());
            }
            "-files" | "-archives" | "-cacheFile" | "-cacheArchive" => {
                let archive = option == "-archives" || option == "-cacheArchive";
                value?.split(',').for_each(|path| self.give(path, archive));
                return Ok(());
            }
            "-output" => &mut self.output,
            "-mapper" => &mut self.mapper,
            "-combiner" => &mut self.combiner,
            "-reducer" => &mut self.reducer,
            "-partitioner" => &mut self.partitioner,
            "-inputformat" => &mut self.input_format,
            "-outputformat" => &mut self.output_format,
            "-numReduceTasks" | "-numreducetasks" => &mut self.reduces,
            "--cluster" => &mut self.cluster,
            "--page" => &mut self.page,
            _ => return Err(usage(format_args!("{option} is no option of a streaming job"))),
        };
        let value = value?;
        if once.replace(value.clone()).is_some() {
            return Err(usage(format_args!("{option} is given twice")));
        }
        Ok(())
    }

    fn property(&mut self, text: &str) -> Result<(), Error> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| usage(format_args!("-D {text} has no =")))?;
        self.properties.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn give(&mut self, path: &str, archive: bool) {
        let (path, name) = path.split_once('#').unwrap_or((path, ""));
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        let name = if name.is_empty() { last } else { name };
        self.give.push(Give { path: path.to_owned(), name: name.to_owned(), archive });
    }

    /// The first property of `names` that is set: new names before old ones.
    fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.properties.get(*name)).map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, names: &[&str]) -> Result<Option<T>, Error> {
        let Some(text) = self.get(names) else { return Ok(None) };
        let bad = || usage(format_args!("{}={text} is no number that fits", names[0]));
        text.trim().parse().map(Some).map_err(|_| bad())
    }

    fn flag(&self, names: &[&str]) -> bool {
        self.get(names).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
    }

    fn command(&self, text: Option<&str>) -> Result<Option<Vec<String>>, Error> {
        let Some(text) = text else { return Ok(None) };
        // Hadoop's classes for "as it is", by any of their names.
        if matches!(text.rsplit('.').next(), Some("IdentityMapper" | "IdentityReducer")) {
            return Ok(None);
        }
        if self.flag(&["plumeria.shell"]) {
            return Ok(Some(vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()]));
        }
        let words = words::split(text)
            .ok_or_else(|| usage(format_args!("a quote is not closed in {text:?}")))?;
        if words.is_empty() {
            return Err(usage("a command is empty"));
        }
        if words.iter().any(|word| word == "|") {
            return Err(usage(format_args!(
                "a pipe in {text:?} needs a shell: say -D plumeria.shell=true, or put it into a script"
            )));
        }
        Ok(Some(words))
    }

    fn records(&self) -> Result<(Rule, Option<String>), Error> {
        let format = self.input_format.as_deref().unwrap_or("TextInputFormat");
        let delimiter = self.get(&["textinputformat.record.delimiter"]);
        let lines = match delimiter {
            None => Rule::Lines,
            Some("") => return Err(usage("textinputformat.record.delimiter is empty")),
            Some(text) => Rule::Delimited(unescape(text)),
        };
        match format.rsplit('.').next().unwrap_or(format) {
            "TextInputFormat" | "StreamInputFormat" => Ok((lines, None)),
            "KeyValueTextInputFormat" => {
                let names = [
                    "mapreduce.input.keyvaluelinerecordreader.key.value.separator",
                    "key.value.separator.in.input.line",
                ];
                Ok((lines, Some(self.get(&names).unwrap_or("\t").to_owned())))
            }
            "FixedLengthInputFormat" => {
                let name = "fixedlengthinputformat.record.length";
                let length = self.number(&[name])?;
                let length = length.filter(|length| *length > 0);
                let length = length.ok_or_else(|| usage(format_args!("say -D {name}=BYTES")))?;
                Ok((Rule::Fixed(length), None))
            }
            "WholeFileInputFormat" => Ok((Rule::Whole, None)),
            _ => Err(usage(format_args!("there is no input format {format}"))),
        }
    }

    fn shuffle(&self) -> Result<Shuffle, Error> {
        let mut shuffle = Shuffle::hadoop();
        let separator = self
            .get(&["mapreduce.map.output.key.field.separator", "map.output.key.field.separator"])
            .unwrap_or("\t");
        let comparator = self.get(&[
            "mapreduce.job.output.key.comparator.class",
            "mapred.output.key.comparator.class",
        ]);
        match comparator.map(|class| class.rsplit('.').next().unwrap_or(class)) {
            None | Some("Comparator" | "Text$Comparator") => {}
            Some("KeyFieldBasedComparator") => {
                let options = self.get(&[
                    "mapreduce.partition.keycomparator.options",
                    "mapred.text.key.comparator.options",
                ]);
                shuffle.sort_by(Fields::parse(options.unwrap_or_default(), separator)?);
            }
            Some(other) => return Err(usage(format_args!("there is no comparator {other}"))),
        }
        let class = self
            .partitioner
            .as_deref()
            .or_else(|| self.get(&["mapreduce.job.partitioner.class", "mapred.partitioner.class"]));
        match class.map(|class| class.rsplit('.').next().unwrap_or(class)) {
            None | Some("HashPartitioner") => {}
            Some("KeyFieldBasedPartitioner") => {
                let options = self.get(&[
                    "mapreduce.partition.keypartitioner.options",
                    "mapred.text.key.partitioner.options",
                ]);
                let count = self.number::<usize>(&["num.key.fields.for.partition"])?;
                match (options, count) {
                    (Some(options), _) => shuffle.spread_by(Fields::parse(options, separator)?),
                    (None, Some(count)) => shuffle.spread_by(Fields::first(count, separator)?),
                    (None, None) => shuffle.partitioner = Partitioner::Hadoop,
                }
            }
            Some(other) => {
                return Err(usage(format_args!(
                    "there is no partitioner {other}: HashPartitioner and KeyFieldBasedPartitioner are"
                )));
            }
        }
        Ok(shuffle)
    }

    fn format(&self, side: &str) -> Result<Format, Error> {
        let separator = self.get(&[&format!("stream.{side}.output.field.separator")]);
        let fields = self.number(&[&format!("stream.num.{side}.output.key.fields")])?.unwrap_or(1);
        let separator = separator.unwrap_or("\t").to_owned();
        if separator.is_empty() {
            return Err(usage(format_args!("stream.{side}.output.field.separator is empty")));
        }
        Ok(Format { separator, fields })
    }

    fn reduces(&self) -> Result<u32, Error> {
        if self.reducer.as_deref() == Some("NONE") {
            return Ok(0);
        }
        match &self.reduces {
            Some(text) => {
                text.parse().map_err(|_| usage(format_args!("-numReduceTasks {text} is no number")))
            }
            None => {
                Ok(self.number(&["mapreduce.job.reduces", "mapred.reduce.tasks"])?.unwrap_or(1))
            }
        }
    }

    fn split_bytes(&self) -> Result<u64, Error> {
        let least = self
            .number(&["mapreduce.input.fileinputformat.split.minsize", "mapred.min.split.size"])?;
        let most = self
            .number(&["mapreduce.input.fileinputformat.split.maxsize", "mapred.max.split.size"])?;
        let block = self.number(&["dfs.blocksize"])?.unwrap_or(32 << 20);
        Ok(most.unwrap_or(u64::MAX).min(block).max(least.unwrap_or(1)).max(1))
    }

    /// Bad records of a split that may be skipped.
    fn skip(&self) -> Result<u32, Error> {
        let names = ["mapreduce.map.skip.maxrecords", "mapred.skip.map.max.skip.records"];
        Ok(self.number::<u64>(&names)?.unwrap_or(0).min(1_000_000) as u32)
    }

    /// Told as a part of 1.
    fn early_percent(&self) -> Result<u32, Error> {
        let names = [
            "mapreduce.job.reduce.slowstart.completedmaps",
            "mapred.reduce.slowstart.completed.maps",
        ];
        let Some(text) = self.get(&names) else { return Ok(JobSpec::default().early_percent) };
        let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
        let percent = part.map(|part| (part * 100.0).ceil() as u32);
        percent.ok_or_else(|| usage(format_args!("{}={text} is no part of 1", names[0])))
    }

    fn weight(&self) -> Result<u32, Error> {
        match self.get(&["mapreduce.job.priority", "mapred.job.priority"]) {
            None => Ok(crate::spec::weight("NORMAL").unwrap_or(4)),
            Some(text) => crate::spec::weight(text)
                .ok_or_else(|| usage(format_args!("there is no priority {text}"))),
        }
    }

    fn gzip(&self) -> Result<bool, Error> {
        let on =
            self.flag(&["mapreduce.output.fileoutputformat.compress", "mapred.output.compress"]);
        let codec = self.get(&[
            "mapreduce.output.fileoutputformat.compress.codec",
            "mapred.output.compression.codec",
        ]);
        match codec.map(|codec| codec.rsplit('.').next().unwrap_or(codec)) {
            None | Some("GzipCodec" | "DefaultCodec") => Ok(on),
            Some(other) if on => {
                Err(usage(format_args!("there is no codec {other}: GzipCodec is")))
            }
            Some(_) => Ok(false),
        }
    }

    fn programs(&self, key_value: Option<String>) -> Result<Streaming, Error> {
        let separator = |name: &str| self.get(&[name]).unwrap_or("\t").to_owned();
        let reducer = self.reducer.as_deref().filter(|reducer| *reducer != "NONE");
        let timeout = self.number(&["mapreduce.task.timeout", "mapred.task.timeout"])?;
        let megabytes: Option<u64> =
            self.number(&["mapreduce.map.memory.mb", "mapred.child.ulimit.mb"])?;
        Ok(Streaming {
            mapper: self.command(self.mapper.as_deref())?,
            combiner: self.command(self.combiner.as_deref())?,
            reducer: self.command(reducer)?,
            environment: self.environment.clone(),
            files: Vec::new(),
            map_output: self.format("map")?,
            reduce_output: self.format("reduce")?,
            map_input: separator("stream.map.input.field.separator"),
            reduce_input: separator("stream.reduce.input.field.separator"),
            output: self
                .get(&[
                    "mapreduce.output.textoutputformat.separator",
                    "mapred.textoutputformat.separator",
                ])
                .unwrap_or("\t")
                .to_owned(),
            key_value,
            with_offset: self.get(&["stream.map.input.ignoreKey"]) == Some("false"),
            exit_counts: self.get(&["stream.non.zero.exit.is.failure"]) != Some("false"),
            timeout: Duration::from_millis(timeout.unwrap_or(600_000)),
            memory: megabytes.filter(|size| *size > 0).map(|size| size << 20),
        })
    }

    fn options(self) -> Result<Options, Error> {
        let output = self.output.clone().ok_or_else(|| usage("-output is missing"))?;
        if self.inputs.is_empty() {
            return Err(usage("-input is missing"));
        }
        match self.output_format.as_deref().map(|class| class.rsplit('.').next().unwrap_or(class)) {
            None | Some("TextOutputFormat") => {}
            Some(other) => return Err(usage(format_args!("there is no output format {other}"))),
        }
        let (records, key_value) = self.records()?;
        let name = self.get(&["mapreduce.job.name", "mapred.job.name"]).unwrap_or("streaming");
        let attempts =
            self.number(&["mapreduce.map.maxattempts", "mapred.map.max.attempts"])?.unwrap_or(4);
        let sort = self.number::<u64>(&["mapreduce.task.io.sort.mb", "io.sort.mb"])?;
        let mut programs = self.programs(key_value)?;
        let mut give = self.give.clone();
        for command in [&mut programs.mapper, &mut programs.combiner, &mut programs.reducer] {
            give_along(command, &mut give);
        }
        let spec = JobSpec {
            name: name.to_owned(),
            program: Program::Streaming(Box::new(programs)),
            inputs: self.inputs.clone(),
            output,
            reduces: self.reduces()?,
            records,
            shuffle: Some(self.shuffle()?),
            split_bytes: self.split_bytes()?,
            // One file a task: its name is in the environment.
            together: false,
            hidden: false,
            nested: self.flag(&[
                "mapreduce.input.fileinputformat.input.dir.recursive",
                "mapred.input.dir.recursive",
            ]),
            gzip: self.gzip()?,
            attempts: attempts.max(1),
            skip: self.skip()?,
            early_percent: self.early_percent()?,
            backups: self
                .get(&["mapreduce.map.speculative", "mapred.map.tasks.speculative.execution"])
                != Some("false"),
            weight: self.weight()?,
            sort_bytes: sort.unwrap_or(0) << 20,
            properties: self.properties.clone(),
            ..JobSpec::default()
        };
        let page = self.page.as_deref().map(str::parse).transpose();
        let page = page.map_err(|_| usage("--page takes the number of a port"))?;
        let Self { local, cluster, json, verbose, .. } = self;
        Ok(Options { spec, give, local, cluster, page, json, verbose })
    }
}

/// A program that is named by a relative path is given along, and found in the tasks' directory.
fn give_along(command: &mut Option<Vec<String>>, give: &mut Vec<Give>) {
    let Some(program) = command.as_mut().and_then(|words| words.first_mut()) else { return };
    if program.starts_with('/') || !program.contains('/') {
        return;
    }
    let name = program.rsplit('/').next().unwrap_or(program).to_owned();
    if !give.iter().any(|given| given.name == name) {
        give.push(Give { path: program.clone(), name: name.clone(), archive: false });
    }
    *program = format!("./{name}");
}

/// `\n`, `\t`, `\r`, `\0` and `\\` in a delimiter.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, rest.clone().next()) {
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'0')) => 0,
            (b'\\', Some(b'\\')) => b'\\',
            _ => {
                bytes.push(byte);
                continue;
            }
        });
        rest.next();
    }
    bytes
}
