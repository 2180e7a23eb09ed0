//! Lint rules that need the values of variables or the config of a base image.

use crate::dockerfile::expand::{Expanded, expand};
use crate::dockerfile::{Diagnostic, Dockerfile, Span, Spanned, Word, resembles_json};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

use super::globals::Globals;
use super::scope::{NEVER_EXPORTED, Scope};

/// UndefinedArgInFrom.
pub(super) fn unset_in_from(unset: &[Spanned<String>], globals: &Globals, out: &mut Vec<Diagnostic>) {
    for name in unset {
        if !globals.is_declared(&name.node) {
            let message = format!("no ARG before the first FROM declares `{}`", name.node);
            let lint = Diagnostic::warning(name.span, "UndefinedArgInFrom", message);
            out.push(lint.suggest(&name.node, globals.names()));
        }
    }
}

/// InvalidDefaultArgInFrom: `defaults` is the global scope without build arguments.
pub(super) fn default_base(dockerfile: &Dockerfile, index: usize, defaults: &Globals, out: &mut Vec<Diagnostic>) {
    let word = &dockerfile.stages[index].from.node.image;
    if !word.text.contains('$') {
        return;
    }
    let Ok(expanded) = expand(word, dockerfile.escape(), &|name| defaults.get(name).map(str::to_owned)) else { return };
    if expanded.text.parse::<Reference>().is_err() {
        let message = match expanded.text.is_empty() {
            true => format!("without build arguments, `{word}` is empty"),
            false => format!("without build arguments, `{word}` is `{}`, which is not an image name", expanded.text),
        };
        let lint = Diagnostic::warning(word.span, "InvalidDefaultArgInFrom", message);
        out.push(lint.hint("give the ARG a default that makes a valid image name"));
    }
}

/// RedundantTargetPlatform: the value uses nothing but TARGETPLATFORM and is equal to it.
pub(super) fn redundant_platform(word: &Word, expanded: &Expanded, target: &Platform, out: &mut Vec<Diagnostic>) {
    let only = expanded.unset.is_empty() && expanded.used.iter().eq(["TARGETPLATFORM"]);
    if only && expanded.text == target.to_string() {
        let message = format!("--platform={word} is the default");
        out.push(Diagnostic::warning(word.span, "RedundantTargetPlatform", message));
    }
}

/// FromPlatformFlagConstDisallowed: allowed in a stage whose name contains the OS or architecture.
pub(super) fn constant_platform(
    word: &Word,
    expanded: &Expanded,
    name: Option<&Spanned<String>>,
    out: &mut Vec<Diagnostic>,
) {
    let Ok(platform) = expanded.text.parse::<Platform>() else { return };
    let constant = expanded.unset.is_empty() && expanded.used.is_empty();
    let named = name.is_some_and(|name| {
        let name = name.node.as_str();
        name.contains(&platform.os) || name.contains(&platform.architecture)
    });
    if constant && !named {
        let message = format!("--platform is always {word}");
        let lint = Diagnostic::warning(word.span, "FromPlatformFlagConstDisallowed", message);
        out.push(lint.hint("use a variable such as $BUILDPLATFORM, or name the platform in the stage's name"));
    }
}

/// JSONArgsRecommended.
pub(super) fn shell_form(keyword: &str, span: Span, line: &str) -> Diagnostic {
    let message = format!("{keyword} runs in a shell, which keeps signals from the program");
    let mut lint = Diagnostic::warning(span, "JSONArgsRecommended", message);
    if resembles_json(line) {
        lint = lint.note("this looks like a JSON list but is invalid: put strings in double quotes and `]` last");
    }
    lint.hint("write a JSON list, or choose a shell with SHELL if one is wanted")
}

/// UndefinedVar, once per variable of an instruction.
///
/// `same` lists the variables that the instruction itself sets; they take effect after it (V-12).
pub(super) fn undefined(
    unset: &[Spanned<String>],
    scope: &Scope,
    globals: &Globals,
    same: &[String],
    out: &mut Vec<Diagnostic>,
) {
    for (at, name) in unset.iter().enumerate() {
        let again = unset[..at].iter().any(|before| before.node == name.node);
        if again || scope.is_declared(&name.node) || NEVER_EXPORTED.contains(&name.node.as_str()) {
            continue;
        }
        let lint = Diagnostic::warning(name.span, "UndefinedVar", format!("nothing here defines `${}`", name.node));
        out.push(match globals.is_declared(&name.node) {
            _ if same.contains(&name.node) => {
                lint.hint(format!("`{}` takes effect on the next instruction: write a second ENV", name.node))
            }
            true => lint
                .hint(format!("repeat ARG {} in this stage: before the first FROM it applies only to FROM", name.node)),
            false => lint.suggest(&name.node, scope.names()),
        });
    }
}

/// WorkdirRelativePath.
pub(super) fn relative_workdir(path: &str, span: Span) -> Diagnostic {
    let message = format!("`{path}` is relative to whatever the base image has as its WORKDIR");
    Diagnostic::warning(span, "WorkdirRelativePath", message).hint("write an absolute path first")
}

/// InvalidBaseImagePlatform.
pub(super) fn base_platform(image: &Word, wanted: &Platform, found: &Platform, out: &mut Vec<Diagnostic>) {
    if wanted.os != found.os || wanted.architecture != found.architecture {
        let message = format!("`{image}` is for {found}, this stage is for {wanted}");
        out.push(Diagnostic::warning(image.span, "InvalidBaseImagePlatform", message));
    }
}

/// An ARG that hides an ENV from later RUNs (A1). BuildKit has no such rule, so the warning has no code.
pub(super) fn hidden_env(name: &Word) -> Diagnostic {
    let message = format!("ARG `{name}` hides ENV `{name}` from the RUNs that follow; the image keeps the ENV");
    Diagnostic { severity: crate::dockerfile::Severity::Warning, ..Diagnostic::error(name.span, message) }
}
