//! Fetching remote contexts into scratch, for the duration of one command.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use crate::base::fs;
use crate::base::time::Timestamp;
use crate::base::url::redacted;
use crate::dockerfile::mount::parse_bool;
use crate::engine::source::{self, Origin};
use crate::fetch::{FetchError, Remote as Fetcher, Secrets};
use crate::plan::{EpochSource, KEEP_GIT_DIR};
use crate::sandbox::Cancel;
use crate::store::Scratch;
use crate::transport::Authorities;

use super::failure::{Failure, copy_hint, fetch_hint};
use super::locate;
use super::request::{DockerfileFrom, Remote, SourceRequest};
use super::session::Session;

/// Fetched contexts; dropping this removes them.
#[derive(Default)]
pub(super) struct Fetched {
    /// The named contexts.
    pub(super) directories: BTreeMap<String, PathBuf>,
    _scratch: Option<Scratch>,
}

impl Session<'_> {
    /// Fetches the main context of `request`, if it is not a local directory, and the contexts in `named`. `secrets` and
    /// `agent` authenticate; `stop` cancels.
    ///
    /// Ok: `request.context` is a directory, and `request.file` says where the Dockerfile is.
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
        let authorities = request.authorities.clone();
        let plain = Fetcher { authorities: authorities.as_ref(), ..Fetcher::new(&cache, scratch.path()) };
        let fetcher = self.fetcher(plain, &environment, secrets, stop)?;
        fetch_main(&fetcher, request, scratch.path())?;
        if let Some(url) = dockerfile {
            let unfetched = |error: FetchError| {
                let failure = Failure::of_error(&error).prefixed("read Dockerfile: ");
                fetch_hint(&error).into_iter().fold(failure, Failure::hint)
            };
            let file = fetcher.http(&url, None).map_err(unfetched)?;
            request.file = DockerfileFrom::Text(redacted(&url), locate::downloaded(&file.path, &redacted(&url))?);
        }
        let directories = fetch_named(&fetcher, named, request)?;
        Ok(Fetched { directories, _scratch: Some(scratch) })
    }

    /// The modification time of the source that SOURCE_DATE_EPOCH names, if it has one.
    pub(super) fn time_of(
        &self,
        source: &EpochSource,
        secrets: &BTreeMap<String, Vec<u8>>,
        agent: Option<&Path>,
        authorities: Option<&Authorities>,
        stop: &Cancel,
    ) -> Result<Option<Timestamp>, Failure> {
        let store = self.store()?;
        let scratch = store.scratch()?;
        let cache = store.fetched_dir();
        let environment = self.environment.for_git(agent);
        let plain = Fetcher { authorities, ..Fetcher::new(&cache, scratch.path()) };
        let fetcher = self.fetcher(plain, &environment, secrets, stop)?;
        fetcher.time_of(source).map_err(|e| failed(e).prefixed(&format!("SOURCE_DATE_EPOCH={}: ", source.stage)))
    }

    fn fetcher<'a>(
        &self,
        plain: Fetcher<'a>,
        environment: &'a [(String, String)],
        secrets: &'a BTreeMap<String, Vec<u8>>,
        stop: &'a Cancel,
    ) -> Result<Fetcher<'a>, Failure> {
        Ok(Fetcher {
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

/// Fetches the main context, if it is not a local directory.
fn fetch_main(fetcher: &Fetcher<'_>, request: &mut SourceRequest, scratch: &Path) -> Result<(), Failure> {
    let Some(remote) = request.origin.clone() else { return Ok(()) };
    let keep_git_dir = request.options.build_args.get(KEEP_GIT_DIR).and_then(|text| parse_bool(text));
    match fetch(fetcher, &remote, "main", keep_git_dir == Some(true))? {
        source::Fetched::Files { dir, time } => {
            request.context = dir;
            request.options.context_time = time;
        }
        source::Fetched::Dockerfile(text) => {
            if !matches!(request.file, DockerfileFrom::Fetched(None)) {
                let message = format!("context {} is not an archive", remote.text);
                return Err(Failure::usage(message).hint("omit --file to use it as the Dockerfile"));
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
    fetcher: &Fetcher<'_>,
    named: &BTreeMap<String, Remote>,
    request: &mut SourceRequest,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut directories = BTreeMap::new();
    for (number, (name, remote)) in named.iter().enumerate() {
        match fetch(fetcher, remote, &number.to_string(), false)? {
            source::Fetched::Files { dir, time } => {
                directories.insert(name.clone(), dir);
                request.options.context_times.insert(name.clone(), time);
            }
            source::Fetched::Dockerfile(_) => {
                return Err(Failure::build(format!("context {name}: {} is not an archive", remote.text))
                    .hint("name a directory, an archive, a repository or an image"));
            }
        }
    }
    Ok(directories)
}

fn fetch(fetcher: &Fetcher<'_>, remote: &Remote, name: &str, keep_git_dir: bool) -> Result<source::Fetched, Failure> {
    let mut stdin = std::io::stdin();
    if remote.origin == Origin::Stdin && stdin.is_terminal() {
        return Err(Failure::usage("context -: standard input is a terminal")
            .hint("pipe an archive or a Dockerfile into kiln: kiln build - < context.tar"));
    }
    fetcher.context(&remote.origin, name, keep_git_dir, &mut stdin).map_err(failed)
}

fn failed(error: source::Error) -> Failure {
    let failure = Failure::of_error(&error);
    match error {
        source::Error::NotAnArchive(_) => {
            failure.hint("a context is a directory or an archive; name the Dockerfile with -f")
        }
        source::Error::Fetch(error) => fetch_hint(&error).into_iter().fold(failure, Failure::hint),
        source::Error::Unpack(error) => copy_hint(&error).into_iter().fold(failure, Failure::hint),
        _ => failure,
    }
}

fn empty(scratch: &Path) -> Result<PathBuf, Failure> {
    let dir = scratch.join("context-empty");
    fs::create_dir(&dir, 0o755)?;
    Ok(dir)
}
