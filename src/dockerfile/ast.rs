//! The syntax tree of a Dockerfile: typed, nothing expanded.

use std::time::Duration;

use super::duration;
use super::heredoc::Heredoc;
use super::mount::{Device, Mount};
use super::source::{Source, Span, Spanned};
use super::word::Word;

/// The character that escapes and continues lines (P-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`, the default.
    #[default]
    Backslash,
    /// `` ` ``, for Windows paths.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// The directives at the top of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// `# syntax=`: an image name, perhaps followed by words for it.
    pub syntax: Option<Word>,
    /// `# escape=`.
    pub escape: Option<Spanned<Escape>>,
    /// `# check=`, as written; [`super::lint::Controls`] reads it.
    pub check: Option<Word>,
}

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text that every span indexes.
    pub source: Source,
    /// The directives.
    pub directives: Directives,
    /// The `ARG` lines before the first `FROM`.
    pub global_args: Vec<Statement<Arg>>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
}

impl Dockerfile {
    /// The escape character in force.
    pub fn escape(&self) -> Escape {
        self.directives.escape.map(|e| e.node).unwrap_or_default()
    }
}

/// A `FROM` and the instructions after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The `FROM` line.
    pub from: Statement<From>,
    /// The stage's name in lower case (F-2), where it was written.
    pub name: Option<Spanned<String>>,
    /// The doc comment above `FROM` that starts with the stage's name (P-20).
    pub description: Option<String>,
    /// The other instructions, in order.
    pub instructions: Vec<Statement<Instruction>>,
}

/// One instruction with its position and comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement<T> {
    /// The instruction.
    pub node: T,
    /// From the first letter of the keyword to the end of the last line, bodies of heredocs included.
    pub span: Span,
    /// The keyword as written.
    pub keyword: Word,
    /// The logical line with its keyword, without heredoc bodies.
    pub text: String,
    /// The comment lines directly above.
    pub comments: Vec<Word>,
    /// The first blank line inside a continuation (lint `NoEmptyContinuation`).
    pub blank_line: Option<Span>,
}

impl<T> Statement<T> {
    /// The same position and comments with another instruction.
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Statement<U> {
        let Self { node, span, keyword, text, comments, blank_line } = self;
        Statement { node: f(node), span, keyword, text, comments, blank_line }
    }

    /// The instruction, and its position and comments.
    pub(super) fn split(self) -> (T, Statement<()>) {
        let Self { node, span, keyword, text, comments, blank_line } = self;
        (node, Statement { node: (), span, keyword, text, comments, blank_line })
    }
}

/// `FROM [--platform=P] image [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Image, stage or `scratch`; expandable.
    pub image: Word,
    /// `--platform`; expandable.
    pub platform: Option<Word>,
    /// `AS`, as written.
    pub as_keyword: Option<Word>,
    /// The name after `AS`, as written.
    pub alias: Option<Word>,
}

/// Every instruction but `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`.
    Add(Box<Copy>),
    /// `ARG`.
    Arg(Arg),
    /// `CMD`; an empty list clears it (I-11).
    Cmd(Command),
    /// `COPY`.
    Copy(Box<Copy>),
    /// `ENTRYPOINT`; an empty list clears it (I-12).
    Entrypoint(Command),
    /// `ENV`.
    Env(Pairs),
    /// `EXPOSE`: each word expands and splits into ports again (V-13).
    Expose(Vec<Word>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Pairs),
    /// `MAINTAINER`, not expandable.
    Maintainer(Word),
    /// `ONBUILD`.
    Onbuild(Onbuild),
    /// `RUN`.
    Run(Box<Run>),
    /// `SHELL`, never empty.
    Shell(Vec<Word>),
    /// `STOPSIGNAL`; expandable.
    StopSignal(Word),
    /// `USER`; expandable.
    User(Word),
    /// `VOLUME`; each word is expandable.
    Volume(Volume),
    /// `WORKDIR`: the rest of the line is one path; expandable.
    Workdir(Word),
}

impl Instruction {
    /// The keyword in upper case.
    pub fn keyword(&self) -> &'static str {
        match self {
            Instruction::Add(_) => "ADD",
            Instruction::Arg(_) => "ARG",
            Instruction::Cmd(_) => "CMD",
            Instruction::Copy(_) => "COPY",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Env(_) => "ENV",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Label(_) => "LABEL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Run(_) => "RUN",
            Instruction::Shell(_) => "SHELL",
            Instruction::StopSignal(_) => "STOPSIGNAL",
            Instruction::User(_) => "USER",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Workdir(_) => "WORKDIR",
        }
    }
}

/// `ARG name[=default] …`, processed one after another (V-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The declarations.
    pub items: Vec<ArgItem>,
}

/// One declaration of an `ARG` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgItem {
    /// The name; never expanded.
    pub name: Word,
    /// The default; expandable. `ARG n=` is an empty default, `ARG n` none.
    pub default: Option<Word>,
    /// The doc comment above that starts with the name (P-20).
    pub description: Option<String>,
}

/// The pairs of an `ENV` or `LABEL` line; all see the environment before the line (V-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// Key and value, both expandable.
    pub pairs: Vec<(Word, Word)>,
    /// Written as `KEY value` without `=`: the value is the rest of the line.
    pub legacy: bool,
}

/// Shell text or a list of arguments (P-11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The line for the shell, as it stands.
    Shell(Word),
    /// The JSON form.
    Exec(Vec<Word>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
    /// `--network`.
    pub network: Option<Spanned<Network>>,
    /// `--security`.
    pub security: Option<Spanned<Security>>,
    /// `--device`, in order.
    pub devices: Vec<Device>,
    /// The command; with heredocs it is shell text that mentions them.
    pub command: Command,
    /// The heredocs, in order.
    pub heredocs: Vec<Heredoc>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// The network of the build as a whole.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `RUN --security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// The default sandbox.
    Sandbox,
    /// All capabilities; needs an entitlement.
    Insecure,
}

/// `COPY` and `ADD`. A flag that only one of them has is absent in the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `COPY --from`: never expanded (V-11).
    pub from: Option<Word>,
    /// `--chown`; expandable.
    pub chown: Option<Word>,
    /// `--chmod`; expandable.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: Option<Spanned<bool>>,
    /// `COPY --parents`.
    pub parents: Option<Spanned<bool>>,
    /// `--exclude`, in order; never expanded.
    pub exclude: Vec<Word>,
    /// `ADD --checksum`; expandable.
    pub checksum: Option<Word>,
    /// `ADD --keep-git-dir`.
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `ADD --unpack`.
    pub unpack: Option<Spanned<bool>>,
    /// What to copy, in order.
    pub sources: Vec<CopySource>,
    /// Where to; expandable.
    pub dest: Word,
    /// Written as a JSON list.
    pub json: bool,
    /// The heredocs in the order in which they follow the line; [`Copy::sources`] says which file each becomes.
    pub written: Vec<Heredoc>,
}

/// One source of a `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or (for `ADD`) a URL; expandable.
    Path(Word),
    /// A heredoc (P-19).
    Heredoc(Heredoc),
}

/// `VOLUME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The paths.
    pub paths: Vec<Word>,
    /// Written as a JSON list.
    pub json: bool,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`.
    None,
    /// `HEALTHCHECK [options] CMD command`.
    Test(Box<HealthTest>),
}

/// A check and its timing; an absent option is left to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthTest {
    /// The command; never expanded.
    pub command: Command,
    /// `--interval`.
    pub interval: Option<Spanned<Duration>>,
    /// `--timeout`.
    pub timeout: Option<Spanned<Duration>>,
    /// `--start-period`.
    pub start_period: Option<Spanned<Duration>>,
    /// `--start-interval`.
    pub start_interval: Option<Spanned<Duration>>,
    /// `--retries`.
    pub retries: Option<Spanned<u32>>,
}

impl HealthTest {
    /// The options that are present, in the order of the fields, with their values as text.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let times = [
            ("interval", self.interval),
            ("timeout", self.timeout),
            ("start-period", self.start_period),
            ("start-interval", self.start_interval),
        ];
        let times = times.into_iter().filter_map(|(name, time)| Some((name, duration::format(time?.node))));
        times.chain(self.retries.map(|retries| ("retries", retries.node.to_string()))).collect()
    }
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The text that the image config stores: the trigger with the bodies of its heredocs.
    pub trigger: Word,
    /// The trigger as parsed here. A build that runs it parses [`Onbuild::trigger`] again, with `\` as escape (I-13):
    /// [`super::parse_trigger`].
    pub inner: Box<Statement<Instruction>>,
}
