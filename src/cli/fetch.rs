//! Contexts that are not directories here become directories here, for the time of one command.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::base::time::Timestamp;
use crate::base::url::redacted;
use crate::dockerfile::mount::parse_bool;
use crate::engine::source::{self, Origin};
use crate::fetch::{FetchError, Remote as Way, Secrets};
use crate::plan::{EpochSource, KEEP_GIT_DIR};
use crate::sandbox::Cancel;
use crate::store::Scratch;

use super::failure::{Failure, fetch_hint};
use super::locate;
use super::request::{DockerfileFrom, Remote, SourceRequest};
use super::session::Session;

/// What was fetched; it goes away with this.
#[derive(Default)]
pub(super) struct Fetched {
    /// The named contexts.
    pub(super) directories: BTreeMap<String, PathBuf>,
    _scratch: Option<Scratch>,
}

impl Session<'_> {
    /// Fetches the main context of `request`, if it is not a directory here, and `named` ones; `secrets` and the SSH
    /// agent may say who asks, `stop` when to give up.
    ///
    /// Ok: `request.context` is a directory, and `request.file` says where in it, or instead of it, the Dockerfile is.
    pub(super) fn fetch(
        &self,
        request: &mut SourceRequest,
        named: &BTreeMap<String, Remote>,
        secrets: &BTreeMap<String, Vec<u8>>,
        agent: Option<&Path>,
        stop: &Cancel,
    ) -> Result<Fetched, Failure> {
        let dockerfile = match &request.file {
            DockerfileFrom::Url(url) => Some(url.clone()),
            _ => None,
        };
        if request.origin.is_none() && named.is_empty() && dockerfile.is_none() {
            return Ok(Fetched::default());
        }
        let store = self.store()?;
        let scratch = store.scratch()?;
        let cache = store.fetched_dir();
        let environment = self.environment.for_git(agent);
        let way = self.way(Way::new(&cache, scratch.path()), &environment, secrets, stop)?;
        fetch_main(&way, request, scratch.path())?;
        if let Some(url) = dockerfile {
            let unfetched = |error: FetchError| {
                let failure = Failure::of_error(&error).prefixed("read Dockerfile: ");
                fetch_hint(&error).into_iter().fold(failure, Failure::hint)
            };
            let file = way.http(&url, None).map_err(unfetched)?;
            request.file = DockerfileFrom::Text(redacted(&url), locate::downloaded(&file.path, &redacted(&url))?);
        }
        let directories = fetch_named(&way, named, request)?;
        Ok(Fetched { directories, _scratch: Some(scratch) })
    }

    /// When what a stage adds that SOURCE_DATE_EPOCH names changed last, if that is known.
    pub(super) fn time_of(
        &self,
        source: &EpochSource,
        secrets: &BTreeMap<String, Vec<u8>>,
        agent: Option<&Path>,
        stop: &Cancel,
    ) -> Result<Option<Timestamp>, Failure> {
        let store = self.store()?;
        let scratch = store.scratch()?;
        let cache = store.fetched_dir();
        let environment = self.environment.for_git(agent);
        let way = self.way(Way::new(&cache, scratch.path()), &environment, secrets, stop)?;
        way.time_of(source).map_err(|e| failed(e).prefixed(&format!("SOURCE_DATE_EPOCH={}: ", source.stage)))
    }

    fn way<'a>(
        &self,
        plain: Way<'a>,
        environment: &'a [(String, String)],
        secrets: &'a BTreeMap<String, Vec<u8>>,
        stop: &'a Cancel,
    ) -> Result<Way<'a>, Failure> {
        Ok(Way {
            proxies: self.environment.proxies(),
            env: environment,
            secrets: Secrets(secrets),
            since: Some(self.began),
            max_bytes: self.environment.max_download()?,
            stop: Some(stop),
            ..plain
        })
    }
}

/// Fetches the main context, if it is not a directory here.
fn fetch_main(way: &Way<'_>, request: &mut SourceRequest, scratch: &Path) -> Result<(), Failure> {
    let Some(remote) = request.origin.clone() else { return Ok(()) };
    let keep_git_dir = request.options.build_args.get(KEEP_GIT_DIR).and_then(|text| parse_bool(text));
    match fetch(way, &remote, "main", keep_git_dir == Some(true))? {
        source::Fetched::Files { dir, time } => {
            request.context = dir;
            request.options.context_time = time;
        }
        source::Fetched::Dockerfile(text) => {
            if !matches!(request.file, DockerfileFrom::Fetched(None)) {
                let message = format!("context {}: it is not an archive", remote.text);
                return Err(Failure::usage(message).hint("without --file, it is taken for a Dockerfile"));
            }
            let name = if remote.origin == Origin::Stdin { "stdin".to_owned() } else { remote.text };
            request.file = DockerfileFrom::Text(name, text);
            request.context = empty(scratch)?;
        }
    }
    Ok(())
}

/// Fetches the named contexts. Ok: the directory of each.
fn fetch_named(
    way: &Way<'_>,
    named: &BTreeMap<String, Remote>,
    request: &mut SourceRequest,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut directories = BTreeMap::new();
    for (number, (name, remote)) in named.iter().enumerate() {
        match fetch(way, remote, &number.to_string(), false)? {
            source::Fetched::Files { dir, time } => {
                directories.insert(name.clone(), dir);
                request.options.context_times.insert(name.clone(), time);
            }
            source::Fetched::Dockerfile(_) => {
                return Err(Failure::build(format!("context {name}: {} is not an archive", remote.text))
                    .hint("a named context is a directory, an archive, a repository or an image"));
            }
        }
    }
    Ok(directories)
}

fn fetch(way: &Way<'_>, remote: &Remote, name: &str, keep_git_dir: bool) -> Result<source::Fetched, Failure> {
    let mut stdin = std::io::stdin();
    if remote.origin == Origin::Stdin && stdin.is_terminal() {
        return Err(Failure::usage("context -: standard input is a terminal")
            .hint("give it an archive or a Dockerfile: kiln build - < context.tar"));
    }
    way.context(&remote.origin, name, keep_git_dir, &mut stdin).map_err(failed)
}

fn failed(error: source::Error) -> Failure {
    let failure = Failure::of_error(&error);
    match error {
        source::Error::NotAnArchive(_) => {
            failure.hint("a context is a directory or an archive; name the Dockerfile with -f")
        }
        source::Error::Fetch(error) => fetch_hint(&error).into_iter().fold(failure, Failure::hint),
        source::Error::Unpack(error) => error.hint().into_iter().fold(failure, Failure::hint),
        _ => failure,
    }
}

fn empty(scratch: &Path) -> Result<PathBuf, Failure> {
    let dir = scratch.join("context-empty");
    fs::create_dir(&dir, 0o755)?;
    Ok(dir)
}
