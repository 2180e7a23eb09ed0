//! The rules that need only the syntax.

use std::collections::BTreeMap;

use crate::dockerfile::ast::{Dockerfile, From, Instruction, Stage, Statement};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::source::Span;
use crate::dockerfile::word::Word;

/// Every warning about the syntax; [`super::filter`] removes those that the author does not want.
pub fn check(file: &Dockerfile) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    casing(file, &mut out);
    for arg in &file.global_args {
        blank_line(arg, &mut out);
        let names: Vec<&str> = arg.node.items.iter().map(|item| item.name.as_str()).collect();
        description(&arg.comments, arg.keyword.span, "ARG", &names, &mut out);
    }
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    for stage in &file.stages {
        blank_line(&stage.from, &mut out);
        from(&stage.from, &mut out);
        if let Some(name) = &stage.name {
            description(&stage.from.comments, stage.from.keyword.span, "FROM", &[&name.node], &mut out);
            if matches!(name.node.as_str(), "scratch" | "context") {
                out.push(warn(name.span, "ReservedStageName", format!("`{}` has a meaning of its own", name.node)));
            }
            match names.get(name.node.as_str()) {
                Some(first) => out.push(
                    warn(name.span, "DuplicateStageName", format!("another stage is called `{}`", name.node))
                        .also(*first, "first used here"),
                ),
                None => _ = names.insert(&name.node, name.span),
            }
        }
        instructions(stage, &mut out);
    }
    out
}

fn warn(span: Span, rule: &'static str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(span, rule, message)
}

fn is_lower(text: &str) -> bool {
    !text.contains(char::is_uppercase)
}

fn is_upper(text: &str) -> bool {
    !text.contains(char::is_lowercase)
}

fn casing(file: &Dockerfile, out: &mut Vec<Diagnostic>) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            let instructions = stage.instructions.iter().map(|statement| &statement.keyword);
            std::iter::once(&stage.from.keyword).chain(instructions)
        })
    };
    let lower = keywords().filter(|word| is_lower(&word.text)).count();
    let upper = keywords().filter(|word| is_upper(&word.text)).count();
    let (wanted, fits): (_, fn(&str) -> bool) =
        if lower > upper { ("lower case", is_lower) } else { ("upper case", is_upper) };
    for word in keywords().filter(|word| !fits(&word.text)) {
        let message = format!("`{}` is not in {wanted} like most instructions of this file", word.text);
        out.push(warn(word.span, "ConsistentInstructionCasing", message));
    }
}

fn blank_line<T>(statement: &Statement<T>, out: &mut Vec<Diagnostic>) {
    if let Some(span) = statement.blank_line {
        let message = "empty line inside a continued instruction";
        out.push(warn(span, "NoEmptyContinuation", message).also(statement.keyword.span, "this instruction goes on"));
    }
}

fn description(comments: &[Word], at: Span, keyword: &str, names: &[&str], out: &mut Vec<Diagnostic>) {
    let Some(last) = comments.last() else { return };
    let first = last.text.split(' ').next().unwrap_or("");
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let example = if let [name] = names { name } else { "<name>" };
    let message = format!("the comment above {keyword} does not have the form `# {example} <description>`");
    out.push(warn(last.span, "InvalidDefinitionDescription", message).also(at, "it would describe this"));
}

fn from(statement: &Statement<From>, out: &mut Vec<Diagnostic>) {
    let From { as_keyword, alias, .. } = &statement.node;
    if let Some(alias) = alias
        && !is_lower(&alias.text)
    {
        let hint = format!("write {}", alias.text.to_lowercase());
        let message = format!("stage name `{}` is not in lower case", alias.text);
        out.push(warn(alias.span, "StageNameCasing", message).hint(hint));
    }
    let keyword = &statement.keyword;
    if let Some(word) = as_keyword {
        // A FROM in mixed case has a warning of its own.
        let fits = match (is_lower(&keyword.text), is_upper(&keyword.text)) {
            (true, _) => is_lower(&word.text),
            (_, true) => is_upper(&word.text),
            _ => true,
        };
        if !fits {
            let message = format!("`{}` and `{}` are not in the same case", keyword.text, word.text);
            out.push(warn(word.span, "FromAsCasing", message).also(keyword.span, "this one"));
        }
    }
}

fn instructions(stage: &Stage, out: &mut Vec<Diagnostic>) {
    let mut last: BTreeMap<&str, Span> = BTreeMap::new();
    for statement in &stage.instructions {
        blank_line(statement, out);
        let keyword = statement.node.keyword();
        let span = statement.span;
        match &statement.node {
            Instruction::Cmd(_) | Instruction::Entrypoint(_) | Instruction::Healthcheck(_) => {
                once(&mut last, keyword, span, out)
            }
            Instruction::Maintainer(word) => {
                let hint = "write LABEL org.opencontainers.image.authors=…";
                out.push(warn(word.span, "MaintainerDeprecated", "MAINTAINER is deprecated").hint(hint));
            }
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                if let ([(key, value)], true) = (pairs.pairs.as_slice(), pairs.legacy) {
                    let message = format!("{keyword} with a blank between name and value");
                    let problem = warn(key.span.to(value.span), "LegacyKeyValueFormat", message);
                    out.push(problem.hint(format!("write {keyword} {}=value", key.text)));
                }
                if keyword == "ENV" {
                    pairs.pairs.iter().for_each(|(key, _)| secret(keyword, key, out));
                }
            }
            Instruction::Arg(arg) => {
                let names: Vec<&str> = arg.items.iter().map(|item| item.name.as_str()).collect();
                description(&statement.comments, statement.keyword.span, "ARG", &names, out);
                arg.items.iter().for_each(|item| secret(keyword, &item.name, out));
            }
            Instruction::Expose(words) => {
                let plain = words.iter().filter(|word| word.is_plain());
                out.extend(plain.flat_map(|word| expose(&word.text, word.span)));
            }
            _ => {}
        }
    }
}

/// Of two instructions the earlier one has no effect.
fn once<'a>(last: &mut BTreeMap<&'a str, Span>, keyword: &'a str, span: Span, out: &mut Vec<Diagnostic>) {
    if let Some(earlier) = last.insert(keyword, span) {
        let message = format!("this {keyword} has no effect: only the last one of a stage counts");
        out.push(warn(earlier, "MultipleInstructionsDisallowed", message).also(span, "a later one"));
    }
}

/// Words in the names of secrets, and words that make such a name harmless.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

fn secret(keyword: &str, name: &Word, out: &mut Vec<Diagnostic>) {
    let lower = name.text.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRET) && !has(&HARMLESS) {
        let message = format!("{keyword} `{}` looks like a secret, and everybody can read it in the image", name.text);
        out.push(warn(name.span, "SecretsUsedInArgOrEnv", message).hint("use RUN --mount=type=secret"));
    }
}

/// The warnings about one expanded word of an `EXPOSE`.
pub fn expose(text: &str, span: Span) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let (port, proto) = text.rsplit_once('/').unwrap_or((text, ""));
    if !is_lower(proto) {
        let hint = format!("write {port}/{}", proto.to_lowercase());
        out.push(warn(span, "ExposeProtoCasing", format!("protocol `{proto}` is not in lower case")).hint(hint));
    }
    // `:80` does not name anything of the host.
    if port.rsplit_once(':').is_some_and(|(host, _)| !matches!(host, "" | ":")) {
        let message = format!("`{text}` names an address or a port of the host");
        out.push(warn(span, "ExposeInvalidFormat", message).hint("EXPOSE only names the container's port"));
    }
    out
}
