//! The syntax tree as stable text, for golden tests and for comparing the meaning of two files.

use std::fmt::Write as _;

use super::ast::{Arg, Command, Copy, CopySource, Dockerfile, Healthcheck, Instruction, Run, Statement};
use super::heredoc::Heredoc;
use super::source::{Source, Span, Spanned};
use super::word::Word;

/// The whole file; with the lines of each instruction if `lines`. Files with equal dumps without lines have the same
/// meaning.
pub fn dump(file: &Dockerfile, lines: bool) -> String {
    let mut out = Dump { out: String::new(), source: lines.then_some(&file.source) };
    let directives = &file.directives;
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            out.line(0, format_args!("directive {name} {:?}", value.text));
        }
    }
    if let Some(escape) = directives.escape {
        out.line(0, format_args!("directive escape {:?}", escape.node.char()));
    }
    for statement in &file.global_args {
        let head = out.head(0, statement);
        out.line(0, format_args!("{head} {}", arg(&statement.node)));
    }
    for (index, stage) in file.stages.iter().enumerate() {
        let mut head = out.head(0, &stage.from);
        let from = &stage.from.node;
        let _ = write!(head, " {:?}", from.image.text);
        if let (Some(keyword), Some(alias)) = (&from.as_keyword, &from.alias) {
            let _ = write!(head, " {} {:?}", keyword.text, alias.text);
        }
        flag(&mut head, "platform", from.platform.as_ref());
        let _ = write!(head, " stage={index}");
        if let Some(name) = &stage.name {
            let _ = write!(head, " name={:?}", name.node);
        }
        if let Some(description) = &stage.description {
            let _ = write!(head, " description={description:?}");
        }
        out.line(0, format_args!("{head}"));
        for statement in &stage.instructions {
            out.instruction(1, statement);
        }
    }
    out.out
}

/// One instruction, as in [`dump`]; without lines.
#[cfg(test)]
pub(super) fn dump_instruction(statement: &Statement<Instruction>) -> String {
    let mut out = Dump { out: String::new(), source: None };
    out.instruction(0, statement);
    out.out
}

struct Dump<'a> {
    out: String,
    source: Option<&'a Source>,
}

impl Dump<'_> {
    fn line(&mut self, depth: usize, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = depth * 2);
    }

    /// Comments on lines of their own; returns keyword and lines.
    fn head<T>(&mut self, depth: usize, statement: &Statement<T>) -> String {
        for comment in &statement.comments {
            self.line(depth, format_args!("# {}", comment.text));
        }
        let mut head = statement.keyword.text.clone();
        if let Some(source) = self.source {
            let Span { start, end } = statement.span;
            let first = source.position(start);
            let last = source.position(end.saturating_sub(1).max(start)).line;
            let _ = match first.line == last {
                true => write!(head, " @{}:{}", first.line, first.column),
                false => write!(head, " @{}:{}-{last}", first.line, first.column),
            };
            if statement.blank_line.is_some() {
                head.push_str(" blank");
            }
        }
        head
    }

    fn instruction(&mut self, depth: usize, statement: &Statement<Instruction>) {
        let mut text = self.head(depth, statement);
        let mut bodies: Vec<&Heredoc> = Vec::new();
        match &statement.node {
            Instruction::Add(node) | Instruction::Copy(node) => {
                copy(&mut text, node);
                bodies.extend(&node.written);
            }
            Instruction::Run(node) => {
                run(&mut text, node);
                bodies.extend(&node.heredocs);
            }
            Instruction::Arg(node) => {
                let _ = write!(text, " {}", arg(node));
            }
            Instruction::Cmd(node) | Instruction::Entrypoint(node) => command(&mut text, node),
            Instruction::Env(node) | Instruction::Label(node) => {
                text.push_str(if node.legacy { " legacy" } else { "" });
                for (key, value) in &node.pairs {
                    let _ = write!(text, " {:?}={:?}", key.text, value.text);
                }
            }
            Instruction::Expose(node) => words(&mut text, node),
            Instruction::Shell(node) => words(&mut text, node),
            Instruction::Volume(node) => {
                text.push_str(if node.json { " json" } else { "" });
                words(&mut text, &node.paths);
            }
            Instruction::Healthcheck(node) => healthcheck(&mut text, node),
            Instruction::Maintainer(word)
            | Instruction::StopSignal(word)
            | Instruction::User(word)
            | Instruction::Workdir(word) => {
                let _ = write!(text, " {:?}", word.text);
            }
            Instruction::Onbuild(node) => {
                let _ = write!(text, " {:?}", node.trigger.text);
                self.line(depth, format_args!("{text}"));
                self.instruction(depth + 1, &node.inner);
                return;
            }
        }
        self.line(depth, format_args!("{text}"));
        for heredoc in bodies {
            let mut text = format!("<< {:?}", heredoc.name);
            if let Some(fd) = heredoc.fd {
                let _ = write!(text, " fd={fd}");
            }
            text.push_str(if heredoc.chomp { " chomp" } else { "" });
            text.push_str(if heredoc.expand { "" } else { " quoted" });
            self.line(depth + 1, format_args!("{text} {:?}", heredoc.raw.text));
        }
    }
}

fn words(out: &mut String, words: &[Word]) {
    for word in words {
        let _ = write!(out, " {:?}", word.text);
    }
}

fn flag(out: &mut String, name: &str, value: Option<&Word>) {
    if let Some(value) = value {
        let _ = write!(out, " --{name}={:?}", value.text);
    }
}

fn bool_flag(out: &mut String, name: &str, value: Option<Spanned<bool>>) {
    if let Some(value) = value {
        let _ = write!(out, " --{name}={}", value.node);
    }
}

fn arg(node: &Arg) -> String {
    let mut items = Vec::new();
    for item in &node.items {
        let mut text = format!("{:?}", item.name.text);
        if let Some(default) = &item.default {
            let _ = write!(text, "={:?}", default.text);
        }
        if let Some(description) = &item.description {
            let _ = write!(text, " description={description:?}");
        }
        items.push(text);
    }
    items.join(" ")
}

fn command(out: &mut String, node: &Command) {
    match node {
        Command::Shell(line) => {
            let _ = write!(out, " shell {:?}", line.text);
        }
        Command::Exec(list) => {
            out.push_str(" exec");
            words(out, list);
        }
    }
}

fn run(out: &mut String, node: &Run) {
    for mount in &node.mounts {
        out.push_str(" --mount");
        let mut separator = '=';
        for option in &mount.options {
            out.push(separator);
            out.push_str(option.key.as_str());
            if let Some(value) = &option.value {
                let _ = write!(out, "={:?}", value.text);
            }
            separator = ',';
        }
    }
    if let Some(network) = node.network {
        let _ = write!(out, " --network={}", format!("{:?}", network.node).to_lowercase());
    }
    if let Some(security) = node.security {
        let _ = write!(out, " --security={}", format!("{:?}", security.node).to_lowercase());
    }
    for device in &node.devices {
        let _ = write!(out, " --device={:?}", device.name.text);
        out.push_str(if device.required { ",required" } else { "" });
    }
    command(out, &node.command);
}

fn copy(out: &mut String, node: &Copy) {
    flag(out, "from", node.from.as_ref());
    flag(out, "chown", node.chown.as_ref());
    flag(out, "chmod", node.chmod.as_ref());
    bool_flag(out, "link", node.link);
    bool_flag(out, "parents", node.parents);
    for pattern in &node.exclude {
        flag(out, "exclude", Some(pattern));
    }
    flag(out, "checksum", node.checksum.as_ref());
    bool_flag(out, "keep-git-dir", node.keep_git_dir);
    bool_flag(out, "unpack", node.unpack);
    out.push_str(if node.json { " json" } else { "" });
    for source in &node.sources {
        let _ = match source {
            CopySource::Path(word) => write!(out, " {:?}", word.text),
            CopySource::Heredoc(doc) => write!(out, " <<{:?}", doc.name),
        };
    }
    let _ = write!(out, " -> {:?}", node.dest.text);
}

fn healthcheck(out: &mut String, node: &Healthcheck) {
    let test = match node {
        Healthcheck::None => {
            out.push_str(" none");
            return;
        }
        Healthcheck::Test(test) => test,
    };
    for (name, value) in test.options() {
        let _ = write!(out, " --{name}={value}");
    }
    command(out, &test.command);
}
