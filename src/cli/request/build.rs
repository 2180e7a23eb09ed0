//! `kiln build`: arguments and environment → a [`BuildRequest`].
//!
//! **Order.** Everything that can be checked without the Dockerfile, the context or the store is checked here, before anything
//! happens (O-50). Each error names its option. An option that cannot be honoured is an error (N-8).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args::{BuildArgs, CompressionArg, NetworkArg, OnFailure, Progress, SnapshotterArg};
use crate::cli::failure::Failure;
use crate::device::Grants;
use crate::engine;
use crate::layer::Compression;
use crate::oci::reference::Reference;
use crate::plan::{MaxAge, Network, Options};
use crate::sandbox;

use super::Environment;
use super::cache::{self, CacheFrom, CacheTo};
use super::container::{self, Container};
use super::devices;
use super::output::{self, Asked, Output};
use super::secret::{SecretFrom, secrets};
use super::source::{Remote, SourceRequest, allow, contexts, source};
use super::ssh::{SshFrom, ssh};
use super::value;

/// A build, before any file is opened.
#[derive(Debug)]
pub(in crate::cli) struct BuildRequest {
    /// The Dockerfile and the context directory.
    pub(in crate::cli) source: SourceRequest,
    /// Directories of `--build-context`, by name.
    pub(in crate::cli) directories: BTreeMap<String, PathBuf>,
    /// Remote contexts of `--build-context`, by name.
    pub(in crate::cli) remotes: BTreeMap<String, Remote>,
    /// Names for the image.
    pub(in crate::cli) tags: Vec<Reference>,
    /// Where the result is written besides the store.
    pub(in crate::cli) outputs: Vec<Output>,
    /// The image is pushed under each of its names.
    pub(in crate::cli) push: bool,
    /// How progress is shown.
    pub(in crate::cli) progress: Progress,
    /// The build is stopped after this time.
    pub(in crate::cli) timeout: Option<Duration>,
    /// Steps at the same time.
    pub(in crate::cli) jobs: Option<usize>,
    /// How roots are created.
    pub(in crate::cli) snapshotter: SnapshotterArg,
    /// When tags are resolved at a registry.
    pub(in crate::cli) pull: engine::Pull,
    /// Registries that may be used without TLS or with an unknown certificate.
    pub(in crate::cli) insecure_registries: Vec<String>,
    /// How new layers are compressed.
    pub(in crate::cli) compression: Compression,
    /// The network of a RUN without `--network`.
    pub(in crate::cli) network: sandbox::Network,
    /// Hosts, resolver, limits.
    pub(in crate::cli) container: Container,
    /// Directories with CDI files.
    pub(in crate::cli) spec_dirs: Vec<PathBuf>,
    /// Devices that are allowed.
    pub(in crate::cli) grants: Grants,
    /// Secrets by id.
    pub(in crate::cli) secrets: BTreeMap<String, SecretFrom>,
    /// Open a shell when a command fails.
    pub(in crate::cli) shell: Option<Shell>,
    /// Agents by id.
    pub(in crate::cli) ssh: BTreeMap<String, SshFrom>,
    /// Shared caches that are read, in this order.
    pub(in crate::cli) cache_from: Vec<CacheFrom>,
    /// Shared caches that are written.
    pub(in crate::cli) cache_to: Vec<CacheTo>,
    /// How long the end of the build waits for them.
    pub(in crate::cli) cache_timeout: Duration,
    /// Receives the image id.
    pub(in crate::cli) iidfile: Option<PathBuf>,
    /// Receives what was built, as JSON.
    pub(in crate::cli) metadata_file: Option<PathBuf>,
}

/// Ok: every option is valid and can be honoured.
pub(in crate::cli) fn build(args: &BuildArgs, environment: &Environment) -> Result<BuildRequest, Failure> {
    if let Some((name, value, instead)) = args.foreign.refused() {
        let given = if value == "true" { String::new() } else { format!("={value}") };
        return Err(Failure::usage(format!("--{name}{given} is not supported")).hint(instead));
    }
    let ca = &args.registries.connection.ca;
    let mut source = source(&args.source, &args.context, args.platform.as_deref(), ca, environment)?;
    let mut grants = Grants::default();
    allow(&args.allow, &mut source.options, &mut grants)?;
    let (directories, remotes) = contexts(&args.build_context, &mut source.options)?;
    planning(args, &mut source.options)?;
    let results = results(args)?;
    let progress = progress(args, environment)?;
    let shares_host = matches!(args.network, NetworkArg::Default | NetworkArg::Host);
    let timeout = args.timeout.as_deref().map(value::duration).transpose();
    let timeout = timeout.map_err(|why| Failure::usage(format!("--timeout {why}")))?;
    if args.jobs == Some(0) {
        return Err(Failure::usage("--jobs 0: want at least 1"));
    }
    Ok(BuildRequest {
        source,
        directories,
        remotes,
        tags: results.tags,
        outputs: results.outputs,
        push: results.push,
        progress,
        timeout,
        jobs: args.jobs,
        snapshotter: args.snapshotter,
        pull: args.pull.into(),
        insecure_registries: results.insecure_registries,
        compression: compression(args)?,
        network: match args.network {
            NetworkArg::Private => sandbox::Network::Private,
            _ => sandbox::Network::Host,
        },
        container: container::container(&args.container, shares_host, environment)?,
        spec_dirs: devices::spec_dirs(&args.cdi_spec_dir)?,
        grants,
        secrets: secrets(&args.secret, environment)?,
        ssh: ssh(&args.ssh, environment)?,
        shell: shell(args, environment)?,
        cache_from: args.cache_from.iter().map(|text| cache::from(text, environment)).collect::<Result<_, _>>()?,
        cache_to: args.cache_to.iter().map(|text| cache::to(text, environment)).collect::<Result<_, _>>()?,
        cache_timeout: value::duration(&args.cache_timeout)
            .map_err(|why| Failure::usage(format!("--cache-timeout {why}")))?,
        iidfile: args.iidfile.clone(),
        metadata_file: args.metadata_file.clone(),
    })
}

/// Sets the planning options that only `build` has.
fn planning(args: &BuildArgs, options: &mut Options) -> Result<(), Failure> {
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
    options.max_age = args.max_age.iter().map(|text| max_age(text)).collect::<Result<_, _>>()?;
    options.network = match args.network {
        NetworkArg::Default | NetworkArg::Private => Network::Default,
        NetworkArg::Host => Network::Host,
        NetworkArg::None => Network::None,
    };
    Ok(())
}

/// `--max-age PATTERN=DURATION`.
fn max_age(text: &str) -> Result<MaxAge, Failure> {
    let wrong = |why: &str| Failure::usage(format!("--max-age {text:?}: {why}"));
    let (pattern, age) = text.rsplit_once('=').ok_or_else(|| wrong("want PATTERN=DURATION"))?;
    let age = value::duration(age).map_err(|why| wrong(&why))?;
    if pattern.is_empty() {
        return Err(wrong("the pattern is empty"));
    }
    MaxAge::new(pattern, age).map_err(|c| wrong(&format!("`\\{c}` is not an escape: want \\*, \\? or \\\\")))
}

/// `--quiet`, `--progress`, else `$BUILDKIT_PROGRESS`.
fn progress(args: &BuildArgs, environment: &Environment) -> Result<Progress, Failure> {
    match (args.quiet, args.progress) {
        (true, None | Some(Progress::Quiet)) => Ok(Progress::Quiet),
        (true, Some(_)) => Err(Failure::usage("--quiet and --progress contradict each other")),
        (false, Some(progress)) => Ok(progress),
        (false, None) => environment.progress(),
    }
}

/// `--on-failure=shell`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Shell {
    /// `TERM` of the shell.
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
    let level = |name: &str, range: std::ops::RangeInclusive<u32>, usual: i32| match args.compression_level {
        None => Ok(usual),
        Some(level) if range.contains(&level) => Ok(level.cast_signed()),
        Some(level) => {
            let (min, max) = (range.start(), range.end());
            Err(Failure::usage(format!("--compression-level {level}: want {min} to {max} for {name}")))
        }
    };
    match args.compression {
        CompressionArg::Gzip => {
            let Compression::Gzip { level: usual } = Compression::default() else { return Ok(Compression::default()) };
            Ok(Compression::Gzip { level: level("gzip", 1..=12, usual)? })
        }
        CompressionArg::Zstd => Ok(Compression::Zstd { level: level("zstd", 1..=22, 3)? }),
        CompressionArg::Uncompressed if args.compression_level.is_some() => {
            Err(Failure::usage("--compression-level has no effect with --compression uncompressed"))
        }
        CompressionArg::Uncompressed => Ok(Compression::Uncompressed),
    }
}

/// `-t`: a name without a digest (O-50).
/// What becomes of the image.
#[derive(Default)]
struct Results {
    tags: Vec<Reference>,
    outputs: Vec<Output>,
    push: bool,
    insecure_registries: Vec<String>,
}

fn results(args: &BuildArgs) -> Result<Results, Failure> {
    let mut results = Results {
        push: args.push,
        insecure_registries: args.registries.insecure_registry.clone(),
        ..Results::default()
    };
    for text in &args.tag {
        results.tags.push(name("--tag", text)?);
    }
    let mut insecure = false;
    for text in &args.output {
        match output::parse(text)? {
            Asked::Files(output) => results.outputs.push(output),
            Asked::Image(image) => {
                for text in &image.names {
                    results.tags.push(name("--output name", text)?);
                }
                results.push |= image.push;
                insecure |= image.insecure;
            }
        }
    }
    if insecure {
        results.insecure_registries.extend(results.tags.iter().map(|name| name.registry.clone()));
    }
    if results.push && results.tags.is_empty() {
        return Err(Failure::usage("a push needs the name of the image").hint("name it with -t HOST/NAME[:TAG]"));
    }
    Ok(results)
}

fn name(option: &str, text: &str) -> Result<Reference, Failure> {
    let reference: Reference = text.parse().map_err(|e| {
        let failure = Failure::usage(format!("{option}: {e}"));
        match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => failure.hint(format!("names are lower-case: {}", text.to_ascii_lowercase())),
            false => failure,
        }
    })?;
    match reference.digest {
        Some(_) => Err(Failure::usage(format!("{option} {text:?}: a digest cannot be chosen"))),
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
