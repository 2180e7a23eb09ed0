//! Plans COPY and ADD (C-1…C-31).

use crate::base::url::redacted;
use crate::dockerfile::expand::expand_body;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::{Diagnostic, Word, ast};

use super::planner::StagePlanner;
use crate::plan::remote::{self, Kind};
use crate::plan::step::{ContextName, Copy, CopyFrom, CopySource, StepId, StepKind};
use crate::plan::{Mode, paths};

impl StagePlanner<'_, '_> {
    pub(super) fn copy(&mut self, copy: &ast::Copy, add: bool) {
        let from = self.copy_from(copy);
        let chown = self.flag(copy.chown.as_ref());
        let chmod = self.flag(copy.chmod.as_ref());
        let checksum = self.flag(copy.checksum.as_ref());
        if let (Some(mode), Some(word)) = (&chmod, &copy.chmod)
            && let Err(why) = Mode::parse(mode)
        {
            self.error(word.span, why.to_string());
        }
        let mut sources = Vec::new();
        let mut texts = Vec::new();
        for source in &copy.sources {
            if let ast::CopySource::Path(word) = source
                && let Some(text) = self.path(word)
            {
                texts.push(redacted(&text));
                sources.extend(self.source(text, word, add));
            }
        }
        for source in &copy.sources {
            if let ast::CopySource::Heredoc(heredoc) = source {
                texts.push(format!("<<{}", heredoc.name));
                sources.extend(self.heredoc(heredoc));
            }
        }
        let dest = self.path(&copy.dest);
        let (Some((from, input)), Some(dest)) = (from, dest) else { return };
        self.check_checksum(copy, checksum.as_ref(), &sources);
        self.check_unused_flags(copy, &sources);
        let step = Copy {
            add,
            from,
            sources,
            dest: paths::join(&self.state.config.config.working_dir, &dest),
            dest_is_dir: paths::is_written_as_directory(&dest),
            chown: chown.clone(),
            chmod: chmod.clone(),
            link: copy.link.is_some_and(|l| l.node),
            parents: copy.parents.is_some_and(|p| p.node),
            exclude: copy.exclude.iter().map(|w| w.text.clone()).collect(),
            checksum,
            keep_git_dir: copy.keep_git_dir.is_some_and(|k| k.node),
            unpack: copy.unpack.map(|u| u.node),
        };
        let history = history(&step, &texts, &dest);
        let name = self.next_name();
        let step = self.push(StepKind::Copy(step), input, name);
        self.history(history, Some(step));
    }

    /// Where the files come from, and the step to wait for. `None`: a problem was reported.
    fn copy_from(&mut self, copy: &ast::Copy) -> Option<(CopyFrom, Option<StepId>)> {
        let Some(word) = copy.from.as_ref().filter(|word| !word.text.is_empty()) else {
            return Some((CopyFrom::Context(ContextName::Main), None));
        };
        match self.draft.graph.from(word, self.index, true) {
            Ok(root) => {
                let mut meta = self.meta(format!("FROM {word}"));
                meta.span = word.span;
                self.draft.copy_from(&root, self.last, meta)
            }
            Err(problem) => {
                self.report(*problem);
                None
            }
        }
    }

    fn source(&mut self, text: String, word: &Word, add: bool) -> Option<CopySource> {
        let (what, source) = match remote::kind(&text) {
            Kind::Path => return Some(CopySource::Path(text)),
            Kind::Http => ("a URL", CopySource::Http(text)),
            Kind::Git => ("a git repository", CopySource::Git(text)),
        };
        if add {
            return Some(source);
        }
        self.report(Diagnostic::error(word.span, format!("COPY cannot take {what}")).hint("replace COPY with ADD"));
        None
    }

    /// Expands a source or the destination. Outside the JSON form, spaces separate words even inside quotes.
    fn path(&mut self, word: &Word) -> Option<String> {
        match self.try_expand(word) {
            Ok(text) => Some(text),
            Err(problem) if word.text.starts_with(['"', '\'']) => {
                self.report(
                    problem.hint("write names with spaces in the JSON form: [\"the source\", \"the destination\"]"),
                );
                None
            }
            Err(problem) => {
                self.report(*problem);
                None
            }
        }
    }

    /// The file that a heredoc creates. In its body the escape is always `\` and quotes are data (P-19).
    fn heredoc(&mut self, heredoc: &Heredoc) -> Option<CopySource> {
        let body = heredoc.body();
        if !heredoc.expand {
            return Some(CopySource::Heredoc { name: heredoc.name.clone(), content: body.text.clone() });
        }
        match expand_body(&body, &|name| self.state.scope.get(name).map(str::to_owned)) {
            Ok(expanded) => {
                self.report_unset(&expanded.unset);
                if let Err(problem) = self.spend(expanded.text.len()) {
                    self.report(*problem);
                    return None;
                }
                Some(CopySource::Heredoc { name: heredoc.name.clone(), content: expanded.text })
            }
            Err(problem) => {
                self.report(*problem);
                None
            }
        }
    }

    /// Rejects flags that apply to none of the sources, because they would silently do nothing (N-8).
    fn check_unused_flags(&mut self, copy: &ast::Copy, sources: &[CopySource]) {
        if let Some(keep) = copy.keep_git_dir.filter(|keep| keep.node)
            && !sources.iter().any(|source| matches!(source, CopySource::Git(_)))
        {
            self.error(keep.span, "--keep-git-dir applies only to git repositories");
        }
        if let Some(from) = copy.from.as_ref().filter(|from| !from.text.is_empty())
            && sources.iter().all(|source| matches!(source, CopySource::Heredoc { .. }))
        {
            self.error(from.span, "--from applies only to paths, and every source is a heredoc");
        }
    }

    /// A checksum requires a single remote source (C-24).
    fn check_checksum(&mut self, copy: &ast::Copy, checksum: Option<&String>, sources: &[CopySource]) {
        let (Some(word), Some(checksum)) = (&copy.checksum, checksum) else { return };
        match sources {
            [CopySource::Git(_)] => {}
            [CopySource::Http(_)] => {
                let hex = checksum.strip_prefix("sha256:").unwrap_or_default();
                if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    let problem = Diagnostic::error(word.span, format!("invalid checksum `{checksum}`"));
                    self.report(problem.hint("want sha256: and 64 lower-case hexadecimal digits"));
                }
            }
            [_] => self.error(word.span, "--checksum applies only to URLs and git repositories"),
            _ => self.error(word.span, "--checksum requires a single source"),
        }
    }
}

/// History text: `COPY --chown=1:1 a b /dest # buildkit` (C-31).
fn history(copy: &Copy, sources: &[String], dest: &str) -> String {
    let mut words = vec![if copy.add { "ADD".to_owned() } else { "COPY".to_owned() }];
    if copy.parents {
        words.push("--parents".to_owned());
    }
    for (flag, value) in [("--chown", &copy.chown), ("--chmod", &copy.chmod)] {
        words.extend(value.as_ref().map(|value| format!("{flag}={value}")));
    }
    words.extend_from_slice(sources);
    words.push(dest.to_owned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}
