//! `plumeria fsck`: a check of the volume that only reads. It holds the locks of what it looks at
//! shared: mounts write back what they have, dead ones are recovered, and nobody changes anything
//! until the check is over.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use fs::check::{Counts, Report};
use lockservice::{Holder, Locks as _, Mode, Span};
use world::World;

use crate::{
    args::Cluster,
    config::Client,
    failure::{Failure, Kind, OrFail as _, Outcome},
    output::{self, Output},
    role::{self, FileSystem, Remote, Tie},
};

/// The check keeps nothing under its locks, so it can let them go at any time; what it has read by
/// then may be a mixture, which it says.
struct Reader;

#[async_trait]
impl Holder for Reader {
    async fn revoke(&self, _: Span, _: Option<Mode>) {}
    fn expired(&self) {}
}

pub(crate) async fn run(
    world: &World,
    cluster: &Cluster,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let client = Client::find(&cluster.cluster)?;
    let access = Remote::new(world, &client, wire::Role::Tool, 0)?.access(world);
    let tie = Tie::tool("fsck");
    let clerk = FileSystem::clerk(world, &access, &tie).await?;
    let disk = role::disk(world, &access, (clerk.session().0, None)).await?;
    clerk.attach(Arc::new(Reader), Some(fs::Recovery::new(world.clone(), disk.clone())));
    let checked = fs::check::check(disk, Some(&*clerk)).await;
    let closed = world.until(world.clock.now() + timeout, clerk.close()).await;
    closed
        .or_fail(Kind::Unreachable, || "cannot end the session".into())?
        .or_fail(Kind::Unreachable, || "cannot end the session".into())?;
    let report = match checked {
        Err(fs::Error::Lock(error)) => Err(error).or_fail(Kind::Unreachable, || {
            "cannot bring the mounts to rest: `plumeria status` shows which one does not answer"
                .into()
        })?,
        checked => checked.or_fail(Kind::Failed, || "cannot check the volume".into())?,
    };
    tell(&report, output);
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Damage,
        format!("{} damaged places; nothing was changed", report.damage),
    ))
}

fn tell(report: &Report, output: Output) {
    let Counts { files, directories, symlinks, others, orphans, entries, bytes, runs, .. } =
        report.counts;
    output.json(&serde_json::json!({
        "clean": report.is_clean(),
        "damage": report.damage,
        "notes": report.notes,
        "findings": report.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "files": files,
        "directories": directories,
        "symlinks": symlinks,
        "others": others,
        "orphans": orphans,
        "entries": entries,
        "bytes": bytes,
        "runs": runs,
    }));
    for finding in &report.findings {
        let word = if finding.is_damage() { "damage" } else { "note" };
        output.line(&format!("{word}: {finding}"));
    }
    let size = output::bytes(bytes);
    output.line(&format!(
        "{files} files ({size}), {directories} directories, {symlinks} symlinks, {others} others, {entries} names, {orphans} orphans"
    ));
    if report.is_clean() {
        output.line("clean");
    }
}
