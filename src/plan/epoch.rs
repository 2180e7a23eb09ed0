//! Resolves SOURCE_DATE_EPOCH (A-8, N-37): seconds, or the name of something whose modification time is used.
//!
//! **Holds.** The value may name a context, or a stage that consists of `FROM scratch`, ARGs and one ADD of a URL or a
//! git repository. For a stage, the caller fetches its [`EpochSource`] before planning and passes the time in
//! [`Options::context_times`].

use crate::base::time::Timestamp;
use crate::dockerfile::ast::{Copy, CopySource, Instruction, Stage};
use crate::dockerfile::expand::expand;

use crate::dockerfile::{Diagnostic, Dockerfile, Severity, Span, Word};

use super::Options;
use super::globals::{EPOCH, Globals};
use super::remote;

/// The remote source in a stage that SOURCE_DATE_EPOCH names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpochSource {
    /// The stage name as SOURCE_DATE_EPOCH spells it: the key of its time in [`Options::context_times`].
    pub stage: String,
    /// The URL of a file or a git repository.
    pub url: String,
    /// It is a git repository.
    pub git: bool,
    /// The value of `--checksum`.
    pub checksum: Option<String>,
}

/// The source whose modification time is needed before planning. Ok(None): none. Err: SOURCE_DATE_EPOCH names a stage
/// that cannot be used for it; planning reports the same error.
pub(crate) fn epoch_source(dockerfile: &Dockerfile, options: &Options) -> Result<Option<EpochSource>, Box<Diagnostic>> {
    // Errors in the ARGs are reported by planning.
    let globals = Globals::with(dockerfile, options, &options.build_args, &mut Vec::new());
    let Some((value, at)) = globals.epoch_text(dockerfile, options) else { return Ok(None) };
    if seconds(&value).is_some() || names_a_context(&value, options) {
        return Ok(None);
    }
    stage_source(&globals, &value, at, dockerfile, options).map(Some)
}

impl Globals {
    /// The time of SOURCE_DATE_EPOCH, if it is known, and a warning if it was looked up in vain.
    pub(super) fn resolve_epoch(
        &self,
        dockerfile: &Dockerfile,
        options: &Options,
    ) -> Result<(Option<Timestamp>, Option<Diagnostic>), Box<Diagnostic>> {
        let Some((value, at)) = self.epoch_text(dockerfile, options) else { return Ok((None, None)) };
        if let Some(time) = seconds(&value) {
            return Ok((Some(time), None));
        }
        let given = options.context_times.get(&value).copied();
        let (time, asked) = match value.as_str() {
            "context" => (options.context_time, true),
            name if options.contexts.contains_key(name) => (given.flatten(), true),
            _ => {
                stage_source(self, &value, at, dockerfile, options)?;
                (given.flatten(), given.is_some())
            }
        };
        Ok((time, (asked && time.is_none()).then(|| undated(&value, at))))
    }

    /// The text of SOURCE_DATE_EPOCH and its span.
    fn epoch_text(&self, dockerfile: &Dockerfile, options: &Options) -> Option<(String, Span)> {
        let given = options.build_args.get(EPOCH);
        let value = given.map(String::as_str).or_else(|| self.get(EPOCH)).filter(|value| !value.is_empty())?;
        let mut items = dockerfile.global_args.iter().flat_map(|s| &s.node.items);
        let at = match items.rfind(|item| item.name.as_str() == EPOCH) {
            Some(item) if given.is_none() => item.name.span,
            _ => Span::default(),
        };
        Some((value.to_owned(), at))
    }
}

fn seconds(value: &str) -> Option<Timestamp> {
    value.parse().ok().map(Timestamp::from_secs)
}

fn names_a_context(value: &str, options: &Options) -> bool {
    value == "context" || options.contexts.contains_key(value)
}

/// As in BuildKit, a directory, an image or an undated file has no time, and SOURCE_DATE_EPOCH is ignored.
fn undated(value: &str, at: Span) -> Diagnostic {
    let message = format!("{EPOCH}={value} has no effect: its modification time is unknown");
    let problem = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(at, message) };
    problem.hint("give whole seconds, or name a git repository, an archive or a URL that has a Last-Modified time")
}

/// The source that the stage called `value` adds. Err: there is no such stage, or it does more than that.
fn stage_source(
    globals: &Globals,
    value: &str,
    at: Span,
    dockerfile: &Dockerfile,
    options: &Options,
) -> Result<EpochSource, Box<Diagnostic>> {
    let is_meant = |stage: &&Stage| stage.name.as_ref().is_some_and(|name| name.node.eq_ignore_ascii_case(value));
    let Some(stage) = dockerfile.stages.iter().find(is_meant) else {
        let problem = Diagnostic::error(at, format!("invalid {EPOCH} `{value}`"));
        return Err(Box::new(problem.hint("give whole seconds since 1970-01-01T00:00:00Z")));
    };
    let refused = |span, why: &str| {
        let problem = Diagnostic::error(span, format!("{EPOCH}={value}: cannot take a time from this stage: {why}"));
        Box::new(problem.hint("use a stage with FROM scratch, ARGs, and one ADD of a URL or a repository"))
    };
    let mut scope = Scope { globals, dockerfile, own: Vec::new() };
    if scope.expand(&stage.from.node.image)? != "scratch" {
        return Err(refused(stage.from.span, "it is not FROM scratch"));
    }
    let mut found = None;
    for statement in &stage.instructions {
        match &statement.node {
            Instruction::Arg(arg) => {
                for item in &arg.items {
                    let name = item.name.as_str();
                    let text = match (options.build_args.get(name), &item.default) {
                        (Some(given), _) => given.clone(),
                        (None, Some(default)) => scope.expand(default)?,
                        (None, None) => continue,
                    };
                    scope.own.push((name.to_owned(), text));
                }
            }
            Instruction::Add(add) if found.is_none() => {
                let none = || refused(statement.span, "it must ADD exactly one URL or repository");
                found = Some(source_of(add, value, &scope)?.ok_or_else(none)?);
            }
            Instruction::Add(_) => return Err(refused(statement.span, "it has a second ADD")),
            other => return Err(refused(statement.span, &format!("it has {}", other.keyword()))),
        }
    }
    found.ok_or_else(|| refused(stage.from.span, "it adds nothing"))
}

/// The remote source of an ADD. None: it adds something else.
fn source_of(add: &Copy, stage: &str, scope: &Scope<'_>) -> Result<Option<EpochSource>, Box<Diagnostic>> {
    let [CopySource::Path(word)] = add.sources.as_slice() else { return Ok(None) };
    let url = scope.expand(word)?;
    let git = match remote::kind(&url) {
        remote::Kind::Path => return Ok(None),
        kind => kind == remote::Kind::Git,
    };
    let checksum = add.checksum.as_ref().map(|word| scope.expand(word)).transpose()?.filter(|text| !text.is_empty());
    Ok(Some(EpochSource { stage: stage.to_owned(), url, git, checksum }))
}

/// The variables of the stage.
struct Scope<'a> {
    globals: &'a Globals,
    dockerfile: &'a Dockerfile,
    /// Its own ARGs; later ones win.
    own: Vec<(String, String)>,
}

impl Scope<'_> {
    fn expand(&self, word: &Word) -> Result<String, Box<Diagnostic>> {
        let own = |name: &str| self.own.iter().rfind(|(known, _)| known == name).map(|(_, text)| text.as_str());
        let value = |name: &str| own(name).or_else(|| self.globals.get(name).filter(|_| name != EPOCH));
        let lookup = |name: &str| value(name).map(str::to_owned);
        Ok(expand(word, self.dockerfile.escape(), &lookup)?.text)
    }
}
