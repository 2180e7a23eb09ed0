//! Dockerfile, contexts and planning options: common to `kiln build` and `kiln check`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::fs::FsError;
use crate::base::url::redacted;
use crate::cli::args::{CaArgs, CheckArgs, SourceArgs};
use crate::cli::failure::{Failure, Kind, SCHEMES};
use crate::device::Grants;
use crate::engine::source::Origin;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::plan::{NamedContext, Options};
use crate::transport::Authorities;

use super::{Environment, devices};

/// A Dockerfile, its context and the options of planning.
#[derive(Debug)]
pub(in crate::cli) struct SourceRequest {
    /// Where the Dockerfile is.
    pub(in crate::cli) file: DockerfileFrom,
    /// The context directory; of a remote context, once it is fetched.
    pub(in crate::cli) context: PathBuf,
    /// The source of a remote context.
    pub(in crate::cli) origin: Option<Remote>,
    /// The options of planning.
    pub(in crate::cli) options: Options,
    /// The authorities of `--ca-cert`.
    pub(in crate::cli) authorities: Option<Authorities>,
}

/// Where the Dockerfile is (P-21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum DockerfileFrom {
    /// In the context under one of the usual names.
    Context,
    /// `-f FILE`, relative to the working directory.
    Path(PathBuf),
    /// `-f URL`.
    Url(String),
    /// `-f -`.
    Stdin,
    /// In a fetched context, under this or one of the usual names; links do not lead out of it (S-24, S-91).
    Fetched(Option<PathBuf>),
    /// In place of a context: its name in messages, and its text.
    Text(String, Vec<u8>),
}

/// A remote context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Remote {
    /// As typed, without a password.
    pub(in crate::cli) text: String,
    /// Where it is.
    pub(in crate::cli) origin: Origin,
}

/// Build arguments that are taken from the environment, also in lower case.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Ok: every option is valid.
pub(in crate::cli) fn check(args: &CheckArgs, environment: &Environment) -> Result<SourceRequest, Failure> {
    let mut request = source(&args.source, &args.context, args.platform.as_deref(), &args.ca, environment)?;
    allow(&args.allow, &mut request.options, &mut Grants::default())?;
    Ok(request)
}

/// `--allow`.
pub(super) fn allow(given: &[String], options: &mut Options, grants: &mut Grants) -> Result<(), Failure> {
    for what in given {
        let wrong = |why: &str| Failure::usage(format!("--allow {what:?}: {why}"));
        match what.as_str() {
            "network.host" => options.allow_host_network = true,
            "security.insecure" => options.allow_insecure = true,
            other => match devices::grant(other, grants) {
                Some(read) => read.map_err(|why| wrong(&why))?,
                None => return Err(wrong("want network.host, security.insecure, device or device=NAME")),
            },
        }
    }
    Ok(())
}

pub(super) fn source(
    args: &SourceArgs,
    context: &str,
    platform: Option<&str>,
    ca: &CaArgs,
    environment: &Environment,
) -> Result<SourceRequest, Failure> {
    let file = match args.file.as_deref() {
        None => DockerfileFrom::Context,
        Some("-") => DockerfileFrom::Stdin,
        Some("") => return Err(Failure::usage("--file: the path is empty")),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => DockerfileFrom::Url(url.to_owned()),
        Some(path) => DockerfileFrom::Path(PathBuf::from(path)),
    };
    let (context, origin) = match context_of(context)? {
        Ok(dir) => (dir, None),
        Err(remote) => (PathBuf::new(), Some(remote)),
    };
    let file = match (file, &origin) {
        (DockerfileFrom::Stdin, Some(Remote { origin: Origin::Stdin, .. })) => {
            return Err(Failure::usage("--file - and context -: standard input cannot be both"));
        }
        (DockerfileFrom::Context, Some(_)) => DockerfileFrom::Fetched(None),
        (DockerfileFrom::Path(path), Some(_)) => DockerfileFrom::Fetched(Some(path)),
        (file, _) => file,
    };
    // An empty value counts as none, as in Docker.
    let asked = platform.filter(|text| !text.is_empty());
    let platform = match asked {
        None => Platform::host(),
        Some(text) if text.contains(',') => {
            return Err(Failure::usage("--platform: more than one platform is not supported yet"));
        }
        Some(text) => text.parse().map_err(|e| Failure::usage(format!("--platform: {e}")))?,
    };
    let mut options = Options::new(platform);
    options.platform_given = asked.is_some();
    options.build_platform = Platform::host();
    options.target = args.target.clone().filter(|target| !target.is_empty());
    options.build_args = build_args(&args.build_arg, environment)?;
    Ok(SourceRequest { file, context, origin, options, authorities: environment.authorities(ca)? })
}

/// A context (O-1): a local directory, or a remote source.
fn context_of(text: &str) -> Result<Result<PathBuf, Remote>, Failure> {
    let path = match Origin::parse(text).map_err(|e| Failure::usage(format!("context {e}")))? {
        Origin::Directory(path) => path,
        origin => return Ok(Err(Remote { text: redacted(text), origin })),
    };
    match path.metadata().map_err(|e| FsError::new("open context", &path, e)) {
        Ok(found) if found.is_dir() => Ok(Ok(path)),
        Ok(_) => Err(Failure::build(format!("context {text:?} is neither a directory nor a file"))
            .hint("name the directory that COPY reads from, and the Dockerfile with -f")),
        Err(e) if e.is_not_found() => {
            let failure = Failure::build(format!("context {text:?} does not exist"));
            Err(if text.contains("://") { failure.hint(SCHEMES) } else { failure })
        }
        Err(e) => Err(Failure::from_error(Kind::Build, &e)),
    }
}

/// `--build-arg`, on top of proxies (O-32) and SOURCE_DATE_EPOCH (O-57) from the environment.
fn build_args(given: &[String], environment: &Environment) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    let utf8 = |name: &str| match environment.get(name).map(|value| value.to_str()) {
        Some(None) => Err(Failure::usage(format!("the environment variable {name} is not UTF-8"))),
        Some(Some(value)) => Ok(Some(value.to_owned())),
        None => Ok(None),
    };
    for name in PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]) {
        if let Some(value) = utf8(&name)?.filter(|value| !value.is_empty()) {
            all.insert(name, value);
        }
    }
    if let Some(epoch) = utf8("SOURCE_DATE_EPOCH")?.filter(|value| !value.is_empty()) {
        all.insert("SOURCE_DATE_EPOCH".to_owned(), epoch);
    }
    for text in given {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), None),
        };
        if key.is_empty() {
            return Err(Failure::usage(format!("--build-arg {text:?}: the name is empty")));
        }
        // Without a value, that of the environment; if it is unset, the argument is not given.
        match value.map_or_else(|| utf8(key), |value| Ok(Some(value)))? {
            Some(value) => all.insert(key.to_owned(), value),
            None => all.remove(key),
        };
    }
    Ok(all)
}

/// Contexts by name: directories and remote sources.
pub(super) type Contexts = (BTreeMap<String, PathBuf>, BTreeMap<String, Remote>);

/// `--build-context`: sets the planning options and returns the sources.
pub(super) fn contexts(given: &[String], options: &mut Options) -> Result<Contexts, Failure> {
    let (mut directories, mut remotes) = Contexts::default();
    for text in given {
        let wrong = |why: String| Failure::usage(format!("--build-context {why}"));
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, source) = pair.ok_or_else(|| wrong(format!("{text:?}: want NAME=SOURCE")))?;
        let name = context_name(name).map_err(wrong)?;
        let context = if source == "docker-image://scratch" {
            NamedContext::Scratch
        } else if let Some(image) = source.strip_prefix("docker-image://") {
            NamedContext::Image(image.parse().map_err(|e| wrong(format!("{name}: {e}")))?)
        } else if let Some(layout) = source.strip_prefix("oci-layout://") {
            NamedContext::Layout(layout.to_owned())
        } else {
            match context_of(source).map_err(|f| f.prefixed(&format!("--build-context {name}: ")))? {
                Ok(dir) => drop(directories.insert(name.clone(), dir)),
                Err(Remote { origin: Origin::Stdin, .. }) => {
                    return Err(wrong(format!("{name}: standard input can only be the main context")));
                }
                Err(remote) => drop(remotes.insert(name.clone(), remote)),
            }
            NamedContext::Local
        };
        if options.contexts.insert(name.clone(), context).is_some() {
            return Err(wrong(format!("{name}: given twice")));
        }
    }
    Ok((directories, remotes))
}

/// `NAME` or `NAME::PLATFORM`, normalised (F-11).
fn context_name(text: &str) -> Result<String, String> {
    let (name, platform) = match text.split_once("::") {
        Some((name, platform)) => (name, Some(platform.parse::<Platform>().map_err(|e| format!("{text:?}: {e}"))?)),
        None => (text, None),
    };
    let name = name.to_ascii_lowercase();
    let stage = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !stage && name.parse::<Reference>().is_err() {
        return Err(format!("{name:?}: neither the name of a stage nor of an image"));
    }
    Ok(platform.map_or(name.clone(), |platform| format!("{name}::{platform}")))
}
