//! `kiln build` and `kiln check`: arguments and environment → a [`BuildRequest`].
//!
//! **Order.** Everything that can be found wrong without touching the Dockerfile, the context or the store is found
//! here, before anything happens (O-50); each error names its option. An option that the command line knows but that
//! cannot be honoured is an error too, never dropped (design §1.3).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::fs::FsError;
use crate::build;
use crate::build::cdi::Grants;
use crate::build::copy::SCHEMES;
use crate::build::source::Origin;
use crate::cli::args::{
    BuildArgs, CheckArgs, CompressionArg, NetworkArg, OnFailure, Progress, Pull, SnapshotterArg, SourceArgs,
};
use crate::cli::failure::{Failure, Kind};
use crate::layer::Compression;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::plan::{NamedContext, Network, Options};
use crate::sandbox;

use super::Environment;
use super::around::{self, Around};
use super::devices;
use super::docker;
use super::output::{self, Output};
use super::value;

/// A build, as far as it is known before a file is opened.
#[derive(Debug)]
pub(in crate::cli) struct BuildRequest {
    /// The Dockerfile and the context directory.
    pub(in crate::cli) source: SourceRequest,
    /// Directories of `--build-context`, by name.
    pub(in crate::cli) directories: BTreeMap<String, PathBuf>,
    /// What of `--build-context` has to be fetched, by name.
    pub(in crate::cli) remotes: BTreeMap<String, Remote>,
    /// Names for the image.
    pub(in crate::cli) tags: Vec<Reference>,
    /// Where else the result goes.
    pub(in crate::cli) outputs: Vec<Output>,
    /// How progress is shown.
    pub(in crate::cli) progress: Progress,
    /// The build ends after this time.
    pub(in crate::cli) timeout: Option<Duration>,
    /// Steps at once.
    pub(in crate::cli) jobs: Option<usize>,
    /// How layers become a root.
    pub(in crate::cli) snapshotter: SnapshotterArg,
    /// When a registry is asked what a name means.
    pub(in crate::cli) pull: build::Pull,
    /// Registries that may be spoken to without TLS, or with a certificate nobody vouches for.
    pub(in crate::cli) insecure_registries: Vec<String>,
    /// Hosts to ask before the registries.
    pub(in crate::cli) registry_mirrors: Vec<String>,
    /// How new layers are compressed.
    pub(in crate::cli) compression: Compression,
    /// What RUN without a network of its own gets.
    pub(in crate::cli) network: sandbox::Network,
    /// Hosts, resolver, limits.
    pub(in crate::cli) around: Around,
    /// Where devices are described.
    pub(in crate::cli) spec_dirs: Vec<PathBuf>,
    /// Which devices commands may have.
    pub(in crate::cli) grants: Grants,
    /// Secrets by id.
    pub(in crate::cli) secrets: BTreeMap<String, SecretFrom>,
    /// Where a command fails, a shell opens.
    pub(in crate::cli) shell: Option<Shell>,
    /// Agents by id.
    pub(in crate::cli) ssh: BTreeMap<String, SshFrom>,
    /// Receives the image id.
    pub(in crate::cli) iidfile: Option<PathBuf>,
    /// Receives what was built, as JSON.
    pub(in crate::cli) metadata_file: Option<PathBuf>,
}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::cli) enum SecretFrom {
    /// A file, read when the build starts.
    File(PathBuf),
    /// A variable's value.
    Value(Vec<u8>),
}

/// Where an agent comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum SshFrom {
    /// One that runs, by its socket.
    Agent(PathBuf),
    /// Files of keys, for an agent of ours.
    Keys(Vec<PathBuf>),
}

impl std::fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretFrom")
    }
}

/// Which Dockerfile, read with which options: all that planning needs.
#[derive(Debug)]
pub(in crate::cli) struct SourceRequest {
    /// Where the Dockerfile is.
    pub(in crate::cli) file: DockerfileFrom,
    /// The context directory; of one that is not a directory here, once it is.
    pub(in crate::cli) context: PathBuf,
    /// Where the context has to be fetched from, if it is not a directory here.
    pub(in crate::cli) origin: Option<Remote>,
    /// What planning is told.
    pub(in crate::cli) options: Options,
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
    /// In a fetched context, under this or one of the usual names; no link leads out of it (S-24, S-91).
    Fetched(Option<PathBuf>),
    /// It came in place of a context: what messages call it, and its text.
    Text(String, Vec<u8>),
}

/// A context that is no directory here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Remote {
    /// As typed, without a password.
    pub(in crate::cli) text: String,
    /// Where it is.
    pub(in crate::cli) origin: Origin,
}

/// Build arguments that are taken from the environment, under these names and in lower case.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Ok: every option is understood and can be honoured.
pub(in crate::cli) fn build(args: &BuildArgs, environment: &Environment) -> Result<BuildRequest, Failure> {
    docker::answer(&args.docker)?;
    let mut source = source(&args.source, &args.context, args.platform.as_deref(), environment)?;
    let options = &mut source.options;
    for label in &args.label {
        // `--label key` is an empty label (O-51).
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            return Err(Failure::usage(format!("--label {label:?}: the key is empty")));
        }
        options.labels.insert(key.to_owned(), value.to_owned());
    }
    options.no_cache = args.no_cache;
    options.no_cache_filter = args.no_cache_filter.iter().cloned().collect();
    options.network = match args.network {
        NetworkArg::Default | NetworkArg::Private => Network::Default,
        NetworkArg::Host => Network::Host,
        NetworkArg::None => Network::None,
    };
    let mut grants = Grants::default();
    for what in &args.allow {
        let wrong = |why: &str| Failure::usage(format!("--allow {what:?}: {why}"));
        match what.as_str() {
            "network.host" => options.allow_host_network = true,
            "security.insecure" => options.allow_insecure = true,
            other => match devices::grant(other, &mut grants) {
                Some(read) => read.map_err(|why| wrong(&why))?,
                None => return Err(wrong("want network.host, security.insecure, device or device=NAME")),
            },
        }
    }
    let (directories, remotes) = contexts(&args.build_context, options)?;
    let tags = args.tag.iter().map(|tag| name(tag)).collect::<Result<_, _>>()?;
    let outputs = args.output.iter().map(|text| output::parse(text)).collect::<Result<_, _>>()?;
    let progress = match (args.quiet, args.progress) {
        (true, None | Some(Progress::Quiet)) => Progress::Quiet,
        (true, Some(_)) => return Err(Failure::usage("--quiet and --progress contradict each other")),
        (false, Some(progress)) => progress,
        (false, None) => environment.progress()?,
    };
    let timeout = match &args.timeout {
        Some(text) => Some(value::duration(text).map_err(|why| Failure::usage(format!("--timeout {why}")))?),
        None => None,
    };
    if args.jobs == Some(0) {
        return Err(Failure::usage("--jobs 0: want at least 1"));
    }
    Ok(BuildRequest {
        source,
        directories,
        remotes,
        tags,
        outputs,
        progress,
        timeout,
        jobs: args.jobs,
        snapshotter: args.snapshotter,
        pull: match args.pull {
            Pull::Always => build::Pull::Always,
            Pull::Missing => build::Pull::Missing,
            Pull::Never => build::Pull::Never,
        },
        insecure_registries: args.insecure_registry.clone(),
        registry_mirrors: args.registry_mirror.clone(),
        compression: compression(args)?,
        network: match args.network {
            NetworkArg::Private => sandbox::Network::Private,
            _ => sandbox::Network::Host,
        },
        around: around::around(&args.around, environment)?,
        spec_dirs: devices::spec_dirs(&args.cdi_spec_dir)?,
        grants,
        secrets: secrets(&args.secret, environment)?,
        ssh: ssh(&args.ssh, environment)?,
        shell: shell(args, environment)?,
        iidfile: args.iidfile.clone(),
        metadata_file: args.metadata_file.clone(),
    })
}

/// `--on-failure=shell`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Shell {
    /// What kind of terminal there is.
    pub(in crate::cli) term: OsString,
    /// Messages around it may be coloured.
    pub(in crate::cli) colour: bool,
}

fn shell(args: &BuildArgs, environment: &Environment) -> Result<Option<Shell>, Failure> {
    if args.on_failure == OnFailure::Stop {
        return Ok(None);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("--on-failure=shell: standard input is not a terminal"));
    }
    let term = environment.non_empty("TERM").map_or_else(|| "xterm".into(), ToOwned::to_owned);
    Ok(Some(Shell { term, colour: environment.wants_colour() }))
}

/// `--compression` and its level.
fn compression(args: &BuildArgs) -> Result<Compression, Failure> {
    let level = |range: std::ops::RangeInclusive<u32>, usual: i32| match args.compression_level {
        None => Ok(usual),
        Some(level) if range.contains(&level) => Ok(level.cast_signed()),
        Some(level) => {
            let (min, max) = (range.start(), range.end());
            Err(Failure::usage(format!("--compression-level {level}: want {min} to {max}")))
        }
    };
    match args.compression {
        CompressionArg::Gzip => {
            let Compression::Gzip { level: usual } = Compression::default() else { return Ok(Compression::default()) };
            Ok(Compression::Gzip { level: level(1..=12, usual)? })
        }
        CompressionArg::Zstd => Ok(Compression::Zstd { level: level(1..=22, 3)? }),
        CompressionArg::Uncompressed if args.compression_level.is_some() => {
            Err(Failure::usage("--compression-level has no meaning with --compression uncompressed"))
        }
        CompressionArg::Uncompressed => Ok(Compression::Uncompressed),
    }
}

/// `--ssh default|ID[=SOCKET|KEY[,KEY]]` (O-34).
fn ssh(given: &[String], environment: &Environment) -> Result<BTreeMap<String, SshFrom>, Failure> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut agents = BTreeMap::new();
    for text in given {
        let wrong = |why: String| Failure::usage(format!("--ssh {text:?}: {why}"));
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        if id.is_empty() {
            return Err(wrong("the id is empty".to_owned()));
        }
        let from = if paths.is_empty() {
            let socket = environment.non_empty("SSH_AUTH_SOCK").ok_or_else(|| {
                let hint = format!("start an agent (eval $(ssh-agent)), or name keys: --ssh {id}=FILE");
                wrong("SSH_AUTH_SOCK is not set: there is no agent".to_owned()).hint(hint)
            })?;
            SshFrom::Agent(absolute(Path::new(socket)))
        } else {
            let paths: Vec<PathBuf> = paths.split(',').map(|path| absolute(Path::new(path))).collect();
            let mut sockets = 0;
            for path in &paths {
                let found = std::fs::metadata(path).map_err(|e| wrong(format!("{}: {e}", path.display())))?;
                if found.is_dir() {
                    return Err(wrong(format!("{} is a directory", path.display())));
                }
                if path.extension().is_some_and(|extension| extension == "pub") {
                    let why = format!("{} cannot be used: it is the public half", path.display());
                    return Err(wrong(why).hint(format!("give the private one: {}", path.with_extension("").display())));
                }
                sockets += usize::from(found.file_type().is_socket());
            }
            match (sockets, paths.as_slice()) {
                (0, _) => SshFrom::Keys(paths),
                (1, [socket]) => SshFrom::Agent(socket.clone()),
                _ => return Err(wrong("give one socket, or files of keys".to_owned())),
            }
        };
        if agents.insert(id.to_owned(), from).is_some() {
            return Err(wrong(format!("{id} is given twice")));
        }
    }
    Ok(agents)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `--secret id=ID[,src=FILE|,env=VAR]`: without a source, the variable of that name, else the file of that name
/// (M-12).
fn secrets(given: &[String], environment: &Environment) -> Result<BTreeMap<String, SecretFrom>, Failure> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let wrong = |why: &str| Failure::usage(format!("--secret {text:?}: {why}"));
        let (mut id, mut file, mut variable) = (None, None, None);
        for (key, value) in value::fields(text).map_err(|why| Failure::usage(format!("--secret {why}")))? {
            let value = value.ok_or_else(|| wrong("want id=ID,src=FILE or id=ID,env=VARIABLE"))?;
            match key.as_str() {
                "id" => id = Some(value),
                "src" | "source" => file = Some(value),
                "env" => variable = Some(value),
                "type" if value == "file" => {}
                "type" if value == "env" => variable = variable.or(id.clone()),
                "type" => return Err(wrong("type is file or env")),
                _ => return Err(wrong(&format!("{key} is no attribute of a secret: want id, src or env"))),
            }
        }
        let id = id.filter(|id| !id.is_empty()).or_else(|| file.as_ref().map(|path| base_name(path)));
        let id = id.ok_or_else(|| wrong("the id is missing"))?;
        let value =
            |name: &str| environment.get(name).map(|value| SecretFrom::Value(value.as_encoded_bytes().to_vec()));
        let from = match (file, variable) {
            (Some(_), Some(_)) => return Err(wrong("src and env contradict each other")),
            (Some(file), None) if file.starts_with("~/") && !Path::new(&file).exists() => {
                let shell = "the shell expands ~ at the beginning of a word only";
                return Err(wrong(&format!("there is no file {file}")).hint(format!("{shell}: write $HOME instead")));
            }
            (Some(file), None) => SecretFrom::File(PathBuf::from(file)),
            (None, Some(name)) => value(&name).ok_or_else(|| wrong(&format!("the variable {name} is not set")))?,
            (None, None) => match value(&id) {
                Some(value) => value,
                None if Path::new(&id).exists() => SecretFrom::File(PathBuf::from(&id)),
                None => {
                    return Err(wrong(&format!("there is neither a variable nor a file {id}"))
                        .hint(format!("say where it is: --secret id={id},src=FILE or id={id},env=VARIABLE")));
                }
            },
        };
        if secrets.insert(id, from).is_some() {
            return Err(wrong("this id was given before"));
        }
    }
    Ok(secrets)
}

fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// Ok: every option is understood.
pub(in crate::cli) fn check(args: &CheckArgs, environment: &Environment) -> Result<SourceRequest, Failure> {
    source(&args.source, &args.context, args.platform.as_deref(), environment)
}

fn source(
    args: &SourceArgs,
    context: &str,
    platform: Option<&str>,
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
    let platform = match platform {
        None => Platform::host(),
        Some(text) if text.contains(',') => {
            return Err(Failure::usage("--platform: more than one platform is not supported yet"));
        }
        Some(text) => text.parse().map_err(|e| Failure::usage(format!("--platform: {e}")))?,
    };
    let mut options = Options::new(platform);
    options.build_platform = Platform::host();
    options.target = args.target.clone();
    options.build_args = build_args(&args.build_arg, environment)?;
    Ok(SourceRequest { file, context, origin, options })
}

/// A context (O-1): a directory that is there, or what has to be fetched.
fn context_of(text: &str) -> Result<Result<PathBuf, Remote>, Failure> {
    let path = match Origin::parse(text).map_err(|e| Failure::usage(format!("context {e}")))? {
        Origin::Directory(path) => path,
        origin => return Ok(Err(Remote { text: build::fetch::shown(text), origin })),
    };
    match path.metadata().map_err(|e| FsError::new("open context", &path, e)) {
        Ok(found) if found.is_dir() => Ok(Ok(path)),
        Ok(_) => Err(Failure::build(format!("context {text:?} is neither a directory nor a file"))
            .hint("the context is the directory that COPY reads from; name the Dockerfile with -f")),
        Err(e) if e.is_not_found() => {
            let failure = Failure::build(format!("context {text:?} does not exist"));
            Err(if text.contains("://") { failure.hint(SCHEMES) } else { failure })
        }
        Err(e) => Err(Failure::from_error(Kind::Build, &e)),
    }
}

/// `--build-arg`, over what the environment gives: proxies (O-32) and SOURCE_DATE_EPOCH (O-57).
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
        // without a value, that of the environment; if there is none, as if it was not given.
        match value.map_or_else(|| utf8(key), |value| Ok(Some(value)))? {
            Some(value) => all.insert(key.to_owned(), value),
            None => all.remove(key),
        };
    }
    Ok(all)
}

/// Contexts by name: directories, and what has to be fetched.
type Contexts = (BTreeMap<String, PathBuf>, BTreeMap<String, Remote>);

/// `--build-context`: what planning is told, and the directories to open.
fn contexts(given: &[String], options: &mut Options) -> Result<Contexts, Failure> {
    let (mut directories, mut remotes) = Contexts::default();
    for text in given {
        let wrong = |why: String| Failure::usage(format!("--build-context {why}"));
        let (name, source) = value::pair(text).map_err(wrong)?;
        let name = name.to_ascii_lowercase();
        let stage = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !stage && name.parse::<Reference>().is_err() {
            return Err(wrong(format!("{name:?}: FROM and --from name a stage or an image, and this can be neither")));
        }
        let context = if let Some(image) = source.strip_prefix("docker-image://") {
            NamedContext::Image(image.parse().map_err(|e| wrong(format!("{name}: {e}")))?)
        } else if let Some(layout) = source.strip_prefix("oci-layout://") {
            NamedContext::Layout(layout.to_owned())
        } else {
            match context_of(source)? {
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

/// `-t`: a name without a digest (O-50).
fn name(text: &str) -> Result<Reference, Failure> {
    let reference: Reference = text.parse().map_err(|e| {
        let failure = Failure::usage(format!("--tag: {e}"));
        match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => failure.hint(format!("names are lower-case: {}", text.to_ascii_lowercase())),
            false => failure,
        }
    })?;
    match reference.digest {
        Some(_) => Err(Failure::usage(format!("--tag {text:?}: an image's digest is a result, not a choice"))),
        None => Ok(reference),
    }
}

impl Environment {
    /// `$BUILDKIT_PROGRESS`, as docker reads it (O-70).
    fn progress(&self) -> Result<Progress, Failure> {
        use clap::ValueEnum as _;
        match self.non_empty("BUILDKIT_PROGRESS") {
            None => Ok(Progress::Auto),
            Some(text) => Progress::from_str(&text.to_string_lossy(), true)
                .map_err(|_| Failure::usage(format!("BUILDKIT_PROGRESS={text:?}: want auto, plain, json or quiet"))),
        }
    }
}
