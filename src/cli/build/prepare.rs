//! Contexts and settings of a build.

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::cancel::Cancel;
use crate::base::digest::Sha256;
use crate::base::fs::{self, FsError};
use crate::base::rooted::Root;
use crate::cli::failure::{Failure, Kind};
use crate::cli::fetch::Fetched;
use crate::cli::read::Read;
use crate::cli::request::BuildRequest;
use crate::cli::session::Session;
use crate::context::{Dir, DirOptions, IgnoreFile};
use crate::engine::{Context, Settings};
use crate::plan::ContextName;
use crate::sandbox::userns::Privilege;
use crate::store::Store;

use super::inputs::Inputs;
use super::ssh::GitAgent;

/// Fewest steps at the same time: commands mostly wait.
const MIN_JOBS: usize = 4;

/// Opens the contexts. Ok: each is a directory with a valid ignore file. Reading their files ends when `stop` is set.
pub(super) fn contexts(
    read: &Read,
    request: &BuildRequest,
    fetched: &Fetched,
    store: &Store,
    stop: &Cancel,
) -> Result<BTreeMap<ContextName, Context>, Failure> {
    let mut contexts = BTreeMap::new();
    let main = match request.source.origin {
        None => open(&request.source.context, read.ignore.clone(), store, stop)?,
        Some(_) => plain(&request.source.context, stop)?,
    };
    contexts.insert(ContextName::Main, main);
    for (name, dir) in &fetched.directories {
        contexts.insert(ContextName::Named(name.clone()), plain(dir, stop)?);
    }
    for (name, dir) in &request.directories {
        // Each local context has its own ignore file (G-2).
        let root = Root::open(dir).map_err(|e| FsError::new("open context", dir, e))?;
        let ignore = IgnoreFile::find(&root, None).map_err(|e| Failure::from_error(Kind::Build, &e))?;
        contexts.insert(ContextName::Named(name.clone()), open(dir, ignore, store, stop)?);
    }
    Ok(contexts)
}

/// A fetched context: it has no ignore file and no stat index, because it is removed after the build.
fn plain(dir: &Path, stop: &Cancel) -> Result<Context, Failure> {
    let options = DirOptions { stop: Some(stop.clone()), ..DirOptions::default() };
    let tree = Dir::open(dir, &options).map_err(|e| Failure::from_error(Kind::Build, &e))?;
    Ok(Context { tree, dir: dir.to_owned() })
}

fn open(dir: &Path, ignore: Option<IgnoreFile>, store: &Store, stop: &Cancel) -> Result<Context, Failure> {
    let dir = std::fs::canonicalize(dir).map_err(|e| FsError::new("open context", dir, e))?;
    fs::ensure_dir(&store.contexts_dir())?;
    // One index per directory, whatever Dockerfiles are built from it.
    let index = store.contexts_dir().join(&Sha256::of(dir.as_os_str().as_encoded_bytes()).hex()[..32]);
    let options = DirOptions { ignore, index: Some(index), owners: false, stop: Some(stop.clone()) };
    let tree = Dir::open(&dir, &options).map_err(|e| Failure::from_error(Kind::Build, &e))?;
    Ok(Context { tree, dir })
}

/// The settings of the build, from host, user and options.
pub(super) fn settings(
    request: &BuildRequest,
    inputs: &Inputs,
    session: &Session<'_>,
    privilege: Privilege,
) -> Result<Settings, Failure> {
    let (environment, began) = (session.environment, session.began);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let file = match (&inputs.read.path, &request.source.origin) {
        (_, Some(remote)) => Path::new(&remote.text).to_owned(),
        (Some(path), None) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        (None, None) => Path::new("-").to_owned(),
    };
    let container = &request.container;
    Ok(Settings {
        jobs: request.jobs.unwrap_or(processors.max(MIN_JOBS)),
        compression: request.compression,
        warm_only: privilege == Privilege::Plain,
        explain_only: false,
        // Only an image with a name can say where its layers are.
        needs_layers: !request.outputs.is_empty() || request.tags.is_empty(),
        user_namespace: !matches!(privilege, Privilege::Root),
        snapshot: request.snapshotter.method(privilege != Privilege::Root),
        proxies: environment.proxies(),
        authorities: request.source.authorities.clone(),
        storage_limit: environment.storage_limit()?,
        max_download: environment.max_download()?,
        git_environment: environment.for_git(inputs.git_agent.as_ref().and_then(GitAgent::socket)),
        network: request.network,
        resolv_conf: container.resolv_conf.clone(),
        hosts: container.hosts.clone(),
        shm_size: container.shm_size,
        rlimits: container.rlimits.clone(),
        resources: container.resources.clone(),
        secrets: inputs.secrets.clone(),
        ssh: BTreeMap::new(),
        began,
        slots: file.to_string_lossy().into_owned(),
        timeout: request.timeout,
    })
}
