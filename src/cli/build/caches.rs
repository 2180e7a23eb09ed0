//! The shared caches of a build: opening them, and reporting those that failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::digest::BlobDigest;
use crate::cache::remote::{
    ANSWER, Directory, Failure as CacheFailure, GhaCache, Mounts, RegistryCache, Remote, Remotes, S3Cache, Sender,
    Target, timing,
};
use crate::cli::failure::Failure;
use crate::cli::request::{BuildRequest, CacheFrom, Place};
use crate::cli::session::Session;
use crate::dockerfile::{Diagnostic, Severity, Span};
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;
use crate::plan::{Mount, Plan, StepKind};
use crate::registry::{Client, Holders, Options};
use crate::store::Store;
use crate::transport::Timing;
use crate::ui::sanitize;

/// The shared caches of a build.
pub(super) struct Caches {
    pub(super) remotes: Arc<Remotes>,
    pub(super) sender: Sender,
}

impl Caches {
    /// Those of `request`. Nothing is asked yet. Each has connections of its own, so that it can be given up alone.
    pub(super) fn open(request: &BuildRequest, options: &Options, store: &Store) -> Result<Self, Failure> {
        let patience = ANSWER.min(request.cache_timeout);
        let patient = |timing| Options { timing, ..options.clone() };
        let quick = patient(timing(patience));
        let read = |from: &CacheFrom| (open(&from.place, &quick, Box::new(|_| Vec::new())), from.mounts.clone());
        let reading = request.cache_from.iter().map(read).collect();
        let remotes = Arc::new(Remotes::new(reading, patience));
        // Uploads go on beside the build: whoever asks for a longer pause gets it.
        let options = patient(Timing { longest_pause: options.timing.longest_pause, ..timing(patience) });
        let mut targets = Vec::new();
        for to in &request.cache_to {
            let (holders, whole_images): (Box<Holders>, bool) = match &to.place {
                Place::Registry(name) => {
                    (holders(request, store, name, &remotes)?, pushed(request, name).next().is_some())
                }
                Place::Directory(_) | Place::Bucket(_) | Place::Actions(_) => (Box::new(|_| Vec::new()), false),
            };
            let (remote, mode, mounts) = (open(&to.place, &options, holders), to.mode, to.mounts.clone());
            targets.push(Target { remote, mode, whole_images, mounts });
        }
        let sender = Sender::new(targets, Arc::clone(&remotes), request.cache_timeout);
        Ok(Self { remotes, sender })
    }

    /// Reports caches that failed, and what is strange about others.
    pub(super) fn announce(&self, session: &mut Session<'_>) {
        for remark in self.remotes.remarks() {
            session.console.labelled("note", &sanitize::text(&format!("cache not found: {remark}")));
        }
        let tell = |session: &mut Session<'_>, what: &str, failure: &CacheFailure| {
            let text = format!("{what} the cache in {}: {}", failure.cache, failure.error);
            session.console.labelled("warning", &sanitize::text(&text));
        };
        for failure in self.remotes.take_failures() {
            tell(session, "cannot read", &failure);
        }
        for failure in self.sender.take_failures() {
            tell(session, "cannot write to", &failure);
        }
    }
}

fn open(place: &Place, options: &Options, holders: Box<Holders>) -> Arc<dyn Remote> {
    match place {
        Place::Registry(name) => {
            Arc::new(RegistryCache::new(Arc::new(Client::new(options.clone())), name.clone(), holders))
        }
        Place::Directory(dir) => Arc::new(Directory::new(dir)),
        Place::Bucket(place) => Arc::new(S3Cache::new(options.http(), place.clone())),
        Place::Actions(place) => Arc::new(GhaCache::new(options.http(), place.clone())),
    }
}

/// Repositories of the registry of `name` that may have a blob: that of a cache which is read, those of images in the store,
/// and those to which this image is pushed.
fn holders(
    request: &BuildRequest,
    store: &Store,
    name: &Reference,
    read: &Arc<Remotes>,
) -> Result<Box<Holders>, Failure> {
    let known: BTreeMap<BlobDigest, Vec<String>> = store.holders(name, None)?;
    let pushed: Vec<String> = pushed(request, name).map(|tag| tag.repository.clone()).collect();
    let (name, read) = (name.clone(), Arc::clone(read));
    Ok(Box::new(move |blob: &Descriptor| {
        let read = read.repository_with(blob).filter(|other| other.registry == name.registry);
        let known = known.get(&blob.digest).cloned().unwrap_or_default();
        let all = read.map(|other| other.repository).into_iter().chain(known).chain(pushed.iter().cloned());
        all.filter(|repository| *repository != name.repository).collect()
    }))
}

/// Warnings about ids that no cache mount has (N-8).
pub(super) fn unknown_mounts(request: &BuildRequest, plan: &Plan) -> Vec<Diagnostic> {
    let mounts = plan.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Run(run) => Some(&run.mounts),
        _ => None,
    });
    let known: Vec<&str> = mounts.flatten().filter_map(cache_id).collect();
    let from = request.cache_from.iter().map(|from| ("--cache-from", &from.mounts));
    let given = from.chain(request.cache_to.iter().map(|to| ("--cache-to", &to.mounts)));
    let ids = given.flat_map(|(option, mounts)| match mounts {
        Mounts::Ids(ids) => ids.iter().map(|id| (option, id)).collect(),
        Mounts::All => Vec::new(),
    });
    let unknown = ids.filter(|(_, id)| !known.contains(&id.as_str()));
    let warning = |(option, id): (&str, &String)| {
        let message = format!("{option} mounts={id} has no effect: no RUN has a cache mount with this id");
        let problem = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(Span::default(), message) };
        problem.suggest(id, known.iter().copied())
    };
    unknown.map(warning).collect()
}

fn cache_id(mount: &Mount) -> Option<&str> {
    if let Mount::Cache { id, .. } = mount { Some(id) } else { None }
}

/// The names on the registry of `name` under which the image is pushed.
fn pushed<'r>(request: &'r BuildRequest, name: &'r Reference) -> impl Iterator<Item = &'r Reference> {
    request.tags.iter().filter(|tag| request.push && tag.registry == name.registry)
}
