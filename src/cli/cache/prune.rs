//! `kiln prune` and `kiln cache prune`: removing what is not needed.

use serde_json::json;

use crate::base::fs;
use crate::base::lock::Patience;
use crate::base::time::Timestamp;
use crate::cli::args::{Format, PruneArgs};
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::session::Session;
use crate::cli::{request, table};
use crate::store::{Policy, Sweep, plan};

/// What may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Scope {
    /// The build cache.
    Cache,
    /// Untagged images too.
    Store,
}

/// Removes what no tagged image needs; with `--all` everything but the images themselves; with `--keep-storage` the longest
/// unused until the store is within the bound. What running builds use stays (S-131).
pub(in crate::cli) fn run(args: &PruneArgs, scope: Scope, session: &mut Session<'_>) -> Done {
    let keep = args.keep_storage.as_deref().map(request::size).transpose();
    let keep = keep.map_err(|e| Failure::usage(format!("--keep-storage {e}")))?;
    let unused_since = unused_since(&args.filter, session.began)?;
    let policy = Policy { unnamed: scope == Scope::Store, named_cache: args.all, mounts: args.all, keep, unused_since };
    let store = session.store()?;
    if let Some(code) = session.as_owner(&store)? {
        return Ok(code);
    }
    let (sweep, before, named) = if args.dry_run {
        let survey = super::survey::survey(&store)?;
        (plan(&survey, &policy), survey.total(), survey.named())
    } else {
        let report = session.wait_reporter();
        let mut waiting = |who: &str| report(who, "it uses the store");
        // The time of the scratch directory is when the survey began, on the clock of the store's file system.
        let trash = store.scratch()?;
        let began = fs::modified(trash.path())?;
        let mut survey = super::survey::survey(&store)?;
        let alone = store.exclude(&mut Patience::new(&mut waiting))?;
        store.refresh(&mut survey, began, &alone)?;
        let sweep = plan(&survey, &policy);
        store.sweep(&sweep, &trash, &alone)?;
        drop(alone);
        trash.remove()?;
        if survey.busy.anybody {
            session.console.labelled("note", "running builds and containers keep what they use");
        }
        (sweep, survey.total(), survey.named())
    };
    let left = before.saturating_sub(sweep.freed);
    report(args, &sweep, left, session)?;
    if let Some(keep) = keep.filter(|keep| left > *keep) {
        let (left, keep, named) = (table::size(left), table::size(keep), table::size(named));
        session.console.labelled("note", &format!("{left} remain, more than {keep}: tagged images take {named}"));
        if !args.all {
            session.console.labelled("hint", "remove images with `kiln rmi`, or cache mounts with --all");
        }
    }
    Ok(SUCCESS)
}

/// The time that `--filter until=` means; the earliest of several.
fn unused_since(filters: &[String], now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    let parse =
        |filter: &String| {
            let wrong = |why: String| Failure::usage(format!("--filter {filter:?}: {why}"));
            match filter.split_once('=') {
                Some(("until", value)) => request::moment(value, now).map_err(wrong),
                Some((key, _)) => Err(wrong(format!("prune has no filter {key}"))
                    .hint("use until=TIME, or choose images with `kiln rmi`")),
                None => Err(wrong("want until=TIME".to_owned())),
            }
        };
    Ok(filters.iter().map(parse).collect::<Result<Vec<_>, _>>()?.into_iter().min())
}

fn report(args: &PruneArgs, sweep: &Sweep, left: u64, session: &mut Session<'_>) -> Result<(), Failure> {
    let counts = [
        ("images", "image", sweep.images.len()),
        ("steps", "cached step", sweep.records.len()),
        ("unpackedLayers", "unpacked layer", sweep.unpacked.len()),
        ("mounts", "cache mount", sweep.mounts.len()),
        ("others", "other file", sweep.cache_files.len()),
        ("blobs", "blob", sweep.blobs.len()),
    ];
    if args.format == Format::Json {
        let removed: serde_json::Map<String, _> = counts.iter().map(|(key, _, n)| ((*key).into(), json!(n))).collect();
        let facts = json!({ "dryRun": args.dry_run, "removed": removed, "freed": sweep.freed, "left": left });
        return Ok(session.console.data(format_args!("{facts}"))?);
    }
    let mut parts: Vec<String> = Vec::new();
    for (_, noun, n) in counts.iter().filter(|(_, _, n)| *n > 0) {
        let plural = if *n == 1 { "" } else { "s" };
        parts.push(format!("{n} {noun}{plural}"));
    }
    let what = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
    let verb = if args.dry_run { "would remove" } else { "removed" };
    session.console.data(format_args!("{verb} {what}"))?;
    session.console.data(format_args!("{} freed, {} left", table::size(sweep.freed), table::size(left)))?;
    Ok(())
}
