//! One node of the graph: everything its execution and its key need, already expanded.
//!
//! What `Serialize` writes of a [`StepKind`] is what determines its result, except what only the world can tell: the
//! digest an image name stands for, the contents selected from a context or another step, and which devices the host
//! has. Those are `skip`ped here and enter a key as digests, devices as names. Proxy variables are skipped because they are in no key.

use serde::{Deserialize, Serialize};

use crate::dockerfile::Span;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::device::Device;

/// Names a step of one plan. A step's inputs have smaller ids: order is legality.
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

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its position in the plan.
    pub id: StepId,
    /// What to do.
    pub kind: StepKind,
    /// What it needs: for `Run`, `Copy` and `Workdir` the first is the filesystem it works on, the others are those
    /// its mounts or `--from` read, each once. `Base` needs nothing.
    pub inputs: Vec<StepId>,
    /// What is in no key.
    pub meta: StepMeta,
}

/// For people and for looking up the previous result of the same place; never hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMeta {
    /// The instruction in the Dockerfile; for a trigger, the FROM that fired it.
    pub span: Span,
    /// `[builder 2/5] RUN make`.
    pub name: String,
    /// Run it even if a record exists; the record is still written (O-40, O-41).
    pub no_cache: bool,
    /// Index of the stage in the Dockerfile (the first one, if several stages share the step).
    pub stage: usize,
    /// A stable name of the place within one Dockerfile, `stage/ordinal`: where the last result of this place is
    /// remembered, to explain misses.
    pub slot: String,
    /// The trigger's text and whence it came, for a step that ONBUILD made (I-13).
    pub origin: Option<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Where a filesystem starts; makes no layer of its own.
    Base(Base),
    /// RUN.
    Run(Run),
    /// COPY or ADD.
    Copy(Copy),
    /// WORKDIR: makes sure that a directory exists.
    Workdir(Workdir),
}

/// Where a filesystem starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Nothing (F-5).
    Scratch,
    /// An image's layers; keyed by the digest its name is resolved to.
    Image(#[serde(skip)] Box<ImageRequest>),
    /// The files of a named local context (F-11); keyed by their content.
    Context(#[serde(skip)] ContextName),
}

/// An image wanted for one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Which image.
    pub image: ImageName,
    /// For which platform.
    pub platform: Platform,
}

/// How an image is named.
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

/// A tree of files that the caller opened.
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
    /// What is executed: shell and script, or the exec form as it is.
    pub argv: Vec<String>,
    /// The image's environment here, in order of definition, without the names that `args` hides; has PATH.
    /// No HOME: whoever runs it derives that from the user.
    pub env: Vec<(String, String)>,
    /// Declared arguments that have a value, in order of declaration; their names are not in `env` (V-14).
    pub args: Vec<(String, String)>,
    /// Proxy variables that no ARG declares: seen by the process, in no key and no history (A-6, S-113).
    #[serde(skip)]
    pub proxy: Vec<(String, String)>,
    /// `name`, `uid`, `name:group`, `uid:gid`; empty = root.
    pub user: String,
    /// Absolute; created if missing.
    pub cwd: String,
    /// In written order (M-21): a later one covers an earlier one.
    pub mounts: Vec<Mount>,
    /// Which network it sees.
    pub network: Network,
    /// How much it may do.
    pub security: Security,
    /// Devices of the host, in written order; keyed by the names of those that are found.
    #[serde(skip)]
    pub devices: Vec<Device>,
    /// Scripts of heredocs with a `#!` line, in order (P-17); each is executable and mounted read-only at its path.
    pub files: Vec<RunFile>,
    /// `BUILDKIT_SANDBOX_HOSTNAME`, else `buildkitsandbox`.
    pub hostname: String,
    /// What the command is for.
    pub platform: Platform,
}

impl Run {
    /// Everything the process finds in its environment, HOME and secrets aside. No name twice.
    pub fn environment(&self) -> impl Iterator<Item = &(String, String)> {
        let hidden = |name: &str| self.args.iter().chain(&self.env).any(|(n, _)| n == name);
        self.env.iter().chain(&self.args).chain(self.proxy.iter().filter(move |(n, _)| !hidden(n)))
    }
}

/// A heredoc that is run as a file.
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
    /// Whatever the build offers.
    #[default]
    Default,
    /// Only loopback.
    None,
    /// The host's.
    Host,
}

/// `--security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// The default profile.
    #[default]
    Sandbox,
    /// Every capability the build itself has.
    Insecure,
}

/// `RUN --mount`: something that is there during one RUN and never in its layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// Files of a context or a step (M-3…M-5).
    Bind {
        /// Absolute and clean; never `/`.
        target: String,
        /// Whose files; keyed by their content.
        #[serde(skip)]
        from: CopyFrom,
        /// Absolute path in `from`.
        source: String,
        /// Writes are possible, and thrown away.
        writable: bool,
    },
    /// A directory that outlives the build (M-6…M-10).
    Cache {
        /// Absolute and clean; never `/`.
        target: String,
        /// With `BUILDKIT_CACHE_MOUNT_NS/` before it if that is given. Any text: never a path by itself.
        id: String,
        /// What happens when several RUNs want it at once.
        sharing: Sharing,
        /// What it holds at first; nothing if absent.
        #[serde(skip)]
        from: Option<CopyFrom>,
        /// Absolute path of a directory in it.
        source: String,
        /// Of its root, when it is made.
        mode: u32,
        /// Of its root, when it is made.
        uid: u32,
        /// Of its root, when it is made.
        gid: u32,
        /// No writes.
        read_only: bool,
    },
    /// Memory (M-11).
    Tmpfs {
        /// Absolute and clean; never `/`.
        target: String,
        /// In bytes; absent = no limit.
        size: Option<u64>,
        /// No writes. Absent from keys where it is not so: they were made before it was there.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        read_only: bool,
    },
    /// A value from outside (M-12…M-16); keyed by this shape, never by the value (S-117).
    Secret {
        /// Which.
        id: String,
        /// Where the file is; absent if only `env` is wanted.
        target: Option<String>,
        /// The variable that holds it.
        env: Option<String>,
        /// It is an error not to have it; otherwise nothing is mounted.
        required: bool,
        /// Of the file.
        mode: u32,
        /// Of the file.
        uid: u32,
        /// Of the file.
        gid: u32,
    },
    /// An agent's socket (M-17…M-19). `SSH_AUTH_SOCK` is already in `Run::env`.
    Ssh {
        /// Which.
        id: String,
        /// Where the socket is.
        target: String,
        /// It is an error not to have it; otherwise nothing is mounted.
        required: bool,
        /// Of the socket.
        mode: u32,
        /// Of the socket.
        uid: u32,
        /// Of the socket.
        gid: u32,
    },
}

impl Mount {
    /// Where it appears, if anywhere.
    pub fn target(&self) -> Option<&str> {
        match self {
            Mount::Bind { target, .. }
            | Mount::Cache { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::Ssh { target, .. } => Some(target),
            Mount::Secret { target, .. } => target.as_deref(),
        }
    }

    /// Whose files it shows or starts with.
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
    /// All at once.
    #[default]
    Shared,
    /// Whoever finds it in use gets another.
    Private,
    /// One after the other.
    Locked,
}

/// COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Copy {
    /// It is an ADD: URLs are fetched, git repositories cloned, archives unpacked.
    pub add: bool,
    /// Whose files; keyed by what is selected.
    #[serde(skip)]
    pub from: CopyFrom,
    /// In written order; heredocs after the others.
    pub sources: Vec<CopySource>,
    /// Absolute and clean, WORKDIR already applied.
    pub dest: String,
    /// It was written as a directory: with a slash at the end, or as `.`.
    pub dest_is_dir: bool,
    /// `--chown` as text: names are looked up where the files go (C-16).
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
    /// Who owns what has to be made: the stage's user here.
    pub user: String,
}
