//! `plumeria mr streaming`: Hadoop Streaming's command line.

use std::{path::PathBuf, time::Duration};

use mapreduce::{Programs, Shipped, Submission, streaming_options, upload_path};
use world::World;

use super::{
    kind,
    place::Places,
    run::{self, Target, With},
    show,
};
use crate::{
    failure::{Failure, Kind, OrFail as _, Outcome},
    output::Output,
};

pub(super) async fn run(
    world: &World,
    arguments: &[String],
    timeout: Duration,
    output: Output,
) -> Outcome {
    let options = streaming_options(arguments)
        .map_err(|error| Failure { kind: kind(&error), error: error.into() })?;
    let output = output.or_json(options.json);
    let inputs: Vec<_> = options.spec.inputs.iter().map(PathBuf::from).collect();
    let to = PathBuf::from(&options.spec.output);
    let places = Places::of(&inputs, &to, options.local)?;
    let mut shipped = Vec::new();
    let mut uploads = Vec::new();
    for give in &options.give {
        let path = if options.local {
            let path = std::fs::canonicalize(&give.path);
            let path = path.or_fail(Kind::Usage, || {
                format!("cannot read {}, which is given along", give.path)
            })?;
            path.display().to_string()
        } else {
            uploads.push(run::upload(&give.path, &give.name)?);
            upload_path(&places.output, &give.name)
        };
        shipped.push(Shipped { path, name: give.name.clone(), archive: give.archive });
    }
    let named = options.cluster.clone();
    let target = if options.local {
        Target::Here
    } else {
        let found = || places.source.map(|path| path.display().to_string());
        Target::Cluster { cluster: named.or_else(found), crew: None }
    };
    let (verbose, page) = (options.verbose, options.page);
    let spec = options.with(places.inputs, places.output, shipped);
    let name = spec.name.clone();
    let submission = Submission { spec, uploads, programs: Programs::shipped() };
    let with = With { page, timeout, output };
    let summary = run::submit(world, target, submission, with).await?;
    show::counters(&summary, output);
    show::tell(&summary, &name, &to, output);
    if verbose {
        output.line(&format!("{} attempts failed and were made again", summary.failures));
    }
    Ok(())
}
