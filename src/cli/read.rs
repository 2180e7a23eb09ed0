//! The Dockerfile, read and parsed, and the warnings about it.

use std::path::{Path, PathBuf};

use crate::base::fs::FsError;
use crate::base::rooted::Root;
use crate::context::{IgnoreFile, Matcher};
use crate::dockerfile::lint::{self, Controls};
use crate::dockerfile::{self, Diagnostic, Dockerfile, Instruction, Severity, Span, ast};
use crate::engine::source::Origin;
use crate::plan::{ContextName, CopyFrom, CopySource, IGNORED_ARGS, KEEP_GIT_DIR, Plan, Step, StepKind};

use super::failure::{Failure, Kind};
use super::locate;
use super::request::{Remote, SourceRequest};

/// A Dockerfile that parses.
pub(super) struct Read {
    /// Its content.
    pub(super) dockerfile: Dockerfile,
    /// Where it is; none for standard input.
    pub(super) path: Option<PathBuf>,
    /// The ignore file of the build (G-1).
    pub(super) ignore: Option<IgnoreFile>,
    /// Which warnings its author wants.
    controls: Controls,
    /// Warnings found before planning.
    warnings: Vec<Diagnostic>,
}

/// Ok: the Dockerfile was found and parses, and kiln is its frontend. Err: all of its problems.
pub(super) fn read(request: &SourceRequest) -> Result<Read, Failure> {
    let located = locate::read(&request.file, &request.context, &mut std::io::stdin())?;
    let outside = located.leads_out(&request.context);
    let source = located.source;
    let wrong = |problems: Vec<Diagnostic>| match &outside {
        None => Failure::diagnostics(&source, problems),
        Some(target) => {
            let (name, target) = (source.name(), target.display());
            Failure::build(format!("{name} links to {target}, outside the context, which is not a valid Dockerfile"))
                .hint(format!("name the file itself to see its lines: -f {target}"))
        }
    };
    let dockerfile = dockerfile::parse(&source).map_err(wrong)?;
    let argument = |name: &str| request.options.build_args.get(name).map(String::as_str);
    let mut warnings = lint::check(&dockerfile);
    match dockerfile::check_syntax(&dockerfile, argument("BUILDKIT_SYNTAX")) {
        Ok(warning) => warnings.extend(warning),
        Err(problem) => return Err(wrong(vec![*problem])),
    }
    let controls = Controls::of(&dockerfile, argument("BUILDKIT_DOCKERFILE_CHECK")).map_err(wrong)?;
    let context = Root::open(&request.context).map_err(|e| FsError::new("open context", &request.context, e))?;
    // Only a local directory has an ignore file (G-2).
    let ignore = match request.origin {
        Some(_) => None,
        None => {
            IgnoreFile::find(&context, located.path.as_deref()).map_err(|e| Failure::from_error(Kind::Build, &e))?
        }
    };
    if request.origin.is_none() {
        warnings.extend(unused_ignore_file(&request.context, located.path.as_deref(), ignore.as_ref()));
    }
    Ok(Read { dockerfile, path: located.path, ignore, controls, warnings })
}

/// Warns about a `.dockerignore` beside a Dockerfile outside the root of the context: it looks as if it had an effect.
fn unused_ignore_file(context: &Path, dockerfile: Option<&Path>, used: Option<&IgnoreFile>) -> Option<Diagnostic> {
    let dir = dockerfile?.parent()?;
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let file = dir.join(".dockerignore");
    let elsewhere = std::fs::canonicalize(dir).ok()? != std::fs::canonicalize(context).ok()?;
    let own = dockerfile?.file_name()?.display();
    if !elsewhere || !file.is_file() || used.is_some_and(|used| used.name == format!("{own}.dockerignore")) {
        return None;
    }
    let message = format!("{} has no effect: it is not in the root of the context", file.display());
    let warning = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(Span::default(), message) };
    Some(warning.hint(format!("rename it to {own}.dockerignore, or move it to {}", context.display())))
}

impl Read {
    /// All warnings about the stages that `plan` needs, and whether they fail the build (`# check=error=true`).
    pub(super) fn warnings(&self, plan: &Plan) -> Result<(Vec<Diagnostic>, bool), Failure> {
        let mut all: Vec<Diagnostic> =
            self.warnings.iter().filter(|w| self.is_planned(w.span, plan)).cloned().collect();
        all.extend(plan.warnings.iter().cloned());
        all.extend(self.ignored_copies(plan)?);
        let kept = lint::filter(&self.dockerfile, all, &self.controls);
        let fatal = self.controls.error && kept.iter().any(|w| w.code.is_some());
        Ok((kept, fatal))
    }

    /// Whether `span` is before the first stage or in a stage that the plan needs.
    fn is_planned(&self, span: Span, plan: &Plan) -> bool {
        match self.dockerfile.stages.iter().rposition(|stage| stage.from.span.start <= span.start) {
            None => true,
            Some(index) => plan.stages.iter().any(|stage| stage.index == index),
        }
    }

    /// CopyIgnoredFile: sources that the ignore file excludes. Ignore files with exceptions are skipped, as in BuildKit.
    fn ignored_copies(&self, plan: &Plan) -> Result<Vec<Diagnostic>, Failure> {
        let mut found = Vec::new();
        let Some(ignore) = &self.ignore else { return Ok(found) };
        let negated = |line: &[u8]| line.trim_ascii_start().starts_with(b"!");
        if ignore.text.split(|&b| b == b'\n').any(negated) {
            return Ok(found);
        }
        let matcher = Matcher::parse(ignore).map_err(|e| Failure::from_error(Kind::Build, &e))?;
        for step in &plan.steps {
            let StepKind::Copy(copy) = &step.kind else { continue };
            if copy.from != CopyFrom::Context(ContextName::Main) {
                continue;
            }
            let paths = copy.sources.iter().filter(|source| matches!(source, CopySource::Path(_)));
            for (at, source) in paths.enumerate() {
                let CopySource::Path(path) = source else { continue };
                let clean = clean(path);
                let hidden = match clean.as_str() {
                    // The whole context stands for what is left of it.
                    "." | "/" => nothing_left(ignore) && (clean == "." || !has_line(ignore, b"*")),
                    path => matcher.excludes(path.as_bytes()),
                };
                if hidden {
                    let keyword = if copy.add { "ADD" } else { "COPY" };
                    let message = format!("{keyword} of `{path}`, which {} excludes", ignore.name);
                    found.push(Diagnostic::warning(self.source_span(step, at), "CopyIgnoredFile", message));
                }
            }
        }
        Ok(found)
    }

    /// Where path `at` of a COPY or ADD is written.
    fn source_span(&self, step: &Step, at: usize) -> Span {
        let instructions = &self.dockerfile.stages[step.meta.stage].instructions;
        let statement = instructions.iter().find(|statement| statement.span == step.meta.span);
        let sources = statement.and_then(|statement| match &statement.node {
            Instruction::Copy(copy) | Instruction::Add(copy) => Some(&copy.sources),
            _ => None,
        });
        let mut words = sources.into_iter().flatten().filter_map(|source| match source {
            ast::CopySource::Path(word) => Some(word.span),
            _ => None,
        });
        words.nth(at).unwrap_or(step.meta.span)
    }
}

/// Warnings about options without effect (N-8): build arguments without an ARG, filters without a stage, mount options
/// that their type ignores.
pub(super) fn without_effect(plan: &Plan, dockerfile: &Dockerfile, request: &SourceRequest) -> Vec<Diagnostic> {
    let options = &request.options;
    let warning = |message| Diagnostic { severity: Severity::Warning, ..Diagnostic::error(Span::default(), message) };
    let unused = plan.unused_args.iter().map(|(name, meant)| {
        let message = format!("--build-arg {name} has no effect: the Dockerfile has no ARG of that name");
        let problem = warning(message);
        match meant {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None => problem,
        }
    });
    let names: Vec<&str> =
        dockerfile.stages.iter().filter_map(|stage| Some(stage.name.as_ref()?.node.as_str())).collect();
    let is_stage = |filter: &str| {
        names.iter().any(|name| name.eq_ignore_ascii_case(filter))
            || filter.parse().is_ok_and(|number: usize| number < dockerfile.stages.len())
    };
    let filters = options.no_cache_filter.iter().filter(|filter| !is_stage(filter));
    let filters = filters.map(|filter| {
        let message = format!("--no-cache-filter {filter} has no effect: there is no such stage");
        warning(message).suggest(filter, names.iter().copied())
    });
    let runs = || plan.steps.iter().filter(|step| matches!(step.kind, StepKind::Run(_)));
    let ages = options.max_age.iter().filter(|limit| !runs().any(|step| limit.is_for(&step.meta.name)));
    let ages = ages.map(|limit| {
        let message =
            format!("--max-age {:?} has no effect: it matches no RUN instruction of this build", limit.pattern);
        warning(message)
            .hint("write the pattern for the whole instruction with its options, for example `RUN*apt-get*`")
    });
    let on = |name: &str| options.build_args.get(name).is_some_and(|v| !matches!(v.as_str(), "" | "0" | "false"));
    let attest = IGNORED_ARGS.into_iter().filter(|name| on(name));
    let attest = attest.map(|name| warning(format!("--build-arg {name} has no effect: kiln creates no attestations")));
    let is_git = matches!(&request.origin, Some(Remote { origin: Origin::Git { .. }, .. }));
    let git = Some(KEEP_GIT_DIR).filter(|name| on(name) && !is_git);
    let git = git.map(|name| warning(format!("--build-arg {name} has no effect: the context is not a git repository")));
    unused.chain(filters).chain(ages).chain(attest).chain(git).chain(mounts_without_effect(plan, dockerfile)).collect()
}

/// Mount options that BuildKit accepts and ignores, in the stages of `plan`.
fn mounts_without_effect(plan: &Plan, dockerfile: &Dockerfile) -> Vec<Diagnostic> {
    let planned = dockerfile.stages.iter().enumerate().filter(|(at, _)| plan.stages.iter().any(|s| s.index == *at));
    let mounts = planned.flat_map(|(_, stage)| &stage.instructions).filter_map(|statement| match &statement.node {
        Instruction::Run(run) => Some(&run.mounts),
        _ => None,
    });
    let options = mounts.flatten().flat_map(|mount| {
        let (kind, options) = mount.without_effect();
        options.into_iter().map(move |option| {
            let message = format!("`{}` has no effect on a mount of type {kind}", option.key.as_str());
            Diagnostic { severity: Severity::Warning, ..Diagnostic::error(option.span, message) }
        })
    });
    options.collect()
}

/// Some rule of an ignore file is exactly `pattern`.
fn has_line(ignore: &IgnoreFile, pattern: &[u8]) -> bool {
    ignore.text.split(|&b| b == b'\n').any(|line| line.trim_ascii() == pattern)
}

/// The ignore file excludes everything.
fn nothing_left(ignore: &IgnoreFile) -> bool {
    [&b"*"[..], b"**", b"**/*", b"/*", b"/**"].iter().any(|all| has_line(ignore, all))
}

/// A path as Go's `path.Clean` returns it, with a leading slash if it has one.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let rooted = path.starts_with('/');
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, inside) => format!("/{inside}"),
        (false, inside) if inside.is_empty() => ".".to_owned(),
        (false, inside) => inside,
    }
}
