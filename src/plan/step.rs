//! A step of the plan: everything that its execution and its key need, with variables expanded.
//!
//! `Serialize` writes the part of a [`StepKind`] that goes into its key. It skips what is known only at run time: an
//! image's digest and the files selected from a context or another step, which enter a key as digests, and the devices
//! of the host, which enter as names. It also skips proxy variables, which are in no key.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dockerfile::Span;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::device::Device;

/// Identifies a step of one plan. A step's inputs have smaller ids than the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

impl StepId {
    /// The position in `Plan::steps`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for StepId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A step of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its position in the plan.
    pub id: StepId,
    /// What to do.
    pub kind: StepKind,
    /// The steps it depends on. For `Run`, `Copy` and `Workdir` the first provides the filesystem to work on; mounts or
    /// `--from` read the others, each listed once. `Base` has none.
    pub inputs: Vec<StepId>,
    /// Data that is in no key.
    pub meta: StepMeta,
}

impl Step {
    /// Whether it is a `COPY --link` or `ADD --link`, which does not depend on the files below it.
    pub(crate) fn is_linked(&self) -> bool {
        matches!(&self.kind, StepKind::Copy(copy) if copy.link)
    }

    /// The steps whose files it reads, besides the one that it works on.
    pub(crate) fn sources(&self) -> Vec<StepId> {
        let step = |from: &CopyFrom| match from {
            CopyFrom::Step(id) => Some(*id),
            CopyFrom::Context(_) => None,
        };
        match &self.kind {
            StepKind::Copy(copy) => step(&copy.from).into_iter().collect(),
            StepKind::Run(run) => run.mounts.iter().filter_map(Mount::from).filter_map(step).collect(),
            StepKind::Base(_) | StepKind::Workdir(_) => Vec::new(),
        }
    }
}

/// Data for display and for finding the previous result of the same instruction; never hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMeta {
    /// The instruction in the Dockerfile; for a trigger, the FROM that fired it.
    pub span: Span,
    /// `[builder 2/5] RUN make`.
    pub name: String,
    /// Run it even if a record exists; the record is still written (O-40, O-41).
    pub no_cache: bool,
    /// Run it again if the recorded result is older.
    pub max_age: Option<Duration>,
    /// Index of the stage in the Dockerfile; of the first one, if several stages share the step.
    pub stage: usize,
    /// The instruction's position in the Dockerfile, `stage/ordinal`: the previous result is recorded under it, to
    /// explain misses.
    pub slot: String,
    /// For a step of an ONBUILD trigger, the trigger's text and origin (I-13).
    pub origin: Option<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// The start of a filesystem; makes no layer of its own.
    Base(Base),
    /// RUN.
    Run(Run),
    /// COPY or ADD.
    Copy(Copy),
    /// WORKDIR: creates a directory if it is missing.
    Workdir(Workdir),
}

/// The start of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Nothing (F-5).
    Scratch,
    /// The layers of an image; keyed by the digest that its name resolves to.
    Image(#[serde(skip)] Box<ImageRequest>),
    /// The files of a named local context (F-11); keyed by their content.
    Context(#[serde(skip)] ContextName),
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Which image.
    pub image: ImageName,
    /// For which platform.
    pub platform: Platform,
}

/// The name of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageName {
    /// In the store or a registry.
    Reference(Reference),
    /// In an OCI layout directory, from `--build-context n=oci-layout://dir[:tag][@digest]`: the text after `//`.
    Layout(String),
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImageName::Reference(reference) => write!(f, "{reference}"),
            ImageName::Layout(at) => write!(f, "oci-layout://{at}"),
        }
    }
}

/// A build context; the caller opens it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextName {
    /// The build context.
    Main,
    /// `--build-context NAME=…`.
    Named(String),
}

/// Where files are read from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyFrom {
    /// A context.
    Context(ContextName),
    /// The filesystem after a step; one of `Step::inputs`.
    Step(StepId),
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Run {
    /// The argument vector: shell and script, or the exec form as written.
    pub argv: Vec<String>,
    /// The image's environment at this point, in order of definition, without the names that `args` hides; has PATH.
    /// No HOME: it is derived from the user when the command runs.
    pub env: Vec<(String, String)>,
    /// Declared arguments that have a value, in order of declaration; their names are not in `env` (V-14).
    pub args: Vec<(String, String)>,
    /// Proxy variables that no ARG declares: visible to the process, but in no key and no history (A-6, S-113).
    #[serde(skip)]
    pub proxy: Vec<(String, String)>,
    /// `name`, `uid`, `name:group`, `uid:gid`; empty = root.
    pub user: String,
    /// Absolute; created if missing.
    pub cwd: String,
    /// In written order (M-21): a later one covers an earlier one.
    pub mounts: Vec<Mount>,
    /// The network of the command.
    pub network: Network,
    /// The privileges of the command.
    pub security: Security,
    /// Devices of the host, in written order; keyed by the names of those that are found.
    #[serde(skip)]
    pub devices: Vec<Device>,
    /// Scripts of heredocs with a `#!` line, in order (P-17); each is executable and mounted read-only at its path.
    pub files: Vec<RunFile>,
    /// `BUILDKIT_SANDBOX_HOSTNAME`, else `buildkitsandbox`.
    pub hostname: String,
    /// The platform of the command.
    pub platform: Platform,
}

impl Run {
    /// The environment of the process, except HOME and secrets. Names are unique.
    pub fn environment(&self) -> impl Iterator<Item = &(String, String)> {
        let hidden = |name: &str| self.args.iter().chain(&self.env).any(|(n, _)| n == name);
        self.env.iter().chain(&self.args).chain(self.proxy.iter().filter(move |(n, _)| !hidden(n)))
    }
}

/// A heredoc that is executed as a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RunFile {
    /// Absolute, under `/dev/pipes`.
    pub path: String,
    /// Its bytes.
    pub content: String,
}

/// `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The default of the build.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host network.
    Host,
}

/// `--security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// The default profile.
    #[default]
    Sandbox,
    /// All capabilities that the build has.
    Insecure,
}

/// `RUN --mount`: visible during one RUN and never in its layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// Files of a context or a step (M-3…M-5).
    Bind {
        /// Absolute and clean; never `/`.
        target: String,
        /// Where the files come from; keyed by their content.
        #[serde(skip)]
        from: CopyFrom,
        /// Absolute path in `from`.
        source: String,
        /// Writes are possible, and discarded.
        writable: bool,
    },
    /// A directory that outlives the build (M-6…M-10).
    Cache {
        /// Absolute and clean; never `/`.
        target: String,
        /// Prefixed with `BUILDKIT_CACHE_MOUNT_NS/` if that is given. Arbitrary text: never use it as a path.
        id: String,
        /// How concurrent RUNs share it.
        sharing: Sharing,
        /// Where its initial content comes from; absent = empty.
        #[serde(skip)]
        from: Option<CopyFrom>,
        /// Absolute path of a directory in `from`.
        source: String,
        /// Mode of its root directory, when it is created.
        mode: u32,
        /// Owner of its root directory, when it is created.
        uid: u32,
        /// Group of its root directory, when it is created.
        gid: u32,
        /// No writes.
        read_only: bool,
    },
    /// A tmpfs (M-11).
    Tmpfs {
        /// Absolute and clean; never `/`.
        target: String,
        /// In bytes; absent = no limit.
        size: Option<u64>,
        /// No writes. Serialized only if true, so that keys from before this field stay valid.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// A secret (M-12…M-16); keyed by these options, never by its value (S-117).
    Secret {
        /// Its id.
        id: String,
        /// Path of the file; absent if only `env` is requested.
        target: Option<String>,
        /// The variable that holds it.
        env: Option<String>,
        /// A missing one is an error; otherwise nothing is mounted.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// An agent's socket (M-17…M-19). `SSH_AUTH_SOCK` is already in `Run::env`.
    Ssh {
        /// Its id.
        id: String,
        /// Path of the socket.
        target: String,
        /// A missing one is an error; otherwise nothing is mounted.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

impl Mount {
    /// Where it is mounted, if anywhere.
    pub fn target(&self) -> Option<&str> {
        match self {
            Mount::Bind { target, .. }
            | Mount::Cache { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::Ssh { target, .. } => Some(target),
            Mount::Secret { target, .. } => target.as_deref(),
        }
    }

    /// Where its files or its initial content come from.
    pub fn from(&self) -> Option<&CopyFrom> {
        match self {
            Mount::Bind { from, .. } => Some(from),
            Mount::Cache { from, .. } => from.as_ref(),
            Mount::Tmpfs { .. } | Mount::Secret { .. } | Mount::Ssh { .. } => None,
        }
    }
}

/// `sharing=` of a cache mount (M-7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Concurrent RUNs share it.
    #[default]
    Shared,
    /// A RUN that finds it in use gets another one.
    Private,
    /// Concurrent RUNs wait for each other.
    Locked,
}

/// COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Copy {
    /// It is an ADD: URLs are fetched, git repositories cloned, archives unpacked.
    pub add: bool,
    /// Where the files come from; keyed by the selected files.
    #[serde(skip)]
    pub from: CopyFrom,
    /// In written order; heredocs after the others.
    pub sources: Vec<CopySource>,
    /// Absolute and clean, WORKDIR already applied.
    pub dest: String,
    /// It is written as a directory: with a trailing slash, or as `.`.
    pub dest_is_dir: bool,
    /// `--chown` as text: names are looked up in the destination's filesystem (C-16).
    pub chown: Option<String>,
    /// `--chmod` as text, octal or symbolic (C-17); valid.
    pub chmod: Option<String>,
    /// `--link` (C-19).
    pub link: bool,
    /// `--parents` (C-20).
    pub parents: bool,
    /// `--exclude`, in order (C-21).
    pub exclude: Vec<String>,
    /// `--checksum` (C-24).
    pub checksum: Option<String>,
    /// `--keep-git-dir` (C-25).
    pub keep_git_dir: bool,
    /// `--unpack`; absent = local archives only (C-27).
    pub unpack: Option<bool>,
}

/// One source of a COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CopySource {
    /// A path or pattern as written, expanded; not yet anchored (C-1, C-3).
    Path(String),
    /// A file given in the Dockerfile (P-19): its name and bytes.
    Heredoc {
        /// The delimiter.
        name: String,
        /// Expanded unless the delimiter was quoted.
        content: String,
    },
    /// `http://` or `https://` (C-23).
    Http(String),
    /// A git repository (C-25).
    Git(String),
}

/// WORKDIR.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Workdir {
    /// Absolute and clean.
    pub path: String,
    /// The owner of directories that are created: the stage's user at this point.
    pub user: String,
}
