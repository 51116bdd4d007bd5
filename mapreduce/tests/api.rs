//! Jobs written against the typed interface, run by real workers on files of this machine.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests look at the files themselves")]

use mapreduce::{
    Each, Emitter, Error, Fixed, InputFormat, Job, JobSpec, KeyValueLines, Mapper, OutputFormat,
    Partitioner, Program, Programs, Record, Reducer, Rule, Submission, Summary, Text, TextLines,
    Values, Watch, WholeFile, run_local,
};
use world::World;

/// Runs `make` on `input` (name, content); tells what it counted and its parts.
fn run(
    make: impl Fn(&[String]) -> Result<Job, Error> + Send + Sync + 'static,
    input: &[(&str, &[u8])],
    change: impl FnOnce(&mut JobSpec),
) -> Result<(Summary, Vec<String>), Error> {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(place("in")).unwrap();
    for (name, content) in input {
        std::fs::write(place(&format!("in/{name}")), content).unwrap();
    }
    let mut spec = JobSpec {
        program: Program::Native { name: "mine".to_owned(), arguments: vec!["7".to_owned()] },
        inputs: vec![place("in")],
        output: place("out"),
        reduces: 2,
        ..JobSpec::default()
    };
    change(&mut spec);
    let parts = spec.reduces.max(1);
    let programs = Programs::default().with("mine", make);
    let submission = Submission { spec, uploads: Vec::new(), programs };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scratch = dir.path().join("scratch");
    let summary = runtime.block_on(async {
        run_local(&World::real(), &scratch, submission, &Watch::default()).await
    })?;
    let part = |number| std::fs::read_to_string(place(&format!("out/part-{number:05}"))).unwrap();
    Ok((summary, (0..parts).map(part).collect()))
}

/// Lines of a place, a tab and a temperature.
#[derive(Clone)]
struct Temperatures;

impl Mapper for Temperatures {
    type Input = KeyValueLines;
    type Key = (Text, i64);
    type Value = ();

    fn map(
        &mut self,
        record: &Record<'_, KeyValueLines>,
        out: &mut Emitter<'_, (Text, i64), ()>,
    ) -> Result<(), Error> {
        let text =
            |bytes| std::str::from_utf8(bytes).map_err(|error| Error::Job(error.to_string()));
        let (place, number) = (text(record.data.0)?, text(record.data.1)?);
        let number = number.parse().map_err(|_| Error::Job(format!("{number:?} is no number")))?;
        out.emit((place, number), ())
    }
}

/// Places with an even number of letters come first.
struct ByLength;

impl Partitioner<(Text, i64)> for ByLength {
    fn partition(&self, (place, _): (&str, i64), partitions: u32) -> u32 {
        place.len() as u32 % partitions
    }
}

fn temperatures(arguments: &[String]) -> Result<Job, Error> {
    assert_eq!(arguments, ["7"]);
    Ok(Job::of(Temperatures, Each::default()).partition(ByLength).into())
}

const MEASURED: &[u8] = b"ab\t5\nabc\t-3\nab\t-20\nabc\t0\nab\t10\n";

#[test]
fn pairs_are_keys_that_sort_by_both_halves_and_a_partitioner_spreads_them() {
    let (_, parts) = run(temperatures, &[("a", MEASURED)], |_| {}).unwrap();
    assert_eq!(parts, ["ab\t-20\nab\t5\nab\t10\n", "abc\t-3\nabc\t0\n"]);
}

#[test]
fn a_job_error_names_the_record_and_skipping_leaves_it_out() {
    let input = [("a", &b"ab\t5\nab\twarm\n"[..])];
    let error = run(temperatures, &input, |_| {}).unwrap_err().to_string();
    assert!(error.contains("\"warm\" is no number") && error.contains("byte 5"), "{error}");
    let (summary, parts) = run(temperatures, &input, |spec| spec.skip = 1).unwrap();
    assert_eq!((parts.concat().as_str(), summary.failures), ("ab\t5\n", 2));
}

struct Wrong;

impl Partitioner<(Text, i64)> for Wrong {
    fn partition(&self, _: (&str, i64), partitions: u32) -> u32 {
        partitions
    }
}

#[test]
fn a_partition_that_there_is_not_is_an_error_and_no_damage() {
    let make = |_: &[String]| Ok(Job::of(Temperatures, Each::default()).partition(Wrong).into());
    let error = run(make, &[("a", MEASURED)], |_| {}).unwrap_err().to_string();
    assert!(error.contains("chose partition 2"), "{error}");
}

#[test]
fn the_parts_of_a_job_in_total_order_are_one_sorted_whole() {
    let make = |_: &[String]| Ok(Job::of(Temperatures, Each::default()).total_order().into());
    let lines: String =
        (0..4000_i64).map(|n| format!("x\t{}\n", (n * 7919 % 4001) - 2000)).collect();
    let change = |spec: &mut JobSpec| {
        spec.reduces = 4;
        spec.split_bytes = 3000;
    };
    let (_, parts) = run(make, &[("a", lines.as_bytes())], change).unwrap();
    let numbers: Vec<i64> = parts.concat().lines().map(|line| line[2..].parse().unwrap()).collect();
    assert_eq!(numbers.len(), 4000);
    assert!(numbers.is_sorted());
    assert!(parts.iter().all(|part| part.lines().count() > 500), "the ranges are even");
}

/// Counts records in its state, and emits what its input format gave it.
#[derive(Clone)]
struct Shown<I>(fn(&mut String, &Record<'_, I>), u64)
where
    I: InputFormat;

impl<I: InputFormat> Mapper for Shown<I> {
    type Input = I;
    type Key = Text;
    type Value = u64;

    fn map(
        &mut self,
        record: &Record<'_, I>,
        out: &mut Emitter<'_, Text, u64>,
    ) -> Result<(), Error> {
        let mut text = String::new();
        (self.0)(&mut text, record);
        self.1 += 1;
        out.emit(&text, self.1)
    }

    fn finish(&mut self, out: &mut Emitter<'_, Text, u64>) -> Result<(), Error> {
        out.count("mine", "records", self.1);
        out.emit("end", self.1)
    }
}

/// Runs a map-only job of [`Shown`].
fn shown<I: InputFormat + Clone>(
    show: fn(&mut String, &Record<'_, I>),
    content: &[u8],
    format: OutputFormat,
) -> Result<String, Error> {
    let make =
        move |_: &[String]| Ok(Job::of(Shown(show, 0), Each::default()).output(format).into());
    let rule = make(&[]).map(|job: Job| job.rule())?;
    let change = |spec: &mut JobSpec| {
        spec.reduces = 0;
        spec.records = rule.unwrap_or(Rule::Lines);
    };
    let (summary, parts) = run(make, &[("a", content)], change)?;
    assert_eq!(
        summary.counters.get("mine", "records"),
        summary.counters.framework("Map input records")
    );
    Ok(parts.concat())
}

#[test]
fn a_mapper_sees_what_its_input_format_makes_of_a_record() {
    let fixed = shown::<Fixed<3>>(
        |text, record| text.extend(record.data.iter().map(|byte| char::from(*byte + 1))),
        b"abcdef",
        OutputFormat::LINES,
    );
    assert_eq!(fixed.unwrap(), "bcd\t1\nefg\t2\nend\t2\n");
    let whole = shown::<WholeFile>(
        |text, record| text.push_str(&record.data.len().to_string()),
        b"a\nb\n",
        OutputFormat::NUL_SEPARATED,
    );
    assert_eq!(whole.unwrap(), "4\t1\0end\t1\0");
    let lines = shown::<TextLines>(
        |text, record| text.push_str(record.data),
        "\u{e4}\n".as_bytes(),
        OutputFormat::RECORDS,
    );
    assert_eq!(lines.unwrap(), "\u{e4}1end1");
    let bad = shown::<TextLines>(|_, _| {}, b"fine\n\xff\n", OutputFormat::LINES).unwrap_err();
    assert!(bad.to_string().contains("no UTF-8") && bad.to_string().contains("byte 5"), "{bad}");
}

/// The largest number of each key; as combiner too.
#[derive(Clone)]
struct Largest;

impl Reducer for Largest {
    type Key = Text;
    type Value = u64;
    type OutKey = Text;
    type OutValue = u64;

    fn reduce(
        &mut self,
        key: &str,
        values: &mut Values<'_, u64>,
        out: &mut Emitter<'_, Text, u64>,
    ) -> Result<(), Error> {
        let mut largest = 0;
        while let Some(value) = values.next()? {
            largest = largest.max(value);
        }
        out.emit(key, largest)
    }
}

#[test]
fn a_combiner_makes_fewer_records_of_the_same_result() {
    let mapper = || Shown::<TextLines>(|text, record| text.push_str(record.data), 0);
    let plain = move |_: &[String]| Ok(Job::of(mapper(), Largest).into());
    let combined = move |_: &[String]| Ok(Job::of(mapper(), Largest).combine(Largest).into());
    let input = [("a", "x\ny\n".repeat(500).into_bytes())];
    let input: Vec<_> = input.iter().map(|(name, text)| (*name, text.as_slice())).collect();
    let (all, expected) = run(plain, &input, |_| {}).unwrap();
    let (few, parts) = run(combined, &input, |_| {}).unwrap();
    assert_eq!(parts, expected);
    let mut lines: Vec<&str> = parts.iter().flat_map(|part| part.lines()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["end\t1000", "x\t999", "y\t1000"]);
    let reduced = |summary: &Summary| summary.counters.framework("Reduce input records");
    assert_eq!((reduced(&all), reduced(&few)), (1001, 3));
}

#[test]
fn a_job_that_the_workers_do_not_know_is_named_with_those_that_they_do() {
    let change = |spec: &mut JobSpec| {
        spec.program = Program::Native { name: "yours".to_owned(), arguments: Vec::new() };
    };
    let error = run(temperatures, &[("a", MEASURED)], change).unwrap_err().to_string();
    assert!(error.contains("\"yours\"") && error.contains("mine"), "{error}");
}
